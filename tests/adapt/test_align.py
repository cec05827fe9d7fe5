"""Alignment: the losses against NumPy, the starter's captioner, a tiny Llama through TRL, and bad input."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import multimodal as mm
from multimodal.adapt.alignment import objectives
from multimodal.core.errors import InvalidInput, MediaNotFound

THINGS = ("apple", "car", "cat", "dog", "guitar", "pizza", "rocket")
REPLAY = [f"a {colour} {thing}" for colour in ("red", "blue") for thing in THINGS]


def article(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


@pytest.fixture(scope="module")
def captioner() -> mm.CaptioningPipeline:
    return mm.pipeline("captioning", model="starter", device="cpu")


@pytest.fixture(scope="module")
def preferences() -> list[tuple[str, str, str]]:
    """Two things, and both of them rather than one."""
    pairs = itertools.combinations(THINGS, 2)
    return [(f"{a} and {b}", f"{article(a)} and {article(b)}", a) for a, b in pairs]


# --- the losses -----------------------------------------------------------------------------------


def test_dpo_is_the_published_formula() -> None:
    rng = np.random.default_rng(0)
    chosen, rejected, old_chosen, old_rejected = rng.normal(-8, 2, (4, 6))
    margins = 0.3 * ((chosen - rejected) - (old_chosen - old_rejected))
    expected = np.mean(np.log1p(np.exp(-margins)))
    tensors = [torch.from_numpy(row) for row in (chosen, rejected, old_chosen, old_rejected)]
    assert float(objectives.dpo_loss(*tensors, 0.3)) == pytest.approx(expected)


def test_grpo_follows_the_advantage_and_is_held_by_the_reference() -> None:
    log_probs = torch.tensor([[-1.0, -2.0], [-0.5, -3.0]], requires_grad=True)
    counted = torch.tensor([[True, True], [True, False]])
    advantage = objectives.advantages(torch.tensor([[1.0, 3.0]])).flatten()
    assert advantage.tolist() == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)], abs=1e-3)
    objectives.grpo_loss(log_probs, counted, log_probs.detach(), advantage, 0.1).backward()
    gradient = log_probs.grad
    expected = -advantage[:, None] * counted / counted.sum(dim=1, keepdim=True) / 2
    assert torch.allclose(gradient, expected)  # at the reference the divergence has no gradient
    moved = objectives.grpo_loss(log_probs, counted, log_probs.detach() + 1, torch.zeros(2), 0.1)
    assert moved.item() == pytest.approx(0.1 * (math.e - 2), rel=1e-5)


# --- the captioner of the starter -----------------------------------------------------------------


def test_dpo_teaches_two_things_and_plain_dpo_loses_the_words(
    captioner: mm.CaptioningPipeline, preferences: list[tuple[str, str, str]]
) -> None:
    before = captioner.backend.net.state_dict()["prefix.weight"].clone()
    common: dict[str, Any] = {"steps": 14, "batch_size": 20, "held_out": 0.3, "learning_rate": 1.5e-3}
    kept = mm.adapt.align(captioner, preferences, replay=REPLAY, interpolate=0.75, **common)
    plain = mm.adapt.align(captioner, preferences, likelihood=0, interpolate=1.0, **common)
    report = kept.report
    assert report.after["chosen log-probability"] > report.before["chosen log-probability"] + 0.2
    assert plain.report.after["chosen log-probability"] < report.after["chosen log-probability"] - 0.1
    assert (report.n_preferences, report.n_held_out, report.interpolation) == (15, 6, 0.75)
    assert report.reference["before"] == 1  # replay without captions is what it wrote
    assert torch.equal(captioner.backend.net.state_dict()["prefix.weight"], before)
    assert not torch.equal(plain.pipeline.backend.net.state_dict()["prefix.weight"], before)
    json.dumps(report.to_dict())
    assert "chosen log-probability: " in str(report)


def test_sft_learns_captions_of_vectors_and_is_saved(
    captioner: mm.CaptioningPipeline, tmp_path: Path
) -> None:
    vectors = captioner.backend.space.encode(list(THINGS))
    wanted = [(vector, "a small pizza") for vector in vectors]
    result = mm.adapt.align(captioner, wanted, method="sft", steps=30, batch_size=8, interpolate=1.0,
                            learning_rate=2e-3)  # fmt: skip
    assert result.report.after["exact"] == 1
    assert "preferred" not in result.report.after
    assert result.pipeline("car").text == "a small pizza"
    result.save(tmp_path / "decoder")
    opened = mm.pipeline("captioning", model="starter", decoder=tmp_path / "decoder", device="cpu")
    assert opened("car").text == "a small pizza"


def test_a_judge_chooses_among_samples(captioner: mm.CaptioningPipeline) -> None:
    def short(inputs: Any, outputs: Any) -> list[float]:
        assert len(inputs) == len(outputs)
        return [-float(len(text.split())) for text in outputs]

    inputs = [f"{a} and {b}" for a, b in itertools.combinations(THINGS[:4], 2)]
    options: dict[str, Any] = {"judge": short, "interpolate": 1.0, "temperature": 1.5, "held_out": 0.4}
    best = mm.adapt.align(captioner, inputs, method="best-of-n", steps=20, learning_rate=1e-3, **options)
    assert best.report.after["reward"] >= best.report.before["reward"]
    assert best.report.after["chosen log-probability"] > best.report.before["chosen log-probability"]
    grpo = mm.adapt.align(captioner, inputs, method="grpo", steps=4, batch_size=16, **options)
    assert set(grpo.report.after) == {"reward"}


def test_a_space_judges_by_cosine(captioner: mm.CaptioningPipeline) -> None:
    from multimodal.adapt.alignment.preferences import as_judge, best_and_worst

    judge = as_judge(captioner.backend.space)
    (preference,) = best_and_worst(["a red car", "dog"], [["a red car", "a pizza"], ["dog", "dog"]], judge)
    assert (preference.chosen, preference.rejected) == ("a red car", "a pizza")


def test_nothing_is_kept_if_everything_is_forgotten(captioner: mm.CaptioningPipeline) -> None:
    wanted = [(thing, "a small pizza") for thing in THINGS]
    replay = [(vector, thing) for vector, thing in zip(captioner.backend.space.encode(list(THINGS)), THINGS,
                                                       strict=True)]  # fmt: skip
    result = mm.adapt.align(captioner, wanted, method="sft", steps=15, batch_size=16, learning_rate=3e-3,
                            replay={"names": replay, "none": []}, replay_share=0.01, held_out=0.5)  # fmt: skip
    report = result.report
    assert report.curve[1.0]["reference, names"] < report.curve[0.0]["reference, names"]
    assert report.reference["after"] >= report.reference["before"] - 0.5
    assert report.kinds == {"names": report.reference}
    assert "reference, names: " in str(report)
    assert report.interpolation < 1


def test_every_kind_of_replay_limits_the_share_that_is_kept() -> None:
    from types import SimpleNamespace

    from multimodal.adapt.alignment.captioner import _choose

    speech = {0.0: 0.9, 0.25: 0.89, 0.5: 0.8, 1.0: 0.7}
    curve = {share: {"reference, photos": 0.9, "reference, speech": value} for share, value in speech.items()}
    settings: Any = SimpleNamespace(interpolate=None)
    assert _choose(curve, {"photos": 400}, settings, []) == 1
    assert _choose(curve, {"photos": 400, "speech": 400}, settings, []) == 0.25


# --- language models ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a Llama of random weights and a tokenizer of bytes, with a chat template."""
    from transformers.utils.logging import disable_progress_bar

    from recipes.align.instructions import small_model

    model, tokenizer = small_model(0, ["say yes or no"])
    folder = tmp_path_factory.mktemp("llama")
    disable_progress_bar()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    yield folder


