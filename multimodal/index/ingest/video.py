"""What a space encodes of a video: all of it are rows of one document, which any of them finds.

A space with a video encoder takes the whole video; otherwise one frame every FRAME_S seconds is encoded as an
image. The audio track is split into windows, and subtitles are read from a file beside the video (talk.mp4, talk.srt).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from multimodal.core.errors import MediaCorrupt, UnsupportedModality
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.index.ingest.documents.subtitles import Cue, cues_of, joined_cues
from multimodal.index.ingest.documents.text import decode

FRAME_S = 2.0
VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg"),
    *(".mpeg", ".ts", ".flv", ".ogv", ".wmv", ".3gp"),
)
SUBTITLE_SUFFIXES = (".srt", ".vtt")
MAX_SUBTITLE_BYTES = 8 << 20  # three hours of speech are 0.2 MB


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
        yield from joined_cues(cues_of(_read_subtitles(file)), size)


def _read_subtitles(path: Path) -> str:
    with path.open("rb") as file:
        raw = file.read(MAX_SUBTITLE_BYTES + 1)
    if len(raw) > MAX_SUBTITLE_BYTES:
        raise MediaCorrupt(
            f"{path}: larger than {MAX_SUBTITLE_BYTES:,} bytes, too much for subtitles; rename it"
        )
    decoded = decode(raw)
    if decoded is None:
        raise MediaCorrupt(f"{path}: subtitles are not text in UTF-8 or Latin-1; save them as UTF-8")
    return decoded.text
