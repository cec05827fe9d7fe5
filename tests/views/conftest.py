"""An index of small files of every kind, made with the toy family."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest
import soundfile

from multimodal.core.space import Space
from multimodal.index import Index
from tests import plugins

# Before anything imports numba: UMAP's code is the same when interpreted, and of so few points done before it would be
# compiled.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 210), "grey": (128, 128, 128)}


@pytest.fixture(scope="module")
def toy() -> Iterator[ModuleType]:
    """The family `toy`."""
    with plugins.family("toy") as module:
        yield module


@pytest.fixture
def space(toy: ModuleType) -> Space:
    return toy.load()


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Four pictures, two sounds and two notes."""
    folder = tmp_path / "media"
    (folder / "sub").mkdir(parents=True)
    for name, colour in COLOURS.items():
        PIL.Image.new("RGB", (300, 200), colour).save(folder / f"{name}.png")
    for name, hertz in (("low", 220), ("high", 880)):
        tone = 0.4 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)
        soundfile.write(folder / "sub" / f"{name}.wav", tone, 16_000)
    (folder / "note.txt").write_text("a red apple\n", encoding="utf-8")
    (folder / "other.txt").write_text("the blue sea", encoding="utf-8")
    return folder


@pytest.fixture
def index(space: Space, media: Path, tmp_path: Path) -> Index:
    made = Index.create(tmp_path / "gallery.lance", space)
    report = made.add(media)
    assert report.added == 8 and not report.failed
    return made
