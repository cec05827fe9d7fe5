"""Rows of evaluation data: items by modality, with a label, an id and a group where the source has them.

Sources: a folder with a sub-folder for each class, or with metadata.csv or metadata.jsonl beside the files; .csv, .tsv
and .jsonl with columns named by modality; the .tar shards of WebDataset; a Hugging Face `Dataset`, in memory or saved;
and an iterable of dicts.
"""

from __future__ import annotations

import csv
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal.core.catalog import close_matches
from multimodal.core.errors import InvalidInput, MissingExtra, MultimodalError
from multimodal.core.items import Audio, Image, Item, Text, Video, to_item
from multimodal.core.modality import Modality

MEDIA: dict[str, type[Image] | type[Audio] | type[Video]] = {"image": Image, "audio": Audio, "video": Video}
MODALITIES = ("text", *MEDIA)
FIELDS = ("label", "id", "group")
PATH_COLUMNS = ("path", "file", "file_name", "filename")  # media of any modality, recognised by content
SYNONYMS = {"caption": "text", "transcript": "text", "transcription": "text", "class": "label"}
METADATA_FILES = ("metadata.csv", "metadata.jsonl")
SHARD_PARTS = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"), "image"),
    **dict.fromkeys(("wav", "flac", "mp3", "ogg", "opus", "m4a"), "audio"),
    **dict.fromkeys(("mp4", "webm", "mkv", "avi", "mov"), "video"),
    **dict.fromkeys(("txt", "text", "caption"), "text"),
    **dict.fromkeys(("cls", "label"), "label"),
}
EXPECTED = "a column named text, image, audio or video (or path: any media); label, id and group are optional"


