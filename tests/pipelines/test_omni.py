"""The starter's network for several tasks, through the pipelines: scenes, charts and speech, and what it refuses."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import multimodal as mm
from multimodal.core.errors import CorruptSpace, EncoderError, InvalidInput, MediaUnsupported
from multimodal.core.paths import assets
from multimodal.encoders.starter.omni.model import OmniModel, chart_pixels
from multimodal.encoders.starter.omni.networks import OmniNet
from multimodal.encoders.starter.omni.reading import Cursor
from multimodal.encoders.starter.omni.tables import ChartTable
from multimodal.encoders.starter.omni.vocabulary import pointed
from multimodal.encoders.starter.parameters import ALPHABET
from multimodal.pipelines.answering.backends.omni_charts import OmniChartBackend
from multimodal.pipelines.captioning.backends.omni import OmniCaptioningBackend
from multimodal.pipelines.transcription.backends.omni import OmniBackend
from multimodal.pipelines.transcription.backends.starter import word_times
from recipes.omni import default_styles

CHART = assets() / "starter" / "omni" / "chart.png"
GALLERY = assets() / "gallery"
TABLE = ChartTable((("may", 25), ("june", 40), ("july", 7)))


@pytest.fixture(scope="module")
def model() -> OmniModel:
    return OmniModel.load()


@pytest.fixture(scope="module")
def caption(model: OmniModel) -> mm.CaptioningPipeline:
    return mm.CaptioningPipeline(OmniCaptioningBackend(model))


@pytest.fixture(scope="module")
def ask(model: OmniModel) -> mm.AnsweringPipeline:
    return mm.AnsweringPipeline(None, OmniChartBackend(model))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the value of May?", "25"),
        ("how much is june", "40"),
        ("What is the value of juny?", "40"),
        ("which is largest?", "june"),
        ("Which one is the smallest?", "july"),
        ("read the table", "may: 25\njune: 40\njuly: 7"),
        ("How many items are there?", "3"),
        ("What is the total?", "72"),
        ("what is the average?", "24"),
        ("What is the difference between May and June?", "15"),
        ("what is the value of october?", None),
        ("who drew it?", None),
    ],
)
def test_a_table_answers_what_it_can_and_nothing_else(question: str, answer: str | None) -> None:
    assert TABLE.answer(question) == answer


def test_a_text_that_is_no_table_is_none() -> None:
    assert ChartTable.parse("%|may:25|june:75") == ChartTable((("may", 25), ("june", 75)), "%")
    assert [ChartTable.parse(text) for text in ("", "0:100", "0:100|may:", "0:100|may:x", "0:100|:5")] == [
        None
    ] * 5


def test_a_value_follows_from_two_ticks_and_a_position() -> None:
    cursor, places = Cursor(), {"0": (10.0, 150.0), "8": (8.0, 50.0), "a": (60.0, 160.0)}
    for character in "0:80|a":
        cursor.write(character, places.get(character, (0.0, 0.0)))
    # "80" was pointed at at heights 50 and 150: the mean counts
    assert cursor.ticks == ([150.0], [50.0, 150.0])
    assert cursor.write(":", (60.0, 125.0))[2] == pytest.approx(40.0)
    assert math.isnan(Cursor("x:y|a").at_axis(10.0))
    assert [pointed(text) for text in ("0", "0:", "0:9|", "0:9|a", "0:9|a:", "0:9|a:4", "%|a:", "%|a:4")] == [
        True, False, False, True, True, False, False, True,
    ]  # fmt: skip


def test_the_prompt_is_a_question_about_the_chart(caption: mm.CaptioningPipeline) -> None:
    table = caption(mm.Image(CHART), prompt="read the table").text
    assert [line.split(": ")[1] for line in table.splitlines()] == ["32", "18", "45", "27"]
    assert caption(mm.Image(CHART), prompt="which is largest?").text == "south"
    assert caption(mm.Image(CHART), prompt="what is the total?").text == "122"


@pytest.mark.parametrize(
    "name", ["banana", "drum", "green apple", "alarm clock", "cactus", "blue strawberry"]
)
def test_a_scene_is_captioned_without_a_prompt(caption: mm.CaptioningPipeline, name: str) -> None:
    (path,) = (GALLERY / "pictures").glob(f"{name.replace(' ', '-')}*.*")
    assert caption(mm.Image(path)).text.removeprefix("a ") == name


def test_a_prompt_that_is_no_task_names_the_questions(caption: mm.CaptioningPipeline) -> None:
    with pytest.raises(InvalidInput, match="which is largest"):
        caption(mm.Image(CHART), prompt="who drew it?")
    with pytest.raises(InvalidInput, match="only transcribes audio"):
        caption(mm.Audio(GALLERY / "sounds/trumpet.flac"), prompt="which is largest?")
    with pytest.raises((MediaUnsupported, EncoderError), match=r"no chart was read|read pies"):
        caption(mm.Image(np.full((90, 120, 3), 255, np.uint8)), prompt="read the table")


def test_a_question_about_a_chart_is_answered_and_the_chart_cited(ask: mm.AnsweringPipeline) -> None:
    answer = ask("What is the value of North?", image=mm.Image(CHART))
    assert answer.text == "32 [1]" and not answer.refused
    assert answer.citations[0].number == 1
    refused = ask("Who drew it?", image=mm.Image(CHART))
    assert refused.refused and refused.reason == "model"


def test_the_words_of_a_phrase_have_the_times_of_their_characters() -> None:
    logs = np.full((20, 1 + len(ALPHABET)), -9.0, np.float32)
    logs[:, 0] = -0.1
    for step, character in ((2, "a"), (9, " "), (14, "b")):
        logs[step, 1 + ALPHABET.index(character)] = 0.0
    assert [(word.text, word.start, word.end) for word in word_times("a b", logs)] == [
        ("a", pytest.approx(0.04), pytest.approx(0.06)), ("b", pytest.approx(0.28), pytest.approx(0.30)),
    ]  # fmt: skip
    assert [word.text for word in word_times("too long for it all", logs[:9])] == [
        "too",
        "long",
        "for",
        "it",
        "all",
    ]
    assert word_times("", logs) == []


def test_default_styles_draw_what_they_say_at_the_size_of_the_network() -> None:
    """The share of these charts that is read is in the card; it is low."""
    rgb, rows = default_styles.draw(random.Random(5), "bar", "matplotlib, small")
    assert 3 <= len(rows) <= 6 and all(name.islower() for name, _ in rows)
    assert tuple(chart_pixels(rgb).shape) == (1, 192, 256)
    assert int(chart_pixels(np.zeros((30, 90, 3), np.uint8)).max()) == 0


def test_a_task_that_was_not_learned_is_refused(model: OmniModel, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="enough to describe scenes; it can read bar and line charts"):
        OmniModel(model.net, ["axes"]).describe([np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(EncoderError, match="enough to transcribe speech"):
        mm.pipeline("transcription", model="starter-omni")
    rgb = np.asarray(mm.Image(CHART).load())
    OmniModel(model.net, []).save(tmp_path)
    with pytest.raises(EncoderError, match="to read bar and line charts; it can nothing yet"):
        OmniModel.load(tmp_path).read_chart(rgb)


def test_a_network_that_offers_every_task_writes_from_every_encoder(tmp_path: Path) -> None:
    """With random weights: what is written means nothing."""
    torch.manual_seed(0)
    OmniModel(OmniNet(), ["describe", "transcribe", "axes"]).save(tmp_path)
    whole = OmniModel.load(tmp_path)
    write = mm.CaptioningPipeline(OmniCaptioningBackend(whole))
    trumpet = mm.Audio(GALLERY / "sounds/trumpet.flac")
    options: Any = {"max_tokens": 4, "beams": 2}
    assert write(mm.Image(CHART), **options).n_tokens <= 4
    assert isinstance(write(trumpet).text, str)
    spoken = mm.TranscriptionPipeline(OmniBackend(whole), "starter-omni")(trumpet)
    assert spoken.duration_s > 0


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptSpace, match=r"starter-omni cannot be read from .* copy the folder again"):
        OmniModel.load(tmp_path)
