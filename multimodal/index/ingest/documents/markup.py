"""Text of HTML and EPUB: what a browser shows, without scripts and styles."""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterator
from urllib.parse import unquote

from multimodal.index.ingest.documents.part import Part, ReadOptions, Source, tidy
from multimodal.index.ingest.documents.safe_zip import (
    attribute,
    feed_member,
    open_document,
    read_member,
)
from multimodal.index.ingest.documents.text import decode, read_bytes, too_large

HIDDEN = {"svg", "math", "object", "select"}
BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt", "fieldset", "figcaption",
    "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "legend", "main", "nav", "ol", "p",
    "pre", "section", "summary", "table", "title", "ul",
}  # fmt: skip
LINES = {"br", "li", "tr", "caption", "option"}
CELLS = {"td", "th"}
CHARSET = re.compile(
    rb"""<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE
)
RAW = {
    "script",
    "style",
    "noscript",
    "textarea",
    "template",
    "iframe",
}  # content that ends at the first closing tag
TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
TAG_PART = re.compile(
    r"[^>=]*(?:=\s*)?"
)  # of the attributes, up to a value, which may be quoted and hold ">"
ALT = re.compile(r"""\balt\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
CONTAINER = "META-INF/container.xml"


class TextParser:
    """Collects visible text, with line breaks where a browser makes them.

    Takes linear time, also for tags and comments that never end, which `html.parser` does not.
    """

    def __init__(self, content: str) -> None:
        self.pieces: list[str] = []
        self._content = content
        self._position = 0
        self._hidden: str | None = None  # the tag whose content is being left out
        self._depth = self._n_pre = 0

    def text(self) -> str:
        """The text of all of it."""
        content = self._content
        while self._position < len(content):
            opening = content.find("<", self._position)
            self._data(content[self._position : len(content) if opening < 0 else opening])
            if opening < 0:
                break
            self._position = opening
            self._tag(opening)
        lines = (line.strip() for line in tidy("".join(self.pieces)).split("\n"))
        return tidy("\n".join(lines))

    def _tag(self, opening: int) -> None:
        """Reads what begins with "<": a comment, a declaration, a tag, or else text."""
        content = self._content
        if content.startswith("<!--", opening):
            self._skip_to("-->", opening + 2)  # "<!-->" is a whole comment
        elif content.startswith(("<!", "<?"), opening):
            self._skip_to(">", opening)
        elif (match := TAG.match(content, opening)) is None:
            self._data("<")
            self._position = opening + 1
        else:
            end = self._end_of_tag(match.end())
            self._position = end + 1
            name = match[2].lower()
            if match[1]:
                self._end(name)
            else:
                self._start(name, content[match.end() : end])

    def _skip_to(self, ending: str, start: int) -> None:
        end = self._content.find(ending, start)
        self._position = len(self._content) if end < 0 else end + len(ending)

    def _end_of_tag(self, position: int) -> int:
        """The position of the ">" that ends a tag, or of the end of the text."""
        content = self._content
        while position < len(content) and content[position] != ">":
            part = TAG_PART.match(content, position)
            if part is None or part.end() == position:  # a quote that follows a quoted value
                position += 1
                continue
            position = part.end()
            if content[position : position + 1] in ("'", '"') and part[0].rstrip().endswith("="):
                closing = content.find(content[position], position + 1)
                position = len(content) if closing < 0 else closing + 1
        return position

    def _start(self, name: str, attributes: str) -> None:
        if self._hidden is not None:
            self._depth += name == self._hidden and not attributes.endswith("/")
        elif name in RAW:
            ending = re.compile(f"</{name}[^>]*>?", re.IGNORECASE).search(self._content, self._position)
            self._position = len(self._content) if ending is None else ending.end()
        elif name in HIDDEN:
            if not attributes.endswith("/"):
                self._hidden, self._depth = name, 1
        else:
            self._n_pre += name == "pre"
            self._break(name)
            if name == "img" and (alt := ALT.search(attributes)):  # what is said for those who do not see it
                self._data(f" {alt[1] or alt[2] or ''} ")

    def _end(self, name: str) -> None:
        if self._hidden is not None:
            self._depth -= name == self._hidden
            if self._depth == 0:
                self._hidden = None
        else:
            self._n_pre = max(0, self._n_pre - (name == "pre"))
            self._break(name)

    def _data(self, data: str) -> None:
        if self._hidden is None and data:
            text = html.unescape(data)
            self.pieces.append(text if self._n_pre else re.sub(r"\s+", " ", text))

    def _break(self, name: str) -> None:
        if name in BLOCKS:
            self.pieces.append("\n\n")
        elif name in LINES:
            self.pieces.append("\n")
        elif name in CELLS:
            self.pieces.append(" ")


def text_of_html(content: str) -> str:
    """The visible text of HTML."""
    return TextParser(content).text()


def decode_html(content: bytes) -> str:
    """Decodes HTML: by its byte order mark, as it declares, as UTF-8, or else as Latin-1."""
    declared = CHARSET.search(content[:2048])
    if declared is not None and content[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return content.decode(declared[1].decode("ascii"))
        except (LookupError, UnicodeError):  # an unknown or wrong declaration
            pass
    decoded = decode(content)
    return content.decode("cp1252", errors="replace") if decoded is None else decoded.text


def read_html(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Yields the visible text of an HTML file. Raises MediaError."""
    content, _ = read_bytes(source, options.max_text_bytes)
    yield Part(text_of_html(decode_html(content)))


# --- EPUB -------------------------------------------------------------------------------------------


class _RootFile:
    """The package file that the container names."""

    path = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "rootfile" and not self.path:
            self.path = attribute(attributes, "full-path")

    def end(self, tag: str) -> None: ...
    def data(self, text: str) -> None: ...


class _Package:
    """The files of a book in the order of its spine."""

    def __init__(self) -> None:
        self.hrefs: dict[str, str] = {}
        self.spine: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "item":
            if "nav" not in attribute(attributes, "properties").split():  # the table of contents
                self.hrefs[attribute(attributes, "id")] = attribute(attributes, "href")
        elif tag == "itemref":
            self.spine.append(attribute(attributes, "idref"))

    def end(self, tag: str) -> None: ...
    def data(self, text: str) -> None: ...


def read_epub(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Yields the text of each chapter, counted in reading order. Raises MediaError."""
    with open_document(source) as (archive, name):
        root = _RootFile()
        feed_member(archive, CONTAINER, name, root)
        package = _Package()
        feed_member(archive, root.path, name, package)
        folder = posixpath.dirname(root.path)
        n_bytes = 0
        for number, id_ in enumerate(package.spine, start=1):
            href = unquote(package.hrefs.get(id_, "")).partition("#")[0]
            if not href:
                continue
            member = posixpath.normpath(posixpath.join(folder, href))
            content = read_member(archive, member, name, options.max_text_bytes)
            n_bytes += len(content)
            if n_bytes > MAX_BOOK * options.max_text_bytes:
                raise too_large(name, MAX_BOOK * options.max_text_bytes)
            yield Part(text_of_html(decode_html(content)), {"chapter": number})


MAX_BOOK = 4  # times the largest text, since mark-up is more than half of a chapter
