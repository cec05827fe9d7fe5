"""Captions, transcripts and images of the demo, by the decoders that belong to the space."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.cli.demo.data import Generated, typed_path
from multimodal.core.errors import SpaceMismatch
from multimodal.core.items import Audio, Image, Item, Text

if TYPE_CHECKING:
    from multimodal.core.space import Space
    from multimodal.pipelines.generation.pipeline import GenerationPipeline

CAPTIONED = (
    Path("pictures/dog-on-meadow.jpg"),
    Path("pictures/purple-car.jpg"),
    Path("sounds/rocket.flac"),
)
TRANSCRIBED = (Path("sounds/penguin.flac"), Path("sounds/birthday-cake.flac"))
DRAWN: tuple[str | Path, ...] = (
    "a guitar", "a green cat", "a tree and a house", Path("sounds/umbrella-with-rain-drops.flac"),
    Path("sounds/pizza.flac"), Path("pictures/elephant.jpg"),
)  # fmt: skip
SEED = 3
TITLES = ("Captioning", "Transcription", "Generation")


def generate_all(space: Space, gallery: Path) -> list[Generated]:
    """Captions, transcripts and images.

    Args:
        space: The space whose decoders are used.
        gallery: Where the media are; missing files are skipped.

    Returns:
        The results, empty for a space that has no decoders.
    """
    try:
        return [*_captions(space, gallery), *_transcripts(space, gallery), *_images(space, gallery)]
    except SpaceMismatch:
        return []


def _captions(space: Space, gallery: Path) -> Iterator[Generated]:
    from multimodal.pipelines.captioning.pipeline import CaptioningPipeline

    caption = CaptioningPipeline.from_pretrained(space)
    for item, path in _items(CAPTIONED, gallery):
        began = time.perf_counter()
        text = caption(item).text
        seconds = time.perf_counter() - began
        yield Generated(TITLES[0], item, f"multimodal caption {path}", text, None, seconds)


def _transcripts(space: Space, gallery: Path) -> Iterator[Generated]:
    from multimodal.pipelines.transcription.pipeline import TranscriptionPipeline

    transcribe = TranscriptionPipeline.from_pretrained(space)
    for item, path in _items(TRANSCRIBED, gallery):
        began = time.perf_counter()
        text = transcribe(item).text
        seconds = time.perf_counter() - began
        yield Generated(TITLES[1], item, f"multimodal transcribe {path}", text, None, seconds)


def _images(space: Space, gallery: Path) -> Iterator[Generated]:
    from multimodal.pipelines.generation.pipeline import GenerationPipeline

    generate: GenerationPipeline = GenerationPipeline.from_pretrained(space)
    generate("anything", steps=1)  # loads the decoder, which is not part of the time of an image
    for item, path in _items(DRAWN, gallery):
        began = time.perf_counter()
        image = generate(item, seed=SEED).image
        seconds = time.perf_counter() - began
        prompt = f'"{item.source}"' if isinstance(item, Text) else f"--from {path}"
        command = f"multimodal generate {prompt} --seed {SEED} -o drawing.png"
        yield Generated(TITLES[2], item, command, None, image, seconds)


def _items(sources: tuple[str | Path, ...], gallery: Path) -> Iterator[tuple[Item, Path]]:
    """The item of each source that exists, and its path as one would type it."""
    for source in sources:
        if isinstance(source, str):
            yield Text(source), Path()
            continue
        path = (gallery / source).resolve()
        if path.is_file():
            yield (Audio(path) if source.parent.name == "sounds" else Image(path)), typed_path(path)
