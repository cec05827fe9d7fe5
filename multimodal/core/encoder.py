"""Encoder: items of one modality to unit vectors, and the interface that an encoder family implements.

A *family* is a module or package: one below `multimodal.encoders`, one given to `multimodal.register_family`, or one
that an installed distribution declares as an entry point. It defines

    CARDS: tuple[Card, ...]
        the models that `multimodal.cards()` lists, with names as `load` takes them
    def load(rest: str = "", *, device="auto", precision="float32", decode="exact") -> Space
        `multimodal.load("family/rest", device="cpu")` calls load("rest", device="cpu"). A family takes those fields of
        `core.backends.runtime.Runtime` that apply to it, and options of its own
    def from_config(state: EncoderState, runtime: Runtime) -> Encoder
        the inverse of `config()`, `state_dict()` and `files()`; the tensors are on the CPU, as they were saved

and imports nothing heavy at module level. Its encoders are subclasses of `Encoder` defined in that module or package,
which is how a saved space finds its family again. They set `modality` and `dim` and implement

    prepare(items) -> Batch          on the CPU, pure, thread-safe: decode, resize, tokenise
    forward(batch) -> (n, dim)       moves the batch to its device; no gradients; rows of any length
    config() -> dict                 JSON values: everything but the weights, including the preprocessing
    state_dict() -> dict             every weight, by name
    files() -> dict                  further files, such as a tokenizer's, as bytes by name; {} by default

`fingerprint` follows from the last three and does not depend on `Runtime`. `encode` is final. The vector of an item
must not depend on the rest of its batch (to 1e-5 in float32), so padding must be masked.
"""

from __future__ import annotations

import abc
import copy
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

from multimodal.core.backends.runtime import PrecisionDecision, Runtime
from multimodal.core.deprecation import deprecated_property, warn_deprecated
from multimodal.core.errors import EncoderError, InvalidInput, UnsupportedModality
from multimodal.core.families import family_of
from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.modality import Modality
from multimodal.core.vectors import row_list

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Batch = dict[str, torch.Tensor]


RENAMED_ATTRIBUTES = {
    "takes": "max_input",
    "trained_into": "space_id",
    "exact_because": "float32_reason",
    "rounds": "use_bfloat16",
}  # of 0.1, which encoders of other packages may still declare


@dataclass(frozen=True)
class EncoderState:
    """What a saved space stores of an encoder; `from_config` of its family rebuilds the encoder from it.

    Attributes:
        modality: The modality it encodes.
        config: What `Encoder.config` returned.
        tensors: What `Encoder.state_dict` returned, on the CPU.
        files: What `Encoder.files` returned.
    """

    modality: Modality
    config: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]
    files: Mapping[str, bytes] = field(default_factory=dict)


