"""Documents: each kind is read in parts, and a hit says which part it is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multimodal.core.media import registry
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index import html as index_html
from tests.index.ingest.documents import writers

RTF = (
    r"{\rtf1\ansi\ansicpg1252\deff0{\fonttbl{\f0\fswiss Arial;}}{\*\generator Riched20 10.0}"
    r"\pard\f0 A \b bold\b0  caf\'e9\par}"
)
HTML = (
    "<!DOCTYPE html><html><head><meta charset='iso-8859-1'><title>A café</title>"
    "<script>if (a < b) { write('<p>not shown</p>') }</script><style>p { color: red }</style></head>"
    "<body><!-- nor this --><p>First<br>second &amp; third</p><noscript>off</noscript><ul><li>one<li>two</ul></body>"
)
SRT = "1\n00:00:01,000 --> 00:00:02,500\nHello <i>there</i>\n\n2\n00:01:00,000 --> 00:01:02,000\nBye\n"


def parts(index: Index) -> dict[str, dict[str, Any]]:
    """Stored rows by the fragment of their ids."""
    return {row["id"].partition("#")[2]: row for row in index.rows()}


def texts(index: Index) -> list[str]:
    return [row["text"] for row in sorted(index.rows(), key=lambda row: row["id"])]


def test_each_page_of_a_pdf_is_a_part_that_names_its_page(index: Index, tmp_path: Path) -> None:
    pages = ["The first page has some words", "", "The third page has some as well"]
    assert str(index.add(writers.pdf(tmp_path / "a.pdf", pages))) == "1 added, 0 updated, 0 failed"
    stored = parts(index)
    assert [stored[f"page={n}"]["text"] for n in (1, 3)] == [pages[0], pages[2]]
    assert stored["page=2"]["modality"] == "image" and stored["page=2"]["text"] is None
    assert [stored[f"page={n}"]["metadata"] for n in (1, 2, 3)] == [{"page": 1}, {"page": 2}, {"page": 3}]
    hits = index.search("b", where={"page": 3})
    assert [hit.location for hit in hits] == ["page 3"]


def test_an_image_of_a_page_is_encoded_as_the_page_looks(index: Index, tmp_path: Path) -> None:
    index.add(writers.pdf(tmp_path / "a.pdf", [""]))  # all red
    (hit,) = index.search("1 0 0 0.25", k=1)
    assert hit.modality == "image" and hit.score == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("pages", "modalities"), [
    ("auto", ["text", "image"]), ("text", ["text"]), ("image", ["image", "image"]),
])  # fmt: skip
def test_pages_says_how_pages_are_indexed(
    index: Index, tmp_path: Path, pages: Any, modalities: list[str]
) -> None:
    writers.pdf(tmp_path / "a.pdf", ["A page with words enough", ""])
    index.add(tmp_path / "a.pdf", pages=pages)
    stored = sorted(index.rows(), key=lambda row: row["id"])
    assert [row["modality"] for row in stored] == modalities
    assert stored[0]["text"] == "A page with words enough"  # for keyword search, also beside an image


def test_without_an_encoder_of_images_pages_are_text(space: Space, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i.lance", space.select("text"))
    report = index.add([writers.pdf(tmp_path / "a.pdf", ["ab"]), writers.scan(tmp_path / "b.pdf")])
    assert report.added == 1 and texts(index) == ["ab"]
    assert "holds no text" in report.failed[0].reason


def test_without_an_encoder_of_text_pages_are_images(space: Space, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i.lance", space.select("image"))
    report = index.add(
        [writers.pdf(tmp_path / "a.pdf", ["A page with words enough"]), _text(tmp_path / "a.html")]
    )
    assert [row["modality"] for row in index.rows()] == ["image"]
    assert "text" in report.failed[0].reason


def _text(path: Path, content: str = "<p>words</p>") -> Path:
    path.write_text(content, encoding="utf-8")
    return path


def test_the_image_of_a_page_is_shown_for_its_hit(index: Index, tmp_path: Path) -> None:
    index.add(writers.pdf(tmp_path / "a.pdf", ["A page with words enough", ""]))
    hits = index.search("1 0 0 0.25", modality="image", k=1)
    item = registry.open_excerpt(tmp_path / "a.pdf", registry.Excerpt(Modality.IMAGE, fragment="page=2"))
    assert item is not None and item.load().mean(axis=(0, 1)).tolist() == pytest.approx([255, 0, 0], abs=1)
    assert "<img" in index_html.hits_html(hits) and "page 2" in index_html.hits_html(hits)


def test_a_docx_yields_paragraphs_tables_and_headers(index: Index, tmp_path: Path) -> None:
    index.add(writers.word(tmp_path / "a.docx", ["One.", "Two."], [["a", "b"], ["c", ""]], "Secret"))
    assert texts(index) == ["One.\n\nTwo.\n\na | b\nc\n\nSecret"]


def test_a_long_docx_is_split_into_passages(index: Index, tmp_path: Path) -> None:
    index.add(writers.word(tmp_path / "a.docx", [f"Paragraph {n} says this." for n in range(60)]))
    fragments = sorted(parts(index), key=lambda fragment: int(fragment.removeprefix("chunk=")))
    assert fragments == [f"chunk={n}" for n in range(len(fragments))] and len(fragments) > 3


def test_each_slide_is_a_part_with_its_notes(index: Index, tmp_path: Path) -> None:
    index.add(writers.slides(tmp_path / "a.pptx", ["Start", "Middle", "End"], {2: "say this"}))
    stored = parts(index)
    assert [stored[f"slide={n}"]["text"] for n in (1, 2, 3)] == ["Start", "Middle\n\nsay this", "End"]
    assert stored["slide=3"]["metadata"] == {"slide": 3}


def test_rows_of_a_sheet_are_grouped_and_named(index: Index, tmp_path: Path) -> None:
    rows = [["day", "sum"], [writers.DAY, 1.5], [None, None], ["total", 3.0]]
    index.add(writers.workbook(tmp_path / "a.xlsx", {"Q1 & Q2 = #1": rows, "empty": []}))
    (row,) = index.rows()
    assert row["text"] == "day | sum\n2026-03-01 | 1.5\ntotal | 3"
    assert row["metadata"] == {"sheet": "Q1 & Q2 = #1", "rows": "1-4"}
    assert index.search("d")[0].location == "sheet Q1 & Q2 = #1, rows 1 to 4"


def test_a_long_sheet_is_cut_between_rows(index: Index, tmp_path: Path) -> None:
    index.add(writers.workbook(tmp_path / "a.xlsx", {"s": [[f"name {n}", n] for n in range(100)]}))
    spans = sorted(tuple(map(int, row["metadata"]["rows"].split("-"))) for row in index.rows())
    assert len(spans) > 2 and spans[0][0] == 1 and spans[-1][1] == 100
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(spans))


def test_each_chapter_of_an_epub_is_a_part(index: Index) -> None:
    index.add(writers.FILES / "book.epub")  # written by EbookLib; its first chapter is the table of contents
    stored = parts(index)
    assert {fragment: row["text"].split("\n")[-1] for fragment, row in stored.items()} == {
        "chapter=2": "Once upon a time.", "chapter=3": "They lived happily ever after.",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "content", "expected"), [
    ("a.rtf", RTF.encode(), "A bold café\n"),
    ("a.html", HTML.encode("latin-1"), "A café\n\nFirst\nsecond & third\n\none\ntwo"),
    ("a.htm", b"\xff\xfe" + "<p>ü</p>".encode("utf-16-le"), "ü"),
    ("a.md", b"# Title\n\n*text*", "# Title\n\n*text*"),
    ("README", b"read me", "read me"),
    ("a.rst", b"Title\n=====", "Title\n====="),
    ("a.log", "Gr\u00fc\u00dfe".encode("utf-16"), "Gr\u00fc\u00dfe"),
])  # fmt: skip
def test_markup_and_text_are_read_as_text(
    index: Index, tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert index.add(tmp_path / name).failed == ()
    assert texts(index) == [expected]


def test_latin_1_text_is_read_with_a_warning(index: Index, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Smørrebrød på fransk: “très bien”".encode("cp1252"))
    with pytest.warns(UserWarning, match=r"a\.txt: not valid UTF-8, so read as Latin-1"):
        index.add(tmp_path / "a.txt")
    assert texts(index) == ["Smørrebrød på fransk: “très bien”"]


@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_subtitles_alone_are_passages_with_times(index: Index, tmp_path: Path, name: str) -> None:
    content = SRT if name == "a.srt" else "WEBVTT\n\n" + SRT.replace(",", ".")
    (tmp_path / name).write_text(content, encoding="utf-8")
    index.add(tmp_path / name)
    (row,) = index.rows()
    assert (row["text"], row["start_s"], row["end_s"]) == ("Hello there Bye", 1.0, 62.0)


def test_an_e_mail_is_its_headers_its_body_and_its_attachments(index: Index, tmp_path: Path) -> None:
    attached = writers.pdf(tmp_path / "offer.pdf", ["An offer of forty boxes"]).read_bytes()
    path = writers.mail(tmp_path / "m.eml", "Grüße", "Hello Bob", {"../offer.pdf": attached, "x.bin": b"\0"})
    report = index.add(path)
    assert (report.added, report.skipped, report.failed) == (2, {".bin": 1}, ())
    stored = parts(index)
    assert stored[""]["text"].startswith(
        "Subject: Grüße\nFrom: ada@example.org\nTo: bob@example.org\n\nHello Bob"
    )
    assert stored[""]["text"].endswith("Attachment: offer.pdf\nAttachment: x.bin")
    assert stored["offer.pdf#page=1"]["text"] == "An offer of forty boxes"


def test_an_e_mail_without_plain_text_is_read_from_its_html(index: Index, tmp_path: Path) -> None:
    (tmp_path / "m.eml").write_bytes(
        b"Subject: =?utf-8?q?caf=C3=A9?=\r\nContent-Type: text/html; charset=nonsense\r\n\r\n<p>one<p>t\xe9"
    )
    index.add(tmp_path / "m.eml")
    assert texts(index) == ["Subject: café\n\none\n\nté"]


@pytest.mark.parametrize("make", [
    lambda path: writers.pdf(path, ["Some words on a page"]),
    lambda path: writers.word(path, ["Some words on a page"]),
])  # fmt: skip
def test_the_content_tells_the_kind_whatever_the_name(
    index: Index, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    for name in ("a.bin", "b.txt", "c"):
        assert index.add(make(tmp_path / name)).added == 1
    assert {row["text"] for row in index.rows()} == {"Some words on a page"}


def test_an_unchanged_document_is_not_read_again_and_a_moved_one_keeps_its_parts(
    index: Index, tmp_path: Path
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    writers.pdf(folder / "a.pdf", ["A page with words enough", "Another page with words"])
    assert index.sync(folder, metadata={"year": 2026}).added == 1
    assert index.sync(folder).unchanged == 1
    (folder / "a.pdf").rename(folder / "b.pdf")
    assert index.sync(folder).moved == 1
    assert {row["id"]: row["metadata"] for row in index.rows()} == {
        f"{folder}/b.pdf#page=1": {"year": 2026, "page": 1},
        f"{folder}/b.pdf#page=2": {"year": 2026, "page": 2},
    }  # fmt: skip
    assert index.add(folder, metadata={"year": 2027}).updated == 1
    assert {row["metadata"]["page"]: row["metadata"]["year"] for row in index.rows()} == {1: 2027, 2: 2027}
