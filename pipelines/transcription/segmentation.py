"""Groups words into segments that are short enough for a subtitle."""

from __future__ import annotations

from collections.abc import Iterable

from multimodal.pipelines.transcription.result import Segment, Word

PAUSE_S = 0.6  # a silence this long ends a segment
LONGEST_S, LONGEST_CHARS = 7.0, 84  # two lines of 42, the usual limit of broadcasters


def group_words(words: Iterable[Word]) -> list[Segment]:
    """Segments that end at pauses or before they become too long to read. Words are neither split nor dropped."""
    groups: list[list[Word]] = []
    for word in words:
        if not groups or _ends(groups[-1], word):
            groups.append([])
        groups[-1].append(word)
    return [Segment(group[0].start, group[-1].end, " ".join(word.text for word in group)) for group in groups]


def _ends(segment: list[Word], word: Word) -> bool:
    n_chars = sum(len(previous.text) + 1 for previous in segment) + len(word.text)
    return (
        word.start - segment[-1].end >= PAUSE_S
        or word.end - segment[0].start > LONGEST_S
        or n_chars > LONGEST_CHARS
    )
