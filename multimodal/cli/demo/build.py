"""Runs the demo: indexes the gallery, searches it, classifies items of it, and generates from some."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.cli.demo.data import ClassificationResult, Demo, Query, QueryResult, typed_path
from multimodal.cli.demo.generative import generate_all
from multimodal.core.errors import MultimodalError
from multimodal.core.items import Audio, Image, Item, Text
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from multimodal.core.space import Space
    from multimodal.index import Index

HITS = 5
INDEX_NAME = "gallery.lance"
QUERIES = (
    Query("Text to image", "a purple car", Modality.IMAGE),
    Query("Text to image", "a hot drink", Modality.IMAGE),
    Query("Text to image", "a musical instrument", Modality.IMAGE),
    Query("Speech to image", Path("sounds/rocket.flac"), Modality.IMAGE),
    Query("Speech to image", Path("sounds/horse.flac"), Modality.IMAGE),
    Query("Image to speech", Path("pictures/fish-in-the-sea.jpg"), Modality.AUDIO),
    Query("Image to speech", Path("pictures/rainbow.jpg"), Modality.AUDIO),
    Query("Image to similar images", Path("pictures/dog-on-meadow.jpg"), Modality.IMAGE),
    Query("Image to similar images", Path("pictures/red-apple.jpg"), Modality.IMAGE),
    Query("Text to all modalities", "birthday party", None),
    Query("Text to all modalities", "snow", None),
)
CLASSIFICATIONS = (
    ("Zero-shot image classification", Path("pictures/purple-car.jpg"),
     ("a purple car", "a red car", "a green car", "a purple butterfly", "a tractor", "a bicycle")),
    ("Zero-shot audio classification", Path("sounds/penguin.flac"),
     ("penguin", "owl", "elephant", "fish", "butterfly", "horse")),
)  # fmt: skip


def build_demo(
    space: Space, gallery: Path, output: Path, *, progress: Callable[[int], None] | None = None
) -> Demo:
    """Indexes a gallery and runs every query whose modalities the space encodes.

    Args:
        space: The model.
        gallery: A folder with the folders `notes`, `pictures` and `sounds`.
        output: Where the index is written; the index of an earlier demo is replaced.
        progress: Called with the number of files just indexed.

    Returns:
        The results.

    Raises:
        MultimodalError: If the gallery is missing, or the index cannot be written.
    """
    from multimodal.cli.models.info import space_facts
    from multimodal.index import Index

    if not gallery.is_dir():
        raise MultimodalError(f"the gallery is missing from {gallery}; reinstall multimodal")
    output.mkdir(parents=True, exist_ok=True)
    path = output / INDEX_NAME
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    began = time.perf_counter()
    index = Index.create(path, space)
    for folder in sorted(folder for folder in gallery.iterdir() if folder.is_dir()):
        index.add(folder, progress=None if progress is None else lambda state: progress(state.step))
    indexing = time.perf_counter() - began
    counts: dict[Modality, int] = {}
    for row in index.rows():
        modality = Modality(row["modality"])
        counts[modality] = counts.get(modality, 0) + 1
    return Demo(
        facts=space_facts(space),
        gallery=gallery,
        index=path,
        counts=counts,
        indexing_seconds=indexing,
        queries=tuple(_search(space, index, gallery)),
        classifications=tuple(_classify(space, gallery)),
        generated=tuple(generate_all(space, gallery)),
    )


def _search(space: Space, index: Index, gallery: Path) -> list[QueryResult]:
    results = []
    for query in QUERIES:
        item, option = _item(query.source, gallery)
        if not {item.modality, query.target or item.modality} <= set(space.modalities):
            continue
        began = time.perf_counter()
        hits = index.search(item, k=HITS + 1, modality=query.target)
        seconds = time.perf_counter() - began
        others = [hit for hit in hits if item.uri is None or hit.uri != item.uri]
        results.append(QueryResult(query, item, option, tuple(others[:HITS]), seconds))
    return results


def _classify(space: Space, gallery: Path) -> list[ClassificationResult]:
    from multimodal.core.pipeline import pipeline

    classify = pipeline("zero-shot-classification", model=space)
    results = []
    for title, path, labels in CLASSIFICATIONS:
        item, _ = _item(path, gallery)
        if not {item.modality, Modality.TEXT} <= set(space.modalities):
            continue
        began = time.perf_counter()
        ranked = classify(item, labels=list(labels))
        pairs = tuple((guess.label, float(guess.score)) for guess in ranked)
        results.append(ClassificationResult(title, item, pairs, time.perf_counter() - began))
    return results


def _item(source: str | Path, gallery: Path) -> tuple[Item, str]:
    """The item, and the query as `multimodal search` accepts it."""
    if isinstance(source, str):
        return Text(source), f'"{source}"'
    path = (gallery / source).resolve()
    if path.parent.name == "sounds":
        return Audio(path), f"--audio {typed_path(path)}"
    return Image(path), f"--image {typed_path(path)}"
