"""Reference sample: rows of each modality of an index, against which the cosines of a query are calibrated.

Stored as INDEX/background.npz: sampled when first needed, and again when the size of a modality has doubled or halved.
Processes that cannot write there keep it in memory.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.index.search.score_calibration import deviation_without_highest
from multimodal.index.search.vector_search import Candidates
from multimodal.index.search.view import Filter, SnapshotView

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE, HEADER = "background.npz", "about"
FORMAT = 1  # a sample of any other format is drawn again
ROWS_PER_MODALITY = 1024
GROWTH = 2  # factor of a modality's size from which it is sampled again
SEED = 6
PAIR_ROWS = 256  # rows of each modality between which unrelated pairs are formed
MIN_PAIR_ROWS = 4  # of each modality; a standard deviation between fewer says little


@dataclass(frozen=True, eq=False)
class ReferenceSample:
    """vectors: by modality, (n, dim) float32. counts: rows of each modality when the sample was drawn."""

    counts: Mapping[str, int]
    vectors: Mapping[str, NDArray[np.float32]]
    _cached_deviations: dict[str, dict[str, float]] = field(default_factory=dict, init=False, repr=False)

    def background(self, query_modality: str, row_modality: str) -> float:
        """Standard deviation of the cosines of unrelated items, one of each modality.

        Sampled rows of the query's modality stand for queries. Where there are too few, those of other modalities do.
        Rows of one modality that are all alike give no lower bound, so the other modalities give one.
        """
        deviations = self._deviations(row_modality)
        if not deviations:
            return 0.0
        typical = math.sqrt(sum(deviation**2 for deviation in deviations.values()) / len(deviations))
        return max(deviations.get(query_modality, typical), typical / 2)

    def _deviations(self, row_modality: str) -> dict[str, float]:
        """Standard deviation of the cosines between a modality and each modality of at least MIN_PAIR_ROWS rows."""
        import numpy as np

        if row_modality not in self._cached_deviations:
            rows = _evenly(self.vectors[row_modality])
            deviations = {}
            for name, vectors in self.vectors.items():
                cosines = _evenly(vectors) @ rows.T
                if name == row_modality:  # without the cosine of a row with itself
                    n = len(rows)
                    cosines = cosines[~np.eye(n, dtype=bool)].reshape(n, n - 1)
                if min(len(vectors), len(rows)) >= MIN_PAIR_ROWS:
                    deviations[name] = deviation_without_highest(cosines)
            self._cached_deviations[row_modality] = deviations
        return self._cached_deviations[row_modality]

    def fits(self, counts: Mapping[str, int]) -> bool:
        """Whether each modality still has about as many rows."""
        return all(
            self.counts.get(name, 0) < GROWTH * max(1, n) and n < GROWTH * max(1, self.counts.get(name, 0))
            for name, n in counts.items()
        )


class ReferenceSampleStore:
    """Loads, draws and stores the reference sample of an index. May be used by several threads."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._path = folder / FILE
        self._fingerprint = fingerprint
        self._sample: ReferenceSample | None = None
        self._lock = threading.Lock()

    def get(self, view: SnapshotView) -> ReferenceSample:
        """A sample of this snapshot, or of an earlier one of about the same size."""
        counts = row_counts(view)
        with self._lock:
            if self._sample is None or not self._sample.fits(counts):
                sample = self._read()
                if sample is None or not sample.fits(counts):
                    sample = draw_sample(view, counts)
                    self._write(sample)
                self._sample = sample
            return self._sample

    def _read(self) -> ReferenceSample | None:
        import zipfile

        import numpy as np

        try:
            with self._path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                header = json.loads(str(file[HEADER]))
                if header["format"] != FORMAT or header["fingerprint"] != self._fingerprint:
                    return None
                vectors = {name: file[name].astype(np.float32) for name in header["counts"]}
                return ReferenceSample(header["counts"], vectors)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None  # missing or damaged: it is drawn again

    def _write(self, sample: ReferenceSample) -> None:
        import numpy as np

        header = {"format": FORMAT, "fingerprint": self._fingerprint, "counts": dict(sample.counts)}
        arrays = {name: vectors.astype(np.float16) for name, vectors in sample.vectors.items()}
        with contextlib.suppress(OSError):  # no space or no permission: the sample stays in memory
            descriptor, name = tempfile.mkstemp(prefix=FILE, suffix=".new", dir=self._path.parent)
            new = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    np.savez(file, allow_pickle=False, **{HEADER: np.array(json.dumps(header))}, **arrays)
                new.chmod(0o644)  # other users may read the index
                new.replace(self._path)
            finally:
                new.unlink(missing_ok=True)


def _evenly(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Up to PAIR_ROWS of the vectors (n, dim), from all over."""
    step = -(-len(vectors) // PAIR_ROWS)
    return vectors[::step]


def row_counts(view: SnapshotView) -> dict[str, int]:
    """Rows of each modality that has any."""
    counts = {
        name: sum(rows.n_rows for rows in view.candidates(Filter((name,))))
        for name in view.snapshot.index_metadata.modalities
    }
    return {name: n for name, n in counts.items() if n}


def draw_sample(view: SnapshotView, counts: Mapping[str, int]) -> ReferenceSample:
    """Up to ROWS_PER_MODALITY random rows of each modality; the same ones for the same snapshot."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    vectors = {}
    for name, n in counts.items():
        chosen = np.sort(rng.choice(n, min(n, ROWS_PER_MODALITY), replace=False))
        rows = np.concatenate(_vectors_at(view.candidates(Filter((name,))), chosen))
        vectors[name] = rows.astype(np.float16).astype(np.float32)  # the same numbers as will be read again
    return ReferenceSample(dict(counts), vectors)


def _vectors_at(candidates: list[Candidates], chosen: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    """Vectors of rows that are numbered through all candidates."""
    import numpy as np

    vectors, first = [], 0
    for rows in candidates:
        here = chosen[(chosen >= first) & (chosen < first + rows.n_rows)] - first
        positions = here if rows.positions is None else rows.positions[here]
        vectors.append(np.asarray(rows.segment.vectors[positions], np.float32))
        first += rows.n_rows
    return vectors
