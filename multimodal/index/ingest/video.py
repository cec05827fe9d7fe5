"""A film -> what of it a space takes: all of it are rows of one thing, which is found by any of them.

By the space's own encoder of videos, or else as frames, one every FRAME_S; and its sound in windows, and the words of
the subtitles that lie beside it under its name (film.mp4, film.srt).
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from multimodal.core.errors import MediaCorrupt, UnsupportedModality
from multimodal.core.items import Image, Video
from multimodal.core.modality import Modality
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FRAME_S = 2.0
FILMS = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".flv",
    ".ogv",
    ".wmv",
    ".3gp",
)
SUBTITLES = (".srt", ".vtt")
MOST_BYTES = 8 << 20  # of subtitles; three hours of talk are 0.2 MB
TIMES = re.compile(r"^\s*([\d:]+[.,]\d{3})\s+-->\s+([\d:]+[.,]\d{3})", re.MULTILINE)
TAG = re.compile(r"<[^>\n]*>|\{\\[^}\n]*\}")


class Said(NamedTuple):
    """Words, and from when to when they are shown, in seconds."""

    words: str
    start_s: float
    end_s: float


def check(space: Space) -> None:
    """Raises UnsupportedModality if a space takes nothing of a film, whatever is in it."""
    if not {Modality.IMAGE, Modality.AUDIO} & set(space.modalities):
        space.encoder_for(Modality.VIDEO)


def nothing_to_take(name: str, space: Space) -> UnsupportedModality:
    return UnsupportedModality(
        f"{name}: has no sound, and of a video {space.name!r} takes nothing else; use a space with image or video"
    )


def frames(item: Video) -> Iterator[tuple[NDArray[np.uint8], float, float]]:
    """One frame (h, w, 3) after another, with the seconds that it stands for. Raises what `item.load` raises."""
    from multimodal.core.media import video

    if isinstance(item.source, Path | bytes):
        yield from video.sample_video(item.source, FRAME_S)
        return
    clip = item.load(fps=1 / FRAME_S)
    share = clip.seconds / len(clip)
    for place, pixels in enumerate(clip.frames):
        yield pixels, place * share, (place + 1) * share


def picture_of(path: Path, start_s: float | None, end_s: float | None) -> Image:
    """What a row of a file with the modality image stands for: the file, or the frame of a film between two times.
    Raises what `Video.load` raises."""
    from multimodal.core.media import video

    if start_s is None or end_s is None:
        return Image(path)
    return Image(video.frame_of(path, (start_s + end_s) / 2), uri=str(path))


def beside(path: Path) -> list[Path]:
    """The subtitles of a file, if it is a film by its name and has any."""
    if path.suffix.lower() not in FILMS:
        return []
    return [one for one in (path.with_suffix(suffix) for suffix in SUBTITLES) if one.is_file()]


def without_subtitles(names: Iterable[str]) -> list[str]:
    """File names without those of subtitles that belong to a film among them."""
    some = list(names)
    films = {Path(name).stem for name in some if name.lower().endswith(FILMS)}
    return [name for name in some if not (name.lower().endswith(SUBTITLES) and Path(name).stem in films)]


def content(path: Path, of_film: str) -> str:
    """A hash of a film and its subtitles; that of the film if it has none. Raises OSError."""
    digest = hashlib.sha256(of_film.encode())
    found = beside(path)
    for one in found:
        digest.update(one.read_bytes())
    return digest.hexdigest()[: len(of_film)] if found else of_film


def said(path: Path, size: int) -> Iterator[Said]:
    """The words of the subtitles beside a film, joined up to about `size` characters. Raises MediaCorrupt."""
    for one in beside(path)[:1]:
        held: Said | None = None
        for cue in _cues(one):
            if held is not None and len(held.words) + len(cue.words) < size:
                held = Said(f"{held.words} {cue.words}", held.start_s, max(held.end_s, cue.end_s))
                continue
            if held is not None:
                yield held
            held = cue
        if held is not None:
            yield held


def _cues(path: Path) -> Iterator[Said]:
    """SubRip and WebVTT: times on a line, words below them, and an empty line."""
    with path.open("rb") as file:
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise MediaCorrupt(f"{path}: holds more than {MOST_BYTES:,} bytes, too much for subtitles; rename it")
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise MediaCorrupt(f"{path}: subtitles that are not UTF-8 ({error}); save them as UTF-8") from error
    for block in re.split(r"\n\s*\n", text):
        times = TIMES.search(block)
        words = "" if times is None else block[times.end() :].partition("\n")[2]
        words = " ".join(html.unescape(TAG.sub("", words)).split())
        if times is not None and words:
            yield Said(words, _seconds(times[1]), _seconds(times[2]))


def _seconds(written: str) -> float:
    """Of "01:02:03,456", "02:03.456"."""
    total = 0.0
    for part in written.replace(",", ".").split(":"):
        total = 60 * total + float(part)
    return round(total, 3)
