"""Captions by the starter's network for several tasks: scenes, charts and speech, the task chosen by the prompt.

| prompt | input | output |
|--|--|--|
| none, "describe …" | image | the caption of a scene |
| "read the table" | image | the names and values of a chart |
| a question such as "which is largest?" | image | the answer, computed from the table |
| none, "transcribe …" | audio | what is said |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import InvalidInput, MediaUnsupported
from multimodal.core.items import Audio, Item
from multimodal.core.modality import Modality
from multimodal.encoders.starter.omni.model import NAME, OmniModel
from multimodal.encoders.starter.omni.vocabulary import to_text, to_tokens
from multimodal.encoders.starter.parameters import RATE_HZ
from multimodal.encoders.starter.preprocessing import speech_windows
from multimodal.pipelines.captioning.options import (
    CaptioningBackend,
    CaptioningOptions,
    CaptioningOutput,
    load_audible,
    seeded_generator,
)

QUESTIONS = (
    "'read the table', 'what is the value of <name>?', 'which is largest?', 'which is smallest?', 'how many items?', "
    "'what is the total?', 'what is the average?', 'what is the difference between <name> and <name>?'"
)


class OmniCaptioningBackend(CaptioningBackend):
    """`starter-omni`."""

    name = NAME
    modalities = (Modality.IMAGE, Modality.AUDIO)

    def __init__(self, model: OmniModel) -> None:
        self.model = model

    @classmethod
    def load(cls, runtime: Runtime) -> OmniCaptioningBackend:
        """Loads the shipped network."""
        return cls(OmniModel.load(runtime=runtime))

    def generate(self, inputs: Sequence[Item], options: CaptioningOptions) -> list[CaptioningOutput]:
        return [self._one(item, options) for item in inputs]

    def _one(self, item: Item, options: CaptioningOptions) -> CaptioningOutput:
        prompt = (options.prompt or "").lower().strip()
        if isinstance(item, Audio):
            if prompt and not prompt.startswith("transcribe"):
                raise InvalidInput(
                    f"{NAME!r} only transcribes audio, got the prompt {options.prompt!r}: leave it out"
                )
            return self._transcribe(item, options)
        rgb: Any = item.load()
        if prompt and not prompt.startswith("describe"):
            return self._answer(rgb, prompt)
        chosen = {} if options.top_p is None else {"top_p": options.top_p}
        sequence = self.model.describe(
            [rgb],
            beams=options.beams or 3,
            temperature=options.temperature,
            generator=seeded_generator(options.seed),
            **chosen,
            **({} if options.max_tokens is None else {"max_length": options.max_tokens}),
        )[0]
        return CaptioningOutput(
            to_text(sequence.tokens), tuple(sequence.tokens), sequence.mean_log_prob, sequence.ended
        )

    def _answer(self, rgb: Any, question: str) -> CaptioningOutput:
        read = self.model.read_chart(rgb)
        if read.table is None:
            raise MediaUnsupported(
                f"no chart was read ({read.reading.text[:40]!r}): {NAME!r} reads bar and line charts of 3 to 6 items "
                "and pies with printed percentages"
            )
        answer = read.table.answer(question)
        if answer is None:
            names = ", ".join(name for name, _ in read.table.rows)
            raise InvalidInput(
                f"{NAME!r} cannot answer {question!r} about a chart of {names}; it answers {QUESTIONS}"
            )
        return CaptioningOutput(answer, tuple(to_tokens(answer)), read.reading.mean_log_prob, True)

    def _transcribe(self, item: Audio, options: CaptioningOptions) -> CaptioningOutput:
        samples = load_audible(item, RATE_HZ).samples
        parts = [self.model.transcribe(mel, beams=options.beams or 3)[0] for mel in speech_windows(samples)]
        tokens = [token for part in parts for token in part.tokens]
        text = " ".join(to_text(part.tokens) for part in parts)
        mean = sum(part.mean_log_prob for part in parts) / max(1, len(parts))
        return CaptioningOutput(text, tuple(tokens), mean, all(part.ended for part in parts))

    def to(self, device: torch.device) -> None:
        self.model.to(device)

    @property
    def device(self) -> torch.device:
        return self.model.device
