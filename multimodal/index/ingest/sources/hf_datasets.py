"""Hugging Face data sets: anything that has `features` and yields rows as dicts. The library itself is not needed.

Media are read as they are stored, without decoding, so that a broken one is found where all files are decoded.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.index.ingest.sources.delimited import BadRow
from multimodal.index.ingest.sources.record import SourceOptions, SourceRecord
from multimodal.index.ingest.sources.rows import MEDIA_FEATURES
from multimodal.index.ingest.sources.rows import records as row_records
from multimodal.index.storage.failures import FailureRecord

NAME = "the data set"


def is_dataset(value: Any) -> bool:
    """Whether a value is a data set.

    Raises InvalidInput for a mapping of splits, of which one must be chosen.
    """
    if isinstance(value, Mapping):
        splits = [str(name) for name, split in value.items() if is_dataset(split)]
        if not splits or len(splits) < len(value):
            return False
        raise InvalidInput(
            f"got a data set with the splits {', '.join(splits)}; pass one of them, such as dataset[{splits[0]!r}]"
        )
    return hasattr(value, "features") and isinstance(value, Iterable)


def records(source: Any, options: SourceOptions) -> Iterator[SourceRecord | FailureRecord]:
    """Yields the documents of a data set; see rows.records."""
    return row_records(_rows(undecoded(source)), options, NAME, source.features)


def undecoded(source: Any) -> Any:
    """The data set with plain Python rows, and with media as {"bytes", "path"}.

    One with a transform of its own (`set_transform`) stays as it is.
    """
    layout = getattr(source, "format", None)
    if isinstance(layout, Mapping) and layout.get("type") == "custom":
        return source
    if hasattr(source, "with_format"):
        columns = layout.get("columns") if isinstance(layout, Mapping) else None
        source = source.with_format(None, columns=columns) if columns else source.with_format(None)
    if hasattr(source, "cast_column"):
        for name, feature in (source.features or {}).items():
            if type(feature).__name__ in MEDIA_FEATURES and getattr(feature, "decode", False):
                stored = copy.copy(feature)
                stored.decode = False
                source = source.cast_column(name, stored)
    return source


def _rows(source: Any) -> Iterator[Any]:
    """Yields rows. One that raises is a BadRow, and those after it are read, if the data set can be read from there."""
    position, reason_before = 0, None
    rows = iter(source)
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # whatever a loader or a transform raises
            reason = f"{type(error).__name__}: {error}"
        else:
            yield row
            position, reason_before = position + 1, None
            continue
        position += 1
        if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
            yield BadRow(reason)
            yield from _rows_by_position(source, position)
            return
        # A stream is read again from its start: if that fails as before, it is the stream rather than its row.
        if reason == reason_before or not hasattr(source, "skip"):
            yield BadRow(f"{reason}; the data set cannot be read any further")
            return
        yield BadRow(reason)
        rows, reason_before = iter(source.skip(position)), reason


def _rows_by_position(source: Any, start: int) -> Iterator[Any]:
    for position in range(start, len(source)):
        try:
            row = source[position]
        except Exception as error:
            yield BadRow(f"{type(error).__name__}: {error}")
        else:
            yield row
