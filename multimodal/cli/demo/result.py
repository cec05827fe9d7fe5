"""What the demo did: questions, answers and names, as its tables and its page show them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.cli.demo.generative import Making
from multimodal.core.items import Item, Text
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from multimodal.index import Hit

PLURALS = {
    Modality.IMAGE: "pictures",
    Modality.AUDIO: "spoken clips",
    Modality.TEXT: "notes",
    Modality.VIDEO: "videos",
}


@dataclass(frozen=True)
class Question:
    """What is asked: words, or a file of the gallery; `wanted`: the modality to find, None for all."""

    title: str
    query: str | Path
    wanted: Modality | None


@dataclass(frozen=True)
class Answer:
    """What was found; `option` is how the command line takes the query."""

    question: Question
    query: Item
    option: str
    hits: tuple[Hit, ...]
    seconds: float


@dataclass(frozen=True)
class Verdict:
    """Labels, the most probable first."""

    title: str
    query: Item
    labels: tuple[tuple[str, float], ...]
    seconds: float


@dataclass(frozen=True)
class Demo:
    """Everything the demo did. `counts`: indexed things by modality."""

    facts: dict[str, Any]
    gallery: Path
    index: Path
    counts: dict[Modality, int]
    indexing_seconds: float
    answers: tuple[Answer, ...]
    verdicts: tuple[Verdict, ...]
    makings: tuple[Making, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "space": self.facts,
            "gallery": str(self.gallery),
            "index": str(self.index),
            "counts": {str(modality): n for modality, n in self.counts.items()},
            "indexing_seconds": round(self.indexing_seconds, 4),
            "answers": [
                {
                    "title": answer.question.title,
                    "query": name_of(answer.query, self.gallery),
                    "modality": str(answer.query.modality),
                    "wanted": answer.question.wanted and str(answer.question.wanted),
                    "hits": [hit.to_dict() for hit in answer.hits],
                    "seconds": round(answer.seconds, 4),
                }
                for answer in self.answers
            ],
            "verdicts": [
                {
                    "title": verdict.title,
                    "query": name_of(verdict.query, self.gallery),
                    "modality": str(verdict.query.modality),
                    "labels": [{"label": label, "score": score} for label, score in verdict.labels],
                    "seconds": round(verdict.seconds, 4),
                }
                for verdict in self.verdicts
            ],
            "makings": [making.to_dict() for making in self.makings],
        }


def near(path: Path) -> Path:
    """A path as one would type it here: relative if it lies below the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def name_of(thing: Item | Hit, gallery: Path) -> str:
    """How to show a query or a hit: words in quotes, a file of the gallery without its folder."""
    uri = thing.uri
    if uri is None:
        return f"“{thing.source}”" if isinstance(thing, Text) else repr(thing)
    path = Path(uri)
    return str(path.relative_to(gallery)) if path.is_relative_to(gallery) else path.name
