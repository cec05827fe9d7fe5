"""Metrics of written answers: word and character error rates, exact match, CIDEr-D."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_GRAMS = 4
SIGMA = 6.0  # of CIDEr-D's penalty of different lengths, in words
APOSTROPHES = "'’ʼ"


def normalize(text: str) -> str:
    """Lower case, no punctuation, single spaces; digits and words stay as they are.

    Nothing in brackets is removed and no number is rewritten, unlike in Whisper's normaliser.

    >>> normalize("Twelve-thirty, [noise] (um) it's  12:30!")
    "twelve thirty noise um it's 12 30"
    """
    kept = []
    for character in unicodedata.normalize("NFKC", text).casefold():
        category = unicodedata.category(character)
        if character in APOSTROPHES:
            kept.append("'")
        else:
            kept.append(" " if category[0] in "PSZC" else character)
    words = ("".join(kept)).split()
    return " ".join(word for word in (word.strip("'") for word in words) if word)


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The least number of insertions, deletions and substitutions between two sequences (Levenshtein 1966)."""
    import numpy as np

    numbers: dict[str, int] = {}
    first, second = (
        np.array([numbers.setdefault(element, len(numbers)) for element in sequence], dtype=np.int64)
        for sequence in (reference, hypothesis)
    )
    steps = np.arange(len(second) + 1)
    row = steps.copy()
    for position, element in enumerate(first, 1):
        below = np.minimum(row[1:] + 1, row[:-1] + (second != element))
        # an insertion costs one more than the cell on its left: a running minimum of the row without its slope
        row = np.minimum.accumulate(np.concatenate(([position], below)) - steps) + steps
    return int(row[-1])


def cider(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """CIDEr-D of each candidate (Vedantam et al. 2015), on normalised words split at spaces; (n,), 0 to 10.

    The document frequencies come from the references of this very set, as in the original code, so that a set of fewer
    than two items has no scale and scores 0.
    """
    import numpy as np

    targets = [[_counts(text) for text in own] for own in references]
    documents: Counter[tuple[str, ...]] = Counter()
    for own in targets:
        documents.update(set().union(*own) if own else set())
    log_n = math.log(max(1.0, float(len(references))))
    scores = []
    for candidate, own in zip(candidates, targets, strict=True):
        counts = _counts(candidate)
        total = [_cider_pair(counts, reference, documents, log_n) for reference in own]
        scores.append(10.0 * sum(total) / len(total) if total else 0.0)
    return np.array(scores)


def _counts(text: str) -> Counter[tuple[str, ...]]:
    words = normalize(text).split()
    return Counter(
        tuple(words[start : start + n]) for n in range(1, N_GRAMS + 1) for start in range(len(words) - n + 1)
    )


def _cider_pair(
    candidate: Counter[tuple[str, ...]],
    reference: Counter[tuple[str, ...]],
    documents: Counter[tuple[str, ...]],
    log_n: float,
) -> float:
    """The mean over n-gram lengths of the clipped tf-idf cosine, with the penalty of different lengths."""
    dots, norms_a, norms_b = [0.0] * N_GRAMS, [0.0] * N_GRAMS, [0.0] * N_GRAMS
    for gram, count in candidate.items():
        idf = log_n - math.log(max(1.0, documents[gram]))
        norms_a[len(gram) - 1] += (count * idf) ** 2
        other = reference.get(gram, 0)
        dots[len(gram) - 1] += min(count, other) * idf * other * idf
    for gram, count in reference.items():
        norms_b[len(gram) - 1] += (count * (log_n - math.log(max(1.0, documents[gram])))) ** 2
    length_a = sum(count for gram, count in candidate.items() if len(gram) == 2)
    length_b = sum(count for gram, count in reference.items() if len(gram) == 2)
    penalty = math.exp(-((length_a - length_b) ** 2) / (2 * SIGMA**2))
    cosines = [
        dot / math.sqrt(a * b) if a > 0 and b > 0 else 0.0
        for dot, a, b in zip(dots, norms_a, norms_b, strict=True)
    ]
    return penalty * sum(cosines) / N_GRAMS
