"""A toy family and a toy pipeline, registered as a user registers their own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest

from multimodal.core.space import Space
from tests import plugins

COUNTING = "tests.core.tasks.counting"


@pytest.fixture
def toy() -> Iterator[ModuleType]:
    """The family `toy`."""
    with plugins.family("toy") as module:
        yield module


@pytest.fixture
def counting() -> Iterator[ModuleType]:
    """The module of the pipeline for the task `counting`."""
    with plugins.pipeline("counting", f"{COUNTING}:CountingPipeline"):
        yield importlib.import_module(COUNTING)


@pytest.fixture
def space(toy: ModuleType) -> Space:
    loaded: Space = toy.load()
    return loaded
