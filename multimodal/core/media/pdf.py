"""Pages of PDF files by PDFium: their text, and the pages as images.

PDFium is not thread-safe, so that one thread at a time is in it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.errors import MediaCorrupt, MediaError, MediaTooLarge, MissingExtra
from multimodal.core.media.sniff import HEAD_BYTES, Source, open_source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAGIC = b"%PDF-"
RENDER_SIDE = 1024  # pixels on the longer side of a page, more than encoders take
MIN_SCALE = 1e-3
MAX_PAGES = 10_000
HYPHEN = re.compile("[\ufffe\x02]\\s*")  # PDFium's mark for a word that is divided between two lines
PAGE = re.compile(r"(?:^|&)page=(\d+)(?:&|$)")

_LOCK = threading.RLock()


class Page(NamedTuple):
    """A page that is open while it is looked at. number: counted from 1."""

    number: int
    handle: Any
    name: str

    def text(self) -> str:
        """The text of the page; "" without any. Raises MediaCorrupt."""
        with _LOCK, _errors(self.name, self.number):
            text_page = self.handle.get_textpage()
            try:
                text: str = text_page.get_text_bounded()
            finally:
                text_page.close()
        return HYPHEN.sub("", text)

    def render(self) -> NDArray[np.uint8]:
        """The page as an image: RGB, uint8 (h, w, 3), its longer side RENDER_SIDE pixels. Raises MediaCorrupt."""
        with _LOCK, _errors(self.name, self.number):
            width, height = self.handle.get_size()
            scale = max(RENDER_SIDE / max(width, height, 1.0), MIN_SCALE)
            bitmap = self.handle.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
            try:
                pixels: NDArray[np.uint8] = bitmap.to_numpy()
                if pixels.ndim == 2:
                    pixels = pixels[:, :, None].repeat(3, axis=2)
                return pixels[:, :, :3].copy()
            finally:
                bitmap.close()


def is_pdf(source: Source) -> bool:
    """Whether a file is a PDF, by its first bytes."""
    with open_source(source) as (file, _):
        return MAGIC in file.read(HEAD_BYTES)


def pages(source: Source, *, max_pages: int = MAX_PAGES) -> Iterator[Page]:
    """Yields the pages of a PDF, each open until the next is taken.

    Raises:
        MediaCorrupt: It is damaged, encrypted or without pages.
        MediaTooLarge: It has more than `max_pages`.
        MissingExtra: pypdfium2 is not installed.
    """
    document, name = _open(source)
    try:
        with _LOCK:
            n_pages = len(document)
        if n_pages > max_pages:
            raise MediaTooLarge(
                f"{name}: has {n_pages:,} pages, more than the limit of {max_pages:,}; split it, or raise max_pages"
            )
        if n_pages == 0:
            raise MediaCorrupt(f"{name}: has no pages; save it again")
        for number in range(1, n_pages + 1):
            page = _page(document, number, name)
            try:
                yield page
            finally:
                with _LOCK:
                    page.handle.close()
    finally:
        with _LOCK:
            document.close()


def render_page(source: Source, number: int) -> NDArray[np.uint8]:
    """One page as an image, as `Page.render` makes it. Raises as `pages` does, and MediaError without such a page."""
    document, name = _open(source)
    try:
        with _LOCK:
            n_pages = len(document)
        if not 1 <= number <= n_pages:
            raise MediaError(
                f"{name}: has {n_pages:,} pages, and no page {number:,}; it has changed: index it again"
            )
        page = _page(document, number, name)
        try:
            return page.render()
        finally:
            with _LOCK:
                page.handle.close()
    finally:
        with _LOCK:
            document.close()


def page_number(fragment: str) -> int | None:
    """The page that a fragment such as "page=3" names; None for another."""
    match = PAGE.search(fragment)
    return None if match is None else int(match[1])


def _open(source: Source) -> tuple[Any, str]:
    try:
        import pypdfium2
    except ImportError as error:
        raise MissingExtra("reading PDF", package="pypdfium2", extra="documents") from error
    with open_source(source) as (_, name):  # raises for what is missing, empty, or larger than the limit
        pass
    try:
        with _LOCK:
            return pypdfium2.PdfDocument(source if isinstance(source, bytes) else Path(source)), name
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise MediaCorrupt(f"{name}: is encrypted with a password; save it without one") from error
        raise MediaCorrupt(f"{name}: cannot be read as PDF ({error}); copy or download it again") from error


def _page(document: Any, number: int, name: str) -> Page:
    with _LOCK, _errors(name, number):
        return Page(number, document[number - 1], name)


class _errors:
    """Turns an error of PDFium into MediaCorrupt."""

    def __init__(self, name: str, number: int) -> None:
        self._name, self._number = name, number

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RuntimeError | ValueError | MemoryError):
            raise MediaCorrupt(
                f"{self._name}: page {self._number:,} cannot be read ({error}); save the document again"
            ) from error
