"""Labelled pairs of a query and an item -> the rows that a calibration is fitted to.

Rows that a query retrieves and that carry no label count as irrelevant, unless some pair of the query is labelled as
irrelevant: then only labelled rows count. Of a document with several chunks, the best chunk counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput
from multimodal.core.media.registry import is_item
from multimodal.index.search import calibration, ranking
from multimodal.index.search.calibration_fit import Example
from multimodal.index.search.query import UNKNOWN, ModalityWeights
from multimodal.index.search.ranking import ScoredRow
from multimodal.index.search.reference_sample import ReferenceSampleStore
from multimodal.index.search.score_calibration import TOP_ROWS
from multimodal.index.search.view import Filter, SnapshotView

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PLACES = 10  # rows of each modality that a query retrieves
EXPECTED = "(query, id) or (query, id, relevant), such as ('a cat', 'photos/cat.jpg', True)"


@dataclass(frozen=True)
class LabelledQuery:
    """A query with the labels of items or documents: {id: whether it is relevant}."""

    query: Any
    labels: Mapping[str, bool]

    @property
    def is_complete(self) -> bool:
        """Whether all relevant items are labelled, so that retrieved rows without a label are irrelevant."""
        return all(self.labels.values())


def group_by_query(pairs: object) -> list[LabelledQuery]:
    """The labels of each query, in the order in which the queries first appear. Raises InvalidInput.

    Texts and paths are the same query if they are equal, items if they have the same uri.
    """
    if isinstance(pairs, str | bytes | Mapping) or not isinstance(pairs, Iterable):
        raise InvalidInput(f"pairs must be a list of {EXPECTED}; got {type(pairs).__name__}")
    grouped: dict[object, tuple[Any, dict[str, bool]]] = {}
    for number, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) not in (2, 3):
            raise InvalidInput(f"pair {number} must be {EXPECTED}; got {pair!r:.80}")
        query, id_, relevant = pair if len(pair) == 3 else (*pair, True)
        if not isinstance(id_, str | Path):
            raise InvalidInput(f"pair {number} has the id {id_!r:.80}; an id is a str, or the Path of a file")
        if relevant not in (True, False):
            raise InvalidInput(f"pair {number} has the label {relevant!r:.80}; a label is True or False")
        labels = grouped.setdefault(_key(query), (query, {}))[1]
        name = _file_id(id_) if isinstance(id_, Path) else id_
        if labels.setdefault(name, bool(relevant)) != bool(relevant):
            raise InvalidInput(f"pair {number} contradicts an earlier one: {name!r} is relevant to {query!r:.80} "
                               "in one and not in the other; leave out one of them")  # fmt: skip
    if not grouped:
        raise InvalidInput(f"there are no pairs to calibrate with; give a list of {EXPECTED}")
    return [LabelledQuery(query, labels) for query, labels in grouped.values()]


def _file_id(path: Path) -> str:
    """The id of a file: its absolute path, with the links of its folder resolved."""
    path = path.expanduser()
    return str(path.parent.resolve() / path.name)


def _key(query: object) -> object:
    if isinstance(query, str | Path):
        return query
    if is_item(query) and query.uri is not None:
        return type(query), query.uri
    return id(query)


def collect(
    view: SnapshotView,
    samples: ReferenceSampleStore,
    queries: Sequence[LabelledQuery],
    vectors: NDArray[np.float32],
    weights: Sequence[ModalityWeights],
) -> list[Example]:
    """The rows of all queries, with unit vectors (m, dim). Raises InvalidInput for an unknown id or a small index."""
    everything = Filter()
    reason = calibration.too_small(view, everything)
    if reason is not None:
        raise InvalidInput(f"the index cannot be calibrated: {reason}; add more items")
    depth = max(1, len(view.snapshot.index_metadata.modalities)) * TOP_ROWS
    answers, calibrations = calibration.nearest(view, samples, vectors, weights, depth, everything)
    examples = []
    triples = zip(queries, vectors, weights, answers, calibrations, strict=True)
    for number, (labelled, vector, weight, (rows, _), query) in enumerate(triples):
        for row, relevant in _labelled_rows(view, labelled, vector, rows):
            name = row.stored.row.modality
            fitted, cosine = query.by_modality[name], row.cosine or 0.0
            same = weight.get(name, 0.0) + weight.get(UNKNOWN, 0.0)
            offset = -fitted.log_rows - fitted.deduction(cosine)
            examples.append(Example(number, fitted.prominence(cosine), offset, same, relevant))
    return examples


def _labelled_rows(
    view: SnapshotView, labelled: LabelledQuery, vector: NDArray[np.float32], rows: Sequence[ScoredRow]
) -> list[tuple[ScoredRow, bool]]:
    """The rows that count for one query, with their labels. rows: those retrieved, best first."""
    row_ids = view.snapshot.row_ids_of(list(labelled.labels))
    missing = [id_ for id_ in labelled.labels if not row_ids.get(id_)]
    if missing:
        raise InvalidInput(f"no item of the index has the id {missing[0]!r}; index.rows() lists all items")
    label_of: dict[str, str] = {}  # id of a row -> the labelled id that covers it
    counted: list[tuple[ScoredRow, bool]] = []
    for id_, numbers in row_ids.items():
        stored = list(view.fetch(numbers).values())
        label_of |= {row.row.id: id_ for row in stored}
        cosines = ranking.cosines(vector, _stack(stored)).tolist()
        counted.append((ranking.by_cosine(stored, cosines)[0], labelled.labels[id_]))
    if labelled.is_complete:
        places: dict[str, int] = {}
        for row in rows:
            name = row.stored.row.modality
            places[name] = places.get(name, 0) + 1
            if places[name] <= PLACES and row.id not in label_of:
                counted.append((row, False))
    return counted


def _stack(stored: Sequence[ranking.StoredRow]) -> NDArray[np.float32]:
    import numpy as np

    return np.stack([row.vector for row in stored])
