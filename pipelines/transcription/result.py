"""What a transcription is: text, and when it was said. Frozen, plain values inside, ready for JSON and subtitles."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.pipelines.transcription.subtitles import Cue, srt, vtt


@dataclass(frozen=True)
class Word:
    """A word, without the space around it, and when it was said, in seconds from the start of the sound."""

    start_s: float
    end_s: float
    text: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Segment:
    """Some words that were said in one go. text: without the space around it. tokens: the ids the model wrote, with its
    time tokens; () where a model writes none."""

    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """{"start_s", "end_s", "text"}: tokens mean something to one model only."""
        return {"start_s": self.start_s, "end_s": self.end_s, "text": self.text}


@dataclass(frozen=True)
class Transcription:
    """What was said in a sound.

    language: as in "en", where the model tells it or was told. segments: () if made with `timestamps=None`; words: ()
    unless made with `timestamps="word"`. duration_s: of the whole sound. model: the name it was loaded by.
    """

    text: str
    language: str | None
    segments: tuple[Segment, ...]
    words: tuple[Word, ...]
    duration_s: float
    model: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "text": self.text,
            "language": self.language,
            "segments": [one.to_dict() for one in self.segments],
            "words": [one.to_dict() for one in self.words],
            "duration_s": self.duration_s,
            "model": self.model,
        }

    def to_srt(self) -> str:
        """The segments as SubRip subtitles (.srt). Raises InvalidInput if it has text but no times."""
        return srt(self._cues())

    def to_vtt(self) -> str:
        """The segments as WebVTT subtitles (.vtt). Raises InvalidInput if it has text but no times."""
        return vtt(self._cues())

    def _cues(self) -> list[Cue]:
        if self.text and not self.segments:
            raise InvalidInput(
                "subtitles need times, and this transcription has none: make it with timestamps='segment'"
            )
        return [Cue(one.start_s, one.end_s, one.text) for one in self.segments]

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        about = " · ".join(
            html.escape(one) for one in (self.model, self.language or "", f"{self.duration_s:.1f} s") if one
        )
        if not self.segments:
            return f"<blockquote>{html.escape(self.text)}</blockquote><small>{about}</small>"
        rows = "".join(
            f"<tr><td>{one.start_s:.2f}</td><td>{one.end_s:.2f}</td>"
            f'<td style="text-align:left">{html.escape(one.text)}</td></tr>'
            for one in self.segments
        )
        return (
            '<table><tr><th>from, s</th><th>to, s</th><th style="text-align:left">text</th></tr>'
            f"{rows}</table><small>{about}</small>"
        )
