"""Cosines of one query -> the probability that each hit is relevant, comparable across modalities.

Modalities occupy different regions of a shared space: a spoken query is nearer to all speech than to any image, so
plain cosine ranks by modality first. Here a cosine is compared with the other rows of its own modality. With t =
INVERSE_TEMPERATURE / (the standard deviation of the query's cosines with that modality, estimated without the highest),
a row of cosine s has

    v = t s - log mean exp(t s')      over all other rows s' of the modality
    p = 1 / (1 + exp(-(slope v + intercept - log rows)))      rows: of the index, per modality, on average

The mean is that of a softmax whose temperature comes from the query's own cosines, so the temperature at which a space
was trained does not matter. It is not summed over the whole index: the TOP_ROWS nearest rows are known exactly from the
search, and a few sampled rows stand for all others; 100 sampled rows come within 0.2 nDCG of 2,000. Within a modality p
is a monotonic function of the cosine for any slope and intercept, so the order stays that of cosine.

Among ten rows, a match is a tenth of the sample, and widens the standard deviation by which it is measured. So the
highest cosine is left out, and the variance of the others is divided by the share of it that normal values keep without
their highest. Ten rows with a match then have the deviation of ten rows without one, and of a thousand rows it remains
nearly the same. In galleries of ten concepts the calibration error is 0.04; with the highest cosine, it was 0.09 to
0.10, and all probabilities were too low.

Rows that are hardly related to the query can stand out too, if all rows of their modality are alike: among sentences
about an office, one is always nearest to "a dog". The index itself states how far cosines of unrelated items of two
modalities differ: their standard deviation b between sampled rows (reference_sample.py), without the highest cosine of
each row. The standard deviation of the query's cosines is drawn towards b where there are few rows, and is at least
half of it. And a row of height h = (s - median of the query's cosines) / b loses DEDUCTION (near - h)^2 of its logit
where h is below `near`, which is NEAR for up to NEAR_ROWS rows and rises with their logarithm. All terms are monotonic
functions of the cosine. In 18 indexes of the images and clips of assets/gallery with 12 to 272 sentences about an
office, with and without the gallery's notes, 24 queries for things in the gallery put a sentence above 45 of 918 images
and clips of them without these terms, and above none with them.

Slope and intercept are SAME_MODALITY for rows of the query's own modality and CROSS_MODALITY for others. Audio clips
with different meanings still sound alike, and images look alike, so the bar is higher within a modality. A weighted
query is interpolated by its weights. A plain vector has no known modality, and uses SAME_MODALITY everywhere.

Comparison with alternatives. nDCG@10 in percent, the mean of text, image and speech queries, in three galleries: even
(a text, an image and a clip of each concept), gaps (half of the concepts lack a modality), uneven (1,427 texts, 357
images, 179 clips). On the starter, and on a small space trained separately for minutes (recipes/bridge: 128 dimensions,
another seed, scale 20 instead of 26; it retrieves a third as much, and plain cosine gives a spoken query only speech).

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
    this method         69.6  69.7  73.1     21.1  22.5  23.8
    (upper bound)       74.5  76.2  76.3     29.9  31.9  29.7

The upper bound is the best order that keeps each modality's own order. Reciprocal rank gives each modality the same
share of the results: best where the shares are equal, below plain cosine where they are not, and best in a space so
weak that ranks carry more information than distances; it has no probability. No method is best in both spaces. On an
earlier speech tower, INVERSE_TEMPERATURE = 1.5 ranked 0.3 better in the starter's even gallery, but one modality then
took up to 50 % of the top ten. A term for the rank within a modality gains 0.8 in the small space's even gallery, and
loses 0.3 in uneven ones. Boosted trees, trained with labels on all of the above and on how well the first hits of the
modalities agree, ranked at most 1 better on the starter, and not in every gallery. benchmarks/fairness.py repeats the
measurements, in these and other spaces.

Meaning of p. The constants were fitted on the starter, on half of the concepts and on kinds of queries that are not in
the table (recipes/starter/figures/calibrate.py), for the event "same concept". On the other half the expected
calibration error is 0.03 to 0.04 in these galleries, and 0.04 in smaller ones, down to ten concepts. The figures of the
small space were measured with the highest cosine in the deviations, and its calibration error was 0.02 to 0.05. No
labels of an index are used, so elsewhere p states how far a row stands out: about right where a query has one match, or
none, in a modality. Where it has many (a hundred cats among a thousand images), each of them stands out less, and p is
too low: the order still holds, a min_probability threshold does not.

Choosing min_probability. 0.87 was chosen on one half of the concepts. On the other half, of 214 concepts that are not
in the starter's index, nor anything similar, 2 % of text, 1 % of image and 5 % of speech queries return anything; of
concepts that are in the index, 93, 82 and 96 % are found; results are similar in an index of 40 concepts and of 1,000.
Where similar concepts are in the index (a grinning cat when a sad one is requested), 10 to 13 % return those at 0.87
and 4 to 7 % at 0.95, with 73 to 84 % found. Queries far from the training data are rejected like absent concepts: 37 to
39 % of names spoken by other synthesisers pass 0.87, 10 % of another artist's drawings, 19 % of held-out keywords; in
the small space none pass. There, inspect some results and choose a lower threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INVERSE_TEMPERATURE = 1.25  # in units of 1 / (standard deviation of the cosines)
# (slope, intercept) for rows of the query's own modality, and of others.
SAME_MODALITY, CROSS_MODALITY = (1.45, -1.67), (1.92, -2.92)
TOP_ROWS = 32  # nearest rows of each modality whose cosines are known exactly
MIN_ROWS = 10  # of a modality; a standard deviation of fewer is unreliable
MIN_DEVIATION = 1e-4  # of cosines, below which all rows are alike and none stands out
COSINE_TOLERANCE = 1e-5  # cosines closer than this may be the same, computed in another way
DECIMALS = 4  # of logits and probabilities: differences beyond are rounding
MIN_OTHERS = 1e-12  # least sum of the other rows, relative to the best row
PRIOR_ROWS = 10  # rows that the background counts as, beside the sampled ones, in the standard deviation
MIN_BACKGROUND_SHARE = 0.5  # least standard deviation, relative to the background's
# Expected square of the highest of n standard normal values, as powers of log(n); within 0.6 % of it for 3 to 1,024.
SQUARED_HIGHEST = (0.6456, 0.2034, 0.3683, -0.0296)
# Standard deviations of the background above the median, below which hardly any row is a match, among up to NEAR_ROWS
# rows. The nearest of more unrelated rows is nearer.
NEAR, NEAR_ROWS, NEAR_PER_TENFOLD = 2.25, 300, 0.5
DEDUCTION = 3.0  # of the logit, times the square of how far a row lies below NEAR


@dataclass(frozen=True)
class Coefficients:
    """(slope, intercept) of the logit as a function of v, for rows of the query's own modality and of others."""

    same_modality: tuple[float, float] = SAME_MODALITY
    cross_modality: tuple[float, float] = CROSS_MODALITY

    def mixed(self, same_modality: float) -> tuple[float, float]:
        """(slope, intercept) for a query of which a share is of the rows' modality."""
        slope, intercept = (
            same_modality * same + (1 - same_modality) * cross
            for same, cross in zip(self.same_modality, self.cross_modality, strict=True)
        )
        return slope, intercept


