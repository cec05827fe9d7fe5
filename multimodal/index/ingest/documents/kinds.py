"""Recognises documents, by their content where it tells, and by their name where it does not."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import NamedTuple

from multimodal.core.errors import MediaUnsupported
from multimodal.core.media import sniff
from multimodal.index.fragments import LANGUAGES
from multimodal.index.ingest.documents import mail, markup, office, pdf, rtf, safe_zip, spreadsheet, subtitles
from multimodal.index.ingest.documents.code import read_code
from multimodal.index.ingest.documents.part import Part, ReadOptions, Source

TEXT_SUFFIXES = (
    ".txt", ".text", ".md", ".markdown", ".mdx", ".rst", ".adoc", ".org", ".tex", ".log", ".csv", ".tsv", ".json",
    ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf",
)  # fmt: skip
TEXT_NAMES = (
    "readme",
    "license",
    "licence",
    "copying",
    "changelog",
    "authors",
    "makefile",
    "dockerfile",
    "todo",
)
MEDIA = ("image/", "audio/", "video/")
LEGACY = {".doc": ".docx", ".dot": ".docx", ".xls": ".xlsx", ".ppt": ".pptx", ".pps": ".pptx", ".msg": ".eml"}
OFFICE_SUFFIXES = (".docx", ".docm", ".dotx", ".pptx", ".pptm", ".ppsx", ".xlsx", ".xlsm")
OPEN_DOCUMENT_SUFFIXES = (".odt", ".odp", ".ods", ".ott")
PDF_HEAD, RTF_HEAD, ZIP_HEAD = b"%PDF-", b"{\\rtf", b"PK\x03\x04"
OLE_HEAD = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # of legacy Office files, and of encrypted ones of today
OPEN_DOCUMENT_MIME = b"application/vnd.oasis.opendocument."
EPUB_MIME = b"application/epub+zip"

Read = Callable[[Source, ReadOptions], Iterator[Part]]


class Kind(NamedTuple):
    """A kind of document: its name, and what reads it."""

    name: str
    read: Read


PDF = Kind("PDF", pdf.read_pdf)
DOCX = Kind("DOCX", office.read_docx)
PPTX = Kind("PPTX", office.read_pptx)
XLSX = Kind("XLSX", spreadsheet.read_xlsx)
OPEN_DOCUMENT = Kind("OpenDocument", office.read_open_document)
EPUB = Kind("EPUB", markup.read_epub)
RTF = Kind("RTF", rtf.read_rtf)
HTML = Kind("HTML", markup.read_html)
EML = Kind("e-mail", mail.read_eml)
SUBTITLES = Kind("subtitles", subtitles.read_subtitles)

BY_MEMBER = {office.WORD_BODY: DOCX, office.PRESENTATION: PPTX, "xl/workbook.xml": XLSX}
BY_SUFFIX = {
    ".pdf": PDF, ".rtf": RTF, ".epub": EPUB, ".eml": EML, ".srt": SUBTITLES, ".vtt": SUBTITLES,
    ".html": HTML, ".htm": HTML, ".xhtml": HTML,
    **dict.fromkeys(OPEN_DOCUMENT_SUFFIXES, OPEN_DOCUMENT),
    **dict.fromkeys(OFFICE_SUFFIXES[:3], DOCX), **dict.fromkeys(OFFICE_SUFFIXES[3:6], PPTX),
    **dict.fromkeys(OFFICE_SUFFIXES[6:], XLSX),
}  # fmt: skip


def is_text_name(name: str) -> bool:
    """Whether a file is a text by its name: a suffix such as .txt, or a name such as README."""
    path = PurePath(name)
    return path.suffix.lower() in TEXT_SUFFIXES or (not path.suffix and path.name.lower() in TEXT_NAMES)


def is_document_name(name: str) -> bool:
    """Whether a file is a text, a document or source code by its name."""
    suffix = PurePath(name).suffix.lower()
    return is_text_name(name) or suffix in BY_SUFFIX or suffix in LANGUAGES


def claims_kind(name: str) -> bool:
    """Whether the name of a file says that it is media, a text or a document, so that it fails rather than being
    skipped if it is none."""
    return is_document_name(name) or is_media_name(name) or PurePath(name).suffix.lower() in LEGACY


def is_media_name(name: str) -> bool:
    """Whether the name of a file says that it is an image, audio or a video. Not for .ts, which is TypeScript too."""
    return PurePath(name).suffix.lower() not in LANGUAGES and (
        mimetypes.guess_type(PurePath(name).name)[0] or ""
    ).startswith(MEDIA)


def kind_of(source: Source, name: str) -> Kind | None:
    """The kind of a document; None for media, plain text, and what is of no known kind.

    Args:
        source: The file, or its bytes.
        name: Its name.

    Raises:
        MediaError: It cannot be opened, or it is a legacy or encrypted document.
    """
    suffix = PurePath(name).suffix.lower()
    with sniff.open_source(source) as (file, shown):
        head = file.read(sniff.HEAD_BYTES)
    if PDF_HEAD in head and not sniff.signature(head).decoder:
        return PDF
    if head.startswith(RTF_HEAD):
        return RTF
    if head.startswith(OLE_HEAD):
        if (suffix in LEGACY) or suffix in OFFICE_SUFFIXES:
            raise _legacy(shown, suffix)
        return None
    if head.startswith(ZIP_HEAD) and (kind := _kind_of_zip(source, head)) is not None:
        return kind
    if sniff.signature(head).decoder:
        return None
    if suffix in LANGUAGES:
        return Kind(LANGUAGES[suffix], lambda given, options: read_code(given, name, options))
    return BY_SUFFIX.get(suffix)


def _legacy(name: str, suffix: str) -> MediaUnsupported:
    if suffix in LEGACY:
        return MediaUnsupported(f"{name}: is in a legacy format of Office; save it as {LEGACY[suffix]}")
    return MediaUnsupported(
        f"{name}: is encrypted, or in a legacy format under this suffix; save it without a password"
    )


def _kind_of_zip(source: Source, head: bytes) -> Kind | None:
    """The kind of a document that is a zip archive, by its members; None for any other archive."""
    if EPUB_MIME in head[30:100]:
        return EPUB
    if OPEN_DOCUMENT_MIME in head[30:100]:
        return OPEN_DOCUMENT
    import zipfile

    with sniff.open_source(source) as (file, _):
        try:
            with zipfile.ZipFile(file) as archive:
                names = archive.NameToInfo
                return next((kind for member, kind in BY_MEMBER.items() if member in names), None)
        except safe_zip.READ_ERRORS:
            return None
