"""Results of an index: hits, rows, failures and reports. Immutable, JSON-serialisable, shown in notebooks."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from multimodal.core.deprecation import deprecated_property
from multimodal.core.modality import Modality
from multimodal.index import fragments, frames

if TYPE_CHECKING:
    import pandas
    import pyarrow

SNIPPET_CHARS = 120
VIDEO_PART = re.compile(r"#(?:frame|sound|words)=[^#]*\Z")
SortKey = Literal["score", "probability", "fused_score"]

Scalar = str | int | float | bool | None
Metadata = dict[str, Scalar]


@dataclass(frozen=True)
class Hit:
    """One search result.

    Attributes:
        id: Id of the item in the index.
        uri: Absolute path of a file, or the uri given with the item, or None.
        score: Cosine of query and item, -1 to 1; in a keyword search, which compares no vectors, the BM25 score.
        modality: Modality of the item.
        metadata: Metadata of the item.
        text: The text itself, for texts; None for other modalities.
        start_s: Start of the matching window of long audio or video, in seconds.
        end_s: End of that window, in seconds.
        start_char: Start of the chunk `text` in a long text file, in characters.
        end_char: End of that chunk, in characters.
        text_score: BM25 score above 0, if the search had keywords and the item contains any of them.
        probability: Calibrated probability that the item is relevant, 0 to 1, as
            multimodal/index/search/score_calibration.py defines it; None if the search was not calibrated.
        fused_score: Score of hybrid search: share of the highest possible BM25 score, + 0.15 / rank by vectors (0.08
            for functions of source code). With `rerank`, the score of the reranker.
    """

    id: str
    uri: str | None
    score: float
    modality: Modality
    metadata: Metadata = field(default_factory=dict, hash=False)
    text: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    start_char: int | None = None
    end_char: int | None = None
    text_score: float | None = None
    probability: float | None = None
    fused_score: float | None = None

    @property
    def document_modality(self) -> Modality:
        """Modality of the document that the hit is part of: video for the frames, sound and subtitles of a video."""
        is_part = self.start_s is not None and VIDEO_PART.search(self.id) is not None
        return Modality.VIDEO if is_part else self.modality

    @property
    def snippet(self) -> str:
        """The start of the text on one line; the uri, or otherwise the id, of items without text."""
        if self.text is None:
            return self.uri or self.id
        line = " ".join(self.text[: 2 * SNIPPET_CHARS].split())
        return line if len(line) <= SNIPPET_CHARS else line[: SNIPPET_CHARS - 1] + "…"

    @property
    def location(self) -> str:
        """The chunk of a longer document, such as "8 to 18 s", "page 3" or "characters 300 to 590"; "" for a whole
        document."""
        if self.start_s is not None and self.end_s is not None:
            return f"{self.start_s:g} to {self.end_s:g} s"
        characters = "" if self.start_char is None else f"characters {self.start_char:,} to {self.end_char:,}"
        return ", ".join(filter(None, (fragments.describe(self.id), characters)))

    place = deprecated_property("Hit.place", "Hit.location")

    def to_dict(self) -> dict[str, Any]:
        """Converts the hit to plain values.

        Returns:
            JSON values.
        """
        return asdict(self) | {"modality": str(self.modality)}

    def _repr_html_(self) -> str:
        return Hits([self])._repr_html_()


class Hits(list[Hit]):
    """The hits of one query, best first: a list that is shown as a table in a notebook.

    Attributes:
        method: How the hits were found: "exact", "quantized", "approximate", "text" or "hybrid", as
            multimodal/index/search/searcher.py defines them; "" for a list made by hand.
        note: Why the hits are ordered by cosine and have no probability although the search was to be calibrated, or
            which metadata keys there are, where a filter with an unknown key finds nothing; "" otherwise.
    """

    def __init__(self, hits: Iterable[Hit] = (), method: str = "", note: str = "") -> None:
        super().__init__(hits)
        self.method = method
        self.note = note

    @property
    def ordered_by(self) -> SortKey:
        """The field of `Hit` by which the hits are ordered. Within one modality, cosine and probability agree."""
        if any(hit.fused_score is not None for hit in self):
            return "fused_score"
        is_mixed = len({hit.modality for hit in self}) > 1
        is_calibrated = all(hit.probability is not None for hit in self)
        return "probability" if is_mixed and is_calibrated else "score"

    def shares(self) -> list[float]:
        """Lengths of bars, 0 to 1, by the field that orders the hits; scores without an upper end by the highest."""
        values = [getattr(hit, self.ordered_by) for hit in self]
        highest = (
            max(values, default=1.0) if self.method == "text" or self.ordered_by == "fused_score" else 1.0
        )
        return [min(1.0, max(0.0, value / (highest or 1.0))) for value in values]

    def to_dict(self) -> dict[str, Any]:
        """Converts the hits to plain values.

        Returns:
            Method, note and a list of hits, ready for JSON.
        """
        return {"method": self.method, "note": self.note, "hits": [hit.to_dict() for hit in self]}

    def to_pandas(self) -> pandas.DataFrame:
        """Converts the hits to a data frame.

        Returns:
            One row per hit, with the fields of Hit as columns.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return frames.data_frame([hit.to_dict() for hit in self], list(Hit.__dataclass_fields__))

    def to_arrow(self) -> pyarrow.Table:
        """Converts the hits to an Arrow table.

        Returns:
            One row per hit, with the fields of Hit as columns; metadata is a JSON string.
        """
        return frames.arrow_table([hit.to_dict() for hit in self], _HIT_TYPES)

    def _repr_html_(self) -> str:
        from multimodal.index import html

        return html.hits_html(self)


