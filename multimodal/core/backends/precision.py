"""precision="auto": bfloat16 where it is fast, and only where it was seen to turn no vector noticeably.

Two steps. First only the large products take bfloat16 (`_precision_nets`); what runs between them stays float32. A
ViT-B/32 runs 3.6 times as fast as in float32 so, within 5 % of a model cast as a whole, and its vectors lose a tenth of
what they lose then (1 - cosine, measured). Then the model is tried: what `space.check()` draws is encoded in float32
and again, as are a few prompts that differ in a word. Both have their mean taken away, since what every vector shares
hides how they differ. Where the smallest cosine between the two is below LEAST, the model goes back to float32: random
weights give vectors so alike that 8 bits do not tell them apart. Such a trial is of few things. LEAST is stricter than
the 0.999 that is promised of others, and of things much more alike than a prompt's labels nothing is promised.

A model that is normalised by BatchNorm throughout is not tried: what is rounded in one layer is rescaled in none, and
things that are much alike may be turned far (0.95, measured) where the trial's are not. Encoders of one model that
share layers are tried and decided together. What came of it is `encoder.choice`, and `space.runs` in words.
`precision="bfloat16"` asks nothing: it casts a model as a whole. OpenVINO rounds products itself, and is tried alike.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from multimodal.core.backends.runtime import Choice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.encoder import Encoder

LEAST = 0.9997  # centred cosine
# The output of a layer stays bfloat16 if it is so many times wider than its input: query, key and value in one, and the
# first layer of an MLP; that alone, where attention wants one type of all it takes; none, where a norm in the MLP does.
WIDE = (2.0, 3.5, math.inf)
SAME = 1e-6  # of vectors of length one
ALIKE = ("cat", "dog", "horse", "car", "house", "tree", "violin", "lamp")  # as labels stand in a prompt


def settle(encoders: Iterable[Encoder]) -> None:
    """Decides for every encoder that runs with precision="auto" and is not decided yet. They are in float32 now.

    What stays in float32, here or because it was asked for, goes by the faster library (`_float32_nets`).
    """
    encoders = list(encoders)
    _settle(encoders)
    by_torch = [one for one in encoders if one.net is not None and one.runtime.engine == "torch"]
    on_cpu = [one.net for one in by_torch if one.runtime.torch_device.type == "cpu"]
    if on_cpu:
        from multimodal.core.backends.onednn import hasten

        hasten(on_cpu)


def _settle(encoders: list[Encoder]) -> None:
    waiting = [one for one in encoders if one.runtime.precision == "auto" and one.choice is None]
    for group in _sharing([one for one in waiting if one.net is not None]):
        _set(group, _chosen(group))
    _set([one for one in waiting if one.net is None], Choice(False, None, "no net to exchange layers of"))


def _set(group: Iterable[Encoder], choice: Choice) -> None:
    for encoder in group:
        encoder.choice = choice


def _chosen(group: list[Encoder]) -> Choice:
    from multimodal.core.backends.mixed_precision import called, is_batch_normed, lighten

    if not group[0].runtime.is_bfloat16_fast:
        return Choice(False, None, "bfloat16 is emulated here")
    if known := [one.exact_because for one in group if one.exact_because]:
        return Choice(False, None, known[0])
    if any(is_batch_normed(encoder.net) for encoder in group):
        return Choice(False, None, "BatchNorm rescales nothing that bfloat16 rounds")
    if group[0].runtime.engine != "torch":
        return _chosen_by_engine(group)
    try:
        with called(encoder.net for encoder in group) as layers:
            exact = [_tried(encoder) for encoder in group]
    except Exception as error:  # whatever a model raises; encoding with it will tell
        return Choice(False, None, f"the trial failed in float32 ({_short(error)})")
    if not layers:
        return Choice(False, None, "it has no layers to exchange")
    choice = Choice(False, None, "not tried")
    for wide in WIDE:
        lightened = lighten(layers, wide=wide)
        choice = _judged(group, exact)
        if choice.bfloat16:
            break
        lightened.restore()
    return choice


def _chosen_by_engine(group: list[Encoder]) -> Choice:
    exact = []
    for encoder in group:  # one after the other: what is compiled twice is not held twice
        encoder.rounds = False
        exact.append(_tried(encoder))
        encoder.rounds = True
    choice = _judged(group, exact)
    for encoder in group:
        encoder.rounds = choice.bfloat16
    return choice


def _judged(group: list[Encoder], exact: list[list[NDArray[np.float32]]]) -> Choice:
    try:
        near = [_tried(encoder) for encoder in group]
    except (
        Exception
    ) as error:  # a model with code of its own may not bear mixed types, in whatever way it says so
        return Choice(False, None, f"the trial failed in bfloat16 ({_short(error)})")
    pairs = zip(itertools.chain(*exact), itertools.chain(*near), strict=True)
    cosine = min(least_centred_cosine(a, b) for a, b in pairs)
    if cosine >= LEAST:
        return Choice(True, cosine, f"centred cosine {cosine:.5f} with float32")
    return Choice(False, cosine, f"in bfloat16 the centred cosine was {cosine:.5f}, below {LEAST}")


def _tried(encoder: Encoder) -> list[NDArray[np.float32]]:
    """Vectors of things that differ and, of texts, of things that hardly do; each lot is compared by itself."""
    from multimodal.core import self_test_items
    from multimodal.core.items import Text
    from multimodal.core.modality import Modality

    lots = [encoder.encode(self_test_items.items(encoder.modality))]
    if encoder.modality is Modality.TEXT:
        lots.append(encoder.encode([Text(f"a photo of a {name}") for name in ALIKE]))
    return lots


def least_centred_cosine(exact: NDArray[np.float32], near: NDArray[np.float32]) -> float:
    """The smallest cosine between rows (n, dim) and rows, once the mean of each side is taken away.

    A row of `exact` that is its mean, to the last digits of float32, has no direction left and is passed over; 1 if all
    are.
    """
    import numpy as np

    a, b = (rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64) for rows in (exact, near))
    sizes = np.linalg.norm(a, axis=1)
    some = sizes > SAME
    cosines = (a * b).sum(axis=1)[some] / (sizes * np.linalg.norm(b, axis=1).clip(SAME))[some]
    return float(cosines.min(initial=1.0))


def _sharing(encoders: list[Encoder]) -> list[list[Encoder]]:
    """The encoders in groups that have layers in common."""
    from multimodal.core.backends.mixed_precision import layers_of

    groups: list[tuple[set[int], list[Encoder]]] = []
    for encoder in encoders:
        layers, members = layers_of(encoder.net), [encoder]
        apart = []
        for others, group in groups:
            if others & layers:
                layers, members = others | layers, group + members
            else:
                apart.append((others, group))
        groups = [*apart, (layers, members)]
    return [group for _, group in groups]


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
