"""Items: text, images, audio and video with an explicit modality, decoded on demand.

An item holds a source and nothing else. `.load()` decodes it into the canonical form of its modality, again at every
call (nothing is cached or changed in place), so items are cheap, pickle, and may be loaded in threads. Every item has
`source`, `uri`, `modality` and `nbytes`. Nothing heavy is imported here.
"""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from multimodal.core.errors import InvalidInput
from multimodal.core.media import inputs, path_like
from multimodal.core.modality import Frames, Modality, Waveform

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    import torch
    from numpy.typing import NDArray

NOTEBOOK_SIDE = 512  # pixels, of an image in a notebook


@dataclass(frozen=True)
class Text:
    """Text. Equal texts are equal items, so they can be keys of a cache.

    Args:
        source: the text itself, never a path.
        uri: where it comes from, for display.

    Raises:
        InvalidInput: `source` is not a str.
    """

    source: str
    uri: str | None = None
    modality: ClassVar[Modality] = Modality.TEXT

    def __post_init__(self) -> None:
        if not isinstance(self.source, str):
            raise InvalidInput(f"Text takes a str, got {type(self.source).__name__}")

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory the item holds."""
        return inputs.source_nbytes(self.source)

    def load(self) -> str:
        """The text as given.

        Returns:
            The text.

        Raises:
            InvalidInput: it is empty, only white space, or not valid Unicode.
        """
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
    """An image.

    Args:
        source: a path (str or Path), the bytes of a file, a PIL image, or an array: (h, w) greyscale, (h, w, 3) RGB or
            (h, w, 4) RGBA, of uint8, or of floats in 0 to 1. A torch tensor may have its channels first.
        uri: where it comes from, for display; by default the path.

    Raises:
        InvalidInput: `source` is of another type. Whether it can be decoded shows when it is loaded.
    """

    modality: ClassVar[Modality] = Modality.IMAGE
    __slots__ = ("source", "uri")

    source: Path | bytes | PIL.Image.Image | NDArray[Any]
    uri: str | None

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | PIL.Image.Image | NDArray[Any] | torch.Tensor,
        *,
        uri: str | None = None,
    ) -> None:
        given: Any = inputs.image_array(source)
        opened = inputs.path_or_bytes(given, "Image")
        if opened is None and not (inputs.is_pil(given) or inputs.is_array(given)):
            raise InvalidInput(
                "Image takes a path, the bytes of a file, a PIL image or an array (h, w, 3) of uint8 or of floats in "
                "0 to 1, "
                f"got {inputs.describe_type(given)}"
            )
        self.source = given if opened is None else opened
        self.uri = str(opened) if uri is None and isinstance(opened, Path) else uri

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the source holds; 0 for a file."""
        return inputs.source_nbytes(self.source)

    def load(self, min_side: int | None = None) -> NDArray[np.uint8]:
        """Decodes the image: upright, transparent parts over white.

        Args:
            min_side: the size in pixels that the image will be shrunk to. A JPEG may then be decoded at 1/2, 1/4 or
                1/8 of its size, as long as its shorter side keeps at least twice as many pixels (2.2 times as fast at
                1,920 pixels, 3.5 at 4,000). Other formats, arrays and PIL images keep their size.

        Returns:
            RGB, uint8 (h, w, 3).

        Raises:
            MediaError: MediaNotFound, MediaUnsupported, MediaCorrupt or MediaTooLarge.
            InvalidInput: an array of another shape or dtype, floats beyond 0 to 1, or a min_side below 1.
        """
        from multimodal.core.media import image

        return image.decode_image(self.source, min_side)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({inputs.describe_source(self.source, self.uri)})"

    def _repr_png_(self) -> bytes:
        from multimodal.core.media import thumbnail

        return thumbnail.encode_image(thumbnail.shrink(self.load(), NOTEBOOK_SIDE), "PNG")


