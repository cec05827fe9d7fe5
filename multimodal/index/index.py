"""Index: vectors on disk that can be searched by anything the space encodes."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

from multimodal.core.catalog import load
from multimodal.core.errors import IndexStateError, InvalidInput, UnknownModel
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space
from multimodal.core.types import Item
from multimodal.index import build
from multimodal.index import search as searching
from multimodal.index.build import Progress
from multimodal.index.filters import condition, whole_number
from multimodal.index.results import AddReport, Hits
from multimodal.index.sources import check_ids
from multimodal.index.store import Store, is_store
from multimodal.index.table import About

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

    OneQuery = str | Path | Item | PIL.Image.Image | Mapping[str, Any]

FINGERPRINT_SHOWN = 12


class Index:
    """Items of any modality on disk, and a search over them. Make one with Index.create or Index.open.

    It belongs to one space, known by its fingerprint: vectors of another one cannot be compared, and are refused.
    Several processes may read and write one index; each call sees what was written before it.
    """

    def __init__(self, store: Store, space: Space) -> None:
        self._store = store
        self._space = space

    @classmethod
    def create(cls, path: str | os.PathLike[str], space: Space | str | os.PathLike[str]) -> Self:
        """A new, empty index in a new or empty folder.

        space: a Space, or what `load` takes. Where it was loaded from is kept, so that Index.open(path) can load it
        again.
        Raises IndexStateError if something is there already.
        """
        loaded = as_space(space)
        about = About(
            space=loaded.name,
            address=loaded.address or loaded.name,
            fingerprint=loaded.fingerprint,
            dim=loaded.dim,
            modalities=tuple(map(str, loaded.modalities)),
        )
        return cls(Store.create(_folder(path), about), loaded)

    @classmethod
    def open(cls, path: str | os.PathLike[str], space: Space | str | os.PathLike[str] | None = None) -> Self:
        """The index in a folder, with the space that made it (default: loaded by the name that the index keeps).

        Raises IndexStateError if there is no index, if its space cannot be loaded by name, or if `space` is
        another one.
        """
        store = Store.open(_folder(path))
        loaded = _load_again(store) if space is None else as_space(space)
        _refuse_other(store, loaded)
        return cls(store, loaded)

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Whether there is an index in a folder."""
        return is_store(_folder(path))

    @property
    def path(self) -> Path:
        return self._store.path

    @property
    def space(self) -> Space:
        return self._space

    @property
    def fingerprint(self) -> str:
        """Of the space whose vectors these are."""
        return self._store.about.fingerprint

    def add(
        self,
        source: object,
        *,
        ids: Sequence[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        progress: Progress | None = None,
    ) -> AddReport:
        """Adds a folder, a file, an item, or an iterable of items and (item, metadata) pairs.

        A str or Path alone is a folder (taken recursively, in order of name, hidden files left out) or a file; files
        are told by their content, .txt and .md are texts. In a list, a str is a text and a Path a file, as everywhere.

        ids: one for each thing. By default the absolute path of a file, an item's own `uri`, or else a hash of its
        content; what has an id the index knows takes its place.
        metadata: for all; a pair's own goes before it. Keys are str, values str, int, float, bool or None.
        progress: called with 1 for each thing done, whether it went well or not.

        What cannot be read or encoded is left out and listed in the report. Raises MediaNotFound for a path that
        does not exist, InvalidInput for an empty list and for ids or metadata that cannot be stored.
        """
        return build.add(self._store, self._space, source, ids=ids, metadata=metadata, batch_size=batch_size,
                         progress=progress)  # fmt: skip

    @overload
    def search(self, query: OneQuery, k: int = 10, *, modality: str | Iterable[str] | None = None,
               where: Mapping[str, Any] | None = None) -> Hits: ...  # fmt: skip

    @overload
    def search(self, query: list[Any] | tuple[Any, ...], k: int = 10, *,
               modality: str | Iterable[str] | None = None,
               where: Mapping[str, Any] | None = None) -> list[Hits]: ...  # fmt: skip

    @overload
    def search(self, query: NDArray[Any], k: int = 10, *, modality: str | Iterable[str] | None = None,
               where: Mapping[str, Any] | None = None) -> Any: ...  # fmt: skip

    def search(self, query: object, k: int = 10, *, modality: str | Iterable[str] | None = None,
               where: Mapping[str, Any] | None = None) -> Hits | list[Hits]:  # fmt: skip
        """The k items nearest to a query by cosine, best first (equal ones by id); a list of queries gives a list.

        query: anything the space encodes (a str is text), a float vector (dim,), or a list of these; a float array
        (n, dim) is n queries.
        modality: only these, "image" or ["image", "audio"]. where: only items whose metadata match, such as
        {"album": "x", "place": ["y", "z"], "year": {">=": 2000, "<": 2010}}. Filters come first: if k items match,
        k are found. Every row is compared, so the answer is exact.
        Raises InvalidInput, UnsupportedModality, MediaError.
        """
        n = whole_number(k, "k")
        only = condition(self._space, modality, where)
        vectors, alone = searching.query_vectors(self._space, query)
        found = [searching.search(self._store, vector, n, only) for vector in vectors]
        return found[0] if alone else found

    def rows(
        self,
        *,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
        vectors: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """What is stored, one dict after another: id, uri, modality, text, metadata and, if asked, vector (dim,).

        The order is that of the files on disk. modality, where: as in `search`.
        """
        only = condition(self._space, modality, where)
        for row, vector in self._store.rows(only, vectors=vectors):
            yield row._asdict() if vector is None else row._asdict() | {"vector": vector}

    def delete(self, ids: Sequence[str] | str) -> int:
        """Removes one id or several -> how many were there. An id that is not there is no error."""
        return self._store.delete(check_ids(ids))

    def __len__(self) -> int:
        return self._store.count()

    def __bool__(self) -> bool:
        """True even if it is empty: an index is a thing, not only what is in it."""
        return True

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, {len(self):,} items, space={self._store.about.space!r})"

    def _repr_html_(self) -> str:
        about = self._store.about
        counts = "".join(
            f"<tr><td>{html.escape(one)}</td><td>{self._store.count(condition(self._space, one)):,}</td></tr>"
            for one in about.modalities
        )
        title = f"<b>Index {html.escape(str(self.path))}</b><p>space {html.escape(about.space)}</p>"
        return f"{title}<table>{counts}</table>"


def _folder(path: str | os.PathLike[str]) -> Path:
    given: object = os.fspath(path)  # a PathLike may hold bytes
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise InvalidInput(f"the path of an index must be a folder such as 'memories.lance', got {path!r}")
    return Path(given).expanduser().absolute()


def _load_again(store: Store) -> Space:
    about = store.about
    try:
        return load(about.address)
    except UnknownModel as error:
        raise IndexStateError(
            f"the index at {str(store.path)!r} was made with the space {about.space!r}, which cannot be loaded as "
            f"{about.address!r} ({error}); give it: Index.open({str(store.path)!r}, space)"
        ) from error


def _refuse_other(store: Store, space: Space) -> None:
    about = store.about
    if space.fingerprint == about.fingerprint:
        return
    made = _described(about.space, about.dim, about.modalities, about.fingerprint)
    given = _described(space.name, space.dim, space.modalities, space.fingerprint)
    raise IndexStateError(
        f"the index at {str(store.path)!r} was made with the space {made}, and is opened with {given}: their vectors "
        "cannot be compared; open it with the first, or make a new index from the same files with the second"
    )


def _described(name: str, dim: int, modalities: Iterable[str], fingerprint: str) -> str:
    return f"{name!r} ({' + '.join(modalities)}, dim {dim}, fingerprint {fingerprint[:FINGERPRINT_SHOWN]}…)"
