"""Captioning: exact matches, CIDEr-D, and the score of a judge that sees the item and the caption."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item, Text
from multimodal.core.modality import Modality
from multimodal.core.pipeline import as_space
from multimodal.evaluation.data import Row, Table
from multimodal.evaluation.encoding import Runner, describe, unique
from multimodal.evaluation.metrics.generated import clip_score
from multimodal.evaluation.metrics.text import cider, normalize
from multimodal.evaluation.result import ItemResult
from multimodal.evaluation.tasks.outcome import Options, Outcome, identity, item_key


def run(model: Any, table: Table, options: Options, runner: Runner) -> Outcome:
    """The share of captions equal to a reference after normalising, CIDEr-D, and CLIPScore by `judge`.

    References are the texts of all rows with the same item; their labels, where texts are captioned (query="text").
    """
    import numpy as np

    outcome = Outcome()
    modality = _captioned(table, options)
    rows = [row for row in table.rows if modality in row.items and _reference(row, modality)]
    outcome.excluded["no item or no reference"] += len(table.rows) - len(rows)
    if not rows:
        raise InvalidInput(
            f"{table.name}: no row has {modality} and a reference; expected the columns {modality} and "
            f"{'label' if modality == Modality.TEXT else 'text'}"
        )
    items, places = unique([row.items[modality] for row in rows])
    references: list[list[str]] = [[] for _ in items]
    groups: list[str | None] = [None] * len(items)
    for row, place in zip(rows, places, strict=True):
        references[place].append(_reference(row, modality))
        groups[place] = groups[place] if groups[place] is not None else row.group

    def work(part: Sequence[Item]) -> list[Any]:
        return [answer.text for answer in model(list(part), **options.call)]

    answers, failures = runner.results(f"captioning:{identity(model)[1]}:{options.call}", items, work)
    outcome.excluded["unreadable"] += len(failures)
    kept = [place for place in range(len(items)) if place not in failures]
    if not kept:
        raise InvalidInput(f"{table.name}: no item could be read; the first: {failures[min(failures)]}")
    written = [answers[place].strip() for place in kept]
    for place, caption in zip(kept, written, strict=True):
        target = " | ".join(references[place])
        item = items[place]
        outcome.items.append(
            ItemResult(item_key(item, target), describe(item), target, caption, groups[place], item)
        )
    own = [references[place] for place in kept]
    exact = [
        normalize(caption) in {normalize(text) for text in targets}
        for caption, targets in zip(written, own, strict=True)
    ]
    outcome.values = {"exact": np.array(exact, dtype=np.float64), "cider": cider(written, own)}
    if options.judge is not None:
        judge = as_space(options.judge)
        seen, _ = runner.vectors(judge, [items[place] for place in kept])
        read, _ = runner.vectors(judge, [Text(caption or " ") for caption in written])
        outcome.values["clip_score"] = clip_score(seen, read)
        outcome.settings["judge"] = judge.name
    outcome.means = list(outcome.values)
    return outcome


def _reference(row: Row, modality: Modality) -> str:
    """The right caption of a row; empty if it has none."""
    if modality == Modality.TEXT:
        return row.label or ""
    text = row.items.get(Modality.TEXT)
    return "" if text is None else str(text.load()).strip()


def _captioned(table: Table, options: Options) -> Modality:
    """The modality of the items that are captioned."""
    if options.query is not None:
        return Modality(options.query)
    modality = next((m for m in table.modalities if m != Modality.TEXT), None)
    if modality is None or Modality.TEXT not in table.modalities:
        raise InvalidInput(
            f"{table.name}: captioning needs items and references; found {', '.join(table.modalities)}, expected the "
            "columns image (or audio, video) and text"
        )
    return modality
