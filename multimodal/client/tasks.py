"""Tasks that a server does: captions, transcripts, images and answers, with the result types of the pipelines."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.client import payload
from multimodal.client.transport import Transport
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item, as_item
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from multimodal.pipelines.answering.result import Answer, Citation
    from multimodal.pipelines.captioning.options import Caption
    from multimodal.pipelines.generation.result import Generation
    from multimodal.pipelines.transcription.result import Transcription

SEARCH_OPTIONS = ("k", "modality", "where", "context_tokens")  # of an answer: where its sources come from
WORD_TIMES = ("word", "segment")


def caption(transport: Transport, value: object, options: Mapping[str, Any]) -> Caption:
    """The caption of an image, an audio or a video. Raises InvalidInput for a text.

    options: `prompt`, and those of /v1/chat/completions.
    """
    from multimodal.pipelines.captioning.options import Caption

    item = as_item(value)
    if item.modality is Modality.TEXT:
        raise InvalidInput("a server captions images, audio and video; a str is text: give a Path for a file")
    rest = dict(options)
    prompt = rest.pop("prompt", None)
    parts = [{"type": "text", "text": prompt}] if prompt else []
    content = {"messages": [{"role": "user", "content": [*parts, _media_part(item)]}]} | rest
    reply = transport.post("/v1/chat/completions", _given(content))
    text = reply["choices"][0]["message"]["content"]
    about = (reply.get("captions") or [{}])[0]
    is_complete = reply["choices"][0]["finish_reason"] == "stop"
    n_tokens = reply["usage"]["completion_tokens"]
    return Caption(text, about.get("score", 0.0), n_tokens, is_complete, item.modality, item)


def transcript(transport: Transport, value: object, options: Mapping[str, Any]) -> dict[str, Any]:
    """The words of an audio or a video, as verbose_json of OpenAI. A str is a path.

    options: `translate`, and those of /v1/audio/transcriptions.
    """
    item = as_item(Path(value)) if isinstance(value, str) else as_item(value)
    rest = dict(options)
    path = "/v1/audio/translations" if rest.pop("translate", False) else "/v1/audio/transcriptions"
    reply: dict[str, Any] = _post_form(
        transport, path, {"response_format": "verbose_json"} | rest, item, "file"
    )
    return reply


def transcription(
    transport: Transport, value: object, *, words: bool = False, **options: Any
) -> Transcription:
    """The words of an audio or a video. words: whether each word has its times."""
    from multimodal.pipelines.transcription.result import Segment, Transcription, Word

    if words:
        options["timestamp_granularities[]"] = WORD_TIMES
    reply = transcript(transport, value, options)
    segments = [
        Segment(part["start"], part["end"], part["text"], tuple(part.get("tokens", ())))
        for part in reply.get("segments", ())
    ]
    spoken = [Word(part["start"], part["end"], part["word"]) for part in reply.get("words", ())]
    language, model = reply["language"] or None, reply.get("model", "")
    return Transcription(reply["text"], language, tuple(segments), tuple(spoken), reply["duration"], model)


def generation(transport: Transport, prompt: str | None, options: Mapping[str, Any]) -> Generation:
    """An image of a prompt, of a `source`, or of an initial `image` with a prompt."""
    import PIL.Image

    from multimodal.pipelines.generation import files
    from multimodal.pipelines.generation.result import METADATA_FIELDS, Generation

    rest = _given({"response_format": "b64_json", "output_format": "png"} | dict(options))
    source, image = rest.pop("source", None), rest.pop("image", None)
    if (prompt is None) == (source is None):
        raise InvalidInput("give a prompt, or a source to draw instead of one")
    if source is not None:
        reply = _post_form(transport, "/v1/images/variations", rest, as_item(source), "image")
    elif image is not None:
        reply = _post_form(transport, "/v1/images/edits", rest | {"prompt": prompt}, as_item(image), "image")
    else:
        reply = transport.post("/v1/images/generations", rest | {"prompt": prompt})
    drawn = reply["data"][0]
    with PIL.Image.open(io.BytesIO(base64.b64decode(drawn["b64_json"]))) as picture:
        metadata = json.loads(getattr(picture, "text", {}).get(files.KEY, "{}"))
        known = {"model": "", "prompt": prompt, "seed": drawn["seed"]}
        known |= {name: metadata[name] for name in METADATA_FIELDS if name in metadata}
        return Generation(image=picture.convert("RGB"), **known)


def answer(transport: Transport, question: object, index: str | None, options: Mapping[str, Any]) -> Answer:
    """The answer of an index of the server; the default one for None."""
    rest = dict(options)
    messages = []
    if instructions := rest.pop("instructions", None):
        messages.append({"role": "system", "content": instructions})
    media = [rest.pop(name, None) for name in ("image", "audio")]
    if not isinstance(question, str):
        media.append(question)
    parts = [{"type": "text", "text": question}] if isinstance(question, str) else []
    parts += [_media_part(as_item(value)) for value in media if value is not None]
    messages.append({"role": "user", "content": parts})  # type: ignore[dict-item]
    search = {name: rest.pop(name) for name in SEARCH_OPTIONS if rest.get(name) is not None}
    content = {"model": f"index:{index or ''}", "messages": messages, "search": search | {"details": True}}
    reply = transport.post("/v1/chat/completions", content | _given(rest))
    return _answer(reply["answer"]["details"])


def _answer(values: Mapping[str, Any]) -> Answer:
    """An answer from its `to_dict`."""
    from multimodal.index.results import Hits
    from multimodal.pipelines.answering.result import Answer, Dropped, Sent, Usage

    dropped, usage = values["dropped"], values["usage"]
    return Answer(
        question=values["question"],
        text=values["text"],
        citations=tuple(map(_citation, values["citations"])),
        refused=values["refused"],
        reason=values["reason"],
        complete=values["complete"],
        usage=None if usage is None else Usage(**usage),
        sent=tuple(Sent(**dict(source) | {"hit": payload.hit(source["hit"])}) for source in values["sent"]),
        dropped=Dropped(tuple(map(payload.hit, dropped["hits"])), dropped["citations"], dropped["quotes"]),
        hits=Hits(map(payload.hit, values["hits"])),
        model=values["model"],
    )


def _citation(values: Mapping[str, Any]) -> Citation:
    from multimodal.pipelines.answering.result import Citation

    return Citation(**dict(values) | {"hit": payload.hit(values["hit"])})


def _media_part(item: Item) -> dict[str, Any]:
    """An item as a part of a chat message."""
    uri = payload.data_uri(item)
    if item.modality is Modality.IMAGE:
        return {"type": "image_url", "image_url": {"url": uri}}
    return {"type": "input_audio", "input_audio": {"data": uri, "format": "wav"}}


def _post_form(
    transport: Transport, path: str, fields: Mapping[str, Any], item: Item, name: str
) -> dict[str, Any]:
    filename = Path(item.uri or name).name
    body, kind = payload.form(fields, filename, payload.content_of(item), name)
    reply: dict[str, Any] = transport.request("POST", path, body, {"content-type": kind}).json()
    return reply


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
