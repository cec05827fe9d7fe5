"""Vectors of the openclip family are open_clip's own, for every architecture; text is trimmed only where it may be."""

import io
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import open_clip
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.modules.batchnorm import _BatchNorm

import multimodal as mm
from multimodal.encoders.openclip import networks as nets
from tests.encoders.openclip.openclip_checkpoints import (
    PIXELS,
    RECIPES,
    TEXTS,
    WORDS,
    Expected,
    architecture,
    published,
)
from tests.encoders.promise import assert_kept, fast_bfloat16

__all__ = ["architecture", "fast_bfloat16", "published"]  # fixtures

Published = Callable[[str], Expected]
IMAGES = [mm.Image(image) for image in PIXELS]
BATCH_NORMED = {"RN50", "MobileCLIP-S1", "MobileCLIP2-S3"}  # image towers, throughout
TRIMMED = {  # causal and pooled at the end of the text, or masked
    *(
        "ViT-B-32",
        "ViT-H-14-worldwide",
        "MobileCLIP-B",
        "PE-Core-B-16",
        "roberta-ViT-B-32",
        "mt5-base-ViT-B-32",
    ),
    *("xlm-roberta-base-ViT-B-32", "coca_roberta-ViT-B-32", "nllb-clip-base"),
}
WHOLE = {"ViT-B-16-SigLIP", "ViT-H-14-CLIPA", "MobileCLIP-S1", "coca_ViT-B-32"}


def load(expected: Expected, **options) -> mm.Space:
    return mm.load(expected.name, device="cpu", **options)


@pytest.mark.parametrize("model", RECIPES)
def test_vectors_are_open_clips_own(published: Published, model):
    expected = published(model)
    space = expected.space
    for ours, theirs in ((space.encode(TEXTS), expected.texts), (space.encode(IMAGES), expected.images)):
        assert np.abs(ours - theirs).max() <= 1e-5
        assert (theirs @ theirs.T)[
            ~np.eye(len(theirs), dtype=bool)
        ].max() < 0.999  # or nothing would be shown


@pytest.mark.parametrize("model", RECIPES)
def test_auto_keeps_its_promise(published: Published, model, fast_bfloat16):
    expected = published(model)
    auto = load(expected, precision="auto")
    assert_kept(expected.space, auto, {"text": TEXTS, "image": IMAGES})
    assert auto.encoders["image"].precision_decision.bfloat16 == (model not in BATCH_NORMED)


@pytest.mark.parametrize("model", RECIPES)
def test_bfloat16_casts_the_whole_model_but_for_the_statistics_of_batches(published: Published, model):
    expected = published(model)
    space = load(expected, precision="bfloat16")
    assert space.fingerprint == expected.space.fingerprint
    for encoder in space.encoders.values():
        norms = {name for name, item in encoder.net.named_modules() if isinstance(item, _BatchNorm)}
        for name, value in encoder.state_dict().items():
            kept = name.rpartition(".")[0] in norms or not value.is_floating_point()
            assert kept or value.dtype == torch.bfloat16
    assert (expected.texts * space.encode(TEXTS)).sum(1).min() >= 0.999
    assert (expected.images * space.encode(IMAGES)).sum(1).min() >= 0.99


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        *(("ViT-B-32", "float32"), ("coca_ViT-B-32", "bfloat16"), ("PE-Core-B-16", "float32")),
        *(("ViT-B-16-SigLIP", "float32"), ("roberta-ViT-B-32", "bfloat16"), ("nllb-clip-base", "float32")),
    ],
)
def test_a_saved_space_needs_the_checkpoint_no_more(published: Published, model, precision, tmp_path):
    expected = published(model)
    moved = shutil.copytree(expected.folder, tmp_path / "checkpoint")
    space = mm.load(f"openclip/local-dir:{moved}", device="cpu", precision=precision, space_id="somewhere")
    vectors = space.encode([*TEXTS, *IMAGES])
    space.save_pretrained(tmp_path / "saved")
    shutil.rmtree(moved)
    again = mm.load(tmp_path / "saved", device="cpu", precision=precision)
    assert np.array_equal(again.encode([*TEXTS, *IMAGES]), vectors)
    assert again.fingerprint == space.fingerprint
    assert again.logit_scales == space.logit_scales
    assert {encoder.space_id for encoder in again.encoders.values()} == {"somewhere"}


