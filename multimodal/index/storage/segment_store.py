"""Segments kept beside the index for searching: derived from its rows, built on first need, safe to delete.

    INDEX/search/state.json     the manifest: which of the folders below are valid; replaced atomically
    INDEX/search/part-*/        a segment
    INDEX/search/basis-*/       the projection of the binary codes of all segments

Up to `SearchConfig.max_memory_rows` rows are read into memory by each process. More rows become a segment in files,
which all processes share; for an index on an object store they lie in a local cache (remote/cache.py). One process
builds a segment while others that need it wait. Where nothing can be written, segments stay in memory. A killed process
leaves at most a folder that no manifest names, which the next one removes.
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
from multimodal.index.config import DEFAULT, SearchConfig
from multimodal.index.storage import codes
from multimodal.index.storage.codes import Projection
from multimodal.index.storage.memory import release_memory
from multimodal.index.storage.segment import Segment
from multimodal.index.storage.snapshot import LatestVersion, Snapshot
from multimodal.index.storage.vector_formats import BITS, FLOAT32, INT16, RemoteVectors, VectorFormat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER, MANIFEST_FILE, LOCK_FILE = "search", "state.json", "lock"
SEGMENT_PREFIX, PROJECTION_PREFIX = "part-", "basis-"
FORMAT = 3  # segments of any other format are rebuilt
VERIFIED_ROWS = 8  # rows from all over, and as many of the newest, that are compared with the table
CODE_TOLERANCE = 16  # of 256 bits: those whose sign faster arithmetic may change
VECTOR_TOLERANCE = 2e-5  # largest difference of a vector from itself after normalisation, and as int16


@dataclass(frozen=True, eq=False)
class Manifest:
    """The segments in files, or in memory where files cannot be written.

    folder_names: of the projection, then of each segment. mean_rows: rows in the index when the mean was computed.
    """

    projection: Projection | None = None
    segments: tuple[Segment, ...] = ()
    folder_names: tuple[str, ...] = ()
    mean_rows: int = 0

    @property
    def n_rows(self) -> int:
        return sum(map(len, self.segments))

    @property
    def last_row_id(self) -> int:
        """The highest row id of any segment; -1 if there is none."""
        return max((int(segment.row_ids.max()) for segment in self.segments), default=-1)


@dataclass(frozen=True, eq=False)
class SegmentedSnapshot:
    """All rows of one snapshot in segments.

    tail: rows in memory, newer than the manifest's segments. live: for each segment, a mask (n,) of the rows that the
    snapshot still has; None if it has all of them.
    """

    snapshot: Snapshot
    manifest: Manifest
    tail: Segment
    live: tuple[NDArray[np.bool_] | None, ...]

    @property
    def segments(self) -> tuple[Segment, ...]:
        return (*self.manifest.segments, self.tail)

    @property
    def n_rows(self) -> int:
        pairs = zip(self.segments, self.live, strict=True)
        return sum(len(segment) if mask is None else int(mask.sum()) for segment, mask in pairs)


class SegmentStore:
    """Builds and loads the segments of an index."""

    def __init__(self, folder: Path, latest: LatestVersion, config: SearchConfig = DEFAULT) -> None:
        """folder: that of the index, or of what is cached of it."""
        self.folder = folder / FOLDER
        self.latest = latest
        self.config = config
        self._current: Snapshot | None = None  # from which vectors are read that segments do not hold

    def load(self, previous: SegmentedSnapshot | None = None) -> SegmentedSnapshot:
        """The latest version in segments; `previous` itself if it is still the latest."""
        if previous is not None and previous.snapshot.version == self.latest.version:
            return previous
        snapshot = self._current = self.latest.snapshot()
        manifest = self._read() if previous is None else previous.manifest
        return (
            catch_up(snapshot, manifest, self.config, previous)
            or catch_up(snapshot, self._read(), self.config)  # another process may have built them
            or self.rebuild()
        )

    def prepare(self) -> None:
        """Builds in files what the next `load` would have to build, if they can be written."""
        if self.latest.count() > self.config.max_memory_rows:
            with contextlib.suppress(OSError), self._locked():
                self._build(self.folder, self._read())
            release_memory()

    def rebuild(self) -> SegmentedSnapshot:
        """The latest version, with all but its newest rows in segment files."""
        try:
            with self._locked():
                return self._build(self.folder, self._read())
        except OSError:  # no space or no permission: each process keeps its own segments in memory
            return self._build(None, Manifest())

    def _build(self, folder: Path | None, manifest: Manifest) -> SegmentedSnapshot:
        snapshot, config = self.latest.snapshot(), self.config
        self._current, vector_format = snapshot, self._format()
        segmented = catch_up(snapshot, manifest, config)
        if segmented is None and can_grow(snapshot, manifest, config):
            segmented = catch_up(snapshot, _grow(snapshot, manifest, folder, vector_format), config)
        if segmented is None and snapshot.count() <= config.max_memory_rows:
            segmented = catch_up(snapshot, _publish(Manifest(), folder), config)
        if segmented is None:
            fresh = _new_manifest(snapshot, folder, config.projection_rows)
            segmented = catch_up(snapshot, _grow(snapshot, fresh, folder, vector_format), config)
        if segmented is None:
            raise IndexStateError(
                f"the rows of the index at {str(self.latest.path)!r} are inconsistent: the index is damaged; restore "
                "it from a copy, or create a new one"
            )
        return segmented

    def _read(self) -> Manifest:
        """The manifest in files; an empty one if there is none, or if what it names cannot be read."""
        for _ in range(3):  # another process may be removing the folders of an older manifest
            try:
                state = json.loads((self.folder / MANIFEST_FILE).read_text(encoding="utf-8"))
                if state["format"] != FORMAT or not state["names"]:
                    break
                first, *others = state["names"]
                projection = Projection.read(self.folder / first)
                segments = tuple(Segment.read(self.folder / name, self._format()) for name in others)
                return Manifest(projection, segments, tuple(state["names"]), state["mean_of"])
            except (OSError, EOFError, ValueError, KeyError, TypeError):
                continue
        return Manifest()

    def _format(self) -> VectorFormat:
        """How segments store vectors."""
        metadata = self.latest.index_metadata
        if metadata.vectors == BITS:
            return VectorFormat(BITS, metadata.dim, read=self._read_vectors)
        if metadata.vectors == FLOAT32:
            return VectorFormat(INT16, metadata.dim)
        return self.latest.vectors.format

    def _read_vectors(self, row_ids: list[int]) -> dict[int, NDArray[np.float32]]:
        snapshot = self._current or self.latest.snapshot()
        return snapshot.vectors(row_ids)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time; the lock ends with the process. Raises OSError."""
        import fcntl

        self.folder.mkdir(exist_ok=True)
        with (self.folder / LOCK_FILE).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _new_manifest(snapshot: Snapshot, folder: Path | None, sample_rows: int) -> Manifest:
    """A new projection, and no segment yet."""
    projection, mean_rows = Projection.around(snapshot.mean_vector(sample_rows)), snapshot.count()
    if folder is None:
        return Manifest(projection, mean_rows=mean_rows)
    with _new_folder(folder, PROJECTION_PREFIX) as path:
        projection.write(path)
    return Manifest(projection, folder_names=(path.name,), mean_rows=mean_rows)


