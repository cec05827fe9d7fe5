"""What the demo makes out of vectors: captions, drawings, transcripts, by the decoders that belong to the space."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import SpaceMismatch
from multimodal.core.items import Audio, Image, Item, Text

if TYPE_CHECKING:
    import PIL.Image

    from multimodal.core.space import Space
    from multimodal.pipelines.generation.pipeline import GenerationPipeline

CAPTIONED = (
    Path("pictures/dog-on-meadow.jpg"),
    Path("pictures/cat-at-home.jpg"),
    Path("sounds/rocket.flac"),
)
WRITTEN = (Path("sounds/penguin.flac"), Path("sounds/birthday-cake.flac"))
DRAWN: tuple[str | Path, ...] = (
    "a guitar", "a green cat", "a tree and a house", Path("sounds/umbrella-with-rain-drops.flac"),
    Path("sounds/pizza.flac"), Path("pictures/elephant.jpg"),
)  # fmt: skip
SEED = 3
TITLES = ("Put into words", "Written down", "Drawn")


@dataclass(frozen=True)
class Making:
    """What was made of a query: words, or a picture. command: of the command line that makes the same."""

    title: str
    query: Item
    command: str
    said: str | None
    picture: PIL.Image.Image | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values; of a picture its size."""
        return {
            "title": self.title,
            "query": self.query.uri or str(self.query.source),
            "modality": str(self.query.modality),
            "said": self.said,
            "picture": None if self.picture is None else list(self.picture.size),
            "seconds": round(self.seconds, 4),
        }


def make(space: Space, gallery: Path) -> list[Making]:
    """Everything the space has a decoder for: nothing, of a space other than the one the decoders were trained for."""
    try:
        return [*_captions(space, gallery), *_transcripts(space, gallery), *_drawings(space, gallery)]
    except SpaceMismatch:
        return []


def _captions(space: Space, gallery: Path) -> Iterator[Making]:
    from multimodal.pipelines.captioning.pipeline import CaptioningPipeline

    caption = CaptioningPipeline.from_pretrained(space)
    for query, path in _items(CAPTIONED, gallery):
        began = time.perf_counter()
        said = caption(query).text
        yield Making(TITLES[0], query, f"multimodal caption {path}", said, None, time.perf_counter() - began)


def _transcripts(space: Space, gallery: Path) -> Iterator[Making]:
    from multimodal.pipelines.transcription.pipeline import TranscriptionPipeline

    write = TranscriptionPipeline.from_pretrained(space)
    for query, path in _items(WRITTEN, gallery):
        began = time.perf_counter()
        said = write(query).text
        yield Making(
            TITLES[1], query, f"multimodal transcribe {path}", said, None, time.perf_counter() - began
        )


def _drawings(space: Space, gallery: Path) -> Iterator[Making]:
    from multimodal.pipelines.generation.pipeline import GenerationPipeline

    draw: GenerationPipeline = GenerationPipeline.from_pretrained(space)
    draw("anything", steps=1)  # loads it, which is not what a drawing takes
    for query, path in _items(DRAWN, gallery):
        began = time.perf_counter()
        one = draw(query, seed=SEED)
        asked = f'"{query.source}"' if isinstance(query, Text) else f"--from {path}"
        command = f"multimodal generate {asked} --seed {SEED} -o drawing.png"
        yield Making(TITLES[2], query, command, None, one.image, time.perf_counter() - began)


def _items(given: tuple[str | Path, ...], gallery: Path) -> Iterator[tuple[Item, Path]]:
    """The item of each that is there, and how one would type its path."""
    for one in given:
        if isinstance(one, str):
            yield Text(one), Path()
            continue
        path = (gallery / one).resolve()
        if path.is_file():
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            yield (Audio(path) if one.parent.name == "sounds" else Image(path)), shown
