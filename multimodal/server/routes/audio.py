"""Transcripts, as OpenAI's clients ask for them: JSON, text, subtitles, or a stream."""

from __future__ import annotations

import math
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.server.endpoint import Endpoint, JsonResponse, RequestModel, state_of, while_connected
from multimodal.server.errors import invalid
from multimodal.server.forms import FORM_TYPE, read_form
from multimodal.server.tasks.events import event, event_stream, progress_comment
from multimodal.server.tasks.lane import Call, Event, Finished, Progress, Written
from multimodal.server.tasks.models import task_models_of

ENGLISH = ("en", "english")
SEEK_PER_SECOND = 100  # OpenAI's `seek` counts hundredths of a second


class TranscriptionRequest(RequestModel):
    """An audio or a video, and the form of its transcript."""

    file: bytes = Field(default=b"", json_schema_extra={"format": "binary"})
    model: str | None = None
    language: str | None = Field(
        default=None, description="What is spoken, such as 'en'; detected by default."
    )
    prompt: str | None = Field(default=None, description="Text with the spelling and style to follow.")
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] = "json"
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    timestamp_granularities: list[Literal["word", "segment"]] = Field(default=[])
    stream: bool = False


async def transcriptions(request: Request) -> Response:
    """The words of an audio."""
    return await _transcribe(request, "transcribe")


async def translations(request: Request) -> Response:
    """The words of an audio in English."""
    return await _transcribe(request, "translate")


async def _transcribe(request: Request, task: str) -> Response:
    state, models = state_of(request), task_models_of(state_of(request))
    form = await read_form(request)
    body = form.as_model(TranscriptionRequest)
    name = models.resolve("transcription", body.model)
    upload = form.file("file")
    checked = await while_connected(request, state.in_media_pool(state.media.content, upload.content, "file"))
    if checked.item.modality not in (Modality.AUDIO, Modality.VIDEO):
        raise invalid(f"file is {checked.item.modality}; a transcript needs an audio or a video", "file")
    work = models.work("transcription", name, _worker(checked.item, body, task))
    lane = models.lanes["transcription"]
    if body.stream:
        return await event_stream(request, _events(lane.events(work)))
    result = await while_connected(request, lane.run(work))
    return _response(result, body)


def _worker(item: Item, body: TranscriptionRequest, task: str) -> Callable[[Any, Call], Any]:
    """Calls the pipeline, in the thread of the lane."""

    def transcribe(pipeline: Any, call: Call) -> Any:
        options: dict[str, Any] = {"timestamps": _timestamps(body)}
        supported = pipeline.backend.supported_options
        # Clients send temperature=0 and language="en" unasked; a model of one kind has nothing to choose there
        if body.temperature and (body.temperature > 0 or "temperature" in supported):
            options["temperature"] = body.temperature
        if body.language is not None and ("language" in supported or body.language.lower() not in ENGLISH):
            options["language"] = body.language
        if body.prompt is not None:
            options["prompt"] = body.prompt
        if task != "transcribe":
            options["task"] = task
        return pipeline(item, progress=call.progress, **options)

    return transcribe


def _timestamps(body: TranscriptionRequest) -> str:
    return "word" if "word" in body.timestamp_granularities else "segment"


def _response(result: Any, body: TranscriptionRequest) -> Response:
    match body.response_format:
        case "text":
            return PlainTextResponse(f"{result.text}\n")
        case "srt":
            return PlainTextResponse(result.to_srt())
        case "vtt":
            return Response(result.to_vtt(), media_type="text/vtt; charset=utf-8")
        case "verbose_json":
            return JsonResponse(_verbose(result, body))
        case _:
            return JsonResponse({"text": result.text, "usage": _usage(result)})


def _verbose(result: Any, body: TranscriptionRequest) -> dict[str, Any]:
    """OpenAI's verbose_json. What no model here reports is 0: log-probabilities, and that of no speech."""
    content: dict[str, Any] = {
        "task": "transcribe",
        "language": result.language or "",
        "duration": result.duration_s,
        "text": result.text,
    }
    if not body.timestamp_granularities or "segment" in body.timestamp_granularities:
        content["segments"] = [
            {
                "id": number,
                "seek": int(segment.start * SEEK_PER_SECOND),
                "start": segment.start,
                "end": segment.end,
                "text": segment.text,
                "tokens": list(segment.tokens),
                "temperature": body.temperature or 0.0,
                "avg_logprob": 0.0,
                "compression_ratio": _compression_ratio(segment.text),
                "no_speech_prob": 0.0,
            }
            for number, segment in enumerate(result.segments)
        ]
    if "word" in body.timestamp_granularities:
        content["words"] = [
            {"word": word.text, "start": word.start, "end": word.end} for word in result.words
        ]
    return content | {"model": result.model, "usage": _usage(result)}


def _compression_ratio(text: str) -> float:
    """As openai/whisper computes it: high for text that repeats itself."""
    content = text.encode()
    return len(content) / len(zlib.compress(content)) if content else 0.0


def _usage(result: Any) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(result.duration_s)}


async def _events(events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    """Deltas as the model writes, then the whole text."""
    sent = ""
    async for reported in events:
        if isinstance(reported, Progress):
            yield progress_comment(reported)
        elif isinstance(reported, Written):
            delta = f" {reported.text}" if sent else reported.text
            sent += delta
            yield event({"type": "transcript.text.delta", "delta": delta}, named=True)
        elif isinstance(reported, Finished):
            text = reported.value.text
            if text.startswith(sent) and text != sent:
                yield event({"type": "transcript.text.delta", "delta": text[len(sent) :]}, named=True)
            done = {"type": "transcript.text.done", "text": text, "usage": _usage(reported.value)}
            yield event(done, named=True)


_FORM: dict[str, Any] = {"request": TranscriptionRequest, "content": FORM_TYPE, "tag": "tasks"}
ENDPOINTS = [
    Endpoint("/v1/audio/transcriptions", transcriptions, summary="Transcribe an audio or a video.", **_FORM),
    Endpoint("/v1/audio/translations", translations, summary="Transcribe into English.", **_FORM),
]
