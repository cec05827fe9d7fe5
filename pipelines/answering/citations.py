"""Checks the citations of a draft: a number must be of a source that was sent, and a quotation must stand in it.

What fails is removed from the text and counted. A citation supports the statement before it: from the end of the
sentence or citation before, up to its own end.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from multimodal.pipelines.answering import extractive
from multimodal.pipelines.answering.interface import NativeCitation
from multimodal.pipelines.answering.prompt import BREAK
from multimodal.pipelines.answering.result import Citation, Sent
from multimodal.pipelines.answering.retrieval import hit_text

NUMBER = r"(?:sources?\s*)?[1-9]\d{0,2}"
MARKER = re.compile(rf"\[{{1,2}}(?P<numbers>{NUMBER}(?:\s*[,;–-]\s*{NUMBER})*)\]{{1,2}}(?!\()", re.I)
BETWEEN_MARKERS = re.compile(r"[\s,;]*")
CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.S)
QUOTE = re.compile(r'"([^"\n]{2,2000})"|“([^”]{2,2000})”|«([^»]{2,2000})»|„([^“”]{2,2000})[“”]')
OMISSION = re.compile(r"\s*(?:\[?…\]?|\[?\.{3,}\]?)\s*")
MIN_QUOTE_WORDS = 3  # shorter ones are names and emphasised words
MAX_RANGE = 20  # sources of one range such as [1-3]
TYPOGRAPHY = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\u00a0": " ", BREAK: ""}
)
EDGES = " .,;:!?'\"…"

Edit = tuple[int, int, str]  # start and end of a part of the text, and what replaces it


@dataclass(frozen=True)
class Checked:
    """A draft after checking.

    Attributes:
        text: Without citations that do not resolve, and without the marks of quotations that are none.
        citations: Those that are left.
        n_citations: How many were removed.
        n_quotes: Of how many quotations the marks were removed.
    """

    text: str
    citations: tuple[Citation, ...]
    n_citations: int = 0
    n_quotes: int = 0


@dataclass(frozen=True)
class Marker:
    """One or several neighbouring citations in a text, such as "[1, 3]" or "[1][3]".

    Attributes:
        start: In characters.
        end: In characters.
        numbers: The cited numbers, each once.
    """

    start: int
    end: int
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Quotation:
    """Words between quotation marks.

    Attributes:
        start: Of the opening mark.
        end: After the closing mark.
        words: Between them.
    """

    start: int
    end: int
    words: str


def check(text: str, sent: Sequence[Sent], native: Sequence[NativeCitation] = ()) -> Checked:
    """Checks a draft that cites by numbers in square brackets, or through its provider, or both.

    Args:
        text: The draft.
        sent: The sources that were sent.
        native: The citations that the provider reports.
    """
    sources = {source.number: source for source in sent}
    edits: list[Edit] = []
    found, n_citations = _check_native(native, sources, len(text))
    by_provider = {citation.number for citation in found}
    n_quotes = before = 0
    for marker in find_markers(text):
        start = _statement_start(text, before, marker.start)
        loose = _check_loose(find_quotations(text, before, start), sources, edits)
        quotations = find_quotations(text, start, marker.start)
        cited = {number: sources[number] for number in marker.numbers if number in sources}
        invented = [quotation for quotation in quotations if not _may_stand_in(quotation, cited)]
        if quotations and len(invented) == len(quotations):
            cited = {}
        edits += [(quotation.start, quotation.end, quotation.words) for quotation in invented]
        edits += _marker_edit(text, marker, tuple(cited))
        found += loose.citations
        quoted = (_citation(source, quotations, start, marker.end) for source in cited.values())
        found += [citation for citation in quoted if citation.quote or citation.number not in by_provider]
        n_citations += len(marker.numbers) - len(cited)
        n_quotes += len(invented) + loose.n_quotes
        before = marker.end
    rest = _check_loose(find_quotations(text, before, len(text)), sources, edits)
    changed, moved = _apply(text, edits)
    placed = [
        Citation(citation.hit, citation.quote, moved(citation.start), moved(citation.end), citation.verified,
                 citation.number)
        for citation in (*found, *rest.citations)
    ]  # fmt: skip
    placed.sort(key=lambda citation: (citation.start, citation.end))
    return Checked(changed, tuple(placed), n_citations, n_quotes + rest.n_quotes)


def _check_native(
    native: Sequence[NativeCitation], sources: Mapping[int, Sent], length: int
) -> tuple[list[Citation], int]:
    """The citations of the provider that hold, and how many do not."""
    kept: list[Citation] = []
    for citation in native:
        source = sources.get(citation.number)
        if source is None or (source.text and not stands_in(citation.quote, source.text)):
            continue
        words = verbatim(citation.quote, source.text)
        start, end = max(0, citation.start), min(length, citation.end)
        kept.append(Citation(source.hit, words, start, end, bool(words), citation.number))
    return kept, len(native) - len(kept)


def find_markers(text: str) -> list[Marker]:
    """The citations in a text: [1], [1, 2], [1-3], [[1]], [source 1]; not those in code, nor the text of a link."""
    code = [match.span() for match in CODE.finditer(text)]
    markers: list[Marker] = []
    for match in MARKER.finditer(text):
        if any(start <= match.start() < end for start, end in code):
            continue
        numbers = _numbers(match["numbers"])
        if markers and BETWEEN_MARKERS.fullmatch(text, markers[-1].end, match.start()):
            previous = markers.pop()
            numbers = tuple(dict.fromkeys((*previous.numbers, *numbers)))
            markers.append(Marker(previous.start, match.end(), numbers))
        else:
            markers.append(Marker(match.start(), match.end(), numbers))
    return markers


def find_quotations(text: str, start: int, end: int) -> list[Quotation]:
    """The quotations of at least MIN_QUOTE_WORDS words between two positions."""
    matches = ((match.start(), match.end(), match[0][1:-1]) for match in QUOTE.finditer(text, start, end))
    return [Quotation(*match) for match in matches if len(match[2].split()) >= MIN_QUOTE_WORDS]


def stands_in(quote: str, text: str) -> bool:
    """Whether a quotation stands in a text: word for word, save for white space, typography and omissions (…)."""
    return bool(text) and _locate(quote, text) is not None


def verbatim(quote: str, text: str) -> str:
    """The words of a text that a quotation quotes, exactly as they stand there; "" if it does not."""
    span = _locate(quote, text)
    return "" if span is None else text[span[0] : span[1]]


def _locate(quote: str, text: str) -> tuple[int, int] | None:
    """Where a quotation stands; without the marks at its ends if it does not stand with them."""
    plain, places = _normalised(text)
    spans, at = [], 0
    for piece in filter(None, (piece.strip(EDGES) and piece.strip() for piece in OMISSION.split(quote))):
        words = _normalised(piece)[0]
        start = plain.find(words, at)
        if start < 0:
            words = _normalised(piece.strip(EDGES))[0]
            start = plain.find(words, at)
        if start < 0 or not words:
            return None
        at = start + len(words)
        spans.append((places[start], places[at - 1] + 1))
    return (spans[0][0], spans[-1][1]) if spans else None


def _normalised(text: str) -> tuple[str, list[int]]:
    """The text in lower case with plain typography and single spaces, and the position of each character in it."""
    characters: list[str] = []
    places: list[int] = []
    for position, character in enumerate(text):
        plain = character.translate(TYPOGRAPHY).lower()
        if character.isspace() or plain == " ":
            plain = " " if characters and characters[-1] != " " else ""
        for part in plain:
            characters.append(part)
            places.append(position)
    if characters and characters[-1] == " ":
        characters.pop()
        places.pop()
    return "".join(characters), places


def _numbers(text: str) -> tuple[int, ...]:
    numbers: list[int] = []
    for part in re.split(r"[,;]", text):
        ends = [int(number) for number in re.findall(r"\d+", part)]
        if len(ends) == 2 and ends[0] < ends[1] <= ends[0] + MAX_RANGE:
            numbers += range(ends[0], ends[1] + 1)
        else:
            numbers += ends
    return tuple(dict.fromkeys(numbers))


def _statement_start(text: str, before: int, marker: int) -> int:
    """Where the statement that ends at a marker starts."""
    spans = extractive.split_sentences(text[before:marker])
    start = before + (spans[-1][0] if spans else 0)
    for quotation in find_quotations(text, before, marker):  # a sentence may end inside a quotation
        if quotation.start < start < quotation.end:
            start = max(before + span[0] for span in spans if before + span[0] <= quotation.start)
    return start + len(text[start:marker]) - len(text[start:marker].lstrip(" .,;:\n"))


def _may_stand_in(quotation: Quotation, cited: Mapping[int, Sent]) -> bool:
    """Whether one of the sources has these words, or is an image or audio, which has no words to compare."""
    return any(not source.text or stands_in(quotation.words, source.text) for source in cited.values())


def _citation(source: Sent, quotations: Sequence[Quotation], start: int, end: int) -> Citation:
    text = source.text or hit_text(source.hit)  # an image of a page has the words of the page
    quotes = (verbatim(quotation.words, text) for quotation in quotations)
    quote = next(filter(None, quotes), "")
    return Citation(source.hit, quote, start, end, bool(quote), source.number)


def _marker_edit(text: str, marker: Marker, kept: tuple[int, ...]) -> list[Edit]:
    """Nothing if all numbers are kept; else the marker with the rest of them, or without it and the space before."""
    if set(kept) == set(marker.numbers):
        return []
    if kept:
        return [(marker.start, marker.end, f"[{', '.join(map(str, kept))}]")]
    return [(len(text[: marker.start].rstrip(" ")), marker.end, "")]


def _check_loose(quotations: Sequence[Quotation], sources: Mapping[int, Sent], edits: list[Edit]) -> Checked:
    """Quotations without a citation: one is added where a source has the words, else their marks are removed."""
    citations, n_quotes = [], 0
    for quotation in quotations:
        source = next((sent for sent in sources.values() if stands_in(quotation.words, sent.text)), None)
        if source is not None:
            citations.append(_citation(source, [quotation], quotation.start, quotation.end))
        elif all(source.text for source in sources.values()):
            edits.append((quotation.start, quotation.end, quotation.words))
            n_quotes += 1
    return Checked("", tuple(citations), 0, n_quotes)


def _apply(text: str, edits: Sequence[Edit]) -> tuple[str, Callable[[int], int]]:
    """The text after the edits, and a function from a position in the old text to that in the new one."""
    pieces, starts, shifts, at, shift = [], [0], [0], 0, 0
    for start, end, replacement in sorted(edits):
        pieces += [text[at:start], replacement]
        shift += len(replacement) - (end - start)
        at = end
        starts.append(end)
        shifts.append(shift)
    changed = "".join([*pieces, text[at:]])

    def moved(position: int) -> int:
        return position + shifts[bisect.bisect_right(starts, position) - 1]

    return changed, moved
