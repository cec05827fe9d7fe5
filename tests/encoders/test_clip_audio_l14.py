"""Texts, pictures and sounds in one space: LanguageBind's audio encoder joined to open_clip's CLIP."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import multimodal as mm
from multimodal.core import catalog
from multimodal.core.errors import (
    InvalidInput,
    MediaCorrupt,
    SpaceMismatch,
    UnknownModel,
    UnsupportedModality,
)
from multimodal.encoders import clip_audio_l14 as preset

GOLDEN = Path(__file__).parent / "languagebind" / "golden"
DIM = 24
RNG = np.random.default_rng(31)


def eyes(folder: Path, dim: int = DIM) -> Path:
    """A folder as open_clip has it: ViT-L-14's configuration, narrower and with fewer layers, random weights."""
    import open_clip
    from safetensors.torch import save_file

    config = open_clip.get_model_config("ViT-L-14")
    config["embed_dim"] = dim
    config["vision_cfg"] |= {"width": 64, "head_width": 32, "layers": 2, "image_size": 56}
    config["text_cfg"] |= {"width": 32, "heads": 2, "layers": 2}
    torch.manual_seed(8)
    model = open_clip.CLIP(**config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    folder.mkdir()
    norm = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    seen = norm | {"interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": seen}))
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """name of a real model -> the address of a tiny one of the same architecture."""
    folder = tmp_path_factory.mktemp("clip")
    return {
        preset.CLIP_MODEL: f"openclip/{eyes(folder / 'eyes')}",
        preset.AUDIO_MODEL: f"languagebind/{GOLDEN / 'tiny-112mel'}",
    }


@pytest.fixture
def tiny(stand_ins, monkeypatch) -> list[tuple[str, dict[str, Any]]]:
    """Loads stand-ins for both models of the preset; gives what was asked for."""
    requests = []
    original = mm.load  # which is looked up once and for all: not while another stands in its place

    def load(name: Any, **options: Any) -> mm.Space:
        if name not in stand_ins:
            return original(name, **options)
        requests.append((name, options))
        return original(stand_ins[name], space_id=preset.CLIP_MODEL, **options)

    monkeypatch.setattr(catalog, "load", load)
    return requests


def image() -> mm.Image:
    return mm.Image(RNG.integers(0, 256, (60, 70, 3), dtype=np.uint8))


def test_one_word_gives_texts_images_and_audio(tiny):
    space = catalog.load("clip-audio-l14", device="cpu")
    assert [str(modality) for modality in space.modalities] == ["text", "image", "audio"]
    assert (
        space.name == "clip-audio-l14" and space.address == "clip-audio-l14" and space.card == preset.CARDS[0]
    )
    items = ["a bell", image(), mm.Audio(GOLDEN / "short.flac")]
    vectors = space.encode(items)
    assert vectors.shape == (3, DIM)
    apart = [
        catalog.load(name, device="cpu")
        for name in (preset.CLIP_MODEL, preset.CLIP_MODEL, preset.AUDIO_MODEL)
    ]
    for item, row, element in zip(items, vectors, apart, strict=True):
        assert np.array_equal(row, element.encode(item))


def test_options_go_to_both_models(tiny):
    space = catalog.load("clip-audio-l14", device="cpu", precision="bfloat16", decode="fast", offline=True)
    how = {"device": "cpu", "precision": "bfloat16", "decode": "fast", "offline": True}
    assert tiny == [(preset.CLIP_MODEL, how), (preset.AUDIO_MODEL, how)]
    kept = [value.dtype for encoder in space.encoders.values() for value in encoder.state_dict().values()]
    assert {item for item in kept if item.is_floating_point} >= {torch.bfloat16}


def test_each_pair_has_the_scale_it_was_trained_with(tiny):
    space = catalog.load("clip-audio-l14", device="cpu")
    seen, heard = (catalog.load(name, device="cpu") for name in (preset.CLIP_MODEL, preset.AUDIO_MODEL))
    assert space.logit_scale_for("audio", "text") == heard.logit_scale_for("audio", "text")
    assert space.logit_scale_for("image", "text") == seen.logit_scale_for("image", "text")
    labels = ["a bell", "a dog", "rain"]
    chances = space.probabilities(mm.Audio(GOLDEN / "short.flac"), labels)[0]
    logits = (
        heard.logit_scale_for("audio", "text").scale
        * space.similarity(mm.Audio(GOLDEN / "short.flac"), labels)[0]
    )
    assert np.abs(chances - np.exp(logits) / np.exp(logits).sum()).max() <= 1e-5