class Encoder(abc.ABC):
    """An encoder of one modality. The docstring of this module describes what a family implements.

    Attributes:
        modality: The modality it encodes.
        dim: The length of its vectors.
    """

    modality: Modality
    dim: int
    space_id: str | None = None
    """The space it was trained into, as the name of the model that defines that space. Encoders with the same id can be
    joined: `load(a) | load(b)`. None if only the encoders it was loaded with share its space."""

    runtime: Runtime = Runtime()
    """Device, precision, decoding and engine. Set by `load` and `Space.from_pretrained`."""

    net: Any = None
    """The torch module, in `runtime.cast`, whose layers precision="auto" may exchange (`core.backends.precision`). None
    if there is none; precision="auto" then changes nothing."""

    is_deferred: bool = False
    """Whether `net` is built at its first use, so that neither loading nor `fingerprint` needs torch."""

    float32_reason: str | None = None
    """Why precision="auto" must keep float32 where the trial would not show it. None if the trial decides."""

    adapted_from: tuple[str, ...] = ()
    """Fingerprints of the encoder that adapters were merged into; see `decoder_fingerprints`."""

    precision_decision: PrecisionDecision | None = None
    """What precision="auto" resolved to; None for another precision."""

    engines: ClassVar[tuple[str, ...]] = ("torch",)
    """The supported engines: "openvino" too, for an encoder that runs its net by `run_backend`."""

    use_bfloat16: bool | None = None
    """Whether an engine other than torch rounds products to bfloat16; None to follow `runtime.precision`."""

    max_input: float | None = None
    """The longest input it encodes without truncation or averaging: seconds of audio, or about so many characters of
    text. An index splits longer items into chunks. None if unknown or unlimited."""

    takes = deprecated_property("Encoder.takes", "Encoder.max_input")
    trained_into = deprecated_property("Encoder.trained_into", "Encoder.space_id")
    exact_because = deprecated_property("Encoder.exact_because", "Encoder.float32_reason")
    rounds = deprecated_property("Encoder.rounds", "Encoder.use_bfloat16")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Moves attributes that a class declares under their names of 0.1."""
        super().__init_subclass__(**kwargs)
        for old, new in RENAMED_ATTRIBUTES.items():
            if old in vars(cls):
                warn_deprecated(f"{cls.__name__}.{old}", f"{cls.__name__}.{new}")
                setattr(cls, new, vars(cls)[old])
                delattr(cls, old)

    @property
    def family(self) -> str | None:
        """The family that rebuilds this encoder from its saved state: the module or package that defines its class.

        None for a class that belongs to no family (see `multimodal.register_family`); it cannot be saved.
        """
        return family_of(type(self))

    @abc.abstractmethod
    def prepare(self, items: Sequence[Item]) -> Batch:
        """Converts items to tensors. Must be pure and thread-safe.

        Args:
            items: Items of the modality.

        Returns:
            Tensors on the CPU by name, in general with len(items) as first axis.
        """

    @abc.abstractmethod
    def forward(self, batch: Batch) -> torch.Tensor:
        """Computes the vectors of prepared items.

        Args:
            batch: The output of `prepare`.

        Returns:
            float32 (n, dim), on any device; rows of any norm above 0.
        """

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """Describes the encoder except for its weights.

        Returns:
            JSON values: sizes, and all parameters of the preprocessing.
        """

    @abc.abstractmethod
    def state_dict(self) -> Mapping[str, torch.Tensor]:
        """Lists the weights, from which `from_config` rebuilds the encoder together with `config()`.

        Returns:
            {name: tensor}.
        """

    def files(self) -> Mapping[str, bytes]:
        """Lists further files that are needed to rebuild the encoder.

        Returns:
            {file name without folders: content}.
        """
        return {}

    @property
    def query_encoder(self) -> Encoder:
        """The encoder of queries, if the model encodes queries and documents differently; otherwise itself."""
        return self

    @property
    def runtime_info(self) -> str:
        """Device and precision in words, as "cpu float32"."""
        by_openvino = self.runtime.engine == "openvino"
        kind = str(self.runtime.cast).removeprefix("torch.")
        decision = self.precision_decision
        if (by_openvino and self.runtime.precision == "bfloat16") or (decision and decision.bfloat16):
            kind = "bfloat16 matrices"
        kind = f"{self.runtime.torch_device} {kind}{' by OpenVINO' * by_openvino}"
        return kind if decision is None else f"{kind} (auto: {decision.why})"

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over preprocessing and weights.

        Weights are hashed as bfloat16, so a model keeps its fingerprint in another precision. The hash is kept until
        the tensors of `net` are replaced or changed in place, as an adapter does.
        """
        version = network_version(self.net)
        known: tuple[object, str] | None = vars(self).get("_fingerprint")
        if known is None or known[0] != version:
            known = (version, fingerprint_of(self._described(), _as_bfloat16(self.state_dict())))
            vars(self)["_fingerprint"] = known
        return known[1]

    @property
    def accepted_fingerprints(self) -> tuple[str, ...]:
        """Its fingerprint, and those of earlier weights for the same space.

        Vectors that such weights made are comparable with those of this encoder: what is stored with them, such as an
        index, stays in use.
        """
        return (self.fingerprint,)

    @property
    def decoder_fingerprints(self) -> tuple[str, ...]:
        """Those of the encoders whose decoders read its vectors: the accepted ones, and the base of its adapters.

        Adapters keep the vectors in the space of the other modalities, which the decoder reads too.
        """
        return (*self.accepted_fingerprints, *self.adapted_from)

    def _described(self) -> dict[str, Any]:
        """What the fingerprint covers beside the weights."""
        files = {name: hashlib.sha256(content).hexdigest() for name, content in self.files().items()}
        return self.config() | {"modality": str(self.modality)} | ({"files": files} if files else {})

    def with_network(self, net: Any) -> Self:
        """This encoder with the network of the same architecture but other weights; fine-tuning makes one.

        Args:
            net: The module that replaces `net`.

        Returns:
            A copy that shares everything else, such as the tokenizer. A family whose `state_dict` is not that of `net`
            overrides this.

        Raises:
            InvalidInput: If the encoder has no network.
        """
        if self.net is None:
            raise InvalidInput(
                f"{type(self).__name__} keeps no torch module in `net`, so it cannot be trained; set it in the encoder"
            )
        other = copy.copy(self)
        for cached in ("_program", "_fingerprint"):
            vars(other).pop(cached, None)
        other.net = net
        return other

    @final
    def run_backend(
        self,
        call: Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor],
        inputs: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Computes `call(net, inputs)` with the engine of `runtime`.

        Args:
            call: takes the net and the inputs, returns (n, dim). The same function at every call.
            inputs: tensors (n, …) by name.

        Returns:
            (n, dim), on the device of the engine.

        Raises:
            EncoderError: the engine cannot run the net, or gives other vectors than PyTorch.
        """
        if self.runtime.engine == "torch":
            return call(self.net, inputs)
        from multimodal.core.backends.openvino import Program

        use_bfloat16 = (
            self.runtime.precision == "bfloat16" if self.use_bfloat16 is None else self.use_bfloat16
        )
        program = vars(self).get("_program")
        if program is None or program.bfloat16 != use_bfloat16:
            program = vars(self)["_program"] = Program(self.net, call, bfloat16=use_bfloat16)
        return program(inputs)

    @final
    def encode(
        self, items: Sequence[Item], *, batch_size: int = 32, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Encodes items of its modality.

        Args:
            items: Items; plain values are for `Space.encode`.
            batch_size: Items per forward pass.
            progress: Called after each batch with the number of items it held.

        Returns:
            float32 (len(items), dim), rows of length one, in the given order.

        Raises:
            InvalidInput: For an empty list or a value that is no item.
            UnsupportedModality: For an item of another modality.
            EncoderError: If the model returns a wrong shape or numbers that are not finite.
            MediaError: For media that cannot be read or decoded.
        """
        import numpy as np

        self._check_items(items, batch_size)
        rows = np.empty((len(items), self.dim), dtype=np.float32)
        for start in range(0, len(items), batch_size):
            part = items[start : start + batch_size]
            rows[start : start + len(part)] = self.encode_prepared(self.prepare(part), part, start)
            if progress is not None:
                progress(len(part))
        return rows

    @final
    def encode_prepared(self, batch: Batch, items: Sequence[Item], start: int = 0) -> NDArray[np.float32]:
        """The second half of `encode`, for callers that run `prepare` in other threads.

        Args:
            batch: What `prepare(items)` returned.
            items: The items of the batch.
            start: The position of the first item, for messages.

        Returns:
            float32 (len(items), dim), rows of length one.

        Raises:
            EncoderError: As `encode`.
        """
        return self._unit(self._compute(batch), items, start)

    def _compute(self, batch: Batch) -> NDArray[np.float32]:
        """The vectors (n, dim) of prepared items, of any norm. A family that runs without torch overrides this."""
        import torch

        with torch.inference_mode():
            return self.forward(batch).to(device="cpu", dtype=torch.float32).numpy()  # type: ignore[no-any-return]

    def _check_items(self, items: Sequence[Item], batch_size: int) -> None:
        if batch_size < 1:
            raise InvalidInput(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        if len(items) == 0:
            raise InvalidInput("the list of items is empty; give at least one")
        for position, item in enumerate(items):
            if not isinstance(item, Text | Image | Audio | Video):
                raise InvalidInput(
                    f"item {position} is a {type(item).__name__}; Encoder.encode takes Text, Image, Audio or "
                    "Video items (Space.encode takes plain values too)"
                )
            if item.modality != self.modality:
                raise UnsupportedModality(
                    f"item {position} is {item.modality}, given to an encoder of {self.modality}: "
                    "encode mixed lists with Space.encode"
                )

    def _unit(self, vectors: NDArray[np.float32], part: Sequence[Item], start: int) -> NDArray[np.float32]:
        import numpy as np

        name = f"{type(self).__name__} ({self.modality})"
        if vectors.shape != (len(part), self.dim):
            raise EncoderError(
                f"{name} gave shape {vectors.shape} for {len(part)} items of dim {self.dim}; "
                "forward must return (n, dim)"
            )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        good = np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)
        if not good.all():
            first = int((~good).nonzero()[0][0])
            raise EncoderError(
                f"{name} gave no finite direction for item {start + first} ({part[first]!r}; row {row_list(~good)} of "
                "its batch): its weights or precision are broken, try precision='float32'"
            )
        return np.asarray(vectors / norms, dtype=np.float32)