@pytest.mark.parametrize("model", ["ViT-B-32", "coca_ViT-B-32", "xlm-roberta-base-ViT-B-32"])
def test_each_encoder_holds_the_weights_of_its_own_tower(published: Published, model):
    expected = published(model)
    whole = open_clip.create_model(f"local-dir:{expected.folder}").state_dict()
    space = expected.space
    image, text = space.encoders["image"].state_dict(), space.encoders["text"].state_dict()
    assert {f"visual.{name}" for name in image} == {name for name in whole if name.startswith("visual.")}
    others = {name for name in whole if not name.startswith(("visual.", "logit_scale", "text_decoder."))}
    assert set(text) == {name.removeprefix("text.") for name in others}


@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-B-16-SigLIP", "nllb-clip-base-siglip"])
def test_probabilities_are_those_of_the_trained_scale_and_bias(published: Published, model):
    expected = published(model)
    upstream = open_clip.create_model(f"local-dir:{expected.folder}")
    with torch.no_grad():
        logits = upstream.logit_scale.exp() * torch.tensor(expected.images @ expected.texts.T)
    if upstream.logit_bias is None:
        by_hand = logits.softmax(dim=-1).numpy()
    else:
        by_hand = (logits + upstream.logit_bias).sigmoid().detach().numpy()
    space = expected.space
    assert space.logit_scale_for("image", "text").activation == (
        "softmax" if upstream.logit_bias is None else "sigmoid"
    )
    assert np.abs(space.probabilities(IMAGES, TEXTS) - by_hand).max() <= 1e-5


def test_zero_shot_classification_is_open_clips(published: Published):
    expected = published("ViT-B-32")
    labels, templates = ["apple", "dog", "cat", "horse"], ["a photo of a {}.", "the {} on the grass", "{}"]
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{expected.folder}")
    model.eval().logit_scale.data.fill_(np.log(100))
    tokenizer = open_clip.get_tokenizer(f"local-dir:{expected.folder}")
    classifier = open_clip.build_zero_shot_classifier(model, tokenizer, labels, templates)
    with torch.no_grad():
        images = torch.stack([preprocess(PIL.Image.fromarray(image)) for image in PIXELS])
        by_hand = (100 * model.encode_image(images, normalize=True) @ classifier).softmax(dim=-1).numpy()
    space = expected.space
    classify = mm.ZeroShotClassificationPipeline(mm.Space(space.encoders, mm.LogitScale(scale=100.0)))
    for results, row in zip(classify(IMAGES, labels=labels, templates=templates), by_hand, strict=True):
        ours = {hit.label: hit.score for hit in results}
        assert np.abs([ours[label] for label in labels] - row).max() <= 1e-5


@pytest.mark.parametrize("model", sorted(TRIMMED))
def test_trimming_leaves_the_vectors_as_they_are(published: Published, model):
    text = published(model).space.encoders["text"]
    batch = text.prepare([mm.Text(caption) for caption in TEXTS])
    context = batch["tokens"].shape[1]
    assert (batch["lengths"][:3] < 20).all() and batch["lengths"][-1] == context
    with torch.inference_mode():
        trimmed = text.forward(batch)
        whole = nets.encode_text(text.net, {"tokens": batch["tokens"]}).float()
        grouped = nets.run_by_length(
            lambda tokens: nets.encode_text(text.net, {"tokens": tokens}), batch["tokens"], batch["lengths"]
        )
        upstream = text.net(batch["tokens"])
    assert np.abs(unit(trimmed) - unit(whole)).max() <= 1e-6
    assert np.abs(unit(trimmed) - unit(upstream)).max() <= 1e-6
    assert np.abs(unit(grouped) - unit(upstream)).max() <= 1e-6
    assert nets.can_run_rows(text.net) is False  # outside inference mode, where gradients are needed


@pytest.mark.parametrize("model", sorted(WHOLE))
def test_towers_that_look_at_padding_are_not_trimmed_for_it_would_be_wrong(published: Published, model):
    text = published(model).space.encoders["text"]
    batch = text.prepare([mm.Text("a photo of a red apple")])
    assert batch["lengths"].tolist() == [batch["tokens"].shape[1]]
    with torch.inference_mode():
        whole, trimmed = text.forward(batch), text.net(batch["tokens"][:, :12])
    assert np.abs(unit(whole) - unit(trimmed)).max() > 1e-2


