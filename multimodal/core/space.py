"""Space: encoders of several modalities whose vectors can be compared, because they were trained into one space."""

from __future__ import annotations

import hashlib
import html
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from multimodal.core.backends.runtime import Decode, Engine, Precision, Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput, SpaceMismatch, UnsupportedModality
from multimodal.core.items import Item, as_item
from multimodal.core.logit_scale import Head as Head
from multimodal.core.logit_scale import Kind, by_pair
from multimodal.core.logit_scale import Pair as Pair
from multimodal.core.modality import Modality
from multimodal.core.vectors import unit_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.self_test import Check


class Space:
    """Encoders that share one space.

    encoders: {modality: encoder}, or the encoders alone; all of one `dim`.
    head: one Head for all, or {(modality, modality): Head} in either order, where the key None holds the head of
    every other pair. Without any, `probabilities` refuses (cosines still work).
    commits: {repository of a hub: the commit that was taken of it}; set by `load`.
    Raises InvalidInput for no encoder or two of one modality, SpaceMismatch if they differ in dim.
    """

    def __init__(
        self,
        encoders: Mapping[Modality, Encoder] | Iterable[Encoder],
        head: Head | Mapping[Pair | None, Head] | None = None,
        *,
        name: str = "space",
        card: Card | None = None,
        commits: Mapping[str, str] | None = None,
    ) -> None:
        self.encoders: dict[Modality, Encoder] = _by_modality(encoders)
        self.heads: dict[Pair | None, Head] = by_pair(head)
        self.name = name
        self.card = card
        self.commits = dict(commits or {})
        self.address: str | None = (
            None  # what `load` takes, with these options, to give this space again; set by it
        )
        self.options: dict[str, Any] = {}

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self.encoders)

    @property
    def dim(self) -> int:
        return next(iter(self.encoders.values())).dim

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the weights and preprocessing of every encoder. Names and heads do not enter: they
        change no vector."""
        parts = sorted(f"{modality} {encoder.fingerprint}" for modality, encoder in self.encoders.items())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def runs(self) -> dict[str, str]:
        """Where and how exactly each encoder runs, in words, and why, where precision="auto" decided it."""
        return {str(modality): encoder.runs for modality, encoder in self.encoders.items()}

    def encode(
        self, items: object, *, batch_size: int = 32, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Anything `as_item` takes -> its vector (dim,); a list or tuple, of mixed modalities too -> (n, dim).

        float32, each of length one, in the order given. progress is called with the number of items just done.
        Raises InvalidInput for an empty list or a value that is no item, UnsupportedModality, MediaError.
        """
        if not isinstance(items, list | tuple):
            return self._encode([as_item(items)], batch_size, progress)[0]
        if not items:
            raise InvalidInput("the list of items is empty; give at least one")
        return self._encode([as_item(value) for value in items], batch_size, progress)

    def _encode(
        self, items: Sequence[Item], batch_size: int, progress: Callable[[int], None] | None
    ) -> NDArray[np.float32]:
        import numpy as np

        positions: dict[Modality, list[int]] = {}
        for position, item in enumerate(items):
            positions.setdefault(item.modality, []).append(position)
        for modality in positions:
            self.require(modality)
        rows = np.empty((len(items), self.dim), dtype=np.float32)
        for modality, where in positions.items():
            part = [items[position] for position in where]
            rows[where] = self.encoders[modality].encode(part, batch_size=batch_size, progress=progress)
        return rows

    def require(self, modality: Modality | str) -> Encoder:
        """The encoder of a modality. Raises UnsupportedModality if there is none."""
        encoder = self.encoders.get(modality)  # type: ignore[arg-type]
        if encoder is None:
            error = UnsupportedModality(
                f"{modality} given to a space with {', '.join(self.modalities)}: {self.name!r} cannot encode it; "
                f"load a space that encodes {modality} (multimodal.cards() lists the modalities of each model)"
            )
            error.modality = str(modality)
            raise error
        return encoder

    def similarity(self, a: object, b: object) -> NDArray[np.float32]:
        """Cosines, (n, m) float32 in -1 to 1, between n things and m things.

        Each side is an item, a list of items, a vector (dim,), vectors (n, dim) or a list of vectors.
        Raises InvalidInput for vectors of the wrong size or not finite, and what `encode` raises.
        """
        left, right = self._sides(a, b)
        return _cosines(left[0], right[0])

    def probabilities(
        self,
        queries: object,
        candidates: object,
        *,
        kind: Kind | None = None,
        modalities: tuple[Modality | str, Modality | str] | None = None,
    ) -> NDArray[np.float32]:
        """How likely each candidate fits each query, (n, m) float32, with the model's own scale and bias.

        softmax: each row sums to one. sigmoid: each pair on its own. kind: another than the model was trained for.
        modalities: of queries and candidates, for a space with several heads, when these are given as vectors.
        Raises InvalidInput if no head is known for a pair, or one row would mix softmax and sigmoid.
        """
        import numpy as np

        (rows, kinds_a), (columns, kinds_b) = self._sides(queries, candidates)
        if modalities is not None:
            kinds_a, kinds_b = [Modality(modalities[0])] * len(rows), [Modality(modalities[1])] * len(columns)
        scores = _cosines(rows, columns).astype(np.float64)
        heads = [[self.head_for(a, b) for b in kinds_b] for a in kinds_a]
        scale = np.array([[head.scale for head in row] for row in heads])
        bias = np.array([[head.bias for head in row] for row in heads])
        kinds = {kind} if kind else {head.kind for row in heads for head in row}
        if len(kinds) > 1:
            raise InvalidInput(
                "these pairs mix softmax and sigmoid heads; compare one pair of modalities at a time, "
                "or choose with kind="
            )
        logits = scale * scores + bias
        return (
            _softmax(logits) if Head(1.0, kind=kinds.pop()).kind == "softmax" else _sigmoid(logits)
        ).astype(np.float32)

    def head_for(self, a: Modality | str | None = None, b: Modality | str | None = None) -> Head:
        """The head for a pair of modalities in either order; None, or a pair without its own, gives the default.

        Raises InvalidInput if there is neither.
        """
        for pair in ((a, b), (b, a), None):
            if pair in self.heads:
                return self.heads[pair]  # type: ignore[index]
        if not self.heads:
            raise InvalidInput(
                f"space {self.name!r} has no head, so only cosines are known: use similarity(), "
                "or give Space(..., head=Head(scale=...))"
            )
        if a is None or b is None:
            raise InvalidInput(
                "this space has a head for each pair of modalities, and vectors do not show theirs: "
                "pass items, or modalities=('image', 'text')"
            )
        known = ", ".join(f"{pair[0]}-{pair[1]}" for pair in self.heads if pair)
        raise InvalidInput(f"no head for {a}-{b} in space {self.name!r}, which has {known}: use similarity()")

    def _sides(self, a: object, b: object) -> tuple[_Side, _Side]:
        return self._side(a), self._side(b)

    def _side(self, value: object) -> _Side:
        """Unit rows and the modality of each (None for vectors)."""
        if _are_vectors(value):
            rows = unit_rows(value, self.dim)
            return rows, [None] * len(rows)
        if isinstance(value, list | tuple):
            items: list[Item] = [as_item(one) for one in value]
            return self.encode(items), [item.modality for item in items]
        item = as_item(value)
        return self.encode([item]), [item.modality]

    def check(self) -> Check:
        """A self-test with things drawn for it: is each encoder steady, blind to its batch, and awake? Takes some 24
        passes of one item for each modality. What it finds is in the result; nothing is raised."""
        from multimodal.core import self_test

        return self_test.check_space(self)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json and one safetensors file per encoder, all or nothing.

        A space already saved there is replaced. Raises InvalidInput if something else is there, or if an encoder
        comes from outside `encoders/`, so that no family could rebuild it.
        """
        from multimodal.core import serialization

        serialization.save_space(self, folder)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: str = "auto",
        precision: Precision = "float32",
        decode: Decode = "exact",
        engine: Engine = "torch",
    ) -> Self:
        """The space that `save_pretrained` wrote; the options are those of `core.runtime.Runtime`.

        Raises UnknownModel if there is none, CorruptSpace if damaged, InvalidInput for an unknown option.
        """
        from multimodal.core import serialization

        return cls(**serialization.read_space(folder, Runtime(device, precision, decode, engine)))

    def only(self, *modalities: Modality | str) -> Space:
        """The same space with some of its modalities. Raises UnsupportedModality for one it has not."""
        kept = [self.require(Modality(modality)) for modality in modalities]
        space = Space(kept, self.heads, name=self.name, card=self.card, commits=self.commits)
        if set(space.modalities) == set(self.modalities):
            space.address, space.options = self.address, dict(self.options)
        return space

    @property
    def for_queries(self) -> Space:
        """The space that encodes what searches this one; itself, unless its model tells queries from documents. An
        index uses it: it is made of this space's vectors and searched with those of `for_queries`."""
        asking = {modality: encoder.for_queries for modality, encoder in self.encoders.items()}
        if all(asking[modality] is encoder for modality, encoder in self.encoders.items()):
            return self
        return Space(asking, self.heads, name=f"{self.name} (queries)", card=self.card, commits=self.commits)

    def __or__(self, other: Space) -> Space:
        """Two spaces that are one, joined: `load("openclip/ViT-L-14:…") | load("languagebind/audio")`.

        An encoder that was trained into another model's space says so (`Encoder.trained_into`). Where both have a
        modality the left one's encoder is kept if they are the same. Heads of the left come first.
        Raises SpaceMismatch with the reason if they were not trained into one space, or both know a modality
        differently.
        """
        if not isinstance(other, Space):
            return NotImplemented
        return joined(self, other)

    def __repr__(self) -> str:
        return f"Space({self.name!r}, {' + '.join(self.modalities)}, dim={self.dim})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{modality}</td><td>{html.escape(type(encoder).__name__)}</td><td>{encoder.dim}</td></tr>"
            for modality, encoder in self.encoders.items()
        )
        about = f"<p>{html.escape(self.card.description)}</p>" if self.card else ""
        head = "<tr><th>modality</th><th>encoder</th><th>dim</th></tr>"
        return f"<b>Space {html.escape(self.name)}</b>{about}<table>{head}{rows}</table>"


