"""Drawing, as OpenAI's clients ask for it: from a prompt, from images or sounds with a prompt, and variations."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from multimodal.core.items import Item, Text
from multimodal.core.modality import Modality
from multimodal.server.endpoint import (
    Endpoint,
    JsonResponse,
    RequestModel,
    read_json,
    state_of,
    while_connected,
)
from multimodal.server.errors import invalid
from multimodal.server.forms import FORM_TYPE, read_form
from multimodal.server.media import too_many
from multimodal.server.tasks.events import event, event_stream, progress_comment
from multimodal.server.tasks.lane import Call, Event, Finished, Progress
from multimodal.server.tasks.models import task_models_of

if TYPE_CHECKING:
    import PIL.Image

    from multimodal.pipelines.generation.pipeline import Generation

MAX_IMAGES = 10  # of one request
MAX_INPUTS = 16
MAX_SIDE = 4096  # pixels
SIZE = re.compile(r"(\d{1,5})x(\d{1,5})\Z")
Draw = Callable[[Any, Call], "list[Generation]"]


class GenerationRequest(RequestModel):
    """What to draw."""

    prompt: str = Field(min_length=1, max_length=32_000)
    model: str | None = None
    n: int = Field(default=1, ge=1, le=MAX_IMAGES)
    size: str | None = Field(default=None, description="WIDTHxHEIGHT in pixels, or auto.")
    response_format: Literal["b64_json", "url"] = Field(
        default="b64_json", description="url gives a data URI: nothing is stored."
    )
    output_format: Literal["png", "jpeg", "webp"] = "png"
    seed: int | None = Field(default=None, ge=0, description="The same seed draws the same image.")
    guidance: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=1, le=1000)
    negative_prompt: str | None = None
    strength: float | None = Field(
        default=None, gt=0, le=1, description="How much of a given image may change."
    )
    stream: bool = False


class EditRequest(GenerationRequest):
    """Images or sounds, and what to make of them."""

    image: list[bytes] = Field(
        default=[], json_schema_extra={"items": {"type": "string", "format": "binary"}}
    )
    mask: str | None = None


class VariationRequest(EditRequest):
    """An image or a sound to draw variations of."""

    prompt: str = ""


async def generations(request: Request) -> Response:
    """Images of a prompt."""
    body = await read_json(request, GenerationRequest)

    def draw(pipeline: Any, call: Call) -> list[Generation]:
        return _drawn(pipeline, call, body, body.prompt)

    return await _answer(request, body, draw, "image_generation")


async def edits(request: Request) -> Response:
    """Images of a prompt together with images or sounds."""
    body, items = await _read_edit(request, EditRequest)

    def draw(pipeline: Any, call: Call) -> list[Generation]:
        backend = pipeline.backend
        is_image = all(item.modality is Modality.IMAGE for item in items)
        if len(items) == 1 and is_image and "image" in backend.supported_options:
            return _drawn(pipeline, call, body, body.prompt, image=items[0])
        return _drawn(pipeline, call, body, None, vector=_mean(backend, [*items, Text(body.prompt)]))

    return await _answer(request, body, draw, "image_edit")


async def variations(request: Request) -> Response:
    """Images that resemble an image, or what can be heard in a sound."""
    body, items = await _read_edit(request, VariationRequest)

    def draw(pipeline: Any, call: Call) -> list[Generation]:
        return _drawn(pipeline, call, body, None, vector=_mean(pipeline.backend, items))

    return await _answer(request, body, draw, "image_edit")


async def _read_edit(request: Request, model: type[EditRequest]) -> tuple[EditRequest, list[Item]]:
    """The fields of a form, and the items in its files called "image"."""
    form = await read_form(request)
    for name in ("image", "image[]"):
        form.fields.pop(name, None)
    body = form.as_model(model)
    if form.files_of("mask") or body.mask is not None:
        raise invalid(
            "mask is not supported; describe the change in the prompt, and leave the mask out", "mask"
        )
    uploads = form.files_of("image")
    if not uploads:
        raise invalid("image must hold at least one uploaded image or sound", "image")
    if len(uploads) > MAX_INPUTS:
        raise too_many(len(uploads), MAX_INPUTS, "files", "image")
    state = state_of(request)

    def check() -> list[Item]:
        return [state.media.content(upload.content, "image").item for upload in uploads]

    return body, await while_connected(request, state.in_media_pool(check))


def _mean(backend: Any, items: Sequence[Item]) -> Any:
    """The direction (dim,) of the mean of the items' vectors. Raises ApiError for a model that takes no vectors."""
    if backend.space is None or "vector" not in backend.supported_options:
        raise invalid(
            f"the model {backend.name!r} draws from a prompt, or from one image and a prompt; send one image to "
            "/v1/images/edits, or name another model", "model",
        )  # fmt: skip
    import numpy as np

    mean = backend.space.encode(list(items)).mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        raise invalid("the inputs cancel out; send fewer", "image")
    return mean / length


