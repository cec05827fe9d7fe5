"""Cosines of one query -> how likely each hit is what was meant, comparable from one modality to another.

A shared space is not evenly filled: a spoken query is nearer to all speech than to any picture, so plain cosine ranks
by modality first. Here a cosine is read against the other rows of its own modality. With t = TILT / (the standard
deviation of the query's cosines with that modality), a row of cosine s stands out by

    v = t s - log mean exp(t s')      over all other rows s' of the modality
    p = 1 / (1 + exp(-(slope v + level - log rows)))      rows: of the index, for each modality, on average

The mean is that of a softmax at a temperature taken from the query's own cosines, so it does not matter at which one a
space was trained. It is not summed over the whole index: the TOP nearest rows are known exactly from the search, and a
few sampled rows stand for all below them; 100 sampled rows come within 0.2 nDCG of 2,000. Within a modality p rises
with the cosine, whatever the numbers are, so its order stays that of cosine.

Slope and level are ALIKE for what a query finds in its own modality and ACROSS for what it finds in others: clips that
mean different things still sound alike, and pictures look alike, so a row must stand out further there (of absent
things, one query in twenty finds v = 6.6 among its own and 5.2 among others). A query of several parts lies between, by
their weights; a vector, of which it is not known what it is, is read as ALIKE.

Why this one. nDCG@10 in percent, the mean of text, image and speech queries, in three galleries: even (a text, a
picture and a clip of each thing), gaps (half of the things lack a modality), uneven (1,427 texts, 357 pictures, 179
clips). On the starter, and on a small space that was trained apart for minutes (recipes/bridge, "trained into one": 128
numbers, another seed, scale 20 instead of 26; it finds a third as much, and plain cosine gives a spoken query only
speech).

                          starter              small
                        even  gaps  uneven   even  gaps  uneven
    plain cosine        64.8  65.8  71.7     22.1  21.2  20.4
    reciprocal rank     70.0  67.8  71.0     24.3  24.0  21.8
    centred             65.3  66.4  71.8     22.9  22.2  22.2
    robust z            65.8  66.8  72.0     20.2  21.2  21.7
    z, all pairs        66.8  67.9  72.4     20.7  21.7  23.2
    z, each query       67.2  67.9  72.7     21.6  22.6  23.7
    exponential tail    68.2  68.2  72.3     20.6  22.0  24.7
    empirical tail      67.0  59.7  71.3     22.0  20.4  25.3
    this                69.6  69.5  73.2     21.1  22.5  23.8
    (the most)          74.5  76.2  76.3     29.9  31.9  29.7

The last line is what the best of all orders would reach that leaves each modality's own as it is. Reciprocal rank gives
each modality the same share whatever it holds: best where that is true, below plain cosine where it is not, and the
best in a space so poor that places tell more than distances; it has no probability. No way is best in both spaces. On
an earlier speech tower: TILT 1.5 ranks 0.3 better in the starter's even gallery, but its shares of the top ten reach 50
%. A term for the place within a modality gains 0.8 in the small space's even gallery, and loses 0.3 in uneven ones.
Boosted trees, taught by labels on all of the above and on how well the first hits of the modalities agree, ranked no
more than 1 better on the starter, and not in every gallery. benchmarks/fairness.py measures it all again, in this and
any other space.

What p means. The constants were fitted on the starter, on half of the concepts and on kinds of queries that are not in
the table (recipes/starter/figures/calibrate.py), for "the same concept". On the other half the expected
calibration error is
0.03 to 0.05 in these galleries, and 0.02 to 0.05 in those of the small space. No labels of an index enter, so elsewhere
p is a claim about how far a row stands out: about right where a query has one match, or none, in a modality. Where it
has many (a hundred cats among a thousand pictures), each of them stands out less, and p is too low: the order still
holds, min_probability does not.

Which min_probability. 0.87, chosen on one half of the concepts. On the other, of 214 things that are not in the
starter's index, nor anything like them, 2 % of text, 1 % of picture and 5 % of speech queries find anything, and of
those that are there 92, 82 and 96 % are found; much the same in an index of 40 things and of 1,000. Where things alike
are in the index (a grinning cat when a sad one is asked for), 10 to 13 % find those at 0.87 and 4 to 6 % at 0.95, at 71
to 83 % found. Queries far from what the space was trained on are rejected with what is absent: 36 to 39 % of names by
other synthesisers pass 0.87, 10 % of another artist's drawings, 19 % of keywords that were held out; and of the small
space nothing does. There, look at a few answers and choose a lower one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TILT = 1.25
# (slope, level) of what a query finds in its own modality, and in others.
ALIKE, ACROSS = (1.45, -1.5), (1.9, -2.75)
TOP = 32  # of each modality, rows whose cosines are known
LEAST = 10  # rows of a modality; a standard deviation of fewer is a guess
LEAST_SPREAD = 1e-4  # of cosines, below which all rows are alike, and nothing stands out
SURE = 1e-5  # cosines that differ by less may be the same, computed in another way
DECIMALS = 4  # of logits and probabilities: what differs beyond is rounding
NOTHING = 1e-12  # as a share of the best row: what the others add up to at least


@dataclass(frozen=True)
class Scale:
    """How the cosines of one query with one modality are read.

    tilt: t above. best: the highest cosine. total: the sum of exp(t (s - best)) over all `rows` of the modality.
    slope: what v is multiplied by; level: what is added then.
    """

    tilt: float
    best: float
    total: float
    rows: int
    slope: float
    level: float

    @classmethod
    def of(
        cls,
        sampled: NDArray[np.floating],
        top: Sequence[float],
        rows: int,
        mean_rows: float,
        alike: float = 1.0,
    ) -> Scale:
        """sampled: cosines of the query with some rows of the modality, from all over. top: those of its nearest rows,
        the highest first. rows: of the modality; mean_rows: of all modalities, on average. alike: how much of the
        query is of this modality, 0 to 1."""
        import numpy as np

        known, some = np.asarray(top, np.float64), np.asarray(sampled, np.float64)
        tilt = TILT / max(float(some.std()), LEAST_SPREAD)
        best, last = float(known[0]), float(known[-1])
        below = some[some < last - SURE]
        rest = float(np.exp(tilt * (below - best)).mean()) if len(below) else math.exp(tilt * (last - best))
        total = float(np.exp(tilt * (known - best)).sum()) + max(0, rows - len(known)) * rest
        slope, level = (alike * own + (1 - alike) * other for own, other in zip(ALIKE, ACROSS, strict=True))
        return cls(tilt, best, total, max(2, rows), slope, level - math.log(mean_rows))

    def logits(self, cosines: Sequence[float]) -> list[float]:
        """log(p / (1 - p)) of cosines that fall, or stay the same; so do these."""
        found: list[float] = []
        for cosine in cosines:
            above = self.tilt * (cosine - self.best)
            others = max(self.total - math.exp(min(above, 0.0)), NOTHING)
            logit = round(self.slope * (above - math.log(others / (self.rows - 1))) + self.level, DECIMALS)
            # Rounding in exp and log must not turn two rows around.
            found.append(min(logit, found[-1]) if found else logit)
        return found


def probability(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow."""
    value = 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
    return round(value, DECIMALS)
