"""Containers that FFmpeg opens, by PyAV: mp4, webm, m4a … What is in them is read by media_audio and media_video."""

from __future__ import annotations

from typing import Any, BinaryIO

from multimodal.core.errors import MediaCorrupt, MediaUnsupported, MissingExtra
from multimodal.core.modality import Modality


def import_av(name: str, doing: str = "reading this container (m4a, aac, mp4, webm, wma, …)") -> Any:
    """The module `av`. Raises MissingExtra if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise MissingExtra(f"{name}: {doing}", package="av", extra="av") from error
    return av


def open_av(file: BinaryIO, name: str, decoder: str) -> Any:
    """The container in a file, whose decoder (as `media.signature` says) is "av:<demuxer>". Raises MediaCorrupt."""
    av = import_av(name)
    file.seek(0)
    try:
        # The demuxer is named, so that no file can pass for a playlist that makes FFmpeg open others or the network.
        return av.open(file, format=decoder.removeprefix("av:"))
    except av.FFmpegError as error:
        raise MediaCorrupt(
            f"{name}: begins like a media container, but cannot be opened ({error.strerror}); "
            "copy or download it again"
        ) from error


def moving_pictures(container: Any) -> Any | None:
    """The first stream that shows moving pictures, or None."""
    from av.stream import Disposition

    # A cover picture in a music file is a video stream too, but attached.
    return next(
        (one for one in container.streams.video if not one.disposition & Disposition.attached_pic), None
    )


def look_inside(file: BinaryIO, name: str, decoder: str) -> Modality:
    """VIDEO if the container shows moving pictures, AUDIO if it only sounds."""
    import_av(name)
    with open_av(file, name, decoder) as container:
        if moving_pictures(container) is not None:
            return Modality.VIDEO
        if container.streams.audio:
            return Modality.AUDIO
    raise MediaUnsupported(f"{name}: is a media container without a picture or a sound in it")