if TYPE_CHECKING:
    _Side = tuple[NDArray[np.float32], list[Modality | None]]


def joined(left: Space, right: Space) -> Space:
    """See Space.__or__."""
    homes = [{encoder.trained_into for encoder in side.encoders.values()} for side in (left, right)]
    if len(homes[0] | homes[1]) != 1 or None in homes[0]:
        told = [
            f"{side.name!r} was trained into {' and '.join(sorted(map(_home, home)))}"
            for side, home in zip((left, right), homes, strict=True)
        ]
        raise SpaceMismatch(
            f"these spaces were not trained into one, so their vectors cannot be compared: {'; '.join(told)}; "
            "join spaces that name the same one"
        )
    encoders = dict(left.encoders)
    for modality, encoder in right.encoders.items():
        if modality in encoders and encoders[modality].fingerprint != encoder.fingerprint:
            raise SpaceMismatch(
                f"both {left.name!r} and {right.name!r} encode {modality}, and differently; leave one out with "
                "space.only(…)"
            )
        encoders.setdefault(modality, encoder)
    heads, commits = {**right.heads, **left.heads}, right.commits | left.commits
    return Space(encoders, heads, name=f"{left.name} | {right.name}", commits=commits)


def _home(name: str | None) -> str:
    return "a space of its own" if name is None else repr(name)