def network_version(net: Any) -> object:
    """Changes whenever tensors of a module are replaced or written in place."""
    if net is None:
        return None
    tensors = (*net.named_parameters(), *net.named_buffers())
    # An inference tensor counts no changes; it is never trained
    return tuple(
        (name, tensor.data_ptr(), None if tensor.is_inference() else tensor._version)
        for name, tensor in tensors
    )


def _as_bfloat16(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.bfloat16() if value.is_floating_point() else value for name, value in tensors.items()}


def _canonical_json(config: Mapping[str, Any]) -> str:
    try:
        return json.dumps(config, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a configuration must be made of JSON values: {error}") from error


def combined_fingerprint(encoders: Iterable[tuple[str, str]]) -> str:
    """sha256 (hex) over the modalities of a space and the fingerprints of their encoders."""
    parts = sorted(f"{modality} {fingerprint}" for modality, fingerprint in encoders)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def fingerprint_of(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 (hex) over a JSON configuration and named tensors: names, dtypes, shapes and every byte.

    Raises InvalidInput if `config` is not made of JSON values.
    """
    import torch

    digest = hashlib.sha256(_canonical_json(config).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def fingerprint_of_arrays(config: Mapping[str, Any], arrays: Mapping[str, NDArray[np.floating[Any]]]) -> str:
    """`fingerprint_of` floating-point weights rounded to bfloat16, computed without torch."""
    import numpy as np

    digest = hashlib.sha256(_canonical_json(config).encode())
    for name in sorted(arrays):
        bits = np.asarray(arrays[name], np.float32).view(np.uint32)
        rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to nearest, ties to even
        digest.update(f"\n{name} torch.bfloat16 {arrays[name].shape}\n".encode())
        digest.update(np.ascontiguousarray(rounded).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
