"""CTC models of transformers (Wav2Vec2, HuBERT, WavLM, …): a class for every 20 ms or so.

Long audio is processed in overlapping windows, whose inner parts are joined before decoding, as with
`chunk_length_s=30` in transformers' speech pipeline.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from multimodal.core.errors import InvalidInput
from multimodal.pipelines.transcription.audio_stream import overlapping_windows
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionOptions,
    TranscriptionOutput,
)
from multimodal.pipelines.transcription.result import Word
from multimodal.pipelines.transcription.segmentation import group_words
from multimodal.pipelines.transcription.speech_presence import can_hold_speech

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from multimodal.pipelines.transcription.backends.checkpoint import SpeechCheckpoint

WINDOW_S, OVERLAP = 30, 6  # the overlap on each side is 1/6 of the window


class CtcBackend:
    """A model that predicts a class per time step, and a tokenizer that collapses them into words."""

    supported_options: ClassVar[frozenset[str]] = frozenset({"batch_size"})

    def __init__(self, checkpoint: SpeechCheckpoint) -> None:
        self.name, self.model_class = checkpoint.name, checkpoint.model_class
        self.model, self.tokenizer = checkpoint.model, checkpoint.tokenizer
        self.extractor = checkpoint.extractor
        self.rate_hz = int(self.extractor.sampling_rate)
        ratio = getattr(self.model.config, "inputs_to_logits_ratio", None)
        self.ratio = int(ratio) if ratio else None  # samples per step; None: derived from the number of steps
        self.has_word_offsets = "output_word_offsets" in inspect.signature(self.tokenizer.decode).parameters

    def transcribe(
        self, source: SampleSource, options: TranscriptionOptions, progress: SecondsProgress
    ) -> TranscriptionOutput:
        if options.timestamps == "word" and not self.has_word_offsets:
            raise InvalidInput(
                f"the tokenizer of {self.name!r} ({type(self.tokenizer).__name__}) gives no word timestamps: use "
                "timestamps='segment'"
            )
        unit = self.ratio or 1
        length = round(WINDOW_S * self.rate_hz / unit) * unit
        side = round(length / OVERLAP / unit) * unit
        ids: list[int] = []
        n_samples, waiting = 0, []
        for start, samples, last in overlapping_windows(
            source.blocks(self.rate_hz), length, length - 2 * side
        ):
            n_samples = start + len(samples)
            waiting.append((samples, 0 if start == 0 else side, 0 if last else side))
            if len(waiting) == options.batch_size or last:
                ids += self._classes(waiting)
                waiting = []
                progress(n_samples / self.rate_hz, None)
        duration_s = n_samples / self.rate_hz
        return self._output(ids, options, duration_s)

    def _classes(self, windows: Sequence[tuple[NDArray[np.float32], int, int]]) -> list[int]:
        """The most probable class of each step in the inner parts of windows (samples, left margin, right margin)."""
        full = [window for window in windows if len(window[0]) == len(windows[0][0])]
        if len(full) < len(
            windows
        ):  # the last may be shorter, and padding would change the output of some models
            return self._classes(full) + self._classes(windows[len(full) :])
        with_speech = [can_hold_speech(samples, self.rate_hz) for samples, _, _ in windows]
        if not any(with_speech):  # the model may be unable to run on so few samples
            n_samples = sum(len(samples) - left - right for samples, left, right in windows)
            return [self._blank] * (round(n_samples / self.ratio) if self.ratio else 0)
        inputs = self.extractor(
            [samples for samples, _, _ in windows],
            sampling_rate=self.rate_hz, return_tensors="pt", return_attention_mask=True,
        )  # fmt: skip
        name = self.model.main_input_name
        device, dtype = self.model.device, self.model.dtype
        mask = inputs.get("attention_mask")
        with torch.inference_mode():
            logits = self.model(
                **{name: inputs[name].to(device, dtype)},
                attention_mask=None if mask is None else mask.to(device),
            ).logits
        ids: list[int] = []
        rows = logits.argmax(dim=-1).tolist()
        for row, (samples, left, right), has_speech in zip(rows, windows, with_speech, strict=True):
            steps = round(len(samples) / self.ratio) if self.ratio else len(row)
            first, behind = (round(margin / len(samples) * steps) for margin in (left, right))
            inner = row[first : steps - behind]
            ids += inner if has_speech else [self._blank] * len(inner)
        return ids

    @property
    def _blank(self) -> int:
        blank = getattr(self.model.config, "pad_token_id", None)
        return int(blank if blank is not None else self.tokenizer.pad_token_id)

    def _output(
        self, ids: list[int], options: TranscriptionOptions, duration_s: float
    ) -> TranscriptionOutput:
        if not ids:
            return TranscriptionOutput("", None, (), (), duration_s)
        text = str(self.tokenizer.decode(ids)).strip()
        if options.timestamps is None:
            return TranscriptionOutput(text, None, (), (), duration_s)
        if not self.has_word_offsets:
            words = [Word(0.0, duration_s, text)] if text else []
            return TranscriptionOutput(text, None, group_words(words), (), duration_s)
        step_s = self.ratio / self.rate_hz if self.ratio else duration_s / len(ids)
        offsets: list[dict[str, Any]] = self.tokenizer.decode(ids, output_word_offsets=True).word_offsets
        words = [
            Word(
                offset["start_offset"] * step_s,
                min(offset["end_offset"] * step_s, duration_s),
                offset["word"],
            )
            for offset in offsets
        ]
        return TranscriptionOutput(
            text, None, group_words(words), words if options.timestamps == "word" else (), duration_s
        )
