"""Load models by name. A name is an address: its first word is an encoder family, the rest is read by that family.

A hyphen in the first word is an underscore in the name of the family's module.
"""

from __future__ import annotations

import difflib
import inspect
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.core.backends.precision import resolve_precision
from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.errors import InvalidInput, UnknownModel
from multimodal.core.families import families as families
from multimodal.core.families import family_module
from multimodal.core.hub.revisions import collect_revisions
from multimodal.core.serialization import is_saved_space, is_space
from multimodal.core.space import Space

FOLDER_PREFIXES = ("./", "../", "/", "~", ".\\", "..\\")
RUNTIME_OPTIONS = {"device", "precision", "decode", "engine", "offline", "trust_remote_code"}
ACCEPTED = "load takes 'starter', '<family>/<model>', or a folder as './my-space' or a Path"


class ModelName(NamedTuple):
    """The parts of a model name; see `parse_model_name`."""

    family: str
    rest: str
    folder: Path | None


CHECKPOINT_FILES = (
    ("modules.json", "st"),
    ("open_clip_config.json", "openclip"),
)  # file -> family that writes it


def parse_model_name(name: str | os.PathLike[str]) -> ModelName:
    """Splits the name of a model into its family and the rest.

    Args:
        name: "family/rest", the path of a folder ("./folder", "~/folder", "/folder"), or a path object.

    Returns:
        The family ("" for a folder without one), the rest, and the folder that the rest names, or None. Nothing is
        read from disk.

    >>> parse_model_name("hf/openai/whisper-tiny")
    ModelName(family='hf', rest='openai/whisper-tiny', folder=None)
    >>> parse_model_name("./whisper").family
    ''
    """
    text = os.fspath(name)
    if isinstance(name, os.PathLike) and not is_folder_name(text):
        text = f"./{text}"
    family, rest = ("", text) if is_folder_name(text) else text.partition("/")[::2]
    return ModelName(family, rest, Path(rest).expanduser() if is_folder_name(rest) else None)


def load(
    name: str | os.PathLike[str], *, adapter: object = None, dims: int | None = None, **options: Any
) -> Space:
    """Loads a space by its address. Each call returns a new space.

    Args:
        name: "starter" for the model that ships with the package, "family/model" for a model of an encoder family, or
            a folder written by `Space.save_pretrained`: a Path, or a str that begins like one ("./my-space", "/…",
            "~/…").
        adapter: The folder of an adapter that `adapt.finetune` wrote, a list of such, or `{modality: folder}` for
            PEFT's own; merged into the weights.
        dims: Only the first numbers of each vector, as `Space.truncate`.
        **options: `device="auto"`, `precision="float32"`, `decode="exact"`, `engine="torch"` (see
            `core.backends.runtime.Runtime`), `offline=True` to make no network requests, and the family's own.

    Returns:
        The space. It records how to load it again: `address`, `options`, and the hub `revisions` it was loaded from.

    Raises:
        UnknownModel: If there is no such model; the message offers close matches.
        InvalidInput: For a name of another type, or an option the family does not support.
        SpaceMismatch: If an adapter was trained on another model.
    """
    space = _load(name, options)
    if adapter is not None:
        space = _adapted(space, adapter)
    return space if dims is None else space.truncate(dims)


def _adapted(space: Space, adapter: object) -> Space:
    from multimodal.core.adapters import absolute_folders, apply_adapters

    adapted = apply_adapters(space, adapter)
    adapted.options = adapted.options | {"adapter": absolute_folders(adapter)}
    adapted._reopen = reload
    return adapted


