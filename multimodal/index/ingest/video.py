"""What a space encodes of a video: all of it are rows of one document, which any of them finds.

A space with a video encoder takes the whole video; otherwise one frame every FRAME_S seconds is encoded as an
image. The audio track is split into windows, and subtitles are read from a file beside the video (talk.mp4, talk.srt).
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from multimodal.core.errors import MediaCorrupt, UnsupportedModality
from multimodal.core.modality import Modality
from multimodal.core.space import Space

FRAME_S = 2.0
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg"),
    *(".mpeg", ".ts", ".flv", ".ogv", ".wmv", ".3gp"),
)
SUBTITLE_SUFFIXES = (".srt", ".vtt")
MAX_SUBTITLE_BYTES = 8 << 20  # three hours of speech are 0.2 MB
TIMES = re.compile(r"^\s*([\d:]+[.,]\d{3})\s+-->\s+([\d:]+[.,]\d{3})", re.MULTILINE)
TAG = re.compile(r"<[^>\n]*>|\{\\[^}\n]*\}")


class Cue(NamedTuple):
    """The text of a subtitle, and the seconds between which it is shown."""

    text: str
    start_s: float
    end_s: float


def check(space: Space) -> None:
    """Raises UnsupportedModality if a space can encode no part of any video."""
    if not {Modality.IMAGE, Modality.AUDIO} & set(space.modalities):
        space.encoder_for(Modality.VIDEO)


def nothing_to_encode(name: str, space: Space) -> UnsupportedModality:
    return UnsupportedModality(
        f"{name}: has no audio track, the only part of a video that the space {space.name!r} encodes; use a space "
        "with image or video"
    )


def subtitles_of(path: Path) -> list[Path]:
    """The subtitle files of a video, by their names; none for other files."""
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return []
    candidates = [path.with_suffix(suffix) for suffix in SUBTITLE_SUFFIXES]
    return [candidate for candidate in candidates if candidate.is_file()]


def without_subtitles(names: Iterable[str]) -> list[str]:
    """File names without those of subtitles that belong to a video among them."""
    listed = list(names)
    videos = {Path(name).stem for name in listed if name.lower().endswith(VIDEO_SUFFIXES)}
    return [
        name
        for name in listed
        if not (name.lower().endswith(SUBTITLE_SUFFIXES) and Path(name).stem in videos)
    ]


def hash_with_subtitles(path: Path, file_hash: str) -> str:
    """The hash of a video and its subtitles; `file_hash`, the hash of the file, if it has none. Raises OSError."""
    digest = hashlib.sha256(file_hash.encode())
    subtitles = subtitles_of(path)
    for file in subtitles:
        digest.update(file.read_bytes())
    return digest.hexdigest()[: len(file_hash)] if subtitles else file_hash


def subtitle_passages(path: Path, size: int) -> Iterator[Cue]:
    """The subtitles of a video, joined to passages of up to about `size` characters. Raises MediaCorrupt."""
    for file in subtitles_of(path)[:1]:
        passage: Cue | None = None
        for cue in _cues(file):
            if passage is not None and len(passage.text) + len(cue.text) < size:
                end_s = max(passage.end_s, cue.end_s)
                passage = Cue(f"{passage.text} {cue.text}", passage.start_s, end_s)
                continue
            if passage is not None:
                yield passage
            passage = cue
        if passage is not None:
            yield passage


def _cues(path: Path) -> Iterator[Cue]:
    """SubRip and WebVTT: a line with times, lines of text, and an empty line."""
    with path.open("rb") as file:
        raw = file.read(MAX_SUBTITLE_BYTES + 1)
    if len(raw) > MAX_SUBTITLE_BYTES:
        raise MediaCorrupt(
            f"{path}: larger than {MAX_SUBTITLE_BYTES:,} bytes, too much for subtitles; rename it"
        )
    try:
        content = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise MediaCorrupt(f"{path}: subtitles are not valid UTF-8 ({error}); save them as UTF-8") from error
    for block in re.split(r"\n\s*\n", content):
        times = TIMES.search(block)
        text = "" if times is None else block[times.end() :].partition("\n")[2]
        text = " ".join(html.unescape(TAG.sub("", text)).split())
        if times is not None and text:
            yield Cue(text, _seconds(times[1]), _seconds(times[2]))


def _seconds(time: str) -> float:
    """Seconds of "01:02:03,456" or "02:03.456"."""
    total = 0.0
    for field in time.replace(",", ".").split(":"):
        total = 60 * total + float(field)
    return round(total, 3)
