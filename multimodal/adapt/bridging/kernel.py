"""The default bridge: a rotation, and a kernel regression on its residuals at the corpus texts.

An audio item attends to the texts that are near it in its own space, and moves to where those texts are in the target
space. This is C-MCR's semantic enhancement (Wang et al. 2023) used as the map itself, on top of a rotation. Where the
geometry of the two spaces is similar, the rotation explains most and generalises beyond the corpus; where it is not,
the kernel regression maps what the corpus names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimodal.adapt.bridging import linear, pairs
from multimodal.adapt.bridging.report import recall

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.projector import Projector

    Rows = NDArray[np.float32]

MAX_STORED = 20_000  # texts; 82 MB if both spaces have 512 dimensions
INVERSE_TEMPERATURES = (10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
N_VALIDATION = 1000  # texts used to choose the inverse temperature
NOISE = 0.75  # norm of the noise added to unit vectors: cosine 0.8, as between a text and its audio


def fit_kernel(source: Rows, target: Rows, seed: int) -> Projector:
    """Fits a rotation and a kernel regression on its residuals.

    The inverse temperature of INVERSE_TEMPERATURES with the highest leave-one-out recall on perturbed texts is chosen.

    Args:
        source: Unit rows (n, source dim) of the corpus.
        target: Unit rows (n, target dim) of the same items.
        seed: Seed for the choice of texts.

    Returns:
        A projector that stores at most MAX_STORED texts.
    """
    import numpy as np
    import torch

    rng = np.random.default_rng(seed)
    stored = np.sort(rng.choice(len(source), min(MAX_STORED, len(source)), replace=False))
    projector = linear.fit_projector(source, target, "procrustes", n_stored=len(stored))
    source, target = source[stored], target[stored]
    weight = projector.linear.weight.numpy(force=True)
    bias = projector.linear.bias.numpy(force=True)
    residuals = target - (source @ weight.T + bias)
    validation = np.sort(rng.choice(len(source), min(N_VALIDATION, len(source)), replace=False))
    rows = perturbed(source[validation], seed)
    cosines, mapped = rows @ source.T, rows @ weight.T + bias
    cosines[np.arange(len(validation)), validation] = -np.inf  # leave-one-out

    def score(inverse_temperature: float) -> tuple[float, float]:
        corrected = mapped + pairs.softmax(inverse_temperature * cosines) @ residuals
        shares = recall(pairs.unit(corrected), target[validation])
        return shares["R@10"], shares["R@1"]

    projector.here.copy_(torch.from_numpy(source))
    projector.there.copy_(torch.from_numpy(residuals))
    projector.sharpness.fill_(max(INVERSE_TEMPERATURES, key=score))
    return projector


def perturbed(rows: Rows, seed: int) -> Rows:
    """Unit rows (n, dim) with noise of a fixed norm, about as far away as audio is from its text; unit rows again."""
    import numpy as np

    noise = np.random.default_rng(seed).standard_normal(rows.shape).astype(np.float32)
    return pairs.unit(rows + NOISE * pairs.unit(noise))
