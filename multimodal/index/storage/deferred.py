"""Imports that take less time: those that wait until something of a package is used, and those without checks."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from typing import Any


def defer_import(name: str) -> None:
    """Registers a package whose `__init__` runs when an attribute of the package is first used.

    Submodules can be imported without running it. A package that is imported already, or is not installed, stays so.
    """
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    package, loader = importlib.util.module_from_spec(spec), spec.loader

    def load_attribute(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        package.__dict__.pop("__getattr__", None)
        loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = load_attribute
    sys.modules[name] = package


class _Hidden(MetaPathFinder):
    """Hides a package from imports."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def import_without(name: str, hidden: str) -> None:
    """Imports a module as if a package that it uses where there is one were not installed.

    What the module remembers of that stays. So this is for a process whose whole code is known: a command line.
    """
    if name in sys.modules or hidden in sys.modules:
        return
    finder = _Hidden(hidden)
    sys.meta_path.insert(0, finder)
    try:
        importlib.import_module(name)
    finally:
        sys.meta_path.remove(finder)


@contextlib.contextmanager
def unchecked_overrides() -> Iterator[None]:
    """While the block runs, the decorator of the package `overrides` marks methods, and compares no signatures.

    Below Python 3.12 LanceDB uses it for a hundred methods, whose checks take half of the time to import LanceDB.
    """
    try:
        import overrides
    except ImportError:
        yield
        return
    package: Any = overrides
    checked = package.override
    package.override = _mark
    try:
        yield
    finally:
        package.override = checked


@contextlib.contextmanager
def deferred_models() -> Iterator[None]:
    """While the block runs, pydantic prepares a new model for use when it is first used, not when it is defined.

    LanceDB defines some two hundred models, nearly all of them of requests to its cloud.
    """
    try:
        import pydantic
    except ImportError:
        yield
        return
    config = pydantic.BaseModel.model_config  # every model starts with a copy of it
    config["defer_build"] = True
    try:
        yield
    finally:
        config.pop("defer_build", None)


def _mark(method: Any) -> Any:
    method.__override__ = True
    return method
