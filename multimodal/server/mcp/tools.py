"""What an assistant can do with indexes: search, look at an item, list filters, caption and transcribe. Read-only.

Nothing in here depends on the protocol: `protocol.py` turns an `Answer` into the content of MCP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from multimodal.core.errors import InvalidInput, MultimodalError, UnsupportedModality
from multimodal.core.items import Audio, Item, Text, Video
from multimodal.core.modality import Modality
from multimodal.core.remote.copies import media_path
from multimodal.server.mcp.facets import facets

if TYPE_CHECKING:
    from multimodal.index import Hit, Hits, Index
    from multimodal.pipelines.answering.result import Answer as AskedAnswer

SCHEME = "multimodal://item/"
DEFAULT_K, MAX_K = 10, 50
DEFAULT_SOURCES = 8  # of an answer
MAX_THUMBNAILS = 8
THUMBNAIL_SIDE, ITEM_SIDE = 256, 1024  # pixels of the longer edge: beside hits, and of a single item
QUALITY = 80  # of JPEG
MAX_TEXT = 2_000  # characters of a text among hits; get_item returns all of it
AUDIO_RATE_HZ = 16_000
AWAY = -0.7  # weight of `without` beside parts of weight 1, as of --not on the command line

ItemTask = Callable[[Item], dict[str, Any]]
IndexTask = Callable[[str, str, Mapping[str, Any]], "AskedAnswer"]
"""The name of an index, a question and the options of AnsweringPipeline -> its answer."""


@dataclass(frozen=True)
class Media:
    """A small picture or sound. uri: the resource of the item that it shows."""

    mime_type: str
    content: bytes
    uri: str

    @property
    def is_image(self) -> bool:
        """Whether it is a picture."""
        return self.mime_type.startswith("image/")


@dataclass(frozen=True)
class Link:
    """A resource that can be read."""

    uri: str
    name: str
    mime_type: str


@dataclass(frozen=True)
class Answer:
    """The result of a tool. data: JSON values."""

    data: dict[str, Any]
    media: tuple[Media, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def text(self) -> str:
        """The data as JSON text."""
        return json.dumps(self.data, ensure_ascii=False)


def resource_uri(id_: str) -> str:
    """The address of an item as a resource: its id, percent-encoded."""
    return SCHEME + quote(id_, safe="")


def item_id(uri: str) -> str:
    """The id in a resource address. Raises InvalidInput for another scheme."""
    if not uri.startswith(SCHEME):
        raise InvalidInput(f"a resource of this server begins with {SCHEME}, got {uri!r:.80}")
    return unquote(uri.removeprefix(SCHEME))


@dataclass
class IndexTools:
    """The tools on one or more indexes.

    Attributes:
        indexes: By name. The first is the default.
        caption: Captions an item.
        transcribe: Transcribes an audio or a video.
        answer: Answers a question from an index; by default by quotations.
    """

    indexes: Mapping[str, Callable[[], Index]]
    caption: ItemTask
    transcribe: ItemTask
    answer: IndexTask | None = None
    default: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.indexes:
            raise InvalidInput("no index given; name at least one")
        self.default = next(iter(self.indexes))

    def search(
        self,
        query: str | None = None,
        *,
        similar_to: Sequence[str] = (),
        without: str | None = None,
        keywords: str | None = None,
        modality: str | None = None,
        where: Mapping[str, Any] | None = None,
        k: int = DEFAULT_K,
        offset: int = 0,
        min_probability: float | None = None,
        index: str | None = None,
    ) -> Answer:
        """Hits with thumbnails of the first pictures among them. Raises InvalidInput, UnsupportedModality."""
        chosen = self._index(index)
        if not 1 <= k <= MAX_K:
            raise InvalidInput(f"k must be 1 to {MAX_K}, got {k}; page with offset")
        parts: list[tuple[Item, float]] = [] if query is None else [(Text(query), 1.0)]
        if without is not None:
            parts.append((Text(without), AWAY))
        weighted: Any = parts or None
        hits: Hits = chosen.search(
            weighted,
            k,
            similar_to=list(similar_to) or None,
            text=keywords,
            modality=modality,
            where=where,
            offset=offset,
            min_probability=min_probability,
        )
        media = self._thumbnails(hits)
        data = {
            "hits": [self._hit(hit) for hit in hits],
            "count": len(hits),
            "offset": offset,
            "next_offset": offset + k if len(hits) == k else None,
            "items_searched": len(chosen.rows(modality=modality, where=where)),
            "thumbnails_of": [picture.uri for picture in media],
            "note": hits.note,
        }
        return Answer(data, media, tuple(_link(hit.id, hit.modality, hit.uri) for hit in hits))

    def ask(
        self,
        question: str,
        *,
        k: int = DEFAULT_SOURCES,
        modality: str | None = None,
        where: Mapping[str, Any] | None = None,
        index: str | None = None,
    ) -> Answer:
        """The answer to a question, with its citations. Raises InvalidInput."""
        chosen = self._index(index)
        if not 1 <= k <= MAX_K:
            raise InvalidInput(f"k must be 1 to {MAX_K}, got {k}")
        options = {"k": k, "modality": modality, "where": where}
        if self.answer is None:
            from multimodal.core.pipeline import pipeline

            answer: AskedAnswer = pipeline("answering", index=chosen)(question, **options)
        else:
            answer = self.answer(index or self.default, question, options)
        citations = [
            {
                "number": one.number,
                "quote": one.quote,
                "verified": one.verified,
                "start": one.start,
                "end": one.end,
            }
            | self._hit(one.hit)
            for one in answer.citations
        ]
        data = {"answer": answer.text, "refused": answer.refused, "reason": answer.reason,
                "verified": answer.verified, "model": answer.model, "citations": citations}  # fmt: skip
        cited = {citation.hit.id: citation.hit for citation in answer.citations}.values()
        media = self._thumbnails(list(cited))
        return Answer(data, media, tuple(_link(hit.id, hit.modality, hit.uri) for hit in cited))

    def get_item(self, id: str) -> Answer:
        """All that is stored of an item, and the item itself, small. Raises InvalidInput for an unknown id."""
        row = self._row(id)
        data = {name: value for name, value in row.items() if value is not None} | {
            "resource": resource_uri(id)
        }
        media, note = self._media(row)
        if note:
            data["note"] = note
        return Answer(data, () if media is None else (media,), (_link(id, row["modality"], row["uri"]),))

    def describe_index(self, index: str | None = None) -> Answer:
        """Counts by modality, and the keys and values that `where` can filter by."""
        chosen = self._index(index)
        data: dict[str, Any] = {"name": index or self.default, "indexes": list(self.indexes)}
        data |= {"items": len(chosen), "space": chosen.space.name}
        counts = {str(name): len(chosen.rows(modality=name)) for name in chosen.space.modalities}
        data |= {"items_by_modality": {name: count for name, count in counts.items() if count}}
        return Answer(data | {"queries": list(map(str, chosen.space.modalities))} | facets(chosen))

    def caption_item(self, id: str) -> Answer:
        """A caption of an item. Raises InvalidInput for an unknown id, MediaError for a file that cannot be read."""
        return Answer({"id": id} | self.caption(self._item(id)))

    def transcribe_item(self, id: str) -> Answer:
        """The words spoken in an item. Raises as `caption_item`; UnsupportedModality for what has no sound."""
        row = self._row(id)
        source = self._file(row)
        if source is None or row["modality"] not in (Modality.AUDIO, Modality.VIDEO):
            raise UnsupportedModality(
                f"{row['modality']} given to transcribe, which takes audio and video: search with modality='audio'"
            )
        item = Video(source) if row["modality"] == Modality.VIDEO else Audio(source)
        return Answer({"id": id} | self.transcribe(item))

    def read(self, uri: str) -> Media:
        """The content of a resource: text, a JPEG, or a FLAC. Raises InvalidInput, MediaError."""
        id_ = item_id(uri)
        row = self._row(id_)
        media, note = self._media(row)
        if media is not None:
            return media
        if row["text"] is None:
            raise InvalidInput(note)
        return Media("text/plain", row["text"].encode(), uri)

    def _index(self, name: str | None) -> Index:
        if name is not None and name not in self.indexes:
            raise InvalidInput(f"no index {name!r}; the indexes are {', '.join(self.indexes)}")
        return self.indexes[name or self.default]()

    def _row(self, id_: str) -> dict[str, Any]:
        for opened in self.indexes.values():
            for row in opened().rows(ids=[id_]):
                return row
        raise InvalidInput(f"no item has the id {id_!r:.200}; take an id from the hits of search")

    def _item(self, id_: str) -> Item:
        row = self._row(id_)
        if row["modality"] == Modality.TEXT:
            return Text(row["text"] or "")
        item = _excerpt(row)
        if item is None:
            raise InvalidInput(f"the file of item {id_!r:.200} is not on this machine any more")
        return item

    def _file(self, row: Mapping[str, Any]) -> Path | None:
        path = _path(row["uri"])
        return path if path is not None and path.is_file() else None

    def _hit(self, hit: Hit) -> dict[str, Any]:
        values: dict[str, Any] = {"id": hit.id, "modality": str(hit.document_modality)}
        values |= {"probability": hit.probability, "score": round(hit.score, 4), "metadata": hit.metadata}
        if hit.uri is not None:
            values["uri"] = hit.uri
        if hit.text is not None:
            cut = hit.text if len(hit.text) <= MAX_TEXT else hit.text[: MAX_TEXT - 1] + "…"
            values |= {"text": cut, "text_complete": len(hit.text) <= MAX_TEXT}
        if hit.location:
            values["location"] = hit.location
        if hit.start_s is not None:
            values |= {"start_s": hit.start_s, "end_s": hit.end_s}
        return values | {"resource": resource_uri(hit.id)}

    def _thumbnails(self, hits: Sequence[Hit]) -> tuple[Media, ...]:
        pictures: list[Media] = []
        for hit in hits:
            if len(pictures) == MAX_THUMBNAILS:
                break
            if hit.modality in (Modality.IMAGE, Modality.VIDEO):
                row = {"id": hit.id, "uri": hit.uri, "modality": hit.modality, "start_s": hit.start_s}
                media, _ = self._media(row | {"end_s": hit.end_s}, THUMBNAIL_SIDE)
                pictures += [] if media is None else [media]
        return tuple(pictures)

    def _media(self, row: Mapping[str, Any], side: int = ITEM_SIDE) -> tuple[Media | None, str]:
        """(The picture or sound of a row, if it has any, why there is none)."""
        from multimodal.core.media.registry import has_thumbnail, thumbnail
        from multimodal.core.media.thumbnail import encode_image

        uri = resource_uri(row["id"])
        try:
            item = _excerpt(row)
            if isinstance(item, Audio):
                return Media("audio/flac", _flac(item), uri), ""
            if item is not None and has_thumbnail(item):
                jpeg = encode_image(thumbnail(item, side).convert("RGB"), "JPEG", quality=QUALITY)
                return Media("image/jpeg", jpeg, uri), ""
        except MultimodalError as error:  # the file has changed since it was indexed
            return None, str(error)
        if row["modality"] == Modality.TEXT:
            return None, ""
        return None, "the file of this item is not on this machine any more"


def _path(uri: str | None) -> Path | None:
    """The file that a row names, if it names one."""
    path = media_path(uri)
    return path if path is not None and path.is_absolute() else None


def _excerpt(row: Mapping[str, Any]) -> Item | None:
    """What a row stands for, such as a frame of a video; None for text or a missing file. Raises MediaError."""
    from multimodal.core.media.registry import Excerpt, open_excerpt

    path = _path(row["uri"])
    if path is None or not path.is_file():
        return None
    fragment = row["id"].rpartition("#")[2] if "#" in row["id"] else ""
    return open_excerpt(path, Excerpt(Modality(row["modality"]), row["start_s"], row["end_s"], fragment))


def _flac(audio: Audio) -> bytes:
    import io

    import numpy as np
    import soundfile

    waveform = audio.load(AUDIO_RATE_HZ)
    file = io.BytesIO()
    samples = np.clip(waveform.samples, -1, 1)
    soundfile.write(file, samples, AUDIO_RATE_HZ, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _link(id_: str, modality: str, uri: str | None) -> Link:
    types = {Modality.TEXT: "text/plain", Modality.AUDIO: "audio/flac"}
    return Link(resource_uri(id_), Path(uri or id_).name, types.get(Modality(modality), "image/jpeg"))
