"""Rows and vectors on disk, in LanceDB. The only module that knows it: everything else sees plain values.

One table, `items`. What the index is (its space, the version of this layout) lies in the schema of the table, so it
is there exactly if the table is.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.errors import IndexStateError
from multimodal.index.filters import is_in
from multimodal.index.results import Metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TABLE = "items"
ABOUT_KEY = b"multimodal.index"
FORMAT = 1  # raised when an older reader could no longer understand the index
COLUMNS = ["id", "uri", "modality", "text", "metadata"]
IDS_A_STATEMENT = 1000
MAX_SMALL_FILES = 64
KEEP_OLD_VERSIONS = timedelta(hours=1)  # what was replaced stays that long, for searches that began before
UNIQUE = {
    "lance-schema:unenforced-primary-key": "true"
}  # two processes that add one id at once do not double it


@dataclass(frozen=True)
class About:
    """What an index must know of the space its vectors come from. `address`: what `load` takes to load it again."""

    space: str
    address: str
    fingerprint: str
    dim: int
    modalities: tuple[str, ...]
    format: int = FORMAT


class Row(NamedTuple):
    """One item as stored, without its vector."""

    id: str
    uri: str | None
    modality: str
    text: str | None
    metadata: Metadata


class Store:
    """An open table. Each call sees what other processes have written before it."""

    def __init__(self, path: Path, table: Any, about: About) -> None:
        self.path = path
        self.about = about
        self._table = table

    @classmethod
    def create(cls, path: Path, about: About) -> Store:
        """A new, empty store: all or nothing. Raises IndexStateError if anything is there already."""
        _refuse_existing(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Beside the target, so that the final rename stays on one file system and is atomic.
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
                new = Path(scratch) / "new"
                _connect(new).create_table(TABLE, schema=_schema(about))
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
            table = _connect(path).open_table(TABLE)
            metadata = table.schema.metadata or {}
        except (OSError, ValueError, RuntimeError) as error:
            raise IndexStateError(f"the index at {str(path)!r} is damaged or incomplete ({error}); restore it from a "
                                  "copy, or delete it and make it anew with Index.create")  from error  # fmt: skip
        return cls(path, table, _read_about(path, metadata))

    def upsert(self, rows: Sequence[Row], vectors: NDArray[np.float32]) -> tuple[int, int]:
        """Writes rows and their vectors (n, dim) in one transaction -> (how many ids are new, how many were there).

        Ids must differ from each other.
        """
        operation = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        result = operation.execute(_to_arrow(rows, vectors, self.about))
        return int(result.num_inserted_rows), int(result.num_updated_rows)

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

    def delete(self, ids: Sequence[str]) -> int:
        """Removes rows by id -> how many there were."""
        parts = [ids[start : start + IDS_A_STATEMENT] for start in range(0, len(ids), IDS_A_STATEMENT)]
        return sum(int(self._table.delete(is_in("id", part, "ids")).num_deleted_rows) for part in parts)

    def count(self, condition: str | None = None) -> int:
        """How many rows there are, or meet a condition."""
        return int(self._table.count_rows(condition))

    def rows(
        self, condition: str | None = None, *, vectors: bool = False
    ) -> Iterator[tuple[Row, NDArray[np.float32] | None]]:
        """Every row that meets the condition, batch by batch, with its vector (dim,) if asked."""
        query = self._table.search().select(COLUMNS + ["vector"] * vectors)
        if condition is not None:
            query = query.where(condition)
        for batch in query.to_batches():
            matrix = _vectors(batch, self.about.dim) if vectors else None
            for position, row in enumerate(_rows(batch)):
                yield row, None if matrix is None else matrix[position]

    def nearest(
        self, vector: NDArray[np.float32], n: int, condition: str | None = None
    ) -> tuple[list[Row], NDArray[np.float32], NDArray[np.float32]]:
        """The n rows nearest to a vector, every row compared -> (rows, vectors (n, dim), cosine distances (n,)).

        The condition is applied first, so it never costs results. Of rows equally far, any may be left out.
        """
        query = self._table.search(vector, vector_column_name="vector").distance_type("cosine")
        query = (
            query.bypass_vector_index()
            .limit(max(1, min(n, self.count())))
            .select([*COLUMNS, "vector", "_distance"])
        )
        if condition is not None:
            query = query.where(condition, prefilter=True)
        found = query.to_arrow().combine_chunks()
        return _rows(found), _vectors(found, self.about.dim), found["_distance"].to_numpy()


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


def _connect(path: Path) -> Any:
    import lancedb

    # 0: look for what other processes wrote at every read, instead of never.
    return lancedb.connect(path, read_consistency_interval=timedelta(0))


def _schema(about: About) -> Any:
    import pyarrow as pa

    fields = [
        pa.field("id", pa.string(), nullable=False, metadata=UNIQUE),
        pa.field("uri", pa.string()),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("metadata", pa.json_()),
        pa.field("vector", pa.list_(pa.float32(), about.dim)),
    ]
    return pa.schema(fields, metadata={ABOUT_KEY: json.dumps(asdict(about)).encode()})


def _read_about(path: Path, metadata: dict[bytes, bytes]) -> About:
    values = json.loads(metadata.get(ABOUT_KEY, b"null"))
    if values is None:
        raise IndexStateError(f"{str(path)!r} holds a LanceDB table that multimodal did not make; "
                              "choose another folder for Index.create")  # fmt: skip
    if values["format"] > FORMAT:
        raise IndexStateError(f"the index at {str(path)!r} has format {values['format']}, this version reads up to "
                              f"{FORMAT}: upgrade multimodal")  # fmt: skip
    return About(**values | {"modalities": tuple(values["modalities"])})


def _to_arrow(rows: Sequence[Row], vectors: NDArray[np.float32], about: About) -> Any:
    import pyarrow as pa

    ids, uris, modalities, texts, metadata = zip(*rows, strict=True)
    as_json = pa.array([json.dumps(one, ensure_ascii=False) for one in metadata], pa.string())
    columns = {
        "id": pa.array(ids, pa.string()),
        "uri": pa.array(uris, pa.string()),
        "modality": pa.array(modalities, pa.string()),
        "text": pa.array(texts, pa.string()),
        "metadata": pa.ExtensionArray.from_storage(pa.json_(), as_json),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), about.dim),
    }
    return pa.table(columns, schema=_schema(about))


def _rows(found: Any) -> list[Row]:
    columns = [found[name].to_pylist() for name in COLUMNS]
    return [Row(id_, uri, modality, text, json.loads(metadata)) for id_, uri, modality, text, metadata in
            zip(*columns, strict=True)]  # fmt: skip


def _vectors(found: Any, dim: int) -> NDArray[np.float32]:
    import numpy as np
    import pyarrow as pa

    column = found["vector"]
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.concatenate([np.empty(0, np.float32), *flat]).reshape(-1, dim)