def _drawn(
    pipeline: Any, call: Call, body: GenerationRequest, prompt: str | None, **inputs: Any
) -> list[Generation]:
    """Draws, in the thread of the lane."""
    options: dict[str, Any] = {"seed": body.seed, "n": body.n, "guidance": body.guidance, "steps": body.steps}
    options |= {"negative": body.negative_prompt, "strength": body.strength}
    size = _size(body)
    if size is not None and {"width", "height"} <= pipeline.backend.supported_options:
        options |= {"width": size[0], "height": size[1]}
    if pipeline.backend.output_modality is not Modality.IMAGE:
        raise invalid(f"the model {pipeline.name!r} makes sound, not images; name another model", "model")
    made: Generation | list[Generation] = pipeline(prompt, progress=call.progress, **inputs, **options)
    return made if isinstance(made, list) else [made]


def _size(body: GenerationRequest) -> tuple[int, int] | None:
    if body.size in (None, "", "auto"):
        return None
    match = SIZE.fullmatch(body.size or "")
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise invalid(
            f"size must be WIDTHxHEIGHT, each 1 to {MAX_SIDE}, or auto, got {body.size!r:.40}", "size"
        )
    return width, height


async def _answer(request: Request, body: GenerationRequest, draw: Draw, kind: str) -> Response:
    models = task_models_of(state_of(request))
    _size(body)
    name = models.resolve("generation", body.model)

    def encoded(pipeline: Any, call: Call) -> list[dict[str, Any]]:
        return [_encoded(generation, body) for generation in draw(pipeline, call)]

    work, lane = models.work("generation", name, encoded), models.lanes["generation"]
    if body.stream:
        return await event_stream(request, _events(lane.events(work), body, kind))
    images = await while_connected(request, lane.run(work))
    about = {"created": int(time.time()), "output_format": body.output_format}
    return JsonResponse(about | {"data": [_datum(image, body) for image in images]})


def _encoded(generation: Generation, body: GenerationRequest) -> dict[str, Any]:
    from multimodal.pipelines.generation import files

    image: PIL.Image.Image = generation.image  # type: ignore[assignment]
    size = _size(body)
    if (
        size is not None and image.size != size
    ):  # a model of one size: what was asked for, without more detail
        image = image.resize(size, 3)
    content = files.image_bytes(image, generation.metadata, f".{body.output_format}")
    b64 = base64.b64encode(content).decode()
    return {"b64_json": b64, "seed": generation.seed, "size": f"{image.width}x{image.height}"}


def _datum(image: dict[str, Any], body: GenerationRequest) -> dict[str, Any]:
    if body.response_format == "b64_json":
        return image
    uri = f"data:image/{body.output_format};base64,{image['b64_json']}"
    return {"url": uri} | {key: value for key, value in image.items() if key != "b64_json"}


async def _events(events: AsyncIterator[Event], body: GenerationRequest, kind: str) -> AsyncIterator[bytes]:
    """Progress as comments, then each image as OpenAI's event."""
    async for reported in events:
        if isinstance(reported, Progress):
            yield progress_comment(reported)
        elif isinstance(reported, Finished):
            for image in reported.value:
                about = {"type": f"{kind}.completed", "created_at": int(time.time())}
                yield event(about | {"output_format": body.output_format} | image, named=True)


_FORM: dict[str, Any] = {"content": FORM_TYPE, "tag": "tasks"}
ENDPOINTS = [
    Endpoint(
        "/v1/images/generations", generations, summary="Draw a prompt.", request=GenerationRequest, tag="tasks"
    ),
    Endpoint("/v1/images/edits", edits, summary="Draw from images or sounds, and a prompt.", request=EditRequest,
             **_FORM),
    Endpoint("/v1/images/variations", variations, summary="Draw what resembles an image or a sound.",
             request=VariationRequest, **_FORM),
]  # fmt: skip
