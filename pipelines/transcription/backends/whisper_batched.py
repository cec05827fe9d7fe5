"""Whisper on several windows at once: windows that overlap, each on its own, and what they say joined.

This is the `chunk_length_s=30` of transformers' speech pipeline, with its own joining. It is faster where batches are
(on a GPU, many times); a word at a seam may be lost or doubled, and no window knows what came before.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from multimodal.pipelines.transcription.audio_stream import is_silent, overlapping_windows
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionOptions,
    TranscriptionOutput,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from multimodal.pipelines.transcription.backends.whisper import WhisperBackend

OVERLAP = 6  # of a window on each side, as transformers has it

Piece = tuple[int, "NDArray[np.float32]", bool]


def read_in_batches(
    backend: WhisperBackend, source: SampleSource, options: TranscriptionOptions, progress: SecondsProgress
) -> TranscriptionOutput:
    """See the top of this module."""
    extractor = backend.extractor
    rate_hz, length = int(extractor.sampling_rate), int(extractor.n_samples)
    side = round(length / OVERLAP)
    coming: Iterator[Piece] = overlapping_windows(source.blocks(rate_hz), length, length - 2 * side)
    outputs: list[dict[str, Any]] = []
    language, n_samples = None, 0
    while batch := list(islice(coming, options.batch_size)):
        n_samples = batch[-1][0] + len(batch[-1][1])
        windows = [samples for _, samples, _ in batch]
        heard = [not is_silent(one) for one in windows]
        made: list[dict[str, Any]] = []
        if any(heard):
            inputs = extractor(
                [one for one, loud in zip(windows, heard, strict=True) if loud],
                sampling_rate=rate_hz, return_tensors="pt", return_attention_mask=True,
            )  # fmt: skip
            language = language or backend.language_of(options.language, inputs["input_features"][:1])
            made = _written(backend, inputs, options, language)
        nothing = {"tokens": torch.zeros(1, 0, dtype=torch.long), "token_timestamps": torch.zeros(1, 0)}
        for (start, samples, last), loud in zip(batch, heard, strict=True):
            left, right = 0 if start == 0 else side, 0 if last else side
            stride = tuple(n / rate_hz for n in (len(samples), left, right))
            outputs.append((made.pop(0) if loud else nothing) | {"stride": stride})
        progress(n_samples / rate_hz, None)
    duration_s = n_samples / rate_hz
    text, segments, words = backend.collate(outputs, duration_s, options.timestamps)
    if options.timestamps == "word":
        segments = backend.collate(outputs, duration_s, "segment")[1]
    return TranscriptionOutput(text, language[2:-2] if language else None, segments, words, duration_s)


def _written(
    backend: WhisperBackend, inputs: Any, options: TranscriptionOptions, language: str | None
) -> list[dict[str, Any]]:
    """Tokens (1, n) of each window and, if words are to be timed, when each was said."""
    device, dtype = backend.model.device, backend.model.dtype
    words = options.timestamps == "word"
    asked = backend.how(options, language)
    if options.prompt is not None:
        asked["prompt_ids"] = backend.prompt_ids(options.prompt)
    if options.timestamps is not None:
        asked["return_timestamps"] = True
    if words:
        asked |= {"return_token_timestamps": True, "return_segments": True}
    with torch.inference_mode():
        made = backend.model.generate(
            inputs["input_features"].to(device, dtype),
            attention_mask=inputs["attention_mask"].to(device),
            **asked,
        )
    tokens = (made["sequences"] if words else made).cpu()
    if not words:
        return [{"tokens": row[None]} for row in tokens]
    times = [torch.cat([one["token_timestamps"] for one in said])[None].cpu() for said in made["segments"]]
    return [{"tokens": row[None], "token_timestamps": when} for row, when in zip(tokens, times, strict=True)]
