"""Containers that FFmpeg opens, by PyAV: mp4, webm, m4a … `audio` and `video` decode their tracks."""

from __future__ import annotations

from typing import Any, BinaryIO

from multimodal.core.errors import MediaCorrupt, MediaUnsupported, MissingExtra
from multimodal.core.modality import Modality


def import_av(name: str, doing: str = "reading this container (m4a, aac, mp4, webm, wma, …)") -> Any:
    """The module `av`. name, doing: of the file and the action, for the message. Raises MissingExtra without PyAV."""
    try:
        import av
    except ImportError as error:
        raise MissingExtra(f"{name}: {doing}", package="av", extra="av") from error
    return av


def open_av(file: BinaryIO, name: str, decoder: str) -> Any:
    """Opens a container. decoder: "av:<demuxer>", from `sniff.signature`. Raises MediaCorrupt."""
    av = import_av(name)
    file.seek(0)
    try:
        # Naming the demuxer keeps a file from acting as a playlist that makes FFmpeg open other files or URLs.
        # Tags that are not UTF-8 are no reason to refuse a file.
        return av.open(file, format=decoder.removeprefix("av:"), metadata_errors="replace")
    except av.FFmpegError as error:
        raise MediaCorrupt(
            f"{name}: starts like a media container but cannot be opened ({error.strerror}); "
            "copy or download it again"
        ) from error


def video_stream(container: Any) -> Any | None:
    """The first video stream of a container, or None."""
    from av.stream import Disposition

    # The cover of a music file is a video stream too, marked as an attached picture
    return next(
        (stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic),
        None,
    )


def modality_of_container(file: BinaryIO, name: str, decoder: str) -> Modality:
    """VIDEO if the container has a video stream, AUDIO if it has only audio. Raises MediaError, MissingExtra."""
    import_av(name)
    with open_av(file, name, decoder) as container:
        if video_stream(container) is not None:
            return Modality.VIDEO
        if container.streams.audio:
            return Modality.AUDIO
    raise MediaUnsupported(f"{name}: is a media container with neither a video nor an audio track")
