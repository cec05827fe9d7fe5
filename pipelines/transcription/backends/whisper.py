"""Whisper models of transformers, for audio of any length, window by window.

`WhisperForConditionalGeneration.generate` holds the log-mels of the whole audio and the scores of all windows until the
end: tens of gigabytes for some hours. Here it is called once per window, and windows follow each other by the same rule
(section 3.8 of https://arxiv.org/abs/2212.04356), so that tokens and times are identical. Segments that begin after the
end of the audio are dropped: they are hallucinated in the padding of the last window.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from multimodal.core.catalog import close_matches
from multimodal.core.errors import InvalidInput
from multimodal.pipelines.transcription.backends.whisper_batched import read_in_batches
from multimodal.pipelines.transcription.backends.whisper_longform import LongFormDecoder
from multimodal.pipelines.transcription.backends.whisper_mels import LogMels
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionOptions,
    TranscriptionOutput,
)
from multimodal.pipelines.transcription.result import Segment, Word

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from multimodal.core.items import Item
    from multimodal.pipelines.transcription.backends.checkpoint import SpeechCheckpoint


class WhisperBackend:
    """A Whisper model of transformers."""

    supported_options: ClassVar[frozenset[str]] = frozenset(
        {
            "language", "task", "prompt", "beams", "temperature", "condition_on_previous", "batch_size", "seed",
        }
    )  # fmt: skip

    def __init__(self, checkpoint: SpeechCheckpoint) -> None:
        self.name, self.model_class = checkpoint.name, checkpoint.model_class
        self.model, self.tokenizer = checkpoint.model, checkpoint.tokenizer
        self.extractor = checkpoint.extractor
        self.config = self.model.generation_config
        encoder = self.model.model.encoder
        self.stride = encoder.conv1.stride[0] * encoder.conv2.stride[0]  # frames per time token
        self.window = self.stride * self.model.config.max_source_positions  # frames
        self.time_s = self.stride * self.extractor.hop_length / self.extractor.sampling_rate
        # Older generation configs lack these attributes; languages are then known only by their tokens
        self.languages: dict[str, int] = dict(getattr(self.config, "lang_to_id", None) or {})
        if getattr(self.config, "is_multilingual", bool(self.languages)) is False:
            self.languages = {}

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
        self.check(options)
        if options.batch_size > 1:
            return read_in_batches(self, source, options, progress)
        mels = LogMels(source, self.extractor)
        if mels.silent:
            return TranscriptionOutput("", None, (), (), mels.duration_s)
        language = self.language_of(options.language, mels.window(0, self.window))
        raw_segments = LongFormDecoder(self, options, language).run(mels, progress)
        kept = [segment for segment in raw_segments if segment["start"] < mels.duration_s]
        tokens = [token for segment in kept for token in segment["tokens"].tolist()]
        segments = [self._segment(segment, mels.duration_s) for segment in kept]
        return TranscriptionOutput(
            self.decode(tokens),
            language[2:-2] if language else None,
            [segment for segment in segments if segment.text] if options.timestamps else (),
            self._words(kept, mels.duration_s) if options.timestamps == "word" else (),
            mels.duration_s,
        )

    def check(self, options: TranscriptionOptions) -> None:
        """Raises InvalidInput for options that this checkpoint does not support."""
        if not self.languages and (options.language or options.task != "transcribe"):
            option = f"language={options.language!r}" if options.language else f"task={options.task!r}"
            raise InvalidInput(
                f"{self.name!r} was trained on English only, so it takes no {option}: leave it out, or use a "
                "multilingual checkpoint (a Whisper whose name does not end in '.en')"
            )
        if options.language:
            self._language_token(options.language)
        if options.timestamps == "word" and not getattr(self.config, "alignment_heads", None):
            raise InvalidInput(
                f"{self.name!r} has no alignment_heads in its generation_config.json, which word timestamps need: use "
                "timestamps='segment'"
            )
        sequential_only = {"temperature", "condition_on_previous"} & options.specified()
        if options.batch_size > 1 and sequential_only:
            raise InvalidInput(
                f"with batch_size={options.batch_size} windows are independent and decoded once: leave out "
                f"{' and '.join(sorted(sequential_only))}, or use batch_size=1"
            )
        if options.prompt is not None:
            self.prompt_ids(options.prompt)

    def prompt_ids(self, prompt: str) -> Tensor:
        """Token ids (n,), beginning with the mark of a prompt.

        Raises InvalidInput if the prompt is too long or contains a special token.
        """
        import torch

        try:
            ids = self.tokenizer.get_prompt_ids(prompt, return_tensors="np")
        except ValueError as error:
            raise InvalidInput(
                f"the prompt {prompt!r:.80} cannot be used ({error}); remove the text between <| and |>"
            ) from error
        most = self.model.config.max_target_positions // 2 - 1
        if len(ids) - 1 > most:
            raise InvalidInput(
                f"the prompt has {len(ids) - 1} tokens, and {self.name!r} takes at most {most}; shorten it"
            )
        return torch.as_tensor(ids, dtype=torch.long, device=self.model.device)

    def how(self, options: TranscriptionOptions, language: str | None) -> dict[str, Any]:
        """The arguments of `generate` for language, task and beams."""
        arguments: dict[str, Any] = {"language": language, "task": options.task} if language else {}
        return arguments | ({} if options.beams is None else {"num_beams": options.beams})

    def language_of(self, language: str | None, window: Tensor) -> str | None:
        """The token, as "<|en|>", of the given language, or of the language detected in a window.

        None for an English-only checkpoint.
        """
        if not self.languages:
            return None
        if language is not None:
            return self._language_token(language)
        import torch

        filled = torch.nn.functional.pad(window, (0, self.window - window.shape[-1]))
        detected = int(self.model.detect_language(filled.to(self.model.device, self.model.dtype))[0])
        return next(token for token, number in self.languages.items() if number == detected)

    def _language_token(self, language: str) -> str:
        names = self._names()
        word = language.strip().lower()
        token = word if word in self.languages else f"<|{names.get(word, word)}|>"
        if token not in self.languages:
            codes = {token[2:-2] for token in self.languages}
            hint = close_matches(word, [name for name, code in names.items() if code in codes])
            raise InvalidInput(
                f"{self.name!r} knows no language {language!r}; {hint}it knows {', '.join(sorted(codes))}"
            )
        return token

    @staticmethod
    def _names() -> dict[str, str]:
        """{"english": "en", …}"""
        from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

        return dict(TO_LANGUAGE_CODE)

    def decode(self, tokens: list[int]) -> str:
        """The text of tokens, without special tokens."""
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def _segment(self, raw: Mapping[str, Any], duration_s: float) -> Segment:
        tokens = raw["tokens"].tolist()
        return Segment(
            float(raw["start"]), min(float(raw["end"]), duration_s), self.decode(tokens), tuple(tokens)
        )

    def _words(self, kept: list[dict[str, Any]], duration_s: float) -> list[Word]:
        import torch

        if not kept:
            return []
        whole = {
            "tokens": torch.cat([segment["tokens"] for segment in kept])[None].cpu(),
            "token_timestamps": torch.cat([segment["token_timestamps"] for segment in kept])[None].cpu(),
        }
        return self.collate([whole], duration_s)[2]

    def collate(
        self, outputs: list[dict[str, Any]], duration_s: float, timestamps: str | None = "word"
    ) -> tuple[str, list[Segment], list[Word]]:
        """Text, segments and words of tokens with their times, as transformers' speech pipeline computes them."""
        from multimodal.pipelines.transcription.backends.checkpoint import quiet

        with quiet():
            text, more = self.tokenizer._decode_asr(
                outputs,
                return_timestamps="word" if timestamps == "word" else bool(timestamps) or None,
                return_language=None,
                time_precision=self.time_s,
            )
        parts = []
        for chunk in more.get("chunks", ()):
            start, end = chunk["timestamp"]
            start = min(0.0 if start is None else float(start), duration_s)
            end = min(duration_s if end is None else max(start, float(end)), duration_s)
            if words := chunk["text"].strip():
                parts.append((start, end, words))
        if timestamps == "word":
            return text.strip(), [], [Word(*part) for part in parts]
        return text.strip(), [Segment(*part) for part in parts], []
