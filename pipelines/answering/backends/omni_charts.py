"""Answers about charts by the starter's network: the chart is read into a table, and the answer is computed from it.

The charts are the images among the sources and the question; text sources are not read. The first chart whose table
answers the question is cited. Nothing is guessed: other questions are refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import AnswerError, EncoderError
from multimodal.core.modality import Modality
from multimodal.encoders.starter.omni.model import NAME, OmniModel
from multimodal.pipelines.answering.interface import AnsweringBackend, Draft, Request

REFUSAL = "The charts do not answer this question, or they could not be read."


class OmniChartBackend(AnsweringBackend):
    """`starter-omni`."""

    name = NAME
    modalities = (Modality.TEXT, Modality.IMAGE)
    reads_special_tokens = False

    def __init__(self, model: OmniModel) -> None:
        self.model = model

    @classmethod
    def load(cls, runtime: Runtime) -> OmniChartBackend:
        """Loads the shipped network."""
        return cls(OmniModel.load(runtime=runtime))

    def complete(self, request: Request) -> Draft:
        question = next(part.text for part in reversed(request.question) if part.kind == "text")
        images = [
            (source.sent.number, part.data)
            for source in request.sources
            for part in source.parts
            if part.kind == "image"
        ]
        images += [(0, part.data) for part in request.question if part.kind == "image"]
        if not images:
            raise AnswerError(
                f"{NAME!r} answers about charts, and no image was given: add image=, or name another model"
            )
        for number, data in images:
            rgb = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
            try:
                table = self.model.read_chart(rgb).table
            except EncoderError:
                continue  # a kind of chart that it does not read
            answer = None if table is None else table.answer(question)
            if answer is not None:
                return Draft(f"{answer} [{number}]" if number else answer, "stop")
        return Draft(REFUSAL, "refusal")

    def stream(self, request: Request) -> Iterator[str | Draft]:
        draft = self.complete(request)
        yield draft.text
        yield draft

    def count_tokens(self, request: Request) -> int | None:
        """No prompt is too long: only images are read."""
        return 0
