"""Makes an index equal to folders, tables or archives: adds what is new, updates what changed, deletes what is gone.

A file that was only moved or renamed keeps its vectors.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.core.errors import IndexStateError, InvalidInput, MediaNotFound, MultimodalError
from multimodal.core.remote.opened import is_file
from multimodal.core.remote.path import AnyPath, GivenPath, RemotePath, is_remote_source
from multimodal.core.space import Space
from multimodal.index import fragments
from multimodal.index.ingest import video
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.document import Document
from multimodal.index.ingest.hashing import hash_file
from multimodal.index.ingest.jobs import checked_metadata, job_context
from multimodal.index.ingest.progress import JobProgress
from multimodal.index.ingest.scheduler import Job
from multimodal.index.ingest.sources import remote, resolve, zips
from multimodal.index.ingest.sources.record import ContainerRead, SourceOptions, SourceOutput
from multimodal.index.results import IngestReport
from multimodal.index.storage.failures import FailureLog
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.table import IndexedDocument, ItemTable


class Seen(NamedTuple):
    """What a job saw of the source. ids: those of members of containers. moved: documents whose rows another file took
    over. incomplete: containers with rows or members that could not be read."""

    ids: set[str]
    moved: Sequence[IndexedDocument]
    incomplete: set[str]


# Adds records; a file with the content of a vanished document, which are given by content, takes over its rows.
RunJob = Callable[[Iterator[SourceOutput], JobProgress, Mapping[str, list[IndexedDocument]]], Seen]


def sync(
    table: ItemTable,
    space: Space,
    source: GivenPath | Sequence[GivenPath],
    options: JobOptions,
    **given: Any,
) -> IngestReport:
    """See Index.sync."""

    def run(
        records: Iterator[SourceOutput],
        progress: JobProgress,
        vanished: Mapping[str, list[IndexedDocument]],
    ) -> Seen:
        job = Job(records, table, space, progress, options, vanished)
        job.committer.seen_ids = seen_ids = set[str]()
        job.run()
        return Seen(seen_ids, job.deduplicator.moved, job.admission.incomplete)

    return synchronise(table, run, source, options, **given)


def synchronise(
    table: ItemTable,
    run: RunJob,
    source: GivenPath | Sequence[GivenPath],
    options: JobOptions,
    *,
    metadata: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> IngestReport:
    """See Index.sync. run: the job, in this process or on a cluster."""
    source_options = SourceOptions(
        checked_metadata(metadata), columns, table.folder, delimiter, encoding, options.selection
    )
    roots = _check_roots(source)
    folders = [root for root in roots if _is_folder(root)]
    containers = [root for root in roots if not _is_folder(root)]
    with job_context(table, options, lambda: resolve.length(roots, source_options)) as progress:
        vanished = {
            indexed.provenance.source: indexed for folder in folders for indexed in _vanished(table, folder)
        }
        records = _CheckedRecords(resolve.records(roots, None, source_options))
        seen = run(records, progress, _by_content(vanished.values()))
        if vanished and not records.any:
            raise _nothing_found(folders, len(vanished))
        moved = {indexed.provenance.source for indexed in seen.moved}
        _delete(table, progress, [id_ for id_ in vanished if id_ not in moved])
        for container in containers:
            if str(container) in seen.incomplete:
                continue  # a document of a row that cannot be read must not be taken for one that is gone
            removed = _removed_members(table, progress.failure_log, str(container), seen.ids)
            _delete(table, progress, removed)
        read = records.read - seen.incomplete
        now = _Presence(folders)
        for folder in folders:
            _delete_archived(table, progress, folder, read, seen.ids, now)
        _resolve_vanished_failures(progress.failure_log, folders, read, seen.ids, now)
    return progress.report()


def _nothing_found(folders: Sequence[AnyPath], n: int) -> IndexStateError:
    return IndexStateError(
        f"{', '.join(map(str, folders))}: no file found, but the index holds {n:,} from there; nothing was deleted. "
        "Is a disk not mounted? To remove them on purpose, call Index.delete"
    )


def _is_folder(root: AnyPath) -> bool:
    if isinstance(root, RemotePath):
        return not (resolve.is_container_name(root) and is_file(root))
    return root.is_dir()


def _check_roots(source: GivenPath | Sequence[GivenPath]) -> list[AnyPath]:
    paths = [source] if isinstance(source, str | os.PathLike | RemotePath) else list(source)
    if not paths:
        raise InvalidInput("the list of folders is empty; give at least one")
    roots: list[AnyPath] = []
    for given in paths:
        if isinstance(given, RemotePath) or is_remote_source(given):
            address = given if isinstance(given, RemotePath) else RemotePath(str(given))
            if not resolve.is_container_name(address) and is_file(address):
                raise InvalidInput(
                    f"{address}: sync takes folders, tables and archives, got a file; add it with Index.add"
                )
            roots.append(address)
            continue
        path = Path(given).expanduser()
        if not path.exists():
            raise MediaNotFound(f"{path}: no such folder; check the path (nothing was changed)")
        if not resolve.is_container(path):
            raise InvalidInput(
                f"{path}: sync takes folders, tables and archives, got a file; add it with Index.add"
            )
        roots.append(path.resolve())
    return roots


class SyncPlan:
    """What a sync would move and delete: sees every document of the source, and changes nothing."""

    def __init__(self, table: ItemTable, source: object) -> None:
        self.table, self.roots = table, _check_roots(source)  # type: ignore[arg-type]
        folders = [root for root in self.roots if _is_folder(root)]
        self._vanished = {
            indexed.provenance.source: indexed for folder in folders for indexed in _vanished(table, folder)
        }
        self._by_content = _by_content(self._vanished.values())
        self._sizes = {indexed.provenance.size for indexed in self._vanished.values()}
        self._seen_ids: set[str] = set()
        self.n_moved = 0

    def sees(self, document: Document) -> bool:
        """Whether a document of the source is a file that only moved."""
        self._seen_ids.add(document.id)
        path = document.path
        if (
            path is None
            or document.stored is not None
            or not document.state
            or document.state[0] not in self._sizes
        ):
            return False
        with contextlib.suppress(OSError, MultimodalError):  # the sync itself reports what is wrong
            if vanished := self._by_content.get(video.hash_with_subtitles(path, hash_file(path))):
                vanished.pop()
                self.n_moved += 1
                return True
        return False

    def n_deleted(self) -> int:
        """How many documents would be deleted, once all of the source has been seen."""
        if self._vanished and not self._seen_ids:
            raise _nothing_found([root for root in self.roots if _is_folder(root)], len(self._vanished))
        failure_log = FailureLog(self.table.path)
        containers = [str(root) for root in self.roots if not _is_folder(root)]
        removed = [
            _removed_members(self.table, failure_log, container, self._seen_ids) for container in containers
        ]
        return len(self._vanished) - self.n_moved + sum(map(len, removed))


class _CheckedRecords(Iterator[SourceOutput]):
    """Records, whether there were any, and the containers that were read to their end."""

    def __init__(self, records: Iterator[SourceOutput]) -> None:
        self.records, self.any = records, False
        self.read: set[str] = set()

    def __next__(self) -> SourceOutput:
        record = next(self.records)
        self.any = True
        if isinstance(record, ContainerRead):
            self.read.add(record.container)
        return record


def _vanished(table: ItemTable, folder: AnyPath) -> Iterator[IndexedDocument]:
    """What the index holds of files below a folder that no longer exist. A file that cannot be looked up still does."""
    previous, now = None, _Presence([folder])
    for row, provenance in table.files_below(_below(folder)):
        source = provenance.source
        if source != previous and now.lacks(source):
            yield IndexedDocument(
                fragments.shared_metadata(row.metadata, row.id, provenance.source, row.uri),
                provenance,
                1,
                row.id,
            )
        previous = source


def _below(folder: AnyPath) -> str:
    """How the ids of files below a folder begin."""
    if isinstance(folder, RemotePath):
        return f"{folder}/"
    return f"{folder}{os.sep}".replace(os.sep * 2, os.sep)


class _Presence:
    """Which files exist. Folders on an object store are listed once, at the first question."""

    def __init__(self, folders: Sequence[AnyPath]) -> None:
        self._folders = [folder for folder in folders if isinstance(folder, RemotePath)]
        self._present: set[str] | None = None

    def lacks(self, path: str) -> bool:
        """Whether a file of one of the folders is gone. One that cannot be looked up is not. Raises StorageError."""
        if not self._folders or not is_remote_source(path):
            return _is_gone(path)
        if self._present is None:
            self._present = set[str]().union(*map(remote.present, self._folders))
        return path not in self._present


def _is_gone(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _by_content(vanished: Iterable[IndexedDocument]) -> dict[str, list[IndexedDocument]]:
    by_content: dict[str, list[IndexedDocument]] = {}
    for indexed in vanished:
        if indexed.provenance.content is not None:
            by_content.setdefault(indexed.provenance.content, []).append(indexed)
    return by_content


def _removed_members(
    table: ItemTable, failure_log: FailureLog, container: str, seen_ids: set[str]
) -> list[str]:
    """Ids that the index holds of a table or archive and that are no longer in it; none if it was not read to its
    end."""
    if container in failure_log:
        return []
    rows = table.provenances(is_in("container", [container], "container"))
    return sorted({provenance.source for _, provenance in rows} - seen_ids)


def _delete_archived(
    table: ItemTable,
    progress: JobProgress,
    folder: AnyPath,
    read: set[str],
    seen_ids: set[str],
    now: _Presence,
) -> None:
    """Deletes what the index holds of members of zip archives and of attachments below a folder that no longer exist:
    their file is gone, or was read to its end without them."""
    removed = []
    for container, ids in table.containers_below(_below(folder)).items():
        if not container.lower().endswith(zips.SUFFIXES):
            continue
        if container in read or now.lacks(container):
            removed += sorted(ids - seen_ids)
    _delete(table, progress, removed)


def _delete(table: ItemTable, progress: JobProgress, ids: Sequence[str]) -> None:
    if ids:
        table.delete(ids)
    for id_ in ids:
        progress.count(id_, "deleted")


def _resolve_vanished_failures(
    failure_log: FailureLog,
    folders: Sequence[AnyPath],
    read: set[str],
    seen_ids: set[str],
    now: _Presence,
) -> None:
    """Resolves the failures of what no longer exists: files below the folders, and members of containers that are gone
    or were read to their end without them."""
    for failure in failure_log:
        if failure.container in read:
            if failure.key not in seen_ids:
                failure_log.resolve(failure.key)
            continue
        path = failure.path or failure.container
        if path is None or not any(path.startswith(_below(folder)) for folder in folders):
            continue
        if now.lacks(path):
            failure_log.resolve(failure.key)
