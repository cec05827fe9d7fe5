"""What a bridge is learned from: different items of the modality both spaces know, and which of them are held out."""

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

FEWEST = 200  # different items: a fifth is held out, and of fewer than 40 a recall says little
HELD_OUT_SHARE, FEWEST_HELD_OUT, MOST_HELD_OUT = 0.1, 40, 1000
WHY = f"at least {FEWEST} are needed, some to learn from and {FEWEST_HELD_OUT} or more to judge by"
SHOWN = 40  # characters of a text in a message


def read_corpus(corpus: object, over: Modality) -> list[Item]:
    """Different items of one modality, in the order given.

    corpus: a file of texts, one a line, or a folder of media; or an iterable of whatever `as_item` takes. Texts that
    differ only in case and spacing are one. Raises MediaNotFound, InvalidInput for one that is too small or holds
    another modality.
    """
    given = _from_path(Path(corpus), over) if isinstance(corpus, str | os.PathLike) else _as_items(corpus)
    for position, item in enumerate(given):
        if item.modality != over:
            raise InvalidInput(
                f"corpus item {position} is {item.modality}, and the bridge is over {over}: give {over} only "
                "(other things, without their pairs, go to media=)"
            )
    counted = Counter(key_of(item) for item in given)
    first: dict[str, Item] = {}
    for item in given:
        first.setdefault(key_of(item), item)
    if len(first) < FEWEST:
        raise InvalidInput(_too_small(len(given), first, counted))
    return list(first.values())


def read_media(media: object) -> list[Item]:
    """Items without pairs: a folder or file, or an iterable of items and paths; a mapping's values are such.

    Files of a folder that are no picture or sound are passed over. Raises MediaNotFound, InvalidInput.
    """
    if media is None:
        return []
    if isinstance(media, Mapping):
        return [item for part in media.values() for item in read_media(part)]
    if isinstance(media, str | os.PathLike):
        return _files(Path(media))
    found: list[Item] = []
    for one in _iterable(media):
        found += _files(one) if isinstance(one, Path) and one.is_dir() else [as_item(one)]
    return found


def sort_media(media: Sequence[Item], wanted: Iterable[Modality]) -> dict[Modality, list[Item]]:
    """Media by modality. Raises UnsupportedModality for one that neither space has a use for."""
    found: dict[Modality, list[Item]] = {modality: [] for modality in wanted}
    for position, item in enumerate(media):
        if item.modality not in found:
            raise UnsupportedModality(
                f"media item {position} is {item.modality}, which this bridge cannot learn from: give "
                f"{' or '.join(found)}"
            )
        found[item.modality].append(item)
    return {modality: items for modality, items in found.items() if items}


def held_out(n: int, seed: int) -> tuple[list[int], list[int]]:
    """(rows to learn from, rows held out), each sorted; the same for one n and seed."""
    import numpy as np

    count = min(MOST_HELD_OUT, max(FEWEST_HELD_OUT, round(HELD_OUT_SHARE * n)))
    order = np.random.default_rng(seed).permutation(n).tolist()
    return sorted(order[count:]), sorted(order[:count])


def key_of(item: Item) -> str:
    """What makes two items one: a text but for case and spacing, a file by path and size, else the content."""
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
        raise MediaNotFound(f"{path}: {what}; the corpus is a file of texts, one a line, or a list of texts")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path}: is not UTF-8 text ({error}); save it as UTF-8, one text a line"
        ) from error
    return [Text(line.strip()) for line in lines if line.strip()]


def _as_items(values: object) -> list[Item]:
    return [
        as_item(value) for value in _iterable(values) if not (isinstance(value, str) and not value.strip())
    ]


def _iterable(values: object) -> Iterable[object]:
    if not isinstance(values, Iterable) or isinstance(values, bytes | Mapping):
        raise InvalidInput(f"a list of items or a path is needed, got {type(values).__name__}")
    return values


def _files(path: Path) -> list[Item]:
    path = path.expanduser()
    if not path.exists():
        raise MediaNotFound(f"{path}: no such folder or file; check the path")
    if path.is_file():
        return [as_item(path)]
    found: list[Item] = []
    for file in sorted(path.rglob("*")):
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
            try:
                found.append(as_item(file))
            except MediaError:  # a note or a film among the pictures is no fault
                continue
    return found


def _too_small(given: int, first: Mapping[str, Item], counted: Counter[str]) -> str:
    if not given:
        return f"the corpus is empty: {WHY}"
    things = "text" if all(isinstance(item, Text) for item in first.values()) else "item"
    said = f"the corpus holds {len(first):,} different {things}{'s' * (len(first) > 1)}"
    key, times = counted.most_common(1)[0]
    if times > 1:
        item = first[key]
        what = repr(item.source[:SHOWN]) if isinstance(item, Text) else repr(item)
        said += f" in {given:,} lines ({what} stands there {times:,} times)"
    return f"{said}: {WHY}"
