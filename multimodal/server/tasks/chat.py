"""Chat messages as what a pipeline takes: items, and a question in words."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.server.errors import invalid
from multimodal.server.media import too_many
from multimodal.server.tasks.items import item_of
from multimodal.server.tasks.lane import Call

if TYPE_CHECKING:
    from multimodal.server.state import State

CHARS_PER_TOKEN = 4  # of English
TEXT_TYPES = ("text", "input_text", "output_text")
MAX_MESSAGES = 256


@dataclass(frozen=True)
class Question:
    """What to describe. prompt: the words beside the media; "" without any."""

    items: tuple[Item, ...]
    prompt: str

    @property
    def n_tokens(self) -> int:
        """About how many tokens the words have."""
        return math.ceil(len(self.prompt) / CHARS_PER_TOKEN)


@dataclass(frozen=True)
class Sampling:
    """How the tokens of a caption are chosen. temperature: None or 0 for the most probable."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Reply:
    """What is written: the captions of a question, one for each item, or the answer of an index.

    Attributes:
        text: The words.
        n_tokens: How many tokens they have.
        complete: Whether they were not cut.
        annotations: The citations of an answer, in OpenAI's form.
        refusal: Why a model declined, instead of an answer.
        answer: About an answer: whether it was refused and verified, and by which model; None for captions.
        captions: Of each item: {"text", "score", "n_tokens", "complete"}.
    """

    text: str
    n_tokens: int
    complete: bool
    annotations: tuple[dict[str, Any], ...] = ()
    refusal: str | None = None
    answer: dict[str, Any] | None = None
    captions: tuple[dict[str, Any], ...] = ()


async def read_question(state: State, messages: Sequence[Any], param: str) -> Question:
    """The media and words of the last message of the user that holds any media.

    Args:
        state: Of the server.
        messages: Chat messages, in the form of chat completions or of responses.
        param: The field of the request, for messages.

    Raises:
        ApiError: 400 or 413 naming the message and its part.
    """
    if len(messages) > MAX_MESSAGES:
        raise too_many(len(messages), MAX_MESSAGES, "messages", param)
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(message, dict) and message.get("role", "user") == "user" and isinstance(content, list):
            media = [
                part for part in content if isinstance(part, dict) and part.get("type") not in TEXT_TYPES
            ]
            if media:
                return await read_content(state, content, f"{param}[{place}].content")
    raise invalid(
        f"{param} holds no image or audio, and this server describes those: add a part of type image_url or "
        "input_audio to the last message", param, "no_media",
    )  # fmt: skip


async def read_content(state: State, content: Sequence[Any], param: str) -> Question:
    """The media and words of one message. Raises ApiError naming the part."""
    words: list[str] = []
    sources: list[tuple[Any, str, Modality | None]] = []
    for place, part in enumerate(content):
        name = f"{param}[{place}]"
        if isinstance(part, dict) and part.get("type") in TEXT_TYPES and isinstance(part.get("text"), str):
            words.append(part["text"])
        elif isinstance(part, dict):
            sources.append((*_source(part, name), _modality(part)))
        else:
            raise invalid(f"{name} must be an object with a type, got {type(part).__name__}", name)
    if len(sources) > state.config.ceilings.media:
        raise too_many(len(sources), state.config.ceilings.media, "images and audio", param)
    items = await asyncio.gather(*(item_of(state, *source) for source in sources))
    prompt = "\n".join(words)
    if len(prompt) > state.config.ceilings.text_chars:
        raise invalid(f"{param} has {len(prompt):,} characters of text; send fewer", param, "text_too_long")
    return Question(tuple(items), prompt)


def _source(part: dict[str, Any], param: str) -> tuple[Any, str]:
    """(the string that holds or names the media of a part, the name of its field)"""
    kind = part.get("type")
    value: Any = None
    if kind in ("image_url", "input_image"):
        value = part.get("image_url")
        value = value.get("url") if isinstance(value, dict) else value
    elif kind == "input_audio":
        value = part.get("input_audio")
        value = value.get("data") if isinstance(value, dict) else value
    elif kind in ("file", "input_file"):
        value = part.get("file") if kind == "file" else part
        value = value.get("file_data") if isinstance(value, dict) else value
    else:
        raise invalid(f"{param} has the type {kind!r:.40}; text, image_url and input_audio are known", param)
    if not isinstance(value, str):
        raise invalid(f"{param} holds no data: give a data URI, such as data:image/png;base64,…", param)
    return value, param


def _modality(part: dict[str, Any]) -> Modality | None:
    is_image = part.get("type") in ("image_url", "input_image")
    # An item of the index may be of any kind, and is named like an image where a client knows no other way
    value = part.get("image_url")
    url = value.get("url") if isinstance(value, dict) else value
    if is_image and not (
        isinstance(url, str) and url.startswith(("multimodal:", "data:audio/", "data:video/"))
    ):
        return Modality.IMAGE
    return None


def describe(pipeline: Any, call: Call, question: Question, sampling: Sampling) -> Reply:
    """Captions the items of a question, in the thread of the lane."""
    options: dict[str, Any] = {"max_tokens": sampling.max_tokens}
    if sampling.temperature:
        options |= {"sample": True, "temperature": sampling.temperature, "seed": sampling.seed}
        options |= {"top_p": sampling.top_p} if sampling.top_p else {}
    if pipeline.backend.prompts and question.prompt.strip():
        options["prompt"] = question.prompt
    captions = []
    for done, item in enumerate(question.items):
        call.progress(done, len(question.items))
        captions.append(pipeline(item, **options))
    return Reply(
        "\n".join(caption.text for caption in captions),
        sum(caption.n_tokens for caption in captions),
        all(caption.complete for caption in captions),
        captions=tuple(
            {name: getattr(caption, name) for name in ("text", "score", "n_tokens", "complete")}
            for caption in captions
        ),
    )
