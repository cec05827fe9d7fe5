"""What creating and opening an index share: its folder, and the check that a space belongs to it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path

from multimodal.core.catalog import load
from multimodal.core.encoder import combined_fingerprint
from multimodal.core.errors import IndexStateError, InvalidInput, UnknownModel
from multimodal.core.paths import local_path
from multimodal.core.space import Space
from multimodal.index.storage.table import ItemTable

SHOWN_FINGERPRINT_CHARS = 12


def index_folder(path: str | os.PathLike[str]) -> Path:
    """The absolute folder of an index. Raises InvalidInput."""
    given: object = os.fspath(path)  # a PathLike may hold bytes
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise InvalidInput(f"the path of an index must be a folder such as 'memories.lance', got {path!r}")
    return local_path(path, "an index")


def load_space(table: ItemTable) -> Space:
    """The space that an index names. Raises IndexStateError if it cannot be loaded."""
    index_metadata = table.index_metadata
    try:
        return load(index_metadata.address, **index_metadata.options)
    except UnknownModel as error:
        raise IndexStateError(
            f"the index at {str(table.path)!r} was created with the space {index_metadata.space!r}, which cannot be "
            f"loaded as {index_metadata.address!r} ({error}); pass it: Index.open({str(table.path)!r}, space)"
        ) from error


def matching_space(table: ItemTable, space: Space) -> Space:
    """The part of a space that the index was created with.

    That is all of it, or of a space with more modalities (such as a bridged one) those of the index. Items are added
    with this part; anything the whole space encodes may be searched with. The index may be older than the weights of
    an encoder that was trained further for the same space. Raises IndexStateError if the index was created with
    another space.
    """
    index_metadata = table.index_metadata
    if set(index_metadata.modalities) <= set(map(str, space.modalities)):
        part = space.select(*index_metadata.modalities)
        if index_metadata.fingerprint in accepted_fingerprints(part):
            return space if len(part.encoders) == len(space.encoders) else part
    created = _describe(
        index_metadata.space, index_metadata.dim, index_metadata.modalities, index_metadata.fingerprint
    )
    given = _describe(space.name, space.dim, space.modalities, space.fingerprint)
    raise IndexStateError(
        f"the index at {str(table.path)!r} was created with the space {created}, and is opened with {given}: their "
        "vectors cannot be compared; open it with the first, or create a new index from the same files with the second"
    )


def check_vectors(table: ItemTable, vectors: str | None) -> None:
    """Raises IndexStateError if an index stores vectors in another format than a caller asks for; None for any."""
    if vectors is not None and table.index_metadata.vectors != vectors:
        raise IndexStateError(
            f"the index at {str(table.path)!r} stores vectors as {table.index_metadata.vectors}, got "
            f"vectors={vectors!r}; leave it out, or create a new index with it and add this one by add_index"
        )


def accepted_fingerprints(space: Space) -> set[str]:
    """Of the space, and of the space with earlier weights of its encoders."""
    choices = (
        [(modality, fingerprint) for fingerprint in encoder.accepted_fingerprints]
        for modality, encoder in space.encoders.items()
    )
    return {combined_fingerprint(encoders) for encoders in itertools.product(*choices)}


def _describe(name: str, dim: int, modalities: Iterable[str], fingerprint: str) -> str:
    return f"{name!r} ({' + '.join(modalities)}, dim {dim}, fingerprint {fingerprint[:SHOWN_FINGERPRINT_CHARS]}…)"
