"""Sources of documents (patterns, lists, tables, archives, data sets), and how long items are split."""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from multimodal.core.errors import InvalidInput, MediaNotFound
from multimodal.core.items import Audio, Text
from multimodal.core.modality import Waveform
from multimodal.core.space import Space
from multimodal.index import Index, IngestReport
from multimodal.index.ingest import chunking
from multimodal.index.ingest.document import stat_document
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.folders import walk
from multimodal.index.ingest.sources.record import SourceOptions, SourceRecord

Write = Callable[..., Path]


def by_id(index: Index) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in index.rows()}


def metadata(index: Index) -> dict[str, dict[str, Any]]:
    return {Path(row["id"]).name: row["metadata"] for row in index.rows()}


# --- folders, patterns, lists ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, image: Write, sound: Write) -> Path:
    root = tmp_path / "files"
    image(root / "a.png", (255, 0, 0))
    image(root / "deep" / "b.png", (0, 255, 0))
    image(root / ".hidden" / "c.png", (0, 0, 255))
    sound(root / "deep" / "bell.wav")
    (root / "note.txt").write_text("an apple", encoding="utf-8")
    return root


@pytest.mark.parametrize(("pattern", "names"), [
    ("*.png", {"a.png"}),
    ("**/*.png", {"a.png", "b.png"}),
    ("dee?", {"b.png", "bell.wav"}),  # a folder, with all that is in it
    ("**/[ab]*", {"a.png", "b.png", "bell.wav"}),
])  # fmt: skip
def test_a_pattern_adds_what_it_matches_without_hidden_files(
    index: Index, folder: Path, pattern: str, names: set[str]
) -> None:
    assert index.add(str(folder / pattern)).failed == ()
    assert {Path(id_).name for id_ in by_id(index)} == names


def test_a_pattern_that_matches_nothing_raises(index: Index, folder: Path) -> None:
    with pytest.raises(MediaNotFound) as caught:
        index.add(str(folder / "*.jpg"))
    assert str(caught.value) == (
        f"{folder}/*.jpg: nothing matches this pattern; check the path (to add a text, put it in a list: "
        f"['{folder}/*.jpg'])"
    )


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(
    index: Index, tmp_path: Path, image: Write
) -> None:
    image(tmp_path / "[1].png")
    image(tmp_path / "1.png")
    assert index.add(str(tmp_path / "[1].png")).added == 1
    assert [Path(id_).name for id_ in by_id(index)] == ["[1].png"]


def test_a_list_may_mix_folders_files_and_texts(
    index: Index, folder: Path, tmp_path: Path, image: Write
) -> None:
    other = image(tmp_path / "other.png", (1, 2, 3))
    report = index.add([(folder, {"from": "folder"}), other, "some words"], metadata={"album": "x"})
    assert report == IngestReport(6, 0)
    about = metadata(index)
    assert about["b.png"] == {"album": "x", "from": "folder"} and about["other.png"] == {"album": "x"}


@pytest.mark.parametrize(
    "name", ["new\nline.png", "x" * 246 + ".png", 'it\'s "é" ☃ #1.png', " .png", "tab\t.png"]
)
def test_unusual_file_names_are_kept(index: Index, tmp_path: Path, image: Write, name: str) -> None:
    path = image(tmp_path / "odd" / name)
    assert index.add(path.parent).added == 1
    (hit,) = index.search("1 0 0 0")
    assert hit.uri == hit.id == str(path) and Path(hit.uri).is_file()
    assert index.add(path.parent).unchanged == 1
    path.rename(path.with_name("plain.png"))
    assert index.sync(path.parent).moved == 1


def test_a_very_deep_folder_is_walked(index: Index, tmp_path: Path, image: Write) -> None:
    deep = tmp_path / "top"
    for _ in range(400):
        deep /= "d"
    deep.mkdir(parents=True)
    image(deep / "x.png")
    assert index.add(tmp_path / "top").added == 1


def test_a_link_to_itself_is_one_failure(index: Index, tmp_path: Path, image: Write) -> None:
    root = tmp_path / "links"
    image(root / "fine.png")
    (root / "me.png").symlink_to("me.png")
    (root / "there").symlink_to("back")
    (root / "back").symlink_to("there")
    (root / "up").symlink_to("..")
    report = index.add(root)
    assert report.added == 1 and sorted(Path(failure.uri).name for failure in report.failed) == [
        "back",
        "me.png",
        "there",
    ]
    assert all("Too many levels of symbolic links" in failure.reason for failure in report.failed)