def test_an_index_of_all_three_is_searched_by_all_three(tiny, tmp_path):
    space = catalog.load("clip-audio-l14", device="cpu")
    index = mm.Index.create(tmp_path / "all.lance", space)
    items = {"note": mm.Text("a bell"), "photo": image(), "clip": mm.Audio(GOLDEN / "short.flac")}
    report = index.add(list(items.values()), ids=list(items))
    assert report.added == 3 and not report.failed
    vectors = dict(zip(items, space.encode(list(items.values())), strict=True))
    for name, query in items.items():
        hits = index.search(query, k=3)
        assert hits[0].id.split("#")[0] == name and hits[0].score == pytest.approx(1, abs=1e-5)
        expected = sorted(items, key=lambda item: -float(vectors[item] @ vectors[name]))
        assert [hit.id.split("#")[0] for hit in hits] == expected
    assert {str(hit.modality) for hit in index.search("a bell", k=3)} == {"text", "image", "audio"}


def test_the_three_modal_space_is_saved_and_loaded_and_joined_again(tiny, tmp_path):
    space = catalog.load("clip-audio-l14", device="cpu")
    space.save_pretrained(tmp_path / "space")
    again = mm.load(tmp_path / "space", device="cpu")
    assert again.fingerprint == space.fingerprint and again.logit_scales == space.logit_scales
    items = ["rain", mm.Audio(GOLDEN / "long.flac")]
    assert np.array_equal(again.encode(items), space.encode(items))
    rejoined = again.select("text", "image") | catalog.load(preset.AUDIO_MODEL, device="cpu")
    assert rejoined.fingerprint == space.fingerprint


def test_there_is_only_one():
    with pytest.raises(
        UnknownModel,
        match=r"^got 'clip-audio-l14/large', but there is only one clip-audio-l14: use load\('clip-audio-l14'\)$",
    ):
        mm.load("clip-audio-l14/large")


def test_vectors_of_other_sizes_are_refused(tiny, tmp_path):
    other = mm.load(f"openclip/{eyes(tmp_path / 'other', dim=32)}", device="cpu", space_id=preset.CLIP_MODEL)
    with pytest.raises(
        SpaceMismatch,
        match=r"^these encoders do not share one space, their vectors differ in size: text 32, image 32, audio 24$",
    ):
        other | catalog.load(preset.AUDIO_MODEL, device="cpu")


def test_a_folder_that_names_no_home_is_not_joined(stand_ins):
    ears = mm.load(stand_ins[preset.AUDIO_MODEL], device="cpu")
    seen = mm.load(stand_ins[preset.CLIP_MODEL], device="cpu", space_id=preset.CLIP_MODEL)
    with pytest.raises(
        SpaceMismatch,
        match=rf"was trained into '{preset.CLIP_MODEL}'; '{stand_ins[preset.AUDIO_MODEL]}' was trained into a space of "
        "its own; ",
    ):
        seen | ears


def test_video_is_refused_with_the_modalities_there_are(tiny):
    space = catalog.load("clip-audio-l14", device="cpu")
    with pytest.raises(
        UnsupportedModality, match=r"^video given to a space with text, image, audio: 'clip-audio-l14' "
    ):
        space.encode(mm.Video(np.zeros((2, 8, 8, 3), np.uint8), fps=1))


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (mm.Audio({"array": np.zeros(0), "sampling_rate": 8_000}), InvalidInput),
        (mm.Audio({"array": np.full(9, np.inf), "sampling_rate": 8_000}), InvalidInput),
        (mm.Audio(b"RIFF\x24\x00\x00\x00WAVEfmt "), MediaCorrupt),
        (mm.Text("  "), InvalidInput),
    ],
    ids=["empty", "infinite", "broken", "blank"],
)
def test_what_cannot_be_encoded_is_refused(item, error, tiny):
    with pytest.raises(error):
        catalog.load("clip-audio-l14", device="cpu").encode(item)


def test_the_card_is_the_sum_of_the_models_cards():
    from multimodal.encoders.languagebind import CARDS as ears

    (card,) = preset.CARDS
    heard = next(ear for ear in ears if ear.name == preset.AUDIO_MODEL)
    assert card.dim == heard.dim and heard.source in card.source and heard.figure in card.figure
    seen = next((card for card in mm.cards() if card.name == preset.CLIP_MODEL), None)
    if seen is not None:
        assert card.size_mb == pytest.approx(seen.size_mb + heard.size_mb, rel=0.02)
        assert seen.licence == card.licence == heard.licence


def test_the_real_models_name_each_other():
    from multimodal.encoders.languagebind import HOME
    from multimodal.encoders.openclip import names as names

    assert (
        HOME == preset.CLIP_MODEL == names.canonical(names.parse(preset.CLIP_MODEL.removeprefix("openclip/")))
    )


def test_ears_trained_for_another_are_refused(stand_ins, tmp_path):
    shutil.copytree(GOLDEN / "tiny-112mel", tmp_path / "ears")
    ears = mm.load(f"languagebind/{tmp_path / 'ears'}", device="cpu", space_id="openclip/another")
    seen = mm.load(stand_ins[preset.CLIP_MODEL], device="cpu", space_id=preset.CLIP_MODEL)
    with pytest.raises(
        SpaceMismatch, match=r"was trained into 'openclip/another'; join spaces that name the same one$"
    ):
        seen | ears