@dataclass(frozen=True)
class Failure:
    """A document that could not be added.

    Attributes:
        uri: The path, the uri of the item, or its position in the source, as in "item 7".
        stage: Where it failed. "walk": a folder cannot be listed. "read": the file cannot be opened or recognised.
            "decode": its content is damaged. "encode": the model failed. "write": the index cannot be written.
        reason: What is wrong, and the cure.
    """

    uri: str
    stage: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Converts the failure to plain values.

        Returns:
            JSON values.
        """
        return asdict(self)


class Failures(tuple[Failure, ...]):
    """Failures in the order of their names: a tuple that converts to other formats."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Converts the failures to plain values.

        Returns:
            {"failures": a list of failures}, ready for JSON.
        """
        return {"failures": [failure.to_dict() for failure in self]}

    def to_pandas(self) -> pandas.DataFrame:
        """Converts the failures to a data frame.

        Returns:
            One row per failure, with the columns uri, stage and reason.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return frames.data_frame([failure.to_dict() for failure in self], list(_FAILURE_TYPES))

    def to_arrow(self) -> pyarrow.Table:
        """Converts the failures to an Arrow table.

        Returns:
            One row per failure, with the columns uri, stage and reason.
        """
        return frames.arrow_table([failure.to_dict() for failure in self], _FAILURE_TYPES)


