"""Coefficients of answerability.py, as `python -m benchmarks.answers --fit` prints them for two kinds of spaces.

LEXICAL is for spaces that hardly relate other words, and where there is no space. SEMANTIC is for spaces that do
(`Semantics.is_semantic`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Fit(NamedTuple):
    """A logistic regression over `Evidence`. threshold: the logit from which a source is taken to answer."""

    intercept: float
    threshold: float
    coefficients: Mapping[str, float]


LEXICAL = Fit(-4.180, -1.631, {
    "words": 1.973, "typed_coverage": 2.001, "lacks_type": -1.41, "coverage_margin": 1.831, "counts_noun": 1.437,
    "asks_number": -1.123, "asks_name": -0.586, "asks_money": -1.881, "matched": 0.725, "lacks_number": -4.271,
    "lacks_last": -0.459, "lacks_first": -1.115, "lacks_two": -0.039, "states_money": 1.668, "loss": 0.541,
})  # fmt: skip
SEMANTIC = Fit(-4.407, -0.961, {
    "words": 2.466, "typed_coverage": 1.419, "lacks_type": -1.59, "coverage_margin": 0.902, "affinity": 0.06,
    "affinity_margin": 0.232, "counts_noun": 1.755, "asks_number": -0.969, "asks_name": -0.085, "asks_money": -1.82,
    "matched": 0.575, "lacks_number": -4.399, "lacks_last": -0.421, "lacks_first": -1.422, "lacks_two": 0.335,
    "states_money": 1.145, "loss": 0.765,
})  # fmt: skip
