"""A toy family and a toy pipeline, found by the package's own machinery as if they lay in its rooms."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import multimodal.encoders
import multimodal.pipelines
from multimodal.core.space import Space

HERE = Path(__file__).parent


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `multimodal.encoders.toy`."""
    yield from _guest(monkeypatch, multimodal.encoders, HERE / "families", "toy")


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `multimodal.pipelines.counting`."""
    yield from _guest(monkeypatch, multimodal.pipelines, HERE / "tasks", "counting")


@pytest.fixture
def space(toy: ModuleType) -> Space:
    loaded: Space = toy.load()
    return loaded


def _guest(
    monkeypatch: pytest.MonkeyPatch, room: ModuleType, folder: Path, name: str
) -> Iterator[ModuleType]:
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(folder)])
    yield importlib.import_module(f"{room.__name__}.{name}")
    del sys.modules[f"{room.__name__}.{name}"]
    delattr(room, name)
