"""What the demo has done, as data: queries with their hits, classifications and generated media."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.items import Item, Text
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import PIL.Image

    from multimodal.index import Hit

# Probability from which a hit is marked. At most 5 % of queries about things that are not in the starter's index reach
# it; see index/search/score_calibration.py.
CONFIDENT = 0.87
PLURALS = {
    Modality.IMAGE: "images",
    Modality.AUDIO: "spoken clips",
    Modality.TEXT: "texts",
    Modality.VIDEO: "videos",
}


@dataclass(frozen=True)
class Query:
    """A query of the demo.

    Attributes:
        title: The section it belongs to.
        source: A text, or a file of the gallery.
        target: The modality of the hits; None for all.
    """

    title: str
    source: str | Path
    target: Modality | None


@dataclass(frozen=True)
class QueryResult:
    """The hits of a query.

    Attributes:
        query: What was searched.
        item: The item that was encoded.
        option: The query as `multimodal search` accepts it.
        hits: Best first, without the query itself.
        seconds: Duration of the search.
    """

    query: Query
    item: Item
    option: str
    hits: tuple[Hit, ...]
    seconds: float


@dataclass(frozen=True)
class ClassificationResult:
    """Zero-shot classification of one item.

    Attributes:
        title: Above the result.
        item: What was classified.
        labels: (label, probability), the most probable first.
        seconds: Duration of the classification.
    """

    title: str
    item: Item
    labels: tuple[tuple[str, float], ...]
    seconds: float


@dataclass(frozen=True)
class Generated:
    """What a decoder of the space made from one item: a text or an image.

    Attributes:
        title: The section it belongs to.
        item: The input.
        command: The command that generates the same.
        text: A caption or transcript, or None.
        image: A generated image, or None.
        seconds: Duration.
    """

    title: str
    item: Item
    command: str
    text: str | None
    image: PIL.Image.Image | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the size of an image."""
        return {
            "title": self.title,
            "query": self.item.uri or str(self.item.source),
            "modality": str(self.item.modality),
            "text": self.text,
            "image": None if self.image is None else list(self.image.size),
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True)
class Demo:
    """Everything the demo did.

    Attributes:
        facts: About the space, as `multimodal info NAME --json` prints them.
        gallery: The folder that was indexed.
        index: The index that was created.
        counts: Indexed items by modality.
        indexing_seconds: Duration of the indexing.
        queries: Search results.
        classifications: Zero-shot classification results.
        generated: Captions, transcripts and images; empty for a space without decoders.
    """

    facts: dict[str, Any]
    gallery: Path
    index: Path
    counts: dict[Modality, int]
    indexing_seconds: float
    queries: tuple[QueryResult, ...]
    classifications: tuple[ClassificationResult, ...]
    generated: tuple[Generated, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "space": self.facts,
            "gallery": str(self.gallery),
            "index": str(self.index),
            "counts": {str(modality): n for modality, n in self.counts.items()},
            "indexing_seconds": round(self.indexing_seconds, 4),
            "queries": [
                {
                    "title": result.query.title,
                    "query": display_name(result.item, self.gallery),
                    "modality": str(result.item.modality),
                    "target": result.query.target and str(result.query.target),
                    "hits": [hit.to_dict() for hit in result.hits],
                    "seconds": round(result.seconds, 4),
                }
                for result in self.queries
            ],
            "classifications": [
                {
                    "title": result.title,
                    "query": display_name(result.item, self.gallery),
                    "modality": str(result.item.modality),
                    "labels": [{"label": label, "score": score} for label, score in result.labels],
                    "seconds": round(result.seconds, 4),
                }
                for result in self.classifications
            ],
            "generated": [result.to_dict() for result in self.generated],
        }


def is_confident(hit: Hit) -> bool:
    """Whether a hit is marked: its calibrated probability is at least CONFIDENT."""
    return hit.probability is not None and hit.probability >= CONFIDENT


def typed_path(path: Path) -> Path:
    """A path as one would type it: relative if it lies below the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def display_name(source: Item | Hit, gallery: Path) -> str:
    """A text in quotes, or a file relative to the gallery."""
    uri = source.uri
    if uri is None:
        return f"“{source.source}”" if isinstance(source, Text) else repr(source)
    path = Path(uri)
    return str(path.relative_to(gallery)) if path.is_relative_to(gallery) else path.name