def _load(name: str | os.PathLike[str], options: dict[str, Any]) -> Space:
    if isinstance(name, os.PathLike):
        return _from_folder(os.fspath(name), options)
    if not isinstance(name, str):
        raise InvalidInput(f"load takes a name or a path, got {type(name).__name__}; {ACCEPTED}")
    if is_folder_name(name):
        return _from_folder(name, options)
    family, rest, _ = parse_model_name(name)
    try:
        load_family = family_module(family).load
    except UnknownModel:
        raise UnknownModel(_unknown(name, family)) from None
    parameters = inspect.signature(load_family).parameters
    if "offline" not in parameters:
        options.pop("offline", None)  # a family that never fetches anything need not define the option
    if "engine" not in parameters and (engine := options.pop("engine", "torch")) != "torch":
        raise InvalidInput(f"{name!r} runs by torch alone, got engine={engine!r}: leave it out")
    with collect_revisions() as commits:
        space: Space = load_family(rest, **options)
    space.revisions |= commits
    space.address = space.address or _absolute(family, rest)
    space.options = _model_options(options)
    space._reopen = reload
    if "revision" in parameters and len(commits) == 1:
        space.options["revision"] = next(iter(commits.values()))
    given: dict[str, Any] = {
        key: options[key] for key in ("device", "precision", "decode", "engine") if key in options
    }
    runtime = Runtime(**({"device": "auto"} | given))
    for encoder in space.encoders.values():
        vars(encoder).setdefault("runtime", runtime)  # where the family has not set it itself
    resolve_precision(space.encoders.values())
    return space


def reload(address: str, options: Mapping[str, Any], runtime: Mapping[str, Any]) -> Space:
    """Loads a space by its recorded address, with those runtime options that its family takes."""
    if not is_folder_name(address):
        parameters = inspect.signature(family_module(address.partition("/")[0]).load).parameters
        takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        runtime = {key: value for key, value in runtime.items() if takes_all or key in parameters}
    return load(address, **options, **runtime)


def is_folder_name(name: str) -> bool:
    """Whether a str names a folder rather than a model: "./x", "../x", "/x", "~/x", "." or ".."."""
    return (
        name in (".", "..")
        or name.startswith(FOLDER_PREFIXES)
        or (os.name == "nt" and Path(name).is_absolute())
    )


def _absolute(family: str, rest: str) -> str:
    """An address that means the same from another working directory."""
    if is_folder_name(rest):
        rest = str(Path(rest).expanduser().absolute())
    return f"{family}/{rest}" if rest else family


def _model_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `load` that determine the vectors, as JSON values.

    `trust_remote_code` is left out: loading again must not repeat a consent that was given once.
    """

    def plain(value: object) -> object:
        return dict(value) if isinstance(value, Mapping) else str(value)

    kept = {key: value for key, value in options.items() if key not in RUNTIME_OPTIONS and value is not None}
    return dict(json.loads(json.dumps(kept, default=plain)))


def _from_folder(folder: str, options: dict[str, Any]) -> Space:
    options.pop("offline", None)  # a folder needs no network
    path = Path(folder).expanduser()
    family = None if is_saved_space(path) else _checkpoint_family(path)
    if family is not None:
        raise UnknownModel(
            f"{folder!r} is a checkpoint, not a saved space: write {f'{family}/{folder}'!r} to load it"
        )
    return Space.from_pretrained(folder, **options)


def _checkpoint_family(folder: Path) -> str | None:
    """The family that loads a checkpoint of another library; None if the folder holds none."""
    for file, family in CHECKPOINT_FILES:
        if (folder / file).is_file():
            return family
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return "hf" if isinstance(config, dict) and "model_type" in config else None


def cards() -> list[Card]:
    """Lists the models that can be loaded by name.

    Returns:
        Their cards, family by family.
    """
    return [card for family in families() for card in family_module(family).CARDS]


def models_for(modality: str) -> list[str]:
    """The name of one model of each family that encodes a modality, sorted."""
    by_family = {
        card.name.partition("/")[0]: card.name for card in reversed(cards()) if modality in card.modalities
    }
    return sorted(by_family.values())


def close_matches(word: str, known: Iterable[str]) -> str:
    """The hint `did you mean 'starter'? ` for a misspelt word; an empty string if nothing is close."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(word).lower(), by_lower, n=3, cutoff=0.6)
    if not close:
        return ""
    return f"did you mean {' or '.join(repr(by_lower[match]) for match in close)}? "


def _unknown(name: str, family: str) -> str:
    names = {card.name for card in cards()} | set(families())
    hint = close_matches(name, names) or close_matches(family, names)
    if not hint and is_space(Path(name)):
        hint = f"a folder of that name exists: write './{name}'. "
    return f"no model is called {name!r}; {hint}{ACCEPTED}; families: {', '.join(families())}"
