"""The options of a transcription, and the interface between the pipeline and its backends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from multimodal.core.checks import whole_number
from multimodal.core.errors import InvalidInput
from multimodal.pipelines.transcription.result import Segment, Word

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TIMESTAMPS = (None, "segment", "word")
TASKS = ("transcribe", "translate")
# The fallback temperatures of openai/whisper, and its thresholds as transformers computes them (transformers takes the
# compression ratio of token ids, not of characters)
FALLBACK = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
COMPRESSION_RATIO, LOG_PROBABILITY, NO_SPEECH = 1.35, -1.0, 0.6

SecondsProgress = Callable[[float, float | None], None]
"""Called with the seconds done and the seconds in all, or None while the length is unknown."""


@dataclass(frozen=True)
class TranscriptionOptions:
    """The options of `TranscriptionPipeline.__call__`, validated; they are documented there.

    Raises:
        InvalidInput: A value that no model accepts.
    """

    timestamps: str | None = "segment"
    language: str | None = None
    task: str = "transcribe"
    prompt: str | None = None
    beams: int | None = None
    temperature: float | tuple[float, ...] | None = None
    condition_on_previous: bool = False
    batch_size: int = 1
    vocabulary: tuple[str, ...] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.timestamps not in TIMESTAMPS:
            raise InvalidInput(f"timestamps must be 'segment', 'word' or None, got {self.timestamps!r}")
        if self.task not in TASKS:
            raise InvalidInput(f"task must be 'transcribe' or 'translate', got {self.task!r}")
        whole_number(self.batch_size, "batch_size", of=" of windows")
        if self.beams is not None:
            whole_number(self.beams, "beams")
        for name in ("language", "prompt"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise InvalidInput(f"{name} must be words, or be left out, got {value!r}")
        temperatures: tuple[Any, ...] = self.temperatures or ()
        if self.temperatures == ():
            raise InvalidInput("the temperatures are empty; leave them out, or give at least one")
        for value in temperatures:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise InvalidInput(f"a temperature must be a number of at least 0, got {value!r}")
        if self.vocabulary is not None:
            self._check_vocabulary(self.vocabulary)

    def _check_vocabulary(self, vocabulary: Any) -> None:
        if not vocabulary:
            raise InvalidInput("the vocabulary is empty; leave it out, or name what may have been said")
        for phrase in vocabulary:
            if not isinstance(phrase, str) or not phrase.strip():
                raise InvalidInput(f"a vocabulary must hold words, got {phrase!r}")

    @property
    def temperatures(self) -> tuple[float, ...] | None:
        """The temperatures to try in order until a window is good enough; None for the model's default."""
        if self.temperature is None or isinstance(self.temperature, tuple):
            return self.temperature
        return (self.temperature,)

    def specified(self) -> set[str]:
        """The names of the options that differ from their default."""
        return {name for name, value in vars(self).items() if value != getattr(DEFAULTS, name)}


DEFAULTS = TranscriptionOptions()


class TranscriptionOutput(NamedTuple):
    """What a backend returns for one audio."""

    text: str
    language: str | None
    segments: Sequence[Segment]
    words: Sequence[Word]
    duration_s: float


class SampleSource(Protocol):
    """Audio that can be read any number of times."""

    def blocks(self, rate_hz: int) -> Iterator[NDArray[np.float32]]:
        """Mono samples (n,) at a sampling rate, in consecutive blocks."""


class TranscriptionBackend(Protocol):
    """A speech-to-text model.

    Attributes:
        model_class: What the model is, for messages.
        supported_options: The options it supports beside `timestamps`.
    """

    model_class: str
    supported_options: ClassVar[frozenset[str]]

    def transcribe(
        self, source: SampleSource, options: TranscriptionOptions, progress: SecondsProgress
    ) -> TranscriptionOutput:
        """Transcribes one audio."""
