"""Imports that wait until something of a package is used."""

from __future__ import annotations

import importlib.util
import sys
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
