"""IndexStats: how much an index holds, how its vectors are stored, and what that loses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from multimodal.index.storage.codes import BITS as CODE_BITS
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.table import ItemTable
from multimodal.index.storage.vector_formats import BITS


@dataclass(frozen=True)
class IndexStats:
    """What `Index.stats` returns.

    Attributes:
        n_items: Rows in the index.
        counts: Rows of each modality.
        dim: Dimensions of the space.
        vectors: How vectors are stored, as in `Index.create`; "float32" while the principal components are not yet
            computed.
        stored_bytes: Bytes of each vector in the table.
        scanned_bytes: Bytes of each vector in the files that a large index is searched by, its binary code included.
        recall: The share of the ten nearest in float32 that the stored vectors keep; None if nothing is lost, or the
            index is too small to measure it.
        recall_rows: Vectors among which `recall` was measured.
    """

    n_items: int
    counts: dict[str, int]
    dim: int
    vectors: str
    stored_bytes: int
    scanned_bytes: int
    recall: float | None
    recall_rows: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as a dict of JSON values."""
        return asdict(self)


def statistics(table: ItemTable) -> IndexStats:
    """Measures an index."""
    metadata, stored = table.index_metadata, table.vectors.format
    stored_bytes, scanned_bytes = (1, 1) if stored.dtype == "int8" else (4, 2)  # searched files hold int16
    recall, n_rows = table.vectors.recall() or (None, 0)
    without_vectors = metadata.vectors == BITS
    return IndexStats(
        n_items=table.count(),
        counts={name: table.count(is_in("modality", [name], "modality")) for name in metadata.modalities},
        dim=metadata.dim,
        vectors=metadata.vectors if without_vectors else stored.name,
        stored_bytes=stored.width * stored_bytes,
        scanned_bytes=CODE_BITS // 8 + (0 if without_vectors else stored.width * scanned_bytes),
        recall=None if recall is None else round(recall, 4),
        recall_rows=n_rows,
    )
