"""Whatever is given to `Index.add` -> entries one by one -> items with an id and a uri.

Knows folders and files, and what makes an id; not how anything is encoded or stored.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from multimodal.core import media
from multimodal.core.errors import InvalidInput, MediaError, MediaNotFound, MediaUnsupported
from multimodal.core.types import Audio, Image, Item, Text, as_item
from multimodal.index.filters import check_metadata
from multimodal.index.results import Failure, Metadata
from multimodal.index.store import is_store

TEXT_SUFFIXES = (".txt", ".md")
MAX_TEXT_BYTES = 1 << 20  # 1 MiB: a thick book; an encoder reads the first page or two
ID_HEX_DIGITS = 32  # 128 bits of a sha256: two contents with one id will not be met
LINE_BREAKS = "\t\n\r\f"


class Entry(NamedTuple):
    """One thing to add, not looked at yet. name: how a failure calls it."""

    value: object
    name: str
    id: str | None
    metadata: Metadata


@dataclass(frozen=True)
class Found:
    """An item, and how it will be known in the index."""

    item: Item
    name: str
    id: str
    uri: str | None
    metadata: Metadata

    @property
    def text(self) -> str | None:
        return self.item.source if isinstance(self.item, Text) else None


def entries(
    source: object, ids: Sequence[str] | str | None, metadata: Metadata, *, skip: Path | None = None
) -> Iterator[Entry | Failure]:
    """Everything in `source`, one by one; the parts of a folder that cannot be listed as failures.

    skip: a folder to leave out (the index itself). Raises at once what Index.add says of its arguments.
    """
    if not isinstance(source, str | os.PathLike):
        return _of_values(_iterable(source), ids, metadata)
    path = Path(source).expanduser()
    if path.is_dir():
        if ids is not None:
            raise InvalidInput(
                f"{str(path)!r} is a folder, whose files are known by their paths: leave out ids"
            )
        return (
            one if isinstance(one, Failure) else Entry(one, _shown(one), None, metadata)
            for one in _walk(path, skip, set())
        )
    if not path.exists() and not path.is_symlink():
        raise MediaNotFound(
            f"{path}: no such folder or file; check the path (to add a text, give it in a list: [{str(source)!r}])"
        )
    return _of_values([path], ids, metadata)


def files_in(folder: str | os.PathLike[str], *, skip: Path | None = None) -> list[Path]:
    """The files that adding a folder would look at: recursive, sorted, none hidden, absolute paths.

    Raises MediaNotFound if it is no folder.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise MediaNotFound(f"{path}: no such folder; check the path")
    return [one for one in _walk(path, skip, set()) if isinstance(one, Path)]


def _walk(folder: Path, skip: Path | None, seen: set[Path]) -> Iterator[Path | Failure]:
    """Files below a folder. Links to folders are followed to where they lead, and each folder is taken once, so that
    no loop is endless and no file has two paths."""
    real = folder.resolve()
    if real in seen or is_store(real) or (skip is not None and real == skip.resolve()):
        return
    seen.add(real)
    try:
        children = sorted(real.iterdir(), key=lambda child: child.name)
    except OSError as error:
        reason = f"{_shown(real)}: cannot be listed ({error.strerror}); check its permissions"
        yield Failure(_shown(real), "read", reason)
        return
    for child in children:
        if child.name.startswith("."):
            continue
        if child.is_dir():
            yield from _walk(child, skip, seen)
        else:
            yield child


def _iterable(source: object) -> Iterable[object]:
    """The things in `source`. A thing alone becomes a list of one; raises InvalidInput at once if it is none."""
    import numpy as np

    if _is_pair(source):
        return [source]
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes | bytearray | np.ndarray):
        return source
    return [as_item(source)]


