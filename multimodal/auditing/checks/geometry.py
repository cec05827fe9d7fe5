"""Hubness, and the gap between modalities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimodal.auditing.checks.common import NotTested, Subject, distinct_names
from multimodal.auditing.finding import Finding
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

FEWEST = 20
NEIGHBOURS = 10
SKEW_LIMIT = 2.0


def geometry(subject: Subject) -> list[Finding]:
    """Hubness in both directions, and the modality gap, of names and images."""
    subject.needs(Modality.IMAGE, Modality.TEXT)
    places, names = distinct_names(subject.material.image_names)
    if len(places) < FEWEST:
        raise NotTested(f"{len(places)} images with names, at least {FEWEST} are needed")
    texts, images = subject.texts(names), subject.clean_images()[places]
    return [
        _hubness(subject, "names to images", texts, images),
        _hubness(subject, "images to names", images, texts),
        _gap(subject, texts, images),
    ]


def skewness(queries: Rows, gallery: Rows) -> tuple[float, float]:
    """The skewness of how often an item is among the nearest of a query, and the share of items that never are."""
    import numpy as np

    k = min(NEIGHBOURS, max(1, len(gallery) // 5))
    near = np.argpartition(-(queries @ gallery.T), k - 1, axis=1)[:, :k]
    counts = np.bincount(near.ravel(), minlength=len(gallery)).astype(np.float64)
    spread = counts.std()
    skew = 0.0 if spread == 0 else float((((counts - counts.mean()) / spread) ** 3).mean())
    return skew, float((counts == 0).mean())


def _hubness(subject: Subject, name: str, queries: Rows, gallery: Rows) -> Finding:
    import numpy as np

    skew, unreached = skewness(queries, gallery)
    rng = np.random.default_rng(subject.seed)
    draws = []
    for _ in range(200):
        pick = rng.integers(0, len(queries), len(queries))
        draws.append(skewness(queries[pick], gallery)[0])
    low, high = np.quantile(draws, [0.025, 0.975])
    random_rows = [rng.standard_normal(rows.shape).astype(np.float32) for rows in (queries, gallery)]
    random_rows = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in random_rows]
    control = skewness(*random_rows)[0]
    warns = skew > SKEW_LIMIT
    return Finding(
        f"hubness: {name}",
        "geometry",
        "warn" if warns else "fine",
        f"skewness {skew:.2f} of the number of times an item is retrieved; {unreached:.0%} never are",
        skew,
        float(low),
        float(high),
        "random directions in as many dimensions",
        control,
        f"above {SKEW_LIMIT:g}",
        len(queries),
        "correct the scores of hubs, as by inverted softmax" if warns else "",
        details={"never retrieved": round(unreached, 4)},
    )


def gap(texts: Rows, images: Rows) -> float:
    """The distance between the means of two sets, without what the noise of both means adds to it."""
    first, second = texts.astype("float64"), images.astype("float64")
    squared = float(((first.mean(0) - second.mean(0)) ** 2).sum())
    noise = sum(float(rows.var(0, ddof=1).sum()) / len(rows) for rows in (first, second))
    return max(0.0, squared - noise) ** 0.5


def _gap(subject: Subject, texts: Rows, images: Rows) -> Finding:
    """The distance between the means of texts and images, and how well a line separates them."""
    import numpy as np

    both, n = np.concatenate([texts, images]), len(texts)
    rng = np.random.default_rng(subject.seed)
    value, null, draws = gap(texts, images), [], []
    for _ in range(200):
        order, pick = rng.permutation(len(both)), rng.integers(0, n, n)
        null.append(gap(both[order[:n]], both[order[n:]]))
        draws.append(gap(texts[pick], images[pick]))
    control = float(np.quantile(null, 0.95))
    direction = texts.mean(0) - images.mean(0)
    separability = float(((texts @ direction)[:, None] > (images @ direction)[None]).mean())
    # resampling adds its own noise to the means: the spread of the draws is taken, and centred on the value
    low, high = np.quantile(draws, [0.025, 0.975]) - np.mean(draws) + value
    return Finding(
        "modality gap: text and images",
        "geometry",
        "info",
        f"the means of texts and images lie {value:.2f} apart; a matching pair has cosine "
        f"{float((texts * images).sum(1).mean()):.2f}",
        value,
        float(low),
        float(high),
        "95 % with the modalities exchanged at random",
        control,
        "no limit: thresholds on cosines differ between pairs of modalities",
        len(texts),
        details={"separability (AUC)": round(separability, 4)},
    )
