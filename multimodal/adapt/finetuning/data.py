"""Reads training data: pairs of items, from tables, folders, archives, data sets or iterables.

table      .csv, .tsv, .jsonl or .parquet: a column with a file (or bytes) and a column with a text or a label
folder     one folder per class, as torchvision's ImageFolder: the names of the folders are the labels
archive    .tar, as WebDataset: files of one sample share a name, such as 0001.jpg and 0001.txt
data set   of the library `datasets`, or any iterable of rows (mappings)
iterable   of (item, text) or (item, text, negative)
"""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput, MediaNotFound
from multimodal.core.items import Audio, Image, Item, Text, Video, as_item

FIRST = (
    *("image", "audio", "video", "path", "file_name", "filename", "file", "filepath", "file_path"),
    *("image_path", "audio_path", "video_path", "anchor", "query"),
)  # names of the column with the first item of a pair
SECOND = ("text", "caption", "sentence", "transcript", "transcription", "positive", "document", "name")
LABEL = ("label", "class", "category")
NEGATIVE = ("negative", "hard_negative")
SPLIT = ("split", "subset")
HELD_OUT = {"test", "val", "valid", "validation", "held-out", "held_out", "eval"}
IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"}
SOUNDS = {".wav", ".flac", ".mp3", ".ogg", ".m4a", ".opus", ".aac"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi"}
TEXTS = {".txt", ".cls"}
TABLES = {".csv", ".tsv", ".jsonl", ".parquet"}
ACCEPTED = (
    "data is a .csv, .tsv, .jsonl or .parquet table, a folder with one folder per class, a .tar archive of a "
    "WebDataset, a data set, or an iterable of (item, text) pairs"
)


@dataclass(frozen=True)
class Pair:
    """Two items that belong together.

    Attributes:
        first: The first item, such as an image.
        second: The second, usually a text.
        label: Whether `second` names a class that many items share.
        negative: A text that does not belong to `first` although it resembles `second`.
        held_out: Whether the data set itself reserves the pair for evaluation; None if it does not say.
    """

    first: Item
    second: Item
    label: bool = False
    negative: Item | None = None
    held_out: bool | None = None


def read_pairs(data: object, columns: Mapping[str, str] | None = None) -> list[Pair]:
    """Reads all pairs of a source.

    Args:
        data: See the top of this module.
        columns: {column: role}, with the roles "first", "second", "label", "negative" and "split". Default: by name.

    Returns:
        The pairs in the order of the source. Media are not decoded yet.

    Raises:
        InvalidInput: If the source is of no known kind, has no pair, or its columns cannot be recognised.
        MediaNotFound: If a path does not exist.
    """
    pairs = list(_pairs(data, dict(columns or {})))
    if not pairs:
        raise InvalidInput(f"there is no pair in {_described(data)}; {ACCEPTED}")
    return pairs


def _pairs(data: object, columns: dict[str, str]) -> Iterator[Pair]:
    if isinstance(data, str | os.PathLike):
        path = Path(data).expanduser()
        if not path.exists():
            raise MediaNotFound(f"{os.fspath(data)!r} does not exist; {ACCEPTED}")
        if path.is_dir():
            yield from _folder(path)
        elif path.suffix.lower() in TABLES:
            yield from _rows(_table(path), columns, path.parent, str(path))
        elif path.suffix.lower() == ".tar":
            yield from _archive(path)
        else:
            raise InvalidInput(f"{path.name!r} is no table, folder or archive; {ACCEPTED}")
        return
    if isinstance(data, Mapping) or not isinstance(data, Iterable):
        raise InvalidInput(f"got {type(data).__name__}; {ACCEPTED}")
    yield from _values(data, columns)


def _values(values: Iterable[object], columns: dict[str, str]) -> Iterator[Pair]:
    for position, value in enumerate(values):
        if isinstance(value, Pair):
            yield value
        elif isinstance(value, Mapping):
            names = getattr(getattr(values, "features", None), "get", lambda _: None)
            yield from _rows([_named_labels(value, names)], columns, Path(), f"row {position}")
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) in (2, 3):
            negative = as_item(value[2]) if len(value) == 3 else None
            yield Pair(as_item(value[0]), as_item(value[1]), negative=negative)
        else:
            raise InvalidInput(
                f"element {position} of the data is a {type(value).__name__}; {ACCEPTED}, or of rows"
            )


def _named_labels(row: Mapping[str, Any], feature: Any) -> Mapping[str, Any]:
    """A row of a data set with its class labels, which are numbers, by their names."""
    named = dict(row)
    for column in LABEL:
        to_name = getattr(feature(column), "int2str", None)
        if to_name is not None and isinstance(named.get(column), int):
            named[column] = to_name(named[column])
    return named


def _table(path: Path) -> Iterable[Mapping[str, Any]]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as parquet

            rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
            return rows
        text = path.read_text(encoding="utf-8-sig")
        if suffix == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise InvalidInput(f"{str(path)!r} cannot be read ({error}); {ACCEPTED}") from error
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ","))


