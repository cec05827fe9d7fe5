"""Background: some rows of each modality of an index, against which the cosines of a query are read.

Kept with the index, as INDEX/background.npz: made when it is first needed, and anew when a modality has
doubled or halved. Whoever cannot write there keeps it in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.index.search.vector_search import Pool
from multimodal.index.search.view import Filter, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE, ABOUT = "background.npz", "about"
FORMAT = 1  # what has another one is made anew
SAMPLED = 1024  # rows of a modality
GROWN = 2  # so many times more, or fewer, rows, and they are sampled anew
SEED = 6


@dataclass(frozen=True, eq=False)
class Background:
    """vectors: of each modality (n, dim) float32. counts: how many rows it had when these were sampled."""

    counts: Mapping[str, int]
    vectors: Mapping[str, NDArray[np.float32]]

    def fits(self, counts: Mapping[str, int]) -> bool:
        """Whether each modality has about as many rows as it had."""
        return all(
            self.counts.get(name, 0) < GROWN * max(1, n) and n < GROWN * max(1, self.counts.get(name, 0))
            for name, n in counts.items()
        )


class Backgrounds:
    """Keeps the background of one index. May be used by several threads."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._path = folder / FILE
        self._fingerprint = fingerprint
        self._known: Background | None = None
        self._lock = threading.Lock()

    def of(self, view: View) -> Background:
        """That of a version of the index, or of one nearly like it."""
        counts = rows_of(view)
        with self._lock:
            if self._known is None or not self._known.fits(counts):
                kept = self._read()
                if kept is None or not kept.fits(counts):
                    kept = sample(view, counts)
                    self._write(kept)
                self._known = kept
            return self._known

    def _read(self) -> Background | None:
        import zipfile

        import numpy as np

        try:
            with self._path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                about = json.loads(str(file[ABOUT]))
                if about["format"] != FORMAT or about["fingerprint"] != self._fingerprint:
                    return None
                vectors = {name: file[name].astype(np.float32) for name in about["counts"]}
                return Background(about["counts"], vectors)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None  # not there, or damaged: it is made anew

    def _write(self, background: Background) -> None:
        import numpy as np

        about = {"format": FORMAT, "fingerprint": self._fingerprint, "counts": dict(background.counts)}
        arrays = {name: rows.astype(np.float16) for name, rows in background.vectors.items()}
        with contextlib.suppress(OSError):  # no place, or no right to write: it is in memory
            number, name = tempfile.mkstemp(prefix=FILE, suffix=".new", dir=self._path.parent)
            new = Path(name)
            try:
                with os.fdopen(number, "wb") as file:
                    np.savez(file, allow_pickle=False, **{ABOUT: np.array(json.dumps(about))}, **arrays)
                new.chmod(0o644)  # for readers who are someone else
                new.replace(self._path)
            finally:
                new.unlink(missing_ok=True)


def rows_of(view: View) -> dict[str, int]:
    """How many rows of each modality there are, without those that have none."""
    counts = {
        name: sum(pool.n for pool in view.pools(Filter((name,)))) for name in view.version.about.modalities
    }
    return {name: n for name, n in counts.items() if n}


def sample(view: View, counts: Mapping[str, int]) -> Background:
    """SAMPLED rows of each modality at most, from all over; the same ones of the same version."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    found = {}
    for name, n in counts.items():
        chosen = np.sort(rng.choice(n, min(n, SAMPLED), replace=False))
        rows = np.concatenate(_taken(view.pools(Filter((name,))), chosen))
        found[name] = rows.astype(np.float16).astype(np.float32)  # the same numbers as will be read again
    return Background(dict(counts), found)


def _taken(pools: list[Pool], chosen: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    """The vectors of rows, counted through all pools."""
    import numpy as np

    found, first = [], 0
    for pool in pools:
        here = chosen[(chosen >= first) & (chosen < first + pool.n)] - first
        places = here if pool.places is None else pool.places[here]
        found.append(np.asarray(pool.part.vectors[places], np.float32))
        first += pool.n
    return found
