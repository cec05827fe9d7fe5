"""Families and pipelines of the tests, registered as a user registers their own."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType

import multimodal
from multimodal.core.families import unregister_family
from multimodal.core.pipeline import unregister_pipeline

TOY = "tests.core.families.toy"
PLAIN = "tests.index.families.plain"
WIDE = "tests.index.families.wide"
SLOW = "tests.index.families.slow"
APART = "tests.adapt.families.apart"
PATHS = {"toy": TOY, "plain": PLAIN, "wide": WIDE, "apart": APART, "slow": SLOW}


@contextlib.contextmanager
def family(name: str) -> Iterator[ModuleType]:
    """Registers one of the families of the tests for the length of a `with` block; gives its module."""
    multimodal.register_family(name, PATHS[name])
    try:
        yield importlib.import_module(PATHS[name])
    finally:
        unregister_family(name)


@contextlib.contextmanager
def pipeline(task: str, path: str) -> Iterator[None]:
    """Registers a pipeline, "module:Class", for the length of a `with` block."""
    multimodal.register_pipeline(task, path)
    try:
        yield
    finally:
        unregister_pipeline(task)


def registration(name: str) -> str:
    """Code that registers a family of the tests in another process, run with the checkout on its path."""
    return f"import multimodal\nmultimodal.register_family({name!r}, {PATHS[name]!r})\n"