@dataclass(frozen=True, eq=False)
class Row:
    """One row of evaluation data.

    Attributes:
        items: The item of each modality that the row has.
        label: The class, or None.
        id: What identifies right answers: rows with one id belong together. None if the source has no ids.
        group: The unit that is generalised to, such as a speaker, or None.
    """

    items: dict[Modality, Item]
    label: str | None = None
    id: str | None = None
    group: str | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of evaluation data.

    Attributes:
        name: Where they come from.
        rows: Those that could be read.
        problems: (row, reason) of those that could not.
    """

    name: str
    rows: list[Row]
    problems: tuple[tuple[str, str], ...] = ()

    @property
    def modalities(self) -> list[Modality]:
        """The modalities of which at least one row has an item, in the order of the columns."""
        return list(dict.fromkeys(modality for row in self.rows for modality in row.items))


def read_table(source: Any, *, columns: Mapping[str, str] | None = None, group: str | None = None) -> Table:
    """Reads evaluation data.

    Args:
        source: See the top of this module.
        columns: {role: column} where names differ; the roles are text, image, audio, video, path, label, id, group.
        group: The column of the groups, short for columns={"group": …}.

    Returns:
        The rows.

    Raises:
        InvalidInput: The source cannot be read, has no rows, or no known column.
    """
    if isinstance(source, Table):
        return source
    roles = dict(columns or {}) | ({} if group is None else {"group": group})
    unknown = roles.keys() - {*MODALITIES, *FIELDS, "path"}
    if unknown:
        raise InvalidInput(
            f"columns names the role {min(unknown)!r}; the roles are {', '.join((*MODALITIES, 'path', *FIELDS))}"
        )
    name = None
    if isinstance(source, str | os.PathLike) and (Path(source).expanduser() / "dataset_info.json").is_file():
        name, source = os.fspath(source), _load_dataset(Path(source).expanduser())
    if isinstance(source, str | os.PathLike):
        path = Path(source).expanduser()
        name, folder, cells = str(source), path if path.is_dir() else path.parent, _from_path(path)
    elif isinstance(source, Mapping):
        raise InvalidInput(
            f"data must be rows, a path or a Dataset, got a mapping with the keys {', '.join(map(str, source))}; of "
            "a DatasetDict give one split, as data['test']"
        )
    elif isinstance(source, Iterable):
        name, folder = name or f"{type(source).__name__} in memory", Path()
        cells = ((f"row {number}", row) for number, row in enumerate(_rows_of(source)))
    else:
        raise InvalidInput(f"data must be rows, a path or a Dataset, got {type(source).__name__}")
    try:
        listed = list(cells)
    except (UnicodeError, csv.Error, tarfile.TarError) as error:
        raise InvalidInput(f"{name} cannot be read ({error}); tables are text in UTF-8") from error
    return _read(name, listed, roles, folder, getattr(source, "features", None))


def _rows_of(source: Any) -> Iterable[Any]:
    """The rows of a data set without decoding its media, since decoding audio may need another library."""
    features = getattr(source, "features", None) or {}
    for column, feature in features.items():
        if type(feature).__name__ in ("Image", "Audio", "Video") and hasattr(source, "cast_column"):
            source = source.cast_column(column, type(feature)(decode=False))
    return source


def _from_path(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not path.exists():
        raise InvalidInput(f"{path} does not exist; data is a folder, a .csv, .tsv, .jsonl or .tar file")
    if path.is_dir():
        metadata = next((path / name for name in METADATA_FILES if (path / name).is_file()), None)
        if metadata is not None:
            return _from_path(metadata)
        return _from_class_folders(path)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _from_csv(path, "\t" if suffix == ".tsv" else ",")
    if suffix in (".jsonl", ".ndjson"):
        return _from_lines(path)
    if suffix == ".tar":
        return _from_shard(path)
    raise InvalidInput(
        f"{path}: data is a folder, a .csv, .tsv, .jsonl or .tar file, got {suffix or 'no suffix'!r}"
    )


def _from_class_folders(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    classes = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise InvalidInput(
            f"{path} has no sub-folders, expected one for each class, or {' or '.join(METADATA_FILES)} with labels"
        )
    for folder in classes:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.name.startswith("."):
                name = str(file.relative_to(path))
                yield name, {"path": name, "label": folder.name.replace("_", " ")}


def _load_dataset(path: Path) -> Any:
    try:
        from datasets import load_from_disk  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra("reading a saved Dataset", package="datasets", extra="mteb") from None
    return load_from_disk(str(path))


def _from_csv(path: Path, delimiter: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter=delimiter), 2):
            yield f"line {number}", {key: cell for key, cell in row.items() if key is not None}


def _from_lines(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise InvalidInput(f"{path}, line {number}: not JSON: {error}") from None
                if not isinstance(row, dict):
                    raise InvalidInput(f"{path}, line {number}: expected an object, got {type(row).__name__}")
                yield f"line {number}", row


def _from_shard(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The samples of a WebDataset shard: members that share the name up to the first dot of the base name."""
    samples: dict[str, dict[str, Any]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            folder, _, base = member.name.rpartition("/")
            key, _, extension = base.partition(".")
            role = SHARD_PARTS.get(extension.lower().rpartition(".")[2])
            if not member.isfile() or not key or (role is None and extension.lower() != "json"):
                continue
            file = archive.extractfile(member)
            content = b"" if file is None else file.read()
            sample = samples.setdefault(f"{folder}/{key}", {"id": key})
            if role is None:
                fields = json.loads(content)
                sample |= {name: cell for name, cell in fields.items() if name in {"text", *FIELDS}}
            else:
                sample[role] = content if role in MEDIA else content.decode("utf-8").strip()
    yield from samples.items()


def _read(
    name: str,
    cells: list[tuple[str, Any]],
    given: Mapping[str, str],
    folder: Path,
    features: Mapping[str, Any] | None,
) -> Table:
    if not cells:
        raise InvalidInput(f"{name} has no rows; there is nothing to evaluate")
    wrong = next((row for _, row in cells if not isinstance(row, Mapping)), None)
    if wrong is not None:
        raise InvalidInput(f"{name}: each row must be a dict of cells by column, got {type(wrong).__name__}")
    roles = _roles(name, list(dict.fromkeys(str(key) for _, row in cells for key in row)), given)
    named = {column: feature for column, feature in (features or {}).items() if hasattr(feature, "int2str")}
    rows, problems = [], []
    for place, row in cells:
        try:
            rows.append(_row(row, roles, folder, named))
        except MultimodalError as error:
            problems.append((place, str(error)))
    if not rows:
        raise InvalidInput(f"{name}: no row could be read; the first: {problems[0][1]}")
    return Table(name, rows, tuple(problems))


def _roles(name: str, available: list[str], given: Mapping[str, str]) -> dict[str, str]:
    """{role: column}."""
    for role, column in given.items():
        if column not in available:
            raise InvalidInput(
                f"{name}: has no column {column!r} for the {role}; {close_matches(column, available)}"
                f"it has {', '.join(available)}"
            )
    spelling = {column.strip().lower(): column for column in reversed(available)}
    roles = dict(given)
    for role in (*MODALITIES, *FIELDS):
        if role in spelling:
            roles.setdefault(role, spelling[role])
    for synonym, role in SYNONYMS.items():
        if synonym in spelling:
            roles.setdefault(role, spelling[synonym])
    if not roles.keys() & MEDIA.keys():
        path = next((spelling[column] for column in PATH_COLUMNS if column in spelling), None)
        if path is not None:
            roles.setdefault("path", path)
    if not roles.keys() & {*MODALITIES, "path"}:
        raise InvalidInput(
            f"{name}: no known column: found {', '.join(available)}; expected {EXPECTED}; or name one with "
            "columns={'image': …}"
        )
    return roles


def _row(row: Mapping[str, Any], roles: Mapping[str, str], folder: Path, named: Mapping[str, Any]) -> Row:
    items: dict[Modality, Item] = {}
    for role, column in roles.items():
        cell = row.get(column)
        if role in FIELDS or _is_empty(cell):
            continue
        if role == "text":
            items[Modality.TEXT] = Text(_word(cell))
        else:
            item = _media(role, cell, folder)
            items[item.modality] = item
    label = row.get(roles.get("label", ""))
    if isinstance(label, int) and roles.get("label") in named:
        label = named[roles["label"]].int2str(label)
    fields = {role: row.get(roles[role]) if role in roles else None for role in ("id", "group")}
    words = {role: None if _is_empty(cell) else _word(cell) for role, cell in fields.items()}
    return Row(items, None if _is_empty(label) else _word(label), words["id"], words["group"])


def _media(role: str, cell: Any, folder: Path) -> Item:
    """The item in a cell: a path relative to the data, bytes, {"bytes", "path"}, or what `as_item` takes."""
    if isinstance(cell, Mapping) and set(cell) == {"bytes", "path"}:
        cell = cell["path"] if cell["bytes"] is None else cell["bytes"]
    path = None
    if isinstance(cell, str | os.PathLike):
        path = folder / Path(cell).expanduser()
        if not path.is_file():
            raise InvalidInput(f"{path} does not exist")
        cell = path
    if role == "path":
        return to_item(cell)
    uri = None if path is None else str(path)
    return cell if isinstance(cell, Image | Audio | Video) else MEDIA[role](cell, uri=uri)


def _is_empty(cell: object) -> bool:
    return (
        cell is None
        or (isinstance(cell, str) and not cell.strip())
        or (isinstance(cell, float) and cell != cell)
    )


def _word(cell: object) -> str:
    if isinstance(cell, Text):
        return cell.load()
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip()


def item_bytes(item: Item) -> bytes:
    """What identifies the content of an item: the text, the file with its size and time, or the bytes."""
    source: Any = item.source
    if isinstance(source, str):
        return b"text:" + source.encode("utf-8", "surrogatepass")
    if isinstance(source, Path):
        state = source.stat() if source.exists() else None
        stamp = "" if state is None else f"{state.st_size}:{state.st_mtime_ns}"
        return f"{item.modality}:{source.resolve()}:{stamp}".encode()
    if isinstance(source, bytes):
        return f"{item.modality}:".encode() + source
    buffer = io.BytesIO()
    for array in _arrays(item, source):
        buffer.write(repr((array.shape, str(array.dtype))).encode() + array.tobytes())
    return f"{item.modality}:".encode() + buffer.getvalue()


def _arrays(item: Item, source: Any) -> Iterator[Any]:
    import numpy as np

    if isinstance(source, Mapping):
        yield np.asarray(source["array"])
        yield np.asarray(source["sampling_rate"])
    elif isinstance(source, np.ndarray):
        yield source
    elif isinstance(item, Image):
        yield item.load()
    else:
        for frame in source:
            yield np.asarray(frame)
