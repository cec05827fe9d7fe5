"""Answers over an index, for chat requests whose model is "index:NAME".

The last message is the question, with an image or a recording if it has one; messages of the system are instructions,
and earlier turns are sent before the question. An answer is sent when its citations are checked, as a whole.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal.core.items import Audio, Image, Item
from multimodal.core.pipeline import pipeline
from multimodal.pipelines.answering.addresses import is_remote
from multimodal.pipelines.answering.labels import source_label
from multimodal.pipelines.answering.result import Answer, Citation
from multimodal.server.errors import ApiError, invalid
from multimodal.server.mcp.tools import resource_uri
from multimodal.server.media import too_many
from multimodal.server.tasks.chat import (
    CHARS_PER_TOKEN,
    MAX_MESSAGES,
    TEXT_TYPES,
    Question,
    Reply,
    read_content,
)
from multimodal.server.tasks.lane import Call, TaskLane

if TYPE_CHECKING:
    from multimodal.server.state import State

PREFIX = "index:"
TASK = "answering"
CAPACITY = 64  # calls that may wait
REMOTE_WORKERS = 8  # calls at once of a model behind a server, during which this one only waits
DEFAULT_MODEL = "extractive"
KEY = "answers"  # in State.extras


@dataclass(frozen=True)
class Asked:
    """A question to an index.

    Attributes:
        question: In words, or spoken.
        image: An image that belongs to it.
        audio: A recording that belongs to it.
        instructions: Of the messages of the system.
        examples: Earlier turns.
        n_tokens: About how many tokens its words have.
    """

    question: str | Audio
    image: Item | None = None
    audio: Item | None = None
    instructions: str | None = None
    examples: tuple[tuple[str, str], ...] = ()
    n_tokens: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """As AnsweringPipeline takes them."""
        names = ("image", "audio", "instructions", "examples")
        return {name: getattr(self, name) for name in names}


class Answers:
    """The answering pipelines of one server, one for each index, and their lane."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._pipelines: dict[str, Any] = {}  # each is made and called in the lane only
        self._making = threading.Lock()
        self.model = next(iter(state.config.task_models.get(TASK, ())), DEFAULT_MODEL)
        metrics = state.metrics.lane(TASK, lambda: len(self.lane))
        n_workers = REMOTE_WORKERS if is_remote(self.model) else 1
        self.lane = TaskLane(TASK, CAPACITY, metrics, state.media_limits, n_workers)

    def load(self) -> None:
        """Loads the model, so that a wrong name or a missing key shows when the server starts. Blocks."""
        for name in self._state.indexes:
            self.lane.run_in_thread(functools.partial(self._load, name))

    def _load(self, index: str, call: Call) -> None:
        self._pipeline(index)

    def work(self, index: str, asked: Asked, **options: Any) -> Callable[[Call], Answer]:
        """The work of a call: the answer of an index."""

        def work(call: Call) -> Answer:
            answer: Answer | None = None
            n_chars = 0
            for part in self._pipeline(index).stream(asked.question, **asked.options, **options):
                n_chars += len(part.text)
                call.progress(n_chars)  # raises once the client has disconnected
                answer = part.answer
            if answer is None:
                raise ApiError(500, "the model ended without an answer")
            return answer

        return work

    def _pipeline(self, index: str) -> Any:
        with self._making:
            if index not in self._pipelines:
                options = {key: value for key, value in self._state.config.load_options.items()
                           if key in ("device", "precision", "offline")}  # fmt: skip
                opened = self._state.index(index).index
                self._pipelines[index] = pipeline("answering", model=self.model, index=opened, **options)
            return self._pipelines[index]


def answers_of(state: State) -> Answers:
    """The answering pipelines of a server."""
    answers = state.extras.get(KEY)
    if not isinstance(answers, Answers):
        answers = state.extras[KEY] = Answers(state)
        state.on_close(answers.lane.close)
    return answers


def index_of(model: str | None) -> str | None:
    """The name of the index that a request asks, "" for the default one; None for a model."""
    return None if model is None or not model.startswith(PREFIX) else model.removeprefix(PREFIX)


