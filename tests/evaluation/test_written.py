"""Captions, transcripts and generated images: right figures from stand-ins for pipelines."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

import multimodal as mm
from multimodal.core.errors import InvalidInput
from multimodal.testing import fake_space


def clip(level: float) -> dict[str, Any]:
    return {"array": np.full(800, level, np.float32), "sampling_rate": 16_000}


def says(*texts: str) -> Any:
    """A transcriber, or captioner, that answers by the level or colour of its input."""

    def write(items: list[Any], **options: Any) -> list[Any]:
        answers = []
        for item in items:
            values = item.load()
            level = values.samples[0] * 100 if isinstance(item, mm.Audio) else values[0, 0, 0]
            answers.append(SimpleNamespace(text=texts[round(float(level))]))
        return answers

    return write


def test_error_rates_are_pooled_and_empty_references_are_excluded() -> None:
    rows = [
        {"audio": clip(0.01), "text": "One two three four."},
        {"audio": clip(0.02), "text": "five"},
        {"audio": clip(0.03), "text": "…"},
        {"audio": clip(0.0), "text": ""},
        {"text": "no audio"},
    ]
    result = mm.evaluate(says("", "one two three for", "fife", "noise"), rows, "transcription")
    assert result.figures["wer"].value == pytest.approx(2 / 5)
    assert result.values["wer"].mean() == pytest.approx((1 / 4 + 1) / 2)  # which is not the pooled rate
    assert result.figures["wer_raw"].value == pytest.approx(3 / 5)
    assert result.figures["cer"].value == pytest.approx(2 / 22)
    assert result.excluded == {"empty reference": 2, "no audio": 1}
    assert result.worst()[0] == 1
    other = mm.evaluate(says("", "one two three four", "five", ""), rows, "transcription", seed=1)
    comparison = mm.compare(result, other)
    assert comparison.difference == pytest.approx(-2 / 5)
    assert (comparison.lost, comparison.won) == (0, 2)


def test_a_caption_is_compared_with_all_its_references() -> None:
    images = [np.full((4, 4, 3), level, np.uint8) for level in (0, 1, 2)]
    rows = [
        {"image": images[0], "text": "a red apple"},
        {"image": images[0], "text": "An apple!"},
        {"image": images[1], "text": "a blue car"},
        {"image": images[2], "text": ""},
    ]
    result = mm.evaluate(says("an apple", "a car"), rows, "captioning", judge=fake_space())
    assert len(result.items) == 2
    assert result.figures["exact"].value == 0.5
    assert result.excluded == {"no item or no reference": 1}
    assert result.settings["judge"] == "fake"
    assert 0 <= result.figures["clip_score"].value <= 2.5


def test_a_text_is_rewritten_to_its_label() -> None:
    rows = [
        {"text": text, "label": "apple", "image": np.zeros((4, 4, 3), np.uint8)}
        for text in ("an apple", "a pear")
    ]
    answers = {"an apple": "Apple", "a pear": "pear"}
    result = mm.evaluate(
        lambda items: [SimpleNamespace(text=answers[item.load()]) for item in items],
        [*rows, {"text": "no label"}],
        "captioning",
        query="text",
    )
    assert result.figures["exact"].value == 0.5
    assert result.excluded == {"no item or no reference": 1}


def test_generated_images_are_scored_by_a_judge_that_is_named() -> None:
    made = {name: PIL.Image.new("RGB", (4, 4), name) for name in ("red", "blue", "green")}
    space = fake_space(("text", "image"), 16)
    texts = space.encoders["text"].vectors  # type: ignore[index, attr-defined]
    for name in ("red", "blue"):
        texts[name] = space.encode(mm.Image(made[name])).tolist()
    texts["green"] = (-space.encode(mm.Image(made["green"]))).tolist()

    def draw(prompts: list[str], **options: Any) -> list[Any]:
        return [SimpleNamespace(image=made[prompt]) for prompt in prompts]

    rows = [{"text": name, "image": np.asarray(made[name])} for name in made]
    result = mm.evaluate(draw, rows, "generation", judge=space)
    assert result.figures["hit@1"].value == pytest.approx(2 / 3)
    assert result.values["clip_score"] == pytest.approx([2.5, 2.5, 0.0], abs=1e-6)
    assert result.figures["kid"].value <= 0  # the very same images
    assert result.settings["judge"] == "fake"
    draw.space = space  # type: ignore[attr-defined]
    assert "cannot be independent" in mm.evaluate(draw, rows, "generation").notes[0]
    with pytest.raises(InvalidInput, match="needs a judge"):
        mm.evaluate(lambda prompts, **options: draw(prompts), rows, "generation")


def test_a_page_has_players_and_pictures(tmp_path: Any, classification: mm.Evaluation) -> None:
    rows = [{"audio": clip(0.01), "text": "one"}, {"audio": clip(0.02), "text": "two"}]
    mm.evaluate(says("", "one", "too"), rows, "transcription").save(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert page.count("<audio controls") == 1
    assert "too" in page
    classification.save(tmp_path / "b.html")
    page = (tmp_path / "b.html").read_text()
    wrong = [item for item in classification.items if item.predicted != item.target]
    assert page.count("data:image/webp") == len(wrong) == 6
    assert "Calibration" in page
    assert "<script" not in page


@pytest.mark.parametrize("task", ["transcription", "captioning", "generation"])
def test_data_without_the_columns_of_the_task_is_refused(task: str) -> None:
    rows = [{"image": np.zeros((4, 4, 3), np.uint8)}]
    with pytest.raises(InvalidInput, match="expected the column"):
        mm.evaluate(says("x"), rows, task, judge=fake_space())
