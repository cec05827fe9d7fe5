"""Encoder: one modality -> unit vectors. What a family must provide is written here, once.

A *family* is one module in `encoders/` (imported as `multimodal.encoders.<family>`). It holds

    CARDS: tuple[Card, ...]
        what `multimodal.cards()` lists, with names as `load` takes them
    def load(rest: str = "", *, device="auto", precision="float32", decode="exact") -> Space
        `multimodal.load("family/rest", device="cpu")` calls load("rest", device="cpu"). A family takes those of
        `core.runtime.Runtime`'s fields that mean something to it, and more options as it likes
    def from_config(saved: EncoderState, runtime: Runtime) -> Encoder
        undoes `config()`, `state_dict()` and `files()` below; the tensors are on the CPU, as they were saved

and imports nothing heavy at its top. Its encoders are subclasses of `Encoder` *defined in that module* (that is how
a saved space finds its family again; a class in a helper `_<name>.py` sets `family = "<family>"` itself). They set
`modality` and `dim` and implement four methods:

    prepare(items) -> Batch          CPU, pure, thread-safe: decode, resize, tokenise
    forward(batch) -> (n, dim)       moves the batch to its device; no grad; any length of rows
    config() -> dict                 JSON values: everything but the weights, *including the preprocessing*
    state_dict() -> dict             every weight, by name
    files() -> dict                  what else it needs, such as a tokenizer's files, as bytes by name; {} if nothing

`space_id` names the space an encoder was trained into, where others of that space may be joined to it.
`fingerprint` follows from the last three; how it runs (`Runtime`) does not enter. `encode` is final. The same item
must give the same vector whatever else is in its batch (to 1e-5 in fp32), so padding must be masked.
"""

from __future__ import annotations

import abc
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

from multimodal.core.backends.runtime import PrecisionDecision, Runtime
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


@dataclass(frozen=True)
class EncoderState:
    """What `Space.save_pretrained` keeps of an encoder, and `from_config` makes one of."""

    modality: Modality
    config: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]
    files: Mapping[str, bytes] = field(default_factory=dict)


class Encoder(abc.ABC):
    """One modality into one space. See the top of this module for what a family provides."""

    modality: Modality
    dim: int
    space_id: str | None = None
    """The space this encoder was trained into, by the name of the model that space comes from; None where only its own
    companions share it. Encoders of one such name can be joined: `load(a) | load(b)`."""

    runtime: Runtime = Runtime()
    """Device, precision, decoding and engine. Set by `load` and `Space.from_pretrained`."""

    net: Any = None
    """The torch module, in `runtime.cast`, whose layers precision="auto" may exchange (`core.backends.precision`). None
    if there is none; precision="auto" then changes nothing."""

    float32_reason: str | None = None
    """Why precision="auto" must keep float32 where the trial would not show it. None if the trial decides."""

    precision_decision: PrecisionDecision | None = None
    """What precision="auto" resolved to; None for another precision."""

    engines: ClassVar[tuple[str, ...]] = ("torch",)
    """The supported engines: "openvino" too, for an encoder that runs its net by `run_backend`."""

    use_bfloat16: bool | None = None
    """Whether an engine other than torch rounds products to bfloat16; None to follow `runtime.precision`."""

    max_input: float | None = None
    """How much it takes in at once without cutting or averaging: seconds of sound, or (about) characters of text. An
    index cuts what is longer into parts. None where that is not known, or has no limit."""

    @property
    def family(self) -> str | None:
        """The family that rebuilds this encoder from its saved state: the module or package that defines its class.

        None for a class that belongs to no family (see `multimodal.register_family`); it cannot be saved.
        """
        return family_of(type(self))

    @abc.abstractmethod
    def prepare(self, items: Sequence[Item]) -> Batch:
        """Items -> tensors on the CPU whose first axis is len(items). Pure and thread-safe: no state is touched."""

    @abc.abstractmethod
    def forward(self, batch: Batch) -> torch.Tensor:
        """What `prepare` gave -> (n, dim) float32, on any device, rows of any length above zero."""

    @abc.abstractmethod
    def config(self) -> dict[str, Any]:
        """All that is not weights, as JSON values: sizes, and every number of the preprocessing."""

    @abc.abstractmethod
    def state_dict(self) -> Mapping[str, torch.Tensor]:
        """Every weight by name. Saving these and `config()`, then `from_config`, gives the same vectors again."""

    def files(self) -> Mapping[str, bytes]:
        """Whatever else it takes to rebuild the encoder, by file name. Names are plain: no folders."""
        return {}

    @property
    def query_encoder(self) -> Encoder:
        """The encoder of what searches, where that is not what is found: many text models put other words before a
        question than before what answers it. Itself unless a family says otherwise."""
        return self

    @property
    def runtime_info(self) -> str:
        """Where and how exactly it runs, in words: "cpu float32"."""
        by_openvino = self.runtime.engine == "openvino"
        kind = str(self.runtime.cast).removeprefix("torch.")
        decision = self.precision_decision
        if (by_openvino and self.runtime.precision == "bfloat16") or (decision and decision.bfloat16):
            kind = "bfloat16 matrices"
        kind = f"{self.runtime.torch_device} {kind}{' by OpenVINO' * by_openvino}"
        return kind if decision is None else f"{kind} (auto: {decision.why})"

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over preprocessing and weights. Two encoders with the same one give the same vectors, but for
        how they run: weights enter as bfloat16, so that the same model in another precision keeps its fingerprint."""
        files = {name: hashlib.sha256(content).hexdigest() for name, content in self.files().items()}
        described = self.config() | {"modality": str(self.modality)} | ({"files": files} if files else {})
        return fingerprint_of(described, _as_bfloat16(self.state_dict()))

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
        """Items of this modality -> (len(items), dim) float32, rows of length one, in order.

        progress is called after each batch with the number of items it held.
        Raises InvalidInput for no items, UnsupportedModality for an item of another modality, EncoderError if
        the model gives a wrong shape or numbers that are not finite; what `item.load()` raises passes through.
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
        """What `prepare(items)` gave -> what `encode(items)` gives; for whoever prepares in other threads.

        start: the place of the first item, for messages. Raises EncoderError as `encode` does.
        """
        import torch

        with torch.inference_mode():
            vectors = self.forward(batch).to(device="cpu", dtype=torch.float32).numpy()
        return self._unit(vectors, items, start)

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


def _as_bfloat16(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: one.bfloat16() if one.is_floating_point() else one for name, one in tensors.items()}


def fingerprint_of(config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 (hex) over a JSON configuration and named tensors: names, dtypes, shapes and every byte.

    Raises InvalidInput if `config` is not made of JSON values.
    """
    import torch

    try:
        text = json.dumps(config, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"a configuration must be made of JSON values: {error}") from error
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
