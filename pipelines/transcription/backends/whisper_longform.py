"""Whisper window after window: where each begins, what it is told of those before, and when it is written again.

The heuristics are those of sections 3.8 and 4.5 of https://arxiv.org/abs/2212.04356 as transformers counts them; each
window is one call of its `generate`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

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

WARM = 0.5  # what was written at this temperature or above is not shown to the next window

RawSegment = dict[
    str, Any
]  # a segment of transformers: start, end (seconds), tokens and, if asked for, token_timestamps


class LongFormDecoder:
    """One sound on its way through a model."""

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
        """The segments, in order."""
        found: list[RawSegment] = []
        start = 0
        # Sampling is made repeatable, and does not disturb that of whoever calls
        sampled = self.options.temperatures is not None and max(self.options.temperatures) > 0
        devices = [self.backend.model.device] if self.backend.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices) if sampled else nullcontext():
            if sampled:
                torch.manual_seed(self.options.seed)
            while start < mels.real:
                window = mels.window(start, self.backend.window)
                said, advance = self._window(window, mels.mask(start, window.shape[-1]), mels)
                found += [self._shifted(one, start * mels.frame_s) for one in said]
                self.before += [self._told(one["tokens"]) for one in said]
                # a window that ends where it began would be heard for ever
                start += advance if advance > 0 else window.shape[-1]
                progress(min(start * mels.frame_s, mels.duration_s), mels.duration_s)
        return found

    def _window(self, window: Tensor, mask: Tensor, mels: LogMels) -> tuple[list[RawSegment], int]:
        """Segments of a window (1, mels, frames), in seconds from its start, and how many frames to go on by."""
        length, temperatures = window.shape[-1], self.options.temperatures
        if window.min() == window.max():
            return [], length  # nothing to hear: a model given that makes words up
        window = window.to(self.backend.model.device, self.backend.model.dtype)
        told = self._prompt()
        with_times = self.options.timestamps is not None or mels.n_frames > self.backend.window
        asked = self.how | {
            "return_timestamps": with_times,
            "attention_mask": mask.to(window.device),
            "prompt_ids": told,
        }
        if temperatures is None or len(temperatures) == 1:
            once = {} if temperatures is None else {"temperature": temperatures[0]}
            said = self._generate(window, **asked, **once)
            return said, self._advance(said, length)
        no_speech, said = self._no_speech(window, told), []
        for temperature in temperatures:
            # A threshold that nothing falls below: only so that the scores are told
            said = self._generate(window, **asked, temperature=temperature, logprob_threshold=-torch.inf)
            self.cool = temperature < WARM
            tokens = self._written(said, with_end=True)
            likely = mean_log_probability(said[0]["result"]["scores"], tokens, temperature)
            if likely < LOG_PROBABILITY and no_speech > NO_SPEECH:
                return [], length
            if likely >= LOG_PROBABILITY and self._compression(tokens) <= COMPRESSION_RATIO:
                break
        return said, self._advance(said, length)

    def _generate(self, window: Tensor, **asked: Any) -> list[RawSegment]:
        words = self.options.timestamps == "word"
        with torch.inference_mode():
            made = self.backend.model.generate(
                window,
                return_segments=True,
                force_unique_generate_call=True,  # one window, and no further
                return_token_timestamps=words or None,
                **{name: value for name, value in asked.items() if value is not None},
            )
        said: list[RawSegment] = made["segments"][0]
        return said

    def _prompt(self) -> Tensor | None:
        """What the decoder is shown as having come before: what was written so far, or else the prompt."""
        if not (self.options.condition_on_previous and self.cool and self.before):
            return self.prompt
        most = self.backend.model.config.max_target_positions // 2 - 1
        mark = self.backend.tokenizer.convert_tokens_to_ids("<|startofprev|>")
        self.before = [torch.cat(self.before)[-most:]]
        return torch.cat([self.before[0].new_tensor([mark]), self.before[0]])

    def _told(self, tokens: Tensor) -> Tensor:
        """Of a segment that ends in two time tokens, all but the last, which begins the next."""
        return tokens[:-1] if len(tokens) > 2 and tokens[-2] >= self.first_time else tokens

    def _written(self, said: list[RawSegment], *, with_end: bool = False) -> Tensor:
        """All tokens written for a window, also those after the last segment; the end token only if asked for."""
        result = said[0]["result"]
        tokens: Tensor = (result if isinstance(result, Tensor) else result["sequences"])[said[0]["idxs"][0] :]
        end, pad = self.backend.config.eos_token_id, self.backend.config.pad_token_id
        count = len(tokens)
        while count and tokens[count - 1] in (end, pad):
            count -= 1
        ended = with_end and count < len(tokens) and int(tokens[count]) == end
        return tokens[: count + int(ended)]

    def _advance(self, said: list[RawSegment], length: int) -> int:
        """How many frames further the next window begins: where the last whole segment ends, if another was begun."""
        times = self._written(said) >= self.first_time
        if not (times[:-1] & times[1:]).any() or times[-2:].tolist() == [False, True]:
            return length
        return round(float(said[-1]["end"]) / self.backend.time_s) * self.backend.stride

    def _compression(self, tokens: Tensor) -> float:
        """Bytes of the token ids over those that zlib makes of them: high where a model repeats itself."""
        width = (self.backend.model.config.vocab_size.bit_length() - 1) // 8 + 1
        content = b"".join(int(token).to_bytes(width, "little") for token in tokens)
        return len(content) / len(zlib.compress(content))

    def _no_speech(self, window: Tensor, told: Tensor | None) -> float:
        """How likely the model thinks it, before it writes anything, that nothing is said."""
        start = window.new_tensor([self.backend.config.decoder_start_token_id], dtype=torch.long)
        shown = start if told is None else torch.cat([told.to(start.device), start])
        filled = F.pad(window, (0, self.backend.window - window.shape[-1]))
        with torch.inference_mode():
            logits = self.backend.model(filled, decoder_input_ids=shown[None]).logits[0, -1]
        return float(logits.float().softmax(dim=-1)[self.first_time - 2])

    @staticmethod
    def _shifted(one: RawSegment, by_s: float) -> RawSegment:
        kept = {"start": float(one["start"]) + by_s, "end": float(one["end"]) + by_s, "tokens": one["tokens"]}
        if "token_timestamps" in one:
            kept["token_timestamps"] = one["token_timestamps"] + by_s
        return kept


def mean_log_probability(scores: Sequence[Tensor], tokens: Tensor, temperature: float) -> float:
    """Of the tokens written, as transformers counts it: by the scores at temperature 1."""
    table = torch.stack(list(scores))[: len(tokens)].to(tokens.device)
    tokens = tokens[-len(table) :]
    logs = F.log_softmax((table * (temperature or 1.0)).float(), dim=-1)
    return float(logs.gather(-1, tokens[:, None]).sum() / len(tokens))