DEFAULT_COEFFICIENTS = Coefficients()


@dataclass(frozen=True)
class ModalityCalibration:
    """How the cosines of one query with the rows of one modality are converted to logits.

    inverse_temperature: t in the module's formula. best: the highest cosine. total: the sum of exp(t (s - best)) over
    all `n_rows` rows of the modality. slope, intercept: of the logit as a function of v. log_rows: logarithm of
    the mean number of rows per modality. center: median of the query's cosines with the modality. background: standard
    deviation of the cosines of unrelated pairs; None if it is not known.
    """

    inverse_temperature: float
    best: float
    total: float
    n_rows: int
    slope: float
    intercept: float
    log_rows: float
    center: float = 0.0
    background: float | None = None

    @classmethod
    def fit(
        cls,
        sampled: NDArray[np.floating],
        top: Sequence[float],
        n_rows: int,
        mean_rows: float,
        same_modality: float = 1.0,
        background: float | None = None,
        coefficients: Coefficients = DEFAULT_COEFFICIENTS,
    ) -> ModalityCalibration:
        """Calibrates one query against one modality.

        Args:
            sampled: Cosines (m,) of the query with random rows of the modality.
            top: Cosines of its nearest rows, highest first.
            n_rows: Rows of the modality.
            mean_rows: Mean number of rows per modality.
            same_modality: Share of the query that is of this modality, 0 to 1.
            background: Standard deviation of the cosines of unrelated pairs of these two modalities.
            coefficients: Of the logit.
        """
        import numpy as np

        known, sample = np.asarray(top, np.float64), np.asarray(sampled, np.float64)
        inverse_temperature = INVERSE_TEMPERATURE / max(_deviation(sample, background), MIN_DEVIATION)
        best, last = float(known[0]), float(known[-1])
        below = sample[sample < last - COSINE_TOLERANCE]
        rest = (
            float(np.exp(inverse_temperature * (below - best)).mean())
            if len(below)
            else math.exp(inverse_temperature * (last - best))
        )
        exact = float(np.exp(inverse_temperature * (known - best)).sum())
        total = exact + max(0, n_rows - len(known)) * rest
        slope, intercept = coefficients.mixed(same_modality)
        center = float(np.median(sample))
        return cls(
            inverse_temperature, best, total, max(2, n_rows), slope, intercept, math.log(mean_rows), center, background
        )  # fmt: skip

    def logits(self, cosines: Sequence[float]) -> list[float]:
        """log(p / (1 - p)) of cosines in falling order; the logits fall, or stay equal, too."""
        logits: list[float] = []
        for cosine in cosines:
            logit = self.slope * self.prominence(cosine) + self.intercept - self.log_rows
            logit = round(logit - self.deduction(cosine), DECIMALS)
            # Rounding in exp and log must not swap two rows.
            logits.append(min(logit, logits[-1]) if logits else logit)
        return logits

    def prominence(self, cosine: float) -> float:
        """v in the module's formula: how far a row stands out from the other rows of its modality."""
        above = self.inverse_temperature * (cosine - self.best)
        others = max(self.total - math.exp(min(above, 0.0)), MIN_OTHERS)
        return above - math.log(others / (self.n_rows - 1))

    def deduction(self, cosine: float) -> float:
        """What the logit loses where a cosine is no higher than those of unrelated pairs; 0 for other cosines."""
        if self.background is None:
            return 0.0
        height = (cosine - self.center) / max(self.background, MIN_DEVIATION)
        near = NEAR + NEAR_PER_TENFOLD * math.log10(max(1.0, self.n_rows / NEAR_ROWS))
        return DEDUCTION * max(0.0, near - height) ** 2


