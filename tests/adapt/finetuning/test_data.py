"""Every kind of source, and the split of its pairs."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import multimodal as mm
from multimodal.adapt.finetuning.data import Pair, read_pairs
from multimodal.adapt.finetuning.split import content_hash, split_pairs
from multimodal.core.errors import InvalidInput, MediaNotFound
from tests.adapt.finetuning.conftest import shape


def png(colour: str, name: str) -> bytes:
    out = io.BytesIO()
    shape(colour, name).save(out, format="PNG")
    return out.getvalue()


def described(pairs: list[Pair]) -> list[tuple[str, str, bool]]:
    return [(str(pair.first.modality), str(pair.second.load()), pair.label) for pair in pairs]


EXPECTED = [("image", "a red bar", False), ("image", "a blue bar", False)]


def csv_table(folder: Path) -> Any:
    path = folder / "pairs.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows(
            [("File_Name", "caption"), ("r.png", "a red bar"), ("b.png", "a blue bar"), ("c.png", "")]
        )
    return path


def jsonl_table(folder: Path) -> Any:
    rows = [{"image": "r.png", "text": "a red bar"}, {"image": "b.png", "text": "a blue bar"}]
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def parquet_table(folder: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = folder / "pairs.parquet"
    images = [{"bytes": png("red", "bar"), "path": None}, {"bytes": png("blue", "bar"), "path": "b.png"}]
    parquet.write_table(pa.table({"image": images, "text": ["a red bar", "a blue bar"]}), path)
    return path


def archive(folder: Path) -> Any:
    path = folder / "shard.tar"
    with tarfile.open(path, "w") as tar:
        for key, colour in (("0", "red"), ("1", "blue")):
            for suffix, data in (("png", png(colour, "bar")), ("txt", f"a {colour} bar".encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


def hub_data_set(folder: Path) -> Any:
    import datasets

    images = [shape("red", "bar"), shape("blue", "bar")]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    return datasets.Dataset.from_dict(
        {"image": images, "text": ["a red bar", "a blue bar"]}, features=features
    )


def iterable(folder: Path) -> Any:
    return iter([(shape("red", "bar"), "a red bar"), (mm.Image(shape("blue", "bar")), "a blue bar")])


@pytest.mark.parametrize("make", [csv_table, jsonl_table, parquet_table, archive, hub_data_set, iterable])
def test_every_kind_of_source_gives_the_same_pairs(make: Any, tmp_path: Path) -> None:
    for name, colour in (("r", "red"), ("b", "blue")):
        shape(colour, "bar").save(tmp_path / f"{name}.png")
    pairs = read_pairs(make(tmp_path))
    assert described(pairs) == EXPECTED
    assert np.array_equal(pairs[0].first.load(), np.asarray(shape("red", "bar")))


def test_a_folder_per_class_is_labelled(tmp_path: Path) -> None:
    for label in ("red_bar", "blue-bar"):
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "test" / label).mkdir(parents=True)
        shape("red", "bar").save(tmp_path / "train" / label / "1.png")
        shape("blue", "bar").save(tmp_path / "test" / label / "2.png")
    pairs = read_pairs(tmp_path)
    assert described(pairs) == [("image", name, True) for name in ("blue bar", "red bar")] * 2
    assert [pair.held_out for pair in pairs] == [True, True, False, False]


def test_columns_negatives_and_splits_are_read(tmp_path: Path) -> None:
    rows = [{"pic": "a.png", "said": "a cat", "negative": "a dog", "split": "test"}]
    with pytest.raises(InvalidInput, match="has the columns pic, said, negative, split, of which none"):
        read_pairs(rows)
    (pair,) = read_pairs(rows, {"pic": "first", "said": "second"})
    assert pair.negative is not None and pair.negative.load() == "a dog"
    assert pair.held_out is True and pair.label is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("image,text\n", "there is no pair in"),
        ("x.doc", "is no table, folder or archive"),
    ],
)
def test_a_source_without_pairs_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / ("x.doc" if content == "x.doc" else "pairs.csv")
    if content is not None:
        path.write_text(content)
    with pytest.raises(MediaNotFound if content is None else InvalidInput, match=message):
        read_pairs(path)


@pytest.mark.parametrize("name", ["broken.parquet", "broken.tar", "broken.jsonl"])
def test_an_unreadable_source_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"{ not this")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_pairs(tmp_path / name)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no pair in"):
        read_pairs(tmp_path)


def text_pairs(names: list[str], texts: list[str], *, label: bool = False) -> list[Pair]:
    return [Pair(mm.Text(a), mm.Text(b), label) for a, b in zip(names, texts, strict=True)]


def test_pairs_of_one_content_or_text_stay_on_one_side() -> None:
    pairs = text_pairs([f"i{n // 2}" for n in range(60)], [f"t{n % 50}" for n in range(60)])
    split = split_pairs(pairs, None, share=0.2, validation=0.1, seed=3)
    assert split.by_text
    parts = [split.train, split.validation, split.held_out]
    assert sum(map(len, parts)) == 60
    for side in ("first", "second"):
        contents = [{content_hash(getattr(pair, side)) for pair in part} for part in parts]
        assert (
            not contents[0] & contents[1] and not contents[0] & contents[2] and not contents[1] & contents[2]
        )


@pytest.mark.parametrize(("first", "is_new"), [(10, True), (0, False)])
def test_validation_texts_are_new_where_the_given_held_out_texts_are(first: int, is_new: bool) -> None:
    views = text_pairs([f"i{n}" for n in range(40)], [f"t{n % 10}" for n in range(40)])
    given = text_pairs([f"h{n}" for n in range(8)], [f"t{first + n}" for n in range(8)])
    split = split_pairs(views, given, share=0.0, validation=0.2, seed=0)
    trained = {str(pair.second.load()) for pair in split.train}
    assert split.by_text == is_new == trained.isdisjoint(str(pair.second.load()) for pair in split.validation)


def test_labelled_items_are_split_within_their_classes() -> None:
    pairs = text_pairs([f"i{n}" for n in range(60)], [f"class {n % 3}" for n in range(60)], label=True)
    split = split_pairs(pairs, None, share=0.2, validation=0.1, seed=0)
    assert not split.by_text
    assert {str(pair.second.load()) for pair in split.held_out} == {"class 0", "class 1", "class 2"}


def test_training_pairs_that_are_held_out_are_removed_and_counted() -> None:
    pairs = text_pairs([f"i{n}" for n in range(20)], [f"t{n}" for n in range(20)])
    split = split_pairs(pairs, pairs[:5] + pairs[3:4], share=0.2, validation=0.1, seed=0)
    assert (split.leaks, len(split.held_out), len(split.train) + len(split.validation)) == (5, 6, 15)


@pytest.mark.parametrize("n", [1, 7])
def test_too_few_pairs_are_refused(n: int) -> None:
    pairs = text_pairs([f"i{k}" for k in range(n)], [f"t{k}" for k in range(n)])
    with pytest.raises(InvalidInput, match=f"got {n} pairs?, and training needs at least 8"):
        split_pairs(pairs, None, share=0.2, validation=0.1, seed=0)


def test_copies_of_one_item_are_too_few() -> None:
    with pytest.raises(InvalidInput, match="since 1 of them differ in content"):
        split_pairs(text_pairs(["same"] * 20, ["t"] * 20), None, share=0.2, validation=0.1, seed=0)