def test_a_folder_without_permission_is_one_failure(image: Write) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch).resolve()
        root.chmod(0o755)
        inside = image(root / "closed" / "y.png")
        image(root / "open" / "x.png")
        (root / "closed").chmod(0)
        try:
            walked = _as_nobody(lambda: [str(getattr(path, "reason", path)) for path in walk(root)])
            named = _as_nobody(
                lambda: [record.name for record in resolve.records(str(inside), None, SourceOptions())]
            )  # type: ignore[union-attr]
            looked = _as_nobody(lambda: [type(stat_document(SourceRecord(inside, "y"))).__name__])
        finally:
            (root / "closed").chmod(0o755)
    assert walked == [
        f"{root}/closed: cannot be listed (Permission denied); check its permissions", f"{root}/open/x.png"
    ]  # fmt: skip
    assert named == [str(inside)] and looked == ["Document"]  # reported when it is opened


def _as_nobody(work: Callable[[], list[str]]) -> list[str]:
    """Runs `work` in a process without root privileges, to which permissions apply."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads, and the child starts none
        child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(write, json.dumps(work()).encode())
        except BaseException as error:
            os.write(write, json.dumps([repr(error)]).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    values: list[str] = json.loads(data)
    return values


# --- long sounds and texts ------------------------------------------------------------------------


def test_a_hit_in_long_audio_has_its_times(index: Index, space: Space, tmp_path: Path) -> None:
    rate = 8000
    samples = np.full(rate * 60, 0.1, np.float32)
    samples[rate * 33 : rate * 35] = 0.9
    path = tmp_path / "talk.wav"
    soundfile.write(path, samples, rate, subtype="FLOAT")
    assert index.add(path) == IngestReport(1, 0)
    rows = sorted(index.rows(vectors=True), key=lambda row: row["start_s"])
    spans = [(row["start_s"], row["end_s"]) for row in rows]
    assert spans == [(0, 10), (8, 18), (16, 26), (24, 34), (32, 42), (40, 50), (48, 58), (50, 60)]
    assert [row["id"] for row in rows] == [f"{path}#t={a:g}-{b:g}" for a, b in spans]
    assert {row["uri"] for row in rows} == {str(path)}
    for row in rows:
        window = samples[int(row["start_s"]) * rate : int(row["end_s"]) * rate]
        np.testing.assert_allclose(
            row["vector"], space.encode({"array": window, "sampling_rate": rate}), atol=1e-6
        )
    hit = index.search(Audio({"array": np.full(80, 0.9, np.float32), "sampling_rate": rate}), k=1)[0]
    assert hit.location in ("24 to 34 s", "32 to 42 s") or hit.start_s is not None
    assert hit.to_dict()["start_s"] == hit.start_s


@pytest.mark.parametrize("seconds", [0.3, 10, 15])
def test_audio_slightly_longer_than_a_window_stays_whole(
    index: Index, tmp_path: Path, seconds: float
) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.full(int(8000 * seconds), 0.25, np.float32), 8000)
    index.add(path)
    (row,) = index.rows()
    assert (row["id"], row["start_s"], row["end_s"]) == (str(path), None, None)


def test_windows_have_the_maximum_length_of_the_encoder(space: Space, index: Index, tmp_path: Path) -> None:
    space.encoders["audio"].max_input = 2.5  # type: ignore[index]
    soundfile.write(tmp_path / "x.wav", np.full(8000 * 6, 0.25, np.float32), 8000)
    index.add(tmp_path / "x.wav")
    assert sorted((row["start_s"], row["end_s"]) for row in index.rows()) == [(0, 2.5), (2, 4.5), (3.5, 6)]
    assert f"{tmp_path}/x.wav#t=2-4.5" in by_id(index)


@given(st.integers(1, 3000), st.sampled_from([1.0, 2.5, 10.0]), st.sampled_from([10, 100]), st.data())
def test_windows_cover_the_audio_whatever_its_blocks(n: int, window_s: float, rate: int, data: Any) -> None:
    samples = np.arange(n, dtype=np.float32)

    def blocks() -> Iterator[Waveform]:
        at = 0
        while at < n:
            size = data.draw(st.integers(1, 700))
            yield Waveform(samples[at : at + size], rate)
            at += size

    windows = list(chunking.windows(blocks(), window_s))
    if n / rate <= 1.5 * window_s:
        ((whole, start, end),) = windows
        assert start is None and end is None and np.array_equal(whole.samples, samples)
        return
    window, hop = round(window_s * rate), round(0.8 * window_s * rate)
    starts = list(range(0, n - window + 1, hop))
    starts += [n - window] * (starts[-1] + window < n)
    assert [round((start or 0) * rate) for _, start, _ in windows] == starts
    for (wave, _, _), start in zip(windows, starts, strict=True):
        assert np.array_equal(wave.samples, samples[start : start + window])


BOOK = "\n\n".join(f"Chapter {n}. " + "An apple fell. A bird flew by! " * 12 for n in range(9))


def test_a_hit_in_a_long_text_has_its_characters(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text(BOOK, encoding="utf-8")
    assert index.add(path) == IngestReport(1, 0)
    rows = sorted(index.rows(), key=lambda row: row["start_char"])
    assert len(rows) > 9 and [row["id"] for row in rows] == [f"{path}#chunk={n}" for n in range(len(rows))]
    for row in rows:
        assert BOOK[row["start_char"] : row["end_char"]] == row["text"] and len(row["text"]) <= 300
        assert row["text"][-1] in ".!"  # no sentence is cut
    hit = index.search(rows[4]["text"], k=1)[0]
    assert hit.uri == str(path) and hit.location == f"characters {hit.start_char:,} to {hit.end_char:,}"


def test_a_text_given_by_itself_is_not_split(index: Index) -> None:
    index.add([BOOK, Text(BOOK, uri="book:1")])
    assert {row["text"] for row in index.rows()} == {BOOK} and len(index) == 2


@given(st.text(alphabet="ab .\n。!\t", max_size=300), st.integers(1, 40))
def test_passages_hold_every_character_once_and_none_is_too_long(text: str, size: int) -> None:
    last = 0
    for start, end in chunking.passages(text, size):
        assert last <= start < end <= start + size and not text[last:start].strip()
        last = end
    assert not text[last:].strip()


# --- tables ---------------------------------------------------------------------------------------

ROWS = [
    {"file": "a.png", "title": "Red, \"very\"", "year": 2001, "good": True, "note": ""},
    {"file": "deep/b.png", "title": "it's\ngreen", "year": 1999, "good": False, "note": "007"},
]  # fmt: skip
KEPT = {
    "a.png": {"title": 'Red, "very"', "year": 2001, "good": True},
    "b.png": {"title": "it's\ngreen", "year": 1999, "good": False, "note": "007"},
}


def table(folder: Path, kind: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"list.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(
                {k: json.dumps(v) if isinstance(v, bool) else v for k, v in row.items()} for row in rows
            )
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_adds_files_with_metadata(index: Index, folder: Path, kind: str) -> None:
    report = index.add(table(folder, kind, ROWS), metadata={"album": "x"})
    assert report == IngestReport(2, 0)
    stored = metadata(index)
    wanted = {name: about | {"album": "x"} for name, about in KEPT.items()}
    if kind not in ("csv", "tsv"):  # which cannot tell an empty text from none
        wanted["a.png"]["note"] = ""
    assert stored == wanted
    assert set(by_id(index)) == {str(folder / "a.png"), str(folder / "deep" / "b.png")}
    assert index.add(folder / f"list.{kind}", metadata={"album": "x"}) == IngestReport(0, 0, unchanged=2)
    assert [Path(hit.uri or "").name for hit in index.search("1 1 1 1", where={"year": {"<": 2000}})] == [
        "b.png"
    ]


def test_columns_assign_roles_that_names_do_not(index: Index, folder: Path) -> None:
    rows = [{"where": row["file"], "number": f"n{n}", "title": row["title"]} for n, row in enumerate(ROWS)]
    path = table(folder, "csv", rows)
    with pytest.raises(InvalidInput) as caught:
        index.add(path)
    assert str(caught.value) == (
        f"{path}: no column is known to hold files or texts; it has 'where', 'number', 'title': name it "
        "with columns={'path': ...} or columns={'text': ...}"
    )
    for columns, message in (
        ({"file": "where"}, "columns must say which is the 'path' or 'text' or 'id', got 'file'"),
        ({"path": "none"}, f"{path}: has no column 'none' for 'path'; it has 'where', 'number', 'title'"),
    ):
        with pytest.raises(InvalidInput) as caught:
            index.add(path, columns=columns)
        assert str(caught.value) == message
    assert len(index) == 0
    assert index.add(path, columns={"path": "where", "id": "number"}).added == 2
    assert {id_: row["metadata"] for id_, row in by_id(index).items()} == {
        "n0": {"title": ROWS[0]["title"]}, "n1": {"title": ROWS[1]["title"]},
    }  # fmt: skip
    index.delete(["n0", "n1"])
    assert index.add(path, columns={"text": "title"}).added == 2
    assert {id_: row["text"] for id_, row in by_id(index).items()} == {
        f"{path}#row=1": ROWS[0]["title"], f"{path}#row=2": ROWS[1]["title"],
    }  # fmt: skip


def test_a_long_text_in_a_table_is_split(index: Index, tmp_path: Path) -> None:
    path = table(tmp_path, "jsonl", [{"text": BOOK, "year": 1}, {"text": "short", "year": 2}])
    assert index.add(path) == IngestReport(2, 0)
    rows = by_id(index)
    assert f"{path}#row=1#chunk=3" in rows and rows[f"{path}#row=2"]["text"] == "short"
    assert {row["metadata"]["year"] for row in rows.values()} == {1, 2}


def test_a_bad_row_is_one_failure_and_can_be_retried(index: Index, folder: Path) -> None:
    rows = [
        {"path": name, "year": 1}
        for name in ("a.png", "", "none.png", "https://example.org/x.png", "deep/b.png")
    ]
    path = table(folder, "csv", rows)
    report = index.add(path)
    assert report.added == 2
    assert {failure.uri: failure.reason for failure in report.failed} == {
        f"{path}#row=2": f"{path}#row=2: the path is empty; there is nothing to index",
        str(folder / "none.png"): f"{folder}/none.png: no such file; check the path",
        f"{path}#row=4": f"{path}#row=4: 'https://example.org/x.png' is a URL, not a local file; download it first",
    }  # fmt: skip
    (folder / "none.png").write_bytes((folder / "a.png").read_bytes())
    retried = index.retry_failed()
    assert (retried.added, len(retried.failed)) == (1, 2) and len(index.failures()) == 2
    assert metadata(index)["none.png"] == {"year": 1}


@pytest.mark.parametrize(("name", "content", "reason"), [
    ("x.csv", b"path,a\n", "has no rows; there is nothing to index"),
    ("x.csv", b"", "has no rows; there is nothing to index"),
    ("x.csv", b'"path,a\nx.png,1\n', "cannot be read as a table (its header cannot be read: line 1 holds a quote"),
    ("x.parquet", b"PAR1 not really", "cannot be read as a table (Parquet magic bytes not found"),
])  # fmt: skip
def test_an_unreadable_table_is_a_failure(
    index: Index, tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (failed,) = index.add(tmp_path / name).failed
    assert failed.stage == "read" and failed.reason.startswith(f"{tmp_path}/{name}: {reason}"), failed.reason


def test_a_truncated_line_is_one_failure_and_can_be_retried(index: Index, folder: Path) -> None:
    path = folder / "list.jsonl"
    path.write_text('{"path": "a.png"}\n{"path": "deep/b.png"}\n{"pa', encoding="utf-8")
    report = index.add(path)
    assert report.added == 2 and report.failed[0].reason.startswith(f"{path}#row=3: line 3 is not valid JSON")
    path.write_text('{"path": "a.png"}\n{"path": "deep/b.png"}\n{"path": "note.txt"}\n', encoding="utf-8")
    assert index.retry_failed() == IngestReport(1, 0) and index.failures() == ()


def test_cells_of_other_types_are_converted_to_metadata(index: Index, folder: Path) -> None:
    row = {
        "path": "a.png", "day": date(2020, 1, 2), "tags": ["x", "é"], "size": {"w": 1}, "big": 2**60, "none": None,
        "nan": float("nan"), "half": np.float32(0.5),
    }  # fmt: skip
    index.add(table(folder, "parquet", [row]))
    assert metadata(index)["a.png"] == {
        "day": "2020-01-02", "tags": '["x", "é"]', "size": '{"w": 1}', "big": str(2**60), "half": 0.5,
    }  # fmt: skip


def test_media_may_be_in_the_table_itself(index: Index, folder: Path) -> None:
    red = (folder / "a.png").read_bytes()
    rows = [
        {"image": {"bytes": red, "path": "a.png"}, "n": 1},
        {"image": {"bytes": None, "path": "deep/b.png"}, "n": 2},
    ]
    path = table(folder, "parquet", rows)
    assert index.add(path) == IngestReport(2, 0)
    assert {id_: (row["modality"], row["metadata"]) for id_, row in by_id(index).items()} == {
        f"{path}#row=1": ("image", {"n": 1}), str(folder / "deep" / "b.png"): ("image", {"n": 2}),
    }  # fmt: skip
    assert index.add(path) == IngestReport(0, 0, unchanged=2)


# --- archives -------------------------------------------------------------------------------------


def archive(path: Path, members: dict[str, bytes]) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 6), colour).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz", "s.tar.bz2", "s.tar.xz"])
def test_an_archive_adds_samples_with_texts_and_values_as_metadata(
    index: Index, tmp_path: Path, name: str
) -> None:
    path = archive(tmp_path / name, {
        "a/0001.png": png((255, 0, 0)), "a/0001.txt": b" a red thing \n",
        "a/0001.json": json.dumps({"year": 2001, "tags": ["x"]}).encode(), "a/0001.npy": b"\x93NUMPY",
        "a/0002.png": png((0, 255, 0)), "a/0002.seg.png": png((0, 0, 0)), "a/0002.cls": b"7",
        "a/0003.txt": b"only words", "a/.hidden.png": png((1, 1, 1)),
    })  # fmt: skip
    report = index.add(path, metadata={"album": "x"})
    assert report == IngestReport(4, 0)
    assert {id_.removeprefix(f"{path}#"): row["metadata"] for id_, row in by_id(index).items()} == {
        "a/0001.png": {
            "album": "x",
            "key": "a/0001",
            "caption": "a red thing",
            "year": 2001,
            "tags": '["x"]',
        },
        "a/0002.png": {"album": "x", "key": "a/0002", "cls": "7"},
        "a/0002.seg.png": {"album": "x", "key": "a/0002", "cls": "7"},
        "a/0003.txt": {"album": "x", "key": "a/0003"},
    }
    assert all(row["uri"] == id_ for id_, row in by_id(index).items())
    assert index.add(path, metadata={"album": "x"}) == IngestReport(0, 0, unchanged=4)


def test_a_bad_member_is_one_failure_and_can_be_retried(index: Index, tmp_path: Path) -> None:
    members = {
        "1.png": png((255, 0, 0)),
        "2.png": png((0, 255, 0))[:50],
        "3.jpg": b"words",
        "4.png": png((0, 0, 255)),
    }
    path = archive(tmp_path / "s.tar", members)
    report = index.add(path)
    assert report.added == 2
    assert [(failure.uri.removeprefix(str(path)), failure.stage) for failure in report.failed] == [
        ("#2.png", "decode"),
        ("#3.jpg", "read"),
    ]
    archive(path, members | {"2.png": png((9, 9, 9))})
    retried = index.retry_failed()
    assert (retried.added, retried.updated, len(retried.failed)) == (1, 0, 1)
    assert metadata(index)["s.tar#2.png"] == {"key": "2"}


@pytest.mark.parametrize("keep", [0.75, 0.3])
def test_a_truncated_archive_yields_the_samples_before(index: Index, tmp_path: Path, keep: float) -> None:
    members = {f"{n}.png": png((n, 0, 0)) for n in range(40)}
    path = archive(tmp_path / "s.tar", members)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * 40 * 1024) + 100])
    report = index.add(path)
    assert report.added == int(keep * 40)
    (failed,) = report.failed
    assert failed.uri == str(path)
    assert failed.reason.startswith(f"{path}: cannot be read beyond ")
    assert failed.reason.endswith("copy or download the archive again")
    path.write_bytes(whole)
    again = index.retry_failed()
    assert again.added == 40 - int(keep * 40) and len(index) == 40 and index.failures() == ()


def test_an_invalid_archive_is_a_failure(index: Index, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("not at all", encoding="utf-8")
    (failed,) = index.add(tmp_path / "x.tar").failed
    assert failed.reason.startswith(f"{tmp_path}/x.tar: cannot be read beyond 0 members (")


def test_in_a_folder_tables_are_texts_and_tar_archives_are_skipped(index: Index, folder: Path) -> None:
    archive(folder / "s.tar", {"1.png": png((1, 1, 1))})
    table(folder, "csv", ROWS)
    report = index.add(folder)
    assert (report.added, report.skipped, report.failed) == (5, {".tar": 1}, ())


# --- data sets ------------------------------------------------------------------------------------


class Feature:
    """A feature as in the library `datasets`, recognised by the name of its class."""


Image_ = type("Image", (Feature,), {})
Sound_ = type("Audio", (Feature,), {})


class Label(Feature):
    def int2str(self, value: int) -> str:
        return ["cat", "dog"][value]


class Rows:
    """Stands for a data set: features, and rows as dicts."""

    def __init__(self, rows: list[dict[str, Any]], features: dict[str, Any] | None) -> None:
        self.rows, self.features, self.num_rows = rows, features, len(rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


def test_a_data_set_adds_media_with_the_other_columns_as_metadata(index: Index) -> None:
    rows = [
        {
            "image": PIL.Image.new("RGB", (4, 4), (255 * n, 0, 9)),
            "label": n,
            "caption": f"thing {n}",
            "k": f"k{n}",
        }
        for n in range(2)
    ]
    for features in ({"image": Image_(), "label": Label(), "caption": None, "k": None}, None):
        index.add(Rows(rows, features), columns={"id": "k"})
        assert {id_: row["metadata"] for id_, row in by_id(index).items()} == {
            "k0": {"label": "cat" if features else 0, "caption": "thing 0"},
            "k1": {"label": "dog" if features else 1, "caption": "thing 1"},
        }
    assert index.add(Rows(rows, None), columns={"id": "k"}) == IngestReport(0, 0, unchanged=2)
    assert index.add(Rows(rows, None)).added == 2  # by their content


def test_audio_cells_may_be_arrays_decoders_or_bytes(index: Index, tmp_path: Path, sound: Write) -> None:
    wave = np.linspace(0, 0.5, 800, dtype=np.float32)

    class Samples:
        sample_rate = 8000

        class data:
            @staticmethod
            def numpy() -> Any:
                return wave[None]

    class Decoder:
        def get_all_samples(self) -> Samples:
            return Samples()

    data = sound(tmp_path / "x.wav").read_bytes()
    rows = [
        {"audio": value}
        for value in ({"array": wave, "sampling_rate": 8000}, Decoder(), {"bytes": data, "path": None})
    ]
    for features in ({"audio": Sound_()}, None):
        report = index.add(Rows(rows, features))
        assert report.failed == () and len(index) == 2  # the first two are the same
    bad = index.add(Rows([{"audio": None}, rows[0]], {"audio": Sound_()}))
    assert (bad.unchanged, [(failure.uri, failure.reason) for failure in bad.failed]) == (
        1, [("row 0", "row 0: the path is empty; there is nothing to index")],
    )  # fmt: skip


def test_a_data_set_without_media_adds_its_texts(index: Index) -> None:
    assert (
        index.add(Rows([{"text": "a b", "n": 1}, {"text": BOOK, "n": 2}], {"text": None, "n": None})).added
        == 2
    )
    assert {row["metadata"]["n"] for row in index.rows()} == {1, 2} and len(index) > 9


def test_a_mapping_of_splits_is_refused(index: Index) -> None:
    data_set = Rows([{"x": 1}], {"x": None})
    for source, options, message in (
        ({"train": data_set, "test": data_set}, {},
         "got a data set with the splits train, test; pass one of them, such as dataset['train']"),
        (Rows([], {}), {}, "the data set has no rows; there is nothing to index"),
        (data_set, {"ids": ["a"]},
         "ids are given for a data set: name the column that holds them, columns={'id': ...}"),
        (data_set, {}, "the data set: no column is known to hold files or texts; it has 'x': name it with "
                  "columns={'path': ...} or columns={'text': ...}"),
    ):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            index.add(source, **options)  # type: ignore[arg-type]
        assert str(caught.value) == message


@pytest.mark.filterwarnings("default")
def test_data_sets_of_the_library_are_read(index: Index) -> None:
    datasets = pytest.importorskip("datasets")
    images = [PIL.Image.new("RGB", (4, 4), (60 * n, 0, 9)) for n in range(4)]
    features = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=["cat", "dog"]),
        "text": datasets.Value("string"),
    }
    columns = {"image": images, "label": [0, 1, 0, 1], "text": ["a", "b", "c", "d"]}
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    assert index.add(made) == IngestReport(4, 0)
    assert sorted((row["metadata"]["label"], row["metadata"]["text"]) for row in index.rows()) == [
        ("cat", "a"), ("cat", "c"), ("dog", "b"), ("dog", "d"),
    ]  # fmt: skip
    assert index.add(made.to_iterable_dataset()) == IngestReport(0, 0, unchanged=4)
    with pytest.raises(InvalidInput, match="got a data set with the splits train"):
        index.add(datasets.DatasetDict({"train": made}))
    assert index.add(made.remove_columns(["image", "label"])) == IngestReport(4, 0)
