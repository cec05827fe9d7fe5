"""Whisper on batches of independent, overlapping windows, whose outputs are merged.

Equivalent to `chunk_length_s=30` of transformers' speech pipeline, with its merging. Faster on hardware that gains from
batches, above all GPUs; words at a boundary may be lost or duplicated, and windows have no context.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from multimodal.pipelines.transcription.audio_stream import overlapping_windows
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionOptions,
    TranscriptionOutput,
)
from multimodal.pipelines.transcription.speech_presence import can_hold_speech

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from multimodal.pipelines.transcription.backends.whisper import WhisperBackend

OVERLAP = 6  # the overlap on each side is 1/6 of a window, as in transformers

Piece = tuple[int, "NDArray[np.float32]", bool]


def read_in_batches(
    backend: WhisperBackend, source: SampleSource, options: TranscriptionOptions, progress: SecondsProgress
) -> TranscriptionOutput:
    """Transcribes with `options.batch_size` windows at a time. See the docstring of the module."""
    extractor = backend.extractor
    rate_hz, length = int(extractor.sampling_rate), int(extractor.n_samples)
    side = round(length / OVERLAP)
    coming: Iterator[Piece] = overlapping_windows(source.blocks(rate_hz), length, length - 2 * side)
    outputs: list[dict[str, Any]] = []
    language, n_samples = None, 0
    while batch := list(islice(coming, options.batch_size)):
        n_samples = batch[-1][0] + len(batch[-1][1])
        windows = [samples for _, samples, _ in batch]
        is_loud = [can_hold_speech(samples, rate_hz) for samples in windows]
        generated: list[dict[str, Any]] = []
        if any(is_loud):
            inputs = extractor(
                [samples for samples, loud in zip(windows, is_loud, strict=True) if loud],
                sampling_rate=rate_hz, return_tensors="pt", return_attention_mask=True,
            )  # fmt: skip
            language = language or backend.language_of(options.language, inputs["input_features"][:1])
            generated = _written(backend, inputs, options, language)
        empty = {"tokens": torch.zeros(1, 0, dtype=torch.long), "token_timestamps": torch.zeros(1, 0)}
        for (start, samples, last), loud in zip(batch, is_loud, strict=True):
            left, right = 0 if start == 0 else side, 0 if last else side
            stride = tuple(n / rate_hz for n in (len(samples), left, right))
            outputs.append((generated.pop(0) if loud else empty) | {"stride": stride})
        progress(n_samples / rate_hz, None)
    duration_s = n_samples / rate_hz
    text, segments, words = backend.collate(outputs, duration_s, options.timestamps)
    if options.timestamps == "word":
        segments = backend.collate(outputs, duration_s, "segment")[1]
    return TranscriptionOutput(text, language[2:-2] if language else None, segments, words, duration_s)


def _written(
    backend: WhisperBackend, inputs: Any, options: TranscriptionOptions, language: str | None
) -> list[dict[str, Any]]:
    """Tokens (1, n) of each window and, for word timestamps, their times."""
    device, dtype = backend.model.device, backend.model.dtype
    words = options.timestamps == "word"
    arguments = backend.how(options, language)
    if options.prompt is not None:
        arguments["prompt_ids"] = backend.prompt_ids(options.prompt)
    if options.timestamps is not None:
        arguments["return_timestamps"] = True
    if words:
        arguments |= {"return_token_timestamps": True, "return_segments": True}
    with torch.inference_mode():
        generated = backend.model.generate(
            inputs["input_features"].to(device, dtype),
            attention_mask=inputs["attention_mask"].to(device),
            **arguments,
        )
    tokens = (generated["sequences"] if words else generated).cpu()
    if not words:
        return [{"tokens": row[None]} for row in tokens]
    times = [
        torch.cat([segment["token_timestamps"] for segment in segments])[None].cpu()
        for segments in generated["segments"]
    ]
    return [{"tokens": row[None], "token_timestamps": when} for row, when in zip(tokens, times, strict=True)]
