"""Vectors of many items: unreadable items are left out, progress is reported, and an interrupted run resumes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.cluster.options import ClusterOptions
from multimodal.core.errors import ClusterError, MediaError, MissingExtra
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.evaluation.data import item_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK = 128  # items written at once
BATCH = 32
FEWEST_CHUNKS = 2  # that are worth the start of a worker

Chunk = tuple[list[Any], dict[int, str]]  # the results of some items, and why some have none


@dataclass
class Runner:
    """How items are processed.

    Attributes:
        report: Called with the number of items just done.
        cache: A folder of finished chunks, or None.
        cluster: The machines on which items are processed; None for this process.
    """

    report: Callable[[int], None] = field(default=lambda count: None)
    cache: Path | None = None
    cluster: ClusterOptions | None = None

    def vectors(self, space: Space, items: Sequence[Item]) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Encodes items of one modality.

        Args:
            space: What encodes them.
            items: Items.

        Returns:
            Unit rows (n, dim), with zeros for items that could not be read, and {position: reason} of those.
        """
        import numpy as np

        if not items:
            return np.empty((0, space.dim), np.float32), {}
        encoder = space.encoder_for(items[0].modality)
        name = encoder.fingerprint if self.cache is not None else ""

        def work(part: Sequence[Item]) -> list[Any]:
            return list(space.encode(list(part)))

        results, failures = self.results(name, items, work)
        rows = np.zeros((len(items), space.dim), np.float32)
        for position, result in enumerate(results):
            if result is not None:
                rows[position] = result
        return rows, failures

    def results(
        self, name: str, items: Sequence[Item], work: Callable[[Sequence[Item]], list[Any]]
    ) -> tuple[list[Any], dict[int, str]]:
        """Applies a function to items in chunks.

        Args:
            name: What identifies the function, for the cache.
            items: Items.
            work: Items -> one result each: an array, or a JSON value.

        Returns:
            The results, None for items that could not be read, and {position: reason} of those.
        """
        results: list[Any] = []
        failures: dict[int, str] = {}
        chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
        files = [None if self.cache is None else self.cache / f"{_key(name, part)}.npz" for part in chunks]
        done = {} if self.cluster is None else self._on_cluster(self.cluster, chunks, files, work)
        for number, (part, file) in enumerate(zip(chunks, files, strict=True)):
            start = number * CHUNK
            loaded = done.get(number) or (None if file is None else _load(file))
            if loaded is None:
                loaded = self._work(part, work)
                if file is not None:
                    _save(file, *loaded)
            elif number not in done:
                self.report(len(part))
            results += loaded[0]
            failures |= {start + position: reason for position, reason in loaded[1].items()}
        return results, failures

    def _on_cluster(
        self,
        cluster: ClusterOptions,
        chunks: Sequence[Sequence[Item]],
        files: Sequence[Path | None],
        work: Callable[[Sequence[Item]], list[Any]],
    ) -> dict[int, Chunk]:
        """The chunks that are not in the cache, by number, each saved as soon as it is complete."""
        from multimodal.core.cluster.mapping import map_inputs

        missing = [number for number, file in enumerate(files) if file is None or _load(file) is None]
        if len(missing) < FEWEST_CHUNKS:
            return {}
        done: dict[int, Chunk] = {}
        parts = [chunks[number] for number in missing]
        crashed: list[int] = []
        for place, outcomes in map_inputs(partial(_ChunkWorker, work), parts, cluster, unit_size=1):
            number, outcome = missing[place], outcomes[0]
            if isinstance(outcome, ClusterError):
                crashed.append(number)
            else:
                done[number] = self._complete(outcome, files[number])
        for number in crashed:  # an item of it ends its worker: it is found by itself
            alone = [[item] for item in chunks[number]]
            chunk: Chunk = [None] * len(alone), {}
            for place, outcomes in map_inputs(partial(_ChunkWorker, work), alone, cluster, unit_size=1):
                outcome = outcomes[0]
                if isinstance(outcome, ClusterError):
                    outcome = [None], {0: str(outcome)}
                chunk[0][place] = outcome[0][0]
                if outcome[1]:
                    chunk[1][place] = outcome[1][0]
            done[number] = self._complete(chunk, files[number])
        return done

    def _complete(self, chunk: Chunk, file: Path | None) -> Chunk:
        if file is not None:
            _save(file, *chunk)
        self.report(len(chunk[0]))
        return chunk

    def _work(
        self, part: Sequence[Item], work: Callable[[Sequence[Item]], list[Any]]
    ) -> tuple[list[Any], dict[int, str]]:
        results: list[Any] = []
        failures: dict[int, str] = {}
        for start in range(0, len(part), BATCH):
            batch = part[start : start + BATCH]
            try:
                results += work(batch)
            except (MediaError, MissingExtra):
                for position, item in enumerate(batch, start):
                    try:
                        results += work([item])
                    except (MediaError, MissingExtra) as error:
                        results.append(None)
                        failures[position] = str(error)
            self.report(len(batch))
        return results, failures


class _ChunkWorker:
    """Processes chunks in a worker."""

    def __init__(self, work: Callable[[Sequence[Item]], list[Any]]) -> None:
        self.work = work

    def __call__(self, chunks: Sequence[Sequence[Item]]) -> list[Chunk]:
        return [Runner()._work(chunk, self.work) for chunk in chunks]


def _key(name: str, items: Sequence[Item]) -> str:
    digest = hashlib.sha256(name.encode())
    for item in items:
        digest.update(hashlib.sha256(item_bytes(item)).digest())
    return digest.hexdigest()[:32]


def _load(file: Path) -> tuple[list[Any], dict[int, str]] | None:
    """A finished chunk; None if there is none, or if it is damaged and must be made again."""
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as saved:
            about = json.loads(str(saved["about"]))
            vectors = saved.get("vectors")
    except (OSError, ValueError, KeyError):
        return None
    failures = {int(position): reason for position, reason in about["failures"].items()}
    if vectors is None:
        return about["results"], failures
    return [None if row in failures else vector for row, vector in enumerate(vectors)], failures


def _save(file: Path, results: Sequence[Any], failures: dict[int, str]) -> None:
    import numpy as np

    about: dict[str, Any] = {"failures": failures}
    arrays: dict[str, Any] = {}
    first = next((result for result in results if result is not None), None)
    if isinstance(first, np.ndarray):
        arrays["vectors"] = np.stack([np.zeros_like(first) if row is None else row for row in results])
    else:
        about["results"] = list(results)
    file.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(file) as scratch:
        np.savez(scratch, about=np.array(json.dumps(about)), **arrays)


@contextlib.contextmanager
def _replacing(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes `file` when the block ends without an error."""
    handle, name = tempfile.mkstemp(dir=file.parent, suffix=".npz")
    os.close(handle)
    try:
        yield Path(name)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def unique(items: Sequence[Item]) -> tuple[list[Item], list[int]]:
    """The distinct items by content, and for each given item its place among them."""
    places: dict[bytes, int] = {}
    kept: list[Item] = []
    numbers = []
    for item in items:
        key = hashlib.sha256(item_bytes(item)).digest()
        if key not in places:
            places[key] = len(kept)
            kept.append(item)
        numbers.append(places[key])
    return kept, numbers


def describe(item: Item) -> str:
    """A short name of an item: its text, or where it comes from."""
    if item.modality == Modality.TEXT:
        return str(item.source)
    return item.uri or f"{item.modality} in memory"