def _by_modality(encoders: Mapping[Modality, Encoder] | Iterable[Encoder]) -> dict[Modality, Encoder]:
    pairs = list(encoders.items()) if isinstance(encoders, Mapping) else [(e.modality, e) for e in encoders]
    if not pairs:
        raise InvalidInput("a space needs at least one encoder, got none")
    found: dict[Modality, Encoder] = {}
    for key, encoder in pairs:
        modality = Modality(key)
        if modality != encoder.modality:
            raise InvalidInput(f"the encoder given for {modality} encodes {encoder.modality}")
        if modality in found:
            raise InvalidInput(f"two encoders of {modality} given; a space has one for each modality")
        found[modality] = encoder
    dims = {modality: encoder.dim for modality, encoder in found.items()}
    if len(set(dims.values())) > 1:
        shown = ", ".join(f"{modality} {dim}" for modality, dim in dims.items())
        raise SpaceMismatch(f"these encoders do not share one space, their vectors differ in size: {shown}")
    return found


def _are_vectors(value: object) -> bool:
    import numpy as np

    if isinstance(value, list | tuple) and value:
        return all(isinstance(one, np.ndarray) and one.dtype.kind == "f" and one.ndim == 1 for one in value)
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _cosines(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    return (rows @ columns.T).clip(-1.0, 1.0)  # rounding may step over 1 by an ulp


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    return 0.5 * (1.0 + np.tanh(0.5 * logits))  # the form that cannot overflow
