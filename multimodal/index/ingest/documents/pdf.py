"""Pages of PDF files as parts: as text, or as images where they have hardly any text."""

from __future__ import annotations

from collections.abc import Iterator

from multimodal.core.media import pdf
from multimodal.index.ingest.documents.part import Part, ReadOptions, Source, tidy

FEW_CHARS = 20  # fewer, without white space, are no more than a page number or a header


def read_pdf(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Yields the pages of a PDF. An image of a page keeps its text, for keyword search.

    Raises:
        MediaError: It is damaged, encrypted, or has more than `options.max_pages` pages.
        MissingExtra: pypdfium2 is not installed.
    """
    for page in pdf.pages(source, max_pages=options.max_pages):
        text = tidy(page.text())
        image = page.render() if _shows(text, options) else None
        yield Part(text, {"page": page.number}, image)


def _shows(text: str, options: ReadOptions) -> bool:
    """Whether a page is encoded as an image."""
    if not options.encodes_images or options.pages == "text":
        return False
    is_sparse = len("".join(text.split())) < FEW_CHARS
    return options.pages == "image" or is_sparse or not options.encodes_text
