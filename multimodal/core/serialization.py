"""A space on disk: config.json and, for each encoder, <modality>.safetensors and, where it needs more files, a folder
<modality>/. Written all or nothing."""

from __future__ import annotations

import importlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.precision import resolve_precision
from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import ENCODERS_PACKAGE, Encoder, Saved
from multimodal.core.errors import CorruptSpace, InvalidInput, UnknownModel
from multimodal.core.logit_scale import Head, Pair
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import torch

    from multimodal.core.space import Space

CONFIG = "config.json"
FORMAT = 1  # raised when an older reader could no longer understand the folder


def is_space(folder: Path) -> bool:
    """Whether a folder holds a saved space."""
    return (folder / CONFIG).is_file()


def _is_ours(folder: Path) -> bool:
    """Whether a folder was written by `save_space`: other libraries' checkpoints have a config.json too."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "format" in config and "encoders" in config


def save_space(space: Space, folder: str | os.PathLike[str]) -> None:
    """See Space.save_pretrained."""
    target = Path(folder).expanduser().absolute()
    if target.exists() and not _is_ours(target) and not (target.is_dir() and not any(target.iterdir())):
        raise InvalidInput(
            f"{target} is there already and is not a saved space; save to a new or empty folder"
        )
    config = json.dumps(_describe(space), indent=2, ensure_ascii=False, allow_nan=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the final rename stays on one file system and is atomic.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        for modality, encoder in space.encoders.items():
            _write_tensors(encoder.state_dict(), new / f"{modality}.safetensors")
            _write_files(encoder.files(), new / str(modality))
        (new / CONFIG).write_text(config + "\n", encoding="utf-8")
        old = Path(scratch) / "old"
        if target.exists():
            target.replace(old)
        try:
            new.replace(target)
        except OSError:
            if old.exists():
                old.replace(target)
            raise


def read_space(folder: str | os.PathLike[str], runtime: Runtime) -> dict[str, Any]:
    """The arguments with which to build the Space saved in `folder`; see Space.from_pretrained."""
    source = Path(folder).expanduser()
    if not is_space(source):
        raise UnknownModel(
            f"no space is saved in {os.fspath(folder)!r}: it has no {CONFIG}; "
            "Space.save_pretrained(folder) writes one"
        )
    config = _read_config(source / CONFIG)
    try:
        encoders = [
            _read_encoder(source, Modality(key), saved, runtime) for key, saved in config["encoders"].items()
        ]
        heads = {_pair(head["pair"]): Head(**head["head"]) for head in config["heads"]}
        card = None if config["card"] is None else Card.from_dict(config["card"])
        told = {"head": heads, "name": config["name"], "card": card, "commits": config.get("commits")}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, CorruptSpace):
            raise
        raise CorruptSpace(
            f"{source / CONFIG} is not as Space.save_pretrained writes it: {error!r}; save the space again"
        ) from error
    for one in encoders:
        if runtime.engine not in one.engines:
            raise InvalidInput(
                f"{type(one).__name__} runs by torch alone, got engine={runtime.engine!r}: leave it out"
            )
    resolve_precision(encoders)
    return told | {"encoders": encoders}


def _describe(space: Space) -> dict[str, Any]:
    encoders = {}
    for modality, encoder in space.encoders.items():
        if encoder.family is None:
            raise InvalidInput(
                f"cannot save {type(encoder).__name__}: it is defined in {type(encoder).__module__!r}, and only a "
                f"module of {ENCODERS_PACKAGE} can rebuild an encoder; move it to encoders/<family>.py"
            )
        encoders[str(modality)] = {"family": encoder.family, "config": encoder.config()} | (
            {"trained_into": encoder.trained_into} if encoder.trained_into else {}
        )
    heads = [
        {"pair": None if pair is None else [str(pair[0]), str(pair[1])], "head": head.to_dict()}
        for pair, head in space.heads.items()
    ]
    return {
        "format": FORMAT,
        "name": space.name,
        "dim": space.dim,
        "fingerprint": space.fingerprint,
        "card": None if space.card is None else space.card.to_dict(),
        "heads": heads,
        "encoders": encoders,
    } | ({"commits": space.commits} if space.commits else {})


def _write_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    plain: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        one = tensor.detach().cpu().contiguous()
        storage = one.untyped_storage().data_ptr()
        plain[name] = one.clone() if storage in seen else one  # safetensors refuses tied weights
        seen.add(storage)
    save_file(plain, path)
    path.chmod(0o644)  # safetensors writes for the owner alone; a space is often shared on a server


def _write_files(files: Mapping[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        if Path(name).name != name:
            raise InvalidInput(f"an encoder's file must have a plain name, got {name!r}")
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CorruptSpace(f"{path} is not valid JSON ({error}); save the space again") from error
    if not isinstance(config, dict) or not isinstance(config.get("format"), int):
        raise CorruptSpace(
            f"{path} is not the configuration of a space: it has no 'format'; "
            "Space.save_pretrained(folder) writes one"
        )
    if config["format"] > FORMAT:
        raise CorruptSpace(
            f"{path} has format {config['format']}, this version reads up to {FORMAT}: upgrade multimodal"
        )
    return config


def _read_encoder(folder: Path, modality: Modality, saved: Mapping[str, Any], runtime: Runtime) -> Encoder:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / f"{modality}.safetensors"
    family = _family(saved["family"], folder / CONFIG)
    try:
        tensors = load_file(path)
    except (SafetensorError, FileNotFoundError) as error:
        raise CorruptSpace(
            f"the weights {path} are missing or damaged ({error}); copy or save the space again"
        ) from error
    beside = folder / str(modality)
    files = {file.name: file.read_bytes() for file in sorted(beside.iterdir())} if beside.is_dir() else {}
    encoder: Encoder = family.from_config(Saved(modality, saved["config"], tensors, files), runtime)
    encoder.runtime = runtime
    if "trained_into" in saved:
        encoder.trained_into = saved["trained_into"]
    return encoder


def rebuild(family: str, saved: Saved, runtime: Runtime) -> Encoder:
    """An encoder from what it saved, by the family of that name: for an encoder that holds another one.

    Raises CorruptSpace if there is no such family.
    """
    encoder: Encoder = _family(family, "the saved encoder").from_config(saved, runtime)
    return encoder


def _family(family: str, named_by: object) -> ModuleType:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", family):
        raise CorruptSpace(f"{named_by} names the family {family!r}, which cannot be a module of encoders/")
    module_name = f"{ENCODERS_PACKAGE}.{family}"
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise CorruptSpace(
            f"{named_by} needs the encoder family {family!r}, which this version does not "
            "have: upgrade multimodal"
        ) from error


def _pair(pair: list[str] | None) -> Pair | None:
    return None if pair is None else (Modality(pair[0]), Modality(pair[1]))