def unit(rows: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(rows, dim=-1).numpy()


def test_padding_is_never_computed(published: Published):
    text = published("ViT-B-32").space.encoders["text"]
    rows: dict[str, list[int]] = {"first": [], "last": []}
    blocks = text.net.transformer.resblocks
    hooks = [
        block.mlp.register_forward_pre_hook(
            lambda module, inputs, name=name: rows[name].append(len(inputs[0]))
        )
        for name, block in (("first", blocks[0]), ("last", blocks[-1]))
    ]
    text.encode([mm.Text(caption) for caption in ["the dog"] * 15 + ["red " * 100]])
    for hook in hooks:
        hook.remove()
    assert rows["first"] == [15 * 4 + 77]  # 16 * 77 with padding
    assert rows["last"] == [16]  # the pooled positions


def test_many_rows_are_split_into_passes_of_bounded_size(
    published: Published, monkeypatch: pytest.MonkeyPatch
):
    text = published("ViT-B-32").space.encoders["text"]
    texts = [mm.Text("red " * (n % 7 + 1)) for n in range(40)]
    together = text.encode(texts, batch_size=40)
    monkeypatch.setattr(nets, "MAX_ROWS", 30)
    rows = []
    hook = text.net.transformer.resblocks[0].mlp.register_forward_pre_hook(
        lambda module, inputs: rows.append(len(inputs[0]))
    )
    split = text.encode(texts, batch_size=40)
    hook.remove()
    assert len(rows) > 5 and max(rows) <= 30
    assert np.abs(together - split).max() <= 1e-6


@pytest.mark.parametrize("model", ["ViT-B-32", "xlm-roberta-base-ViT-B-32", "coca_ViT-B-32"])
def test_order_and_company_change_nothing(published: Published, model):
    space = published(model).space
    sentences = st.lists(st.sampled_from([*WORDS, ",", "."]), min_size=1, max_size=40).map(" ".join)

    @settings(max_examples=8)
    @given(st.lists(sentences, min_size=2, max_size=6))
    def check(texts):
        together = space.encode(texts)
        assert np.abs(together - np.stack([space.encode(text) for text in texts])).max() <= 1e-6

    check()


def test_a_text_longer_than_the_context_is_cut_there_and_keeps_its_end_token(published: Published):
    space = published("ViT-B-32").space
    long, cut = space.encode(["red " * 500, "red " * 75])
    assert np.array_equal(long, cut)
    assert space.encoders["text"].prepare([mm.Text("red " * 500)])["tokens"][0, -1] == 49407


def test_threads_may_prepare_at_once(published: Published):
    space = published("xlm-roberta-base-ViT-B-32").space
    batches = [[f"a photo of a {word}", word] for word in WORDS] * 4
    alone = [space.encode(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(space.encode, batches))
        images = list(pool.map(space.encode, IMAGES * 4))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert np.abs(np.stack(images[: len(IMAGES)]) - space.encode(IMAGES)).max() <= 1e-6


@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-B-16-SigLIP"])
def test_encoders_travel_to_other_processes(published: Published, model):
    space = published(model).space
    for modality, items in (("text", [mm.Text("a dog")]), ("image", IMAGES[:1])):
        encoder = space.encoders[modality]
        assert np.array_equal(pickle.loads(pickle.dumps(encoder)).encode(items), encoder.encode(items))


@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-B-16-SigLIP", "PE-Core-B-16"])
def test_fast_decoding_gives_nearly_the_same(published: Published, model):
    expected = published(model)
    y, x = np.mgrid[0:900, 0:1200]
    waves = np.stack([np.sin(x / k) * np.cos(y / (k + 9)) * 100 + 128 for k in (60, 90, 130)], axis=-1)
    file = io.BytesIO()
    PIL.Image.fromarray(waves.astype(np.uint8)).save(file, "JPEG", quality=92)
    exact, fast = (
        load(expected, decode=decode).encode(mm.Image(file.getvalue())) for decode in ("exact", "fast")
    )
    assert 0.999 <= exact @ fast < 1 - 1e-9


def test_the_towers_of_one_model_are_built_without_the_other(published: Published):
    space = published("ViT-B-32").space
    assert not any(
        isinstance(module, nets.TextTransformer) for module in space.encoders["image"].net.modules()
    )
    assert space.encoders["text"].max_input == 300
