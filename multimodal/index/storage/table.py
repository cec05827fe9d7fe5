"""Rows and vectors on disk, in LanceDB. With version.py the only module that knows it: all else sees plain values.

One table, `items`. What the index is (its space, the version of this layout) lies in the schema of the table, so it
is there exactly if the table is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.errors import IndexStateError
from multimodal.index.storage import schema as layout
from multimodal.index.storage.filters import begins_with, is_in
from multimodal.index.storage.schema import ORIGIN, SHOWN, About, Origin, Row, read_about, schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TABLE = "items"
IDS_A_STATEMENT = 1000
MAX_SMALL_FILES = 64
METADATA_CACHE_BYTES = 8 << 20
KEEP_OLD_VERSIONS = timedelta(hours=1)  # what was replaced stays that long, for searches that began before


class Known(NamedTuple):
    """What the index holds of one thing: its first row, where it came from, and how many rows it has."""

    row: Row
    origin: Origin
    n_rows: int


class Store:
    """An open table. Each call sees what other processes have written before it."""

    def __init__(self, path: Path, table: Any, about: About) -> None:
        self.path = path
        self.about = about
        self._table = table
        self._see_columns()

    def _see_columns(self) -> None:
        names = set(self._table.schema.names)
        self._shown = [name for name in SHOWN if name in names]
        self._complete = names.issuperset(ORIGIN)

    @classmethod
    def create(cls, path: Path, about: About) -> Store:
        """A new, empty store: all or nothing. Raises IndexStateError if anything is there already."""
        _refuse_existing(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Beside the target, so that the final rename stays on one file system and is atomic.
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
                new = Path(scratch) / "new"
                connect(new).create_table(TABLE, schema=schema(about))
                new.replace(path)
        except OSError as error:
            _refuse_existing(path)  # another process was quicker
            raise IndexStateError(f"cannot make an index at {str(path)!r}: {error.strerror or error}; "
                                  "choose a folder that can be written")  from error  # fmt: skip
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Store:
        """Raises IndexStateError if no index is there, or it cannot be read."""
        if not is_store(path):
            found = "there is no such folder" if not path.exists() else "what is there is no index"
            raise IndexStateError(
                f"no index at {str(path)!r}: {found}; make one with Index.create({str(path)!r}, space)"
            )
        try:
            table = connect(path).open_table(TABLE)
            metadata = table.schema.metadata or {}
        except (OSError, ValueError, RuntimeError) as error:
            raise IndexStateError(f"the index at {str(path)!r} is damaged or incomplete ({error}); restore it from a "
                                  "copy, or delete it and make it anew with Index.create")  from error  # fmt: skip
        return cls(path, table, read_about(path, metadata))

    def complete(self) -> None:
        """Adds the columns that an index of an earlier version lacks; before anything is written."""
        if self._complete:
            return
        names = set(self._table.schema.names)  # another process may have done it since
        if "source" not in names:
            self._table.add_columns({"source": "id"})
        missing = [one for one in layout.added_later() if one.name not in names]
        if missing:
            self._table.add_columns(missing)
        self._see_columns()

    def upsert(
        self,
        rows: Sequence[Row],
        origins: Sequence[Origin],
        vectors: NDArray[np.float32],
        *,
        replacing: Sequence[str] = (),
    ) -> None:
        """Writes rows and their vectors (n, dim) in one transaction; what has the id of one gives way to it.

        Ids must differ from each other. replacing: of these sources, whatever rows are not among the new ones go, in
        the same transaction.
        """
        operation = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        if replacing:
            operation = operation.when_not_matched_by_source_delete(is_in("source", replacing, "replacing"))
        operation.execute(layout.to_arrow(rows, origins, vectors, self.about))

    def tidy(self) -> None:
        """Merges the many small files that many small writes leave, once there are enough to slow a search down."""
        if self._table.stats()["fragment_stats"]["num_small_fragments"] <= MAX_SMALL_FILES:
            return
        try:
            self._table.optimize(cleanup_older_than=KEEP_OLD_VERSIONS)
        except RuntimeError as error:
            if "conflict" not in str(
                error
            ):  # someone wrote meanwhile: nothing is lost, and the next one tidies
                raise

    def optimize(self, *, approximate: bool) -> None:
        """Merges small files and, if asked, builds LanceDB's own index over the vectors, or brings it up to date; else
        such an index is dropped.

        Raises IndexStateError if it cannot be built.
        """
        from lancedb.index import IvfRq

        self._table.optimize(cleanup_older_than=KEEP_OLD_VERSIONS)
        built = [one.name for one in self._table.list_indices() if one.columns == ["vector"]]
        if not approximate:
            for name in built:
                self._table.drop_index(name)
        elif not built:
            try:
                self._table.create_index("vector", config=IvfRq(distance_type="cosine"))
            except (ValueError, RuntimeError) as error:
                raise IndexStateError(
                    f"LanceDB cannot index the vectors at {str(self.path)!r} ({error}); leave out approximate=True"
                ) from error

    def delete(self, ids: Sequence[str]) -> int:
        """Removes rows by their id, or by that of the thing they are a part of -> how many there were."""
        return sum(
            int(
                self._table.delete(
                    " OR ".join(is_in(name, part, "ids") for name in ("id", "source"))
                ).num_deleted_rows
            )
            for part in _parts(ids)
        )

    def known(self, sources: Sequence[str]) -> dict[str, Known]:
        """What the index holds of these things, by id; those it does not hold are left out."""
        found: dict[str, Known] = {}
        if not self._complete:  # an index of an earlier version knows nothing of what its rows were made of
            return found
        for part in _parts(sources):
            for row, origin in self.origins(is_in("source", part, "sources")):
                before = found.get(origin.source, Known(row, origin, 0))
                found[origin.source] = before._replace(n_rows=before.n_rows + 1)
        return found

    def origins(self, condition: str | None = None) -> Iterator[tuple[Row, Origin]]:
        """Every row that meets the condition, with where it came from; without its text, which may be long."""
        names = [name for name in SHOWN if name != "text"]
        query = self._table.search().select([*names, *ORIGIN])
        for batch in (query if condition is None else query.where(condition)).to_batches():
            yield from zip(layout.read_rows(batch), layout.read_origins(batch), strict=True)

    def files_below(self, folder: str) -> Iterator[tuple[Row, Origin]]:
        """Every row of a file below a folder (given with its last separator), by the path it had."""
        return self.origins(
            f"container IS NULL AND (mtime_ns IS NOT NULL OR content IS NULL) AND {begins_with('source', folder)}"
        )

    def whole(self, condition: str) -> tuple[list[Row], list[Origin], NDArray[np.float32]]:
        """All there is of the rows that meet a condition, at once -> (rows, origins, vectors (n, dim))."""
        found = self._table.search().select([*SHOWN, *ORIGIN, "vector"]).where(condition).to_arrow()
        found = found.combine_chunks()
        return layout.read_rows(found), layout.read_origins(found), layout.read_vectors(found, self.about.dim)

    def count(self, condition: str | None = None) -> int:
        """How many rows there are, or meet a condition."""
        return int(self._table.count_rows(condition))

    def rows(
        self, condition: str | None = None, *, vectors: bool = False
    ) -> Iterator[tuple[Row, NDArray[np.float32] | None]]:
        """Every row that meets the condition, batch by batch, with its vector (dim,) if asked."""
        query = self._table.search().select(self._shown + ["vector"] * vectors)
        if condition is not None:
            query = query.where(condition)
        for batch in query.to_batches():
            matrix = layout.read_vectors(batch, self.about.dim) if vectors else None
            for position, row in enumerate(layout.read_rows(batch)):
                yield row, None if matrix is None else matrix[position]


def is_store(path: Path) -> bool:
    """Whether an index lies at a path."""
    return (path / f"{TABLE}.lance").is_dir()


def _refuse_existing(path: Path) -> None:
    above = next(one for one in path.parents if one.exists())
    if not above.is_dir():
        raise IndexStateError(f"cannot make an index at {str(path)!r}: {str(above)!r} is a file, not a folder; "
                              "choose another path")  # fmt: skip
    if is_store(path):
        raise IndexStateError(f"there is an index at {str(path)!r} already: open it with Index.open({str(path)!r}), "
                              "or delete the folder to begin anew")  # fmt: skip
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        what = "a folder that is not empty" if path.is_dir() else "a file"
        raise IndexStateError(
            f"cannot make an index at {str(path)!r}: {what} is there; choose a new or empty folder"
        )


def connect(path: Path) -> Any:
    import lancedb

    # Every version of the list of files is kept in that cache, and a long job makes thousands of them.
    session = lancedb.Session(metadata_cache_size_bytes=METADATA_CACHE_BYTES)
    # 0: look for what other processes wrote at every read, instead of never.
    return lancedb.connect(path, read_consistency_interval=timedelta(0), session=session)


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + IDS_A_STATEMENT] for start in range(0, len(values), IDS_A_STATEMENT))