class Audio:
    """Audio.

    Args:
        source: a path (str or Path), the bytes of a file, {"array": samples, "sampling_rate": Hz}, or a tuple of
            samples and rate in either order. The samples are an array or a torch tensor, float (nominally -1 to 1) or
            uint8, int16 or int32 PCM, (n,) or with channels as the shorter axis.
        uri: where it comes from, for display; by default the path.

    Raises:
        InvalidInput: `source` is of another type. Whether it can be decoded shows when it is loaded.
    """

    modality: ClassVar[Modality] = Modality.AUDIO
    __slots__ = ("source", "uri")

    source: Path | bytes | Mapping[str, Any]
    uri: str | None

    def __init__(
        self,
        source: str | os.PathLike[str] | bytes | bytearray | Mapping[str, Any] | tuple[Any, Any],
        *,
        uri: str | None = None,
    ) -> None:
        given: Any = inputs.samples_and_rate(source) or source
        opened = inputs.path_or_bytes(given, "Audio")
        if opened is None and not inputs.is_audio_mapping(given):
            raise InvalidInput(
                "Audio takes a path, the bytes of a file, {'array': samples, 'sampling_rate': Hz} or (samples, Hz), "
                f"got {inputs.describe_type(given)}"
            )
        self.source = given if opened is None else opened
        self.uri = str(opened) if uri is None and isinstance(opened, Path) else uri

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the source holds; 0 for a file."""
        return inputs.source_nbytes(self.source)

    def load(self, rate_hz: int | None = None) -> Waveform:
        """Decodes the audio.

        Args:
            rate_hz: samples per second to resample to; by default the rate of the source.

        Returns:
            Mono float32 samples (n,) and their rate.

        Raises:
            MediaError: MediaNotFound, MediaUnsupported, MediaCorrupt or MediaTooLarge.
            InvalidInput: an array that is empty, not finite or of another shape, or a rate below 1.
            MissingExtra: the format needs PyAV.
        """
        from multimodal.core.media import audio

        waveform = audio.decode_audio(self.source)
        return waveform if rate_hz is None else audio.resample(waveform, rate_hz)

    def stream(self) -> Iterator[Waveform]:
        """Yields the audio in blocks of some seconds, so that a long file need not fit in memory.

        Yields:
            Waveforms of consecutive blocks, at least one.

        Raises:
            MediaError: As for `load`, when decoding reaches the damaged part.
            InvalidInput: As for `load`.
        """
        from multimodal.core.media import audio

        if isinstance(self.source, Path | bytes) and type(self).load is Audio.load:
            yield from audio.stream_audio(self.source)
        else:  # in memory, or decoded by a subclass
            yield self.load()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({inputs.describe_source(self.source, self.uri)})"

    def _repr_html_(self) -> str:
        from multimodal.core.media import audio

        return audio.player_html(self.load())


class Video:
    """A video.

    Args:
        source: a path (str or Path), the bytes of a file, a uint8 RGB array (t, h, w, 3), or a list of PIL images. A
            torch tensor may be (t, 3, h, w).
        fps: frames per second of an array or a list; a file states its own.
        uri: where it comes from, for display; by default the path.

    Raises:
        InvalidInput: `source` is of another type, or `fps` is missing, not above 0, or given with a file. Whether it
            can be decoded shows when it is loaded.
    """

    modality: ClassVar[Modality] = Modality.VIDEO
    __slots__ = ("fps", "source", "uri")

    source: Path | bytes | NDArray[np.uint8] | Sequence[PIL.Image.Image]
    fps: float | None
    uri: str | None

    def __init__(
        self,
        source: (
            str
            | os.PathLike[str]
            | bytes
            | bytearray
            | NDArray[Any]
            | Sequence[PIL.Image.Image]
            | torch.Tensor
        ),
        *,
        fps: float | None = None,
        uri: str | None = None,
    ) -> None:
        given: Any = inputs.video_array(source)
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

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the source holds; 0 for a file."""
        return inputs.source_nbytes(self.source)

    def load(
        self, n_frames: int | None = None, fps: float | None = None, max_frames: int | None = None
    ) -> Frames:
        """Decodes frames, upright, with their times: by default every frame.

        Args:
            n_frames: the number of frames. The clip is divided into n equal parts, and each part gives the frame shown
                in its middle; a clip with fewer frames repeats some.
            fps: frames per second, spaced in the same way.
            max_frames: the most frames. If there would be more, this many are spaced evenly instead.

        Returns:
            RGB frames, uint8 (t, h, w, 3), their times and the length of the clip.

        Raises:
            InvalidInput: a number below 1, n_frames and fps together, or an array of another shape or dtype.
            MediaError: MediaNotFound, MediaUnsupported, MediaCorrupt or MediaTooLarge.
            MissingExtra: PyAV is not installed.
        """
        from multimodal.core.media import video

        return video.decode_video(self.source, self.fps, video.check_sampling(n_frames, fps, max_frames))

    def sample(self, every_s: float) -> Iterator[tuple[NDArray[np.uint8], float, float]]:
        """Yields one frame of each of equal parts, about `every_s` seconds long. Raises as `load` does.

        Args:
            every_s: Approximate length of a part in seconds.

        Yields:
            RGB (h, w, 3), and the start and end of the part in seconds. Of a file, one frame is in memory at a time.
        """
        from multimodal.core.media import video

        if isinstance(self.source, Path | bytes) and type(self).load is Video.load:
            yield from video.sample_video(self.source, every_s)
            return
        clip = self.load(fps=1 / every_s)
        part_s = clip.seconds / len(clip)
        for position, pixels in enumerate(clip.frames):
            yield pixels, position * part_s, (position + 1) * part_s

    def audio(self) -> Audio | None:
        """Returns the audio track.

        Returns:
            The audio track, or None for a video without one.

        Raises:
            MediaError: As for `load`, for a file that is not a video.
        """
        from multimodal.core.media import video

        if not isinstance(self.source, Path | bytes) or not video.has_audio(self.source):
            return None
        return Audio(self.source, uri=self.uri)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({inputs.describe_source(self.source, self.uri)})"

    def _repr_html_(self) -> str:
        from multimodal.core.media import video

        return video.strip_html(self.load(video.STRIP_FRAMES))


