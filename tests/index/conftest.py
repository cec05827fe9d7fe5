"""A space whose vectors are known beforehand, and files to index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile

from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.storage.schema import Provenance, Row
from multimodal.index.storage.table import ItemTable
from tests import plugins


@pytest.fixture(scope="module")
def plain() -> Iterator[ModuleType]:
    """The family `plain`."""
    with plugins.family("plain") as module:
        yield module


@pytest.fixture(scope="module")
def wide() -> Iterator[Space]:
    """A space of the family `wide`, with vectors of 64 numbers."""
    with plugins.family("wide") as module:
        yield module.load()


def fill(
    index: Index,
    vectors: np.ndarray,
    ids: Sequence[str] | None = None,
    texts: Sequence[str | None] | None = None,
    metadata: Sequence[dict[str, Any]] | None = None,
    uris: Sequence[str | None] | None = None,
) -> None:
    """Writes rows with these unit vectors (n, dim) without encoding anything: text and image by turns."""
    n = len(vectors)
    columns = zip(
        ids or [f"{place:06}" for place in range(n)],
        uris or [None] * n,
        [("text", "image")[place % 2] for place in range(n)],
        texts or [None] * n,
        metadata or [{}] * n,
        strict=True,
    )
    rows = [Row(*values) for values in columns]
    ItemTable.open(index.path).upsert(rows, [Provenance(row.id) for row in rows], vectors.astype(np.float32))


def clusters(n: int, dim: int, seed: int = 0, centres: int = 50, spread: float = 0.6) -> np.ndarray:
    """Unit vectors (n, dim) in clusters that all lie to one side, as CLIP's do."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(99).standard_normal((centres, dim)) + 1.0
    rows = middles[rng.integers(0, centres, n)] + spread * rng.standard_normal((n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def space(plain: ModuleType) -> Space:
    return plain.load()


@pytest.fixture
def index(space: Space, tmp_path: Path) -> Index:
    return Index.create(tmp_path / "index.lance", space)


@pytest.fixture
def image() -> Callable[..., Path]:
    """Writes a picture of one colour."""

    def write(path: Path, colour: tuple[int, int, int] = (255, 0, 0)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (8, 6), colour).save(path, "PNG")
        return path

    return write


@pytest.fixture
def sound() -> Callable[..., Path]:
    """Writes a tenth of a second at one level."""

    def write(path: Path, level: float = 0.5) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.full(800, level), 8000, format="WAV")
        return path

    return write
