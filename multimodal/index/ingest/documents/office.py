"""Text of office documents that are zip archives of XML: DOCX, PPTX, and OpenDocument texts, slides and tables."""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

from multimodal.index.ingest.documents.part import Part, ReadOptions, Source, tidy
from multimodal.index.ingest.documents.safe_zip import attribute, feed_member, open_document
from multimodal.index.ingest.documents.text import too_large

WORD_BODY = "word/document.xml"
# In the order in which they are read; comments and headers are text of the document too
WORD_PARTS = re.compile(r"word/(?:footnotes|endnotes|comments|header\d*|footer\d*)\.xml")
EMPTY_CELLS = re.compile(r"(?: *\|)+ *$", re.MULTILINE)  # at the end of a row
PRESENTATION = "ppt/presentation.xml"
OPEN_DOCUMENT = "content.xml"


class TextTarget:
    """Collects the text of Office Open XML: runs `t`, tabs, breaks, and paragraphs `p`.

    Alternative content repeats its text for older readers in `Fallback`, which is left out, as is deleted text.
    """

    def __init__(self, name: str, max_chars: int) -> None:
        self._name, self._max_chars = name, max_chars
        self._pieces: list[str] = []
        self._n_chars = 0
        self._in_run = False
        self._n_fallbacks = self._n_rows = 0

    @property
    def text(self) -> str:
        return tidy(EMPTY_CELLS.sub("", "".join(self._pieces)))

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "Fallback":
            self._n_fallbacks += 1
        elif tag == "t":
            self._in_run = True
        elif tag == "tab":
            self._push("\t")
        elif tag in ("br", "cr"):
            self._push("\n")
        elif tag == "tr":
            self._n_rows += 1

    def end(self, tag: str) -> None:
        if tag == "Fallback":
            self._n_fallbacks -= 1
        elif tag == "t":
            self._in_run = False
        elif tag == "p":  # the paragraphs of a row of a table are its cells
            self._push(" | " if self._n_rows else "\n\n")
        elif tag == "tr":
            self._n_rows -= 1
            self._push("\n")
        elif tag == "tbl":
            self._push("\n")

    def data(self, text: str) -> None:
        if self._in_run:
            self._push(text)

    def _push(self, text: str) -> None:
        if self._n_fallbacks:
            return
        self._n_chars += len(text)
        if self._n_chars > self._max_chars:
            raise too_large(self._name, self._max_chars)
        self._pieces.append(text)


def _text_of(archive: zipfile.ZipFile, member: str, name: str, options: ReadOptions) -> str:
    target = TextTarget(name, options.max_text_bytes)
    feed_member(archive, member, name, target)
    return target.text


