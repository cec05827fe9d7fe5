"""Retrieval across two columns: each query ranks the distinct items of the other column."""

from __future__ import annotations

from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item, Text
from multimodal.core.modality import Modality
from multimodal.evaluation.data import Row, Table
from multimodal.evaluation.encoding import Runner, describe, unique
from multimodal.evaluation.metrics.retrieval import item_values, rank
from multimodal.evaluation.result import ItemResult
from multimodal.evaluation.tasks.outcome import Options, Outcome, item_key

LABEL = "label"


def run(model: Any, table: Table, options: Options, runner: Runner) -> Outcome:
    """hit@k, recall@k, nDCG@10, mAP and the reciprocal rank.

    Rows with the same id are right answers of each other, and so are rows that share a query or a gallery item.
    """
    import numpy as np

    outcome = Outcome()
    query, gallery = _columns(table, options)
    right, queries, candidates, groups = _pairs(table, query, gallery, outcome)
    query_vectors, bad_queries = runner.vectors(model.query_space, queries)
    gallery_vectors, bad_candidates = runner.vectors(model, candidates)
    kept = [row for row in range(len(candidates)) if row not in bad_candidates]
    places = {row: place for place, row in enumerate(kept)}
    answers = [[places[row] for row in own if row in places] for own in right]
    asked = [row for row in range(len(queries)) if answers[row] and row not in bad_queries]
    outcome.excluded.update(
        {
            "no right answer in the gallery": sum(not own for own in answers),
            "unreadable query": sum(bool(answers[row]) for row in bad_queries),
        }
    )
    if bad_candidates:
        outcome.notes.append(f"{len(bad_candidates)} gallery items could not be read")
    if not asked:
        raise InvalidInput(f"{table.name}: no query has a right answer; excluded: {dict(+outcome.excluded)}")
    ranks = rank(query_vectors[asked], gallery_vectors[kept], [answers[row] for row in asked])
    for position, row in enumerate(asked):
        best = candidates[kept[ranks.nearest[position]]]
        targets = [describe(candidates[kept[place]]) for place in answers[row]]
        key = item_key(queries[row], "\n".join(sorted(targets)))
        name = describe(queries[row])
        outcome.items.append(
            ItemResult(key, name, " | ".join(targets), describe(best), groups[row], queries[row], best)
        )
    outcome.values = item_values(ranks)
    outcome.means = list(outcome.values)
    outcome.values["rank"] = ranks.best
    outcome.gallery = ranks.gallery
    if ranks.tied.any():
        outcome.notes.append(f"{int(ranks.tied.sum())} queries with ties, which count by their middle rank")
    outcome.settings = {"query": query, "gallery": gallery, "median rank": float(np.median(ranks.best))}
    return outcome


def _columns(table: Table, options: Options) -> tuple[str, str]:
    """The columns of queries and gallery; text asks by default."""
    available = [str(modality) for modality in table.modalities]
    if Modality.TEXT not in available and any(row.label for row in table.rows):
        available.append(LABEL)
    for given in (options.query, options.gallery):
        if given is not None and given not in available:
            raise InvalidInput(f"{table.name}: no column {given!r}; it has {', '.join(available)}")
    query = options.query or next(
        (name for name in ("text", LABEL, *available) if name in available and name != options.gallery), None
    )
    gallery = options.gallery or next((name for name in available if name != query), None)
    if query is None or gallery is None or query == gallery:
        raise InvalidInput(
            f"{table.name}: retrieval needs two columns, found {', '.join(available)}; expected two of text, image, "
            "audio, video, or one of them and label"
        )
    if len(available) > 2 and options.query is None and options.gallery is None:
        raise InvalidInput(
            f"{table.name}: has {', '.join(available)}; say which is searched by which: query='text', gallery='image'"
        )
    return query, gallery


def _item(row: Row, column: str) -> Item | None:
    if column == LABEL:
        return None if row.label is None else Text(row.label)
    return row.items.get(Modality(column))


def _pairs(
    table: Table, query: str, gallery: str, outcome: Outcome
) -> tuple[list[list[int]], list[Item], list[Item], list[str | None]]:
    """The right answers of each distinct query, the distinct queries and candidates, and the group of each query."""
    asking = [(row, item) for row in table.rows if (item := _item(row, query)) is not None]
    queries, query_places = unique([item for _, item in asking])
    offering = [(row, item) for row in table.rows if (item := _item(row, gallery)) is not None]
    candidates, gallery_places = unique([item for _, item in offering])
    if not queries or not candidates:
        raise InvalidInput(f"{table.name}: the column {gallery if queries else query!r} has no items")
    by_row = {id(row): place for (row, _), place in zip(offering, gallery_places, strict=True)}
    by_id: dict[str, set[int]] = {}
    for (row, _), place in zip(offering, gallery_places, strict=True):
        if row.id is not None:
            by_id.setdefault(row.id, set()).add(place)
    right: list[set[int]] = [set() for _ in queries]
    groups: list[str | None] = [None] * len(queries)
    for (row, _), place in zip(asking, query_places, strict=True):
        if id(row) in by_row:
            right[place].add(by_row[id(row)])
        if row.id is not None:
            right[place] |= by_id.get(row.id, set())
        groups[place] = groups[place] if groups[place] is not None else row.group
    if len(queries) < len(asking):
        outcome.notes.append(f"{len(asking)} rows have {len(queries)} distinct queries; each is asked once")
    return [sorted(own) for own in right], queries, candidates, groups
