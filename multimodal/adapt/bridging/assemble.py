"""From projectors to a space: the second space's own encoders, and the first's with a projector behind each."""

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

FAMILY = "bridged"  # the module of encoders/ whose encoders have a projector behind them
LOWEST, HIGHEST, TRIED = 1.0, 200.0, 80  # scales of a head


def joined(
    a: Space, b: Space, over: Modality, maps: Mapping[Modality, Projector], scale: float, folder: Path | None
) -> Space:
    """B with what `maps` bring from A. `scale`: of the head for what is brought and what B has."""
    encoders = [*b.encoders.values(), *(_bridged(a, b, modality, one) for modality, one in maps.items())]
    heads: dict[Pair | None, LogitScale] = dict(b.logit_scales)
    for modality in maps:
        heads |= {(modality, other): LogitScale(scale) for other in b.modalities}
    name = f"{b.name} + {', '.join(maps)} of {a.name}"
    space = Space(encoders, heads, name=name, card=_card(a, b, over, tuple(maps), name))
    space.revisions = a.revisions | b.revisions
    space.address = None if folder is None else str(folder.resolve())
    return space


def fitted_scale(queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> float:
    """The scale that makes softmax(scale * cosine) most right about unit rows whose match is the same row."""
    import numpy as np

    cosines = (queries @ gallery.T).astype(np.float64)
    own = np.diagonal(cosines)
    best, best_loss = LOWEST, np.inf
    for scale in np.geomspace(LOWEST, HIGHEST, TRIED):
        highest = cosines.max(axis=1)
        sums = np.log(np.exp(scale * (cosines - highest[:, None])).sum(axis=1)) + scale * highest
        loss = float((sums - scale * own).mean())
        if loss < best_loss:
            best, best_loss = float(scale), loss
    return round(best, 4)


def _bridged(a: Space, b: Space, modality: Modality, projector: Projector) -> Encoder:
    family = family_module(FAMILY)
    encoder: Encoder = family.BridgedEncoder(a.encoders[modality], projector)
    homes = {one.space_id for one in b.encoders.values()}
    if len(homes) == 1:
        encoder.space_id = homes.pop()
    return encoder


def _card(a: Space, b: Space, over: Modality, brought: tuple[Modality, ...], name: str) -> Card | None:
    """What is known of the joined space; nothing if one of the two has no card. Its licence is both licences."""
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
        description=f"{', '.join(brought)} of {a.name} brought into {b.name} over {over}, without pairs",
        commercial=a.card.commercial and b.card.commercial,
    )
