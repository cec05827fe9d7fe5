"""Captions and answers, as chat completions and responses of OpenAI.

A model describes an image or an audio; "index:NAME" answers a question from an index, with citations as annotations.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from multimodal.server.endpoint import (
    Endpoint,
    JsonResponse,
    RequestModel,
    read_json,
    state_of,
    while_connected,
)
from multimodal.server.errors import invalid
from multimodal.server.tasks.answers import answers_of, index_of, read_asked, reply_of
from multimodal.server.tasks.chat import Reply, Sampling, describe, read_question
from multimodal.server.tasks.events import DONE, event, event_stream, progress_comment
from multimodal.server.tasks.lane import Call, Event, Finished, Progress, TaskLane
from multimodal.server.tasks.models import task_models_of

MAX_TOKENS = 8192
MAX_SOURCES, MAX_CONTEXT_TOKENS = 100, 1_000_000  # of an answer
SUMMARY = "Describe images and audio, or answer from an index."


class StreamOptions(RequestModel):
    """What a stream holds beside the text."""

    include_usage: bool = False


class AnswerSearch(RequestModel):
    """Where an answer takes its sources from, as in `AnsweringPipeline`; for the model "index:NAME" only."""

    k: int | None = Field(default=None, ge=1, le=MAX_SOURCES)
    modality: str | list[str] | None = None
    where: dict[str, JsonValue] | None = None
    context_tokens: int | None = Field(default=None, ge=1, le=MAX_CONTEXT_TOKENS)
    details: bool = Field(default=False, description="Whether `answer` holds the sources and all hits.")


class ChatRequest(RequestModel):
    """Messages with an image or an audio, in parts of type image_url and input_audio."""

    messages: list[JsonValue] = Field(min_length=1)
    model: str | None = None
    n: int = 1
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    seed: int | None = Field(default=None, ge=0)
    stream: bool = False
    stream_options: StreamOptions | None = None
    search: AnswerSearch | None = None

    @property
    def sampling(self) -> Sampling:
        """How the tokens are chosen."""
        most = self.max_completion_tokens or self.max_tokens
        return Sampling(most, self.temperature, self.top_p, self.seed)


class ResponseRequest(RequestModel):
    """Input with an image or an audio, in parts of type input_image and input_audio."""

    input: JsonValue
    model: str | None = None
    instructions: str | None = None
    max_output_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1)
    stream: bool = False

    @property
    def sampling(self) -> Sampling:
        """How the tokens are chosen."""
        return Sampling(self.max_output_tokens, self.temperature, self.top_p)


class _Task(NamedTuple):
    """The work of a request. name: of the model, by default. n_tokens: about how many the question has."""

    name: str
    n_tokens: int
    lane: TaskLane
    work: Callable[[Call], Reply]


async def _task(
    request: Request,
    model: str | None,
    messages: Sequence[Any],
    param: str,
    sampling: Sampling,
    instructions: str | None = None,
    search: AnswerSearch | None = None,
    *,
    flat: bool = False,
) -> _Task:
    """What a request asks for. Raises ApiError naming the field at fault."""
    state = state_of(request)
    index = index_of(model)
    if index is not None:
        name = state.index(index or None).name
        asked = await while_connected(request, read_asked(state, messages, param, instructions))
        answers = answers_of(state)
        chosen = AnswerSearch() if search is None else search
        options = chosen.model_dump(exclude={"details"}) | {"max_tokens": sampling.max_tokens}
        answer = answers.work(
            name, asked, **{key: value for key, value in options.items() if value is not None}
        )
        return _Task(
            name,
            asked.n_tokens,
            answers.lane,
            lambda call: reply_of(answer(call), flat=flat, details=chosen.details),
        )
    models = task_models_of(state)
    name = models.resolve("captioning", model)
    question = await while_connected(request, read_question(state, messages, param))
    work = models.work(
        "captioning", name, lambda pipeline, call: describe(pipeline, call, question, sampling)
    )
    return _Task(name, question.n_tokens, models.lanes["captioning"], work)


async def chat(request: Request) -> Response:
    """A description of the media in the last message, or the answer of an index to it."""
    body = await read_json(request, ChatRequest)
    if body.n != 1:
        raise invalid(f"n must be 1, got {body.n}: send several requests", "n")
    task = await _task(request, body.model, body.messages, "messages", body.sampling, search=body.search)
    question, lane, work = task.n_tokens, task.lane, task.work
    head = {"id": _id("chatcmpl-"), "created": int(time.time()), "model": body.model or task.name}
    if body.stream:
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        return await event_stream(request, _chunks(lane.events(work), head, question, with_usage))
    reply: Reply = await while_connected(request, lane.run(work))
    content = None if reply.refusal is not None else reply.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": reply.refusal}
    message |= {"annotations": reply.annotations} if reply.annotations else {}
    choice = {"index": 0, "message": message, "finish_reason": _finish(reply), "logprobs": None}
    about = {"object": "chat.completion", "choices": [choice], "usage": _usage(question, reply)}
    return JsonResponse(head | about | _about(reply))


async def _chunks(
    events: AsyncIterator[Event], head: dict[str, Any], n_tokens: int, with_usage: bool
) -> AsyncIterator[bytes]:
    """Chunks of a chat completion. The text comes in one: a beam search knows it only at its end, and an answer is
    checked then."""
    common = head | {"object": "chat.completion.chunk"}
    usage: dict[str, Any] = {"usage": None} if with_usage else {}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event(common | {"choices": [choice]} | usage)

    async for reported in events:
        if isinstance(reported, Progress):
            yield progress_comment(reported)
        elif isinstance(reported, Finished):
            reply: Reply = reported.value
            yield chunk({"role": "assistant", "content": ""})
            yield chunk({"content": reply.text} if reply.refusal is None else {"refusal": reply.refusal})
            yield chunk({"annotations": reply.annotations} if reply.annotations else {}, _finish(reply))
            if with_usage:
                yield event(common | {"choices": [], "usage": _usage(n_tokens, reply)})
            yield DONE


async def responses(request: Request) -> Response:
    """A description of the media in the last input, or the answer of an index, as OpenAI's Responses API has it."""
    body = await read_json(request, ResponseRequest)
    messages = body.input if isinstance(body.input, list) else [{"role": "user", "content": body.input}]
    task = await _task(request, body.model, messages, "input", body.sampling, body.instructions, flat=True)
    question, lane, work = task.n_tokens, task.lane, task.work
    head = _response_head(body, body.model or task.name)
    if body.stream:
        return await event_stream(request, _response_events(lane.events(work), head, question))
    reply: Reply = await while_connected(request, lane.run(work))
    return JsonResponse(_completed(head, _id("msg_"), question, reply))


