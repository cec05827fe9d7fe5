"""A space whose vectors are known beforehand, and files to index."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest
import soundfile

import multimodal.encoders
from multimodal.core.space import Space
from multimodal.index import Index

FAMILIES = Path(__file__).parent / "families"
NAME = "multimodal.encoders.plain"


@pytest.fixture(scope="module")
def plain() -> Iterator[ModuleType]:
    """The family `plain`, found by `load` as if it lay in encoders/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multimodal.encoders, "__path__", [*multimodal.encoders.__path__, str(FAMILIES)])
        yield importlib.import_module(NAME)
        del sys.modules[NAME]
        del multimodal.encoders.plain  # type: ignore[attr-defined]


@pytest.fixture
def space(plain: ModuleType) -> Space:
    return plain.load()


@pytest.fixture
def index(space: Space, tmp_path: Path) -> Index:
    return Index.create(tmp_path / "index.lance", space)


@pytest.fixture
def picture() -> Callable[..., Path]:
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
