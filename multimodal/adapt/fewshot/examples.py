"""Reads labelled examples: pairs, a mapping, a folder with one folder per label, or a CSV file."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput, MediaError, MediaNotFound, MissingExtra, UnsupportedModality
from multimodal.core.items import Item, Text, to_item
from multimodal.core.media.inputs import as_list
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXPECTED = "pairs (item, label), a mapping {label: items}, a folder with one folder per label, or a CSV file"
PATH_COLUMNS = ("path", "file", "file_name", "image", "audio", "video", "uri")
TEXT_COLUMN, LABEL_COLUMN = "text", "label"
BATCH = 32
EXAMPLE_ERRORS = (MediaError, MissingExtra, UnsupportedModality, InvalidInput)


@dataclass(frozen=True)
class SkippedExample:
    """An example that could not be read or encoded.

    Attributes:
        name: Its path, its text, or its position among the examples.
        label: Its label.
        reason: The message of the error.
    """

    name: str
    label: str
    reason: str


@dataclass(frozen=True)
class EncodedExamples:
    """Examples as vectors.

    Attributes:
        vectors: (n, dim) unit rows.
        names: Of each: its path, its text, or its position.
        labels: Of each.
        modalities: Of each.
        skipped: The examples that failed.
        n_duplicates: How many examples were left out as exact copies of another.
    """

    vectors: NDArray[np.float32]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    modalities: tuple[str, ...]
    skipped: tuple[SkippedExample, ...]
    n_duplicates: int


def read_examples(source: Any) -> list[tuple[Any, str]]:
    """(value for `to_item`, label) of each example. Raises InvalidInput, MediaNotFound."""
    if isinstance(source, str | os.PathLike):
        return _from_path(Path(source).expanduser())
    if isinstance(source, Mapping):
        pairs: Iterable[Any] = _from_mapping(source)
    elif isinstance(source, Iterable):
        pairs = source
    else:
        raise InvalidInput(f"examples must be {EXPECTED}; got {type(source).__name__}")
    examples = []
    for number, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise InvalidInput(f"example {number} must be a pair (item, label); got {pair!r:.80}")
        examples.append((pair[0], check_label(pair[1], f"example {number}")))
    if not examples:
        raise InvalidInput(f"there are no examples; give {EXPECTED}")
    return examples


def check_label(label: object, owner: str) -> str:
    """The label. Raises InvalidInput unless it is a word or more."""
    if not isinstance(label, str) or not label.strip():
        raise InvalidInput(f"{owner} has the label {label!r:.80}; a label is a word or more")
    return label


def _from_mapping(source: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    for label, value in source.items():
        listed = as_list(value)
        yield from ((item, label) for item in ([value] if listed is None else listed))


def _from_path(path: Path) -> list[tuple[Any, str]]:
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        raise MediaNotFound(f"{path}: no such file or folder; examples are {EXPECTED}")
    if path.suffix.lower() != ".csv":
        raise InvalidInput(f"{path} is neither a folder nor a .csv file; examples are {EXPECTED}")
    return _from_csv(path)


def _from_folder(folder: Path) -> list[tuple[Any, str]]:
    groups = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    examples: list[tuple[Any, str]] = []
    for group in groups:
        files = sorted(path for path in group.rglob("*") if path.is_file() and not _is_hidden(path, group))
        examples += [(file, group.name) for file in files]
    if not examples:
        raise InvalidInput(
            f"{folder} has no files in folders of its own; put the examples of each label into a folder that is "
            "named after it, as photos/heron/1.jpg"
        )
    return examples


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _from_csv(file: Path) -> list[tuple[Any, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            columns = [name for name in reader.fieldnames or () if name]
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{file} is not a CSV file in UTF-8 ({error})") from error
    path_column = next((name for name in PATH_COLUMNS if name in columns), None)
    if LABEL_COLUMN not in columns or (path_column is None and TEXT_COLUMN not in columns):
        raise InvalidInput(
            f"{file} has the columns {', '.join(columns) or 'none'}; it needs 'label', and 'path' for files or 'text'"
        )
    examples = []
    for number, row in enumerate(rows, 2):  # the header is line 1
        label = check_label(row[LABEL_COLUMN], f"{file}, line {number},")
        if path_column is not None and row[path_column]:
            examples.append((file.parent / Path(row[path_column]).expanduser(), label))
        elif row.get(TEXT_COLUMN):
            examples.append((Text(row[TEXT_COLUMN]), label))  # type: ignore[arg-type]
        else:
            raise InvalidInput(f"{file}, line {number}, has neither a path nor a text")
    if not examples:
        raise InvalidInput(f"{file} has no rows; give at least two labels with an example each")
    return examples  # type: ignore[return-value]


def encode_examples(
    space: Space, examples: Sequence[tuple[Any, str]], report: Any = lambda count: None
) -> EncodedExamples:
    """Encodes examples; those that cannot be read are skipped, exact copies are left out.

    Raises:
        InvalidInput: None could be read, or two with the same content have different labels.
    """
    import numpy as np

    rows, names, labels, modalities, skipped = [], [], [], [], []
    for start in range(0, len(examples), BATCH):
        part = []
        for number, (value, label) in enumerate(examples[start : start + BATCH], start):
            try:
                item = to_item(value)
                part.append((item, name_of(item, number), label))
            except EXAMPLE_ERRORS as error:
                skipped.append(SkippedExample(_name_of_value(value, number), label, str(error)))
        for (item, name, label), row in zip(part, _encode([item for item, _, _ in part], space), strict=True):
            if isinstance(row, Exception):
                skipped.append(SkippedExample(name, label, str(row)))
                continue
            rows.append(row)
            names.append(name)
            labels.append(label)
            modalities.append(str(item.modality))
        report(len(examples[start : start + BATCH]))
    if not rows:
        raise InvalidInput(
            f"none of the {len(examples):,} examples could be read; the first is {skipped[0].name}: "
            f"{skipped[0].reason}"
        )
    kept = _without_copies(rows, names, labels)
    return EncodedExamples(
        np.stack([rows[k] for k in kept]),
        tuple(names[k] for k in kept),
        tuple(labels[k] for k in kept),
        tuple(modalities[k] for k in kept),
        tuple(skipped),
        len(rows) - len(kept),
    )


def _encode(items: Sequence[Item], space: Space) -> list[Any]:
    """The vector of each item, or the error that it raised."""
    try:
        return list(space.encode(list(items))) if items else []
    except EXAMPLE_ERRORS as error:
        if len(items) == 1:
            return [error]
    return [_encode([item], space)[0] for item in items]


def _without_copies(rows: Sequence[Any], names: Sequence[str], labels: Sequence[str]) -> list[int]:
    """The first of the examples with each vector. A copy would vouch for itself when examples are left out."""
    first: dict[bytes, int] = {}
    for number, row in enumerate(rows):
        other = first.setdefault(row.tobytes(), number)
        if labels[other] != labels[number]:
            raise InvalidInput(
                f"the examples {names[other]} and {names[number]} have the same content and different labels, "
                f"{labels[other]!r} and {labels[number]!r}; leave out one of them"
            )
    return list(first.values())


def name_of(item: Item, number: int) -> str:
    """How an example is shown: its uri, its text, or its position."""
    if item.uri is not None:
        return item.uri
    return repr(item.source) if isinstance(item, Text) else f"example {number}"


def _name_of_value(value: Any, number: int) -> str:
    return str(value) if isinstance(value, Path) else f"example {number}"
