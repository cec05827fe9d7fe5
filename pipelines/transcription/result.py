"""Transcription results: text, segments and words with their times."""

from __future__ import annotations

import html
import warnings
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from multimodal.core.errors import InvalidInput
from multimodal.pipelines.transcription.subtitles import Cue, srt, vtt


class _OldTimeNames:
    """The names that `start` and `end` had in 0.1."""

    start: float
    end: float

    @property
    def start_s(self) -> float:
        """Deprecated: use `start`."""
        return self._renamed("start")

    @property
    def end_s(self) -> float:
        """Deprecated: use `end`."""
        return self._renamed("end")

    def _renamed(self, name: str) -> float:
        kind = type(self).__name__
        warnings.warn(
            f"{kind}.{name}_s is deprecated and will be removed in 0.3.0: use {kind}.{name}, in seconds too",
            DeprecationWarning,
            stacklevel=3,
        )
        value: float = getattr(self, name)
        return value


@dataclass(frozen=True)
class Word(_OldTimeNames):
    """One spoken word.

    Attributes:
        start: When it begins, in seconds from the start of the audio.
        end: When it ends, in seconds from the start of the audio.
        text: The word without surrounding white space.
    """

    start: float
    end: float
    text: str

    def to_dict(self) -> dict[str, Any]:
        """{"start", "end", "text"}, ready for JSON; times in seconds."""
        return asdict(self)


@dataclass(frozen=True)
class Segment(_OldTimeNames):
    """A stretch of speech, such as a sentence or a subtitle.

    Attributes:
        start: When it begins, in seconds from the start of the audio.
        end: When it ends, in seconds from the start of the audio.
        text: What is said, without surrounding white space.
        tokens: The token ids that the model generated, its timestamp tokens included; () for models without tokens.
    """

    start: float
    end: float
    text: str
    tokens: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """{"start", "end", "text"}, ready for JSON; times in seconds. Tokens are left out: they are model-specific."""
        return {"start": self.start, "end": self.end, "text": self.text}


Piece = TypeVar("Piece", Word, Segment)


def within(piece: Piece, duration_s: float) -> Piece:
    """A word or segment that neither begins nor ends after the audio, and does not end before it begins."""
    start = min(max(piece.start, 0.0), duration_s)
    end = min(max(piece.end, start), duration_s)
    return piece if (start, end) == (piece.start, piece.end) else replace(piece, start=start, end=end)


@dataclass(frozen=True)
class Transcription:
    """The transcription of one audio.

    Attributes:
        text: All of the text.
        language: The language code, such as "en", where it was given or detected; else None.
        segments: The segments in order; () with `timestamps=None`.
        words: The words in order; () unless `timestamps="word"`.
        duration_s: The length of the audio in seconds.
        model: The name that the model was loaded by.
    """

    text: str
    language: str | None
    segments: tuple[Segment, ...]
    words: tuple[Word, ...]
    duration_s: float
    model: str

    def to_dict(self) -> dict[str, Any]:
        """Converts the transcription to plain values.

        Returns:
            {"text", "language", "segments", "words", "duration_s", "model"}, ready for JSON.
        """
        return {
            "text": self.text,
            "language": self.language,
            "segments": [segment.to_dict() for segment in self.segments],
            "words": [word.to_dict() for word in self.words],
            "duration_s": self.duration_s,
            "model": self.model,
        }

    def to_srt(self) -> str:
        """Formats the segments as SubRip subtitles.

        Returns:
            The content of an .srt file.

        Raises:
            InvalidInput: There is text but no segments.
        """
        return srt(self._cues())

    def to_vtt(self) -> str:
        """Formats the segments as WebVTT subtitles.

        Returns:
            The content of a .vtt file.

        Raises:
            InvalidInput: There is text but no segments.
        """
        return vtt(self._cues())

    def _cues(self) -> list[Cue]:
        if self.text and not self.segments:
            raise InvalidInput(
                "subtitles need times, and this transcription has none: make it with timestamps='segment'"
            )
        return [Cue(segment.start, segment.end, segment.text) for segment in self.segments]

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        parts = (self.model, self.language or "", f"{self.duration_s:.1f} s")
        about = " · ".join(html.escape(part) for part in parts if part)
        if not self.segments:
            return f"<blockquote>{html.escape(self.text)}</blockquote><small>{about}</small>"
        rows = "".join(
            f"<tr><td>{segment.start:.2f}</td><td>{segment.end:.2f}</td>"
            f'<td style="text-align:left">{html.escape(segment.text)}</td></tr>'
            for segment in self.segments
        )
        return (
            '<table><tr><th>start, s</th><th>end, s</th><th style="text-align:left">text</th></tr>'
            f"{rows}</table><small>{about}</small>"
        )
