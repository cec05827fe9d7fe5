"""Keyword search: an inverted index over each segment, and BM25 scores.

The terms of a row are those of its text, of its file and folder names, and of the strings in its metadata (captions,
transcripts). Terms are compared without case and accents. Runs of letters and digits are terms; in scripts written
without spaces (Chinese, Japanese) each character is a term.

LanceDB's full-text search was evaluated and rejected: its results differ before and after its index is built (it folds
case and plurals only then), and it cannot index the metadata.
"""

from __future__ import annotations

import bisect
import math
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput
from multimodal.index.search.vector_search import Candidates
from multimodal.index.storage.schema import Row
from multimodal.index.storage.segment import Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

K1, B = (
    1.2,
    0.75,
)  # BM25 term saturation and length normalisation: the usual values (Robertson & Zaragoza 2009, 3.3)
UNSPACED_SCRIPT = r"([\p{Han}\p{Hiragana}\p{Katakana}])"
SEPARATOR = r"[^\p{L}\p{N}]+"
FOLDER = "words"  # inside the folder of a segment
# Attribute of an inverted index -> file name. The names are those of the first format.
FILES = {
    "term_bytes": "letters", "term_ends": "ends", "posting_starts": "starts", "positions": "places",
    "counts": "counts", "lengths": "lengths",
}  # fmt: skip


def searchable_text(row: Row) -> str:
    """All text of a row in which terms are searched; each source on its own line."""
    strings = [value for value in row.metadata.values() if isinstance(value, str)]
    path = PurePath(row.uri or "")
    return "\n".join([row.text or "", path.stem, path.parent.name, *strings])


def tokenize(texts: Sequence[str]) -> Any:
    """An Arrow list array with the terms of each text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.utf8_normalize(pa.array(texts, pa.large_string()), "NFKD")
    plain = pc.utf8_lower(pc.replace_substring_regex(plain, r"\p{M}", ""))
    plain = pc.replace_substring_regex(plain, UNSPACED_SCRIPT, r" \1 ")
    plain = pc.utf8_trim(pc.replace_substring_regex(plain, SEPARATOR, " "), " ")
    return pc.split_pattern(plain, " ")


def terms_in(text: str) -> list[str]:
    """The terms of one text, in order."""
    return [term for term in tokenize([text])[0].as_py() if term]


@dataclass(frozen=True)
class TextQuery:
    """A keyword query. terms: unique, any of them may match. phrases: double-quoted terms, which must be adjacent."""

    terms: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def parse(cls, text: object) -> TextQuery:
        """Raises InvalidInput if the text contains no term."""
        if not isinstance(text, str):
            raise InvalidInput(f"text must be a str, got {type(text).__name__}")
        terms = terms_in(text)
        if not terms:
            raise InvalidInput(f"text={text!r} contains no search term; give at least one letter or digit")
        phrases = (tuple(terms_in(phrase)) for phrase in re.findall(r'"([^"]*)"', text))
        return cls(tuple(dict.fromkeys(terms)), tuple(phrase for phrase in phrases if phrase))

    def phrases_match(self, row: Row) -> bool:
        """Whether each phrase occurs within one source of the row's text."""
        lines = [f" {' '.join(terms_in(line))} " for line in searchable_text(row).splitlines()]
        return all(any(f" {' '.join(phrase)} " in line for line in lines) for phrase in self.phrases)


@dataclass(frozen=True, eq=False)
class InvertedIndex:
    """Which of n texts contain a term, and how often.

    term_bytes: all terms in UTF-8, sorted and concatenated. term_ends: (terms,) end of each term in `term_bytes`.
    posting_starts: (terms + 1,) start of each term's postings in `positions` (p,) and `counts` (p,): the positions of
    the texts that contain the term, and its occurrences there. lengths: (n,) number of terms of each text.
    """

    term_bytes: NDArray[np.uint8]
    term_ends: NDArray[np.int64]
    posting_starts: NDArray[np.int64]
    positions: NDArray[np.int32]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int32]

    @classmethod
    def build(cls, batches: Iterable[tuple[NDArray[np.intp], Sequence[str]]], n_texts: int) -> InvertedIndex:
        """An index of batches of (positions below n_texts, texts); positions without a text have no terms.

        Memory: about 30 bytes for each distinct term of a text.
        """
        import numpy as np

        term_ids: dict[str, int] = {}
        empty = np.empty(0, np.int32)
        all_terms, all_positions, all_counts = [empty], [empty], [empty]
        lengths = np.zeros(n_texts, np.int32)
        for batch_positions, texts in batches:
            owners, terms, counts = _count_terms(texts, term_ids)
            all_terms.append(terms)
            all_positions.append(batch_positions[owners].astype(np.int32))
            all_counts.append(counts)
            lengths[batch_positions] = np.bincount(owners, counts, minlength=len(batch_positions))
        ordered = sorted(term_ids)  # by code point, which is also the order of their UTF-8
        rank = np.empty(len(term_ids), np.int32)
        rank[[term_ids[term] for term in ordered]] = np.arange(len(term_ids), dtype=np.int32)
        ranks = rank[np.concatenate(all_terms)]
        order = np.argsort(ranks, kind="stable")
        encoded = [term.encode() for term in ordered]
        return cls(
            np.frombuffer(b"".join(encoded), np.uint8),
            np.cumsum([len(term) for term in encoded], dtype=np.int64),
            np.concatenate([[0], np.cumsum(np.bincount(ranks, minlength=len(term_ids)))]).astype(np.int64),
            np.concatenate(all_positions)[order],
            np.concatenate(all_counts)[order],
            lengths,
        )

    @classmethod
    def read(cls, folder: Path) -> InvertedIndex:
        """Maps what `write` wrote, without loading it into memory. Raises OSError, ValueError."""
        import numpy as np

        return cls(**{name: np.load(folder / f"{file}.npy", mmap_mode="r") for name, file in FILES.items()})

    def write(self, folder: Path) -> None:
        import numpy as np

        for name, file in FILES.items():
            np.save(folder / f"{file}.npy", getattr(self, name))

    def postings(self, term: str) -> slice:
        """The slice of `positions` and `counts` that belongs to a term; empty if no text contains it."""
        encoded = term.encode()
        at = bisect.bisect_left(range(len(self.term_ends)), encoded, key=self._term)
        if at == len(self.term_ends) or self._term(at) != encoded:
            return slice(0, 0)
        return slice(int(self.posting_starts[at]), int(self.posting_starts[at + 1]))

    def contains_all(self, terms: Iterable[str]) -> NDArray[np.bool_]:
        """Which texts (n,) contain every one of these terms."""
        import numpy as np

        mask = np.ones(len(self.lengths), bool)
        for term in terms:
            with_term = np.zeros(len(self.lengths), bool)
            with_term[self.positions[self.postings(term)]] = True
            mask &= with_term
        return mask

    def _term(self, at: int) -> bytes:
        start = int(self.term_ends[at - 1]) if at else 0
        return self.term_bytes[start : int(self.term_ends[at])].tobytes()


