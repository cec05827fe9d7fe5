"""The bridge that remembers: a rotation, and for each text of the corpus what the rotation leaves over.

A sound is told by the texts it lies near in its own space, which is what that space was trained for, and goes where
those texts lie in the other space. It is C-MCR's semantic enhancement (Wang et al. 2023) used as the map itself, on top
of what a rotation explains: where the two spaces lie alike, the rotation does the work and carries to what no text told
of; where they do not, the memory does, for whatever the texts name.
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

MOST = 20_000  # texts; of 512 numbers each in both spaces they are 82 MB
SHARPNESSES = (10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
ASKED = 1000  # texts by which the sharpness is chosen
DISTURBANCE = 0.75  # length of the noise beside a vector's own: cosine 0.8, as between a text and its sound


def remember(own: Rows, wanted: Rows, seed: int) -> Projector:
    """The same texts (n, into) and (n, out) -> a projector that remembers at most MOST of them.

    Of SHARPNESSES it takes the one by which most texts, disturbed, are found again from the other texts alone.
    """
    import numpy as np
    import torch

    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(own), min(MOST, len(own)), replace=False))
    made = linear.projector(own, wanted, "procrustes", remembered=len(chosen))
    own, wanted = own[chosen], wanted[chosen]
    weight, bias = made.linear.weight.numpy(force=True), made.linear.bias.numpy(force=True)
    left_over = wanted - (own @ weight.T + bias)
    asked = np.sort(rng.choice(len(own), min(ASKED, len(own)), replace=False))
    rows = disturbed(own[asked], seed)
    cosines, mapped = rows @ own.T, rows @ weight.T + bias
    cosines[np.arange(len(asked)), asked] = -np.inf  # from the others alone

    def found(sharpness: float) -> tuple[float, float]:
        shares = recall(pairs.unit(mapped + pairs.softmax(sharpness * cosines) @ left_over), wanted[asked])
        return shares["R@10"], shares["R@1"]

    made.here.copy_(torch.from_numpy(own))
    made.there.copy_(torch.from_numpy(left_over))
    made.sharpness.fill_(max(SHARPNESSES, key=found))
    return made


def disturbed(rows: Rows, seed: int) -> Rows:
    """Unit rows, each turned by noise of a fixed length: as far from a text as its sound may lie."""
    import numpy as np

    noise = np.random.default_rng(seed).standard_normal(rows.shape).astype(np.float32)
    return pairs.unit(rows + DISTURBANCE * pairs.unit(noise))
