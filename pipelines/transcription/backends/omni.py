"""Transcription by the starter's network for several tasks: its decoder writes the words, without a language model of
its own beside it. Times are those of the speech encoder's CTC outputs.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from multimodal.core.backends.runtime import Runtime
from multimodal.encoders.starter.omni.model import OmniModel
from multimodal.encoders.starter.omni.vocabulary import to_text
from multimodal.encoders.starter.parameters import ALPHABET
from multimodal.pipelines.transcription.backends.starter import PhraseBackend, word_times
from multimodal.pipelines.transcription.options import TranscriptionOptions
from multimodal.pipelines.transcription.result import Word


class OmniBackend(PhraseBackend):
    """`starter-omni`."""

    model_class = "the starter's network for several tasks"
    supported_options: ClassVar[frozenset[str]] = frozenset({"beams"})

    def __init__(self, model: OmniModel) -> None:
        self.model = model
        model.require("transcribe")

    @classmethod
    def load(cls, runtime: Runtime) -> OmniBackend:
        """Loads the shipped network."""
        return cls(OmniModel.load(runtime=runtime))

    def decode_phrase(self, mel: torch.Tensor, options: TranscriptionOptions) -> list[Word]:
        """Log-mels (frames, 64) of one phrase -> its words, with times in seconds from the start."""
        sequence, logs = self.model.transcribe(mel, beams=options.beams or 3)
        text = " ".join("".join(c for c in to_text(sequence.tokens) if c in ALPHABET).split())
        return word_times(text, logs.numpy())
