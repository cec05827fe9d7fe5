"""Keyword search: an inverted index over each segment, and BM25 scores.

The terms of a row are those of its text, of its file and folder names, and of the strings in its metadata (captions,
transcripts); terms.py says what a term is. The index holds words as they stand. Other forms of a word are found when a
query is searched: among the terms that begin alike, those with the same stem (languages.py). So phrases and prefixes
are exact, and the index does not depend on a language.

LanceDB's full-text search was evaluated and rejected: its results differ before and after its index is built (it folds
case and plurals only then), and it cannot index the metadata.
"""

from __future__ import annotations

import bisect
import json
import math
import shutil
import tempfile
import threading
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from multimodal.index.search import languages
from multimodal.index.search.abbreviations import abbreviations_of
from multimodal.index.search.terms import terms_of, tokenize
from multimodal.index.search.text_query import TextQuery, indexed_text
from multimodal.index.search.vector_search import Candidates
from multimodal.index.storage.segment import Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

K1, B = (
    1.2,
    0.75,
)  # BM25's saturation and length normalisation: the usual values (Robertson & Zaragoza 2009, 3.3)
VERSION = 4  # of the term rules; files of another version are rebuilt
FOLDER, SUMMARY_FILE = "words", "about.json"  # inside the folder of a segment
# Attribute of an inverted index -> file name. The names are those of the first format.
FILES = {
    "term_bytes": "letters", "term_ends": "ends", "posting_starts": "starts", "positions": "places",
    "counts": "counts", "lengths": "lengths",
}  # fmt: skip
MAX_ENDING_CHARS = 8  # by which a form of a word is longer than its stem
MAX_FORMS = 5000  # terms that begin like a stem and are compared
CHANGED_CHARS = 1  # at the end of a stem that forms of a word may differ in: happy, happi-ness


class TextBatch(NamedTuple):
    """Texts to index. positions: (n,) of each. languages: of each, None where unknown."""

    positions: NDArray[np.intp]
    texts: Sequence[str]
    languages: Sequence[str | None] | None = None


