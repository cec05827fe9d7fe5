"""Requests: validates what `Index.search` is given, encodes the queries, and selects the kind of search."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast, get_args

from multimodal.core.backends.reranker import Reranker
from multimodal.core.checks import whole_number
from multimodal.core.deprecation import warn_deprecated
from multimodal.core.errors import InvalidInput
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.index.results import Hits
from multimodal.index.search import reranking
from multimodal.index.search.calibration_fit import CalibrationReport
from multimodal.index.search.labelled_pairs import group_by_query
from multimodal.index.search.query import (
    ModalityWeights,
    Query,
    encode_queries,
    modality_weights,
    parse_queries,
    part_modalities,
)
from multimodal.index.search.searcher import Searcher, SearchPlan
from multimodal.index.search.text_query import TextQuery
from multimodal.index.search.view import Filter, SnapshotView
from multimodal.index.storage import filters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Mode = Literal["vector", "text", "hybrid"]
SHOWN_KEYS = 20


class SearchOptions(TypedDict, total=False):
    """Options of `Index.search`, `RetrievalPipeline` and the command line; all are optional.

    Attributes:
        text: Keywords to find in texts, captions and other metadata, and file names, in any of their forms; "words in
            quotes" must be adjacent, and wor* is any word that begins so. With a query or `similar_to`, both orders are
            joined (mode="hybrid"); alone, the search is by keywords only (mode="text").
        mode: "vector", "text" or "hybrid". Without `text`, the keywords of "text" and "hybrid" are those of the query,
            which must then be a text.
        similar_to: Id of an item, or several, to search with; these are excluded from the hits. A query beside it is
            one more part of the weighted query.
        modality: Only these modalities: "image", or ["image", "audio"]. "video" selects all parts of videos, also where
            they are indexed as frames and sound.
        where: Only items whose metadata match, such as {"album": "x", "place": ["y", "z"],
            "year": {">=": 2000, "<": 2010}}. Filters apply before the search: if k items match, k are found.
        ids: Only these items, or chunks of these documents.
        offset: Hits to skip, for paging. Default: 0.
        exact: Compare all vectors instead of choosing candidates by binary codes. Default: False.
        deduplicate: Of hits with the same content, or with a cosine of at least 0.999, only the best. Default: False.
        calibrated: Order hits of several modalities by probability, instead of by cosine. Default: True.
        min_probability: Minimum calibrated relevance probability, 0 to 1.
        group_by: True: only the best chunk of each document. A metadata key: only the best hit for each of its values.
            Default: False.
        rerank: The address of a cross-encoder, such as "st/cross-encoder/ms-marco-MiniLM-L6-v2", which orders the first
            50 hits that have words, or twice as many as requested; its score becomes `fused_score`.
    """

    text: str | None
    mode: Mode | None
    similar_to: Sequence[str] | str | None
    modality: str | Iterable[str] | None
    where: Mapping[str, Any] | None
    ids: Sequence[str] | str | None
    offset: int
    exact: bool
    deduplicate: bool
    calibrated: bool
    min_probability: float | None
    group_by: bool | str
    rerank: str | Reranker | None


RENAMED_OPTIONS = {"near": "similar_to", "distinct": "deduplicate", "group": "group_by"}


def check_options(options: Mapping[str, Any], caller: str) -> SearchOptions:
    """The options under their current names. Raises TypeError for unknown ones, with close matches.

    Deprecated names are accepted with a DeprecationWarning that points at the caller's caller.
    """
    checked: dict[str, Any] = {}
    for name, value in options.items():
        current = RENAMED_OPTIONS.get(name, name)
        if current not in SearchOptions.__annotations__:
            close = difflib.get_close_matches(name, SearchOptions.__annotations__, n=3)
            cure = f"did you mean {' or '.join(close)}?" if close else (
                f"the options are {', '.join(SearchOptions.__annotations__)}"
            )  # fmt: skip
            raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}; {cure}")
        if current in options and current != name:
            raise TypeError(f"{caller}() got both {name!r} and {current!r}, its new name; leave out {name!r}")
        if current != name:
            warn_deprecated(f"{caller}({name}=…)", f"{current}=", stacklevel=4)
        checked[current] = value
    return cast("SearchOptions", checked)


@dataclass(frozen=True)
class SearchRequest:
    """Parsed queries. texts: the keywords of each, if the mode uses any. single: one query was given, not a list."""

    queries: list[Query]
    texts: list[str]
    mode: Mode
    single: bool
    similar_to: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls, dim: int, query: object, text: str | None, mode: str | None, similar_to: tuple[str, ...]
    ) -> SearchRequest:
        """Raises InvalidInput for arguments that do not go together."""
        queries, single = ([], True) if query is None else parse_queries(query, dim)
        if similar_to and not single:
            raise InvalidInput(
                f"similar_to= goes with one query or none, and {len(queries)} were given; search one at a time"
            )
        chosen = _mode(mode, text, bool(queries or similar_to))
        if chosen == "vector":
            return cls(queries, [], chosen, single, similar_to)
        texts = list(map(_keywords, queries)) if text is None else [text] * max(1, len(queries))
        for keywords in texts:
            TextQuery.parse(keywords)  # raises before anything is encoded
        return cls(queries, texts, chosen, single, similar_to)


def _mode(mode: str | None, text: str | None, has_query: bool) -> Mode:
    if mode is not None and mode not in get_args(Mode):
        raise InvalidInput(f"mode must be one of {', '.join(map(repr, get_args(Mode)))}, got {mode!r}")
    if not has_query and text is None:
        raise InvalidInput("there is nothing to search for; give a query, text= or similar_to=")
    if mode is None:
        mode = "vector" if text is None else "hybrid" if has_query else "text"
    if mode == "vector" and text is not None:
        raise InvalidInput("mode='vector' ignores keywords, but text= is given; leave out one of them")
    if mode == "text" and text is not None and has_query:
        raise InvalidInput(
            "mode='text' searches keywords only, but a query is given beside text=; leave out one of them"
        )
    if mode == "hybrid" and not has_query:
        raise InvalidInput("mode='hybrid' needs a query, or similar_to=, beside text=")
    return mode  # type: ignore[return-value]


def _keywords(query: Query) -> str:
    if query.text is None:
        raise InvalidInput("a keyword search needs text, but the query is not a single text; give text=")
    return query.text


def run_search(
    searcher: Searcher, space: Space, query: object, k: int, options: SearchOptions
) -> Hits | list[Hits]:
    """See Index.search; ids are checked already."""
    similar_to, ids = options.get("similar_to"), options.get("ids")
    modalities, on_parts = filters.modalities(space, options.get("modality"))
    row_filter = Filter(
        modalities,
        filters.both(on_parts, filters.matching(options.get("where"))),
        None if ids is None else tuple(ids),
        exclude=tuple(similar_to or ()),
    )
    k = whole_number(k, "k")
    offset = whole_number(options.get("offset", 0), "offset", least=0)
    request = SearchRequest.parse(
        space.dim, query, options.get("text"), options.get("mode"), row_filter.exclude
    )
    calibrated, group_by = options.get("calibrated", True), options.get("group_by", False)
    reranker = None if options.get("rerank") is None else reranking.resolve(options.get("rerank"))
    plan = SearchPlan(
        k if reranker is None else max(reranking.DEPTH, 2 * (offset + k)),
        row_filter,
        offset if reranker is None else 0,
        exact=options.get("exact", False),
        deduplicate=options.get("deduplicate", False),
        calibrated=calibrated,
        min_probability=_min_probability(options.get("min_probability"), calibrated, request.mode),
        grouped=bool(group_by),
        group_key=_group_key(group_by),
    )
    if request.mode == "text":
        answers = searcher.text_search(request.texts, plan)
    else:
        vectors, weights = _encode(searcher, space, request)
        if request.mode == "vector":
            answers = searcher.vector_search(vectors, weights, plan)
        else:
            answers = searcher.hybrid_search(vectors, weights, request.texts, plan)
    if reranker is not None:
        texts = request.texts or list(map(_keywords, request.queries))
        pairs = zip(answers, texts, strict=True)
        answers = [reranking.rerank(hits, text, reranker, offset, k) for hits, text in pairs]
    where = options.get("where")
    if where and not all(answers):
        note = _unknown_keys(searcher.view(), where)
        for hits in answers:
            hits.note = hits.note if hits else note
    return answers[0] if request.single else answers


def _unknown_keys(view: SnapshotView, where: Mapping[str, Any]) -> str:
    """Which keys of a filter no item has, and which keys there are; "" if all are known."""
    keys = view.snapshot.metadata_keys()
    unknown = [
        key for key in where if key not in keys and not len(view.snapshot.row_ids(filters.has_key(key)))
    ]
    if not unknown:
        return ""
    if "modality" in unknown:
        value = where["modality"] if where["modality"] in list(Modality) else "image"
        return f"no item has the metadata key 'modality'; to filter by modality, give modality={value}"
    known = sorted(keys)
    shown = ", ".join(known[:SHOWN_KEYS]) + (
        "" if len(known) <= SHOWN_KEYS else f" and {len(known) - SHOWN_KEYS} more"
    )
    there_are = f"the keys are {shown}" if known else "no item has any metadata"
    return f"no item has the metadata key {unknown[0]!r}; {there_are}"


def run_calibration(searcher: Searcher, space: Space, pairs: object) -> CalibrationReport:
    """See Index.calibrate."""
    labelled = group_by_query(pairs)
    queries = []
    for element in labelled:
        parsed, is_single = parse_queries(element.query, space.dim)
        if not is_single:
            raise InvalidInput(
                f"a pair has one query, got a list: {element.query!r:.80}; give one pair for each query"
            )
        queries += parsed
    vectors = encode_queries(space, queries)
    return searcher.calibrate(
        labelled, vectors, [modality_weights(part_modalities(query.parts)) for query in queries]
    )


def _min_probability(value: object, calibrated: bool, mode: Mode) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInput(f"min_probability must be a number from 0 to 1, got {value!r}")
    if not calibrated:
        raise InvalidInput(
            "min_probability needs calibrated hits, but calibrated=False; leave out one of them"
        )
    if mode == "text":
        raise InvalidInput(
            "min_probability needs vectors, but mode='text' searches keywords only; leave it out"
        )
    return float(value)


def _group_key(group_by: object) -> str | None:
    """The metadata key to group by; None for documents."""
    if isinstance(group_by, bool):
        return None
    if not isinstance(group_by, str) or not group_by:
        raise InvalidInput(f"group_by must be True, False or a metadata key such as 'film', got {group_by!r}")
    return group_by


def _encode(
    searcher: Searcher, space: Space, request: SearchRequest
) -> tuple[NDArray[np.float32], list[ModalityWeights]]:
    """Unit vectors (m, dim) of the queries and their modalities; `similar_to` is one more part of the one query."""
    if not request.similar_to:
        vectors = encode_queries(space, request.queries)
        return vectors, [modality_weights(part_modalities(query.parts)) for query in request.queries]
    mean, modalities = _mean_of_items(searcher.view(), request.similar_to)
    parts = [part for query in request.queries for part in query.parts]
    vectors = encode_queries(space, [Query([*parts, (mean, 1.0)])])
    items = [(modality, 1 / len(modalities)) for modality in modalities]
    return vectors, [modality_weights([*part_modalities(parts), *items])]


def _mean_of_items(view: SnapshotView, ids: Sequence[str]) -> tuple[NDArray[np.float32], list[str]]:
    """The mean vector (dim,) of items (of a document: of its chunks), and the modality of each."""
    import numpy as np

    row_ids = view.snapshot.row_ids_of(ids)
    missing = [id_ for id_ in ids if id_ not in row_ids]
    if missing:
        raise InvalidInput(f"no item of the index has the id {missing[0]!r}; index.rows() lists all items")
    stored = view.fetch(sorted({row_id for numbers in row_ids.values() for row_id in numbers}))
    means = [np.mean([stored[row_id].vector for row_id in row_ids[id_]], axis=0) for id_ in ids]
    modalities = [stored[row_ids[id_][0]].row.modality for id_ in ids]
    return np.asarray(np.mean(means, axis=0), np.float32), modalities
