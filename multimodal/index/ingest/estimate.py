"""What an add would do, without doing it: how many things of each kind, how many bytes, and about how long.

Kinds are told by the names of files where these tell anything, so that no file need be opened; the time is measured on
some of them, taken evenly from all, which go through the very stages they would go through, but for the writing.
"""

from __future__ import annotations

import mimetypes
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from multimodal.core.errors import MultimodalError
from multimodal.core.media import sniff
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.index.ingest.document import Thing
from multimodal.index.ingest.hashing import TEXT_SUFFIXES
from multimodal.index.ingest.lookup import Blocks, memory
from multimodal.index.ingest.progress import Tally
from multimodal.index.ingest.scheduler import Job, Options
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.record import Blob, Entry, WasRead
from multimodal.index.ingest.sources.resolve import Given
from multimodal.index.results import Estimate
from multimodal.index.storage.failures import FailureRecord, Ledger
from multimodal.index.storage.table import IndexedDocument, ItemTable

SAMPLED = 48  # of each kind
BY_BYTES = ("audio", "video", "text")  # what takes longer the larger it is; a picture is one picture


class _Kind:
    """The things of one kind: how many, how large, and a few of them, each as likely as any other."""

    def __init__(self) -> None:
        self.count = self.n_bytes = 0
        self.sample: list[tuple[Entry, int]] = []
        self._chance = random.Random(0)  # the same things each time

    def push(self, entry: Entry, n_bytes: int) -> None:
        self.count += 1
        self.n_bytes += n_bytes
        if len(self.sample) < SAMPLED:
            self.sample.append((entry, n_bytes))
        elif (place := self._chance.randrange(self.count)) < SAMPLED:
            self.sample[place] = (entry, n_bytes)


class _Nowhere:
    """Stands for a store that has nothing and keeps nothing."""

    path = Path()

    def documents(self, sources: Sequence[str]) -> dict[str, IndexedDocument]:
        return {}

    def upsert(self, *arguments: Any, **options: Any) -> None: ...


def estimate(
    store: ItemTable | None, space: Space, source: object, columns: Mapping[str, str] | None, options: Options
) -> Estimate:
    """See Index.estimate. store: None for an index that is not there yet."""
    given = Given(None, columns, None if store is None else store.path)
    entries = resolve.entries(source, None, given)
    kinds: dict[str, _Kind] = {}
    unchanged = failed = 0
    for thing in _looked(Blocks(entries, store or _Nowhere())):  # type: ignore[arg-type]
        if isinstance(thing, FailureRecord):
            failed += 1
        elif thing.has_same_state or thing.has_same_content:
            unchanged += 1
        elif (kind := _kind(thing)) not in space.modalities:
            failed += 1
        else:
            size = thing.state[0] if thing.path is not None and thing.state else memory(thing.entry.value)
            kinds.setdefault(kind, _Kind()).push(thing.entry, size)
    seconds = sum(_seconds(kind, found, space, options) for kind, found in kinds.items())
    return Estimate(
        {kind: kinds[kind].count for kind in sorted(kinds)},
        sum(found.n_bytes for found in kinds.values()),
        unchanged,
        failed,
        seconds,
        sum(len(found.sample) for found in kinds.values()),
    )


def _looked(blocks: Blocks) -> Iterator[Thing | FailureRecord]:
    while True:
        block = blocks.next()
        if block.error is not None:
            raise block.error
        yield from (one for one in block.things if not isinstance(one, WasRead))
        if block.last:
            return


def _kind(thing: Thing) -> str:
    """The modality of a thing, by its name if that tells; "" if nothing here can tell."""
    if thing.item is not None:
        return str(thing.item.modality)
    name = Path(thing.uri or "")
    if name.suffix.lower() in TEXT_SUFFIXES:
        return str(Modality.TEXT)
    guessed = (mimetypes.guess_type(name.name)[0] or "").partition("/")[0]
    if guessed in ("image", "audio", "video"):
        return guessed
    value = thing.entry.value
    try:
        return str(sniff.sniff(value.data if isinstance(value, Blob) else thing.path or b""))
    except (MultimodalError, OSError):
        return ""


def _seconds(kind: str, found: _Kind, space: Space, options: Options) -> float:
    """How long all of one kind would take, by what a sample took."""
    entries = [entry for entry, _ in found.sample]
    _run(entries[:2], space, options)  # the first things pay for what is loaded once
    took = _run(entries, space, options)
    if kind in BY_BYTES and (n_bytes := sum(size for _, size in found.sample)):
        return took * found.n_bytes / n_bytes
    return took * found.count / len(entries)


def _run(entries: list[Entry], space: Space, options: Options) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        Job(iter(entries), _Nowhere(), space, Tally(Ledger(Path(folder))), options).run()  # type: ignore[arg-type]
        return time.perf_counter() - began