def _response_head(body: ResponseRequest, model: str) -> dict[str, Any]:
    return {
        "id": _id("resp_"), "object": "response", "created_at": int(time.time()), "status": "in_progress",
        "model": model, "output": [], "error": None, "incomplete_details": None, "instructions": body.instructions,
        "metadata": {}, "parallel_tool_calls": False, "temperature": body.temperature, "top_p": body.top_p,
        "tool_choice": "none", "tools": [], "max_output_tokens": body.max_output_tokens, "usage": None,
        "previous_response_id": None, "truncation": "disabled", "store": False,
    }  # fmt: skip


def _completed(head: dict[str, Any], message_id: str, n_input: int, reply: Reply) -> dict[str, Any]:
    status = "completed" if reply.complete else "incomplete"
    message = _message(message_id, [_part(reply)], status)
    reason = {} if reply.complete else {"incomplete_details": {"reason": "max_output_tokens"}}
    usage = {
        "input_tokens": n_input,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": reply.n_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": n_input + reply.n_tokens,
    }
    return head | {"status": status, "output": [message], "usage": usage} | reason | _about(reply)


async def _response_events(
    events: AsyncIterator[Event], head: dict[str, Any], n_input: int
) -> AsyncIterator[bytes]:
    """The events of a response, numbered."""
    number = -1

    def numbered(kind: str, **content: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": f"response.{kind}", "sequence_number": number} | content, named=True)

    message_id = _id("msg_")
    place = {"item_id": message_id, "output_index": 0, "content_index": 0}
    is_open = False
    async for reported in events:
        if not is_open:
            is_open = True
            yield numbered("created", response=head)
            yield numbered("in_progress", response=head)
        if isinstance(reported, Progress):
            yield progress_comment(reported)
        elif isinstance(reported, Finished):
            reply: Reply = reported.value
            final = _completed(head, message_id, n_input, reply)
            part = _part(reply)
            yield numbered("output_item.added", output_index=0, item=_message(message_id, [], "in_progress"))
            yield numbered("content_part.added", **place, part=_text_part(""))
            yield numbered("output_text.delta", **place, delta=reply.text, logprobs=[])
            for place_of, annotation in enumerate(reply.annotations):
                yield numbered(
                    "output_text.annotation.added", **place, annotation_index=place_of, annotation=annotation
                )
            yield numbered("output_text.done", **place, text=reply.text, logprobs=[])
            yield numbered("content_part.done", **place, part=part)
            yield numbered("output_item.done", output_index=0, item=final["output"][0])
            yield numbered(final["status"], response=final)


def _message(message_id: str, parts: list[dict[str, Any]], status: str) -> dict[str, Any]:
    about = {"id": message_id, "type": "message", "status": status, "role": "assistant"}
    return about | {"content": parts}


def _text_part(text: str, annotations: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": []}


def _part(reply: Reply) -> dict[str, Any]:
    if reply.refusal is not None:
        return {"type": "refusal", "refusal": reply.refusal}
    return _text_part(reply.text, reply.annotations)


def _about(reply: Reply) -> dict[str, Any]:
    """What clients of OpenAI's form know nothing of, and others can use."""
    if reply.answer is not None:
        return {"answer": reply.answer}
    return {"captions": list(reply.captions)} if reply.captions else {}


def _usage(n_input: int, reply: Reply) -> dict[str, int]:
    total = n_input + reply.n_tokens
    return {"prompt_tokens": n_input, "completion_tokens": reply.n_tokens, "total_tokens": total}


def _finish(reply: Reply) -> str:
    if reply.answer is not None and reply.answer["reason"] == "filter":
        return "content_filter"
    return "stop" if reply.complete else "length"


def _id(prefix: str) -> str:
    return prefix + os.urandom(12).hex()


ENDPOINTS = [
    Endpoint("/v1/chat/completions", chat, summary=SUMMARY, request=ChatRequest, tag="tasks"),
    Endpoint("/v1/responses", responses, summary=SUMMARY, request=ResponseRequest, tag="tasks"),
]  # fmt: skip
