"""Long-form decoding with Whisper: the start of each window, its context, and temperature fallback.

The heuristics follow sections 3.8 and 4.5 of https://arxiv.org/abs/2212.04356 as implemented in transformers. Each
window is one call of `generate`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.core.progress import step
from multimodal.pipelines.transcription.backends.whisper_mels import LogMels
from multimodal.pipelines.transcription.options import (
    COMPRESSION_RATIO,
    LOG_PROBABILITY,
    NO_SPEECH,
    SecondsProgress,
    TranscriptionOptions,
)

if TYPE_CHECKING:
    from multimodal.pipelines.transcription.backends.whisper import WhisperBackend

WARM = 0.5  # text sampled at this temperature or above is not context for the next window

# a segment of transformers: start, end (seconds), tokens and, for word timestamps, token_timestamps
RawSegment = dict[str, Any]


class LongFormDecoder:
    """The state of one transcription."""

    def __init__(self, backend: WhisperBackend, options: TranscriptionOptions, language: str | None) -> None:
        self.backend, self.options = backend, options
        self.first_time = (
            getattr(backend.config, "no_timestamps_token_id", backend.model.config.vocab_size) + 1
        )
        self.how = backend.how(options, language)
        self.prompt = None if options.prompt is None else backend.prompt_ids(options.prompt)
        self.before: list[Tensor] = [] if self.prompt is None else [self.prompt[1:]]
        self.cool = True

    def run(self, mels: LogMels, progress: SecondsProgress) -> list[RawSegment]:
        """All segments, in order."""
        segments: list[RawSegment] = []
        start = 0
        # Sampling is seeded, and leaves the caller's random state unchanged
        sampled = self.options.temperatures is not None and max(self.options.temperatures) > 0
        devices = [self.backend.model.device] if self.backend.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices) if sampled else nullcontext():
            if sampled:
                torch.manual_seed(self.options.seed)
            while start < mels.real:
                window = mels.window(start, self.backend.window)
                window_segments, advance = self._window(window, mels.mask(start, window.shape[-1]), mels)
                shifted = [self._shifted(segment, start * mels.frame_s) for segment in window_segments]
                segments += shifted
                self.before += [self._as_context(segment["tokens"]) for segment in window_segments]
                for segment in shifted:
                    if segment["start"] < mels.duration_s:  # a later one is no part of the transcript
                        step(self.backend.decode(segment["tokens"].tolist()))
                # without progress the same window would be decoded forever
                start += advance if advance > 0 else window.shape[-1]
                progress(min(start * mels.frame_s, mels.duration_s), mels.duration_s)
        return segments

    def _window(self, window: Tensor, mask: Tensor, mels: LogMels) -> tuple[list[RawSegment], int]:
        """Segments of a window (1, mels, frames), in seconds from its start, and the frames to the next window."""
        length, temperatures = window.shape[-1], self.options.temperatures
        if window.min() == window.max():
            return [], length  # silence, for which models hallucinate text
        window = window.to(self.backend.model.device, self.backend.model.dtype)
        prompt = self._prompt()
        with_times = self.options.timestamps is not None or mels.n_frames > self.backend.window
        arguments = self.how | {
            "return_timestamps": with_times,
            "attention_mask": mask.to(window.device),
            "prompt_ids": prompt,
        }
        if temperatures is None or len(temperatures) == 1:
            once = {} if temperatures is None else {"temperature": temperatures[0]}
            segments = self._generate(window, **arguments, **once)
            return segments, self._advance(segments, length)
        no_speech, segments = self._no_speech(window, prompt), []
        for temperature in temperatures:
            # A threshold that is never reached: set only so that scores are returned
            segments = self._generate(
                window, **arguments, temperature=temperature, logprob_threshold=-torch.inf
            )
            self.cool = temperature < WARM
            tokens = self._written(segments, with_end=True)
            likely = mean_log_probability(segments[0]["result"]["scores"], tokens, temperature)
            if likely < LOG_PROBABILITY and no_speech > NO_SPEECH:
                return [], length
            if likely >= LOG_PROBABILITY and self._compression(tokens) <= COMPRESSION_RATIO:
                break
        return segments, self._advance(segments, length)

    def _generate(self, window: Tensor, **arguments: Any) -> list[RawSegment]:
        with_words = self.options.timestamps == "word"
        with torch.inference_mode():
            output = self.backend.model.generate(
                window,
                return_segments=True,
                force_unique_generate_call=True,  # this window only
                return_token_timestamps=with_words or None,
                **{name: value for name, value in arguments.items() if value is not None},
            )
        segments: list[RawSegment] = output["segments"][0]
        return segments

    def _prompt(self) -> Tensor | None:
        """The context of the decoder: the text so far, or else the prompt."""
        if not (self.options.condition_on_previous and self.cool and self.before):
            return self.prompt
        most = self.backend.model.config.max_target_positions // 2 - 1
        mark = self.backend.tokenizer.convert_tokens_to_ids("<|startofprev|>")
        self.before = [torch.cat(self.before)[-most:]]
        return torch.cat([self.before[0].new_tensor([mark]), self.before[0]])

    def _as_context(self, tokens: Tensor) -> Tensor:
        """The tokens without the last, if they end in two time tokens: the last begins the next segment."""
        return tokens[:-1] if len(tokens) > 2 and tokens[-2] >= self.first_time else tokens

    def _written(self, segments: list[RawSegment], *, with_end: bool = False) -> Tensor:
        """All tokens of a window, also those after its last segment; the end token only if `with_end`."""
        result = segments[0]["result"]
        tokens: Tensor = (result if isinstance(result, Tensor) else result["sequences"])[
            segments[0]["idxs"][0] :
        ]
        end, pad = self.backend.config.eos_token_id, self.backend.config.pad_token_id
        count = len(tokens)
        while count and tokens[count - 1] in (end, pad):
            count -= 1
        ended = with_end and count < len(tokens) and int(tokens[count]) == end
        return tokens[: count + int(ended)]

    def _advance(self, segments: list[RawSegment], length: int) -> int:
        """The frames to the next window: to the end of the last complete segment, if an incomplete one follows."""
        times = self._written(segments) >= self.first_time
        if not (times[:-1] & times[1:]).any() or times[-2:].tolist() == [False, True]:
            return length
        return round(float(segments[-1]["end"]) / self.backend.time_s) * self.backend.stride

    def _compression(self, tokens: Tensor) -> float:
        """The zlib compression ratio of the token ids, which is high for repetitive output."""
        width = (self.backend.model.config.vocab_size.bit_length() - 1) // 8 + 1
        content = b"".join(int(token).to_bytes(width, "little") for token in tokens)
        return len(content) / len(zlib.compress(content))

    def _no_speech(self, window: Tensor, prompt: Tensor | None) -> float:
        """The probability of no speech at the first decoding step."""
        start = window.new_tensor([self.backend.config.decoder_start_token_id], dtype=torch.long)
        shown = start if prompt is None else torch.cat([prompt.to(start.device), start])
        filled = F.pad(window, (0, self.backend.window - window.shape[-1]))
        with torch.inference_mode():
            logits = self.backend.model(filled, decoder_input_ids=shown[None]).logits[0, -1]
        return float(logits.float().softmax(dim=-1)[self.first_time - 2])

    @staticmethod
    def _shifted(segment: RawSegment, by_s: float) -> RawSegment:
        kept = {
            "start": float(segment["start"]) + by_s,
            "end": float(segment["end"]) + by_s,
            "tokens": segment["tokens"],
        }
        if "token_timestamps" in segment:
            kept["token_timestamps"] = segment["token_timestamps"] + by_s
        return kept


def mean_log_probability(scores: Sequence[Tensor], tokens: Tensor, temperature: float) -> float:
    """The mean log-probability of tokens at temperature 1, as transformers computes it."""
    table = torch.stack(list(scores))[: len(tokens)].to(tokens.device)
    tokens = tokens[-len(table) :]
    logs = F.log_softmax((table * (temperature or 1.0)).float(), dim=-1)
    return float(logs.gather(-1, tokens[:, None]).sum() / len(tokens))