def deviation_without_highest(cosines: NDArray[np.floating]) -> float:
    """The standard deviation of cosines, estimated without the highest one, which may be that of a match.

    Of n normal values, those without the highest keep `share` of the variance on average; the estimate is divided
    by it.

    Args:
        cosines: (n,) of one query, or (queries, n): then the variance of the queries' means is added. With one or two
            rows, none is left out.
    """
    import numpy as np

    values = np.asarray(cosines, np.float64)
    n = values.shape[-1]
    if n <= 2:
        return float(values.std())
    means = values.mean(-1)
    values = values - means[..., None]
    highest = values.max(-1)  # so that the sum of the others is -highest
    squares = np.einsum("...i,...i->...", values, values) - highest**2
    variance = float(np.mean(squares / (n - 1) - (highest / (n - 1)) ** 2))
    log_n = math.log(n)
    squared_highest = sum(factor * log_n**power for power, factor in enumerate(SQUARED_HIGHEST))
    share = ((n - squared_highest) / (n - 1) - (n - 2 + squared_highest) / (n - 1) ** 2) * n / (n - 1)
    return math.sqrt(max(variance, 0.0) / share + float(means.var()))


def _deviation(sample: NDArray[np.float64], background: float | None) -> float:
    """The standard deviation of a query's cosines: of few rows drawn towards the background, and never far below it."""
    deviation = deviation_without_highest(sample)
    if background is None:
        return deviation
    n = len(sample) - 1
    variance = (n * deviation**2 + PRIOR_ROWS * background**2) / (n + PRIOR_ROWS)
    return max(math.sqrt(variance), MIN_BACKGROUND_SHARE * background)


def probability(logit: float) -> float:
    """1 / (1 + exp(-logit)), without overflow."""
    value = 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))
    return round(value, DECIMALS)
