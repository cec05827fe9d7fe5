"""Which folder an index is in, and whether a space is the one it was made with."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from multimodal.core.catalog import load
from multimodal.core.errors import IndexStateError, InvalidInput, UnknownModel
from multimodal.core.space import Space
from multimodal.index.storage.table import ItemTable

FINGERPRINT_SHOWN = 12


def folder_of(path: str | os.PathLike[str]) -> Path:
    given: object = os.fspath(path)  # a PathLike may hold bytes
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise InvalidInput(f"the path of an index must be a folder such as 'memories.lance', got {path!r}")
    return Path(given).expanduser().absolute()


def load_again(store: ItemTable) -> Space:
    about = store.index_metadata
    try:
        return load(about.address, **about.options)
    except UnknownModel as error:
        raise IndexStateError(
            f"the index at {str(store.path)!r} was made with the space {about.space!r}, which cannot be loaded as "
            f"{about.address!r} ({error}); give it: Index.open({str(store.path)!r}, space)"
        ) from error


def own_part(store: ItemTable, space: Space) -> Space:
    """The part of a space that the index was made with: all of it or, of one with more modalities (as a bridge brings),
    those of the index. More is added to it with this part alone; anything the space encodes may search it.

    Raises IndexStateError if the index was made with another space.
    """
    about = store.index_metadata
    if set(about.modalities) <= set(map(str, space.modalities)):
        part = space.select(*about.modalities)
        if part.fingerprint == about.fingerprint:
            return space if len(part.encoders) == len(space.encoders) else part
    made = _described(about.space, about.dim, about.modalities, about.fingerprint)
    given = _described(space.name, space.dim, space.modalities, space.fingerprint)
    raise IndexStateError(
        f"the index at {str(store.path)!r} was made with the space {made}, and is opened with {given}: their vectors "
        "cannot be compared; open it with the first, or make a new index from the same files with the second"
    )


def _described(name: str, dim: int, modalities: Iterable[str], fingerprint: str) -> str:
    return f"{name!r} ({' + '.join(modalities)}, dim {dim}, fingerprint {fingerprint[:FINGERPRINT_SHOWN]}…)"
