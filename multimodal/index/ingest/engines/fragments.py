"""Rows as fragments of LanceDB's table: workers write them, and the driver commits them.

A fragment is a file that no version of the table refers to yet. A commit refers to many at once, and in the same
version leaves out the rows that they replace. A fragment that is never committed, because its worker or the job was
killed, takes up space until old versions are removed, and is otherwise without effect.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from multimodal.core.remote.path import RemotePath
from multimodal.index.storage.creation import TABLE_NAME
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.lock import check_lock
from multimodal.index.storage.table import IDS_PER_STATEMENT, ItemTable

LOG = "LANCE_LOG"
FRAGMENT_BITS = 32  # of a row address, above those of the row in the fragment


class FragmentWriter:
    """Writes fragments of an index."""

    def __init__(self, table: ItemTable) -> None:
        self._dataset = open_dataset(table)

    def write(self, data: Any) -> list[str]:
        """Writes an Arrow table with the schema of the index -> its fragments."""
        from lance.fragment import write_fragments

        return [json.dumps(fragment.to_json()) for fragment in write_fragments(data, self._dataset)]


def open_dataset(table: ItemTable) -> Any:
    """The table of an index, in its latest version, as pylance opens it."""
    os.environ.setdefault(LOG, "error")  # otherwise pylance prints what it does
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pylance is experimental in parts, none of which is used here
        import lance

    options = table.path.storage_options if isinstance(table.path, RemotePath) else None
    return lance.dataset(str(table.path / f"{TABLE_NAME}.lance"), storage_options=options)


def commit(
    table: ItemTable, fragments: Sequence[str], replaces: Sequence[str], replaces_rows: Sequence[str]
) -> None:
    """Adds fragments to an index, and removes the rows that they replace, in one version.

    replaces: ids of documents. replaces_rows: ids of rows. The caller holds the writer lock.
    """
    if not fragments and not replaces:
        return
    check_lock(table.path)
    import lance
    from lance.fragment import FragmentMetadata

    new = [FragmentMetadata.from_json(fragment) for fragment in fragments]
    dataset = open_dataset(table)
    removed, updated = _without_rows(dataset, {"source": replaces, "id": replaces_rows})
    operation = (
        lance.LanceOperation.Update(
            removed_fragment_ids=removed, updated_fragments=updated, new_fragments=new
        )
        if removed or updated
        else lance.LanceOperation.Append(new)
    )
    lance.LanceDataset.commit(dataset, operation, read_version=dataset.version)


def _without_rows(dataset: Any, values: Mapping[str, Sequence[str]]) -> tuple[list[int], list[Any]]:
    """Leaves out the rows with any of these values, by column -> the numbers of the fragments of which nothing remains,
    and the others that change, as they are then."""
    found: dict[int, dict[str, set[str]]] = {}  # by fragment and column
    for column, of_column in values.items():
        for condition in _conditions(column, of_column):
            rows = dataset.scanner(columns=[column], filter=condition, with_row_address=True).to_table()
            addresses = rows["_rowaddr"].to_pylist()
            for value, address in zip(rows[column].to_pylist(), addresses, strict=True):
                found.setdefault(address >> FRAGMENT_BITS, {}).setdefault(column, set()).add(value)
    removed, updated = [], []
    for number, by_column in sorted(found.items()):
        conditions = [is_in(column, sorted(of_column), column) for column, of_column in by_column.items()]
        rest = dataset.get_fragment(number).delete(" OR ".join(conditions))
        if rest is None:
            removed.append(number)
        else:
            updated.append(rest)
    return removed, updated


def _conditions(column: str, values: Sequence[str]) -> list[str]:
    starts = range(0, len(values), IDS_PER_STATEMENT)
    return [is_in(column, values[start : start + IDS_PER_STATEMENT], column) for start in starts]