def _rows(
    rows: Iterable[Mapping[str, Any]], columns: dict[str, str], folder: Path, name: str
) -> Iterator[Pair]:
    for number, row in enumerate(rows):
        roles = _roles(row, columns, name)
        first, second = row[roles["first"]], row[roles.get("second", roles.get("label", ""))]
        if first in (None, "") or second in (None, ""):
            continue
        where = f"{name}, row {number + 1}"
        negative = row.get(roles.get("negative", ""))
        split = row.get(roles.get("split", ""))
        yield Pair(
            _media(first, roles["first"], folder, where),
            _second(second, roles, folder, where),
            label="second" not in roles,
            negative=None if negative in (None, "") else Text(str(negative)),
            held_out=None if split in (None, "") else str(split).lower() in HELD_OUT,
        )


def _second(value: Any, roles: Mapping[str, str], folder: Path, where: str) -> Item:
    if "second" not in roles:
        return Text(label_text(str(value)))
    return Text(value) if isinstance(value, str) else _media(value, roles["second"], folder, where)


def _roles(row: Mapping[str, Any], columns: Mapping[str, str], name: str) -> dict[str, str]:
    """role -> column."""
    roles = {role: column for column, role in columns.items() if column in row}
    lowered = {
        column.lower(): column for column in row if column
    }  # a csv row may have cells without a column
    for role, names in (
        ("first", FIRST), ("second", SECOND), ("label", LABEL), ("negative", NEGATIVE), ("split", SPLIT)
    ):  # fmt: skip
        match = next((lowered[known] for known in names if known in lowered), None)
        if match is not None and match not in roles.values():
            roles.setdefault(role, match)
    if "first" not in roles or not {"second", "label"} & set(roles):
        raise InvalidInput(
            f"{name} has the columns {', '.join(map(str, row))}, of which none is recognised as "
            f"{'a file' if 'first' not in roles else 'a text or label'}; name them with "
            "columns={'my_column': 'first', 'my_other': 'second'}"
        )
    return roles


def _media(value: Any, column: str, folder: Path, where: str) -> Item:
    if isinstance(value, str):
        if column.lower() in ("anchor", "query"):
            return Text(value)
        return _from_path(folder / Path(value).expanduser(), column)
    if isinstance(value, Mapping) and "bytes" in value:  # an image or audio of `datasets`, not decoded
        if value["bytes"] is None:
            return _from_path(folder / str(value["path"]), column)
        return _from_bytes(value["bytes"], str(value.get("path") or ""), column)
    if isinstance(value, bytes):
        return _from_bytes(value, where, column)
    return as_item(value)


def _from_path(path: Path, column: str = "") -> Item:
    return _class_for(path.suffix, column)(path)


def _from_bytes(data: bytes, name: str, column: str) -> Item:
    return _class_for(Path(name).suffix, column)(data)


def _class_for(suffix: str, column: str) -> type[Image] | type[Audio] | type[Video]:
    suffix = suffix.lower()
    if suffix in SOUNDS or column.lower().startswith("audio"):
        return Audio
    if suffix in VIDEOS or column.lower().startswith("video"):
        return Video
    return Image


def _folder(root: Path) -> Iterator[Pair]:
    """One folder per class; a table `metadata.csv` or `metadata.jsonl` is read instead where there is one."""
    for name in ("metadata.csv", "metadata.jsonl", "metadata.parquet"):
        if (root / name).is_file():
            yield from _rows(_table(root / name), {}, root, str(root / name))
            return
    splits = {folder.name: folder for folder in root.iterdir() if folder.is_dir()}
    if splits and set(splits) <= HELD_OUT | {"train"}:
        for name, folder in sorted(splits.items()):
            yield from _classes(folder, held_out=name in HELD_OUT)
    else:
        yield from _classes(root, held_out=None)


def _classes(root: Path, *, held_out: bool | None) -> Iterator[Pair]:
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != "."):
        label = Text(label_text(folder.name))
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in IMAGES | SOUNDS | VIDEOS:
                yield Pair(_from_path(path), label, label=True, held_out=held_out)


def _archive(path: Path) -> Iterator[Pair]:
    """Consecutive members of one name are a sample."""
    try:
        with tarfile.open(path) as archive:
            sample: dict[str, bytes] = {}
            key = ""
            for member in archive:
                if not member.isfile():
                    continue
                stem, _, suffix = member.name.partition(".")
                if stem != key:
                    yield from _sample(sample, key)
                    sample, key = {}, stem
                handle = archive.extractfile(member)
                sample[f".{suffix.lower()}"] = b"" if handle is None else handle.read()
            yield from _sample(sample, key)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InvalidInput(f"{str(path)!r} cannot be read ({error}); {ACCEPTED}") from error


def _sample(sample: Mapping[str, bytes], key: str) -> Iterator[Pair]:
    media = next((suffix for suffix in sample if suffix in IMAGES | SOUNDS | VIDEOS), None)
    text = next((suffix for suffix in sample if suffix in TEXTS), None)
    if media is None:
        return
    if text is not None:
        caption = sample[text].decode("utf-8", "replace").strip()
    elif ".json" in sample:
        values = json.loads(sample[".json"])
        caption = str(next((values[name] for name in (*SECOND, *LABEL) if name in values), ""))
    else:
        return
    if caption:
        first = _from_bytes(sample[media], key + media, "")
        yield Pair(first, Text(label_text(caption) if text == ".cls" else caption), label=text == ".cls")


def label_text(label: str) -> str:
    """A class label as words: "red_panda" -> "red panda"."""
    return label.replace("_", " ").replace("-", " ").strip()


def _described(data: object) -> str:
    return repr(os.fspath(data)) if isinstance(data, str | os.PathLike) else f"the {type(data).__name__}"
