"""Tells an encoder that does not work from files that are broken.

Broken files are listed, and never end a job. An encoder with a mistake in it fails for every item in the same way: its
error is raised with its traceback, instead of being listed once per file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import multimodal.core.media
from multimodal.core.errors import EncoderError, MultimodalError
from multimodal.core.modality import Modality
from multimodal.index.ingest.encode import FailedChunk
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.table import ItemTable

MIN_DOCUMENTS = 2  # a single document may be broken in a way that no check anticipates
MAX_DOCUMENTS = 32  # so many are enough to end the job early
MEDIA_CODE = str(Path(multimodal.core.media.__file__).parent)

Place = tuple[type[BaseException], str, int]  # the type of an error, and the file and line that raised it


class _Fault(NamedTuple):
    place: Place
    error: Exception
    documents: set[str]


class EncoderFaults:
    """Follows one job."""

    def __init__(self, table: ItemTable) -> None:
        self._table = table
        self._works: set[Modality] = set()  # encoders that have encoded something, or failed in several ways
        self._faults: dict[Modality, _Fault] = {}

    def succeeded(self, modality: Modality) -> None:
        """An item was encoded."""
        self._works.add(modality)
        self._faults.pop(modality, None)

    def failed(self, chunks: Sequence[FailedChunk]) -> None:
        """Items failed. Raises the error if all have failed by it so far, and they are many."""
        for chunk, stage, error in chunks:
            modality, place = chunk.item.modality, _place(error)
            if modality in self._works:
                continue
            fault = self._faults.setdefault(modality, _Fault(place, error, set()))
            if fault.place != place or _is_of_media(stage, error):
                self.succeeded(modality)
                continue
            fault.documents.add(chunk.document.id)
            if len(fault.documents) >= MAX_DOCUMENTS:
                self._raise(modality, fault)

    def check(self) -> None:
        """At the end of the job: raises the error by which every item of a modality failed, if there is one."""
        for modality, fault in list(self._faults.items()):
            if len(fault.documents) >= MIN_DOCUMENTS:
                self._raise(modality, fault)

    def _raise(self, modality: Modality, fault: _Fault) -> None:
        if self._table.count(is_in("modality", [str(modality)], "modality")):
            self.succeeded(modality)  # it has worked before
            return
        error = fault.error
        error.add_note(
            f"every {modality} failed by this error ({len(fault.documents)} so far): the encoder is at fault, not the "
            "files; none of them was added"
        )
        raise error


def _place(error: Exception) -> Place:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return type(error), "", 0
    return type(error), traceback.tb_frame.f_code.co_filename, traceback.tb_lineno


def _is_of_media(stage: str, error: Exception) -> bool:
    """Whether an error may be due to the item rather than the encoder."""
    if isinstance(error, MultimodalError):
        return not (isinstance(error, EncoderError) and stage == "encode")
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename.startswith(MEDIA_CODE):
            return True
        traceback = traceback.tb_next
    return False
