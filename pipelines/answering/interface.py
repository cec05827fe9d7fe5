"""The interface between the pipeline and the language models: a request, what is sent of it, and the draft answer."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from multimodal.core.modality import Modality
from multimodal.pipelines.answering.result import Sent, Usage

PartKind = Literal["text", "image", "audio"]
Finish = Literal["stop", "length", "filter", "refusal", "cut"]


@dataclass(frozen=True)
class PromptPart:
    """A part of the user's turn.

    Attributes:
        kind: What it is.
        text: The words, for "text".
        data: A JPEG for "image", a WAV file for "audio".
        source: The number of the source that it belongs to; 0 for the frame of the prompt and the question.
    """

    kind: PartKind
    text: str = ""
    data: bytes = field(default=b"", repr=False)
    source: int = 0


@dataclass(frozen=True)
class PreparedSource:
    """A source as it can be sent.

    Attributes:
        sent: Its number, hit, form and words.
        label: Its name and place, such as "guide.pdf, page 3".
        parts: Its content, without the fence around it.
    """

    sent: Sent
    label: str
    parts: tuple[PromptPart, ...]


@dataclass(frozen=True)
class Request:
    """Everything that a model is asked.

    Attributes:
        system: The system prompt.
        examples: (question, answer) pairs, sent as earlier turns.
        sources: What the answer may use.
        question: Parts of the question: its attachments, then its words.
        tag: A random word, new for each request, that names the fences around the sources.
        max_tokens: The most tokens of the answer.
    """

    system: str
    examples: tuple[tuple[str, str], ...]
    sources: tuple[PreparedSource, ...]
    question: tuple[PromptPart, ...]
    tag: str
    max_tokens: int


@dataclass(frozen=True)
class NativeCitation:
    """A citation that the provider itself reports.

    Attributes:
        number: The number of the source.
        quote: The cited words, by the provider's report.
        start: Start of the supported part of the draft, in characters.
        end: Its end.
    """

    number: int
    quote: str
    start: int
    end: int


@dataclass(frozen=True)
class Draft:
    """What a model wrote, unchecked.

    Attributes:
        text: The words.
        finish: "stop" for a whole answer, "length" if `max_tokens` cut it, "filter" or "refusal" if the provider or the
            model declined, "cut" if the stream ended without saying why.
        usage: Tokens, if they are reported.
        citations: By the provider; most models cite by numbers in their text.
    """

    text: str
    finish: Finish
    usage: Usage | None = None
    citations: tuple[NativeCitation, ...] = ()


class ContextOverflow(Exception):
    """The prompt does not fit into the model's context; it is shortened and sent once more."""


class AnsweringBackend(abc.ABC):
    """A language model.

    Attributes:
        name: Its address, for messages and `Answer.model`.
        modalities: The modalities that it takes as they are; text always.
        reads_special_tokens: Whether special tokens inside a text may act as such, so that they must be broken up.
        special_tokens: The special tokens of its tokenizer, where they are known.
        window: The length of its context in tokens; None where it is unknown.
        counts_locally: Whether `count_tokens` is exact and costs no request.
    """

    name: str
    modalities: tuple[Modality, ...] = (Modality.TEXT,)
    reads_special_tokens: bool = True
    special_tokens: tuple[str, ...] = ()
    window: int | None = None
    counts_locally: bool = False

    @abc.abstractmethod
    def complete(self, request: Request) -> Draft:
        """Answers at once. Raises AnswerError, ContextOverflow."""

    @abc.abstractmethod
    def stream(self, request: Request) -> Iterator[str | Draft]:
        """Yields the words as they come, then the draft. Raises AnswerError, ContextOverflow."""

    def count_tokens(self, request: Request) -> int | None:
        """The exact number of tokens of a request; None where only an estimate is possible."""
        return None