def read_docx(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Yields the text of a DOCX file as one part: its body, then notes, comments, headers and footers.

    Raises MediaError.
    """
    with open_document(source) as (archive, name):
        rest = sorted(member for member in archive.namelist() if WORD_PARTS.fullmatch(member))
        texts = [_text_of(archive, member, name, options) for member in [WORD_BODY, *rest]]
        yield Part("\n\n".join(dict.fromkeys(filter(None, texts))))  # headers of sections repeat


# --- slides -----------------------------------------------------------------------------------------


class _Relations:
    """The targets of a relationships file by id: (kind, target)."""

    def __init__(self) -> None:
        self.targets: dict[str, tuple[str, str]] = {}

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "Relationship" and attributes.get("TargetMode") != "External":
            kind = attributes.get("Type", "").rpartition("/")[2]
            self.targets[attributes.get("Id", "")] = (kind, attributes.get("Target", ""))

    def end(self, tag: str) -> None: ...
    def data(self, text: str) -> None: ...


class _SlideIds:
    """The relationship ids of the slides, in order."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "sldId":  # its own `id`, without a namespace, is a number
            self.ids += [value for key, value in attributes.items() if key.endswith("}id")]

    def end(self, tag: str) -> None: ...
    def data(self, text: str) -> None: ...


def relations(archive: zipfile.ZipFile, member: str, name: str) -> dict[str, tuple[str, str]]:
    """What a member refers to, by id: (kind, member). Empty if it refers to nothing."""
    folder, base = posixpath.split(member)
    path = f"{folder}/_rels/{base}.rels"
    if path not in archive.NameToInfo:
        return {}
    target = _Relations()
    feed_member(archive, path, name, target)
    return {
        id_: (kind, posixpath.normpath(posixpath.join(folder, to)).lstrip("/") if to[:1] != "/" else to[1:])
        for id_, (kind, to) in target.targets.items()
    }


def read_pptx(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Yields the text of each slide with its notes. Raises MediaError."""
    with open_document(source) as (archive, name):
        slide_ids = _SlideIds()
        feed_member(archive, PRESENTATION, name, slide_ids)
        targets = relations(archive, PRESENTATION, name)
        slides = [targets[id_][1] for id_ in slide_ids.ids if id_ in targets]
        for number, slide in enumerate(slides, start=1):
            notes = [to for kind, to in relations(archive, slide, name).values() if kind == "notesSlide"]
            members = [slide, *(note for note in notes if note in archive.NameToInfo)]
            texts = [_text_of(archive, member, name, options) for member in members]
            yield Part("\n\n".join(filter(None, texts)), {"slide": number})


# --- OpenDocument -----------------------------------------------------------------------------------


class Section(NamedTuple):
    """A slide or table of an OpenDocument file, and its text. kind: "slide", "sheet" or "" for a text document."""

    kind: str
    name: str
    text: str


class OpenDocumentTarget:
    """Collects paragraphs and headings, and divides them at slides and at tables of a spreadsheet."""

    def __init__(self, name: str, max_chars: int) -> None:
        self.sections: list[Section] = []
        self._name, self._max_chars = name, max_chars
        self._pieces: list[str] = []
        self._n_chars = self._n_paragraphs = self._n_cells = 0
        self._in_sheets = False
        self._section = ("", "")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "spreadsheet":
            self._in_sheets = True
        elif tag == "page":  # in a presentation
            self._section = ("slide", str(len(self.sections) + 1))
        elif tag == "table" and self._in_sheets and not self._section[0]:
            self._section = ("sheet", attribute(attributes, "name") or str(len(self.sections) + 1))
        elif tag in ("p", "h"):
            self._n_paragraphs += 1
        elif tag in ("tab", "s"):
            self._push(" ")
        elif tag == "line-break":
            self._push("\n")
        elif tag in ("table-cell", "covered-table-cell"):
            self._n_cells += 1

    def end(self, tag: str) -> None:
        if tag in ("p", "h"):
            self._push(" | " if self._n_cells else "\n\n")
            self._n_paragraphs -= 1
        elif tag in ("table-cell", "covered-table-cell"):
            self._n_cells -= 1
        elif tag == "table-row":
            self._push("\n")
        if (tag == "page" and self._section[0] == "slide") or (
            tag == "table" and self._section[0] == "sheet"
        ):
            self.close_section()

    def data(self, text: str) -> None:
        if self._n_paragraphs:
            self._push(" ".join(text.split("\n")))

    def close_section(self) -> None:
        text, self._pieces = tidy(EMPTY_CELLS.sub("", "".join(self._pieces))), []
        if text or self._section[0]:
            self.sections.append(Section(*self._section, text))
        self._section = ("", "")

    def _push(self, text: str) -> None:
        self._n_chars += len(text)
        if self._n_chars > self._max_chars:
            raise too_large(self._name, self._max_chars)
        self._pieces.append(text)


def read_open_document(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Yields the text of an ODT file, each slide of an ODP or each sheet of an ODS. Raises MediaError."""
    with open_document(source) as (archive, name):
        target = OpenDocumentTarget(name, options.max_text_bytes)
        feed_member(archive, OPEN_DOCUMENT, name, target)
        target.close_section()
    for kind, label, text in target.sections:
        yield Part(text, {kind: label} if kind else {})