def _is_pair(value: object) -> bool:
    """(item, metadata). A mapping that holds sound is an item, not metadata."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return isinstance(value[1], Mapping) and not {"array", "sampling_rate"} <= set(value[1])


def _of_values(
    source: Iterable[object], ids: Sequence[str] | str | None, metadata: Metadata
) -> Iterator[Entry]:
    known = _check_ids(ids)
    if isinstance(source, Sequence):
        if len(source) == 0:
            raise InvalidInput("the list of things to add is empty; give at least one")
        if known is not None and len(known) != len(source):
            raise InvalidInput(f"{len(known)} ids given for {len(source)} things; give one for each")
        return iter(
            list(_pairs(source, known, metadata))
        )  # so that a mistake anywhere raises before all work
    return _pairs(source, known, metadata)


def _check_ids(ids: Sequence[str] | str | None) -> list[str] | None:
    if ids is None:
        return None
    known = check_ids(ids)
    twice = [one for one, n in Counter(known).items() if n > 1]
    if twice:
        raise InvalidInput(f"the id {twice[0]!r} is given twice; each thing needs its own")
    return known


def check_ids(ids: Sequence[str] | str) -> list[str]:
    """One id or several -> a list. Raises InvalidInput for an empty list, an empty id, or one that is no str."""
    given: list[object] = [ids] if isinstance(ids, str) else list(ids)
    if not given:
        raise InvalidInput("the list of ids is empty; give at least one")
    known = []
    for one in given:
        if not isinstance(one, str) or not one:
            raise InvalidInput(
                f"an id must be a str with at least one character, got {one!r}; a number as str(number)"
            )
        _check_unicode(one, "the id")
        known.append(one)
    return known


def _pairs(source: Iterable[object], ids: list[str] | None, metadata: Metadata) -> Iterator[Entry]:
    position = -1
    for position, value in enumerate(source):
        own: object = None
        if isinstance(value, tuple) and len(value) == 2 and (_is_pair(value) or value[1] is None):
            value, own = value
        if ids is not None and position >= len(ids):
            raise InvalidInput(f"{len(ids)} ids given for more things than that; give one for each")
        named = value if isinstance(value, Path) else getattr(value, "uri", None)
        name = f"item {position}" if named is None else _shown(named)
        yield Entry(value, name, ids[position] if ids else None, metadata | check_metadata(own))
    if ids is not None and position + 1 != len(ids):
        raise InvalidInput(f"{len(ids)} ids given for {position + 1} things; give one for each")


def read(entry: Entry) -> Found:
    """Finds out what an entry is, without decoding it (only what has no uri is loaded, to know it by its content).

    Raises MediaError, InvalidInput, MissingExtra, OSError: what is wrong with this one entry.
    """
    item = _item(entry.value)
    uri = item.uri
    if isinstance(item, Text):
        item.load()  # an empty text is refused here
    elif isinstance(item.source, Path) and uri == str(item.source):
        uri = str(_absolute(item.source))
    if uri is not None:
        _check_unicode(uri, "the path")
    return Found(item, entry.name, entry.id or uri or content_id(item), uri, entry.metadata)


def _item(value: object) -> Item:
    if not isinstance(value, Path):
        return as_item(value)
    path = _absolute(value.expanduser())
    _check_unicode(str(path), "the path")
    if path.suffix.lower() in TEXT_SUFFIXES:
        return _text_or_media(path)
    return as_item(path)


def _text_or_media(path: Path) -> Item:
    """A file called .txt or .md: its words if it holds any, or else what it is by its content."""
    with media.opened(path) as (file, name):
        content = file.read(MAX_TEXT_BYTES + 1)
    text = _decode(content)
    if text is None:
        try:
            return as_item(path)
        except MediaUnsupported as error:
            raise MediaUnsupported(
                f"{name}: is called a text, but is not one in UTF-8 (nor a picture or a sound); save it as UTF-8"
            ) from error
    if len(content) > MAX_TEXT_BYTES:
        raise MediaError(
            f"{name}: holds more than {MAX_TEXT_BYTES:,} bytes of text, far more than an encoder reads; "
            "split it into parts"
        )
    return Text(text, uri=str(path))


def _decode(content: bytes) -> str | None:
    """UTF-8, or UTF-16 with its byte order mark; None if it is neither, or holds control characters."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    for end in range(len(content), len(content) - 4, -1):  # the limit may have cut the last character in two
        try:
            text = content[:end].decode(encoding)
        except UnicodeDecodeError:
            if len(content) <= MAX_TEXT_BYTES:
                return None
            continue
        return None if any(char < " " and char not in LINE_BREAKS for char in text) else text
    return None


def content_id(item: Item) -> str:
    """An id that depends on nothing but the content: "<modality>:<hex>". The same content gets the same id.

    Bytes are taken as they are; arrays and PIL images as they load. Raises what `item.load()` raises.
    """
    digest = hashlib.sha256()
    for part in _content(item):
        digest.update(part)
    return f"{item.modality}:{digest.hexdigest()[:ID_HEX_DIGITS]}"


def _content(item: Item) -> Iterator[bytes]:
    if isinstance(item, Text):
        yield item.load().encode()
    elif isinstance(item.source, bytes):
        yield item.source
    elif isinstance(item, Image):
        pixels = item.load()
        yield repr(pixels.shape).encode()
        yield pixels.tobytes()
    elif isinstance(item, Audio):
        waveform = item.load()
        yield repr(waveform.rate_hz).encode()
        yield waveform.samples.tobytes()


def _absolute(path: Path) -> Path:
    """From the root, without links on the way; a last link stays, since it is the name the file is known by."""
    return path.parent.resolve() / path.name


def _check_unicode(text: str, what: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{what} {_shown(text)} holds bytes that are not valid UTF-8, so it cannot be stored; rename it"
        ) from error


def _shown(path: object) -> str:
    """A path or text as valid Unicode, for messages: names on disk may hold any bytes."""
    return os.fsencode(str(path)).decode("utf-8", errors="replace")