class Rows:
    """The stored items of an index. Reads the index each time it is iterated, counted or converted.

    Iterating yields one dict per item; `len(rows)` counts them without reading them; `rows[3]` and `rows[:10]` read up
    to the requested position.
    """

    def __init__(
        self, read: Callable[[], Iterator[dict[str, Any]]], count: Callable[[], int], dim: int | None = None
    ) -> None:
        self._read = read
        self._count = count
        self._dim = dim  # of the vectors; None without vectors

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._read()

    def __len__(self) -> int:
        return self._count()

    def __getitem__(self, position: int | slice) -> Any:
        """The row at a position, or the list of rows of a slice."""
        if isinstance(position, slice):
            start, stop, step = position.indices(len(self))
            if step > 0:
                return list(itertools.islice(self, start, stop, step))
            return list(self)[position]
        n_rows = len(self)
        if not -n_rows <= position < n_rows:
            raise IndexError(f"row {position} of {n_rows}")
        return next(itertools.islice(self, position % n_rows, None))

    def to_dict(self) -> dict[str, Any]:
        """Converts the rows to plain values.

        Returns:
            A list of rows, with vectors as lists of floats, ready for JSON.
        """
        return {"rows": [self._plain(row) for row in self]}

    def to_pandas(self) -> pandas.DataFrame:
        """Converts the rows to a data frame.

        Returns:
            One row per item, with the keys of a row as columns.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return frames.data_frame(list(self), list(self._types()))

    @property
    def dim(self) -> int | None:
        """The length of the vectors; None without vectors."""
        return self._dim

    def arrow_batches(self, n: int = 4096) -> Iterator[pyarrow.Table]:
        """Yields the rows as Arrow tables, which are read one after another.

        Args:
            n: Rows per table.

        Yields:
            Tables with the columns of `to_arrow`; at least one, which may be empty.
        """
        rows = iter(self)
        batch = list(itertools.islice(rows, n))
        while True:
            yield frames.arrow_table([self._plain(row) for row in batch], self._types())
            if not (batch := list(itertools.islice(rows, n))):
                return

    def to_arrow(self) -> pyarrow.Table:
        """Converts the rows to an Arrow table.

        Returns:
            One row per item; metadata is a JSON string, vectors are fixed-size lists of float32.
        """
        return frames.arrow_table([self._plain(row) for row in self], self._types())

    def _types(self) -> dict[str, str]:
        return _ROW_TYPES | ({} if self._dim is None else {"vector": f"float32[{self._dim}]"})

    @staticmethod
    def _plain(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"vector": row["vector"].tolist()} if "vector" in row else row

    def __repr__(self) -> str:
        return f"Rows({len(self):,} items)"


_ROW_TYPES = {
    "id": "string", "uri": "string", "modality": "string", "text": "string", "metadata": "json",
    "start_s": "float64", "end_s": "float64", "start_char": "int64", "end_char": "int64",
}  # fmt: skip
_HIT_TYPES = {
    "id": "string", "uri": "string", "score": "float64", "modality": "string", "metadata": "json", "text": "string",
    "start_s": "float64", "end_s": "float64", "start_char": "int64", "end_char": "int64", "text_score": "float64",
    "probability": "float64", "fused_score": "float64",
}  # fmt: skip
_FAILURE_TYPES = {"uri": "string", "stage": "string", "reason": "string"}


@dataclass(frozen=True)
class IngestReport:
    """Documents of an `Index.add` or `Index.sync` by outcome. Each document counts once, however many rows it has.

    Attributes:
        added: Documents that the index did not have.
        updated: Documents whose content or metadata changed.
        failed: Documents that could not be read or encoded.
        unchanged: Documents that the index had already; they were not encoded again.
        moved: Files known under another path; they were not encoded again.
        deleted: Documents that no longer exist, and were deleted from the index.
        duplicates: Documents that were skipped because the index has the same content under another id.
        skipped: Files of no known kind in folders and zip archives, which are no failures: how many of each suffix, or
            of each name without one, the most frequent first.
        known: Those of `failed` that an earlier job recorded with the same reason.
    """

    added: int
    updated: int
    failed: Failures = field(default_factory=Failures)
    unchanged: int = 0
    moved: int = 0
    deleted: int = 0
    duplicates: int = 0
    skipped: dict[str, int] = field(default_factory=dict, hash=False)
    known: Failures = field(default_factory=Failures)

    @property
    def n_skipped(self) -> int:
        """The number of skipped files."""
        return sum(self.skipped.values())

    @property
    def new_failures(self) -> Failures:
        """Those of `failed` that no earlier job recorded with the same reason."""
        known = set(self.known)
        return Failures(failure for failure in self.failed if failure not in known)

    def to_dict(self) -> dict[str, Any]:
        """Converts the report to plain values.

        Returns:
            JSON values.
        """
        lists = {name: [failure.to_dict() for failure in getattr(self, name)] for name in ("failed", "known")}
        return asdict(self) | lists

    def __str__(self) -> str:
        rest = {name: getattr(self, name) for name in ("unchanged", "moved", "deleted", "duplicates")}
        rest["skipped"] = self.n_skipped
        counts = {"added": self.added, "updated": self.updated} | {k: n for k, n in rest.items() if n}
        known = f" ({len(self.known):,} known)" if self.known else ""
        counts_text = ", ".join(
            f"{n:,} {name}" for name, n in (*counts.items(), ("failed", len(self.failed)))
        )
        return counts_text + known

    def _repr_html_(self) -> str:
        from multimodal.index import html

        return html.report_html(self)


@dataclass(frozen=True)
class Estimate:
    """What `Index.add` or `Index.sync` would have to do.

    Attributes:
        counts: New or changed documents by modality.
        n_bytes: Total size of these documents, in bytes.
        unchanged: Documents that the index has already.
        failed: Folders that cannot be listed, and files that were named and are of no known kind.
        seconds: Estimated duration, in seconds.
        sampled: Documents on which the duration was measured.
        moved: Files known under another path, which `sync` would not encode again.
        deleted: Documents that `sync` would delete.
        skipped: Files of no known kind in folders and zip archives.
    """

    counts: dict[str, int] = field(hash=False)
    n_bytes: int
    unchanged: int
    failed: int
    seconds: float
    sampled: int
    moved: int = 0
    deleted: int = 0
    skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Converts the estimate to plain values.

        Returns:
            JSON values.
        """
        return asdict(self)


@dataclass(frozen=True)
class Progress:
    """Progress of an `Index.add` or `Index.sync`.

    Attributes:
        done: Documents finished, failed ones included.
        step: Documents finished since the last call.
        total: Documents in the source, or None while that is unknown.
        failed: Documents that failed.
        seconds: Seconds since the start.
        rate: Documents per second, over the last seconds.
    """

    done: int
    step: int
    total: int | None
    failed: int
    seconds: float
    rate: float

    @property
    def eta_s(self) -> float | None:
        """Estimated seconds remaining; None while that is unknown."""
        if self.total is None or self.rate <= 0:
            return None
        return max(0, self.total - self.done) / self.rate

    def to_dict(self) -> dict[str, Any]:
        """Converts the counters to plain values.

        Returns:
            JSON values.
        """
        return asdict(self) | {"eta_s": self.eta_s}


def by_name(failures: Iterable[Failure]) -> tuple[Failure, ...]:
    """Failures in natural order of their uris, "item 7" before "item 31"; threads finish in any order."""

    def key(failure: Failure) -> list[tuple[int, str]]:
        parts = re.split(r"([0-9]+)", failure.uri)
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    return tuple(sorted(failures, key=key))