def _grow(
    snapshot: Snapshot, manifest: Manifest, folder: Path | None, vector_format: VectorFormat
) -> Manifest:
    """Adds one segment of all rows after those in the manifest's segments."""
    projection, batches = manifest.projection, snapshot.batches(after=manifest.last_row_id)
    if projection is None:
        raise ValueError("a segment needs a projection")
    if folder is None:
        segment = Segment.build(batches, projection, vector_format=vector_format)
        return replace(manifest, segments=(*manifest.segments, segment))
    with _new_folder(folder, SEGMENT_PREFIX) as path:
        segment = Segment.build(batches, projection, path, vector_format)
    grown = replace(
        manifest,
        segments=(*manifest.segments, segment),
        folder_names=(*manifest.folder_names, path.name),
    )
    return _publish(grown, folder)


def _publish(manifest: Manifest, folder: Path | None) -> Manifest:
    """Makes a manifest the valid one, and removes all folders that it does not name."""
    if folder is None:
        return manifest
    state = {"format": FORMAT, "names": manifest.folder_names, "mean_of": manifest.mean_rows}
    new = folder / f"{MANIFEST_FILE}.new"
    with new.open("w", encoding="utf-8") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / MANIFEST_FILE)
    for path in folder.iterdir():
        if path.is_dir() and path.name not in manifest.folder_names:
            shutil.rmtree(path, ignore_errors=True)  # processes that still map its files keep them
    return manifest


