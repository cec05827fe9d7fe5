"""Saved spaces: config.json and, for each encoder, <modality>.safetensors and, if it needs more files, <modality>/.

A save is atomic: the folder appears complete or not at all.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.precision import resolve_precision
from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.derived import truncation
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.errors import CorruptSpace, InvalidInput, UnknownModel
from multimodal.core.families import family_module
from multimodal.core.logit_scale import LogitScale, Pair
from multimodal.core.modality import Modality
from multimodal.core.paths import local_path

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from multimodal.core.space import Space

CONFIG = "config.json"
FORMAT = 2  # raised when an older reader could no longer understand the folder


class StoredTensors(Mapping[str, "torch.Tensor"]):
    """The tensors of a safetensors file, by name. They are read, and torch is imported, at the first access to one.

    Raises SafetensorError or FileNotFoundError if the file is missing or its header is damaged.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            self._names = list(file.keys())
        self.path = path

    @functools.cached_property
    def _tensors(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        return load_file(self.path)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The tensors as numpy arrays, which lack bfloat16."""
        from safetensors.numpy import load_file

        return load_file(self.path)

    def __getitem__(self, name: str) -> torch.Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def is_space(folder: Path) -> bool:
    """Whether a folder holds a saved space."""
    return (folder / CONFIG).is_file()


def is_saved_space(folder: Path) -> bool:
    """Whether a folder was written by `save_space`: other libraries' checkpoints have a config.json too."""
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "format" in config and "encoders" in config


def save_space(space: Space, folder: str | os.PathLike[str]) -> None:
    """See `Space.save_pretrained`."""
    target = local_path(folder, "a saved space")
    if target.exists() and not is_saved_space(target) and not (target.is_dir() and not any(target.iterdir())):
        raise InvalidInput(f"{target} exists and is not a saved space; save to a new or empty folder")
    config = json.dumps(_describe(space), indent=2, ensure_ascii=False, allow_nan=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the final rename stays on one file system and is atomic.
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        for modality, encoder in space.encoders.items():
            _refuse_unmerged(encoder)
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


def _refuse_unmerged(encoder: Encoder) -> None:
    """Refuses an encoder into whose network PEFT has put an adapter: its family could not load those tensors."""
    if any(".lora_A." in name or ".lora_embedding_A." in name for name in encoder.state_dict()):
        raise InvalidInput(
            f"the {encoder.modality} encoder has an adapter of PEFT that is not merged: save the adapter with PEFT, or "
            "merge it first with multimodal.adapt.apply_adapters(space, folder)"
        )


def read_space(folder: str | os.PathLike[str], runtime: Runtime) -> dict[str, Any]:
    """The arguments with which to build the Space saved in `folder`; see Space.from_pretrained."""
    source = Path(folder).expanduser()
    if not is_space(source):
        if (source / "adapter_config.json").is_file():
            raise UnknownModel(
                f"{os.fspath(folder)!r} holds an adapter, not a space: load the model that it was trained on with "
                f"adapter='{os.fspath(folder)}'"
            )
        raise UnknownModel(
            f"no space is saved in {os.fspath(folder)!r}: it has no {CONFIG}; "
            "Space.save_pretrained(folder) writes one"
        )
    config = _read_config(source / CONFIG)
    try:
        encoders = [
            _read_encoder(source, Modality(key), saved, runtime) for key, saved in config["encoders"].items()
        ]
        logit_scales = {
            _pair(entry["pair"]): LogitScale(**entry["logit_scale"]) for entry in config["logit_scales"]
        }
        card = None if config["card"] is None else Card.from_dict(config["card"])
        name, revisions = config["name"], config.get("revisions")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, CorruptSpace):
            raise
        raise CorruptSpace(
            f"{source / CONFIG} is not as Space.save_pretrained writes it: {error!r}; save the space again"
        ) from error
    _require_engine(encoders, runtime)
    resolve_precision(encoders)
    return {
        "encoders": encoders,
        "logit_scale": logit_scales,
        "name": name,
        "card": card,
        "revisions": revisions,
    }


def moved(encoders: Mapping[Modality, Encoder], device: str) -> dict[Modality, Encoder]:
    """The same encoders rebuilt on another device by their families; see `Space.to`."""
    rebuilt: dict[Modality, Encoder] = {}
    for modality, encoder in encoders.items():
        if encoder.runtime.engine != "torch":
            raise InvalidInput(
                f"an encoder with engine={encoder.runtime.engine!r} runs on the CPU alone; load the space with "
                f"engine='torch' to use device {device!r}"
            )
        runtime = dataclasses.replace(encoder.runtime, device=device)
        state = EncoderState(modality, encoder.config(), encoder.state_dict(), encoder.files())
        copy = rebuild(_family_name(encoder), state, runtime)
        copy.runtime, copy.space_id = runtime, encoder.space_id
        rebuilt[modality] = copy
    resolve_precision(rebuilt.values())
    return rebuilt


def _require_engine(encoders: Sequence[Encoder], runtime: Runtime) -> None:
    for encoder in encoders:
        if runtime.engine not in encoder.engines:
            raise InvalidInput(
                f"{type(encoder).__name__} runs by torch alone, got engine={runtime.engine!r}: leave it out"
            )


def _describe(space: Space) -> dict[str, Any]:
    encoders = {
        str(modality): {"family": _family_name(encoder), "config": encoder.config()}
        | ({"space_id": encoder.space_id} if encoder.space_id else {})
        for modality, encoder in space.encoders.items()
    }
    logit_scales = [
        {"pair": None if pair is None else [str(pair[0]), str(pair[1])], "logit_scale": value.to_dict()}
        for pair, value in space.logit_scales.items()
    ]
    return {
        "format": FORMAT,
        "name": space.name,
        "dim": space.dim,
        "fingerprint": space.fingerprint,
        "card": None if space.card is None else space.card.to_dict(),
        "logit_scales": logit_scales,
        "encoders": encoders,
    } | ({"revisions": space.revisions} if space.revisions else {})


def _family_name(encoder: Encoder) -> str:
    if encoder.family is None:
        raise InvalidInput(
            f"{type(encoder).__name__} cannot be rebuilt from a saved space: its module {type(encoder).__module__!r} "
            "belongs to no encoder family; register it with multimodal.register_family(name, module)"
        )
    return encoder.family


def _write_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    plain: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        contiguous = tensor.detach().cpu().contiguous()
        storage = contiguous.untyped_storage().data_ptr()
        # safetensors refuses tied weights
        plain[name] = contiguous.clone() if storage in seen else contiguous
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
    return _from_format_1(config, path) if config["format"] < 2 else config


def _from_format_1(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """The configuration as format 2 writes it. Format 1 called some keys otherwise (multimodal 0.1)."""
    try:
        logit_scales = []
        for entry in config["heads"]:
            values = dict(entry["head"])
            values["activation"] = values.pop("kind")
            logit_scales.append({"pair": entry["pair"], "logit_scale": values})
        encoders = {}
        for modality, saved in config["encoders"].items():
            renamed = dict(saved)
            if "trained_into" in renamed:
                renamed["space_id"] = renamed.pop("trained_into")
            encoders[modality] = renamed
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CorruptSpace(
            f"{path} is not as Space.save_pretrained writes it: {error!r}; save the space again"
        ) from error
    return config | {
        "format": 2,
        "logit_scales": logit_scales,
        "encoders": encoders,
        "revisions": config.get("commits"),
    }


def _read_encoder(folder: Path, modality: Modality, saved: Mapping[str, Any], runtime: Runtime) -> Encoder:
    from safetensors import SafetensorError

    path = folder / f"{modality}.safetensors"
    family = _family(saved["family"], folder / CONFIG)
    try:
        tensors = StoredTensors(path)
    except (SafetensorError, FileNotFoundError) as error:
        raise CorruptSpace(
            f"the weights {path} are missing or damaged ({error}); copy or save the space again"
        ) from error
    beside = folder / str(modality)
    files = {file.name: file.read_bytes() for file in sorted(beside.iterdir())} if beside.is_dir() else {}
    encoder = _from_config(family, EncoderState(modality, saved["config"], tensors, files), runtime)
    encoder.runtime = runtime
    if "space_id" in saved:
        encoder.space_id = saved["space_id"]
    return encoder


def rebuild(family: str, state: EncoderState, runtime: Runtime) -> Encoder:
    """An encoder rebuilt from its saved state by the family of that name. Raises CorruptSpace if there is none."""
    return _from_config(_family(family, "the saved encoder"), state, runtime)


def _from_config(family: ModuleType, state: EncoderState, runtime: Runtime) -> Encoder:
    config = dict(state.config)
    dims = config.pop(truncation.CONFIG_KEY, None)
    encoder: Encoder = family.from_config(dataclasses.replace(state, config=config), runtime)
    return encoder if dims is None else truncation.truncated(encoder, dims)


def _family(family: str, named_by: object) -> ModuleType:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", family):
        raise CorruptSpace(f"{named_by} names the family {family!r}, which is not a valid family name")
    try:
        return family_module(family)
    except UnknownModel as error:
        raise CorruptSpace(
            f"{named_by} needs the encoder family {family!r}, which is not installed: upgrade multimodal, install "
            "the package that provides it, or call multimodal.register_family first"
        ) from error


def _pair(pair: list[str] | None) -> Pair | None:
    return None if pair is None else (Modality(pair[0]), Modality(pair[1]))