def test_a_language_model_learns_to_answer_and_to_prefer(llama: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"say {n}", "chosen": "yes", "rejected": "no"} for n in range(10)]
    file = tmp_path / "preferences.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    tuned = mm.adapt.align(f"hf/{llama}", file, method="sft", steps=12, batch_size=4, learning_rate=5e-3)
    assert tuned.report.after["chosen log-probability"] > tuned.report.before["chosen log-probability"] + 1
    assert tuned.report.after["exact"] == 1
    swapped = [(row["prompt"], row["rejected"], row["chosen"]) for row in rows]
    aligned = mm.adapt.align(tuned.pipeline, swapped, steps=10, batch_size=4, learning_rate=5e-3, lora=True)
    assert (aligned.report.before["preferred"], aligned.report.after["preferred"]) == (0, 1)
    aligned.save(tmp_path / "aligned")
    from multimodal.adapt.alignment.language_model import language_model, write

    assert write(*language_model(tmp_path / "aligned"), ["say 3"], longest=8) == ["no"]


def test_a_judge_rewards_a_language_model(llama: Path) -> None:
    def length(prompts: Any, outputs: Any) -> list[float]:
        assert all(isinstance(prompt, str) for prompt in prompts)
        return [float(len(text)) for text in outputs]

    from multimodal.adapt.alignment import language_model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_model, "LONGEST", 6)
        result = mm.adapt.align(llama, ["say a", "say b", "say c"], method="grpo", judge=length, steps=1)
    assert math.isfinite(result.report.after["reward"])


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preferences", "options", "message"),
    [
        ([], {}, "there are no preferences"),
        ([("dog", "dog", "cat")], {}, "give at least two"),
        ([("dog", "dog")], {}, "preference 0 has no rejected"),
        (["dog", "cat"], {"method": "sft"}, "preference 0 has no chosen; .* or judge="),
        ([("dog", "cat", "cat")], {}, "preference 0 prefers 'cat' to itself"),
        ([("dog", 3, "cat")], {}, "preference 0 has the chosen output 3; it must be a text"),
        ([{"question?": "dog"}], {}, "preference 0 has the keys question"),
        (17, {}, "preferences must be a list of"),
        ([("dog", "dog", "zyx"), ("cat", "cat", "dog")], {}, "'zyx' in 'zyx' is none of them"),
        ([("dog", "dog " * 30, "cat"), ("cat", "cat", "dog")], {}, "has 30 words, at most 23 fit"),
        ([("dog", "dog", "cat")] * 2, {"method": "ppo"}, "method must be one of 'dpo', 'sft', 'grpo', 'best-of-n'"),
        (["dog", "cat"], {"method": "grpo"}, "so it needs judge="),
        (["dog", "cat"], {"judge": 3}, "judge must be a space"),
        (["dog", "cat"], {"judge": lambda inputs, outputs: [1.0]}, r"scores of shape \(1,\)"),
        ([("dog", "dog", "cat")] * 2, {"interpolate": 2}, "interpolate must be 'auto' or a share"),
        ([("dog", "dog", "cat")] * 2, {"held_out": 1}, "held_out must be a share"),
        ([("dog", "dog", "cat")] * 2, {"replay": "photos"}, "replay must be a list of inputs"),
        ([("dog", "dog", "cat")] * 2, {"replay": {"photos": 3}}, "mapping of such lists by kind, got int"),
        ([("dog", "dog", "cat")] * 9, {"learning_rate": 1e30, "steps": 9}, "so nothing was changed; lower learning"),
    ],
)  # fmt: skip
def test_bad_preferences_are_refused(
    captioner: mm.CaptioningPipeline, preferences: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        mm.adapt.align(captioner, preferences, **{"steps": 1} | options)


def test_what_is_no_decoder_is_refused(tmp_path: Path) -> None:
    wanted = [("say a", "yes"), ("say b", "no")]
    with pytest.raises(InvalidInput, match="align takes a captioning pipeline on a space"):
        mm.adapt.align(mm.pipeline("zero-shot-classification"), wanted, method="sft")
    with pytest.raises(MediaNotFound, match="is no folder; align takes"):
        mm.adapt.align("hf/./nowhere", wanted, method="sft")
    with pytest.raises(MediaNotFound, match="no such file; preferences are"):
        mm.adapt.align("hf/./nowhere", tmp_path / "gone.csv", method="sft")
    (tmp_path / "bad.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(InvalidInput, match="neither CSV nor JSON lines"):
        mm.adapt.align("hf/./nowhere", tmp_path / "bad.jsonl", method="sft")
