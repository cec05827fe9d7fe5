"""The arguments of `multimodal search` as a query: texts and files with weights, and negative texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from multimodal.core.items import Item, Text, Video
from multimodal.core.modality import Modality

AWAY = 0.7  # weight of --not beside a part of weight 1: penalises, but the positive parts decide
KINDS = ("words", "image", "audio", "video", "not")


@dataclass(frozen=True)
class QueryInput:
    """A search request. parts: (item, weight). similar_to: ids of items. text: words for keyword search."""

    parts: tuple[tuple[Item, float], ...]
    similar_to: tuple[str, ...] = ()
    text: str | None = None

    @property
    def query(self) -> Any:
        """As Index.search takes it: an item, a list of (item, weight), or None."""
        if len(self.parts) == 1 and self.parts[0][1] == 1:
            return self.parts[0][0]
        return list(self.parts) or None

    def check(self) -> None:
        """Reads every file, so that errors are reported before a model is loaded. Raises MediaError, InvalidInput."""
        for item, _ in self.parts:
            _ = item.load(n_frames=1) if isinstance(item, Video) else item.load()

    def to_dict(self) -> dict[str, Any]:
        """For --json: the description of a single item, or of all parts with their weights."""
        parts = [
            {
                "modality": str(item.modality),
                "text": item.source if isinstance(item, Text) else None,
                "uri": item.uri,
            }
            for item, _ in self.parts
        ]
        if len(parts) == 1 and self.query is self.parts[0][0] and not self.similar_to and self.text is None:
            return parts[0]
        weighted = [part | {"weight": weight} for part, (_, weight) in zip(parts, self.parts, strict=True)]
        return {"parts": weighted, "similar_to": list(self.similar_to), "text": self.text}


def parse_query(
    words: str | None,
    files: dict[str, Sequence[str] | None],
    away: Sequence[str] | None,
    similar_to: Sequence[str] | None,
    text: str | None,
    weights: Sequence[str] | None,
) -> QueryInput:
    """The request in the arguments of a command. Raises a usage error (exit code 2).

    files: paths by media type. similar_to: ids, or paths of files in the index.
    """
    parts: list[tuple[str, Item]] = [] if words is None else [("words", Text(words))]
    for kind, path in [(kind, path) for kind, paths in files.items() for path in paths or ()]:
        from multimodal.core.media.registry import open_as  # not for a query of words alone

        parts.append((kind, open_as(Path(path).expanduser(), Modality(kind))))
    parts += [("not", Text(negative)) for negative in away or ()]
    if not parts and not similar_to and text is None:
        raise typer.BadParameter(
            "give something to search with: words, --image, --audio or --video FILE, --similar-to ID, or --text WORDS",
            param_hint="WORDS",
        )
    weight = _weights(weights, {kind for kind, _ in parts})
    return QueryInput(
        tuple((item, weight[kind]) for kind, item in parts), tuple(map(item_id, similar_to or ())), text
    )


def _weights(given: Sequence[str] | None, kinds: set[str]) -> dict[str, float]:
    """The weight of each kind, from `KIND=NUMBER`; negated for `not`."""
    weights = dict.fromkeys(KINDS, 1.0) | {"not": AWAY}
    for pair in given or ():
        kind, _, value = pair.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if kind not in KINDS or not (math.isfinite(number) and number > 0):
            raise typer.BadParameter(
                f"{pair!r} is not KIND=NUMBER with one of {', '.join(KINDS)} and a number above 0",
                param_hint="--weight",
            )
        if kind not in kinds:
            raise typer.BadParameter(
                f"{pair!r} weighs a part that the query does not have: {kind}", param_hint="--weight"
            )
        weights[kind] = number
    return weights | {"not": -weights["not"]}


def item_id(given: str) -> str:
    """The id of an item, as given; for the path of a file, its absolute path."""
    from multimodal.index.ingest.sources.folders import absolute

    path = Path(given).expanduser()
    return str(absolute(path)) if path.exists() else given
