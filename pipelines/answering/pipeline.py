"""Answering: questions about the items of an index, answered with citations that are checked.

The names that `from_pretrained` accepts:

| Name | Answers |
|--|--|
| `"starter"`, `"extractive"` | quotations of the best source: offline, without a language model |

A question is words, a recording (transcribed, and searched by its vector too), an image or a video.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.pipeline import Pipeline, one_or_many, pipeline
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.pipelines.answering import extractive, quoting, retrieval
from multimodal.pipelines.answering.options import (
    DEFAULT_CONTEXT_TOKENS,
    DEFAULT_K,
    DEFAULT_MAX_TOKENS,
    IMAGE_QUESTION,
    VIDEO_QUESTION,
    AnsweringOptions,
    Question,
    as_media,
    as_question_item,
    check_options,
)
from multimodal.pipelines.answering.result import Answer, AnswerPart, Citation

__all__ = ["Answer", "AnsweringPipeline", "Citation"]

EXTRACTIVE_NAMES = ("starter", quoting.NAME)


class AnsweringPipeline(Pipeline):
    """Answers questions about an index: `AnsweringPipeline(index)("How high is the tower?").text`.

    Args:
        index: The index, or None to answer from `context=` alone.
        transcriber: The model that transcribes spoken questions, as `pipeline("transcription", model=…)` takes it.
        min_relevance: For extractive answers: the relevance of the best source, 0 to 1, below which the question is
            refused.

    Attributes:
        index: The index, or None.
    """

    task = "answering"

    def __init__(
        self,
        index: Index | None = None,
        *,
        transcriber: str = "starter",
        min_relevance: float = extractive.MIN_RELEVANCE,
    ) -> None:
        if index is not None and not isinstance(index, Index):
            raise InvalidInput(
                f"AnsweringPipeline answers from an Index, got {type(index).__name__}: open one with Index.open(path), "
                'or write multimodal.pipeline("answering", index="notes.lance")'
            )
        self.index, self.transcriber, self.min_relevance = index, transcriber, min_relevance
        self._pipelines: dict[tuple[str, str], Any] = {}

    @classmethod
    def from_pretrained(  # type: ignore[override]  # each task has options of its own
        cls,
        model: str | os.PathLike[str] | Index = "starter",
        *,
        index: Index | str | os.PathLike[str] | None = None,
        space: Space | str | os.PathLike[str] | None = None,
        transcriber: str = "starter",
        min_relevance: float = extractive.MIN_RELEVANCE,
    ) -> Self:
        """Opens the pipeline.

        Args:
            model: What answers, by name; see the module. An Index is answered from extractively.
            index: The index, or its folder. Without one, each call needs `context=`.
            space: As for `Index.open`, if `index` is a folder.
            transcriber: As for the class.
            min_relevance: As for the class.

        Returns:
            The pipeline, ready to call.

        Raises:
            InvalidInput: The name of the model is not one of those above.
            IndexStateError: There is no index in the folder.
        """
        if isinstance(model, Index):
            model, index = "starter", model
        if str(model) not in EXTRACTIVE_NAMES:
            raise InvalidInput(f"no answering model is called {str(model)!r}; write 'extractive'")
        opened = Index.open(index, space) if isinstance(index, str | os.PathLike) else index
        return cls(opened, transcriber=transcriber, min_relevance=min_relevance)

    def __call__(
        self,
        inputs: Any = None,
        *,
        question: Any = None,
        image: Any = None,
        audio: Any = None,
        context: Any = None,
        k: int = DEFAULT_K,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
        instructions: str | None = None,
        examples: Sequence[tuple[str, str]] = (),
        context_tokens: int = DEFAULT_CONTEXT_TOKENS,
        max_tokens: int = DEFAULT_MAX_TOKENS,
    ) -> Any:
        """Answers one question, or a list of them.

        Args:
            inputs: A question in words (str), an `Audio` of a spoken question, an `Image` or a `Video`; or a list.
            question: The same, by the name that other libraries use.
            image: An image that belongs to the question, as `Image(…)` takes it.
            audio: A recording that belongs to the question, as `Audio(…)` takes it.
            context: Sources to answer from instead of the index: a text, an item, or a list of these.
            k: The most sources.
            modality: Only sources of these modalities, as in `Index.search`.
            where: Only sources with this metadata, as in `Index.search`.
            instructions: Added to the instructions of the model. Extractive answers have no use for them.
            examples: Pairs of a question and its answer, for the model to follow.
            context_tokens: The most tokens of the prompt; the lowest sources are left out to stay below it.
            max_tokens: The most tokens of the answer.

        Returns:
            An `Answer`, or a list of them in the order of the questions.

        Raises:
            InvalidInput: An invalid option, or no question.
            UnsupportedModality: The space of the index does not encode the question.
            MediaError: A file that cannot be decoded.
        """
        options = check_options(k, modality, where, instructions, examples, context_tokens, max_tokens)
        values, is_single = one_or_many(self._given(inputs, question))
        answers = [self._answer(self._question(value, image, audio), options, context) for value in values]
        return answers[0] if is_single else answers

    def stream(self, inputs: Any, **options: Any) -> Iterator[AnswerPart]:
        """Answers one question part by part.

        Args:
            inputs: As for the call, a single question.
            **options: As for the call.

        Yields:
            The words as they are written. They are unchecked; the last part holds the checked answer.
        """
        answer = self(inputs, **options)
        if isinstance(answer, list):
            raise InvalidInput("stream answers one question, got a list: call the pipeline for several")
        yield AnswerPart(answer.text, answer)

    def to(self, device: str) -> Self:
        """Moves the encoders of the index's space to a device, in place.

        Args:
            device: As torch names it; "auto" is the accelerator, if any.

        Returns:
            The pipeline itself.
        """
        if self.index is not None:
            self.index.space.to(device)
        return self

    def _given(self, inputs: Any, question: Any) -> Any:
        if (inputs is None) == (question is None):
            raise InvalidInput("give one question, as the first argument or as question=")
        return question if inputs is None else inputs

    def _question(self, value: Any, image: Any, audio: Any) -> Question:
        item = as_question_item(value)
        attachments: list[Item] = [] if image is None else [as_media(image, Image)]
        attachments += [] if audio is None else [as_media(audio, Audio)]
        if isinstance(item, Audio):
            return Question(self._transcribe(item), item, tuple(attachments))
        if isinstance(item, Text):
            return Question(item.load(), None, tuple(attachments))
        words = VIDEO_QUESTION if isinstance(item, Video) else IMAGE_QUESTION
        return Question(words, None, (item, *attachments))

    def _transcribe(self, spoken: Audio) -> str:
        words: str = self._pipeline("transcription", self.transcriber)(spoken).text.strip()
        if not words:
            raise InvalidInput(
                f"no words were recognised in {spoken!r}: give the question as text, or another transcriber="
            )
        return words

    def _pipeline(self, task: str, model: str) -> Any:
        if (task, model) not in self._pipelines:
            self._pipelines[task, model] = pipeline(task, model=model)
        return self._pipelines[task, model]

    def _retrieve(self, question: Question, options: AnsweringOptions, context: Any) -> retrieval.Retrieved:
        if context is not None:
            space = None if self.index is None else self.index.space
            return retrieval.from_context(question, context, space, options.k)
        if self.index is None:
            raise InvalidInput(
                'there is nothing to answer from: give index= to multimodal.pipeline("answering", …), or context='
            )
        return retrieval.retrieve(self.index, question, options)

    def _answer(self, question: Question, options: AnsweringOptions, context: Any) -> Answer:
        return quoting.quote(question, self._retrieve(question, options, context), self.min_relevance)
