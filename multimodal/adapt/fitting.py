"""From vectors to projectors, by whichever method."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.adapt import pairs, solved
from multimodal.adapt.kept import Kept
from multimodal.core.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.projector import Projector

    Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """Unit rows to learn from.

    own (n, into), wanted (n, out): the same texts in both spaces. own_media, wanted_media: media of either space,
    without pairs, and the factor by which that space's cosines of text and that modality become logits.
    """

    own: Rows
    wanted: Rows
    own_media: Mapping[Modality, tuple[Rows, float]]
    wanted_media: Mapping[Modality, tuple[Rows, float]]


def fit(
    material: Material,
    brought: Sequence[Modality],
    method: str,
    seed: int,
    kept: Kept,
    progress: Callable[[str, int, int], None],
) -> dict[Modality, Projector]:
    """A projector for each modality to bring. The map is one; each has its own shift, from where its media lie to where
    the texts lie (none without media)."""
    import torch

    shifts = {
        modality: material.own.mean(axis=0) - rows.mean(axis=0)
        for modality, (rows, _) in material.own_media.items()
    }
    shared = (
        _learned(material, shifts, seed, kept, progress) if method == "mlp" else _solved(material, method)
    )
    shared.eval().requires_grad_(False)
    made = {modality: copy.deepcopy(shared) for modality in brought}
    for modality, shift in shifts.items():
        made[modality].shift.copy_(torch.from_numpy(shift))
    return made


def project(projector: Projector, rows: Rows) -> Rows:
    """Texts (n, into) -> unit rows (n, out), without the shift, which is for other modalities."""
    import torch

    plain = copy.deepcopy(projector)
    plain.shift.zero_()
    with torch.inference_mode():
        return np_rows(torch.nn.functional.normalize(plain(torch.from_numpy(rows)), dim=-1))


def unlearned(rows: Rows, out: int, seed: int) -> Rows:
    """Rows (n, into) where nothing was learned: as they are if the sizes agree, else turned at random into `out`."""
    import numpy as np

    if rows.shape[1] == out:
        return rows
    turned = rows @ np.random.default_rng(seed).standard_normal((rows.shape[1], out)).astype(np.float32)
    return np.asarray(turned / np.linalg.norm(turned, axis=1, keepdims=True))


def np_rows(tensor: object) -> Rows:
    return tensor.cpu().numpy()  # type: ignore[attr-defined, no-any-return]


def _solved(material: Material, method: str, hidden: int = 0) -> Projector:
    import torch

    from multimodal.core.projector import Projector

    solve = solved.procrustes if method == "procrustes" else solved.ridge
    weight, bias = solve(material.own, material.wanted)
    made = Projector(material.own.shape[1], material.wanted.shape[1], hidden)
    made.linear.weight.data = torch.from_numpy(weight).float().contiguous()  # as it will be read from a file
    made.linear.bias.data = torch.from_numpy(bias).float()
    return made


def _learned(
    material: Material,
    shifts: Mapping[Modality, Rows],
    seed: int,
    kept: Kept,
    progress: Callable[[str, int, int], None],
) -> Projector:
    """The ridge solution, and a network trained on top of it."""
    import torch

    from multimodal.adapt.learned import Recipe, learn

    recipe = Recipe()
    with torch.random.fork_rng(devices=[]):  # the caller's own random numbers go on undisturbed
        torch.manual_seed(seed)
        made = _solved(material, "ridge", recipe.hidden_times * material.wanted.shape[1])
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
        return [rows, *(pairs.told(rows, media, media, scale) for media, scale in gallery)]

    lessons = [pairs.Lesson(material.own, targets(material.wanted))]
    for modality, (rows, scale) in material.own_media.items():
        here, there = (
            pairs.told(rows, material.own, side, scale) for side in (material.own, material.wanted)
        )
        lessons.append(pairs.Lesson(pairs.unit(rows + shifts[modality]), targets(there), meets=here))
    return lessons
