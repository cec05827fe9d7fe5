"""Space: encoders of several modalities whose vectors can be compared, because they were trained into one space."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from multimodal.core.backends.runtime import Decode, Engine, Precision, Runtime
from multimodal.core.card import Card
from multimodal.core.deprecation import deprecated_method, deprecated_property, warn_deprecated
from multimodal.core.encoder import Encoder, combined_fingerprint
from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.items import Item, as_item, as_items
from multimodal.core.logit_scale import Activation, LogitScales, by_pair
from multimodal.core.logit_scale import LogitScale as LogitScale
from multimodal.core.logit_scale import Pair as Pair
from multimodal.core.media.inputs import as_list, vector_array
from multimodal.core.modality import Modality
from multimodal.core.parts import Origin, by_modality
from multimodal.core.vectors import cosine_matrix, logistic, row_softmax, unit_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.self_test import SelfTestReport

# (address, options, runtime options) -> the space
_Reopen = Callable[[str, Mapping[str, Any], Mapping[str, Any]], "Space"]


class Space:
    """Encoders that share one embedding space.

    Args:
        encoders: `{modality: encoder}`, or the encoders alone; at most one per modality, all of one `dim`.
        logit_scale: One LogitScale for all pairs of modalities, or `{(modality, modality): LogitScale}` in either
            order, where the key None is the default for every other pair. Without any, `probabilities` raises and
            `similarity` still works.
        name: Shown in messages.
        card: The card of the model, if it has one.
        revisions: `{hub repository: commit}` of the files that were loaded. Set by `load`.
        head: Deprecated name of `logit_scale`.

    Attributes:
        encoders: The encoder of each modality.
        logit_scales: The logit scale of each pair of modalities.
        address: What `load` takes, with `options`, to open this space again. None for a space built from encoders.
        options: The options of `load` that change the vectors, as JSON values.

    Raises:
        InvalidInput: If there is no encoder, or two of one modality.
        SpaceMismatch: If the encoders differ in dim.
    """

    def __init__(
        self,
        encoders: Mapping[Modality, Encoder] | Iterable[Encoder],
        logit_scale: LogitScales = None,
        *,
        name: str = "space",
        card: Card | None = None,
        revisions: Mapping[str, str] | None = None,
        head: LogitScales = None,
    ) -> None:
        if head is not None:
            warn_deprecated("Space(head=…)", "Space(logit_scale=…)")
            logit_scale = head
        self.encoders: dict[Modality, Encoder] = by_modality(encoders)
        self.logit_scales: dict[Pair | None, LogitScale] = by_pair(logit_scale)
        self.name = name
        self.card = card
        self.revisions = dict(revisions or {})
        self.address: str | None = None
        self.options: dict[str, Any] = {}
        self._reopen: _Reopen = _open_folder  # set by `load` for what is no folder
        self._origin: Origin | None = None  # of a part; see `select`

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities it encodes."""
        return tuple(self.encoders)

    @property
    def dim(self) -> int:
        """The length of its vectors."""
        return next(iter(self.encoders.values())).dim

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the weights and preprocessing of every encoder.

        Names and logit scales are left out, because they change no vector.
        """
        return combined_fingerprint(
            (modality, encoder.fingerprint) for modality, encoder in self.encoders.items()
        )

    @property
    def runtime_info(self) -> dict[str, str]:
        """Device and precision of each encoder, and the reason where precision="auto" decided it."""
        return {str(modality): encoder.runtime_info for modality, encoder in self.encoders.items()}

    def encode(
        self, items: object, *, batch_size: int = 32, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Encodes items of any of its modalities.

        Args:
            items: Anything `as_item` takes, or a list of such, of mixed modalities too. A list may also be a tuple, a
                generator, a pandas or Polars Series, an Arrow array or an array of objects.
            batch_size: Items per forward pass.
            progress: Called after each batch with the number of items it held.

        Returns:
            float32 rows of length one: (dim,) for one item, (n, dim) in the given order for a list, (0, dim) for an
            empty one.

        Raises:
            InvalidInput: For a value that is no item, a table, or a set, which has no order.
            UnsupportedModality: For an item the space has no encoder for.
            MediaError: For media that cannot be read or decoded.

        Warns:
            PathLikeTextWarning: A str looks like the path of a file; a str is always text.
        """
        listed = as_list(items)
        if listed is None:
            return self._encode([as_item(items)], batch_size, progress)[0]
        return self._encode(as_items(listed), batch_size, progress)

    def _encode(
        self, items: Sequence[Item], batch_size: int, progress: Callable[[int], None] | None
    ) -> NDArray[np.float32]:
        import numpy as np

        positions: dict[Modality, list[int]] = {}
        for position, item in enumerate(items):
            positions.setdefault(item.modality, []).append(position)
        for modality in positions:
            self.encoder_for(modality)
        rows = np.empty((len(items), self.dim), dtype=np.float32)
        for modality, where in positions.items():
            part = [items[position] for position in where]
            rows[where] = self.encoders[modality].encode(part, batch_size=batch_size, progress=progress)
        return rows

    def encoder_for(self, modality: Modality | str) -> Encoder:
        """Looks up the encoder of a modality.

        Args:
            modality: A modality, or its name.

        Returns:
            The encoder.

        Raises:
            UnsupportedModality: The space has none for it.
        """
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
        """Cosine similarities between two sets of items or vectors.

        Args:
            a: An item, a list of items, a vector (dim,), vectors (n, dim), or a list of vectors.
            b: The same, for the m columns.

        Returns:
            float32 (n, m), in -1 to 1.

        Raises:
            InvalidInput: For vectors of the wrong size or not finite; otherwise as `encode`.
        """
        return cosine_matrix(self._side(a)[0], self._side(b)[0])

    def probabilities(
        self,
        queries: object,
        candidates: object,
        *,
        activation: Activation | None = None,
        modalities: tuple[Modality | str, Modality | str] | None = None,
        kind: Activation | None = None,
    ) -> NDArray[np.float32]:
        """How likely each candidate matches each query, with the model's own scale and bias.

        Args:
            queries: As `a` in `similarity`.
            candidates: As `b` in `similarity`.
            activation: "softmax" (each row sums to one) or "sigmoid" (each pair independently), if not the one the
                model was trained with.
            modalities: Of queries and candidates. Needed where these are vectors and the space has several logit
                scales.
            kind: Deprecated name of `activation`.

        Returns:
            float32 (n, m), in 0 to 1.

        Raises:
            InvalidInput: If a pair has no logit scale, or the pairs mix softmax and sigmoid.
        """
        import numpy as np

        if kind is not None:
            warn_deprecated("Space.probabilities(kind=…)", "Space.probabilities(activation=…)")
            activation = kind
        (rows, query_modalities), (columns, candidate_modalities) = (
            self._side(queries),
            self._side(candidates),
        )
        if modalities is not None:
            query_modalities = [Modality(modalities[0])] * len(rows)
            candidate_modalities = [Modality(modalities[1])] * len(columns)
        if len(rows) == 0 or len(columns) == 0:
            return np.empty((len(rows), len(columns)), np.float32)
        cosines = cosine_matrix(rows, columns).astype(np.float64)
        scales = [[self.logit_scale_for(a, b) for b in candidate_modalities] for a in query_modalities]
        activations = {activation} if activation else {pair.activation for row in scales for pair in row}
        if len(activations) > 1:
            raise InvalidInput(
                "these pairs mix softmax and sigmoid logit scales; compare one pair of modalities at a time, "
                "or choose with activation="
            )
        scale = np.array([[pair.scale for pair in row] for row in scales])
        bias = np.array([[pair.bias for pair in row] for row in scales])
        logits = scale * cosines + bias
        softmax = LogitScale(1.0, activation=activations.pop()).activation == "softmax"  # checks the word
        return (row_softmax(logits) if softmax else logistic(logits)).astype(np.float32)

    def logit_scale_for(self, a: Modality | str | None = None, b: Modality | str | None = None) -> LogitScale:
        """The logit scale of a pair of modalities, in either order.

        Args:
            a: A modality, or None for the default.
            b: The other modality, or None.

        Returns:
            The pair's own logit scale, else the default.

        Raises:
            InvalidInput: If there is neither.
        """
        for pair in ((a, b), (b, a), None):
            if pair in self.logit_scales:
                return self.logit_scales[pair]  # type: ignore[index]
        if not self.logit_scales:
            raise InvalidInput(
                f"space {self.name!r} has no logit scale, so only cosines are known: use similarity(), "
                "or give Space(..., logit_scale=LogitScale(scale=...))"
            )
        if a is None or b is None:
            raise InvalidInput(
                "this space has a logit scale for each pair of modalities, and vectors do not show theirs: "
                "pass items, or modalities=('image', 'text')"
            )
        known = ", ".join(f"{pair[0]}-{pair[1]}" for pair in self.logit_scales if pair)
        raise InvalidInput(
            f"no logit scale for {a}-{b} in space {self.name!r}, which has {known}: use similarity()"
        )

    def _side(self, value: object) -> _Side:
        """Unit rows and the modality of each (None for vectors)."""
        value = vector_array(value)
        if _are_vectors(value):
            rows = unit_rows(value, self.dim)
            return rows, [None] * len(rows)
        if (listed := as_list(value)) is not None:
            items = as_items(listed)
            return self.encode(items), [item.modality for item in items]
        item = as_item(value)
        return self.encode([item]), [item.modality]

    def self_test(self) -> SelfTestReport:
        """Checks determinism, batch invariance and embedding collapse with synthetic items.

        Costs about 24 forward passes of one item for each modality. Failures are in the report; nothing is raised.

        Returns:
            The checks of each modality.
        """
        from multimodal.core import self_test

        return self_test.run_self_test(self)

    def to(self, device: str) -> Self:
        """Moves every encoder to a device, in place.

        Args:
            device: As torch names it ("cpu", "cuda:1"), or "auto" for the accelerator if there is one.

        Returns:
            The space itself.

        Raises:
            InvalidInput: For a device torch does not know or see, a space that runs by OpenVINO, or an encoder whose
                family is not known, since each encoder is rebuilt by its family.
        """
        from multimodal.core import serialization

        self.encoders = serialization.moved(self.encoders, device)
        return self

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes config.json and one safetensors file per encoder, all or nothing.

        Args:
            folder: A new or empty folder, or one with a saved space, which is replaced.

        Raises:
            InvalidInput: If something else is there, or an encoder belongs to no family that could rebuild it.
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
        """Opens a space that `save_pretrained` wrote.

        Args:
            folder: Where it was saved.
            device: See `core.backends.runtime.Runtime`, as for the other options.
            precision: "float32", "bfloat16" or "auto".
            decode: "exact" or "fast".
            engine: "torch" or "openvino".

        Returns:
            The space.

        Raises:
            UnknownModel: If no space is saved there.
            CorruptSpace: If its files are damaged or incomplete.
            InvalidInput: For an unknown option.
        """
        from multimodal.core import serialization

        space = cls(**serialization.read_space(folder, Runtime(device, precision, decode, engine)))
        space.address = str(Path(folder).expanduser().resolve())
        return space

    def select(self, *modalities: Modality | str) -> Space:
        """Restricts the space to some of its modalities.

        Args:
            *modalities: Modalities, or their names.

        Returns:
            A space that shares the encoders.

        Raises:
            UnsupportedModality: The space lacks one of them.
        """
        self._origin = self._origin or Origin(
            self.address, dict(self.options), self.revisions, self.modalities
        )
        return self._part([self.encoder_for(Modality(modality)) for modality in modalities], self._origin)

    def truncate(self, dims: int) -> Space:
        """Keeps the first numbers of each vector, at length one, for models trained so (Matryoshka embeddings).

        Args:
            dims: How many, from 1 to `dim`.

        Returns:
            A space with the same encoders and a fingerprint of its own; the same as `load(name, dims=dims)`.

        Raises:
            InvalidInput: `dims` is out of range.
        """
        from multimodal.core.derived import truncation

        kept = truncation.check_dims(dims, self.dim)
        encoders = [truncation.truncated(encoder, kept) for encoder in self.encoders.values()]
        name = f"{self.name} [:{kept}]"
        space = Space(encoders, self.logit_scales, name=name, card=self.card, revisions=self.revisions)
        space.address, space.options = self.address, self.options | {"dims": kept}
        space._reopen = self._reopen
        return space

    def _part(self, encoders: Iterable[Encoder], origin: Origin) -> Space:
        space = Space(encoders, self.logit_scales, name=self.name, card=self.card, revisions=self.revisions)
        space._origin, space._reopen = origin, self._reopen
        if set(space.modalities) == set(origin.modalities):
            space.address, space.options = origin.address, dict(origin.options)
        return space

    @property
    def query_space(self) -> Space:
        """The space that encodes queries for vectors of this one.

        It is the space itself, unless its model encodes queries and documents differently. An index stores vectors of
        the space and searches them with vectors of its `query_space`.
        """
        encoders = {modality: encoder.query_encoder for modality, encoder in self.encoders.items()}
        if all(encoders[modality] is encoder for modality, encoder in self.encoders.items()):
            return self
        name = f"{self.name} (queries)"
        return Space(encoders, self.logit_scales, name=name, card=self.card, revisions=self.revisions)

    def __or__(self, other: Space) -> Space:
        """Joins two spaces: `load("openclip/ViT-L-14:…") | load("languagebind/audio")`.

        Encoders that were trained into another model's space name it in `Encoder.space_id`. Where both sides have a
        modality, their encoders must be the same. Logit scales of the left side win.

        Raises:
            SpaceMismatch: If the encoders do not name one space, or differ in a modality that both have.
        """
        if not isinstance(other, Space):
            return NotImplemented
        from multimodal.core.derived.joining import joined

        return joined(self, other)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as the address it was loaded from, not as its weights."""
        if self.address is None:
            raise InvalidInput(
                f"space {self.name!r} cannot be pickled: it was not loaded by name or from a folder; write it with "
                "save_pretrained(folder) and load that folder"
            )
        runtime = next(iter(self.encoders.values())).runtime
        how = {"device": runtime.device, "precision": runtime.precision, "decode": runtime.decode}
        if runtime.engine != "torch":
            how["engine"] = runtime.engine
        return self._reopen, (self.address, self.options, how)

    def __repr__(self) -> str:
        return f"Space({self.name!r}, {' + '.join(self.modalities)}, dim={self.dim})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{modality}</td><td>{html.escape(type(encoder).__name__)}</td><td>{encoder.dim}</td></tr>"
            for modality, encoder in self.encoders.items()
        )
        about = f"<p>{html.escape(self.card.description)}</p>" if self.card else ""
        header = "<tr><th>modality</th><th>encoder</th><th>dim</th></tr>"
        return f"<b>Space {html.escape(self.name)}</b>{about}<table>{header}{rows}</table>"

    check = deprecated_method("Space.check", "Space.self_test")
    commits = deprecated_property("Space.commits", "Space.revisions")
    for_queries = deprecated_property("Space.for_queries", "Space.query_space")
    head_for = deprecated_method("Space.head_for", "Space.logit_scale_for")
    heads = deprecated_property("Space.heads", "Space.logit_scales")
    only = deprecated_method("Space.only", "Space.select")
    require = deprecated_method("Space.require", "Space.encoder_for")
    runs = deprecated_property("Space.runs", "Space.runtime_info")


if TYPE_CHECKING:
    _Side = tuple[NDArray[np.float32], list[Modality | None]]


def _open_folder(folder: str, options: Mapping[str, Any], runtime: Mapping[str, Any]) -> Space:
    space = Space.from_pretrained(folder, **runtime)
    return space.truncate(options["dims"]) if "dims" in options else space


def _are_vectors(value: object) -> bool:
    import numpy as np

    if isinstance(value, list | tuple) and value:
        return all(
            isinstance(element, np.ndarray) and element.dtype.kind == "f" and element.ndim == 1
            for element in value
        )
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim < 3
