"""What a search reads, kept beside the index: derived from its rows, made when first needed, of no use on its own.

    INDEX/search/state.json     which of the others count, replaced at one stroke
    INDEX/search/part-*/        a part
    INDEX/search/basis-*/       what the sketches of all parts are taken by

Few rows (TAIL_ROWS) are read into memory by each process; more of them become a part in files, which all processes
share. One process makes a part, and others that need it wait. Where nothing can be written it stays in memory. A
process that is killed leaves at most a folder that no state names, and the next one removes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.core.errors import IndexStateError
from multimodal.index.storage.codes import Basis
from multimodal.index.storage.segment import Part
from multimodal.index.storage.snapshot import Newest, Version

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER, STATE, LOCK = "search", "state.json", "lock"
FORMAT = 3  # what has another one is made anew
TAIL_ROWS = 20_000  # compared row by row in 1 ms, at 512 numbers a row
MAX_PARTS = 32
GONE_SHARE = 0.25  # so much of what is in files may be rows that are gone
DRIFT = 4  # so many times the rows of which the mean was taken, before it is taken again
MEAN_ROWS = 4096  # from all over the index, of which the mean is taken
CHECKED = (
    8  # rows from all over, and as many of the newest, by which it is seen whether all this is of that index
)
ROUNDED = 1e-5  # how far a vector that was made of length one may differ from itself


@dataclass(frozen=True, eq=False)
class Filed:
    """The parts in files, or, where these cannot be, in memory. names: of the folders, that of the basis first.
    mean_of: how many rows there were when the mean was taken."""

    basis: Basis | None = None
    parts: tuple[Part, ...] = ()
    names: tuple[str, ...] = ()
    mean_of: int = 0

    @property
    def n(self) -> int:
        return sum(map(len, self.parts))

    @property
    def last(self) -> int:
        """The highest number in any part; -1 if there is none."""
        return max((int(part.numbers.max()) for part in self.parts), default=-1)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All rows of one version. live: for each part, which of its rows this version has; None for all."""

    version: Version
    filed: Filed
    tail: Part
    live: tuple[NDArray[np.bool_] | None, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        return (*self.filed.parts, self.tail)

    @property
    def n(self) -> int:
        both = zip(self.parts, self.live, strict=True)
        return sum(len(part) if mask is None else int(mask.sum()) for part, mask in both)


class Cache:
    """Makes snapshots of an index."""

    def __init__(self, index: Path, newest: Newest) -> None:
        self.folder = index / FOLDER
        self.newest = newest

    def snapshot(self, before: Snapshot | None = None) -> Snapshot:
        """Of the newest version; `before` itself if that is it."""
        if before is not None and before.version.number == self.newest.number:
            return before
        version = self.newest.version()
        return (
            caught_up(version, self._read() if before is None else before.filed, before)
            or caught_up(version, self._read())  # another process may have done it
            or self.renewed()
        )

    def prepare(self) -> None:
        """Does in files what the next snapshot would have to do, if they can be written."""
        if self.newest.version().count() > TAIL_ROWS:
            with contextlib.suppress(OSError), self._locked():
                self._filed(self.folder, self._read())

    def renewed(self) -> Snapshot:
        """With all rows but a few in files."""
        try:
            with self._locked():
                return self._filed(self.folder, self._read())
        except OSError:  # no place, or no right to write: every process for itself, as long as it lives
            return self._filed(None, Filed())

    def _filed(self, folder: Path | None, filed: Filed) -> Snapshot:
        version = self.newest.version()
        found = caught_up(version, filed)
        if found is None and can_grow(version, filed):
            found = caught_up(version, _grown(version, filed, folder))
        if found is None and version.count() <= TAIL_ROWS:
            found = caught_up(version, _published(Filed(), folder))
        if found is None:
            found = caught_up(version, _grown(version, _begun(version, folder), folder))
        if found is None:
            raise IndexStateError(
                f"the rows of the index at {str(self.folder.parent)!r} do not add up: it is damaged; restore it from a "
                "copy, or make it anew"
            )
        return found

    def _read(self) -> Filed:
        """What the state names; nothing if there is no state, or what it names cannot be read."""
        for _ in range(3):  # another process may just be removing what an older state named
            try:
                state = json.loads((self.folder / STATE).read_text(encoding="utf-8"))
                if state["format"] != FORMAT or not state["names"]:
                    break
                first, *others = state["names"]
                basis = Basis.read(self.folder / first)
                parts = tuple(Part.read(self.folder / name) for name in others)
                return Filed(basis, parts, tuple(state["names"]), state["mean_of"])
            except (OSError, EOFError, ValueError, KeyError, TypeError):
                continue
        return Filed()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time; the lock goes with the process, however it ends. Raises OSError."""
        import fcntl

        self.folder.mkdir(exist_ok=True)
        with (self.folder / LOCK).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _begun(version: Version, folder: Path | None) -> Filed:
    """A new basis, and no part yet."""
    basis, mean_of = Basis.around(version.mean(MEAN_ROWS)), version.count()
    if folder is None:
        return Filed(basis, mean_of=mean_of)
    with _new(folder, "basis-") as made:
        basis.write(made)
    return Filed(basis, names=(made.name,), mean_of=mean_of)


def _grown(version: Version, filed: Filed, folder: Path | None) -> Filed:
    """With one more part, of all rows after those in files."""
    basis, rows = filed.basis, version.batches(after=filed.last)
    if basis is None:
        raise ValueError("a part needs a basis")
    if folder is None:
        return replace(filed, parts=(*filed.parts, Part.large(rows, basis)))
    with _new(folder, "part-") as made:
        part = Part.large(rows, basis, made)
    return _published(replace(filed, parts=(*filed.parts, part), names=(*filed.names, made.name)), folder)


def _published(filed: Filed, folder: Path | None) -> Filed:
    """Makes these the parts that count, and removes all others."""
    if folder is None:
        return filed
    state = {"format": FORMAT, "names": filed.names, "mean_of": filed.mean_of}
    new = folder / f"{STATE}.new"
    with new.open("w", encoding="utf-8") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / STATE)
    for one in folder.iterdir():
        if one.is_dir() and one.name not in filed.names:
            shutil.rmtree(one, ignore_errors=True)  # whoever still reads it keeps it until then
    return filed


@contextlib.contextmanager
def _new(folder: Path, prefix: str) -> Iterator[Path]:
    """A new folder, which goes again if the block fails."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        made.chmod(0o755)  # for readers who are someone else
        yield made
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def caught_up(version: Version, filed: Filed, before: Snapshot | None = None) -> Snapshot | None:
    """A snapshot of a version on top of what is in files; None if too much has changed since that was written.

    before: an earlier one on top of the same files, whose rows in memory are not read again.
    """
    known = before if before is not None and before.filed is filed else None
    tail = Part.empty(version.about.dim) if known is None else known.tail
    last = max(filed.last, int(tail.numbers.max()) if len(tail) else -1)
    fresh = version.numbers(after=last)
    if len(tail) + len(fresh) > TAIL_ROWS:
        return None
    masks = (None,) * len(filed.parts) if known is None else known.live[:-1]
    if len(fresh):
        tail = tail.with_more(version.batches(after=last))
    found, total = Snapshot(version, filed, tail, (*masks, None)), version.count()
    if found.n != total:
        numbers = version.numbers()
        tail = tail.only(tail.mask(numbers))
        masks = tuple(_unless_all(part.mask(numbers)) for part in filed.parts)
        found = Snapshot(version, filed, tail, (*masks, None))
        gone = filed.n - (found.n - len(tail))
        if found.n != total or gone > GONE_SHARE * filed.n:
            return None
    return found if _agrees(found) else None


def _agrees(snapshot: Snapshot) -> bool:
    """Whether the parts are of this very index, and not of one that lay here before and numbered its rows alike.

    That could only be known for certain by reading all of it. Rows that were written since differ in the newest ones.
    """
    import numpy as np

    numbers, vectors = [np.empty(0, np.uint64)], [np.empty((0, snapshot.version.about.dim), np.float32)]
    for part, mask in zip(snapshot.parts, snapshot.live, strict=True):
        places = part.in_order if mask is None else part.in_order[mask[part.in_order]]
        n = -(-CHECKED // len(snapshot.parts))
        chosen = np.concatenate([places[:: max(1, len(places) // n)], places[-n:]])
        numbers.append(part.numbers[chosen])
        vectors.append(part.vectors[chosen])
    there = snapshot.version.vectors(np.unique(np.concatenate(numbers)).tolist())
    pairs = zip(np.concatenate(numbers).tolist(), np.concatenate(vectors), strict=True)
    return all(one in there and np.abs(there[one] - vector).max() < ROUNDED for one, vector in pairs)


def can_grow(version: Version, filed: Filed) -> bool:
    """Whether one more part makes files good again, or all must be written anew."""
    if not 0 < len(filed.parts) < MAX_PARTS or version.count() > DRIFT * filed.mean_of:
        return False
    numbers = version.numbers()
    kept = sum(int(part.mask(numbers).sum()) for part in filed.parts)
    fresh = int((numbers > filed.last).sum())
    return kept >= (1 - GONE_SHARE) * filed.n and kept + fresh == len(numbers) and fresh > 0


def _unless_all(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return None if mask.all() else mask
