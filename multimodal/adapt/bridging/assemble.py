"""Assembles the joined space: the target space's encoders, and the source space's followed by projectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.core.card import Card
from multimodal.core.encoder import Encoder
from multimodal.core.families import family_module
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Pair, Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.projector import Projector

FAMILY = "bridged"  # the encoder family of an encoder followed by a projector
MIN_SCALE, MAX_SCALE, N_SCALES = 1.0, 200.0, 80  # logit scales that are tried


def assemble(
    a: Space,
    b: Space,
    over: Modality,
    projectors: Mapping[Modality, Projector],
    scale: float,
    folder: Path | None,
) -> Space:
    """Adds A's encoders with `projectors` to B. `scale` is the logit scale between added modalities and those of B."""
    encoders = [
        *b.encoders.values(),
        *(_bridged(a, b, modality, projector) for modality, projector in projectors.items()),
    ]
    heads: dict[Pair | None, LogitScale] = dict(b.logit_scales)
    for modality in projectors:
        heads |= {(modality, other): LogitScale(scale) for other in b.modalities}
    name = f"{b.name} + {', '.join(projectors)} of {a.name}"
    space = Space(encoders, heads, name=name, card=_card(a, b, over, tuple(projectors), name))
    space.revisions = a.revisions | b.revisions
    space.address = None if folder is None else str(folder.resolve())
    return space


def fit_scale(queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> float:
    """The scale that minimises the cross-entropy of softmax(scale * cosine); unit rows (n, dim) match by position."""
    import numpy as np

    cosines = (queries @ gallery.T).astype(np.float64)
    own = np.diagonal(cosines)
    best, best_loss = MIN_SCALE, np.inf
    for scale in np.geomspace(MIN_SCALE, MAX_SCALE, N_SCALES):
        highest = cosines.max(axis=1)
        sums = np.log(np.exp(scale * (cosines - highest[:, None])).sum(axis=1)) + scale * highest
        loss = float((sums - scale * own).mean())
        if loss < best_loss:
            best, best_loss = float(scale), loss
    return round(best, 4)


def _bridged(a: Space, b: Space, modality: Modality, projector: Projector) -> Encoder:
    family = family_module(FAMILY)
    encoder: Encoder = family.BridgedEncoder(a.encoders[modality], projector)
    homes = {encoder.space_id for encoder in b.encoders.values()}
    if len(homes) == 1:
        encoder.space_id = homes.pop()
    return encoder


def _card(a: Space, b: Space, over: Modality, brought: tuple[Modality, ...], name: str) -> Card | None:
    """The card of the joined space, with both licences; None if one of the two spaces has no card."""
    if a.card is None or b.card is None:
        return None
    licences = dict.fromkeys((b.card.licence, a.card.licence))
    return Card(
        name=name,
        modalities=(*b.modalities, *brought),
        dim=b.dim,
        licence=" and ".join(licences),
        source=f"{b.card.source}; {a.card.source}",
        size_mb=round(a.card.size_mb + b.card.size_mb, 1),
        description=f"{', '.join(brought)} of {a.name} aligned with {b.name} through {over}, without paired data",
        commercial=a.card.commercial and b.card.commercial,
        base=f"{b.card.name} and {a.card.name}",
    )
