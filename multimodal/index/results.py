"""What an index answers: hits, and the report of what was added. Frozen; JSON by `.to_dict()`; shown in notebooks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from multimodal.core.types import Modality

SNIPPET_CHARS = 120

Scalar = str | int | float | bool | None
Metadata = dict[str, Scalar]


@dataclass(frozen=True)
class Hit:
    """One thing found.

    score: cosine of query and item, -1 to 1. uri: the absolute path of a file, or what the item was given, or None.
    text: the words themselves, of a text; None for anything else.
    """

    id: str
    uri: str | None
    score: float
    modality: Modality
    metadata: Metadata = field(default_factory=dict, hash=False)
    text: str | None = None

    @property
    def snippet(self) -> str:
        """The start of the text on one line; the uri, or else the id, of anything without text."""
        if self.text is None:
            return self.uri or self.id
        line = " ".join(self.text[: 2 * SNIPPET_CHARS].split())
        return line if len(line) <= SNIPPET_CHARS else line[: SNIPPET_CHARS - 1] + "…"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"modality": str(self.modality)}

    def _repr_html_(self) -> str:
        return Hits([self])._repr_html_()


class Hits(list[Hit]):
    """The hits of one query, best first: a list that shows itself in a notebook."""

    def _repr_html_(self) -> str:
        from multimodal.index import show

        return show.hits_html(self)


@dataclass(frozen=True)
class Failure:
    """Something that could not be added.

    stage: "read" (finding it and telling what it is) or "encode" (decoding it and the model). reason: what was
    wrong and the cure. uri: the path, or the item's uri, or its place in what was given, as "item 7".
    """

    uri: str
    stage: str
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class AddReport:
    """What became of everything given to `Index.add`: each thing is counted once, in one of the three.

    added: ids the index did not have. updated: ids it had (or that came twice), now with the new content.
    """

    added: int
    updated: int
    failed: tuple[Failure, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"failed": [failure.to_dict() for failure in self.failed]}

    def __str__(self) -> str:
        return f"{self.added:,} added, {self.updated:,} updated, {len(self.failed):,} failed"

    def _repr_html_(self) -> str:
        from multimodal.index import show

        return show.report_html(self)
