"""`space.self_test()`: sound encoders pass; each defect fails the check that is about it, and no other."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import multimodal
from multimodal.core import self_test
from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.self_test import Check, SelfTestReport, synthetic
from multimodal.core.space import LogitScale, Space

Forward = Callable[[Encoder, dict[str, torch.Tensor]], torch.Tensor]
MEDIA_CLAIMS = ["vectors", "repeat", "batch", "distinct"]


@pytest.fixture
def text(toy: ModuleType) -> Encoder:
    encoder: Encoder = toy.ToyText()
    return encoder


def broken(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder, change: Callable[[torch.Tensor, Any], torch.Tensor]
) -> Space:
    """The encoder with something done to what its forward gives."""
    original = type(encoder).forward
    monkeypatch.setattr(type(encoder), "forward", lambda self, batch: change(original(self, batch), batch))
    return Space([encoder], LogitScale(10.0))


def failures(space: Space) -> dict[str, Check]:
    return {check.name: check for check in space.self_test().failed}


# --- what is whole --------------------------------------------------------------------------------


def test_a_whole_space_passes_every_claim(space: Space) -> None:
    result = space.self_test()
    assert result.ok and result.failed == () and result.space == "toy"
    names = [f"{modality} {check}" for modality in ("text", "image", "audio") for check in MEDIA_CLAIMS]
    assert [check.name for check in result.checks] == [*names, "all scale"]
    assert set(result.seconds) == {"text", "image", "audio"} and all(t > 0 for t in result.seconds.values())
    for check in result.checks:
        assert check.cure == "" and check.measured is not None
        assert check.limit[0] - 1e-6 <= check.measured <= check.limit[1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_starter_passes(precision: str) -> None:
    result = multimodal.load("starter", device="cpu", precision=precision).self_test()
    assert result.failed == ()
    measured = {check.name: check for check in result.checks}
    assert measured["text repeat"].measured == 0.0 and measured["text repeat"].limit == (0.0, 0.0)
    assert measured["audio batch"].limit[1] == (1e-5 if precision == "float32" else 1e-2)
    for modality in ("text", "image", "audio"):
        distinct = measured[f"{modality} distinct"].measured
        assert distinct is not None and distinct < 0.5


def test_what_is_measured_is_what_it_says(text: Encoder) -> None:
    items = synthetic.items(Modality.TEXT)
    together = text.encode(items)
    alone = np.concatenate([text.encode([item]) for item in items])
    cosines = [float(together[i] @ together[j]) for i in range(8) for j in range(i)]
    results = {check.name: check.measured for check in Space([text]).self_test().checks}
    assert results["text batch"] == pytest.approx(float(np.abs(together - alone).max()), abs=1e-8)
    assert results["text distinct"] == pytest.approx(float(np.median(cosines)), abs=1e-6)


# --- what is broken -------------------------------------------------------------------------------


def test_a_random_encoder_fails_to_repeat_itself(monkeypatch: pytest.MonkeyPatch, text: Encoder) -> None:
    """Dropout left on."""
    result = failures(broken(monkeypatch, text, lambda out, _: torch.nn.functional.dropout(out, 0.1)))
    (check,) = result.values()
    assert check.name == "text repeat" and check.limit == (0.0, 0.0)
    assert check.measured is not None and check.measured > 1e-3
    assert check.cure == (
        "something in prepare or forward is random or keeps state: set the net to eval(), and avoid random crops"
    )


def test_an_encoder_that_remembers_fails_to_repeat_itself(
    monkeypatch: pytest.MonkeyPatch, text: Encoder
) -> None:
    calls: list[int] = []

    def drift(out: torch.Tensor, _: Any) -> torch.Tensor:
        calls.append(1)
        return out + 0.01 * len(calls)

    assert set(failures(broken(monkeypatch, text, drift))) == {"text repeat"}


def test_of_vectors_that_are_random_nothing_is_said_about_batches(
    monkeypatch: pytest.MonkeyPatch, text: Encoder
) -> None:
    space = broken(monkeypatch, text, lambda out, _: out + torch.rand_like(out))
    assert "text batch" not in {check.name for check in space.self_test().checks}


def test_padding_that_is_not_masked_fails_in_batches(monkeypatch: pytest.MonkeyPatch, text: Encoder) -> None:
    monkeypatch.setattr(type(text), "forward", lambda self, batch: self.weight[batch["ids"]].mean(1))
    (check,) = failures(Space([text], LogitScale(10.0))).values()
    assert check.name == "text batch" and check.limit == (0.0, 1e-5)
    assert check.cure == (
        "the rest of a batch changes a vector: mask the padding, or keep the length of each item"
    )


def test_vectors_that_lean_on_their_batch_a_little_fail_only_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch, text: Encoder
) -> None:
    for size, expected in ((1e-3, {"text batch"}), (1e-7, set())):
        with monkeypatch.context() as patch:
            space = broken(patch, text, lambda out, _, size=size: out + size * len(out))  # type: ignore[misc]
            assert set(failures(space)) == expected


def test_in_bfloat16_batches_may_differ_more(monkeypatch: pytest.MonkeyPatch, text: Encoder) -> None:
    space = broken(monkeypatch, text, lambda out, _: out + 1e-3 * len(out))
    assert set(failures(space)) == {"text batch"}
    text.runtime = Runtime(precision="bfloat16")
    assert failures(space) == {}


@pytest.mark.parametrize("modality", ["text", "image", "audio"])
def test_a_collapsed_tower_is_caught_in_any_modality(
    monkeypatch: pytest.MonkeyPatch, toy: ModuleType, modality: str
) -> None:
    encoder = toy.KINDS[Modality(modality)]()
    constant = torch.randn(16, generator=torch.Generator().manual_seed(3)) * 100
    space = broken(monkeypatch, encoder, lambda out, _: constant + torch.nn.functional.normalize(out))
    (check,) = failures(space).values()
    assert check.name == f"{modality} distinct" and check.limit == (-1.0, 0.99)
    assert check.measured is not None and check.measured > 0.99
    assert check.cure == (
        "its weights did not load, or its tokenizer or preprocessing is another model's: load it again with the "
        "files it came with"
    )


def test_a_tokenizer_that_knows_no_word_is_caught(monkeypatch: pytest.MonkeyPatch, text: Encoder) -> None:
    """Every word is the unknown one."""
    original = type(text).prepare

    def prepare(self: Encoder, items: list[Item]) -> dict[str, torch.Tensor]:
        batch = original(self, items)
        return batch | {"ids": torch.zeros_like(batch["ids"])}

    monkeypatch.setattr(type(text), "prepare", prepare)
    assert set(failures(Space([text], LogitScale(10.0)))) == {"text distinct"}


@pytest.mark.parametrize(("change", "cure"), [
    (lambda out, _: out * float("nan"), r"ToyText (text) gave no finite direction for item 0 ("),
    (lambda out, _: out[:, :5], "ToyText (text) gave shape (8, 5) for 8 items of dim 16; forward must return (n, dim)"),
    (lambda out, _: out @ torch.ones(3, 3), "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
])  # fmt: skip
def test_an_encoder_that_gives_no_vectors_fails_in_one_claim_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, text: Encoder, change: Any, cure: str
) -> None:
    result = broken(monkeypatch, text, change).self_test()
    (check,) = result.failed
    assert (check.name, check.measured) == ("text vectors", None)
    assert check.cure.startswith(cure)
    assert [check.name for check in result.checks] == ["text vectors", "all scale"] and result.seconds == {}


def test_vectors_that_are_not_of_length_one_are_caught(
    monkeypatch: pytest.MonkeyPatch, text: Encoder
) -> None:
    original = type(text).encode
    monkeypatch.setattr(type(text), "encode", lambda self, items, **rest: 2 * original(self, items, **rest))
    (check,) = [path for path in Space([text]).self_test().failed if path.name == "text vectors"]
    assert check.measured == pytest.approx(1.0, abs=1e-6)
    assert check.cure == "the family's forward must return finite rows (n, dim)"


def test_one_broken_encoder_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch, space: Space) -> None:
    monkeypatch.setattr(type(space.encoders[Modality.IMAGE]), "forward", lambda self, batch: batch["colours"])
    result = space.self_test()
    assert [path.name for path in result.failed] == ["image vectors"]
    assert sum(check.name.startswith(("text", "audio")) for check in result.checks) == 8


# --- heads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "failed"), [
    (LogitScale(100.0), set()),
    (LogitScale(math.log(100.0)), {"all scale"}),  # still a logarithm
    (LogitScale(0.07), {"all scale"}),  # a temperature
    (LogitScale(22_026.0), {"all scale"}),  # exp taken twice
    (LogitScale(112.6, -16.8, "sigmoid"), set()),  # SigLIP's own
    (LogitScale(112.6, -168.0, "sigmoid"), {"all bias"}),
    (None, set()),
])  # fmt: skip
def test_a_scale_that_no_model_has_is_caught(
    text: Encoder, head: LogitScale | None, failed: set[str]
) -> None:
    assert set(failures(Space([text], head))) == failed


def test_each_pair_has_its_own_claim(space: Space) -> None:
    heads = {
        (Modality.IMAGE, Modality.TEXT): LogitScale(20.0),
        (Modality.AUDIO, Modality.TEXT): LogitScale(2.0),
    }
    result = Space(space.encoders, heads).self_test()
    assert [path.name for path in result.failed] == ["audio-text scale"]
    assert [check.name for check in result.checks if "scale" in check.name] == [
        "image-text scale",
        "audio-text scale",
    ]


# --- what it is tested with -----------------------------------------------------------------------


@pytest.mark.parametrize("modality", list(Modality))
def test_the_items_drawn_are_eight_and_differ_and_are_the_same_each_time(modality: Modality) -> None:
    def content(item: Any) -> bytes:
        loaded = item.load()
        if modality is Modality.TEXT:
            return bytes(loaded, "utf-8")
        array = (
            loaded
            if modality is Modality.IMAGE
            else loaded.samples
            if modality is Modality.AUDIO
            else loaded.frames
        )
        return repr(array.shape).encode() + array.tobytes()

    drawn = [content(item) for item in synthetic.items(modality)]
    assert len(set(drawn)) == len(drawn) == 8
    assert drawn == [content(item) for item in synthetic.items(modality)]
    assert all(item.modality is modality for item in synthetic.items(modality))


def test_a_video_encoder_is_tested_too() -> None:
    class Mean(Encoder):
        modality, dim = Modality.VIDEO, 6

        def prepare(self, items: Any) -> dict[str, torch.Tensor]:
            rows = []
            for item in items:
                frames = item.load(n_frames=4).frames / 255.0
                rows.append(np.concatenate([frames.mean((0, 1, 2)), frames.std((0, 1, 2))]) - 0.4)
            return {"rows": torch.tensor(np.stack(rows), dtype=torch.float32)}

        def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return batch["rows"]

        def config(self) -> dict[str, Any]:
            return {}

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {}

    result = Space([Mean()]).self_test()
    assert result.ok and [check.name for check in result.checks] == [
        f"video {claim}" for claim in MEDIA_CLAIMS
    ]


# --- results --------------------------------------------------------------------------------------


def test_the_result_is_frozen_and_becomes_json(space: Space) -> None:
    result = space.self_test()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.space = "x"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.checks[0].ok = False  # type: ignore[misc]
    again = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert again["ok"] is True and again["space"] == "toy"
    assert again["checks"][1] == {
        "name": "text repeat", "ok": True, "measured": 0.0, "limit": [0.0, 0.0], "cure": "",
        "about": "deterministic: the same batch twice",
    }  # fmt: skip


def test_limits_are_said_in_words() -> None:
    words = [
        Check("x batch", True, 0.0, limit).allowed
        for limit in ((0.0, 0.0), (0.0, 1e-5), (-1.0, 0.99), (5.0, 1e3))
    ]
    assert words == ["exactly 0", "at most 1e-05", "at most 0.99", "5 to 1,000"]


def test_it_shows_itself_escaped() -> None:
    page = SelfTestReport(
        "<b>", (Check("<i> batch", False, None, (0.0, 1.0), "<u>"),), {"text": 0.0012}
    )._repr_html_()
    assert "<b>&lt;b&gt;</b>" in page and "&lt;i&gt;" in page and "&lt;u&gt;" in page
    assert "✗" in page and "text 1.2 ms" in page


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.0, "0"), (3.1e-7, "3.1e-07"), (0.98765, "0.988"), (1000.0, "1,000")]
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert self_test.shown(value) == text


# --- how an encoder runs --------------------------------------------------------------------------


def test_encoders_know_how_they_run(toy: ModuleType, tmp_path: Any) -> None:
    loaded = multimodal.load("toy", device="cpu")
    assert {encoder.runtime for encoder in loaded.encoders.values()} == {Runtime("cpu")}
    loaded.save_pretrained(tmp_path / "mine")
    fast = multimodal.load(tmp_path / "mine", device="cpu", precision="bfloat16", decode="fast")
    assert {encoder.runtime for encoder in fast.encoders.values()} == {Runtime("cpu", "bfloat16", "fast")}
    assert toy.ToyText().runtime == Runtime()
