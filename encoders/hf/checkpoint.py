"""Loads models of transformers from a checkpoint or from a saved space, without log output.

transformers initialises missing weights at random and logs a warning. Here a missing weight is an error.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError, InvalidInput, MissingExtra
from multimodal.core.hub.source import CONFIG, Source
from multimodal.core.modality import Modality
from multimodal.encoders.hf.special import UNTIED, towers
from multimodal.encoders.hf.towers import SCALES, Tower, extract

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_NAMED = 3  # tensors of each kind listed in an error
USES = {
    "input_ids": "it encodes text only: try 'st/…' for text embeddings",
    "pixel_values": "it has an image encoder but no text encoder: use it for captioning or image classification",
    "input_features": "it has an audio encoder but no text encoder: use it for transcription or audio classification",
    "input_values": "it has an audio encoder but no text encoder: use it for transcription or audio classification",
}


def require_transformers() -> None:
    """Raises MissingExtra unless transformers is installed."""
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtra(
            "loading a checkpoint of transformers ('hf/…')", package="transformers", extra="hf"
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences progress bars, logs and prints of transformers; faults are raised instead."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def read(source: Source, text_head: str | None = None) -> tuple[nn.Module, dict[Modality, Tower]]:
    """Reads a checkpoint's model, in float32 on the CPU, and its towers.

    The class is determined from the small files; weights are downloaded only if it is supported.

    Raises:
        UnknownModel: If the source does not exist.
        CheckpointError: If the class is not supported or tensors do not fit.
        DownloadError: If a file cannot be downloaded.
        InvalidInput: If the model has no such `text_head`.
    """
    config, cls = describe(source.name, source.config(), source.settings(), source.with_code)
    model_towers = towers(cls, text_head, config)
    if not model_towers:
        raise CheckpointError(
            f"{source.name!r} is a {cls.__name__}, which does not embed text and another modality into one space; "
            + USES.get(getattr(cls, "main_input_name", ""), "it cannot be used for search")
        )
    return _load_weights(source, cls, config, model_towers.values()), model_towers


def describe(name: str, config_json: Mapping[str, Any], folder: Path, with_code: bool) -> tuple[Any, type]:
    """The configuration, and the class to build.

    The class is the one that config.json names if that has towers, else the base model of its type: a detector, for
    example, contains a CLIP.
    """
    import transformers

    model_type = config_json["model_type"]
    if model_type not in transformers.CONFIG_MAPPING and not with_code:
        has_code = "auto_map" in config_json
        raise CheckpointError(
            f"{name!r} is of type {model_type!r}, which transformers {transformers.__version__} does not support; "
            + (
                "its repository contains code: read it and, if you trust it, pass trust_remote_code=True"
                if has_code
                else "upgrade transformers"
            )
        )
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=with_code
            )
            base_class = _base_class(config, folder, with_code)
    except Exception as error:  # transformers raises many types for malformed files
        raise CheckpointError(
            f"{name!r}: transformers cannot read its {CONFIG} ({short(error)}); fetch or copy it again, or upgrade "
            "transformers"
        ) from error
    architectures = getattr(config, "architectures", None) or []
    classes = [getattr(transformers, class_name, None) for class_name in architectures]
    cls = classes[0] if classes and isinstance(classes[0], type) else base_class
    return config, base_class if not towers(cls) and towers(base_class) else cls


def _base_class(config: Any, folder: Path, with_code: bool) -> type:
    import transformers
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    reference = (getattr(config, "auto_map", None) or {}).get("AutoModel")
    if with_code and reference is not None:
        return get_class_from_dynamic_module(reference, folder, local_files_only=True)
    classes = transformers.MODEL_MAPPING[type(config)]
    return classes[0] if isinstance(classes, tuple) else classes


def _load_weights(source: Source, cls: Any, config: Any, model_towers: Iterable[Tower]) -> nn.Module:
    import torch

    tensors = source.tensors()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    constants = {name for name, tensor in tensors.items() if _is_constant(name, tensor)}
    options: dict[str, Any] = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    if cls.__name__ in UNTIED:
        config.tie_word_embeddings = False
    with quiet():
        try:
            model, info = cls.from_pretrained(None, state_dict=tensors, **options)
        except ImportError as error:
            raise MissingExtra(f"{source.name!r} ({short(error)})", package="timm", extra="hf") from error
        except RuntimeError as error:
            if "ignore_mismatched_sizes" not in str(error):
                raise CheckpointError(f"{source.name!r} cannot be loaded: {short(error)}") from error
            # Loaded again only to learn which tensors do not fit
            model, info = cls.from_pretrained(
                None, state_dict=tensors, ignore_mismatched_sizes=True, **options
            )
            raise _misfit(source.name, cls, info, shapes, model.state_dict()) from error
    if cls.__name__ not in (config.architectures or [cls.__name__]):
        info["unexpected_keys"] = set()  # the model is a part of the checkpoint
    needed = set(SCALES).union(*(extract(model, tower.parts).state_dict() for tower in model_towers))
    info["unexpected_keys"] = info["unexpected_keys"] - constants
    learned = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    info["missing_keys"] = info["missing_keys"] & needed & learned  # what no tower needs is removed later
    if info["missing_keys"] or info["unexpected_keys"]:
        raise _misfit(source.name, cls, info, shapes, model.state_dict())
    for (
        parameter
    ) in model.parameters():  # memory-mapped tensors may be unaligned, which changes the last bits
        parameter.data = parameter.data.clone()
    return model.eval().requires_grad_(False)


def _is_constant(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is a computable constant that older versions saved: position ids, rotary frequencies."""
    return not tensor.is_floating_point() or name.endswith("inv_freq")


