"""The items: text, pictures, sounds and videos with an explicit modality, decoded only when asked.

An item holds a source and nothing else; `.load()` turns it into the one canonical form of its modality, anew each
time (nothing is cached, nothing is changed in place), so items are cheap, pickle, and are safe to load in threads.
Nothing heavy is imported here.
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from multimodal.core.errors import InvalidInput
from multimodal.core.media import inputs
from multimodal.core.modality import Frames, Modality, Waveform

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray


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
        opened = inputs.path_or_bytes(given, "Image")
        if opened is None and not (inputs.is_pil(given) or inputs.is_array(given)):
            raise InvalidInput(
                "Image takes a path, the bytes of a file, a PIL image or a uint8 array (h, w, 3), "
                f"got {inputs.describe_type(given)}"
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
        from multimodal.core.media import image

        return image.decode_image(self.source, min_side)

    def __repr__(self) -> str:
        return f"Image({inputs.describe_source(self.source, self.uri)})"

    def _repr_png_(self) -> bytes:
        from multimodal.core.media import image

        return image.thumbnail_png(self.load())


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
        opened = inputs.path_or_bytes(given, "Audio")
        if opened is None and not inputs.is_sound_mapping(given):
            raise InvalidInput(
                "Audio takes a path, the bytes of a file, or {'array': samples, 'sampling_rate': Hz}, "
                f"got {inputs.describe_type(given)}"
            )
        self.source = given if opened is None else opened
        self.uri = str(opened) if uri is None and isinstance(opened, Path) else uri

    def load(self, rate_hz: int | None = None) -> Waveform:
        """The sound as mono float32, at `rate_hz` samples per second (default: the rate it has).

        Raises MediaError (MediaNotFound, MediaUnsupported, MediaCorrupt, MediaTooLarge), InvalidInput for an
        array that is empty, not finite or of another shape, MissingExtra if the format needs PyAV.
        """
        from multimodal.core.media import audio

        waveform = audio.decode_audio(self.source)
        return waveform if rate_hz is None else audio.resample(waveform, rate_hz)

    def __repr__(self) -> str:
        return f"Audio({inputs.describe_source(self.source, self.uri)})"

    def _repr_html_(self) -> str:
        from multimodal.core.media import audio

        return audio.player_html(self.load())


class Video:
    """Moving pictures: a path (str or Path), the bytes of a file, a uint8 RGB array (t, h, w, 3), or PIL images.

    fps: frames a second, of an array or a list, which cannot tell it; a file tells its own.
    `uri` defaults to the path if one is given. Raises InvalidInput at once for a source of another type, or an fps that
    is missing, not above 0, or given with a file.
    """

    modality: ClassVar[Modality] = Modality.VIDEO
    __slots__ = ("fps", "source", "uri")

    source: Path | bytes | NDArray[np.uint8] | Sequence[PIL.Image.Image]
    fps: float | None
    uri: str | None

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | NDArray[Any] | Sequence[PIL.Image.Image],
        *,
        fps: float | None = None,
        uri: str | None = None,
    ) -> None:
        given: Any = source
        opened = inputs.path_or_bytes(given, "Video")
        if opened is None and not (inputs.is_array(given) or inputs.is_pil_list(given)):
            raise InvalidInput(
                "Video takes a path, the bytes of a file, a uint8 array (t, h, w, 3) or a list of PIL images, "
                f"got {inputs.describe_type(given)}"
            )
        inputs.check_fps(fps, is_file=opened is not None)
        self.source = given if opened is None else opened
        self.fps = fps
        self.uri = str(opened) if uri is None and isinstance(opened, Path) else uri

    def load(
        self, n_frames: int | None = None, fps: float | None = None, max_frames: int | None = None
    ) -> Frames:
        """Frames as RGB, upright, with their times: every one, or

        n_frames: so many, each the one on screen in the middle of one of n equal parts of the whole clip; a clip that
        has fewer shows some of them twice. fps: so many a second, spaced in the same way. max_frames: where there
        would be more, so many instead.
        Raises InvalidInput for a number below 1, n_frames and fps together, or an array of another shape or dtype;
        MediaError (MediaNotFound, MediaUnsupported, MediaCorrupt, MediaTooLarge); MissingExtra without PyAV.
        """
        from multimodal.core.media import video

        return video.decode_video(self.source, self.fps, video.wanted(n_frames, fps, max_frames))

    def audio(self) -> Audio | None:
        """Its sound track, or None if it has none. Raises what `load` raises for a file that is no video."""
        from multimodal.core.media import video

        if not isinstance(self.source, Path | bytes) or not video.has_sound(self.source):
            return None
        return Audio(self.source, uri=self.uri)

    def __repr__(self) -> str:
        return f"Video({inputs.describe_source(self.source, self.uri)})"

    def _repr_html_(self) -> str:
        from multimodal.core.media import video

        return video.strip_html(self.load(video.STRIP_FRAMES))


Item = Text | Image | Audio | Video


def as_item(value: object) -> Item:
    """Makes an item of a plain value, by its type.

    A str is always text, never a path. A pathlib.Path is media, sniffed by content. A PIL image or a uint8 array
    (h, w, 3) is a picture; {"array", "sampling_rate"} is a sound; an item passes through.
    Raises InvalidInput for anything else, MediaError for a Path that is not a picture, a sound or a video.
    """
    if isinstance(value, Text | Image | Audio | Video):
        return value
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, Path):
        return _item_from_path(value)
    if inputs.is_pil(value):
        return Image(value)  # type: ignore[arg-type]
    if inputs.is_sound_mapping(value):
        return Audio(value)  # type: ignore[arg-type]
    if inputs.is_array(value):
        return _item_from_array(value)
    raise InvalidInput(
        f"cannot tell whether {inputs.describe_type(value)} is text, a picture, a sound or a video: pass a "
        "str (text), a pathlib.Path, a PIL image, {'array': ..., 'sampling_rate': ...}, or say it with Text(), "
        "Image(), Audio() or Video()"
    )


def _item_from_path(path: Path) -> Item:
    from multimodal.core.media import sniff

    kinds: dict[Modality, Callable[[Path], Item]]
    kinds = {Modality.IMAGE: Image, Modality.AUDIO: Audio, Modality.VIDEO: Video}
    return kinds[sniff.sniff(path)](path)


def _item_from_array(array: Any) -> Item:
    if array.dtype == "uint8" and array.ndim == 3 and array.shape[2] == 3:
        return Image(array)
    raise InvalidInput(
        f"an array of {array.dtype} with shape {array.shape} is neither a picture (uint8, (h, w, 3)) nor a sound "
        "({'array': samples, 'sampling_rate': Hz}); a video is Video(array, fps=...)"
    )
