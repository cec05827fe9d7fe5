"""The items: text, pictures and sounds with an explicit modality, decoded only when asked.

An item holds a source and nothing else; `.load()` turns it into the one canonical form of its modality, anew each
time (nothing is cached, nothing is changed in place), so items are cheap, pickle, and are safe to load in threads.
Nothing heavy is imported here.
"""

from __future__ import annotations

import html
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from multimodal.core.errors import InvalidInput, MediaUnsupported

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray


class Modality(StrEnum):
    """What kind of thing an item is. Compares equal to its name: `Modality.TEXT == "text"`."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


@dataclass(frozen=True, eq=False)
class Waveform:
    """Sound as numbers: `samples` float32 (n,), mono, nominally -1 to 1; `rate_hz` samples per second."""

    samples: NDArray[np.float32]
    rate_hz: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz


@dataclass(frozen=True)
class Text:
    """Words. Equal texts are equal items, so they can be keys of a cache."""

    source: str
    uri: str | None = None
    modality: ClassVar[Modality] = Modality.TEXT

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise InvalidInput(f"Text takes a str, got {type(self.source).__name__}")

    def load(self) -> str:
        """The text as given. Raises InvalidInput if it is empty, only white space, or not valid Unicode."""
        if not self.source.strip():
            raise InvalidInput(f"the text is empty ({self.source!r}); there is nothing to encode")
        try:
            self.source.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidInput(
                f"the text holds a lone surrogate at position {error.start}, which is not valid Unicode; "
                "decode its bytes again with errors='replace'"
            ) from error
        return self.source

    def _repr_html_(self) -> str:
        return f"<blockquote>{html.escape(self.source)}</blockquote>"


class Image:
    """A picture: a path (str or Path), the bytes of a file, a PIL image, or a uint8 array.

    Arrays are (h, w) greyscale, (h, w, 3) RGB or (h, w, 4) RGBA, uint8. `uri` defaults to the path if one is given.
    Raises InvalidInput at once for a source of another type; whether it can be decoded shows on `.load()`.
    """

    modality: ClassVar[Modality] = Modality.IMAGE
    __slots__ = ("source", "uri")

    source: Path | bytes | PIL.Image.Image | NDArray[np.uint8]
    uri: str | None

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | PIL.Image.Image | NDArray[Any],
        *,
        uri: str | None = None,
    ) -> None:
        given: Any = source
        opened = _path_or_bytes(given, "Image")
        if opened is None and not (_is_pil(given) or _is_array(given)):
            raise InvalidInput(
                "Image takes a path, the bytes of a file, a PIL image or a uint8 array (h, w, 3), "
                f"got {_describe_type(given)}"
            )
        self.source = given if opened is None else opened
        self.uri = str(opened) if uri is None and isinstance(opened, Path) else uri

    def load(self, min_side: int | None = None) -> NDArray[np.uint8]:
        """The picture as RGB, uint8 (h, w, 3), upright, transparent parts over white.

        min_side: a JPEG may come at 1/2, 1/4 or 1/8 of its size if its shorter side is then still at least twice this
        many pixels (2.2 times as fast at 1,920 pixels, 3.5 at 4,000); for whoever shrinks it to min_side anyway.
        Other formats, arrays and PIL images come whole.
        Raises MediaError (MediaNotFound, MediaUnsupported, MediaCorrupt, MediaTooLarge) or, for an array of
        another shape or dtype or a min_side below 1, InvalidInput.
        """
        from multimodal.core import media_image

        return media_image.decode_image(self.source, min_side)

    def __repr__(self) -> str:
        return f"Image({_describe_source(self.source, self.uri)})"

    def _repr_png_(self) -> bytes:
        from multimodal.core import media_image

        return media_image.thumbnail_png(self.load())


class Audio:
    """A sound: a path (str or Path), the bytes of a file, or {"array": samples, "sampling_rate": Hz}.

    The array is float (nominally -1 to 1) or uint8/int16/int32 PCM, (n,) or with channels as the shorter axis.
    `uri` defaults to the path if one is given. Raises InvalidInput at once for a source of another type.
    """

    modality: ClassVar[Modality] = Modality.AUDIO
    __slots__ = ("source", "uri")

    source: Path | bytes | Mapping[str, Any]
    uri: str | None

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | Mapping[str, Any],
        *,
        uri: str | None = None,
    ) -> None:
        given: Any = source
        opened = _path_or_bytes(given, "Audio")
        if opened is None and not _is_sound_mapping(given):
            raise InvalidInput(
                "Audio takes a path, the bytes of a file, or {'array': samples, 'sampling_rate': Hz}, "
                f"got {_describe_type(given)}"
            )
        self.source = given if opened is None else opened
        self.uri = str(opened) if uri is None and isinstance(opened, Path) else uri

    def load(self, rate_hz: int | None = None) -> Waveform:
        """The sound as mono float32, at `rate_hz` samples per second (default: the rate it has).

        Raises MediaError (MediaNotFound, MediaUnsupported, MediaCorrupt, MediaTooLarge), InvalidInput for an
        array that is empty, not finite or of another shape, MissingExtra if the format needs PyAV.
        """
        from multimodal.core import media_audio

        waveform = media_audio.decode_audio(self.source)
        return waveform if rate_hz is None else media_audio.resample(waveform, rate_hz)

    def __repr__(self) -> str:
        return f"Audio({_describe_source(self.source, self.uri)})"

    def _repr_html_(self) -> str:
        from multimodal.core import media_audio

        return media_audio.player_html(self.load())


Item = Text | Image | Audio


def as_item(value: object) -> Item:
    """Makes an item of a plain value, by its type.

    A str is always text, never a path. A pathlib.Path is media, sniffed by content. A PIL image or a uint8 array
    (h, w, 3) is a picture; {"array", "sampling_rate"} is a sound; an item passes through.
    Raises InvalidInput for anything else, MediaError for a Path that is not a picture or a sound.
    """
    if isinstance(value, Text | Image | Audio):
        return value
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, Path):
        return _item_from_path(value)
    if _is_pil(value):
        return Image(value)  # type: ignore[arg-type]
    if _is_sound_mapping(value):
        return Audio(value)  # type: ignore[arg-type]
    if _is_array(value):
        return _item_from_array(value)
    raise InvalidInput(
        f"cannot tell whether {_describe_type(value)} is text, a picture or a sound: pass a str (text), a "
        "pathlib.Path, a PIL image, {'array': ..., 'sampling_rate': ...}, or say it with Text(), Image() or Audio()"
    )


def _item_from_path(path: Path) -> Item:
    from multimodal.core import media

    found = media.sniff(path)
    if found is Modality.IMAGE:
        return Image(path)
    if found is Modality.AUDIO:
        return Audio(path)
    raise MediaUnsupported(
        f"{path}: is {found}, which cannot be encoded yet; for its sound track pass Audio({str(path)!r})"
    )


def _item_from_array(array: Any) -> Item:
    if array.dtype == "uint8" and array.ndim == 3 and array.shape[2] == 3:
        return Image(array)
    raise InvalidInput(
        f"an array of {array.dtype} with shape {array.shape} is neither a picture (uint8, (h, w, 3)) nor a sound "
        "({'array': samples, 'sampling_rate': Hz})"
    )


def _path_or_bytes(source: object, what: str) -> Path | bytes | None:
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if not isinstance(path, str) or not path or "\0" in path:
            raise InvalidInput(f"{what} got {path!r}, which cannot be a path")
        return Path(path)
    return bytes(source) if isinstance(source, bytes | bytearray) else None


def _is_pil(value: object) -> bool:
    import PIL.Image

    return isinstance(value, PIL.Image.Image)


def _is_array(value: object) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray)


def _is_sound_mapping(value: object) -> bool:
    return isinstance(value, Mapping) and "array" in value and "sampling_rate" in value


def _describe_type(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a mapping with keys {sorted(map(str, value))}"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"


def _describe_source(source: object, uri: str | None) -> str:
    if isinstance(source, Path):
        shown = repr(str(source))
    elif isinstance(source, bytes):
        shown = f"{len(source):,} bytes"
    elif isinstance(source, Mapping):
        shown = f"{len(source['array']):,} samples at {source['sampling_rate']} Hz"
    elif _is_array(source):
        shown = f"array {source.shape}"  # type: ignore[attr-defined]
    else:
        shown = f"PIL {source.mode} {source.size}"  # type: ignore[attr-defined]
    return shown if uri is None or isinstance(source, Path) else f"{shown}, uri={uri!r}"
