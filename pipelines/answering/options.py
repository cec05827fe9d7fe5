"""The options of a question, validated, and the question itself as it is searched and sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from multimodal.core.checks import whole_number
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Audio, Image, Item, Text, Video, as_item
from multimodal.core.modality import Modality

DEFAULT_K = 8
DEFAULT_CONTEXT_TOKENS = 6_000
DEFAULT_MAX_TOKENS = 512
MIN_CONTEXT_TOKENS = 64
IMAGE_QUESTION = "What do the sources say about this image?"
VIDEO_QUESTION = "What do the sources say about this video?"


@dataclass(frozen=True)
class AnsweringOptions:
    """The validated options of one call.

    Attributes:
        k: The most sources.
        modality: As for `Index.search`.
        where: As for `Index.search`.
        instructions: Added to the system prompt; "" for none.
        examples: (question, answer) pairs that are sent before the question.
        context_tokens: The most tokens of the prompt.
        max_tokens: The most tokens of the answer.
    """

    k: int = DEFAULT_K
    modality: str | Iterable[str] | None = None
    where: Mapping[str, Any] | None = None
    instructions: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    context_tokens: int = DEFAULT_CONTEXT_TOKENS
    max_tokens: int = DEFAULT_MAX_TOKENS


@dataclass(frozen=True)
class Question:
    """A question as it is searched and sent.

    Attributes:
        text: In words.
        spoken: The recording of it, which is searched too.
        attachments: Images, audio or videos that belong to the question.
    """

    text: str
    spoken: Audio | None = None
    attachments: tuple[Item, ...] = ()

    @property
    def query(self) -> Any:
        """What `Index.search` takes: the words, or a weighted query of the words and the media."""
        media = [item for item in (self.spoken, *self.attachments) if item is not None]
        return [(Text(self.text), 1.0), *((item, 1.0) for item in media)] if media else Text(self.text)


def check_options(
    k: object,
    modality: Any,
    where: Any,
    instructions: object,
    examples: object,
    context_tokens: object,
    max_tokens: object,
) -> AnsweringOptions:
    """The options, validated. Raises InvalidInput."""
    if instructions is not None and not isinstance(instructions, str):
        raise InvalidInput(f"instructions must be a str, got {type(instructions).__name__}")
    limit = whole_number(context_tokens, "context_tokens")
    if limit < MIN_CONTEXT_TOKENS:
        raise InvalidInput(
            f"context_tokens={limit} holds no source: give at least {MIN_CONTEXT_TOKENS}, or leave it out"
        )
    return AnsweringOptions(
        whole_number(k, "k"),
        modality,
        where,
        instructions or "",
        check_examples(examples),
        limit,
        whole_number(max_tokens, "max_tokens"),
    )


def check_examples(examples: Any) -> tuple[tuple[str, str], ...]:
    """The examples as pairs of str. Raises InvalidInput."""
    if isinstance(examples, str | Mapping) or not isinstance(examples, Sequence):
        raise InvalidInput(f'examples must be [("question", "answer"), …], got {type(examples).__name__}')
    for example in examples:
        is_pair = isinstance(example, tuple | list) and len(example) == 2
        if not is_pair or not all(isinstance(part, str) and part.strip() for part in example):
            raise InvalidInput(
                f'each example must be a pair ("question", "answer") of words, got {example!r:.80}'
            )
    return tuple((question, answer) for question, answer in examples)


def check_inputs(inputs: Any) -> tuple[Modality, ...] | None:
    """The modalities that a remote model takes, text among them; None stays None. Raises InvalidInput."""
    if inputs is None:
        return None
    names = [inputs] if isinstance(inputs, str) else list(inputs)
    known = (Modality.TEXT, Modality.IMAGE, Modality.AUDIO)
    unknown = [name for name in names if name not in list(known)]
    if unknown:
        raise InvalidInput(f"inputs may be {', '.join(map(repr, map(str, known)))}, got {unknown[0]!r}")
    return tuple(modality for modality in known if modality is Modality.TEXT or modality in names)


def as_media(value: Any, kind: type[Image] | type[Audio]) -> Item:
    """An attachment as an item; a str is a path here, as in `Image(…)`."""
    return value if isinstance(value, Text | Image | Audio | Video) else kind(value)


def as_question_item(value: Any) -> Item:
    """The question as an item. Raises InvalidInput if it is empty."""
    if isinstance(value, str) and not value.strip():
        raise InvalidInput(f"the question is empty ({value!r}); ask something, such as 'How high is it?'")
    item = Text(value) if isinstance(value, str) else as_item(value)
    if isinstance(item, Text):
        item.load()
    return item
