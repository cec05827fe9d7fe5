"""Documents that cannot be read: one failure each, with the cure, and the others are added."""

from __future__ import annotations

import builtins
import functools
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.errors import MediaError
from multimodal.index import Index, IngestConfig
from multimodal.index.ingest.documents import kinds, safe_zip
from multimodal.index.ingest.documents.part import ReadOptions
from tests.index.ingest.documents import writers

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)


def _encrypted(path: Path) -> None:
    writers.pdf(path, ["Secret words on a page"], password="open sesame")


def _cut(path: Path) -> None:
    writers.word(path, ["words"] * 50)
    path.write_bytes(path.read_bytes()[:5000])


def _entities(path: Path) -> None:
    bomb = (
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><w:document xmlns:w="w"><w:p/></w:document>'
    )
    writers.archive(path, {"word/document.xml": bomb})


def _bomb(path: Path) -> None:
    writers.archive(path, {"word/document.xml": bytes(64 << 20)})


CASES: list[tuple[str, Callable[[Path], Any], str]] = [
    ("enc.pdf", _encrypted, "is encrypted with a password; save it without one"),
    ("bad.pdf", lambda path: path.write_bytes(b"%PDF-1.7\nnothing"), "cannot be read as PDF"),
    ("none.docx", lambda path: writers.word(path, []), "holds no text"),
    ("cut.docx", _cut, "cannot be read as a zip archive"),
    ("entities.docx", _entities, "has a document type"),
    ("bomb.docx", _bomb, "as in an archive bomb"),
    ("lacks.docx", lambda path: writers.archive(path, {"a.xml": b"<a/>"}), "lacks 'word/document.xml'"),
    ("password.xlsx", lambda path: path.write_bytes(OLE), "is encrypted, or in a legacy format"),
    ("old.doc", lambda path: path.write_bytes(OLE), "legacy format of Office; save it as .docx"),
    ("empty.xlsx", lambda path: writers.workbook(path, {"a": []}), "holds no text"),
    ("empty.html", lambda path: path.write_bytes(b"<html><script>1</script></html>"), "holds no text"),
    ("empty.pdf", lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    ("bad.epub", lambda path: path.write_bytes(b"PK\x03\x04 no book"), "cannot be read as a zip archive"),
    ("no.eml", lambda path: path.write_bytes(b"\n\nno header"), "has no header of an e-mail"),
    ("no.py", lambda path: path.write_bytes(b"a = '\0'"), "is not text in UTF-8, UTF-16 or Latin-1"),
    ("no.srt", lambda path: path.write_bytes(b"no times"), "holds no text"),
]


@pytest.mark.parametrize(("name", "make", "reason"), CASES, ids=[case[0] for case in CASES])
def test_a_bad_document_is_one_failure_that_names_the_cure(
    index: Index, tmp_path: Path, name: str, make: Callable[[Path], Any], reason: str
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    make(folder / name)
    writers.word(folder / "good.docx", ["good"])
    report = index.add(folder)
    assert report.added == 1 and [row["text"] for row in index.rows()] == ["good"]
    (failure,) = report.failed
    assert reason in failure.reason and name in failure.uri


def test_a_pdf_has_a_limit_on_pages(index: Index, tmp_path: Path) -> None:
    path = writers.pdf(tmp_path / "a.pdf", ["words and more words"] * 12)
    (failure,) = index.add(path, config=IngestConfig(max_pages=11)).failed
    assert "has 12 pages, more than the limit of 11; split it, or raise max_pages" in failure.reason
    assert index.add(path, config=IngestConfig(max_pages=12)).added == 1 and len(index) == 12
    assert IngestConfig().max_pages == 10_000


def test_a_page_of_any_size_is_rendered_within_the_same_bound(tmp_path: Path) -> None:
    from reportlab.pdfgen import canvas

    for size in ((14_400, 14_400), (14_400, 3), (3, 14_400)):
        drawing = canvas.Canvas(str(tmp_path / "a.pdf"), pagesize=size)
        drawing.rect(0, 0, 1, 1)
        drawing.showPage()
        drawing.save()
        (part,) = kinds.PDF.read(tmp_path / "a.pdf", ReadOptions())
        assert part.image is not None and max(part.image.shape) <= 1025


@pytest.mark.parametrize("name", ["a.xlsx", "a.docx", "a.pdf", "a.html"])
def test_a_document_has_a_limit_on_its_text(index: Index, tmp_path: Path, name: str) -> None:
    lines = [f"Line {n} of a long document" for n in range(40)]
    path = tmp_path / name
    {
        "a.xlsx": lambda: writers.workbook(path, {"s": [[line] for line in lines]}),
        "a.docx": lambda: writers.word(path, lines),
        "a.pdf": lambda: writers.pdf(path, lines),
        "a.html": lambda: path.write_text("".join(f"<p>{line}</p>" for line in lines)),
    }[name]()
    (failure,) = index.add(path, config=IngestConfig(max_text_bytes=500)).failed
    assert (
        "text larger than 500 bytes; split it into several files, or raise max_text_bytes" in failure.reason
    )


def test_a_sheet_that_claims_a_million_empty_rows_yields_what_it_has(index: Index, tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active["A1"] = "first"
    book.active["A200000"] = "last"
    book.save(tmp_path / "a.xlsx")
    index.add(tmp_path / "a.xlsx")
    (row,) = index.rows()
    assert row["text"] == "first\nlast" and row["metadata"]["rows"] == "1-200000"


def test_a_missing_package_is_a_failure_of_each_file_that_names_the_extra(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    writers.pdf(folder / "a.pdf", ["words and more words"])
    writers.workbook(folder / "b.xlsx", {"s": [["cell"]]})
    (folder / "c.rtf").write_bytes(rb"{\rtf1 text}")
    (folder / "d.go").write_text("package a\n")
    writers.word(folder / "e.docx", ["needs nothing"])
    missing = ("pypdfium2", "openpyxl", "striprtf", "tree_sitter_language_pack")
    for name in [name for name in sys.modules if name.partition(".")[0] in missing]:
        monkeypatch.delitem(sys.modules, name)
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in missing:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    report = index.add(folder)
    assert report.added == 1 and {failure.stage for failure in report.failed} == {"read"}
    assert [failure.reason for failure in report.failed] == [
        f"{what} needs {package}: pip install 'multimodal[documents]'"
        for what, package in [
            ("reading PDF", "pypdfium2"), ("reading XLSX", "openpyxl"), ("reading RTF", "striprtf"),
            ("reading go", "tree-sitter-language-pack"),
        ]
    ]  # fmt: skip


MAKERS: dict[str, Callable[[Path], Path]] = {
    "a.pdf": lambda path: writers.pdf(path, ["Some words on a page", ""]),
    "a.docx": lambda path: writers.word(path, ["Some words"], [["a", "b"]]),
    "a.pptx": lambda path: writers.slides(path, ["One", "Two"], {1: "note"}),
    "a.xlsx": lambda path: writers.workbook(path, {"s": [["a", 1], ["b", 2]]}),
    "a.eml": lambda path: writers.mail(path, "Subject", "Body", {"x.txt": b"words"}),
}


@functools.cache
def document(name: str) -> bytes:
    """Made once: its length depends on the time it is written, and all examples of a test must draw alike."""
    with tempfile.TemporaryDirectory() as folder:
        return MAKERS[name](Path(folder) / name).read_bytes()


@pytest.mark.parametrize("name", sorted(MAKERS))
@settings(max_examples=12)
@given(data=st.data())
def test_a_document_damaged_anywhere_is_read_or_is_a_media_error(name: str, data: st.DataObject) -> None:
    content = bytearray(document(name))
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(8, len(content) - 1)) :]
    try:
        kind = kinds.kind_of(bytes(content), name)
        assert kind is not None
        for part in kind.read(bytes(content), ReadOptions()):
            part.text.encode()
    except MediaError as error:
        assert str(error)


@pytest.mark.parametrize("opening", ["<!--", "<!", "<?", "<![CDATA[", "<a ", "<a b='", "&", "</", "<script>"])
def test_html_that_never_ends_takes_linear_time(opening: str) -> None:
    import time

    content = (opening * (200_000 // len(opening))).encode()
    start = time.process_time()
    list(kinds.HTML.read(content, ReadOptions()))
    assert time.process_time() - start < 5


def test_a_member_that_decompresses_to_more_than_its_header_says_is_not_read_further(tmp_path: Path) -> None:
    path = writers.archive(tmp_path / "a.docx", {"word/document.xml": bytes(100_000)})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 10)  # the size in the directory
    with zipfile.ZipFile(_write(tmp_path / "b.docx", content)) as archive, pytest.raises(zipfile.BadZipFile):
        archive.read("word/document.xml")
    with pytest.raises(MediaError):
        list(kinds.DOCX.read(bytes(content), ReadOptions()))


def _write(path: Path, content: bytes | bytearray) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "..\\a", "C:\\a", "a/.."])
def test_names_that_lead_out_of_an_archive_are_recognised(name: str) -> None:
    assert safe_zip.is_outside(name)
    assert not safe_zip.is_outside("a/b..c/d.txt")
