"""What an index answers: hits, and the report of what was added. Frozen; JSON by `.to_dict()`; shown in notebooks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from multimodal.core.modality import Modality

SNIPPET_CHARS = 120

Scalar = str | int | float | bool | None
Metadata = dict[str, Scalar]


@dataclass(frozen=True)
class Hit:
    """One thing found.

    score: cosine of query and item, -1 to 1; of a search by words alone, where no vectors are compared, that of the
    words. text_score: how well its words fit (BM25, above 0), if words were searched for and it has any of them.
    uri: the absolute path of a file, or what the item was given, or None. text: the words themselves, of a text; None
    for anything else. start_s, end_s: of a long sound, the part of it that was found, in seconds. start_char,
    end_char: of a long text file, the part that `text` is, in characters.
    probability: how likely it is what was meant, 0 to 1, as multimodal/index/search/score_calibration.py
    explains; None if that was
    not asked, or cannot be told.
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

    @property
    def snippet(self) -> str:
        """The start of the text on one line; the uri, or else the id, of anything without text."""
        if self.text is None:
            return self.uri or self.id
        line = " ".join(self.text[: 2 * SNIPPET_CHARS].split())
        return line if len(line) <= SNIPPET_CHARS else line[: SNIPPET_CHARS - 1] + "…"

    @property
    def place(self) -> str:
        """Which part of a longer thing was found, such as "8 to 18 s" or "characters 300 to 590"; "" if it is whole."""
        if self.start_s is not None and self.end_s is not None:
            return f"{self.start_s:g} to {self.end_s:g} s"
        return "" if self.start_char is None else f"characters {self.start_char:,} to {self.end_char:,}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"modality": str(self.modality)}

    def _repr_html_(self) -> str:
        return Hits([self])._repr_html_()


class Hits(list[Hit]):
    """The hits of one query, best first: a list that shows itself in a notebook.

    method: how they were found: "exact", "sketch", "text" or "hybrid", as multimodal/index/search/searcher.py
    explains; "" for
    a list made by hand. note: why they are ordered by cosine and have no probability, though these were asked for; ""
    if they were not, or all is well.
    """

    def __init__(self, hits: Iterable[Hit] = (), method: str = "", note: str = "") -> None:
        super().__init__(hits)
        self.method = method
        self.note = note

    def _repr_html_(self) -> str:
        from multimodal.index import html

        return html.hits_html(self)


@dataclass(frozen=True)
class Failure:
    """Something that could not be added.

    stage: where it failed. "walk": a folder that cannot be listed. "read": finding it and telling what it is. "decode":
    its pixels, sound or words. "encode": the model. "write": the index. reason: what was wrong and the cure. uri: the
    path, or the item's uri, or its place in what was given, as "item 7".
    """

    uri: str
    stage: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class IngestReport:
    """What became of everything given to `Index.add` or found by `Index.sync`: each thing is counted once.

    added: things the index did not have. updated: things it had, whose content or metadata are now new. failed: what
    could not be read or encoded. unchanged: things it had as they are, which were not encoded again. moved: files
    known under another path, which were not encoded again. deleted: files that are gone, and left the index.
    duplicates: things left out because the index has the same content under another name (if asked for).
    A long sound or text is one thing, however many rows it has.
    """

    added: int
    updated: int
    failed: tuple[Failure, ...] = ()
    unchanged: int = 0
    moved: int = 0
    deleted: int = 0
    duplicates: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"failed": [failure.to_dict() for failure in self.failed]}

    def __str__(self) -> str:
        rest = {name: getattr(self, name) for name in ("unchanged", "moved", "deleted", "duplicates")}
        counts = {"added": self.added, "updated": self.updated} | {k: n for k, n in rest.items() if n}
        return ", ".join(f"{n:,} {name}" for name, n in (*counts.items(), ("failed", len(self.failed))))

    def _repr_html_(self) -> str:
        from multimodal.index import html

        return html.report_html(self)


@dataclass(frozen=True)
class Estimate:
    """What `Index.add` would have to do, of what it would be given.

    counts: things that are new or changed, by modality. n_bytes: of their files, or in memory. unchanged: things the
    index has already. failed: what is none of these: folders that cannot be listed, files of no known kind. seconds:
    about how long it would take, measured on `sampled` of the things.
    """

    counts: dict[str, int] = field(hash=False)
    n_bytes: int
    unchanged: int
    failed: int
    seconds: float
    sampled: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Progress:
    """How far an add or a sync has come.

    done: things dealt with, however they ended; failed is a part of it. step: how many of them since the last call.
    total: of how many, or None while that is not known. seconds: since it began. rate: things a second, over the last
    seconds. eta_s: seconds to go at that rate, or None while that is not known.
    """

    done: int
    step: int
    total: int | None
    failed: int
    seconds: float
    rate: float

    @property
    def eta_s(self) -> float | None:
        if self.total is None or self.rate <= 0:
            return None
        return max(0, self.total - self.done) / self.rate

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"eta_s": self.eta_s}


def by_name(failures: Iterable[Failure]) -> tuple[Failure, ...]:
    """In the order of their names, "item 7" before "item 31": threads end in any order."""

    def key(one: Failure) -> list[tuple[int, str]]:
        parts = re.split(r"([0-9]+)", one.uri)
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    return tuple(sorted(failures, key=key))
