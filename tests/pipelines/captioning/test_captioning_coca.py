"""CoCa: the words that its own logits make likeliest, whose `generate` open_clip can no longer run."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL.Image
import pytest
import torch

import multimodal as mm
from multimodal.core.errors import CheckpointError, InvalidInput, UnsupportedModality
from multimodal.pipelines.captioning.options import CaptioningOptions
from tests.encoders.openclip.openclip_checkpoints import PIXELS, RECIPES, write

START, END = 49_406, 49_407


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = dataclasses.replace(
        RECIPES["coca_ViT-B-32"], embed_dim=48
    )  # as wide as its decoder, as the real one
    return write(recipe, tmp_path_factory.mktemp("coca") / "coca")


@pytest.fixture(scope="module")
def ask(folder: Path) -> mm.CaptioningPipeline:
    return mm.CaptioningPipeline.from_pretrained(f"openclip/local-dir:{folder}", device="cpu")


@pytest.fixture(scope="module")
def upstream(folder: Path) -> Callable[[Any, list[int]], torch.Tensor]:
    """(picture, tokens) -> the log-probabilities of the next token, by open_clip's own forward."""
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()

    def next_log_probs(image: Any, tokens: list[int]) -> torch.Tensor:
        pixels = preprocess(PIL.Image.fromarray(image))[None]
        with torch.no_grad():
            logits = model(pixels, torch.tensor([tokens]), output_labels=False)["logits"][0, -1]
        return torch.log_softmax(logits, dim=-1)

    return next_log_probs


def test_one_beam_takes_the_likeliest_token_of_open_clip_each_time(
    ask: mm.CaptioningPipeline, upstream: Callable[[Any, list[int]], torch.Tensor]
) -> None:
    written = ask.backend.generate(
        [mm.Image(image) for image in PIXELS[:2]], CaptioningOptions(beams=1, max_tokens=6)
    )
    for image, item in zip(PIXELS, written, strict=False):
        tokens, total = [START], 0.0
        while len(tokens) <= 6 and tokens[-1] != END:
            logs = upstream(image, tokens)
            tokens.append(int(logs.argmax()))
            total += float(logs.max())
        assert list(item.tokens) == [token for token in tokens[1:] if token != END]
        assert item.mean_log_prob == pytest.approx(total / (len(tokens) - 1), abs=1e-4)
        assert item.text == open_clip.tokenizer._tokenizer.decode(list(item.tokens)).strip()
    assert written[0].tokens != written[1].tokens, "nothing depends on the picture: the test could not fail"


def test_the_prompt_is_the_beginning(
    ask: mm.CaptioningPipeline, upstream: Callable[[Any, list[int]], torch.Tensor]
) -> None:
    begun = [START, *open_clip.tokenizer._tokenizer.encode("a photo of")]
    (written,) = ask.backend.generate(
        [mm.Image(PIXELS[0])], CaptioningOptions(prompt="a photo of", beams=1, max_tokens=1)
    )
    assert list(written.tokens) == [int(upstream(PIXELS[0], begun).argmax())]


def test_more_beams_find_nothing_worse(ask: mm.CaptioningPipeline) -> None:
    item = mm.Image(PIXELS[0])
    scores = [ask(item, beams=beams, max_tokens=4).score for beams in (2, 6)]
    assert scores[1] >= scores[0] - 1e-6
    assert all(0 < score <= 1 for score in scores)


def test_a_seed_draws_the_same_again(ask: mm.CaptioningPipeline) -> None:
    item = mm.Image(PIXELS[0])
    drawn = [ask(item, sample=True, seed=seed, max_tokens=5).text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_half_precision_stays_near(folder: Path, ask: mm.CaptioningPipeline) -> None:
    half = mm.CaptioningPipeline.from_pretrained(
        f"openclip/local-dir:{folder}", device="cpu", precision="bfloat16"
    )
    item = mm.Image(PIXELS[0])
    near, exact = (math.log(element(item, beams=1, max_tokens=1).score) for element in (half, ask))
    assert near == pytest.approx(exact, abs=0.2)


def test_a_prompt_that_fills_the_context_is_refused(ask: mm.CaptioningPipeline, folder: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        ask(mm.Image(PIXELS[0]), prompt="cat " * 80)
    context = ask.backend.context  # type: ignore[attr-defined]
    assert str(caught.value) == (
        f"the prompt and the input have 81 tokens, and 'openclip/local-dir:{folder}' takes {context}: shorten "
        "the prompt"
    )


def test_audio_and_texts_are_refused(ask: mm.CaptioningPipeline, folder: Path) -> None:
    for value, kind in (
        ("a cat", "text"),
        (mm.Audio({"array": np.zeros(99, np.float32), "sampling_rate": 9}), "audio"),
    ):
        with pytest.raises(UnsupportedModality) as caught:
            ask(value)
        cure = "; a str is text: give a Path, or Image(…), for a file" if kind == "text" else ""
        assert (
            str(caught.value) == f"{kind} given to 'openclip/local-dir:{folder}', which captions image{cure}"
        )


def test_a_clip_is_reported_to_have_no_transcription(tmp_path: Path) -> None:
    path = write(RECIPES["ViT-B-32"], tmp_path / "clip")
    with pytest.raises(CheckpointError) as caught:
        mm.CaptioningPipeline.from_pretrained(f"openclip/local-dir:{path}")
    assert str(caught.value) == (
        f"'openclip/local-dir:{path}' encodes text and images and writes no captions; of open_clip's "
        "models CoCa does: 'openclip/coca_ViT-L-14:mscoco_finetuned_laion2b_s13b_b90k'"
    )


def test_a_coca_whose_text_tower_looks_ahead_is_refused(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    weights = folder / "open_clip_model.safetensors"
    (tmp_path / weights.name).symlink_to(weights)
    with pytest.raises(CheckpointError, match=r"reads texts with 'roberta-base', which is not causal"):
        mm.CaptioningPipeline.from_pretrained(f"openclip/local-dir:{tmp_path}")


def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "open_clip_model.safetensors")
    del tensors["text_decoder.ln_final.weight"]
    save_file(tensors, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    with pytest.raises(
        CheckpointError, match=r"do not fit its architecture: text_decoder\.ln_final\.weight: missing"
    ):
        mm.CaptioningPipeline.from_pretrained(f"openclip/local-dir:{tmp_path}")
