"""Hugging Face data sets: anything that has `features` and yields rows as dicts. The library itself is not needed.

Each column of images, audio or videos yields a document for each row, and every other column is metadata. Without such
a column, a column of texts does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text
from multimodal.index.ingest.sources.record import (
    SourceOptions,
    SourceRecord,
    column_roles,
    media_value,
    row_metadata,
)
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord

MEDIA_FEATURES = ("Image", "Audio", "Video")

DatasetRow = Mapping[str, Any]


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
    """Yields a document for each row, or for each media column of it, in order.

    Raises InvalidInput if there are no rows, or no column is known to hold what to index; see record.column_roles.
    """
    columns = options.columns
    rows = iter(source)
    first = next(rows, None)
    if first is None:
        raise InvalidInput("the data set has no rows; there is nothing to index")
    features = source.features or {}
    media = _media_columns(first, features) if not {"path", "text"} & (columns or {}).keys() else []
    roles = dict(columns or {}) if media else column_roles(list(first), columns, "the data set")
    if not media and "path" in roles:
        media = [roles["path"]]
    labels = {name: feature.int2str for name, feature in features.items() if hasattr(feature, "int2str")}
    return _documents(itertools.chain([first], rows), media, roles, labels, options.metadata)


def _media_columns(row: DatasetRow, features: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, value in row.items()
        if type(features.get(name)).__name__ in MEDIA_FEATURES or (not features and _is_media(value))
    ]


def _is_media(value: Any) -> bool:
    import PIL.Image

    if isinstance(value, PIL.Image.Image) or hasattr(value, "get_all_samples"):
        return True
    return isinstance(value, Mapping) and (
        {"array", "sampling_rate"} <= set(value) or set(value) == {"bytes", "path"}
    )


def _documents(
    rows: Iterable[DatasetRow],
    media: list[str],
    roles: dict[str, str],
    labels: Mapping[str, Any],
    metadata: Metadata | None,
) -> Iterator[SourceRecord | FailureRecord]:
    for number, row in enumerate(rows):
        name = f"row {number}"
        label_names = {
            column: to_str(row[column])
            for column, to_str in labels.items()
            if isinstance(row.get(column), int)
        }
        merged = (metadata or {}) | row_metadata(dict(row) | label_names, [*media, *roles.values()])
        row_id = str(row[roles["id"]]) if "id" in roles else None
        if not media:
            yield SourceRecord(Text(str(row[roles["text"]])), name, row_id, merged, split_text=True)
        for column in media:
            id_ = f"{row_id}/{column}" if row_id is not None and len(media) > 1 else row_id
            try:
                yield SourceRecord(_decoded(row[column], name), name, id_, merged, split_text=True)
            except InvalidInput as error:
                yield FailureRecord(name, name, "read", f"{name}: {error}")


def _decoded(value: Any, name: str) -> object:
    if hasattr(value, "get_all_samples"):  # audio in `datasets` 4: a decoder of torchcodec
        samples = value.get_all_samples()
        return {"array": samples.data.numpy(), "sampling_rate": int(samples.sample_rate)}
    return media_value(value, name, Path())