Item = Text | Image | Audio | Video


def as_item(value: object) -> Item:
    """Makes an item of a plain value.

    Args:
        value: a str is always text, never a path. A pathlib.Path is media, identified by its content. A PIL image or an
            array (h, w, 3) of uint8 or of floats in 0 to 1 is an image, and so is a torch tensor (3, h, w).
            {"array": samples, "sampling_rate": Hz} and the tuple (samples, Hz) are audio. An item is returned as it is.

    Returns:
        `Text`, `Image`, `Audio`, `Video`, or an item of a registered media type.

    Raises:
        InvalidInput: any other value.
        MediaError: a Path that is not an image, audio, a video or of a registered media type.

    Warns:
        PathLikeTextWarning: a str looks like the path of a file. `Text(…)` takes it as text without a warning.
    """
    if isinstance(value, str):
        path_like.warn_path_like([value])
    return to_item(value)


def as_items(values: Iterable[object]) -> list[Item]:
    """Makes items of plain values, see `as_item`. Of strings that look like paths, the first is named in a warning."""
    listed = list(values)
    path_like.warn_path_like(value for value in listed if isinstance(value, str))
    return [_numbered(position, value) for position, value in enumerate(listed)]


def to_item(value: object) -> Item:
    """`as_item` without its warning."""
    if isinstance(value, Text | Image | Audio | Video):
        return value
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, Path):
        from multimodal.core.media import registry

        return registry.open_item(value)
    if inputs.is_pil(value):
        return Image(value)  # type: ignore[arg-type]
    if inputs.is_audio_mapping(value) or inputs.samples_and_rate(value) is not None:
        return Audio(value)  # type: ignore[arg-type]
    if inputs.is_tensor(value) or inputs.is_array(value):
        return _item_from_array(inputs.image_array(value))
    raise InvalidInput(
        f"cannot tell whether {inputs.describe_type(value)} is text, image, audio or video: pass a str (text), a "
        "pathlib.Path, a PIL image or {'array': ..., 'sampling_rate': ...}, or make it explicit with Text(), Image(), "
        "Audio() or Video()"
    )


def _numbered(position: int, value: object) -> Item:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise InvalidInput(f"item {position} is missing ({value!r}); leave it out")
    return to_item(value)


def _item_from_array(array: Any) -> Item:
    if array.dtype.kind in "fu" and array.ndim == 3 and array.shape[2] == 3:
        return Image(array)
    raise InvalidInput(
        f"an array of {array.dtype} with shape {array.shape} is neither an image (uint8 or floats in 0 to 1, "
        "(h, w, 3)) nor audio ({'array': samples, 'sampling_rate': Hz}); a video is Video(array, fps=...)"
    )
