"""Hugging Face data sets: anything that has `features` and gives rows as dicts. The library itself is not needed here.

A column of pictures, sounds or videos gives a thing for each row, and every other column is metadata. Where there is no
such column, one of texts does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text
from multimodal.index.ingest.sources.record import Entry, about, media, roles
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord

MEDIA_FEATURES = ("Image", "Audio", "Video")

Row = Mapping[str, Any]


def is_dataset(value: Any) -> bool:
    """Whether something is a data set, or several under one name.

    Raises InvalidInput for several, of which one must be chosen.
    """
    if isinstance(value, Mapping):
        splits = [str(name) for name, one in value.items() if is_dataset(one)]
        if not splits or len(splits) < len(value):
            return False
        raise InvalidInput(
            f"a data set with the splits {', '.join(splits)} was given; give one, such as dataset[{splits[0]!r}]"
        )
    return hasattr(value, "features") and isinstance(value, Iterable)


def entries(
    source: Any, metadata: Metadata | None, columns: Mapping[str, str] | None
) -> Iterator[Entry | FailureRecord]:
    """A thing for each row (and each column of media in it), in order.

    Raises InvalidInput if there is no row, or no column that can be told to hold what to index; see entry.roles.
    """
    rows = iter(source)
    first = next(rows, None)
    if first is None:
        raise InvalidInput("the data set has no rows; there is nothing to index")
    features = source.features or {}
    wanted = _media_columns(first, features) if not {"path", "text"} & (columns or {}).keys() else []
    role = dict(columns or {}) if wanted else roles(list(first), columns, "the data set")
    if not wanted and "path" in role:
        wanted = [role["path"]]
    names = {name: one.int2str for name, one in features.items() if hasattr(one, "int2str")}
    return _things(itertools.chain([first], rows), wanted, role, names, metadata)


def _media_columns(row: Row, features: Mapping[str, Any]) -> list[str]:
    return [name for name, value in row.items() if type(features.get(name)).__name__ in MEDIA_FEATURES
            or (not features and _is_media(value))]  # fmt: skip


def _is_media(value: Any) -> bool:
    import PIL.Image

    return isinstance(value, PIL.Image.Image) or hasattr(value, "get_all_samples") or (
        isinstance(value, Mapping) and ({"array", "sampling_rate"} <= set(value) or set(value) == {"bytes", "path"})
    )  # fmt: skip


def _things(
    rows: Iterable[Row],
    wanted: list[str],
    role: dict[str, str],
    names: Mapping[str, Any],
    metadata: Metadata | None,
) -> Iterator[Entry | FailureRecord]:
    for number, row in enumerate(rows):
        labels = {name: to_str(row[name]) for name, to_str in names.items() if isinstance(row.get(name), int)}
        known = (metadata or {}) | about(dict(row) | labels, [*wanted, *role.values()])
        id_ = str(row[role["id"]]) if "id" in role else None
        if not wanted:
            yield Entry(Text(str(row[role["text"]])), f"row {number}", id_, known, cut=True)
        for name in wanted:
            several = f"{id_}/{name}" if id_ is not None and len(wanted) > 1 else id_
            try:
                yield Entry(_decoded(row[name], f"row {number}"), f"row {number}", several, known, cut=True)
            except InvalidInput as error:
                yield FailureRecord(f"row {number}", f"row {number}", "read", f"row {number}: {error}")


def _decoded(value: Any, name: str) -> object:
    if hasattr(value, "get_all_samples"):  # how `datasets` 4 hands out a sound: a decoder of torchcodec
        samples = value.get_all_samples()
        return {"array": samples.data.numpy(), "sampling_rate": int(samples.sample_rate)}
    return media(value, name, Path())
