"""The options of generation, and the interface between the pipeline and its backends.

A backend is given requests and generates one output for each. Lists, default seeds and files are the pipeline's
concern. A backend on a shared space supports "vector", and its `space` encodes the inputs.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from multimodal.core.errors import EncoderError, InvalidInput
from multimodal.core.modality import Modality
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

StepProgress = Callable[[int, int], object]
MAX_SIDE = 16_384  # pixels; a larger number is a typing mistake


@dataclass(frozen=True, eq=False)
class GenerationRequest:
    """One output to generate.

    Attributes:
        prompt: The prompt, or None.
        seed: Of the random numbers.
        vector: float32 (dim,), or None.
        image: RGB, to start from, or None.
    """

    prompt: str | None
    seed: int
    vector: NDArray[np.float32] | None = None
    image: PIL.Image.Image | None = None


@dataclass(frozen=True)
class GenerationOptions:
    """The options of all requests of a call; None is the default of the model.

    Raises:
        InvalidInput: A value that no model accepts.
    """

    negative: str | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    truncate: bool = False

    def __post_init__(self) -> None:
        negative: object = self.negative  # callers need not be type-checked
        if negative is not None and not (isinstance(negative, str) and negative.strip()):
            raise InvalidInput(f"negative must be a prompt for what to avoid, got {negative!r}; leave it out")
        for name in ("steps", "width", "height"):
            value = getattr(self, name)
            if value is not None and (not _is_whole(value) or value < 1):
                raise InvalidInput(f"{name} must be a whole number above 0, got {value!r}")
        for name in ("width", "height"):
            if (getattr(self, name) or 0) > MAX_SIDE:
                raise InvalidInput(f"{name} must be at most {MAX_SIDE:,} pixels, got {getattr(self, name):,}")
        if self.guidance is not None and not (_is_number(self.guidance) and self.guidance >= 0):
            raise InvalidInput(f"guidance must be a number from 0 up, got {self.guidance!r}")
        if self.strength is not None and not (_is_number(self.strength) and 0 < self.strength <= 1):
            raise InvalidInput(
                f"strength must be above 0 and at most 1 (1 keeps nothing of the image), got {self.strength!r}"
            )
        if self.seconds is not None and not (_is_number(self.seconds) and self.seconds > 0):
            raise InvalidInput(f"seconds must be a number above 0, got {self.seconds!r}")

    def specified(self) -> set[str]:
        """The names of the options that are set."""
        return {option.name for option in fields(self) if getattr(self, option.name) not in (None, False)}


@dataclass(frozen=True, eq=False)
class GenerationOutput:
    """What a backend returns for one request.

    Attributes:
        image: RGB, or None for audio.
        samples: float32 (n,) or (n, channels), or None for an image.
        rate_hz: The sampling rate of `samples`.
        flagged: Whether the checkpoint's safety checker rejected the output; None without a safety checker.
        steps: As used, like guidance and strength; None where it does not apply.
    """

    image: PIL.Image.Image | None = None
    samples: NDArray[np.float32] | None = None
    rate_hz: int | None = None
    flagged: bool | None = None
    steps: int | None = None
    guidance: float | None = None
    strength: float | None = None


class GenerationBackend(Protocol):
    """A generation model.

    Attributes:
        name: The name of the model, for messages.
        model_class: Its class, for messages and metadata.
        output_modality: Modality.IMAGE or Modality.AUDIO.
        dim: The dimension of the vectors it takes, or None.
        space: The space of the vectors, if the model comes with one.
        supported_options: Of "prompt", "vector", "image" and the names of the options.
    """

    name: str
    model_class: str
    output_modality: Modality
    dim: int | None
    space: Space | None

    @property
    def supported_options(self) -> frozenset[str]: ...

    def check(self, requests: Sequence[GenerationRequest], options: GenerationOptions) -> None:
        """Raises InvalidInput for requests that cannot work, before anything runs."""

    def generate(
        self, requests: Sequence[GenerationRequest], options: GenerationOptions, progress: StepProgress
    ) -> list[GenerationOutput]:
        """Generates one batch. Either all requests have a vector or none has; likewise for images and prompts."""

    def to(self, device: Any) -> None:
        """Moves the model."""


@contextlib.contextmanager
def explain_out_of_memory(backend: GenerationBackend, count: int) -> Iterator[None]:
    """Turns out-of-memory errors into an EncoderError that says what to lower. count: of the batch."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if (
            not isinstance(error, torch.OutOfMemoryError | MemoryError)
            and "can't allocate" not in str(error).lower()
        ):
            raise
        smaller = (
            "a smaller width and height" if backend.output_modality is Modality.IMAGE else "fewer seconds"
        )
        cure = f"batch_size={max(1, count // 2)}" if count > 1 else smaller
        raise EncoderError(
            f"{backend.name!r} ran out of memory with {count} at once: try {cure}, precision='bfloat16', or "
            "offload=True where there is an accelerator (both are options of from_pretrained)"
        ) from error


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
