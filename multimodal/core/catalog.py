"""Names are addresses: the first word of a name is a module of `encoders/`, the rest is that module's business.

A hyphen in the first word is an underscore in the module's name."""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
import pkgutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from multimodal.core.backends.precision import resolve_precision
from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import ENCODERS_PACKAGE
from multimodal.core.errors import InvalidInput, UnknownModel
from multimodal.core.hub import revisions
from multimodal.core.serialization import is_space
from multimodal.core.space import Space

FOLDER_PREFIXES = ("./", "../", "/", "~", ".\\", "..\\")
HOW = {
    "device",
    "precision",
    "decode",
    "engine",
    "offline",
    "trust_remote_code",
}  # options that are no part of a model
ACCEPTED = "load takes 'starter', '<family>/<model>', or a folder as './my-space' or a Path"


def load(name: str | os.PathLike[str], **options: Any) -> Space:
    """The space at an address.

    "starter" is the model that ships inside. "family/rest" is loaded by `encoders/<family>.py`. A Path,
    or a str that begins like one ("./my-space", "/…", "~/…"), is a folder written by `Space.save_pretrained`. Options
    go to either: `device="auto"`, `precision="float32"`, `decode="exact"`, `engine="torch"` (see
    `core.runtime.Runtime`), `offline=True` for nothing from the network, and a family's own. Each call loads anew. The
    space remembers how to load it again: `address`, `options` and, of what came from a hub, `commits`. Raises
    UnknownModel with close matches.
    """
    if isinstance(name, os.PathLike):
        return _from_folder(os.fspath(name), options)
    if not isinstance(name, str):
        raise InvalidInput(f"load takes a name or a path, got {type(name).__name__}; {ACCEPTED}")
    if name in (".", "..") or name.startswith(FOLDER_PREFIXES):
        return _from_folder(name, options)
    family, _, rest = name.partition("/")
    if family not in families():
        raise UnknownModel(_unknown(name, family))
    load_it = importlib.import_module(f"{ENCODERS_PACKAGE}.{family.replace('-', '_')}").load
    takes = inspect.signature(load_it).parameters
    if "offline" not in takes:
        options.pop("offline", None)  # a family that never fetches anything need not know the word
    if "engine" not in takes and (engine := options.pop("engine", "torch")) != "torch":
        raise InvalidInput(f"{name!r} runs by torch alone, got engine={engine!r}: leave it out")
    with revisions.commits() as commits:
        space: Space = load_it(rest, **options)
    space.commits |= commits
    space.address = space.address or _anywhere(family, rest)
    space.options = _kept(options)
    if "revision" in takes and len(commits) == 1:
        space.options["revision"] = next(iter(commits.values()))
    told: dict[str, Any] = {
        key: options[key] for key in ("device", "precision", "decode", "engine") if key in options
    }
    runtime = Runtime(**({"device": "auto"} | told))
    for encoder in space.encoders.values():
        vars(encoder).setdefault("runtime", runtime)  # where the family has not said so itself
    resolve_precision(space.encoders.values())
    return space


def _anywhere(family: str, rest: str) -> str:
    """An address that means the same from another working directory."""
    if rest in (".", "..") or rest.startswith(FOLDER_PREFIXES):
        rest = str(Path(rest).expanduser().absolute())
    return f"{family}/{rest}" if rest else family


def _kept(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options of `load`, those that make a space what it is, as JSON values. Code of a repository's own is not
    trusted again because it once was."""

    def plain(value: object) -> object:
        return dict(value) if isinstance(value, Mapping) else str(value)

    kept = {key: value for key, value in options.items() if key not in HOW and value is not None}
    return dict(json.loads(json.dumps(kept, default=plain)))


def _from_folder(folder: str, options: dict[str, Any]) -> Space:
    options.pop("offline", None)  # a folder is here
    space = Space.from_pretrained(folder, **options)
    space.address = str(Path(folder).expanduser().resolve())
    return space


def families() -> list[str]:
    """The first words that `load` knows: the modules in `encoders/`, sorted."""
    package = importlib.import_module(ENCODERS_PACKAGE)
    return sorted(
        module.name.replace("_", "-")
        for module in pkgutil.iter_modules(package.__path__)
        if not module.name.startswith("_")
    )


def cards() -> list[Card]:
    """A card for every model that can be loaded by name, family by family."""
    return [
        card
        for family in families()
        for card in importlib.import_module(f"{ENCODERS_PACKAGE}.{family.replace('-', '_')}").CARDS
    ]


def models_for(modality: str) -> list[str]:
    """The name of one model of each family that encodes a modality, sorted."""
    by_family = {
        card.name.partition("/")[0]: card.name for card in reversed(cards()) if modality in card.modalities
    }
    return sorted(by_family.values())


def close_matches(word: str, known: Iterable[str]) -> str:
    """`did you mean 'starter'? ` for a slip of the pen; an empty string if nothing is close."""
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(str(word).lower(), by_lower, n=3, cutoff=0.6)
    if not close:
        return ""
    return f"did you mean {' or '.join(repr(by_lower[one]) for one in close)}? "


def _unknown(name: str, family: str) -> str:
    names = {card.name for card in cards()} | set(families())
    hint = close_matches(name, names) or close_matches(family, names)
    if not hint and is_space(Path(name)):
        hint = f"a folder of that name is here: write './{name}'. "
    return f"no model is called {name!r}; {hint}{ACCEPTED}; families: {', '.join(families())}"
