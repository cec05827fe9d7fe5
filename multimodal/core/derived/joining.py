"""`Space.__or__`: two spaces as one, if their encoders were trained into the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimodal.core.errors import SpaceMismatch

if TYPE_CHECKING:
    from multimodal.core.space import Space


def joined(left: Space, right: Space) -> Space:
    """See Space.__or__."""
    if (origin := left._origin) is not None and origin.is_same(right._origin):
        encoders = left.encoders | right.encoders
        return left._part(
            [encoders[modality] for modality in origin.modalities if modality in encoders], origin
        )
    ids = [{encoder.space_id for encoder in side.encoders.values()} for side in (left, right)]
    if len(ids[0] | ids[1]) != 1 or None in ids[0]:
        described = [
            f"{side.name!r} was trained into {' and '.join(sorted(map(_describe_id, own)))}"
            for side, own in zip((left, right), ids, strict=True)
        ]
        raise SpaceMismatch(
            "these spaces were not trained into one, so their vectors cannot be compared: "
            f"{'; '.join(described)}; join spaces that name the same one"
        )
    encoders = dict(left.encoders)
    for modality, encoder in right.encoders.items():
        if modality in encoders and encoders[modality].fingerprint != encoder.fingerprint:
            raise SpaceMismatch(
                f"both {left.name!r} and {right.name!r} encode {modality}, and differently; leave one out with "
                "space.select(…)"
            )
        encoders.setdefault(modality, encoder)
    logit_scales = {**right.logit_scales, **left.logit_scales}
    revisions = right.revisions | left.revisions
    return type(left)(encoders, logit_scales, name=f"{left.name} | {right.name}", revisions=revisions)


def _describe_id(space_id: str | None) -> str:
    return "a space of its own" if space_id is None else repr(space_id)
