"""Rows of XLSX workbooks by openpyxl, which reads them as a stream; formulas are read as their last values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, time
from typing import Any

from multimodal.core.errors import MediaCorrupt, MediaError, MediaTooLarge, MissingExtra
from multimodal.core.media import sniff
from multimodal.index.ingest.documents.part import Part, ReadOptions, Source, tidy
from multimodal.index.ingest.documents.quiet import ignore_warnings
from multimodal.index.ingest.documents.safe_zip import open_document
from multimodal.index.ingest.documents.text import too_large

MAX_CELLS = 20_000_000  # empty ones included, which take time and yield nothing


def read_xlsx(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Yields groups of rows, about as long as a passage, each with its sheet and the numbers of its rows.

    Raises:
        MediaError: It is damaged, or has more text than `max_text_bytes`.
        MissingExtra: openpyxl is not installed.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise MissingExtra("reading XLSX", package="openpyxl", extra="documents") from error
    with open_document(source):  # limits against archive bombs
        pass
    with sniff.open_source(source) as (file, name):
        ignore_warnings("openpyxl")  # on parts of a workbook that it drops, such as validation of input
        try:
            workbook = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
            try:
                n_chars = n_cells = 0
                for sheet in workbook.worksheets:
                    for part, cells in _groups(sheet, options.passage_chars):
                        n_chars += len(part.text)
                        n_cells += cells
                        if n_chars > options.max_text_bytes:
                            raise too_large(name, options.max_text_bytes)
                        if n_cells > MAX_CELLS:
                            raise MediaTooLarge(f"{name}: has more than {MAX_CELLS:,} cells; split it")
                        if part.text:
                            yield part
            finally:
                workbook.close()
        except (MediaError, GeneratorExit):
            raise
        except Exception as error:  # whatever a damaged sheet makes openpyxl raise
            raise MediaCorrupt(
                f"{name}: cannot be read as XLSX ({type(error).__name__}: {error}); save it again"
            ) from error


def _groups(sheet: Any, size: int) -> Iterator[tuple[Part, int]]:
    """Yields rows joined to about `size` characters, and how many cells were read for them."""
    lines: list[str] = []
    n_chars = n_cells = first = last = 0
    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        n_cells += len(cells)
        line = _line(cells)
        if line and lines and n_chars + len(line) > size:
            yield _part(sheet.title, lines, first, last), n_cells
            lines, n_chars, n_cells = [], 0, 0
        if line:
            first, last = (first if lines else number), number
            lines.append(line)
            n_chars += len(line) + 1
        elif n_cells > MAX_CELLS:
            break
    yield _part(sheet.title, lines, first, last), n_cells


def _part(sheet: str, lines: Sequence[str], first: int, last: int) -> Part:
    return Part("\n".join(lines), {"sheet": sheet, "rows": f"{first}-{last}"})


def _line(cells: Sequence[Any]) -> str:
    values = [_cell(value) for value in cells]
    while values and not values[-1]:
        values.pop()
    return " | ".join(values) if any(values) else ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return " ".join(tidy(str(value)).split())