@dataclass(frozen=True, eq=False)
class InvertedIndex:
    """Which of n texts contain a term, and how often.

    term_bytes: all terms in UTF-8, sorted and concatenated. term_ends: (terms,) end of each term in `term_bytes`.
    posting_starts: (terms + 1,) start of each term's postings in `positions` (p,) and `counts` (p,): the positions of
    the texts that contain the term, and its occurrences there. lengths: (n,) number of words of each text.
    language_counts: number of texts in each language, of those whose language is known.
    """

    term_bytes: NDArray[np.uint8]
    term_ends: NDArray[np.int64]
    posting_starts: NDArray[np.int64]
    positions: NDArray[np.int32]
    counts: NDArray[np.int32]
    lengths: NDArray[np.int32]
    language_counts: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def build(cls, batches: Iterable[TextBatch], n_texts: int) -> InvertedIndex:
        """An index of batches with positions below n_texts; positions without a text have no terms.

        Memory: about 30 bytes for each distinct term of a text.
        """
        import numpy as np

        term_ids: dict[str, int] = {}
        empty = np.empty(0, np.int32)
        all_terms, all_positions, all_counts = [empty], [empty], [empty]
        lengths = np.zeros(n_texts, np.int32)
        language_counts: Counter[str] = Counter()
        for batch in batches:
            counted = _count_terms(batch, term_ids)
            all_terms.append(counted.terms)
            all_positions.append(batch.positions[counted.owners].astype(np.int32))
            all_counts.append(counted.counts)
            lengths[batch.positions] = counted.lengths
            language_counts += counted.languages
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
            dict(language_counts),
        )

    @classmethod
    def read(cls, folder: Path) -> InvertedIndex:
        """Maps what `write` wrote, without loading it into memory. Raises OSError, ValueError."""
        import numpy as np

        summary = json.loads((folder / SUMMARY_FILE).read_text())
        if summary["version"] != VERSION:
            raise ValueError(
                f"the inverted index in {folder} has version {summary['version']}, not {VERSION}"
            )
        arrays = {name: np.load(folder / f"{file}.npy", mmap_mode="r") for name, file in FILES.items()}
        return cls(**arrays, language_counts=summary["languages"])

    def write(self, folder: Path) -> None:
        import numpy as np

        for name, file in FILES.items():
            np.save(folder / f"{file}.npy", getattr(self, name))
        summary = {"version": VERSION, "languages": dict(self.language_counts)}
        (folder / SUMMARY_FILE).write_text(json.dumps(summary))

    def postings(self, term: str) -> slice:
        """The slice of `positions` and `counts` that belongs to a term; empty if no text contains it."""
        encoded = term.encode()
        at = self._first_from(encoded)
        if at == len(self.term_ends) or self._term(at) != encoded:
            return slice(0, 0)
        return self._postings_at(at)

    def starting_with(self, prefix: str) -> list[int]:
        """The numbers of the terms that begin with a prefix."""
        encoded = prefix.encode()
        return list(range(self._first_from(encoded), self._first_from(encoded + b"\xff")))

    def same_stem(self, word: str, language: str) -> list[int]:
        """The numbers of the terms that are forms of a word, itself and its abbreviations included."""
        stem = languages.stem(word, language)
        start = stem[: max(2, len(stem) - CHANGED_CHARS)]
        longest = len(stem) + MAX_ENDING_CHARS
        numbers = self.starting_with(start)[:MAX_FORMS] if word.isalpha() and len(word) > 2 else []
        forms = ((number, self._term(number).decode()) for number in numbers)
        alike = {
            number
            for number, form in forms
            if len(form) <= longest and languages.stem(form, language) == stem
        }
        short = abbreviations_of(word) if language == languages.DEFAULT_LANGUAGE else ()
        for exact in (word, *short):
            at = self._first_from(exact.encode())
            if at < len(self.term_ends) and self._term(at) == exact.encode():
                alike.add(at)
        return sorted(alike)

    def occurrences(self, numbers: Sequence[int]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Positions (p,) of the texts that contain any of these terms, and how often (p,), all of them counted."""
        import numpy as np

        slices = [self._postings_at(number) for number in numbers]
        if len(slices) == 1:
            return self.positions[slices[0]], self.counts[slices[0]].astype(np.float32)
        if not slices:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        positions = np.concatenate([self.positions[part] for part in slices])
        unique, inverse = np.unique(positions, return_inverse=True)
        counts = np.concatenate([self.counts[part] for part in slices])
        return unique, np.bincount(inverse, counts).astype(np.float32)

    def contains_all(self, terms: Iterable[str]) -> NDArray[np.bool_]:
        """Which texts (n,) contain every one of these terms."""
        import numpy as np

        mask = np.ones(len(self.lengths), bool)
        for term in terms:
            with_term = np.zeros(len(self.lengths), bool)
            with_term[self.positions[self.postings(term)]] = True
            mask &= with_term
        return mask

    def _first_from(self, encoded: bytes) -> int:
        """The number of the first term that does not sort before this one."""
        return bisect.bisect_left(range(len(self.term_ends)), encoded, key=self._term)

    def _postings_at(self, number: int) -> slice:
        return slice(int(self.posting_starts[number]), int(self.posting_starts[number + 1]))

    def _term(self, at: int) -> bytes:
        start = int(self.term_ends[at - 1]) if at else 0
        return self.term_bytes[start : int(self.term_ends[at])].tobytes()


class _Counted(NamedTuple):
    """Terms of a batch of n texts: the text and the id of each (p,), its occurrences there (p,); words a text (n,)."""

    owners: NDArray[np.intp]
    terms: NDArray[np.int32]
    counts: NDArray[np.int32]
    lengths: NDArray[np.intp]
    languages: Counter[str]


def _count_terms(batch: TextBatch, term_ids: dict[str, int]) -> _Counted:
    """New terms are added to `term_ids`."""
    import numpy as np

    n_texts = len(batch.texts)
    lists = tokenize(batch.texts)
    encoded = lists.flatten().dictionary_encode()
    owners = np.repeat(np.arange(n_texts), np.diff(lists.offsets.to_numpy()))
    tokens, token_of = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    # Each token stands for the terms from first_term[token] to first_term[token + 1].
    terms = [terms_of(token) if token else ([], []) for token in tokens]
    flat = [term_ids.setdefault(term, len(term_ids)) for words, extra in terms for term in (*words, *extra)]
    n_terms_of = np.array([len(words) + len(extra) for words, extra in terms], np.int64)
    n_words_of = np.array([len(words) for words, _ in terms], np.int64)
    first_term = np.concatenate([[0], np.cumsum(n_terms_of)]).astype(np.int64)
    repeats = n_terms_of[token_of] if len(token_of) else np.empty(0, np.int64)
    within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    ids = np.array(flat, np.int64)[np.repeat(first_term[token_of], repeats) + within]
    n_ids = max(1, len(term_ids))
    pairs, counts = np.unique(np.repeat(owners, repeats) * n_ids + ids, return_counts=True)
    lengths = np.bincount(owners, n_words_of[token_of] if len(token_of) else None, minlength=n_texts)
    single_words = [words[0] if len(words) == 1 else "" for words, _ in terms]
    known = batch.languages if batch.languages is not None else [None] * n_texts
    by_language = languages.count_languages(owners, single_words, token_of, known)
    return _Counted(
        pairs // n_ids, (pairs % n_ids).astype(np.int32), counts.astype(np.int32), lengths.astype(np.intp),
        by_language,
    )  # fmt: skip


class Statistics(NamedTuple):
    """What BM25 needs of all indexes together: their number of texts, and the mean number of words of a text."""

    n_texts: int
    mean_length: float

    @classmethod
    def of(cls, indexes: Sequence[InvertedIndex]) -> Statistics:
        n_texts = sum(len(index.lengths) for index in indexes)
        n_words = sum(float(index.lengths.sum()) for index in indexes)
        return cls(n_texts, max(1.0, n_words / max(1, n_texts)))

    def idf(self, n_texts_with_term: int) -> float:
        return math.log(1 + (self.n_texts - n_texts_with_term + 0.5) / (n_texts_with_term + 0.5))


def bm25(
    indexes: Sequence[InvertedIndex], groups: Sequence[Sequence[Sequence[int]]]
) -> tuple[list[NDArray[np.float32]], float]:
    """BM25 scores of every text of each index, (n,), 0 for texts without any of the terms; and their upper bound.

    Document frequencies and the mean length are taken over all indexes together.

    Args:
        indexes: The indexes.
        groups: For each index and each term of the query, the numbers of the terms that match it; they count as one.
    """
    import numpy as np

    statistics = Statistics.of(indexes)
    scores = [np.zeros(len(index.lengths), np.float32) for index in indexes]
    bound = 0.0
    for numbers_by_index in zip(*groups, strict=True):
        found = [index.occurrences(numbers) for index, numbers in zip(indexes, numbers_by_index, strict=True)]
        idf = statistics.idf(sum(len(positions) for positions, _ in found))
        bound += idf * (K1 + 1)
        for index, (positions, counts), total in zip(indexes, found, scores, strict=True):
            length = 1 - B + B * index.lengths[positions] / np.float32(statistics.mean_length)
            total[positions] += np.float32(idf) * counts * (K1 + 1) / (counts + K1 * length)
    return scores, bound


def matching_terms(indexes: Sequence[InvertedIndex], query: TextQuery) -> list[list[list[int]]]:
    """For each index and each term of a query, the numbers of the terms that match it."""
    counts: Counter[str] = Counter()
    for index in indexes:
        counts.update(index.language_counts)
    known = languages.main_languages(counts)
    terms = query.significant_terms(known)
    groups = []
    for index in indexes:
        forms = ({number for name in known for number in index.same_stem(term, name)} for term in terms)
        starts = (index.starting_with(prefix) for prefix in query.prefixes)
        groups.append([*(sorted(numbers) for numbers in forms), *starts])
    return groups


class Matches(NamedTuple):
    """(row id, score) of the rows that match a keyword query, best first, and the upper bound of a score."""

    rows: list[tuple[int, float]]
    bound: float


def matching_rows(
    candidates: Sequence[Candidates], indexes: Sequence[InvertedIndex], query: TextQuery
) -> Matches:
    """All candidates that contain a term. Phrases are checked for their words only."""
    import numpy as np

    row_ids, scores = [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
    all_segment_scores, bound = bm25(indexes, matching_terms(indexes, query))
    for rows, index, segment_scores in zip(candidates, indexes, all_segment_scores, strict=True):
        if rows.mask is not None:
            segment_scores[~rows.mask] = 0
        for phrase in query.phrases:
            segment_scores[~index.contains_all(phrase)] = 0
        positions = np.flatnonzero(segment_scores)
        row_ids.append(rows.segment.row_ids[positions])
        scores.append(segment_scores[positions])
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    ordered = zip(np.concatenate(row_ids)[order].tolist(), all_scores[order].tolist(), strict=True)
    return Matches(list(ordered), bound)


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


def _texts(segment: Segment) -> Iterator[TextBatch]:
    """The texts of a segment."""
    import numpy as np

    position = 0
    for rows in segment.columns.rows():
        known = [languages.language_of(row.metadata) for row in rows]
        yield TextBatch(np.arange(position, position + len(rows)), list(map(indexed_text, rows)), known)
        position += len(rows)


def _read(segment: Segment) -> InvertedIndex | None:
    if segment.folder is None:
        return None
    try:
        return InvertedIndex.read(segment.folder / FOLDER)
    except (OSError, EOFError, ValueError, KeyError):
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
        replaced = segment.folder / FOLDER  # damaged, or of another version
        if replaced.exists():
            replaced.rename(new / "replaced")
        new.rename(replaced)  # fails if another process was quicker, which is equally good
        shutil.rmtree(replaced / "replaced", ignore_errors=True)
    except OSError:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
