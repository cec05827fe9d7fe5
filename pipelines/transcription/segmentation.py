"""Words with times -> segments: what was said in one go, short enough to be read as a subtitle."""

from __future__ import annotations

from collections.abc import Iterable

from multimodal.pipelines.transcription.result import Segment, Word

PAUSE_S = 0.6  # a silence this long ends a segment
LONGEST_S, LONGEST_CHARS = 7.0, 84  # two lines of 42, as broadcasters have them


def group_words(words: Iterable[Word]) -> list[Segment]:
    """Segments that end at pauses, or before they become too long to read. No word is cut, and none is lost."""
    found: list[list[Word]] = []
    for word in words:
        if not found or _ends(found[-1], word):
            found.append([])
        found[-1].append(word)
    return [Segment(one[0].start, one[-1].end, " ".join(word.text for word in one)) for one in found]


def _ends(segment: list[Word], word: Word) -> bool:
    n_chars = sum(len(one.text) + 1 for one in segment) + len(word.text)
    return (
        word.start - segment[-1].end >= PAUSE_S
        or word.end - segment[0].start > LONGEST_S
        or n_chars > LONGEST_CHARS
    )
