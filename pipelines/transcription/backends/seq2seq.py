"""Encoder-decoder speech models of transformers (Speech2Text, Moonshine, SpeechT5, …), utterance by utterance.

They give no timestamps and were trained on utterances, so long audio is split where it is quietest, and the times of a
segment are those of its part.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from multimodal.core.errors import InvalidInput
from multimodal.core.progress import step
from multimodal.pipelines.transcription.audio_stream import split_at_quiet
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionOptions,
    TranscriptionOutput,
)
from multimodal.pipelines.transcription.result import Segment
from multimodal.pipelines.transcription.speech_presence import can_hold_speech

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.items import Item
    from multimodal.pipelines.transcription.backends.checkpoint import SpeechCheckpoint

LONGEST_S = 30.0


class Seq2SeqBackend:
    """A model that generates text from audio of at most LONGEST_S seconds."""

    supported_options: ClassVar[frozenset[str]] = frozenset({"beams"})

    def __init__(self, checkpoint: SpeechCheckpoint) -> None:
        self.name, self.model_class = checkpoint.name, checkpoint.model_class
        self.model, self.tokenizer = checkpoint.model, checkpoint.tokenizer
        self.extractor = checkpoint.extractor
        self.rate_hz = int(self.extractor.sampling_rate)

    @property
    def decoder_network(self) -> Any:
        """See `core.decoder.TrainableBackend`."""
        return self.model

    def with_network(self, net: Any) -> Self:
        """See `core.decoder.TrainableBackend`."""
        other = copy.copy(self)
        other.model = net
        return other

    def pair_losses(self, pairs: Sequence[tuple[Item, Item]], seed: int) -> torch.Tensor:
        """See `core.decoder.TrainableBackend`."""
        from multimodal.pipelines.transcription.backends.training import transcript_losses

        return transcript_losses(self.model, self.extractor, self.tokenizer, pairs)

    def transcribe(
        self, source: SampleSource, options: TranscriptionOptions, progress: SecondsProgress
    ) -> TranscriptionOutput:
        if options.timestamps == "word":
            raise InvalidInput(
                f"{self.name!r} is a {self.model_class}, which gives no word timestamps: use timestamps='segment', or "
                "a Whisper or CTC model"
            )
        segments: list[Segment] = []
        n_samples = 0
        for start, samples in split_at_quiet(source.blocks(self.rate_hz), self.rate_hz, LONGEST_S):
            n_samples = start + len(samples)
            tokens = self._written(samples, options) if can_hold_speech(samples, self.rate_hz) else []
            if text := self.tokenizer.decode(tokens, skip_special_tokens=True).strip():
                times = start / self.rate_hz, n_samples / self.rate_hz
                segments.append(Segment(*times, text, tuple(tokens)))
                step(text)
            progress(n_samples / self.rate_hz, None)
        text = " ".join(segment.text for segment in segments)
        kept = segments if options.timestamps else ()
        return TranscriptionOutput(text, None, kept, (), n_samples / self.rate_hz)

    def _written(self, samples: NDArray[np.float32], options: TranscriptionOptions) -> list[int]:
        inputs = self.extractor(
            samples, sampling_rate=self.rate_hz, return_tensors="pt", return_attention_mask=True
        )
        device, dtype = self.model.device, self.model.dtype
        given: dict[str, Any] = {
            name: tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)
            for name, tensor in inputs.items()
        }
        beams = {} if options.beams is None else {"num_beams": options.beams}
        with torch.inference_mode():
            made = self.model.generate(**given, **beams)
        sequences = made if isinstance(made, torch.Tensor) else made.sequences
        tokens: list[int] = sequences[0].tolist()
        return tokens
