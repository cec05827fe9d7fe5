"""Encoder families: the modules that `load` and saved spaces find by name.

A family is a module with `load`, `CARDS` and `from_config` (see `multimodal.core.encoder`). It comes from one of three
places: the modules of `multimodal.encoders`, `register_family`, or the entry-point group `multimodal.encoders` of an
installed distribution:

    [project.entry-points."multimodal.encoders"]
    my-family = "my_package.encoder"
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from importlib import metadata
from types import ModuleType

from multimodal.core.errors import InvalidInput, UnknownModel

ENCODERS_PACKAGE = "multimodal.encoders"
ENTRY_POINTS = "multimodal.encoders"
REQUIRED = ("load", "CARDS", "from_config")
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# Loadable by name but not listed: test doubles that no user looks for among the models.
_UNLISTED = {"fake": "multimodal.testing"}
_registered: dict[str, ModuleType | str] = {}


def register_family(name: str, module: ModuleType | str) -> None:
    """Makes a module loadable as an encoder family: `load("name/…")`, `cards()`, saved spaces.

    The registration lasts for the current process. Registering the same module again does nothing. To have a
    family found in every process, declare it in the entry-point group `multimodal.encoders` instead.

    Args:
        name: The first word of the addresses: lowercase letters, digits and hyphens, as "my-family".
        module: A module with `load`, `CARDS` and `from_config`, or its dotted path, imported on first use.

    Raises:
        InvalidInput: If the name is invalid or taken, or a module lacks one of the three.
    """
    if not _NAME.fullmatch(str(name)):
        raise InvalidInput(
            f"a family name is lowercase letters, digits and hyphens, as 'my-family'; got {name!r}"
        )
    if not isinstance(module, ModuleType | str):
        raise InvalidInput(
            f"a family is a module or its dotted path, got {type(module).__name__}: "
            "register_family('my-family', 'my_package.encoder')"
        )
    if name in _built_in() or name in _UNLISTED:
        raise InvalidInput(f"the family name {name!r} is taken by multimodal itself; choose another")
    known = _registered.get(name) or _entry_points().get(name)
    if known is not None and _path(known) != _path(module):
        raise InvalidInput(f"the family name {name!r} is taken by {_path(known)!r}; choose another")
    if isinstance(module, ModuleType):
        _check(name, module)
    _registered[name] = module


def unregister_family(name: str) -> None:
    """Undoes `register_family`. Does nothing for a name that is not registered."""
    _registered.pop(name, None)


def registered_families() -> dict[str, str]:
    """The dotted paths of the families registered in this process, by name: another process can register them too."""
    return {name: _path(target) for name, target in _registered.items()}


def families() -> list[str]:
    """The names of all families, sorted: built in, installed as entry points, and registered."""
    return sorted({*_built_in(), *_entry_points(), *_registered})


def family_module(name: str) -> ModuleType:
    """The module of a family.

    Args:
        name: As in an address ("clip-audio-l14") or in a saved space ("clip_audio_l14").

    Raises:
        UnknownModel: If there is no family of that name.
        InvalidInput: If a registered path cannot be imported or lacks `load`, `CARDS` or `from_config`.
    """
    name = name.replace("_", "-")
    if name in _built_in():
        return importlib.import_module(f"{ENCODERS_PACKAGE}.{name.replace('-', '_')}")
    target = _registered.get(name) or _entry_points().get(name) or _UNLISTED.get(name)
    if target is None:
        raise UnknownModel(f"no encoder family is called {name!r}; families: {', '.join(families())}")
    if isinstance(target, ModuleType):
        return target
    try:
        module = importlib.import_module(target)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{target}.".startswith(f"{error.name}."):
            raise  # a dependency of the family is missing, and says so itself
        raise InvalidInput(
            f"the family {name!r} is registered as {target!r}, and there is no module {error.name!r}; install it"
        ) from error
    _check(name, module)
    return module


def family_of(encoder: type) -> str | None:
    """The family that an encoder class belongs to, as a saved space records it. None if it belongs to none."""
    module = encoder.__module__
    if module.startswith(f"{ENCODERS_PACKAGE}."):
        return module.removeprefix(f"{ENCODERS_PACKAGE}.").partition(".")[0]
    for name, target in {**_UNLISTED, **_entry_points(), **_registered}.items():
        if f"{module}.".startswith(f"{_path(target)}."):
            return name.replace("-", "_")
    return None


def _built_in() -> frozenset[str]:
    package = importlib.import_module(ENCODERS_PACKAGE)
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return frozenset(name.replace("_", "-") for name in names if not name.startswith("_"))


@functools.cache
def _entry_points() -> dict[str, str]:
    """{family: dotted path} of every installed distribution; a built-in name wins over an entry point."""
    entry_points = metadata.entry_points(group=ENTRY_POINTS)
    return {point.name: point.value for point in entry_points if _NAME.fullmatch(point.name)}


def _path(target: ModuleType | str) -> str:
    return target if isinstance(target, str) else target.__name__


def _check(name: str, module: ModuleType) -> None:
    missing = [attribute for attribute in REQUIRED if attribute not in vars(module)]
    if missing:
        raise InvalidInput(
            f"the module {module.__name__!r} cannot be the family {name!r}: it lacks {', '.join(missing)}; a family "
            "defines load, CARDS and from_config (see multimodal.core.encoder)"
        )
