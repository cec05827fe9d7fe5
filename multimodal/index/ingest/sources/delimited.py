"""CSV and its relatives, record by record. A record that cannot be parsed is one bad row, and the next line goes on."""

from __future__ import annotations

import csv
import itertools
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from multimodal.core.errors import InvalidInput
from multimodal.core.remote.path import AnyPath
from multimodal.index.ingest.sources.lines import MAX_LINE_CHARS, Line, read_lines

DELIMITERS = ",;\t|"
GUESS_LINES = 20  # read to guess the delimiter
MAX_RECORD_CHARS = MAX_LINE_CHARS  # a quoted cell that goes on for longer was never closed
SEPARATOR = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)  # the first line, as Excel reads and writes it
QUOTED = re.compile(r'"[^"]*"')
BLANK = "\r\n"
# csv.field_size_limit is a setting of the process; the default suffices for all but very long cells.
_field_limit = threading.Lock()

TableRow = dict[str, Any]


class BadRow(NamedTuple):
    """Rows of a table that cannot be read. reason: with the line or rows. n_rows: how many rows they are."""

    reason: str
    n_rows: int = 1


def check_delimiter(delimiter: object) -> None:
    """Raises InvalidInput unless the delimiter is one character that may separate cells."""
    if delimiter is None or (
        isinstance(delimiter, str) and len(delimiter) == 1 and delimiter not in '"\r\n\0'
    ):
        return
    raise InvalidInput(
        f"delimiter must be one character such as ';' or '\\t', got {delimiter!r}; leave it out to have it recognised"
    )


def read_delimited(
    path: AnyPath, delimiter: str | None = None, encoding: str | None = None
) -> Iterator[TableRow | BadRow]:
    """Yields the rows of a file by the names in its first line; empty cells are None.

    Args:
        path: The file.
        delimiter: The character between two cells. Default: as a first line such as "sep=;" says, the tab in a file
            called .tsv, otherwise the one of ",;|" and the tab that fits the first lines best.
        encoding: As in `read_lines`.

    Raises:
        InvalidInput: The first line cannot be parsed.
        OSError: The file cannot be read.
    """
    feed = _Feed(read_lines(path, encoding))
    first = feed.peek(GUESS_LINES)
    if first and (separator := SEPARATOR.fullmatch(first[0].text)):
        next(feed)
        first, delimiter = first[1:], delimiter or separator[1]
    if delimiter is None:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else guess_delimiter([line.text for line in first])
    header = next(_records(feed, delimiter, None), None)
    if header is None:
        return
    if isinstance(header, BadRow):
        raise InvalidInput(f"its header cannot be read: {header.reason}")
    names = unique_names(header)
    for cells in _records(feed, delimiter, len(names)):
        if isinstance(cells, BadRow):
            yield cells
        else:
            yield {name: cell or None for name, cell in itertools.zip_longest(names, cells[: len(names)])}


def guess_delimiter(lines: Sequence[str]) -> str:
    """The delimiter whose number in the header, outside quotes, recurs most often in the lines after it."""
    bare = [QUOTED.sub("", line) for line in lines]

    def fit(delimiter: str) -> tuple[bool, float, int]:
        n = bare[0].count(delimiter) if bare else 0
        same = [line.count(delimiter) == n for line in bare[1:] if line.strip()]
        return n > 0, sum(same) / max(len(same), 1), n

    return max(DELIMITERS, key=fit)


def unique_names(names: Sequence[object]) -> list[str]:
    """The names of columns; the second "x" is called "x.1", so that no column hides another."""
    unique: list[str] = []
    for name in map(str, names):
        n, candidate = 0, name
        while candidate and candidate in unique:
            n += 1
            candidate = f"{name}.{n}"
        unique.append(candidate)
    return unique


class _Feed(Iterator[str]):
    """Lines for csv.reader. It keeps those of the record that is being parsed, so that they can be given back.

    taken: the lines of the current record. at_end: whether the file has no more lines.
    """

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._ahead: deque[Line] = deque()
        self.taken: list[Line] = []
        self._n_chars = 0

    def peek(self, n: int) -> list[Line]:
        """The next lines, at most n, which stay to be read."""
        self._ahead.extend(itertools.islice(self._lines, n - len(self._ahead)))
        return list(self._ahead)

    def begin(self) -> None:
        """A new record begins."""
        self.taken, self._n_chars = [], 0

    def give_back(self, lines: Sequence[Line]) -> None:
        """These lines are to be read again."""
        self._ahead.extendleft(reversed(lines))

    def __next__(self) -> str:
        if self._n_chars > MAX_RECORD_CHARS:
            raise csv.Error("the record is too long")
        line = self._ahead.popleft() if self._ahead else next(self._lines)
        self.taken.append(line)
        self._n_chars += len(line.text)
        return line.text


def _records(feed: _Feed, delimiter: str, n_cells: int | None) -> Iterator[list[str] | BadRow]:
    """Yields the cells of each record that is not blank. n_cells: how many the header has; None for the header."""
    parser = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin()
        cells: list[str] | None
        try:
            cells = next(parser)
        except StopIteration:
            return
        except csv.Error as error:
            cells = _parse_long(feed, delimiter) if "field limit" in str(error) else None
            if cells is None and len(feed.taken) == 1:
                cells = _parse_leniently(feed.taken[0].text, delimiter, n_cells)
        lines = feed.taken
        problem = next((line.problem for line in lines if line.problem), None)
        if cells is None or (len(lines) > 1 and n_cells is not None and len(cells) != n_cells):
            feed.give_back(lines[1:])
            unclosed = f"line {lines[0].number:,} holds a quote that is not closed; close it, or double it"
            yield BadRow(lines[0].problem or unclosed)
        elif problem is not None:
            yield BadRow(problem)
        elif n_cells is not None and any(cells[n_cells:]):
            yield BadRow(
                f"line {lines[0].number:,} has {len(cells)} cells where the header has {n_cells}; put cells that hold "
                f"{delimiter!r} in quotes"
            )
        elif cells:
            yield cells


def _parse_long(feed: _Feed, delimiter: str) -> list[str] | None:
    """Parses the current record again, which has a cell longer than the limit of the module `csv`."""
    feed.give_back(feed.taken)
    feed.begin()
    with _field_limit:
        limit = csv.field_size_limit(MAX_RECORD_CHARS + MAX_LINE_CHARS)
        try:
            return next(csv.reader(feed, delimiter=delimiter, strict=True))
        except (csv.Error, StopIteration):
            return None
        finally:
            csv.field_size_limit(limit)


def _parse_leniently(text: str, delimiter: str, n_cells: int | None) -> list[str] | None:
    """The cells of a line with text after a closing quote, which the strict parser refuses; None if a quote is open."""
    try:
        cells = next(csv.reader([text.rstrip(BLANK)], delimiter=delimiter), None)
    except csv.Error:
        return None
    has_quote_open = text.count('"') % 2 == 1
    return None if has_quote_open or cells is None or n_cells not in (None, len(cells)) else cells
