"""Rows in memory, each a dict: of data sets, data frames, Arrow tables, and iterables of dicts.

Each column of images, audio or videos yields a document for each row, and every other column is metadata. Without such
a column, one of paths or texts does, as in a table file. A row without an id is identified by its content.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput, MultimodalError
from multimodal.core.media import registry
from multimodal.index.ingest.sources.delimited import BadRow
from multimodal.index.ingest.sources.record import (
    Blob,
    SourceOptions,
    SourceRecord,
    column_roles,
    id_value,
    media_value,
    row_metadata,
    text_value,
)
from multimodal.index.ingest.sources.tables import column_names, peek
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord

MEDIA_FEATURES = ("Image", "Audio", "Video")

Row = Mapping[str, Any]


def records(
    rows: Iterator[Any], options: SourceOptions, where: str, features: Mapping[str, Any] | None = None
) -> Iterator[SourceRecord | FailureRecord]:
    """Yields a document for each row, or for each media column of it, in order; a failure for each bad row.

    Args:
        rows: Mappings and BadRows; anything else is a bad row.
        options: Metadata for all rows, and the roles of columns.
        where: What the rows are, for messages: "the data set".
        features: The features of a Hugging Face data set, by column.

    Raises:
        InvalidInput: There are no rows, or no column is known to hold what to index; see record.column_roles.
    """
    first, error = peek(rows, (Exception,))
    if not first:
        raise error or InvalidInput(f"{where} has no rows; there is nothing to index")
    readable = [{str(name): cell for name, cell in row.items()} for row in first if isinstance(row, Mapping)]
    columns = dict(options.columns or {})
    media = [] if {"path", "text"} & columns.keys() else _media_columns(readable, features or {})
    roles = columns if media or not readable else column_roles(column_names(readable), columns, where)
    if media and "id" in roles:
        column_roles(column_names(readable), roles | {"path": media[0]}, where)
    if not media and "path" in roles:
        media = [roles["path"]]
    labels = {
        name: feature.int2str for name, feature in (features or {}).items() if hasattr(feature, "int2str")
    }
    reader = _Rows(media, roles, labels, options.metadata)
    return reader.outputs(itertools.chain(first, rows if error is None else _raising(error)))


def is_row(value: object) -> bool:
    """Whether a value is a row of a table rather than an item: a dict, but not one that holds audio."""
    return isinstance(value, Mapping) and not {"array", "sampling_rate"} <= set(value)


def _raising(error: Exception) -> Iterator[Any]:
    raise error
    yield


def _media_columns(rows: list[dict[str, Any]], features: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name in column_names(rows)
        if type(features.get(name)).__name__ in MEDIA_FEATURES
        or (not features and any(_is_media(row.get(name)) for row in rows))
    ]


def _is_media(value: Any) -> bool:
    import PIL.Image

    if isinstance(value, PIL.Image.Image) or hasattr(value, "get_all_samples"):
        return True
    return isinstance(value, Mapping) and (
        {"array", "sampling_rate"} <= set(value) or set(value) == {"bytes", "path"}
    )


class _Rows:
    """media: the columns that hold a document each; without them, one holds texts."""

    def __init__(
        self, media: list[str], roles: dict[str, str], labels: Mapping[str, Any], metadata: Metadata | None
    ) -> None:
        self.media, self.roles, self.labels, self.metadata = media, roles, labels, metadata

    def outputs(self, rows: Iterator[Any]) -> Iterator[SourceRecord | FailureRecord]:
        number = 0
        for row in rows:
            n_rows = row.n_rows if isinstance(row, BadRow) else 1
            name = f"row {number}" if n_rows == 1 else f"rows {number} to {number + n_rows - 1}"
            number += n_rows
            yield from self._documents(name, row)

    def _documents(self, name: str, row: Any) -> Iterator[SourceRecord | FailureRecord]:
        if isinstance(row, BadRow):
            yield _failure(name, row.reason)
            return
        if not isinstance(row, Mapping):
            yield _failure(name, f"expected a dict of cells by column, got a {type(row).__name__}")
            return
        try:
            cells = {str(column): cell for column, cell in row.items()}
            named = {
                column: self._label(column, cells.get(column)) for column in self.labels if column in cells
            }
            metadata = (self.metadata or {}) | row_metadata(
                cells | named, [*self.media, *self.roles.values()]
            )
            row_id = id_value(cells.get(self.roles["id"]), self.roles["id"]) if "id" in self.roles else None
        except Exception as error:  # whatever a cell raises, one row must not end a job of hours
            yield _failure(name, _reason(error))
            return
        for column in self.media or [self.roles["text"]]:
            id_ = f"{row_id}/{column}" if row_id is not None and len(self.media) > 1 else row_id
            try:
                value = _decoded(cells.get(column)) if self.media else text_value(cells.get(column), column)
            except Exception as error:
                yield _failure(name, _reason(error))
            else:
                yield SourceRecord(value, name, id_, metadata, split_text=True)

    def _label(self, column: str, value: Any) -> Any:
        """The name of a class; a number that the data set has no name for, such as -1 for none, stays."""
        if not isinstance(value, int):
            return value
        try:
            return self.labels[column](value)
        except (ValueError, IndexError):
            return value


def _decoded(value: Any) -> object:
    if hasattr(value, "get_all_samples"):  # audio as `datasets` decodes it: a decoder of torchcodec
        samples = value.get_all_samples()
        return {"array": samples.data.numpy(), "sampling_rate": int(samples.sample_rate)}
    media = media_value(value, "", Path("table"))
    return registry.open_item(media.data) if isinstance(media, Blob) else media


def _failure(name: str, reason: str) -> FailureRecord:
    return FailureRecord(name, name, "read", f"{name}: {reason}")


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MultimodalError) else f"{type(error).__name__}: {error}"
