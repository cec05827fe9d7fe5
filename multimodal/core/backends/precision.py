"""precision="auto": bfloat16 where it is fast and a trial shows that it changes no vector noticeably.

1. Only the large matrix products use bfloat16 (`mixed_precision`); everything between them stays in float32. A ViT-B/32
   then runs 3.6 times as fast as in float32, within 5 % of a model cast as a whole, at a tenth of its loss
   (1 - cosine, measured).
2. A trial: the items of `space.self_test()` and a few prompts that differ in one word are encoded in float32 and
   again in bfloat16. Each side is centred, since what all vectors share hides their differences. If the smallest
   cosine between the two is below MIN_COSINE, the model goes back to float32; random weights, for example, give
   vectors too similar for 8 bits. MIN_COSINE is stricter than the 0.999 that the documentation promises because the
   trial is small; for items much more alike than the labels of a prompt nothing is promised.

Models that are normalised by BatchNorm stay in float32 without a trial: BatchNorm does not rescale a rounding error,
and similar items can differ by a cosine of 0.95 (measured) where the items of the trial do not. Encoders that share
layers are tried and decided together. The result is `encoder.precision_decision`, and in words `space.runtime_info`.
`precision="bfloat16"` casts the whole model without a trial. OpenVINO rounds products itself and is tried the same way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from multimodal.core.backends.runtime import PrecisionDecision

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.encoder import Encoder

MIN_COSINE = 0.9997  # centred
# A layer's output stays bfloat16 if it is this many times wider than its input, tried in this order: fused query, key
# and value, and the first layer of an MLP; the latter alone, where attention needs one dtype for all its inputs; none,
# where a norm inside the MLP does.
WIDE_FACTORS = (2.0, 3.5, math.inf)
MIN_NORM = 1e-6  # of a centred unit vector; below it float32 holds no direction
SIMILAR_WORDS = ("cat", "dog", "horse", "car", "house", "tree", "violin", "lamp")


def resolve_precision(encoders: Iterable[Encoder]) -> None:
    """Decides for every encoder with precision="auto" that is still undecided, and exchanges its layers.

    Encoders must be in float32. float32 layers on the CPU then use the faster library (`onednn`). Deferred encoders do
    that themselves when they build their net.
    """
    encoders = [encoder for encoder in encoders if not encoder.is_deferred]
    _decide_all(encoders)
    by_torch = [
        encoder for encoder in encoders if encoder.net is not None and encoder.runtime.engine == "torch"
    ]
    on_cpu = [encoder.net for encoder in by_torch if encoder.runtime.torch_device.type == "cpu"]
    if on_cpu:
        from multimodal.core.backends.onednn import use_onednn

        use_onednn(on_cpu)


def _decide_all(encoders: list[Encoder]) -> None:
    undecided = [
        encoder
        for encoder in encoders
        if encoder.runtime.precision == "auto" and encoder.precision_decision is None
    ]
    if not undecided:
        return  # without importing torch
    for group in _groups_sharing_layers([encoder for encoder in undecided if encoder.net is not None]):
        _assign(group, _decide(group))
    without_net = [encoder for encoder in undecided if encoder.net is None]
    _assign(without_net, PrecisionDecision(False, None, "no net to exchange layers of"))


def _assign(group: Iterable[Encoder], decision: PrecisionDecision) -> None:
    for encoder in group:
        encoder.precision_decision = decision


def _decide(group: list[Encoder]) -> PrecisionDecision:
    from multimodal.core.backends.mixed_precision import (
        exchange_layers,
        is_batch_normed,
        record_called_layers,
    )

    if not group[0].runtime.is_bfloat16_fast:
        return PrecisionDecision(False, None, "bfloat16 is emulated here")
    if reasons := [encoder.float32_reason for encoder in group if encoder.float32_reason]:
        return PrecisionDecision(False, None, reasons[0])
    if any(is_batch_normed(encoder.net) for encoder in group):
        return PrecisionDecision(False, None, "BatchNorm does not rescale the rounding errors of bfloat16")
    if group[0].runtime.engine != "torch":
        return _decide_by_engine(group)
    try:
        with record_called_layers(encoder.net for encoder in group) as layers:
            exact = [_trial_vectors(encoder) for encoder in group]
    except Exception as error:  # whatever a model raises; it will raise again when it is used
        return PrecisionDecision(False, None, f"the trial failed in float32 ({_short(error)})")
    if not layers:
        return PrecisionDecision(False, None, "it has no layers to exchange")
    decision = PrecisionDecision(False, None, "not tried")
    for wide in WIDE_FACTORS:
        exchanged = exchange_layers(layers, wide=wide)
        decision = _compare(group, exact)
        if decision.bfloat16:
            break
        exchanged.restore()
    return decision


def _decide_by_engine(group: list[Encoder]) -> PrecisionDecision:
    exact = []
    for encoder in group:  # one encoder at a time, so that two compiled models of it are never held together
        encoder.use_bfloat16 = False
        exact.append(_trial_vectors(encoder))
        encoder.use_bfloat16 = True
    decision = _compare(group, exact)
    for encoder in group:
        encoder.use_bfloat16 = decision.bfloat16
    return decision


def _compare(group: list[Encoder], exact: list[list[NDArray[np.float32]]]) -> PrecisionDecision:
    try:
        rounded = [_trial_vectors(encoder) for encoder in group]
    except Exception as error:  # a model with its own code may reject mixed dtypes with any exception
        return PrecisionDecision(False, None, f"the trial failed in bfloat16 ({_short(error)})")
    pairs = zip(itertools.chain(*exact), itertools.chain(*rounded), strict=True)
    cosine = min(min_centred_cosine(a, b) for a, b in pairs)
    if cosine >= MIN_COSINE:
        return PrecisionDecision(True, cosine, f"centred cosine {cosine:.5f} with float32")
    why = f"in bfloat16 the centred cosine was {cosine:.5f}, below {MIN_COSINE}"
    return PrecisionDecision(False, cosine, why)


def _trial_vectors(encoder: Encoder) -> list[NDArray[np.float32]]:
    """Vectors of dissimilar items and, for texts, of similar ones; each set is centred on its own."""
    from multimodal.core.items import Text
    from multimodal.core.modality import Modality
    from multimodal.core.self_test import synthetic

    sets = [encoder.encode(synthetic.items(encoder.modality))]
    if encoder.modality is Modality.TEXT:
        sets.append(encoder.encode([Text(f"a photo of a {word}") for word in SIMILAR_WORDS]))
    return sets


def min_centred_cosine(exact: NDArray[np.float32], rounded: NDArray[np.float32]) -> float:
    """The smallest cosine between corresponding rows after centring each side.

    Args:
        exact: (n, dim) unit vectors.
        rounded: (n, dim) vectors of the same items.

    Returns:
        The minimum over rows. Rows of `exact` that equal its mean to the precision of float32 have no direction and are
        skipped; 1.0 if all are.
    """
    import numpy as np

    a, b = (rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64) for rows in (exact, rounded))
    norms = np.linalg.norm(a, axis=1)
    directed = norms > MIN_NORM
    cosines = (a * b).sum(axis=1)[directed] / (norms * np.linalg.norm(b, axis=1).clip(MIN_NORM))[directed]
    return float(cosines.min(initial=1.0))


def _groups_sharing_layers(encoders: list[Encoder]) -> list[list[Encoder]]:
    """The encoders in groups that have layers in common."""
    from multimodal.core.backends.mixed_precision import exchangeable_layers

    groups: list[tuple[set[int], list[Encoder]]] = []
    for encoder in encoders:
        layers, members = exchangeable_layers(encoder.net), [encoder]
        disjoint = []
        for group_layers, group in groups:
            if group_layers & layers:
                layers, members = group_layers | layers, group + members
            else:
                disjoint.append((group_layers, group))
        groups = [*disjoint, (layers, members)]
    return [group for _, group in groups]


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
