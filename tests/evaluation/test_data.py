"""Every source of evaluation data gives the same rows."""

import io
import json
import tarfile
from pathlib import Path

import PIL.Image
import pytest

from multimodal.core.errors import InvalidInput
from multimodal.core.modality import Modality
from multimodal.evaluation.data import Table, read_table

COLOURS = {"red": (255, 0, 0), "dark_blue": (0, 0, 90)}


def png(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def content(table: Table) -> list[tuple[tuple[int, ...], str | None]]:
    return sorted(
        (tuple(int(level) for level in row.items[Modality.IMAGE].load()[0, 0]), row.label)  # type: ignore[index]
        for row in table.rows
    )


EXPECTED = sorted((colour, name.replace("_", " ")) for name, colour in COLOURS.items())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "colours"
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        (root / name / "1.png").write_bytes(png(colour))
    (root / "red" / ".hidden").write_text("x")
    return root


def test_a_folder_of_classes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert content(read_table(folder)) == EXPECTED
    monkeypatch.chdir(folder.parent)
    assert content(read_table(folder.name)) == EXPECTED


@pytest.mark.parametrize("name", ["colours.csv", "colours.tsv", "colours.jsonl", "metadata.csv"])
def test_a_table_beside_the_files(folder: Path, name: str) -> None:
    rows = [(f"{colour}/1.png", colour.replace("_", " ")) for colour in COLOURS]
    if name.endswith("jsonl"):
        text = "\n".join(json.dumps({"image": path, "label": label}) for path, label in rows) + "\n\n"
    else:
        separator = "\t" if name.endswith("tsv") else ","
        lines = [("file_name" if name == "metadata.csv" else "image", "Label"), *rows]
        text = "".join(separator.join(line) + "\n" for line in lines)
    (folder / name).write_text(text, encoding="utf-8-sig")
    source = folder if name == "metadata.csv" else folder / name
    assert content(read_table(str(source))) == EXPECTED


def test_a_shard_of_webdataset(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for number, (name, colour) in enumerate(COLOURS.items()):
            for extension, data in (
                ("png", png(colour)),
                ("cls", name.replace("_", " ").encode()),
                ("txt", b"a colour"),
                ("json", b'{"group": 7, "other": 1}'),
                ("npy", b"ignored"),
            ):
                member = tarfile.TarInfo(f"part/{number:04d}.{extension}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    table = read_table(tmp_path / "shard.tar")
    assert content(table) == EXPECTED
    assert [(row.id, row.group) for row in table.rows] == [("0000", "7"), ("0001", "7")]
    assert [row.items[Modality.TEXT].load() for row in table.rows] == ["a colour"] * 2


def test_a_data_set_of_hugging_face_in_memory_and_saved(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=[name.replace("_", " ") for name in COLOURS]),
        }
    )
    rows = {
        "image": [{"bytes": png(colour), "path": None} for colour in COLOURS.values()],
        "label": list(range(len(COLOURS))),
    }
    data = datasets.Dataset.from_dict(rows, features=features)
    assert content(read_table(data)) == EXPECTED
    data.save_to_disk(str(tmp_path / "saved"))
    assert content(read_table(tmp_path / "saved")) == EXPECTED


def test_columns_of_other_names_are_named(folder: Path) -> None:
    rows = [{"photo": str(folder / "red" / "1.png"), "species": 3.0, "camera": "a"}]
    table = read_table(rows, columns={"image": "photo", "label": "species"}, group="camera")
    assert (table.rows[0].label, table.rows[0].group, table.modalities) == ("3", "a", ["image"])


def test_unreadable_rows_are_listed_and_the_rest_is_read(folder: Path) -> None:
    rows = [{"image": str(folder / "red" / "1.png")}, {"image": "absent.png"}]
    table = read_table(rows)
    assert len(table.rows) == 1
    assert table.problems[0][0] == "row 1"
    with pytest.raises(InvalidInput, match="no row could be read"):
        read_table(rows[1:])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", "{]", "line 1: not JSON"),
        ("a.jsonl", "[1]", "expected an object, got list"),
        ("a.xlsx", "", "data is a folder, a .csv"),
        ("a.csv", "image,label\n", "has no rows"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_table(tmp_path / name)


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="has no sub-folders"):
        read_table(tmp_path)


def test_a_table_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "binary.csv"
    file.write_bytes(b"\xff\xfe\x01")
    with pytest.raises(InvalidInput, match=r"binary\.csv cannot be read .*tables are text in UTF-8"):
        read_table(file)
