"""What is asked of a model that makes things, and what such a model must provide.

A maker knows nothing of lists, seeds by default or files: it is given requests and makes one thing of each. A decoder
on a shared space is one more backend: it takes "vector", and its `space` is where the vectors come from.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from typing import TYPE_CHECKING, Any, Protocol

from multimodal.core.errors import EncoderError, InvalidInput
from multimodal.core.modality import Modality
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

StepProgress = Callable[[int, int], object]
MAX_SEED = 2**63 - 1
MAX_SIDE = 16_384  # pixels; beyond it the mistake is a typing error


@dataclass(frozen=True, eq=False)
class GenerationRequest:
    """One thing to make. prompt: words, or None. vector: float32 (dim,). image: RGB, to be redrawn."""

    prompt: str | None
    seed: int
    vector: NDArray[np.float32] | None = None
    image: PIL.Image.Image | None = None


@dataclass(frozen=True)
class GenerationOptions:
    """How to make it; None is what the model was published with."""

    negative: str | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    truncate: bool = False

    def __post_init__(self) -> None:
        negative: object = self.negative  # callers are not checked
        if negative is not None and not (isinstance(negative, str) and negative.strip()):
            raise InvalidInput(
                f"negative must be words for what is not wanted, got {negative!r}; leave it out"
            )
        for name in ("steps", "width", "height"):
            value = getattr(self, name)
            if value is not None and (not _whole(value) or value < 1):
                raise InvalidInput(f"{name} must be a whole number above 0, got {value!r}")
        for name in ("width", "height"):
            if (getattr(self, name) or 0) > MAX_SIDE:
                raise InvalidInput(f"{name} must be at most {MAX_SIDE:,} pixels, got {getattr(self, name):,}")
        if self.guidance is not None and not (_number(self.guidance) and self.guidance >= 0):
            raise InvalidInput(f"guidance must be a number from 0 up, got {self.guidance!r}")
        if self.strength is not None and not (_number(self.strength) and 0 < self.strength <= 1):
            raise InvalidInput(
                f"strength must be above 0 and at most 1 (1 keeps nothing of the picture), got {self.strength!r}"
            )
        if self.seconds is not None and not (_number(self.seconds) and self.seconds > 0):
            raise InvalidInput(f"seconds must be a number above 0, got {self.seconds!r}")

    def given(self) -> set[str]:
        """The names of the options that are not left to the model."""
        return {one.name for one in fields(self) if getattr(self, one.name) not in (None, False)}


@dataclass(frozen=True, eq=False)
class GenerationOutput:
    """What came of a request: a picture, or samples float32 (n,) or (n, channels) at a rate.

    flagged: whether the checkpoint's own safety checker refused it; None if it has none. The rest is as it was run.
    """

    image: PIL.Image.Image | None = None
    samples: NDArray[np.float32] | None = None
    rate_hz: int | None = None
    flagged: bool | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None


class GenerationBackend(Protocol):
    """A model that makes pictures or sounds.

    what: its class, for messages. makes: Modality.IMAGE or AUDIO. takes: of "prompt", "vector", "image" and the names
    of the options. dim: of the vectors it takes. space: where its vectors come from if it brings a space of its own.
    """

    name: str
    what: str
    output_modality: Modality
    dim: int | None
    space: Space | None

    @property
    def supported_options(self) -> frozenset[str]: ...

    def check(self, requests: Sequence[GenerationRequest], options: GenerationOptions) -> None:
        """Raises InvalidInput for what can never work, before anything runs."""

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions, progress: StepProgress
    ) -> list[GenerationOutput]:
        """One thing of each request, together as one batch. All have a vector or none has, and so for the rest."""

    def to(self, device: Any) -> None:
        """Moves the model."""


def check_seed(seed: Any) -> int:
    """Raises InvalidInput unless it is a whole number that torch takes."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) <= MAX_SEED:
        raise InvalidInput(f"seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
    return int(seed)


@contextlib.contextmanager
def explain_out_of_memory(backend: GenerationBackend, count: int) -> Iterator[None]:
    """An error of the device's memory as ours, with what to lower."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if (
            not isinstance(error, torch.OutOfMemoryError | MemoryError)
            and "can't allocate" not in str(error).lower()
        ):
            raise
        less = "a smaller width and height" if backend.output_modality is Modality.IMAGE else "fewer seconds"
        lower = f"batch_size={max(1, count // 2)}" if count > 1 else less
        raise EncoderError(
            f"{backend.name!r} ran out of memory with {count} at once: try {lower}, precision='bfloat16', or "
            "offload=True where there is an accelerator (both are options of from_pretrained)"
        ) from error


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
