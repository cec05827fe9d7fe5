"""Which models share weights or vectors, and so failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from multimodal.core.space import Space

if TYPE_CHECKING:
    from multimodal.core.encoder import Encoder

SIMILAR = 0.9  # cosine of all shared weights, above which one model derives from the other
ENOUGH = 0.5  # of the weights must have the same name and shape


def describe_lineage(space: Space) -> tuple[str, ...]:
    """What a space is known to be made from.

    Args:
        space: A space.

    Returns:
        Sentences; empty if nothing is known.
    """
    sentences = []
    card = space.card
    if card is not None and card.base:
        sentences.append(f"derived from {card.base}")
    if card is not None and card.teacher:
        sentences.append(f"trained to match {card.teacher}, its teacher")
    for modality, encoder in space.encoders.items():
        inner = getattr(encoder, "inner", None)
        if inner is not None:
            sentences.append(f"its {modality} encoder is bridged: {type(inner).__name__} behind a projector")
        base = getattr(encoder, "base", None)
        if isinstance(base, str) and base:
            sentences.append(f"its {modality} encoder adapts {base}")
        if encoder.space_id is not None and encoder.space_id != space.name:
            sentences.append(f"its {modality} encoder was trained into the space of {encoder.space_id}")
    return tuple(dict.fromkeys(sentences))


def relation(first: Space, second: Space) -> str | None:
    """How two spaces are related by their weights or cards.

    Args:
        first: A space.
        second: Another.

    Returns:
        "the same model", "shares the text encoder", "exported from its weights: image", "weights alike …",
        "both trained to match …", or None where nothing is known.
    """
    if first.fingerprint == second.fingerprint:
        return "the same model"
    ours, theirs = (
        {
            modality: {_inner(encoder).fingerprint, encoder.fingerprint}
            for modality, encoder in own.encoders.items()
        }
        for own in (first, second)
    )
    shared = [str(modality) for modality in ours if modality in theirs and ours[modality] & theirs[modality]]
    if shared:
        return f"shares the {' and '.join(shared)} encoder"
    derived = _derived(first, second)
    if derived is not None:
        return derived
    alike = []
    for modality, encoder in first.encoders.items():
        if modality in second.encoders:
            cosine = weight_similarity(_inner(encoder), _inner(second.encoders[modality]))
            if cosine is not None and cosine >= SIMILAR:
                alike.append(f"{modality} {cosine:.3f}")
    if alike:
        return f"weights alike (cosine: {', '.join(alike)}): one derives from the other, or both from a third"
    return _by_card(first, second)


def _derived(first: Space, second: Space) -> str | None:
    """Whether encoders of one space were exported or adapted from those of the other, by the fingerprints they keep."""
    for base, child, words in (
        (first, second, "{} from its weights"),
        (second, first, "the source from which it was {}"),
    ):
        made: dict[str, list[str]] = {"exported": [], "adapted": []}
        for modality, encoder in child.encoders.items():
            if modality not in base.encoders:
                continue
            known = {base.encoders[modality].fingerprint, _inner(base.encoders[modality]).fingerprint}
            inner = _inner(encoder)
            if inner.config().get("source_fingerprint") in known:
                made["exported"].append(str(modality))
            elif known & {*encoder.adapted_from, *inner.adapted_from}:
                made["adapted"].append(str(modality))
        for how, modalities in made.items():
            if modalities:
                return f"{words.format(how)}: {', '.join(modalities)}"
    return None


def _by_card(first: Space, second: Space) -> str | None:
    if first.card is None or second.card is None:
        return None
    if second.name in (first.card.base, first.card.teacher):
        return f"made from {second.name}"
    if first.name in (second.card.base, second.card.teacher):
        return f"{second.name} is made from it"
    for own, word in ((first.card.base, "derived from"), (first.card.teacher, "trained to match")):
        if own and own in (second.card.base, second.card.teacher):
            return f"both {word} {own}"
    return None


def _inner(encoder: Encoder) -> Encoder:
    """The encoder below adapters and projectors."""
    inner: Any = getattr(encoder, "inner", None)
    return encoder if inner is None else _inner(inner)


def weight_similarity(first: Encoder, second: Encoder) -> float | None:
    """The cosine of all weights that have the same names and shapes; None if those are fewer than half."""
    ours, theirs = first.state_dict(), second.state_dict()
    names = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    total = sum(tensor.numel() for tensor in ours.values())
    if not names or sum(ours[name].numel() for name in names) < ENOUGH * total:
        return None
    dot = _sum(ours, theirs, names)
    norms = _sum(ours, ours, names) * _sum(theirs, theirs, names)
    return None if norms <= 0 else float(dot / norms**0.5)


def _sum(a: Mapping[str, Any], b: Mapping[str, Any], names: list[str]) -> float:
    return sum(float((a[name].double() * b[name].double()).sum()) for name in names)
