"""Settings of a job that adds to an index: what the caller chooses, and the bounds within which the stages work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import get_args

from multimodal.core.checks import whole_number
from multimodal.core.errors import InvalidInput
from multimodal.index.ingest.documents.part import Pages
from multimodal.index.ingest.sources.selection import EVERYTHING, Selection
from multimodal.index.results import Progress


@dataclass(frozen=True)
class IngestConfig:
    """Memory bounds and intervals of `Index.add`, `sync` and `retry_failed`.

    Smaller bounds save memory. Larger commits write fewer files, and lose more work when a job is killed.

    Attributes:
        lookup_first: Records in the first lookup in the index; few, so that encoding starts at once.
        lookup_max: Records in one lookup at most; each lookup is twice as large as the one before.
        lookup_scattered: The same where the order of the records is not that of the index, which makes small lookups
            slow.
        lookup_bytes: Bytes of in-memory items in one lookup.
        lookup_wait_s: Seconds to wait for a slow source before a smaller lookup is made.
        open_batch: Documents that one thread opens before it reports back.
        chunks_ahead: Chunks that may wait for the model, for each item of a batch.
        held_bytes: Bytes of in-memory chunks that may wait for the model.
        stream_bytes: Bytes of a long recording that are decoded at a time.
        batch_bytes: Bytes that one batch may decode to.
        decoded_bytes: Bytes that all batches in preparation may decode to.
        commit_rows: Rows in one commit.
        commit_chars: Characters of stored text in one commit.
        commit_interval_s: Seconds after which a commit is written even if it is small.
        max_text_bytes: Size of the largest text file that is accepted.
        max_pages: Pages of the longest PDF that is accepted.
        progress_interval_s: Seconds between two calls of the progress function.

    Raises:
        InvalidInput: A number is not finite, is negative, or is 0 where at least 1 is needed.
    """

    lookup_first: int = 64
    lookup_max: int = 1024
    lookup_scattered: int = 16384
    lookup_bytes: int = 32 << 20
    lookup_wait_s: float = 0.5
    open_batch: int = 8
    chunks_ahead: int = 128  # more than are sorted together, see batching.SORTED_BATCHES
    held_bytes: int = 256 << 20
    stream_bytes: int = 16 << 20
    batch_bytes: int = 512 << 20  # 14 photographs of 12 megapixels
    decoded_bytes: int = 1 << 30
    commit_rows: int = 2048
    commit_chars: int = 16_000_000
    commit_interval_s: float = 10.0  # with a slow model, no more work than this is lost when a job is killed
    max_text_bytes: int = (
        8 << 20
    )  # the chunks of a document are written in one commit, so they must fit in memory
    max_pages: int = 10_000
    progress_interval_s: float = 0.1

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            if not setting.name.endswith("_s"):
                whole_number(value, setting.name)
            elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise InvalidInput(
                    f"{setting.name} must be a number of seconds of at least 0, got {value!r}; leave it out for "
                    f"{setting.default!r}"
                )


DEFAULT_CONFIG = IngestConfig()


@dataclass(frozen=True)
class JobOptions:
    """Arguments that `Index.add`, `sync` and `retry_failed` share; see Index.add."""

    dedupe: bool = False
    batch_size: int = 32
    threads: int | None = None
    wait: float | None = None
    progress: Callable[[Progress], None] | None = None
    config: IngestConfig = DEFAULT_CONFIG
    pages: Pages = "auto"
    selection: Selection = EVERYTHING

    def __post_init__(self) -> None:
        whole_number(self.batch_size, "batch_size")
        if self.pages not in get_args(Pages):
            raise InvalidInput(
                f"pages must be {', '.join(map(repr, get_args(Pages)))}, got {self.pages!r}; leave it out for 'auto'"
            )
        if self.threads is not None:
            whole_number(self.threads, "threads")
