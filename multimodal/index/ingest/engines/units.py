"""Units of work, and the messages of a worker about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from multimodal.index.ingest.sources.record import ContainerRead, Shard, SourceRecord
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.table import IndexedDocument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Records in a unit. The first units are small, so that every worker has something to do at once; the largest cost the
# driver the least, and a worker that is lost loses the most.
FIRST_RECORDS, MOST_RECORDS = 64, 1024
GROWTH = 8  # units for each worker, after which they double
SHARD_BYTES = 64 << 10  # of a table or archive, which weigh as much as one record


class Unit(NamedTuple):
    """Records for one worker.

    records: to add; the value of some may be a Shard. known: what the index holds of them, by id, of those that the
    driver has looked up; None for what is new. settled: ids with an outcome, which an earlier worker reported before it
    died. hash_only: the worker reports the hashes of the contents, and adds nothing.
    """

    records: list[SourceRecord]
    known: dict[str, IndexedDocument | None]
    settled: frozenset[str] = frozenset()
    hash_only: bool = False


class Hashed(NamedTuple):
    """The hashes of contents, by id; None for a document that cannot be read."""

    contents: dict[str, str | None]


class Claim(NamedTuple):
    """A worker asks for ids that it found in a table, before it looks them up: no other unit may have them. The answer
    is the set of those that it may not have."""

    ids: list[str]


class Deferred(NamedTuple):
    """Records whose ids a worker may not have now. The driver adds them once it is known what became of the ids."""

    records: list[SourceRecord]


class Count(NamedTuple):
    """A document has an outcome: a field of IngestReport."""

    key: str
    outcome: str


class Skip(NamedTuple):
    """A file is of no known kind."""

    key: str
    kind: str


class Resolve(NamedTuple):
    """A failure no longer applies."""

    key: str


class Warned(NamedTuple):
    """A warning of the package."""

    category: type[Warning]
    message: str


Outcome = Count | Skip | Resolve | FailureRecord | ContainerRead


class Written(NamedTuple):
    """Rows that were written and are not in the index yet, with the outcomes that hold when they are.

    fragments: of LanceDB's table, as JSON. replaces: documents whose stored rows the new ones replace. replaces_rows:
    ids of further stored rows that they replace. samples: vectors (n, dim) of which an index with int8 codes keeps the
    first, by which its recall is measured.
    """

    fragments: list[str]
    replaces: list[str]
    replaces_rows: list[str]
    outcomes: list[Outcome]
    samples: tuple[NDArray[np.float32], ...] = ()


def weight(record: SourceRecord) -> int:
    """How many records of a unit a record counts for."""
    if not isinstance(record.value, Shard):
        return 1
    path, n_bytes = record.value.path, record.value.n_bytes
    try:
        if n_bytes is None:
            n_bytes = path.stat().st_size if isinstance(path, Path) else 0
    except OSError:  # the worker reports it
        return 1
    return 1 + n_bytes // SHARD_BYTES