def _misfit(
    name: str,
    cls: type,
    info: Mapping[str, Any],
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, Tensor],
) -> CheckpointError:
    def listed(names: set[str], shapes: Mapping[str, Any]) -> str:
        shown = [f"{name} {tuple(shapes[name])}" if name in shapes else name for name in sorted(names)]
        return ", ".join(shown[:MAX_NAMED]) + (", …" if len(shown) > MAX_NAMED else "")

    faults = []
    if missing := info["missing_keys"]:
        shapes = {key: tensor.shape for key, tensor in expected.items()}
        faults.append(f"{len(missing)} missing: {listed(missing, shapes)}")
    if wrong := sorted(info["mismatched_keys"]):
        shown = [f"{key} is {tuple(got)}, expected {tuple(due)}" for key, got, due in wrong[:MAX_NAMED]]
        faults.append(
            f"{len(wrong)} of another shape: {', '.join(shown)}{', …' if len(wrong) > MAX_NAMED else ''}"
        )
    if unknown := info["unexpected_keys"]:
        faults.append(f"{len(unknown)} unknown: {listed(unknown, found)}")
    return CheckpointError(
        f"the tensors of {name!r} do not fit a {cls.__name__} as its {CONFIG} describes it ({'; '.join(faults)}); the "
        "checkpoint is incomplete or of another model"
    )


def rebuild(class_name: str, config: bytes, tower: Tower, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Rebuilds the part of a model that a tower needs from saved tensors. Raises CheckpointError if they do not fit."""
    import torch
    import transformers
    from transformers.initialization import no_init_weights

    cls: Any = getattr(transformers, class_name)
    with unpacked({CONFIG: config}) as folder, quiet():
        parsed = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        _set_float32(parsed)
        with no_init_weights():  # every parameter is replaced below
            model = extract(cls(parsed).float(), tower.parts)
    expected = model.state_dict()
    wrong = [name for name in expected if name not in tensors or tensors[name].shape != expected[name].shape]
    if wrong or len(tensors) != len(expected):
        raise CheckpointError(
            f"the saved tensors do not fit a {class_name} (of {len(expected)} it needs, {len(wrong)} are missing or of "
            f"another shape{': ' + wrong[0] if wrong else ''}; {len(tensors)} were saved); save the space again"
        )
    model.load_state_dict(tensors)
    torch.nn.Module.eval(model)
    return model.requires_grad_(False)


def class_named(class_name: str) -> type:
    """A model class of transformers by name. Raises CheckpointError if this version does not have it."""
    import transformers

    cls = getattr(transformers, class_name, None)
    if not isinstance(cls, type):
        raise CheckpointError(
            f"this space needs {class_name}, which transformers {transformers.__version__} does not have: upgrade it; "
            "if its code came with a repository, load that again as 'hf/…' with trust_remote_code=True"
        )
    return cls


@contextlib.contextmanager
def unpacked(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A temporary folder with these files."""
    with tempfile.TemporaryDirectory(prefix="multimodal-hf-") as folder:
        for name, content in files.items():
            if Path(name).name != name:
                raise InvalidInput(f"a file of a checkpoint must have a plain name, got {name!r}")
            (Path(folder) / name).write_bytes(content)
        yield Path(folder)


def _set_float32(config: Any) -> None:
    """Sets float32 for a model and its sub-models, which otherwise use the dtype of their part of config.json."""
    import torch

    config.dtype = torch.float32
    for key in getattr(config, "sub_configs", None) or {}:
        if (sub_config := getattr(config, key, None)) is not None:
            _set_float32(sub_config)


def short(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