def _count_terms(texts: Sequence[str], term_ids: dict[str, int]) -> tuple[Any, Any, Any]:
    """(text, term id, occurrences), each (p,). New terms are added to `term_ids`."""
    import numpy as np

    lists = tokenize(texts)
    tokens = lists.flatten().dictionary_encode()
    owners = np.repeat(np.arange(len(texts)), np.diff(lists.offsets.to_numpy()))
    vocabulary = tokens.dictionary.to_pylist()
    n_terms = max(1, len(vocabulary))
    pairs, counts = np.unique(owners * n_terms + tokens.indices.to_numpy(), return_counts=True)
    ids = np.array(
        [term_ids.setdefault(term, len(term_ids)) if term else -1 for term in vocabulary], np.int32
    )
    terms = ids[pairs % n_terms] if vocabulary else np.empty(0, np.int32)
    kept = terms >= 0
    return (pairs // n_terms)[kept], terms[kept], counts[kept].astype(np.int32)


def bm25(indexes: Sequence[InvertedIndex], terms: Sequence[str]) -> list[NDArray[np.float32]]:
    """BM25 scores of every text of each index, (n,): 0 for texts without any of the terms.

    Document frequencies and the mean length are taken over all indexes together.
    """
    import numpy as np

    n_texts = sum(len(index.lengths) for index in indexes)
    mean_length = max(1.0, sum(float(index.lengths.sum()) for index in indexes) / max(1, n_texts))
    scores = [np.zeros(len(index.lengths), np.float32) for index in indexes]
    for term in terms:
        postings = [index.postings(term) for index in indexes]
        frequency = sum(posting.stop - posting.start for posting in postings)
        idf = math.log(1 + (n_texts - frequency + 0.5) / (frequency + 0.5))
        for index, posting, total in zip(indexes, postings, scores, strict=True):
            positions, counts = index.positions[posting], index.counts[posting].astype(np.float32)
            length = 1 - B + B * index.lengths[positions] / np.float32(mean_length)
            total[positions] += np.float32(idf) * counts * (K1 + 1) / (counts + K1 * length)
    return scores


def matching_rows(
    candidates: Sequence[Candidates], indexes: Sequence[InvertedIndex], query: TextQuery
) -> list[tuple[int, float]]:
    """(row id, score) of all candidates that contain a term, best first. Phrases are checked for their terms only."""
    import numpy as np

    row_ids, scores = [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
    for rows, index, segment_scores in zip(candidates, indexes, bm25(indexes, query.terms), strict=True):
        if rows.mask is not None:
            segment_scores[~rows.mask] = 0
        for phrase in query.phrases:
            segment_scores[~index.contains_all(phrase)] = 0
        positions = np.flatnonzero(segment_scores)
        row_ids.append(rows.segment.row_ids[positions])
        scores.append(segment_scores[positions])
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    return list(zip(np.concatenate(row_ids)[order].tolist(), all_scores[order].tolist(), strict=True))


class InvertedIndexCache:
    """Builds the inverted index of a segment when it is first needed. May be used by several threads."""

    def __init__(self) -> None:
        self._indexes: weakref.WeakKeyDictionary[Segment, InvertedIndex] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def get(self, segment: Segment) -> InvertedIndex:
        with self._lock:
            if segment not in self._indexes:
                index = _read(segment)
                if index is None:
                    index = InvertedIndex.build(_texts(segment), len(segment))
                    _store(segment, index)
                self._indexes[segment] = index
            return self._indexes[segment]


def _texts(segment: Segment) -> Iterator[tuple[NDArray[np.intp], list[str]]]:
    """The positions of a segment, and the texts at them."""
    import numpy as np

    position = 0
    for rows in segment.columns.rows():
        yield np.arange(position, position + len(rows)), list(map(searchable_text, rows))
        position += len(rows)


def _read(segment: Segment) -> InvertedIndex | None:
    if segment.folder is None:
        return None
    try:
        return InvertedIndex.read(segment.folder / FOLDER)
    except (OSError, EOFError, ValueError):
        return None


def _store(segment: Segment, index: InvertedIndex) -> None:
    """Writes the index beside the segment if possible; in memory it is equally valid."""
    if segment.folder is None:
        return
    new = None
    try:
        new = Path(tempfile.mkdtemp(prefix="words-", dir=segment.folder))
        new.chmod(0o755)
        index.write(new)
        new.rename(segment.folder / FOLDER)  # fails if another process was quicker, which is equally good
    except OSError:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
