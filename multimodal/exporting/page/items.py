"""The items of a page: rows and vectors of an index, and what calibration needs to know of them."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from multimodal.core.errors import InvalidInput
from multimodal.index.search.reference_sample import ROWS_PER_MODALITY, SEED, ReferenceSample
from multimodal.index.search.score_calibration import Coefficients

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from multimodal.index import Index

Vectors = Literal["auto", "float32", "float16", "int8"]
NAME_CHARS = 60
MIN_INT8_ROWS = 20_000  # below, float16 is small enough, and keeps the order of near ties over modalities
CHECKED_ROWS = 2048  # whose nearest row must stay the same in int8
TIE = 1e-6  # cosines closer than this count as equal
SHOWN_KINDS = (str, int, float, bool, type(None))
PAGE = re.compile(r"#page=(\d+)")


def read_rows(index: Index) -> tuple[list[dict[str, Any]], NDArray[np.float32]]:
    """The rows of an index in the order of their ids, and their vectors (n, dim). Raises InvalidInput if empty."""
    rows = sorted(index.rows(vectors=True), key=lambda row: row["id"])
    if not rows:
        raise InvalidInput(f"the index at {str(index.path)!r} has no items; add some before it is exported")
    return rows, np.stack([row.pop("vector") for row in rows])


def describe(row: Mapping[str, Any]) -> dict[str, Any]:
    """An item as the page lists it, without its files. Neither paths of this machine nor ids are among it."""
    item = {
        "name": _name(row),
        "modality": row["modality"],
        "text": row["text"],
        "place": _place(row),
        "start_s": row["start_s"],
        "metadata": {key: value for key, value in row["metadata"].items() if isinstance(value, SHOWN_KINDS)},
    }
    return {key: value for key, value in item.items() if value not in (None, "", {})}


def _name(row: Mapping[str, Any]) -> str:
    """A short name: the file, or the start of a text."""
    named = row["metadata"].get("name")
    if isinstance(named, str) and named:
        return named
    if row["uri"]:
        return _last_part(row["uri"])
    text = " ".join((row["text"] or "").split())
    if text:
        return text if len(text) <= NAME_CHARS else f"{text[: NAME_CHARS - 1]}…"
    return _last_part(row["id"])


def _last_part(uri: str) -> str:
    path = urllib.parse.urlsplit(uri).path if re.match(r"https?://", uri) else uri
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or uri


def _place(row: Mapping[str, Any]) -> str:
    """Which part of a longer document a row is."""
    if row["start_s"] is not None:
        start = _clock(row["start_s"])
        return start if row["end_s"] is None else f"{start}–{_clock(row['end_s'])}"
    if page := PAGE.search(row["id"]):
        return f"page {page[1]}"
    return "" if row["start_char"] is None else f"characters {row['start_char']}–{row['end_char']}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def calibration(
    modalities: Sequence[str], vectors: NDArray[np.float32], coefficients: Coefficients
) -> dict[str, Any]:
    """The numbers with which the page turns cosines into probabilities, as `index.search` does.

    Args:
        modalities: Of each row.
        vectors: (n, dim).
        coefficients: Of the index.
    """
    rng = np.random.default_rng(SEED)
    names = np.array(modalities)
    counts = {str(name): int((names == name).sum()) for name in np.unique(names)}
    rows = {name: np.flatnonzero(names == name) for name in counts}
    chosen = {
        name: own if len(own) <= ROWS_PER_MODALITY else np.sort(rng.choice(own, ROWS_PER_MODALITY, replace=False))
        for name, own in rows.items()
    }  # fmt: skip
    sample = ReferenceSample(counts, {name: vectors[own] for name, own in chosen.items()})
    queries = {*counts, "text", "image", "audio"}
    return {
        "coefficients": {"same": coefficients.same_modality, "cross": coefficients.cross_modality},
        "background": {
            query: {name: round(sample.background(query, name), 7) for name in counts}
            for query in sorted(queries)
        },
        "sample": {name: None if len(own) == counts[name] else own.tolist() for name, own in chosen.items()},
    }


def stored(vectors: NDArray[np.float32], kind: Vectors) -> tuple[str, bytes]:
    """Vectors (n, dim) as a file, and how they are stored there.

    "auto" is float16; of more than MIN_INT8_ROWS rows int8, with a scale for each, if the nearest other row of each
    checked row stays the same.

    Raises:
        InvalidInput: An unknown kind.
    """
    if kind not in get_args(Vectors):
        raise InvalidInput(f"vectors must be one of {', '.join(get_args(Vectors))}, got {kind!r}")
    scales = np.maximum(np.abs(vectors).max(1), 1e-12) / np.float32(127)
    whole = np.round(vectors / scales[:, None]).astype(np.int8)
    if kind == "auto":
        is_large = len(vectors) > MIN_INT8_ROWS
        kind = "int8" if is_large and same_nearest(vectors, whole * scales[:, None]) else "float16"
    if kind == "int8":
        return kind, scales.astype("<f4").tobytes() + whole.tobytes()
    return kind, vectors.astype("<f4" if kind == "float32" else "<f2").tobytes()


def same_nearest(vectors: NDArray[np.float32], rounded: NDArray[np.float32]) -> bool:
    """Whether the nearest other row of each row stays the same when the vectors that are searched are rounded."""
    chosen = np.arange(len(vectors))[:: -(-len(vectors) // CHECKED_ROWS)]
    for start in range(0, len(chosen), 256):
        own = chosen[start : start + 256]
        exact, near = vectors[own] @ vectors.T, vectors[own] @ rounded.T
        for cosines in (exact, near):
            cosines[np.arange(len(own)), own] = -2
        taken = exact[np.arange(len(own)), near.argmax(1)]
        if (taken < exact.max(1) - TIE).any():
            return False
    return True
