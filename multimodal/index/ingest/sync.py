"""Makes an index equal to a folder, a table or an archive: what is new or changed comes in, what is gone goes out, and
a file that was only moved or renamed keeps its vectors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from multimodal.core.errors import IndexStateError, InvalidInput, MediaNotFound
from multimodal.core.space import Space
from multimodal.index.ingest.jobs import How, begun, checked
from multimodal.index.ingest.progress import Tally
from multimodal.index.ingest.scheduler import Job
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.record import Source
from multimodal.index.ingest.sources.resolve import Given
from multimodal.index.results import IngestReport
from multimodal.index.storage.failures import Ledger
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.table import IndexedDocument, ItemTable

PathLike = str | os.PathLike[str]


def sync(
    store: ItemTable,
    space: Space,
    source: PathLike | Sequence[PathLike],
    how: How,
    *,
    metadata: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
) -> IngestReport:
    """See Index.sync."""
    given = Given(checked(metadata), columns, store.path)
    roots = _roots(source)
    folders = [root for root in roots if root.is_dir()]
    containers = [root for root in roots if not root.is_dir()]
    with begun(store, how, lambda: resolve.length(roots, given)) as tally:
        gone = {known.provenance.source: known for folder in folders for known in _gone(store, folder)}
        walked = _Walked(resolve.entries(roots, None, given))
        job = Job(walked, store, space, tally, replace(how.options, vanished=_by_content(gone.values())))
        job.outlet.seen = set() if containers else None
        job.run()
        if gone and not walked.any:
            raise IndexStateError(
                f"{', '.join(map(str, folders))}: holds no file at all, and the index has {len(gone):,} from there; "
                "nothing was deleted: is a disk not mounted? If it is meant, delete them with Index.delete"
            )
        moved = {known.provenance.source for known in job.intake.twins.taken}
        _delete(store, tally, [source for source in gone if source not in moved])
        for container in containers:
            _delete(store, tally, _left_over(store, tally, str(container), job.outlet.seen or set()))
        _forget(tally.ledger, folders)
    return tally.report()


def _roots(source: PathLike | Sequence[PathLike]) -> list[Path]:
    given = [source] if isinstance(source, str | os.PathLike) else list(source)
    if not given:
        raise InvalidInput("the list of folders is empty; give at least one")
    roots = []
    for one in given:
        path = Path(one).expanduser()
        if not path.exists():
            raise MediaNotFound(f"{path}: no such folder; check the path (nothing was changed)")
        if not resolve.is_many(path):
            raise InvalidInput(
                f"{path}: sync takes folders, tables and archives, this is a file; add it with Index.add"
            )
        roots.append(path.resolve())
    return roots


class _Walked(Iterator[Source]):
    """Entries, and whether there were any."""

    def __init__(self, entries: Iterator[Source]) -> None:
        self.entries, self.any = entries, False

    def __next__(self) -> Source:
        entry = next(self.entries)
        self.any = True
        return entry


def _gone(store: ItemTable, folder: Path) -> Iterator[IndexedDocument]:
    """What the index has of files below a folder that are not there any more. What cannot be looked at is not gone."""
    last = None
    for row, origin in store.files_below(f"{folder}{os.sep}".replace(os.sep * 2, os.sep)):
        if origin.source != last and _is_gone(origin.source):
            yield IndexedDocument(row, origin, 1)
        last = origin.source


def _is_gone(path: str) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _by_content(gone: Iterable[IndexedDocument]) -> dict[str, list[IndexedDocument]]:
    found: dict[str, list[IndexedDocument]] = {}
    for known in gone:
        if known.provenance.content is not None:
            found.setdefault(known.provenance.content, []).append(known)
    return found


def _left_over(store: ItemTable, tally: Tally, container: str, seen: set[str]) -> list[str]:
    """What the index has from a table or archive and is not in it any more; nothing if that could not be read whole."""
    if container in tally.ledger:
        return []
    rows = store.provenances(is_in("container", [container], "container"))
    return sorted({origin.source for _, origin in rows} - seen)


def _delete(store: ItemTable, tally: Tally, ids: Sequence[str]) -> None:
    if ids:
        store.delete(ids)
    for one in ids:
        tally.end(one, "deleted")


def _forget(ledger: Ledger, folders: Sequence[Path]) -> None:
    """What failed below a folder and is not there any more is no failure any more."""
    for failed in ledger:
        path = failed.path
        if path is not None and any(Path(path).is_relative_to(one) for one in folders) and _is_gone(path):
            ledger.settle(failed.key)
