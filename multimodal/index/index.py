"""Index: vectors on disk that can be searched by anything the space encodes."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

from multimodal.core.items import Item
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space
from multimodal.index.ingest import estimate as estimating
from multimodal.index.ingest import jobs
from multimodal.index.ingest import sync as syncing
from multimodal.index.ingest.jobs import How
from multimodal.index.ingest.sources.resolve import check_ids
from multimodal.index.opening import folder_of, load_again, own_part
from multimodal.index.results import Estimate, Failure, Hits, IngestReport, Progress
from multimodal.index.search.query import Query
from multimodal.index.search.request import Mode, ask
from multimodal.index.search.searcher import Searcher
from multimodal.index.storage.failures import Ledger
from multimodal.index.storage.filters import condition
from multimodal.index.storage.lock import writing
from multimodal.index.storage.schema import IndexMetadata
from multimodal.index.storage.table import ItemTable, is_index

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

    OneQuery = str | Path | Item | PIL.Image.Image | Mapping[str, Any]

MANY_ITEMS = 10_000_000  # of which sketches take 640 MB and some 30 ms on one core


class Index:
    """Items of any modality on disk, and a search over them. Make one with Index.create or Index.open.

    It belongs to one space, known by its fingerprint: vectors of another one cannot be compared, and are refused.
    Several processes may read and write one index; each call sees what was written before it.
    """

    def __init__(self, store: ItemTable, space: Space) -> None:
        self._store = store
        self._space = space
        self._own = own_part(store, space)  # what encodes what is added
        self._searcher = Searcher(store)

    @classmethod
    def create(cls, path: str | os.PathLike[str], space: Space | str | os.PathLike[str]) -> Self:
        """A new, empty index in a new or empty folder.

        space: a Space, or what `load` takes. Where it was loaded from is kept, so that Index.open(path) can load it
        again.
        Raises IndexStateError if something is there already.
        """
        loaded = as_space(space)
        about = IndexMetadata(
            space=loaded.name,
            address=loaded.address or loaded.name,
            fingerprint=loaded.fingerprint,
            dim=loaded.dim,
            modalities=tuple(map(str, loaded.modalities)),
            options=loaded.options,
        )
        return cls(ItemTable.create(folder_of(path), about), loaded)

    @classmethod
    def open(cls, path: str | os.PathLike[str], space: Space | str | os.PathLike[str] | None = None) -> Self:
        """The index in a folder, with the space that made it (default: loaded by the name that the index keeps, with
        the options it was loaded with), or one that has that and more modalities, which may search but not be added.

        Raises IndexStateError if there is no index, if its space cannot be loaded by name, or if `space` is
        another one.
        """
        store = ItemTable.open(folder_of(path))
        loaded = load_again(store) if space is None else as_space(space)
        return cls(store, loaded)

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Whether there is an index in a folder."""
        return is_index(folder_of(path))

    @property
    def path(self) -> Path:
        return self._store.path

    @property
    def space(self) -> Space:
        return self._space

    @property
    def fingerprint(self) -> str:
        """Of the space whose vectors these are."""
        return self._store.index_metadata.fingerprint

    def add(
        self,
        source: object,
        *,
        ids: Sequence[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        columns: Mapping[str, str] | None = None,
        dedupe: bool = False,
        batch_size: int = 32,
        threads: int | None = None,
        wait: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        """Adds a folder, a file, an item, or an iterable of items and (item, metadata) pairs.

        A str or Path alone is a folder (taken recursively, in order of name, hidden files left out), a file, or a
        pattern such as "photos/**/*.jpg"; files are told by their content, .txt and .md are texts. A table (.csv, .tsv,
        .jsonl, .parquet) given by its name is a list of paths or texts with metadata, a tar archive holds what
        WebDataset puts in one, and anything with `features` is a Hugging Face data set. In a list, a str is a text and
        a Path any of these, as everywhere.

        A long sound becomes a row for each window (hits have start_s and end_s), a long text file a row for each chunk
        (start_char, end_char). What the index has already is not encoded again: files of the same size and time, and
        anything of the same content. So a job that was stopped, at any moment and by whatever, goes on when it is begun
        again.

        ids: one for each thing. By default the absolute path of a file, an item's own `uri`, or else a hash of its
        content; what has an id the index knows takes its place. Windows and chunks add "#t=0-10" or "#chunk=3".
        metadata: for all; a pair's own goes before it. Keys are str, values str, int, float, bool or None. Without any,
        what is known keeps its own.
        columns: of a table or data set, {"path": …, "text": …, "id": …}, where their names do not tell.
        dedupe: leave out what the index has under another id.
        batch_size: pictures in a batch; of sound and text as much as costs the same. threads: that read and decode, as
        many as there are cores by default.
        wait: seconds to wait for another writer; without limit by default.
        progress: called with a Progress, ten times a second at most.

        What cannot be read or encoded is left out and listed, in the report and in `failures`. Raises MediaNotFound for
        a path that does not exist, InvalidInput for an empty list and for ids, metadata or columns that cannot be used,
        IndexBusy if the wait is over, IndexStateError if the index cannot be written; what was written before is kept.
        """
        how = How(dedupe, batch_size, threads, wait, progress)
        report = jobs.add(self._store, self._own, source, how, ids=ids, metadata=metadata, columns=columns)
        self._searcher.prepare()
        return report

    def sync(
        self,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        metadata: Mapping[str, Any] | None = None,
        columns: Mapping[str, str] | None = None,
        dedupe: bool = False,
        batch_size: int = 32,
        threads: int | None = None,
        wait: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        """Makes the index equal to a folder, or several: adds what is new, renews what changed (by size and time, then
        by content), gives a file that was moved its new path without encoding it again, and deletes what is gone.

        A table or archive is synced with its rows or members in the same way. Rows from elsewhere are left alone, and
        so is whatever cannot be looked at, such as below a folder without permission; a file that is there but cannot
        be read any more keeps the row it had. What a link leads to outside of the folder is added and renewed, never
        deleted. Options as in `add`.

        Raises MediaNotFound for a path that does not exist, InvalidInput for a single file, IndexStateError if the
        folder is empty while the index has files from there (a disk that is not mounted looks the same).
        """
        how = How(dedupe, batch_size, threads, wait, progress)
        report = syncing.sync(self._store, self._own, source, how, metadata=metadata, columns=columns)
        self._searcher.prepare()
        return report

    def estimate(
        self,
        source: object,
        *,
        columns: Mapping[str, str] | None = None,
        batch_size: int = 32,
        threads: int | None = None,
    ) -> Estimate:
        """What `add(source)` would have to do, and about how long that would take. Nothing is written.

        The kinds of files are told by their names where these tell; the time is measured on some of them. A source that
        can be gone through once only (an iterator) is used up. Options and errors as in `add`.
        """
        how = How(False, batch_size, threads)
        return estimating.estimate(self._store, self._own, source, columns, how.options)

    def failures(self) -> tuple[Failure, ...]:
        """The ledger: what could not be added so far, with stage and reason, in the order of names.

        It lasts from run to run. A thing leaves it when it is added after all, or when `sync` finds it gone. What was
        given in memory is in the report of its `add` alone, since it cannot be found again.
        """
        return Ledger(self.path).failures()

    def retry_failed(
        self,
        *,
        batch_size: int = 32,
        threads: int | None = None,
        wait: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> IngestReport:
        """Tries again everything that is in `failures`, with the ids and metadata it was given with, and nothing else.
        Options and errors as in `add`."""
        how = How(False, batch_size, threads, wait, progress)
        report = jobs.retry_failed(self._store, self._own, how)
        self._searcher.prepare()
        return report

    @overload
    def search(self, query: OneQuery | Query | None = None, k: int = 10, *, text: str | None = None,
               mode: Mode | None = None, near: Sequence[str] | str | None = None,
               modality: str | Iterable[str] | None = None, where: Mapping[str, Any] | None = None,
               ids: Sequence[str] | str | None = None, offset: int = 0, exact: bool = False,
               distinct: bool = False, calibrated: bool = True, min_probability: float | None = None,
               group: bool | str = False) -> Hits: ...  # fmt: skip

    @overload
    def search(self, query: list[Any] | tuple[Any, ...] | NDArray[Any], k: int = 10, *, text: str | None = None,
               mode: Mode | None = None, near: Sequence[str] | str | None = None,
               modality: str | Iterable[str] | None = None, where: Mapping[str, Any] | None = None,
               ids: Sequence[str] | str | None = None, offset: int = 0, exact: bool = False,
               distinct: bool = False, calibrated: bool = True, min_probability: float | None = None,
               group: bool | str = False) -> Any: ...  # fmt: skip

    def search(
        self,
        query: object = None,
        k: int = 10,
        *,
        text: str | None = None,
        mode: Mode | None = None,
        near: Sequence[str] | str | None = None,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
        ids: Sequence[str] | str | None = None,
        offset: int = 0,
        exact: bool = False,
        distinct: bool = False,
        calibrated: bool = True,
        min_probability: float | None = None,
        group: bool | str = False,
    ) -> Hits | list[Hits]:
        """The k items that fit a query best, the best first, equal ones by id; a list of queries gives a list.

        query: anything the space encodes (a str is text), a float vector (dim,), a list of these, or a float array
        (n, dim). A list of (thing, weight) pairs is one query of several parts, and so is a Query: [("beach", 1.0),
        (photo, 0.5), ("people", -0.7)].
        near: the id of an item, or several, to search with; these are left out of the hits. A query beside it is one
        more part.
        text: words to find in texts, captions and other metadata, and file names; "words in quotes" as they stand.
        With a query or near the two orders are joined by rank (mode="hybrid"), without it is by words alone
        (mode="text"). With a mode and no text, a query that is text gives the words.

        modality: only these, "image" or ["image", "audio"]. where: only items whose metadata match, such as
        {"album": "x", "place": ["y", "z"], "year": {">=": 2000, "<": 2010}}. ids: only these. Filters come first: if
        k items match, k are found.
        offset: leave out so many of the first hits, for the pages of a long answer. distinct: of hits with the same
        content, or vectors that are nearly the same (cosine 0.999), only the best. group: only the best part of each
        long thing (True), or the best of those with one value of a metadata key (group="film": of its pictures, sounds
        and texts).

        hit.score is the cosine. Over several modalities hits are ordered by hit.probability, since cosines of one do
        not compare with those of another; within one, the order is that of cosine. calibrated=False: by cosine alone.
        min_probability: only hits as probable as that, so perhaps none (starter: 0.87). With fewer than 10 rows
        of a modality hits are ordered by cosine, and `hits.note` says so.
        multimodal/index/search/score_calibration.py tells how far
        to trust these.

        Below some 20,000 items every vector is compared. Above, candidates are chosen by sketches of the vectors, and
        at most half a percent of the nearest is expected to be missing; exact=True compares all, which takes up to
        twenty times as long. `hits.method` tells which it was.
        Raises InvalidInput, UnsupportedModality, MediaError.
        """
        return ask(
            self._searcher, self._space, query, k, text=text, mode=mode, modality=modality, where=where, offset=offset,
            near=None if near is None else check_ids(near), ids=None if ids is None else check_ids(ids), exact=exact,
            distinct=distinct, calibrated=calibrated, min_probability=min_probability, group=group,
        )  # fmt: skip

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

    def optimize(self, *, approximate: bool | None = None, wait: float | None = None) -> None:
        """Merges small files, and prepares all that searches would otherwise prepare when they first need it.

        approximate: build LanceDB's own index over the vectors, or bring it up to date, and from then on let it answer
        searches without a filter (exact=True goes past it); False drops it. By default it is built for more than ten
        million items, where it is faster. wait: as in `add`. Raises IndexBusy, IndexStateError.
        """
        with writing(self.path, wait):
            self._store.optimize(approximate=len(self) > MANY_ITEMS if approximate is None else approximate)
        self._searcher.prepare()
        self._searcher.view().prepare_words()

    def delete(self, ids: Sequence[str] | str) -> int:
        """Removes one id or several -> how many rows there were. An id that is not there is no error; that of a long
        sound or text removes all its parts. Waits for another writer."""
        known = check_ids(ids)
        with writing(self.path):
            self._store.upgrade()
            return self._store.delete(known)

    def __len__(self) -> int:
        return self._store.count()

    def __bool__(self) -> bool:
        """True even if it is empty: an index is a thing, not only what is in it."""
        return True

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, {len(self):,} items, space={self._store.index_metadata.space!r})"

    def _repr_html_(self) -> str:
        about = self._store.index_metadata
        counts = "".join(
            f"<tr><td>{html.escape(one)}</td><td>{self._store.count(condition(self._space, one)):,}</td></tr>"
            for one in about.modalities
        )
        title = f"<b>Index {html.escape(str(self.path))}</b><p>space {html.escape(about.space)}</p>"
        return f"{title}<table>{counts}</table>"