async def read_asked(
    state: State, messages: Sequence[Any], param: str, instructions: str | None = None
) -> Asked:
    """The question of a chat, with its instructions and earlier turns.

    Args:
        state: Of the server.
        messages: Chat messages, in the form of chat completions or of responses.
        param: The field of the request, for messages.
        instructions: Beside the messages, as of responses.

    Raises:
        ApiError: 400 or 413 naming the message and its part.
    """
    if not messages or len(messages) > MAX_MESSAGES:
        raise too_many(len(messages), MAX_MESSAGES, "messages", param) if messages else invalid(
            f"{param} is empty: the last message is the question", param
        )  # fmt: skip
    for place, message in enumerate(messages):
        if not isinstance(message, dict):
            raise invalid(f"{param}[{place}] must be an object with a role", f"{param}[{place}]")
    last = messages[-1]
    if last.get("role", "user") != "user":
        raise invalid(f"the last of {param} must be of the user: it is the question", param)
    rules = [instructions] if instructions else []
    rules += [_words(message) for message in messages if message.get("role") in ("system", "developer")]
    content = last.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list):
        raise invalid(f"{param}[{len(messages) - 1}].content must be text or a list of parts", param)
    question = await read_content(state, parts, f"{param}[{len(messages) - 1}].content")
    return _asked(question, "\n\n".join(filter(None, rules)) or None, _turns(messages[:-1]), param)


def reply_of(answer: Answer, *, flat: bool, details: bool = False) -> Reply:
    """The reply of a chat for an answer.

    Args:
        answer: The checked answer.
        flat: Whether annotations are flat, as in responses, or nested, as in chat completions.
        details: Whether all of the answer is part of the reply: its sources and hits.
    """
    is_withheld = answer.refused and answer.reason in ("model", "filter")
    n_tokens = math.ceil(len(answer.text) / CHARS_PER_TOKEN)
    if answer.usage is not None:
        n_tokens = answer.usage.output_tokens
    about: dict[str, Any] = {"details": answer.to_dict()} if details else {}
    about |= {
        "refused": answer.refused,
        "reason": answer.reason,
        "verified": answer.verified,
        "model": answer.model,
    }
    return Reply(
        answer.text,
        n_tokens,
        answer.complete,
        annotations=tuple(_annotation(citation, flat) for citation in answer.citations),
        refusal=answer.text if is_withheld else None,
        answer=about | {"dropped": {"citations": answer.dropped.citations, "quotes": answer.dropped.quotes}},
    )


def _annotation(citation: Citation, flat: bool) -> dict[str, Any]:
    """A citation as OpenAI's `url_citation`; its address is a resource of this server."""
    content = {
        "start_index": citation.start,
        "end_index": citation.end,
        "url": resource_uri(citation.hit.id),
        "title": source_label(citation.hit),
        "quote": citation.quote,
        "verified": citation.verified,
    }
    return {"type": "url_citation"} | (content if flat else {"url_citation": content})


def _asked(
    question: Question, instructions: str | None, turns: tuple[tuple[str, str], ...], param: str
) -> Asked:
    image = next((item for item in question.items if isinstance(item, Image)), None)
    audio = next((item for item in question.items if isinstance(item, Audio)), None)
    words: str | Audio = question.prompt
    if not question.prompt.strip():
        if audio is None:
            raise invalid(f"the last of {param} holds no question: write one, or speak it", param)
        words, audio = audio, None
    return Asked(words, image, audio, instructions, turns, question.n_tokens)


def _turns(messages: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Questions with their answers, in order; what is left unanswered is skipped."""
    turns: list[tuple[str, str]] = []
    question = ""
    for message in messages:
        words = _words(message)
        if message.get("role") == "user":
            question = words
        elif message.get("role") == "assistant" and question.strip() and words.strip():
            turns.append((question, words))
            question = ""
    return tuple(turns)


def _words(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") in TEXT_TYPES)
    return "\n".join(text for text in texts if isinstance(text, str))
