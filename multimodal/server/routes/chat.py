"""Captions, as chat completions and responses of OpenAI: an image or an audio in, a description out."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from typing import Any

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
from multimodal.server.tasks.chat import Question, Reply, Sampling, describe, read_question
from multimodal.server.tasks.events import DONE, event, event_stream, progress_comment
from multimodal.server.tasks.lane import Event, Finished, Progress
from multimodal.server.tasks.models import task_models_of

MAX_TOKENS = 8192


class StreamOptions(RequestModel):
    """What a stream holds beside the text."""

    include_usage: bool = False


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


async def chat(request: Request) -> Response:
    """A description of the media in the last message."""
    body = await read_json(request, ChatRequest)
    if body.n != 1:
        raise invalid(f"n must be 1, got {body.n}: send several requests", "n")
    models = task_models_of(state_of(request))
    name = models.resolve("captioning", body.model)
    question = await while_connected(request, read_question(state_of(request), body.messages, "messages"))
    sampling, lane = body.sampling, models.lanes["captioning"]
    work = models.work(
        "captioning", name, lambda pipeline, call: describe(pipeline, call, question, sampling)
    )
    head = {"id": _id("chatcmpl-"), "created": int(time.time()), "model": body.model or name}
    if body.stream:
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        return await event_stream(request, _chunks(lane.events(work), head, question, with_usage))
    reply: Reply = await while_connected(request, lane.run(work))
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": _finish(reply), "logprobs": None}
    return JsonResponse(
        head | {"object": "chat.completion", "choices": [choice], "usage": _usage(question, reply)}
    )


async def _chunks(
    events: AsyncIterator[Event], head: dict[str, Any], question: Question, with_usage: bool
) -> AsyncIterator[bytes]:
    """Chunks of a chat completion. The caption comes in one, since a beam search knows it only at its end."""
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
            yield chunk({"content": reply.text})
            yield chunk({}, _finish(reply))
            if with_usage:
                yield event(common | {"choices": [], "usage": _usage(question, reply)})
            yield DONE


async def responses(request: Request) -> Response:
    """A description of the media in the last input, as OpenAI's Responses API has it."""
    body = await read_json(request, ResponseRequest)
    models = task_models_of(state_of(request))
    name = models.resolve("captioning", body.model)
    messages = body.input if isinstance(body.input, list) else [{"role": "user", "content": body.input}]
    question = await while_connected(request, read_question(state_of(request), messages, "input"))
    sampling, lane = body.sampling, models.lanes["captioning"]
    work = models.work(
        "captioning", name, lambda pipeline, call: describe(pipeline, call, question, sampling)
    )
    head = _response_head(body, body.model or name)
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


def _completed(head: dict[str, Any], message_id: str, question: Question, reply: Reply) -> dict[str, Any]:
    status = "completed" if reply.complete else "incomplete"
    message = _message(message_id, [_text_part(reply.text)], status)
    reason = {} if reply.complete else {"incomplete_details": {"reason": "max_output_tokens"}}
    usage = {
        "input_tokens": question.n_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": reply.n_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": question.n_tokens + reply.n_tokens,
    }
    return head | {"status": status, "output": [message], "usage": usage} | reason


async def _response_events(
    events: AsyncIterator[Event], head: dict[str, Any], question: Question
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
            final = _completed(head, message_id, question, reply)
            yield numbered("output_item.added", output_index=0, item=_message(message_id, [], "in_progress"))
            yield numbered("content_part.added", **place, part=_text_part(""))
            yield numbered("output_text.delta", **place, delta=reply.text, logprobs=[])
            yield numbered("output_text.done", **place, text=reply.text, logprobs=[])
            yield numbered("content_part.done", **place, part=_text_part(reply.text))
            yield numbered("output_item.done", output_index=0, item=final["output"][0])
            yield numbered(final["status"], response=final)


def _message(message_id: str, parts: list[dict[str, Any]], status: str) -> dict[str, Any]:
    about = {"id": message_id, "type": "message", "status": status, "role": "assistant"}
    return about | {"content": parts}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(question: Question, reply: Reply) -> dict[str, int]:
    total = question.n_tokens + reply.n_tokens
    return {"prompt_tokens": question.n_tokens, "completion_tokens": reply.n_tokens, "total_tokens": total}


def _finish(reply: Reply) -> str:
    return "stop" if reply.complete else "length"


def _id(prefix: str) -> str:
    return prefix + os.urandom(12).hex()


ENDPOINTS = [
    Endpoint("/v1/chat/completions", chat, summary="Describe images and audio.", request=ChatRequest, tag="tasks"),
    Endpoint("/v1/responses", responses, summary="Describe images and audio.", request=ResponseRequest, tag="tasks"),
]  # fmt: skip
