"""`evaluate` and `compare`: right figures on known vectors, and an answer to every kind of bad input."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import multimodal as mm
from multimodal.core.cluster import connection
from multimodal.core.errors import InvalidInput
from multimodal.evaluation import encoding
from multimodal.testing import fake_space
from tests.core.local_pool import mapped_here

ANGLES = np.linspace(0, 1.4, 40)
TEXTS = {f"text {row}": [float(np.cos(angle)), float(np.sin(angle))] for row, angle in enumerate(ANGLES)}
WRONG = (3, 17)  # queries whose answers are exchanged


def wav(folder: Path, row: int) -> str:
    """A small file that a fake space knows by its name."""
    file = folder / f"{row}.png"
    if not file.exists():
        import PIL.Image

        PIL.Image.new("RGB", (4, 4), (row, 0, 0)).save(file)
    return str(file)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[mm.Space, list[dict[str, Any]]]:
    """A space of known vectors, and pairs of which two are wrong."""
    folder = tmp_path_factory.mktemp("world")
    files = [wav(folder, row) for row in range(len(ANGLES))]
    own = {file: TEXTS[f"text {row}"] for row, file in enumerate(files)}
    own[files[WRONG[0]]], own[files[WRONG[1]]] = own[files[WRONG[1]]], own[files[WRONG[0]]]
    space = fake_space(("text", "image"), 2, vectors=TEXTS | own)
    rows = [{"text": f"text {row}", "image": file, "id": str(row)} for row, file in enumerate(files)]
    return space, rows


World = tuple[mm.Space, list[dict[str, Any]]]


def test_retrieval_counts_the_queries_whose_right_answer_is_first(world: World) -> None:
    result = mm.evaluate(*world, "retrieval")
    assert result.figures["hit@1"].value == pytest.approx(38 / 40)
    assert result.figures["hit@1"].gallery == 40
    assert sorted(result.worst()) == list(WRONG)
    assert result.values["rank"][WRONG[0]] > 1


def test_rows_of_one_id_are_right_answers_of_each_other(world: World) -> None:
    space, rows = world
    merged = [row | {"id": "both"} if index in WRONG else row for index, row in enumerate(rows)]
    assert mm.evaluate(space, merged, "retrieval").figures["hit@1"].value == 1.0


def test_a_repeated_query_is_asked_once_and_has_all_its_answers(world: World) -> None:
    space, rows = world
    doubled = [*rows, {"text": "text 3", "image": rows[WRONG[1]]["image"], "id": None}]
    result = mm.evaluate(space, doubled, "retrieval")
    assert len(result.items) == 40
    assert "each is asked once" in result.notes[0]


def test_a_query_without_a_right_answer_is_excluded_and_counted(world: World) -> None:
    space, rows = world
    result = mm.evaluate(space, [*rows, {"text": "text 3 alone", "image": ""}], "retrieval")
    assert result.excluded == {"no right answer in the gallery": 1}
    assert result.figures["hit@1"].n == 40


def test_an_unreadable_file_is_excluded_and_counted(world: World, tmp_path: Path) -> None:
    space, rows = world
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    extra = [{"text": "x", "image": str(tmp_path / name)} for name in ("broken.png", "absent.png")]
    result = mm.evaluate(space, [*rows, *extra], "retrieval")
    assert result.excluded == {"no right answer in the gallery": 1, "unreadable": 1}


def test_groups_widen_the_interval_and_one_group_has_none(world: World) -> None:
    space, rows = world
    spoken = [row | {"speaker": f"speaker {index // 8}"} for index, row in enumerate(rows)]
    grouped = mm.evaluate(space, spoken, "retrieval", group="speaker").figures["hit@1"]
    assert grouped.groups == 5
    alone = mm.evaluate(space, [row | {"group": "a"} for row in rows], "retrieval")
    assert alone.figures["hit@1"].low is None
    assert "no interval" in alone.notes[-1]


def test_few_items_have_an_interval_and_a_warning(world: World) -> None:
    result = mm.evaluate(world[0], world[1][:12], "retrieval")
    assert result.figures["hit@1"].low is not None
    assert "too few to compare" in result.notes[-1]
    other = mm.evaluate(fake_space(("text", "image"), 2), world[1][:12], "retrieval")
    assert mm.compare(result, other).verdict == "too few to compare"


def test_a_comparison_counts_what_was_lost_and_won(world: World) -> None:
    space, rows = world
    first = mm.evaluate(space, rows, "retrieval")
    vectors = TEXTS | {row["image"]: TEXTS[row["text"]] for row in rows}
    right = mm.evaluate(fake_space(("text", "image"), 2, vectors=vectors), rows, "retrieval")
    comparison = mm.compare(first, right)
    assert (comparison.lost, comparison.won, comparison.n) == (0, 2, 40)
    assert comparison.difference == pytest.approx(0.05)
    assert comparison.p == pytest.approx(0.5)  # two changes of two in one direction
    assert [example["change"] for example in comparison.examples] == ["won", "won"]
    assert mm.compare(first, first).note == "the same model"
    assert mm.compare(first, right, metric="rank").verdict.startswith(("fake is better", "no difference"))


def test_results_of_other_items_or_galleries_are_not_compared(world: World) -> None:
    space, rows = world
    results = [mm.evaluate(space, part, "retrieval") for part in (rows, rows[:-1])]
    with pytest.raises(InvalidInput, match="different items"):
        mm.compare(*results)
    larger = mm.evaluate(
        space, [*rows, {"image": rows[0]["image"]}, {"text": "", "image": rows[1]["image"]}], "retrieval"
    )
    assert mm.compare(results[0], larger).n == 40
    with pytest.raises(InvalidInput, match=r"no metric 'hits'.*did you mean 'hit@"):
        mm.compare(results[0], results[0], metric="hits")


def test_a_result_is_restored_from_its_file_and_still_compares(
    retrieval: mm.Evaluation, tmp_path: Path
) -> None:
    retrieval.save(tmp_path / "result.json")
    again = mm.Evaluation.load(tmp_path / "result.json")
    assert again.figures == retrieval.figures
    assert mm.compare(again, retrieval).difference == 0
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InvalidInput, match="no result of an evaluation"):
        mm.Evaluation.load(tmp_path / "other.json")


def test_classification_equals_the_pipeline(classification: mm.Evaluation, starter: mm.Space) -> None:
    classify = mm.pipeline("zero-shot-classification", model=starter)
    labels = sorted({item.target for item in classification.items})
    for row in (0, 20, 63):
        answer = classify(mm.Image(classification.items[row].name), labels=labels)
        assert answer.label == classification.items[row].predicted
        assert answer.score == pytest.approx(classification.values["confidence"][row], abs=1e-5)
    assert classification.figures["accuracy"].value == pytest.approx(58 / 64)


def test_any_function_that_labels_items_is_evaluated(pictures_csv: Path) -> None:
    def apples(items: list[mm.Image]) -> list[str]:
        return ["red apple" for _ in items]

    result = mm.evaluate(apples, pictures_csv, "classification")
    assert result.model == "apples"
    assert result.figures["accuracy"].value == pytest.approx(1 / 64)
    with pytest.raises(InvalidInput, match="evaluate it on data with its own labels"):
        mm.evaluate(lambda items: ["nothing"] * len(items), pictures_csv, "classification")


ROWS = [{"text": "a cat", "label": "animal"}, {"text": "a car", "label": "vehicle"}]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mm.evaluate("starter", [{"a": 1, "b": 2}], "retrieval"), "found a, b; expected a column named text"),
        (lambda: mm.evaluate("starter", [{"text": "x"}], "retrieval"), "retrieval needs two columns, found text"),
        (lambda: mm.evaluate("starter", ROWS, "sorting"), "no task is called 'sorting'"),
        (lambda: mm.evaluate("starter", ROWS, "retrieving"), "did you mean 'retrieval'"),
        (
            lambda: mm.evaluate("starter", ROWS, "classification", labels=["animal", "vehicle", "animals"]),
            "no item has the label 'animals'; did you mean 'animal'",
        ),
        (
            lambda: mm.evaluate("starter", ROWS, "classification", labels=["animal", "animal"]),
            "the label 'animal' is given twice",
        ),
        (
            lambda: mm.evaluate("starter", ROWS, "classification", labels=["animal"]),
            "items have the label 'vehicle'",
        ),
        (lambda: mm.evaluate("starter", [], "classification"), "has no rows"),
        (lambda: mm.evaluate("starter", "absent.csv", "classification"), "absent.csv does not exist"),
        (lambda: mm.evaluate("starter", {"train": ROWS}, "classification"), "of a DatasetDict give one split"),
        (lambda: mm.evaluate("starter", [{"text": "x"}], "classification"), "no row has a label"),
        (lambda: mm.evaluate("starter", ROWS, "classification", group="speker"), "no column 'speker' for the group"),
        (lambda: mm.evaluate("starter", ROWS, "classification", columns={"size": "x"}), "names the role 'size'"),
        (lambda: mm.evaluate("starter", ROWS, "classification", labels="animal"), "labels must be a list"),
        (lambda: mm.evaluate(3, ROWS, "classification"), "evaluated on a space or its name, got int"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_with_the_cure(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        call()
    assert message in str(caught.value)


def test_a_stopped_evaluation_continues_where_it_was(world: World, tmp_path: Path) -> None:
    space, rows = world
    expected = mm.evaluate(space, rows, "retrieval", cache=tmp_path)
    for encoder in space.encoders.values():
        encoder.seen.clear()  # type: ignore[attr-defined]
    counts: list[int] = []
    again = mm.evaluate(space, rows, "retrieval", cache=tmp_path, progress=counts.append)
    assert again.figures == expected.figures
    assert [len(encoder.seen) for encoder in space.encoders.values()] == [0, 0]  # type: ignore[attr-defined]
    assert sum(counts) == 80
    (damaged,) = sorted(tmp_path.iterdir())[:1]
    damaged.write_bytes(b"half a file")
    assert mm.evaluate(space, rows, "retrieval", cache=tmp_path).figures == expected.figures


def test_figures_are_json(classification: mm.Evaluation) -> None:
    text = json.dumps(classification.to_dict(), allow_nan=False)
    assert mm.Evaluation.from_dict(json.loads(text)).figures == classification.figures
    assert "Evaluation(classification of" in repr(classification)
    assert "<table>" in classification._repr_html_()


def test_an_evaluation_on_workers_loses_only_the_item_that_ends_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, rows = world
    monkeypatch.setattr(encoding, "CHUNK", 8)
    monkeypatch.setattr(connection, "connected", lambda *_, **__: contextlib.nullcontext())
    with mapped_here():
        there = mm.evaluate(space, rows, "retrieval", engine="ray")
    assert there.figures == mm.evaluate(space, rows, "retrieval").figures
    with mapped_here(kills=lambda chunk: any("text 5" in repr(item) for item in chunk)):
        without = mm.evaluate(space, rows, "retrieval", engine="ray")
    assert without.excluded == {"unreadable query": 1}
