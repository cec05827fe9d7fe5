"""The table of media types: how a kind of file is recognised, opened, measured, split and shown.

Four types are built in: text, image, audio and video. `register_media_type` adds others, such as a page of a document
that is rendered to an image. A type has an item class, and that class a modality: the encoders of that modality encode
its items. The index, the views and the CLI look types up here instead of testing the class of an item.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.media import pdf, sniff
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import PIL.Image
    from typing_extensions import TypeIs

THUMBNAIL_SIDE = 128  # pixels, in HTML
PLAYER_SECONDS = 15.0  # of audio in HTML, so that a page with ten players stays small
VIDEO_NBYTES = 64 << 20  # decoded, without opening the file: eight frames of 1080p are 50 MB


class Excerpt(NamedTuple):
    """The part of a file that a hit stands for.

    Attributes:
        modality: of the vector that was found; a frame of a video is an image.
        start_s, end_s: in seconds, for a part of audio or video.
        fragment: what follows "#" in the id of the part, such as "page=3"; "" for a whole file.
    """

    modality: Modality
    start_s: float | None = None
    end_s: float | None = None
    fragment: str = ""


class ItemChunk(NamedTuple):
    """One of several parts that a file is indexed as, such as a page of a document.

    Attributes:
        item: what an encoder takes, of any modality.
        fragment: names the part within its file, such as "page=3"; unique within the file.
        text: the words of the part, for full-text search; by default those of a text.
    """

    item: Item
    fragment: str
    text: str | None = None


@dataclasses.dataclass(frozen=True)
class MediaType:
    """One kind of media.

    Attributes:
        name: unique, such as "image" or "page".
        item_class: called with a path or the bytes of a file, and `uri=`; a subclass of Text, Image, Audio or Video.
        matches: whether the first bytes (`sniff.HEAD_BYTES`) of a file are of this type. None for the built-in types,
            which `sniff.sniff` tells apart.
        content: item -> the bytes that are hashed to recognise unchanged content. Only for items not read from a file.
        decoded_nbytes: item -> about how many bytes it takes when it is decoded for an encoder.
        chunks: item -> the parts it is indexed as. None for one part, or for how the index splits the built-in types.
        excerpt: item, excerpt -> the item that shows this part of it.
        thumbnail: item, side -> a PIL image with at most `side` pixels on its longer edge. None for what is not
            visible.
        to_html: item -> HTML that shows or plays it, with all data inside.
    """

    name: str
    item_class: type[Any]
    matches: Callable[[bytes], bool] | None
    content: Callable[[Any], Iterable[bytes]]
    decoded_nbytes: Callable[[Any], int]
    chunks: Callable[[Any], Iterable[ItemChunk]] | None
    excerpt: Callable[[Any, Excerpt], Item]
    thumbnail: Callable[[Any, int], PIL.Image.Image] | None
    to_html: Callable[[Any], str]

    @property
    def modality(self) -> Modality:
        """The modality whose encoders take items of this type."""
        modality: Modality = self.item_class.modality
        return modality


def register_media_type(
    name: str,
    item_class: type[Any],
    *,
    matches: Callable[[bytes], bool],
    content: Callable[[Any], Iterable[bytes]] | None = None,
    decoded_nbytes: Callable[[Any], int] | None = None,
    chunks: Callable[[Any], Iterable[ItemChunk]] | None = None,
    excerpt: Callable[[Any, Excerpt], Item] | None = None,
    thumbnail: Callable[[Any, int], PIL.Image.Image] | None = None,
    to_html: Callable[[Any], str] | None = None,
) -> MediaType:
    """Adds a media type. Files it matches are then indexed, encoded and shown as its items.

    Args:
        name: unique among all types.
        item_class: a subclass of Text, Image, Audio or Video whose `load` returns what that class returns.
        matches: whether the first 512 bytes of a file are of this type. Asked before the built-in types; the last type
            registered is asked first.
        content: the bytes that are hashed, see `MediaType`. Like the rest, by default as for the built-in type of the
            same modality, from what `item.load()` returns.
        decoded_nbytes: the size when decoded.
        chunks: the parts an item is indexed as.
        excerpt: the item for one part.
        thumbnail: a small image.
        to_html: HTML that shows or plays an item.

    Returns:
        The registered type.

    Raises:
        InvalidInput: the name is taken, or `item_class` is not such a subclass.
    """
    if not issubclass(item_class, Text | Image | Audio | Video) or item_class in _built_in_classes():
        raise InvalidInput(
            f"the item class of media type {name!r} must be a subclass of Text, Image, Audio or Video, "
            f"got {item_class!r}"
        )
    if name in _TYPES or any(item_class is media_type.item_class for media_type in _TYPES.values()):
        raise InvalidInput(
            f"a media type {name!r} or one with the item class {item_class.__name__} is registered already; choose "
            f"another name, or call unregister_media_type({name!r}) first"
        )
    given = {
        "content": content, "decoded_nbytes": decoded_nbytes or _no_bytes, "chunks": chunks, "excerpt": excerpt,
        "thumbnail": thumbnail, "to_html": to_html,
    }  # fmt: skip
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    media_type = dataclasses.replace(
        _TYPES[item_class.modality], name=name, item_class=item_class, matches=matches, **changes
    )
    _TYPES[name] = media_type
    return media_type


def unregister_media_type(name: str) -> None:
    """Removes a registered media type.

    Args:
        name: The name it was registered under.

    Raises:
        InvalidInput: No such type is registered.
    """
    if name not in _TYPES or _TYPES[name].matches is None:
        raise InvalidInput(f"{name!r} is not a registered media type; registered: {_registered_names()}")
    del _TYPES[name]


def media_types() -> tuple[MediaType, ...]:
    """All types, the built-in ones first."""
    return tuple(_TYPES.values())


def is_item(value: object) -> TypeIs[Item]:
    """Whether a value is an item, of a built-in or a registered type."""
    return isinstance(value, Text | Image | Audio | Video)


def type_of(item: Item) -> MediaType:
    """The media type of an item."""
    by_class = {media_type.item_class: media_type for media_type in _TYPES.values()}
    return next(by_class[parent] for parent in type(item).__mro__ if parent in by_class)


def identify(source: sniff.Source) -> MediaType:
    """The media type of a file, or of its bytes, by its content.

    Raises:
        MediaError: it cannot be read or is of no known type (see `sniff.sniff`).
        MissingExtra: only looking inside tells, and that needs PyAV.
    """
    return _registered_type(source) or _TYPES[sniff.sniff(source)]


def open_item(source: sniff.Source, *, uri: str | None = None) -> Item:
    """The item in a file, or in its bytes, by its content. Raises as `identify` does."""
    item: Item = identify(source).item_class(source, uri=uri)
    return item


def is_registered(source: sniff.Source) -> bool:
    """Whether a file, or its bytes, is of a type that `register_media_type` added. Raises MediaError."""
    return _registered_type(source) is not None


def open_as(path: Path, modality: Modality) -> Item:
    """The item of a file that is said to be of a modality. A built-in type is not identified before it is loaded."""
    media_type = _registered_type(path)
    if media_type is None or media_type.modality is not modality:
        media_type = _TYPES[modality]
    item: Item = media_type.item_class(path)
    return item


def open_excerpt(path: Path, excerpt: Excerpt) -> Item | None:
    """The item that shows what a hit in a file stands for, such as a frame of a video or seconds of audio.

    The modality of the excerpt is trusted, so that built-in types are not identified again.

    Returns:
        None for text, which a hit holds itself, unless a registered type shows it.

    Raises:
        MediaError: the file has changed since it was indexed.
        MissingExtra: a frame of a video needs PyAV.
    """
    media_type = _registered_type(path)
    if media_type is None:
        if excerpt.modality is Modality.TEXT:
            return None
        page = pdf.page_number(excerpt.fragment) if excerpt.modality is Modality.IMAGE else None
        if page is not None and pdf.is_pdf(path):
            return Image(pdf.render_page(path, page), uri=str(path))
        is_frame = excerpt.modality is Modality.IMAGE and excerpt.start_s is not None
        media_type = _TYPES[Modality.VIDEO if is_frame else excerpt.modality]
    return media_type.excerpt(media_type.item_class(path), excerpt)


def thumbnail(item: Item, side: int) -> PIL.Image.Image:
    """A small image of an item, the middle frame of a video.

    Args:
        item: an item whose type has thumbnails.
        side: the most pixels on its longer edge.

    Raises:
        InvalidInput: its type has none.
        MediaError, MissingExtra: it cannot be decoded.
    """
    media_type = type_of(item)
    if media_type.thumbnail is None:
        raise InvalidInput(f"{media_type.name} has no thumbnail; give an image or a video")
    return media_type.thumbnail(item, side)


def has_thumbnail(item: Item) -> bool:
    """Whether the type of an item has thumbnails."""
    return type_of(item).thumbnail is not None


def to_html(item: Item) -> str:
    """HTML that shows or plays an item, with all data inside. Raises MediaError if it cannot be decoded."""
    return type_of(item).to_html(item)


def _built_in_classes() -> set[type]:
    return {media_type.item_class for media_type in _TYPES.values() if media_type.matches is None}


def _registered_names() -> list[str]:
    return [media_type.name for media_type in _TYPES.values() if media_type.matches is not None]


def _registered_type(source: sniff.Source) -> MediaType | None:
    registered = [media_type for media_type in reversed(_TYPES.values()) if media_type.matches is not None]
    if not registered:  # do not open the file a second time for nothing
        return None
    with sniff.open_source(source) as (file, _):
        head = file.read(sniff.HEAD_BYTES)
    matching = (known for known in registered if known.matches is not None and known.matches(head))
    return next(matching, None)


# --- the built-in types -----------------------------------------------------------------------------


def _no_bytes(item: Item) -> int:
    return 0


def _whole(item: Item, excerpt: Excerpt) -> Item:
    return item


def _text_content(item: Text) -> Iterator[bytes]:
    yield item.load().encode()


def _text_html(item: Text) -> str:
    return item._repr_html_()


def _image_content(item: Image) -> Iterator[bytes]:
    if isinstance(item.source, bytes):
        yield item.source
        return
    pixels = item.load()
    yield repr(pixels.shape).encode()
    yield pixels.tobytes()


def _image_decoded_nbytes(item: Image) -> int:
    from multimodal.core.media.image import pixel_count

    return 3 * pixel_count(item.source)


def _image_thumbnail(item: Image, side: int) -> PIL.Image.Image:
    from multimodal.core.media.thumbnail import shrink

    return shrink(item.load(), side)


def _image_html(item: Image) -> str:
    from multimodal.core.media.thumbnail import data_uri, encode_image

    name = html.escape(Path(item.uri).name if item.uri else "image")
    small = encode_image(thumbnail(item, THUMBNAIL_SIDE), "PNG")
    return f'<img alt="{name}" src="{data_uri("image/png", small)}">'


def _audio_content(item: Audio) -> Iterator[bytes]:
    if isinstance(item.source, bytes):
        yield item.source
        return
    waveform = item.load()
    yield repr(waveform.rate_hz).encode()
    yield waveform.samples.tobytes()


def _audio_excerpt(item: Audio, excerpt: Excerpt) -> Audio:
    """PLAYER_SECONDS of it, from the start of the excerpt."""
    from multimodal.core.media.audio import read_seconds

    waveform = read_seconds(item.stream(), excerpt.start_s or 0.0, PLAYER_SECONDS)
    return Audio({"array": waveform.samples, "sampling_rate": waveform.rate_hz}, uri=item.uri)


def _audio_html(item: Audio) -> str:
    return item._repr_html_()


def _video_content(item: Video) -> Iterator[bytes]:
    if isinstance(item.source, bytes):
        yield item.source
        return
    clip = item.load()
    yield repr((clip.frames.shape, item.fps)).encode()
    yield clip.frames.tobytes()


def _video_decoded_nbytes(item: Video) -> int:
    return VIDEO_NBYTES


def _video_excerpt(item: Video, excerpt: Excerpt) -> Item:
    """A frame of it, or all of it."""
    from multimodal.core.media.video import frame_of

    is_frame = excerpt.modality is Modality.IMAGE and excerpt.start_s is not None
    if not is_frame or not isinstance(item.source, Path | bytes):
        return item
    start_s = excerpt.start_s or 0.0
    end_s = start_s if excerpt.end_s is None else excerpt.end_s
    return Image(frame_of(item.source, (start_s + end_s) / 2), uri=item.uri)


def _video_thumbnail(item: Video, side: int) -> PIL.Image.Image:
    from multimodal.core.media.thumbnail import shrink

    return shrink(item.load(n_frames=1).frames[0], side)


def _video_html(item: Video) -> str:
    return item._repr_html_()


_TYPES: dict[str, MediaType] = {
    media_type.name: media_type
    for media_type in (
        MediaType("text", Text, None, _text_content, _no_bytes, None, _whole, None, _text_html),
        MediaType(
            "image", Image, None, _image_content, _image_decoded_nbytes, None, _whole, _image_thumbnail, _image_html
        ),
        MediaType("audio", Audio, None, _audio_content, _no_bytes, None, _audio_excerpt, None, _audio_html),
        MediaType(
            "video", Video, None, _video_content, _video_decoded_nbytes, None, _video_excerpt, _video_thumbnail,
            _video_html,
        ),
    )
}  # fmt: skip