@contextlib.contextmanager
def _new_folder(folder: Path, prefix: str) -> Iterator[Path]:
    """A new folder, which is removed if the block raises."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        path.chmod(0o755)  # other users may read the index
        yield path
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def catch_up(
    snapshot: Snapshot,
    manifest: Manifest,
    config: SearchConfig = DEFAULT,
    previous: SegmentedSnapshot | None = None,
) -> SegmentedSnapshot | None:
    """A snapshot on top of existing segments; None if too much has changed since they were written.

    previous: an earlier snapshot on top of the same segments, whose rows in memory are not read again.
    """
    base = previous if previous is not None and previous.manifest is manifest else None
    tail = Segment.empty(snapshot.index_metadata.dim) if base is None else base.tail
    last = max(manifest.last_row_id, int(tail.row_ids.max()) if len(tail) else -1)
    new_row_ids = snapshot.row_ids(after=last)
    if len(tail) + len(new_row_ids) > config.max_memory_rows:
        return None
    masks = (None,) * len(manifest.segments) if base is None else base.live[:-1]
    if len(new_row_ids):
        tail = tail.append(snapshot.batches(after=last))
    segmented, total = SegmentedSnapshot(snapshot, manifest, tail, (*masks, None)), snapshot.count()
    if segmented.n_rows != total:
        row_ids = snapshot.row_ids()
        tail = tail.filter(tail.mask(row_ids))
        masks = tuple(_none_if_all(segment.mask(row_ids)) for segment in manifest.segments)
        segmented = SegmentedSnapshot(snapshot, manifest, tail, (*masks, None))
        stale = manifest.n_rows - (segmented.n_rows - len(tail))
        if segmented.n_rows != total or stale > config.max_stale_share * manifest.n_rows:
            return None
    return segmented if _matches_table(segmented) else None


def _matches_table(segmented: SegmentedSnapshot) -> bool:
    """Whether the segments belong to this index, and not to an earlier one at the same path with the same row ids.

    Only reading all rows could prove it. Rows written since the earlier index differ among the newest ones.
    """
    import numpy as np

    dim = segmented.snapshot.index_metadata.dim
    row_ids, vectors = [np.empty(0, np.uint64)], [np.empty((0, dim), np.float32)]
    for segment, mask in zip(segmented.segments, segmented.live, strict=True):
        positions = segment.sorted_positions
        if mask is not None:
            positions = positions[mask[positions]]
        n = -(-VERIFIED_ROWS // len(segmented.segments))
        chosen = np.concatenate([positions[:: max(1, len(positions) // n)], positions[-n:]])
        if isinstance(segment.vectors, RemoteVectors):
            if not _codes_match(segment, chosen, segmented.manifest.projection):
                return False
            continue
        row_ids.append(segment.row_ids[chosen])
        vectors.append(segment.vectors[chosen])
    stored = segmented.snapshot.vectors(np.unique(np.concatenate(row_ids)).tolist())
    pairs = zip(np.concatenate(row_ids).tolist(), np.concatenate(vectors), strict=True)
    return all(
        row_id in stored and np.abs(stored[row_id] - vector).max() < VECTOR_TOLERANCE
        for row_id, vector in pairs
    )


def _codes_match(segment: Segment, chosen: NDArray[np.intp], projection: Projection | None) -> bool:
    """Whether rows of a segment without vectors have the codes of the table's vectors."""
    import numpy as np

    if projection is None or segment.fine_codes is None:
        return False
    fine = projection.encode(segment.vectors[chosen])[:, codes.COARSE_WORDS :]
    differing = np.bitwise_count(fine ^ segment.fine_codes[chosen]).sum(axis=1, dtype=np.int64)
    return bool((differing <= CODE_TOLERANCE).all())


def can_grow(snapshot: Snapshot, manifest: Manifest, config: SearchConfig = DEFAULT) -> bool:
    """Whether one more segment suffices; otherwise all segments must be rebuilt."""
    if not 0 < len(manifest.segments) < config.max_segments:
        return False
    if snapshot.count() > config.projection_growth * manifest.mean_rows:
        return False
    row_ids = snapshot.row_ids()
    kept = sum(int(segment.mask(row_ids).sum()) for segment in manifest.segments)
    fresh = int((row_ids > manifest.last_row_id).sum())
    enough = kept >= (1 - config.max_stale_share) * manifest.n_rows
    return enough and kept + fresh == len(row_ids) and fresh > 0


def _none_if_all(mask: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    return None if mask.all() else mask
