"""Reads the corpus and the unpaired media of a bridge, and splits off held-out items."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput, MediaError, MediaNotFound, UnsupportedModality
from multimodal.core.items import Item, Text, as_item
from multimodal.core.media.registry import type_of
from multimodal.core.modality import Modality

MIN_CORPUS = 200  # distinct items: a fifth is held out, and recall on fewer than 40 is too noisy
HELD_OUT_SHARE, MIN_HELD_OUT, MAX_HELD_OUT = 0.1, 40, 1000
REQUIREMENT = f"at least {MIN_CORPUS} are needed for training and {MIN_HELD_OUT} held-out items"
MAX_SHOWN = 40  # characters of a text in a message


def read_corpus(corpus: object, over: Modality) -> list[Item]:
    """Reads distinct items of one modality, in order. Texts that differ only in case and spacing are duplicates.

    Args:
        corpus: A text file with one text per line, a folder of media, or an iterable of what `as_item` takes.
        over: The modality.

    Raises:
        MediaNotFound: If a path does not exist.
        InvalidInput: If the corpus is too small or contains another modality.
    """
    items = _from_path(Path(corpus), over) if isinstance(corpus, str | os.PathLike) else _as_items(corpus)
    for position, item in enumerate(items):
        if item.modality != over:
            raise InvalidInput(
                f"corpus item {position} is {item.modality}, but the bridge is over {over}: use {over} only "
                "(pass other media, unpaired, as media=)"
            )
    counted = Counter(key_of(item) for item in items)
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(key_of(item), item)
    if len(first) < MIN_CORPUS:
        raise InvalidInput(_too_small(len(items), first, counted))
    return list(first.values())


def read_media(media: object) -> list[Item]:
    """Reads unpaired items from a folder or file, an iterable of items and paths, or a mapping whose values are such.

    Files in a folder that are not media are skipped. Raises MediaNotFound or InvalidInput.
    """
    if media is None:
        return []
    if isinstance(media, Mapping):
        return [item for part in media.values() for item in read_media(part)]
    if isinstance(media, str | os.PathLike):
        return _files(Path(media))
    items: list[Item] = []
    for value in _iterable(media):
        items += _files(value) if isinstance(value, Path) and value.is_dir() else [as_item(value)]
    return items


def sort_media(media: Sequence[Item], supported: Iterable[Modality]) -> dict[Modality, list[Item]]:
    """Groups items by modality. Raises UnsupportedModality for one that this bridge cannot use."""
    by_modality: dict[Modality, list[Item]] = {modality: [] for modality in supported}
    for position, item in enumerate(media):
        if item.modality not in by_modality:
            raise UnsupportedModality(
                f"media item {position} is {item.modality}, which this bridge cannot use: pass "
                f"{' or '.join(by_modality)}"
            )
        by_modality[item.modality].append(item)
    return {modality: items for modality, items in by_modality.items() if items}


def held_out(n: int, seed: int) -> tuple[list[int], list[int]]:
    """(training rows, held-out rows), each sorted; determined by n and seed."""
    import numpy as np

    count = min(MAX_HELD_OUT, max(MIN_HELD_OUT, round(HELD_OUT_SHARE * n)))
    order = np.random.default_rng(seed).permutation(n).tolist()
    return sorted(order[count:]), sorted(order[:count])


def key_of(item: Item) -> str:
    """The identity of an item: a text without case and spacing, a file's path and size, else its content."""
    if isinstance(item, Text):
        return " ".join(item.source.split()).casefold()
    source: Any = item.source
    if isinstance(source, Path):
        return f"{source.absolute()} {source.stat().st_size if source.exists() else None}"
    digest = hashlib.sha256()
    for block in type_of(item).content(item):
        digest.update(block)
    return digest.hexdigest()


def _from_path(path: Path, over: Modality) -> list[Item]:
    path = path.expanduser()
    if over != Modality.TEXT:
        return [item for item in _files(path) if item.modality == over]
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise MediaNotFound(
            f"{path}: {what}; the corpus is a text file with one text per line, or a list of texts"
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path}: is not valid UTF-8 ({error}); save it as UTF-8 with one text per line"
        ) from error
    return [Text(line.strip()) for line in lines if line.strip()]


def _as_items(values: object) -> list[Item]:
    return [
        as_item(value) for value in _iterable(values) if not (isinstance(value, str) and not value.strip())
    ]


def _iterable(values: object) -> Iterable[object]:
    if not isinstance(values, Iterable) or isinstance(values, bytes | Mapping):
        raise InvalidInput(f"expected a list of items or a path, got {type(values).__name__}")
    return values


def _files(path: Path) -> list[Item]:
    path = path.expanduser()
    if not path.exists():
        raise MediaNotFound(f"{path}: no such folder or file; check the path")
    if path.is_file():
        return [as_item(path)]
    items: list[Item] = []
    for file in sorted(path.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            try:
                items.append(as_item(file))
            except MediaError:  # folders of media may contain other files
                continue
    return items


def _too_small(given: int, first: Mapping[str, Item], counted: Counter[str]) -> str:
    if not given:
        return f"the corpus is empty: {REQUIREMENT}"
    noun = "text" if all(isinstance(item, Text) for item in first.values()) else "item"
    message = f"the corpus has {len(first):,} distinct {noun}{'s' * (len(first) > 1)}"
    key, times = counted.most_common(1)[0]
    if times > 1:
        item = first[key]
        shown = repr(item.source[:MAX_SHOWN]) if isinstance(item, Text) else repr(item)
        message += f" in {given:,} lines ({shown} occurs {times:,} times)"
    return f"{message}: {REQUIREMENT}"
