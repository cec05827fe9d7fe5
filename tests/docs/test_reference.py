"""Every public name and every public method of a public class has a docstring, and a place in the reference."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import multimodal

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"


def undocumented(name: str, value: Any) -> list[str]:
    """The parts of a public name that have no docstring of their own or, for a method, of what it overrides."""
    missing = [] if inspect.getdoc(value) else [name]
    if inspect.isclass(value):
        missing += [f"{name}.{part}" for part, member in members(value) if not inspect.getdoc(member)]
    return missing


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class defines itself."""
    for name, member in vars(cls).items():
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
            yield name, getattr(cls, name)


@pytest.mark.parametrize("name", sorted(multimodal.__all__))
def test_a_public_name_and_its_methods_have_docstrings(name: str) -> None:
    assert undocumented(name, getattr(multimodal, name)) == []


def test_every_public_name_has_one_place_in_the_reference() -> None:
    directive = re.compile(r"^::: multimodal\.(\w+)$", re.M)
    places = [name for page in REFERENCE.glob("*.md") for name in directive.findall(page.read_text("utf-8"))]
    assert sorted(set(multimodal.__all__) - set(places)) == []
    assert sorted(name for name in places if places.count(name) > 1) == []


def test_a_missing_docstring_is_found() -> None:
    class Bare:
        def method(self) -> None: ...

        @property
        def value(self) -> int:
            """Documented."""
            return 1

    assert undocumented("Bare", Bare) == ["Bare", "Bare.method"]
