"""Data sets of the library `datasets` itself: media that cannot be decoded, transforms that raise, streams."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile

from multimodal.index import Index, IngestReport

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("default")

N = 40
BROKEN = {0, 17, 18, 39}


def png(number: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (number, 0, 9)).save(file, "PNG")
    return file.getvalue()


def wav(number: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(800, (number + 1) / 50, np.float32), 8000, format="WAV", subtype="FLOAT")
    return file.getvalue()


def media(kind: str, **options: Any) -> Any:
    """A data set of N rows, of which those in BROKEN hold a truncated file."""
    make = {"image": png, "audio": wav}[kind]
    cells = [make(n)[: 40 if n in BROKEN else None] for n in range(N)]
    feature = {"image": datasets.Image, "audio": datasets.Audio}[kind](**options)
    columns = {kind: [{"bytes": cell, "path": None} for cell in cells], "n": list(range(N))}
    return datasets.Dataset.from_dict(columns).cast_column(kind, feature)


def check(index: Index, source: Any) -> None:
    report = index.add(source)
    assert (report.added, [failure.uri for failure in report.failed]) == (
        N - len(BROKEN), [f"row {n}" for n in sorted(BROKEN)],
    )  # fmt: skip
    assert {row["metadata"]["n"] for row in index.rows()} == set(range(N)) - BROKEN


@pytest.mark.parametrize("kind", ["image", "audio"])
@pytest.mark.parametrize("options", [{}, {"decode": False}])
@pytest.mark.parametrize("is_stream", [False, True])
def test_broken_media_are_failures_and_all_others_are_added(
    index: Index, kind: str, options: dict[str, Any], is_stream: bool
) -> None:
    source = media(kind, **options)
    check(index, source.to_iterable_dataset() if is_stream else source)


@pytest.mark.parametrize("layout", ["numpy", "torch", "pandas", "arrow"])
def test_the_format_of_a_data_set_does_not_matter(index: Index, layout: str) -> None:
    check(index, media("image", decode=False).with_format(layout))


def test_a_transform_that_raises_is_a_failure_of_its_row(index: Index) -> None:
    def transform(batch: dict[str, Any]) -> dict[str, Any]:
        if BROKEN & set(batch["n"]):
            raise RuntimeError("cannot be transformed")
        return {"text": [f"a {n}" for n in batch["n"]], "n": batch["n"]}

    made = datasets.Dataset.from_dict({"n": list(range(N))}).with_transform(transform)
    report = index.add(made)
    assert (report.added, len(report.failed)) == (N - len(BROKEN), len(BROKEN))
    assert report.failed[1].reason == "row 17: RuntimeError: cannot be transformed"


def test_a_stream_that_ends_with_an_error_keeps_its_rows_and_says_so(index: Index) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for n in range(10):
            yield {"text": f"a {n}"}
        raise RuntimeError("the connection was lost")

    report = index.add(datasets.IterableDataset.from_generator(rows))
    assert report.added == 10
    assert report.failed[-1].reason.endswith(
        "the connection was lost; the data set cannot be read any further"
    )


def test_labels_without_a_name_and_empty_texts_do_not_end_the_job(index: Index) -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    made = datasets.Dataset.from_dict({"text": ["a", None, "c"], "label": [1, 0, -1]}, features=features)
    report = index.add(made)
    assert (report.added, [failure.uri for failure in report.failed]) == (2, ["row 1"])
    assert {row["text"]: row["metadata"]["label"] for row in index.rows()} == {"a": "yes", "c": -1}


def test_only_the_chosen_columns_become_metadata(index: Index) -> None:
    made = datasets.Dataset.from_dict({"text": ["a"], "secret": ["x"], "n": [1]})
    index.add(made.with_format("numpy", columns=["text", "n"]))
    assert [row["metadata"] for row in index.rows()] == [{"n": 1}]


def test_rows_of_two_data_sets_do_not_replace_each_other(index: Index, tmp_path: Path) -> None:
    first, second = (
        datasets.Dataset.from_dict({"image": [{"bytes": png(n), "path": None}]}).cast_column(
            "image", datasets.Image()
        )
        for n in (1, 2)
    )
    assert index.add(first) == index.add(second) == IngestReport(1, 0) and len(index) == 2
