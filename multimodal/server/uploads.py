"""Uploaded files: stored on disk beside an index, then added to it.

An index holds vectors, not media, so an upload needs a place. Its file name is made of a hash of its content and of
what is harmless in the given name. It is written completely before the index refers to it, and removed if it cannot be
added.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from multimodal.core.errors import MediaError, MediaUnsupported
from multimodal.core.items import Text
from multimodal.core.media import sniff
from multimodal.index.ingest.documents.kinds import ZIP_HEAD, is_document_name, kind_of
from multimodal.server.errors import ApiError
from multimodal.server.forms import Upload
from multimodal.server.media import MediaReader
from multimodal.server.state import ServedIndex

UNSAFE = re.compile(r"[^\w.-]+")
MAX_NAME_CHARS = 80
HASH_CHARS = 16
TABLE_SUFFIXES = {".csv", ".tsv", ".jsonl", ".parquet", ".arrow", ".feather"}
WAIT_S = 20.0  # for another process that writes to the index


class NewText(NamedTuple):
    """A text to add. id: None for one made of the content."""

    text: str
    id: str | None
    metadata: dict[str, Any]


def add(
    served: ServedIndex,
    media: MediaReader,
    files: Sequence[Upload],
    texts: Sequence[NewText],
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """Adds files and texts to an index; returns when they are on disk. Blocks.

    Args:
        served: The index.
        media: Checks media against the ceilings.
        files: Uploaded files.
        texts: Texts.
        metadata: Of all of them.

    Returns:
        The counts of `IngestReport`, the ids of what is stored, and the failures by name.
    """
    failed: list[dict[str, str]] = []
    stored: dict[str, str] = {}  # path -> the name that the client gave
    for file in files:
        try:
            path = _store(served.uploads, file, media)
        except (MediaError, ApiError) as error:
            failed.append({"name": file.name, "stage": "read", "reason": str(error)})
        else:
            stored[str(path)] = file.name
    items: list[Any] = [(Path(path), {"name": name} | dict(metadata)) for path, name in stored.items()]
    ids = list(stored)
    for element in texts:
        items.append((Text(element.text), dict(metadata) | element.metadata))
        ids.append(element.id or f"text:{hashlib.sha256(element.text.encode()).hexdigest()[:HASH_CHARS]}")
    if not items:
        return {"added": 0, "updated": 0, "unchanged": 0, "ids": [], "failed": failed}
    report = served.index.add(items, ids=ids, wait=WAIT_S)
    for failure in report.failed:
        place = next((place for place in stored if failure.uri.startswith(place)), None)
        name = failure.uri if place is None else stored[place]
        failed.append(
            {"name": name, "stage": failure.stage, "reason": _without(failure.reason, served.uploads)}
        )
        if place is not None:
            Path(place).unlink(missing_ok=True)
            ids.remove(place)
        elif failure.uri in ids:
            ids.remove(failure.uri)
    counts = {"added": report.added, "updated": report.updated, "unchanged": report.unchanged}
    return counts | {"ids": ids, "failed": failed}


def delete(served: ServedIndex, ids: Sequence[str]) -> int:
    """Deletes items, and their files if they were uploaded. Blocks.

    Returns:
        The number of deleted rows.
    """
    uris = {row["uri"] for row in served.index.rows(ids=list(ids)) if row["uri"] is not None}
    n_deleted = served.index.delete(list(ids), wait=WAIT_S)
    for uri in uris:
        path = Path(uri)
        if path.parent == served.uploads and not len(served.index.rows(ids=uri)):
            path.unlink(missing_ok=True)
    return n_deleted


def _store(folder: Path, file: Upload, media: MediaReader) -> Path:
    """Writes a file, and waits until it is on disk. Raises MediaError or ApiError for what is not accepted."""
    if not file.content:
        raise MediaUnsupported("the file is empty")
    name = PurePath(file.name.replace("\\", "/")).name
    suffix = PurePath(name).suffix.lower()
    _check_kind(file.content, name, suffix, media)
    folder.mkdir(parents=True, exist_ok=True)
    harmless = UNSAFE.sub("_", PurePath(name).stem).strip("._")[:MAX_NAME_CHARS]
    digest = hashlib.sha256(file.content).hexdigest()[:HASH_CHARS]
    path = folder / f"{digest}-{harmless or 'file'}{UNSAFE.sub('', suffix)}"
    if path.exists() and path.stat().st_size == len(file.content):
        return path
    descriptor, scratch = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(file.content)
            out.flush()
            os.fsync(out.fileno())
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    _sync_folder(folder)
    return path


def _check_kind(content: bytes, name: str, suffix: str, media: MediaReader) -> None:
    """Raises MediaError or ApiError for what is neither media nor a document, holds other files, or is too large."""
    if sniff.signature(content[: sniff.HEAD_BYTES]).decoder:
        media.content(content, "the file")
        return
    is_archive = content.startswith(ZIP_HEAD) and kind_of(content, name) is None
    if suffix in TABLE_SUFFIXES or is_archive:
        raise MediaUnsupported("archives and tables are not accepted; upload the files in them one by one")
    if not is_document_name(name) and kind_of(content, name) is None:
        raise MediaUnsupported("not an image, audio, a video, a text or a document in a supported format")


def _sync_folder(folder: Path) -> None:
    """Waits until the name of a new file is on disk, where the system can do that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _without(reason: str, folder: Path) -> str:
    """A reason that does not name the folder."""
    return reason.replace(f"{folder}{os.sep}", "")
