"""Contents: leaves out documents whose content the index has under another id, and finds files that only moved.

Workers hash, in units of their own, and in any order. The driver decides in the order of the source, so that which of
two documents with one content is added does not depend on the workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from multimodal.index.ingest.document import Document
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.table import IDS_PER_STATEMENT, IndexedDocument, ItemTable

Match = IndexedDocument | str | None


class Contents:
    """Belongs to the driver.

    Args:
        table: In which owners of a content are looked up.
        vanished: Documents whose file is gone, by content; a file with the same content takes over their rows.
        dedupe: Whether duplicates are left out.
    """

    def __init__(
        self, table: ItemTable, vanished: Mapping[str, list[IndexedDocument]], *, dedupe: bool
    ) -> None:
        self.moved: list[IndexedDocument] = []  # vanished documents whose rows another file took over
        self._table, self._vanished, self._dedupe = table, dict(vanished), dedupe
        self._waiting: deque[Document] = deque()  # in the order of the source
        self._hashes: dict[str, str | None] = {}
        self._dropped: set[str] = set()
        self._owners: dict[str, str] = {}  # ids by content, of documents that are not in the table yet
        self._owned: dict[str, str] = {}  # the reverse

    @property
    def is_active(self) -> bool:
        """Whether contents have to be known at all."""
        return self._dedupe or bool(self._vanished)

    def push(self, document: Document) -> None:
        """A document waits for its hash."""
        self._waiting.append(document)

    def drop(self, id_: str) -> None:
        """The hash of a document will not come: it ends its worker."""
        self._dropped.add(id_)

    def settle(self, id_: str) -> None:
        """A document has its outcome: it is in the table, or failed and owns its content no longer."""
        if (content := self._owned.pop(id_, None)) is not None:
            del self._owners[content]

    def receive(self, hashes: Mapping[str, str | None]) -> list[tuple[Document, Match]]:
        """Hashes have arrived -> the documents that are decided now, in the order of the source, each with the vanished
        document whose rows it takes over, or the id that owns its content, or None: it is to be added."""
        self._hashes |= hashes
        decided: list[Document] = []
        while self._waiting:
            id_ = self._waiting[0].id
            if id_ in self._dropped:
                self._dropped.remove(id_)
                self._waiting.popleft()
            elif id_ in self._hashes:
                document = self._waiting.popleft()
                document.content_hash = self._hashes.pop(id_)
                decided.append(document)
            else:
                break
        stored = self._stored_owners(decided)
        return [(document, self._match(document, stored)) for document in decided]

    def _match(self, document: Document, stored: Mapping[str, str]) -> Match:
        content = document.content_hash
        if content is None or document.has_same_content:
            return None
        if vanished := self._vanished.get(content):
            self.moved.append(vanished.pop(0))
            return self.moved[-1]
        if not self._dedupe:
            return None
        owner = self._owners.get(content) or stored.get(content)
        if owner is not None and owner != document.id:
            return owner
        self._owners[content] = document.id
        self._owned[document.id] = content
        return None

    def _stored_owners(self, documents: Sequence[Document]) -> dict[str, str]:
        """The ids by content that the table holds of the contents of documents."""
        contents = sorted({document.content_hash for document in documents if document.content_hash})
        if not self._dedupe:
            return {}
        return {
            provenance.content: provenance.source
            for some in _batches(contents)
            for _, provenance in self._table.provenances(is_in("content", some, "contents"))
            if provenance.content
        }


def _batches(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + IDS_PER_STATEMENT] for start in range(0, len(values), IDS_PER_STATEMENT))
