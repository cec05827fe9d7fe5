"""Warns where a str that looks like a path was taken as text, because a str is always text."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable
from types import FrameType

from multimodal.core.errors import PathLikeTextWarning

MAX_CHARS = 1_024
MEDIA_SUFFIXES = (
    *(
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "png",
        "gif",
        "webp",
        "bmp",
        "tif",
        "tiff",
        "heic",
        "heif",
        "avif",
        "jp2",
        "svg",
    ),
    *(
        "wav",
        "wave",
        "mp3",
        "flac",
        "ogg",
        "oga",
        "opus",
        "m4a",
        "aac",
        "wma",
        "aif",
        "aiff",
        "caf",
        "amr",
        "spx",
    ),
    *(
        "mp4",
        "m4v",
        "mov",
        "avi",
        "mkv",
        "webm",
        "mpg",
        "mpeg",
        "wmv",
        "flv",
        "3gp",
        "pdf",
        "docx",
        "pptx",
        "epub",
    ),
)
# One word, or several below a folder that is named: "photo.jpg", "a/photo.jpg", "/data/my photos/a.jpg"
_FILE = re.compile(
    rf"(?:\S+|(?:[~./\\]|[A-Za-z]:[/\\]|file:).*)\.(?:{'|'.join(MEDIA_SUFFIXES)})", re.IGNORECASE
)
# Nothing but a path that names its root: "./a", "../a/b", "~/a", "C:\\a", "/data/images/7"
_ROOTED = re.compile(r"(?:\.{1,2}/|~/|[A-Za-z]:\\|\\\\|file:/)\S+|/[^/\s]+(?:/[^/\s]+){2,}/?")

_warned: set[tuple[str, int]] = set()


def looks_like_path(text: str) -> bool:
    """Whether a text is rather the path or the URL of a file than words. Nothing is looked up.

    >>> [looks_like_path(text) for text in ("photos/cat.jpg", "cat/dog", "a photo of cat.jpg", "e.g. this")]
    [True, False, False, False]
    """
    stripped = text.strip()
    if len(stripped) > MAX_CHARS or "\n" in stripped:
        return False
    return bool(_FILE.fullmatch(stripped) or _ROOTED.fullmatch(stripped))


def warn_path_like(texts: Iterable[str]) -> None:
    """Warns of the first text that looks like a path: once for each line of the caller's code.

    Raises:
        PathLikeTextWarning: if the caller's filters make errors of warnings.
    """
    text = next(filter(looks_like_path, texts), None)
    if text is None:
        return
    filename, line, stacklevel = _caller()
    if (filename, line) in _warned:
        return
    warnings.warn(
        f"{text!r:.200} looks like a path and was taken as text, because a str is always text: for the file pass "
        f"pathlib.Path(…), Image(…), Audio(…) or Video(…); for the words pass Text(…)",
        PathLikeTextWarning,
        stacklevel=stacklevel,
    )
    _warned.add((filename, line))


def _caller() -> tuple[str, int, int]:
    """File and line of the first frame outside this package, and its stacklevel for `warn_path_like`."""
    frame: FrameType | None = sys._getframe(1)
    stacklevel = 1
    while frame is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] != __name__.partition(".")[0]:
            return frame.f_code.co_filename, frame.f_lineno, stacklevel
        frame, stacklevel = frame.f_back, stacklevel + 1
    return "", 0, 2
