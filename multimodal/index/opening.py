"""What creating and opening an index share: its folder, and the check that a space belongs to it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Any

from multimodal.core.adapters import apply_adapters
from multimodal.core.catalog import load
from multimodal.core.encoder import combined_fingerprint
from multimodal.core.errors import IndexStateError, InvalidInput, UnknownModel
from multimodal.core.paths import URL, local_path
from multimodal.core.remote.path import AnyPath, GivenPath, RemotePath, is_remote, lacks_a_slash, refused
from multimodal.core.space import Space
from multimodal.index.storage.schema import FORMAT, PLAIN_FORMAT, IndexMetadata
from multimodal.index.storage.table import ItemTable
from multimodal.index.storage.vector_formats import FLOAT32, check_format

SHOWN_FINGERPRINT_CHARS = 12


def index_folder(path: GivenPath, storage_options: Mapping[str, str] | None = None) -> AnyPath:
    """The absolute folder of an index, or its address on an object store. Raises InvalidInput."""
    if isinstance(path, RemotePath):
        if not is_remote(path.url):
            raise refused(path.url)
        return path if storage_options is None else RemotePath(path.url, storage_options)
    if is_remote(path):
        address = RemotePath(os.fspath(path), storage_options)
        if set(address.url) & set("?#\\"):
            raise InvalidInput(
                f"{address.url!r} is not an address of an index: leave out '?', '#' and backslashes"
            )
        return address
    given: object = os.fspath(path)  # a PathLike may hold bytes
    if isinstance(given, str) and (lacks_a_slash(given) or (isinstance(path, str) and URL.match(given))):
        raise refused(given)
    if storage_options is not None:
        raise InvalidInput(
            f"storage_options are for an index on an object store, such as s3://bucket/name, got {given!r}; "
            "leave them out"
        )
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise InvalidInput(f"the path of an index must be a folder such as 'memories.lance', got {path!r}")
    return local_path(path, "an index")


def same_place(first: AnyPath, second: AnyPath) -> bool:
    """Whether two paths are one folder."""
    if isinstance(first, RemotePath) or isinstance(second, RemotePath):
        return first == second
    return first.resolve() == second.resolve()


def metadata_of(space: Space, vectors: str | None = None) -> IndexMetadata:
    """What a new index stores of its space. vectors: how it stores their vectors; None for float32.

    Raises InvalidInput if there is no such format, or the space has too few dimensions for it.
    """
    vector_format = check_format(FLOAT32 if vectors is None else vectors, space.dim)
    return IndexMetadata(
        space=space.name,
        address=space.address or space.name,
        fingerprint=space.fingerprint,
        dim=space.dim,
        modalities=tuple(map(str, space.modalities)),
        options=space.options,
        format=PLAIN_FORMAT if vector_format == FLOAT32 else FORMAT,
        vectors=vector_format,
    )


def load_space(table: ItemTable, **runtime: Any) -> Space:
    """The space that an index names. Raises IndexStateError if it cannot be loaded.

    runtime: options of `load` that do not change vectors, such as the device.
    """
    index_metadata = table.index_metadata
    try:
        return load(index_metadata.address, **(index_metadata.options | runtime))
    except UnknownModel as error:
        raise IndexStateError(
            f"the index at {str(table.path)!r} was created with the space {index_metadata.space!r}, which cannot be "
            f"loaded as {index_metadata.address!r} ({error}); pass it: Index.open({str(table.path)!r}, space)"
        ) from error


def adapted_space(index: object, adapter: Any, options: Mapping[str, Any]) -> Space:
    """The space for an index with adapters on its encoders.

    Args:
        index: The folder of the index.
        adapter: As of `load`.
        options: Of a pipeline; `space` names another space than the one that the index names.

    Raises:
        InvalidInput: For an index that is open: it has its space.
        IndexStateError: If the space of the index cannot be loaded.
    """
    if index is None:
        raise InvalidInput("an adapter of a space needs index=, the folder of an index in that space")
    if not isinstance(index, str | os.PathLike | RemotePath):
        raise InvalidInput(
            f"adapter= is for the folder of an index, got {type(index).__name__}, which has its space: open it with "
            "Index.open(folder, load(name, adapter=…))"
        )
    space = options.get("space")
    if isinstance(space, Space):
        return apply_adapters(space, adapter)
    if space is not None:
        return load(space, adapter=adapter)
    return load_space(ItemTable.open(index_folder(index)), adapter=adapter)


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
    raise mismatch(table, metadata_of(space))  # whose vectors are compared, not how they are stored


def mismatch(table: ItemTable, given: IndexMetadata) -> IndexStateError:
    """The error for an index that was created with another space than the given one."""
    return IndexStateError(
        f"the index at {str(table.path)!r} was created with the space {_describe(table.index_metadata)}, and is "
        f"opened with {_describe(given)}: their "
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


def _describe(space: IndexMetadata) -> str:
    fingerprint = f"{space.fingerprint[:SHOWN_FINGERPRINT_CHARS]}…"
    return f"{space.space!r} ({' + '.join(space.modalities)}, dim {space.dim}, fingerprint {fingerprint})"
