"""From vectors to projectors, by whichever method."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.adapt.bridging import kernel, linear, pairs
from multimodal.adapt.bridging.checkpoint import Kept
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.projector import Projector

    Rows = NDArray[np.float32]


TELLING = 100.0  # the sharpness with which media are told by texts, as in C-MCR
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Material:
    """Unit rows to learn from.

    own (n, into), wanted (n, out): the same texts in both spaces. own_media, wanted_media: media of either space,
    without pairs.
    """

    own: Rows
    wanted: Rows
    own_media: Mapping[Modality, Rows]
    wanted_media: Mapping[Modality, Rows]


def fit(
    material: Material,
    brought: Sequence[Modality],
    method: str,
    seed: int,
    kept: Kept,
    progress: Callable[[str, int, int], None],
) -> dict[Modality, Projector]:
    """A projector for each modality to bring: all the same, but for the shift from where its media lie to where the
    texts lie (none without media)."""
    import torch

    shifts = {
        modality: material.own.mean(axis=0) - rows.mean(axis=0)
        for modality, rows in material.own_media.items()
    }
    if method == "mlp":
        shared = _learned(material, shifts, seed, kept, progress)
    elif method == "memory":
        shared = kernel.remember(material.own, material.wanted, seed)
    else:
        shared = linear.projector(material.own, material.wanted, method)
    shared.eval().requires_grad_(False)
    made = {modality: copy.deepcopy(shared) for modality in brought}
    for modality, shift in shifts.items():
        made[modality].shift.copy_(torch.from_numpy(shift))
    return made


def project(projector: Projector, rows: Rows) -> Rows:
    """Texts (n, into) -> unit rows (n, out), without the shift, which is for other modalities."""
    import torch

    plain, parts = projector.unshifted(), []
    with torch.inference_mode():
        for start in range(0, len(rows), ROWS_AT_ONCE):
            moved = plain(torch.from_numpy(rows[start : start + ROWS_AT_ONCE]))
            parts.append(torch.nn.functional.normalize(moved, dim=-1))
    found: Rows = torch.cat(parts).numpy()
    return found


def unlearned(rows: Rows, out: int, seed: int) -> Rows:
    """Rows (n, into) where nothing was learned: as they are if the sizes agree, else turned at random into `out`."""
    import numpy as np

    if rows.shape[1] == out:
        return rows
    turned = rows @ np.random.default_rng(seed).standard_normal((rows.shape[1], out)).astype(np.float32)
    return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True))


def _learned(
    material: Material,
    shifts: Mapping[Modality, Rows],
    seed: int,
    kept: Kept,
    progress: Callable[[str, int, int], None],
) -> Projector:
    """The ridge solution, and a network trained on top of it."""
    from multimodal.adapt.bridging.mlp import Recipe, learn

    recipe = Recipe()
    hidden = recipe.hidden_times * material.wanted.shape[1]
    made = linear.projector(material.own, material.wanted, "ridge", hidden=hidden, seed=seed)
    learn(
        made,
        _lessons(material, shifts),
        recipe,
        seed,
        kept,
        lambda step: progress("learning", step, recipe.steps),
    )
    return made


def _lessons(material: Material, shifts: Mapping[Modality, Rows]) -> list[pairs.Lesson]:
    """Texts toward their own vectors and the pictures they tell of; sounds toward what the texts say of them."""
    gallery = list(material.wanted_media.values())

    def targets(rows: Rows) -> list[Rows]:
        return [rows, *(pairs.told(rows, media, media, TELLING) for media in gallery)]

    lessons = [pairs.Lesson(material.own, targets(material.wanted))]
    for modality, rows in material.own_media.items():
        here, there = (
            pairs.told(rows, material.own, side, TELLING) for side in (material.own, material.wanted)
        )
        lessons.append(pairs.Lesson(pairs.unit(rows + shifts[modality]), targets(there), meets=here))
    return lessons
