"""A model of transformers out of a checkpoint, or out of what a saved space kept of one. Silent, and strict about fit.

transformers initialises at random whatever a checkpoint lacks and says so in a log. Here that is an error.
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
from multimodal.encoders.hf.towers import SCALES, Tower, cut

if TYPE_CHECKING:
    from torch import Tensor, nn

NAMED = 3  # tensors of each kind that an error names
USES = {
    "input_ids": "it reads texts alone: for their vectors try 'st/…'",
    "pixel_values": "it sees, but has learned no texts to compare with: it can caption or classify pictures",
    "input_features": "it hears, but has learned no texts to compare with: it can transcribe or classify sounds",
    "input_values": "it hears, but has learned no texts to compare with: it can transcribe or classify sounds",
}


def require_transformers() -> None:
    """Raises MissingExtra unless transformers is installed."""
    if importlib.util.find_spec("transformers") is None:
        raise MissingExtra(
            "loading a checkpoint of transformers ('hf/…')", package="transformers", extra="hf"
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No progress bar for reading a local file, and no advice: what matters is raised. transformers also prints remarks
    on its own documentation."""
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
    """The model of a checkpoint, in float32 on the CPU, and its towers.

    What it is, is told from its small files; the weights are fetched only if it can be used.
    Raises UnknownModel, CheckpointError, DownloadError, InvalidInput for a text_head it does not have.
    """
    config, cls = describe(source.name, source.config(), source.settings(), source.with_code)
    found = towers(cls, text_head, config)
    if not found:
        raise CheckpointError(
            f"{source.name!r} is a {cls.__name__}, which gives no vectors of texts and of something else in one space; "
            + USES.get(getattr(cls, "main_input_name", ""), "it cannot be searched with")
        )
    return _filled(source, cls, config, found.values()), found


def describe(name: str, written: Mapping[str, Any], folder: Path, with_code: bool) -> tuple[Any, type]:
    """config.json as transformers understands it, and the class to build: the one it names if that has towers, else
    the bare model of its type (a detector, say, holds a CLIP)."""
    import transformers

    kind = written["model_type"]
    if kind not in transformers.CONFIG_MAPPING and not with_code:
        own = "auto_map" in written
        raise CheckpointError(
            f"{name!r} is of type {kind!r}, which transformers {transformers.__version__} does not know; "
            + (
                "its repository brings code of its own: read that and, if you trust it, give trust_remote_code=True"
                if own
                else "upgrade transformers"
            )
        )
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=with_code
            )
            bare = _bare_class(config, folder, with_code)
    except Exception as error:  # whatever a stranger's file provokes in transformers, told as ours
        raise CheckpointError(
            f"{name!r}: transformers cannot read its {CONFIG} ({short(error)}); fetch or copy it again, or upgrade "
            "transformers"
        ) from error
    named = [getattr(transformers, one, None) for one in getattr(config, "architectures", None) or []]
    cls = named[0] if named and isinstance(named[0], type) else bare
    return config, bare if not towers(cls) and towers(bare) else cls


def _bare_class(config: Any, folder: Path, with_code: bool) -> type:
    import transformers
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    own = (getattr(config, "auto_map", None) or {}).get("AutoModel")
    if with_code and own is not None:
        return get_class_from_dynamic_module(own, folder, local_files_only=True)
    found = transformers.MODEL_MAPPING[type(config)]
    return found[0] if isinstance(found, tuple) else found


def _filled(source: Source, cls: Any, config: Any, found: Iterable[Tower]) -> nn.Module:
    import torch

    tensors = source.tensors()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    tables = {name for name, tensor in tensors.items() if _is_table(name, tensor)}
    options: dict[str, Any] = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    if cls.__name__ in UNTIED:
        config.tie_word_embeddings = False
    with quiet():
        try:
            model, told = cls.from_pretrained(None, state_dict=tensors, **options)
        except ImportError as error:
            raise MissingExtra(f"{source.name!r} ({short(error)})", package="timm", extra="hf") from error
        except RuntimeError as error:
            if "ignore_mismatched_sizes" not in str(error):
                raise CheckpointError(f"{source.name!r} cannot be loaded: {short(error)}") from error
            # Asked once more only to learn which; what comes of it is thrown away
            model, told = cls.from_pretrained(
                None, state_dict=tensors, ignore_mismatched_sizes=True, **options
            )
            raise _misfit(source.name, cls, told, shapes, model.state_dict()) from error
    if cls.__name__ not in (config.architectures or [cls.__name__]):
        told["unexpected_keys"] = set()  # a part of what the checkpoint holds: the rest is not expected here
    needed = set(SCALES).union(*(cut(model, tower.parts).state_dict() for tower in found))
    told["unexpected_keys"] = told["unexpected_keys"] - tables
    learned = {name for name, one in model.state_dict().items() if one.is_floating_point()}
    told["missing_keys"] = told["missing_keys"] & needed & learned  # what nobody asks is cut away again
    if told["missing_keys"] or told["unexpected_keys"]:
        raise _misfit(source.name, cls, told, shapes, model.state_dict())
    for (
        one
    ) in model.parameters():  # out of the file that is mapped, where how it lies would change the last bit
        one.data = one.data.clone()
    return model.eval().requires_grad_(False)


def _is_table(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is no weight but what older versions kept of what can be computed: positions, frequencies."""
    return not tensor.is_floating_point() or name.endswith("inv_freq")


def _misfit(
    name: str,
    cls: type,
    told: Mapping[str, Any],
    held: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, Tensor],
) -> CheckpointError:
    def some(names: set[str], shape: Mapping[str, Any]) -> str:
        shown = [f"{one} {tuple(shape[one])}" if one in shape else one for one in sorted(names)]
        return ", ".join(shown[:NAMED]) + (", …" if len(shown) > NAMED else "")

    parts = []
    if missing := told["missing_keys"]:
        parts.append(f"{len(missing)} missing: {some(missing, {key: t.shape for key, t in wanted.items()})}")
    if wrong := sorted(told["mismatched_keys"]):
        shown = [f"{one} is {tuple(has)}, expected {tuple(want)}" for one, has, want in wrong[:NAMED]]
        parts.append(
            f"{len(wrong)} of another shape: {', '.join(shown)}{', …' if len(wrong) > NAMED else ''}"
        )
    if unknown := told["unexpected_keys"]:
        parts.append(f"{len(unknown)} unknown: {some(unknown, held)}")
    return CheckpointError(
        f"the tensors of {name!r} do not fit a {cls.__name__} as its {CONFIG} describes it ({'; '.join(parts)}); the "
        "checkpoint is incomplete or of another model"
    )


def rebuild(class_name: str, config: bytes, tower: Tower, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The part of a model that a tower takes, from what was saved of it. Raises CheckpointError if they do not fit."""
    import torch
    import transformers
    from transformers.initialization import no_init_weights

    cls: Any = getattr(transformers, class_name)
    with unpacked({CONFIG: config}) as folder, quiet():
        described = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        _in_float32(described)
        with no_init_weights():  # parameters are left as they are in memory: the lines below fill every one
            model = cut(cls(described).float(), tower.parts)
    wanted = model.state_dict()
    wrong = [name for name in wanted if name not in tensors or tensors[name].shape != wanted[name].shape]
    if wrong or len(tensors) != len(wanted):
        raise CheckpointError(
            f"the saved tensors do not fit a {class_name} (of {len(wanted)} it needs, {len(wrong)} are missing or of "
            f"another shape{': ' + wrong[0] if wrong else ''}; {len(tensors)} were saved); save the space again"
        )
    model.load_state_dict(tensors)
    torch.nn.Module.eval(model)
    return model.requires_grad_(False)


def class_named(class_name: str) -> type:
    """A class of transformers. Raises CheckpointError if this version has none of that name."""
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
    """A folder with these files in it, for as long as it takes transformers to read them."""
    with tempfile.TemporaryDirectory(prefix="multimodal-hf-") as folder:
        for name, content in files.items():
            if Path(name).name != name:
                raise InvalidInput(f"a file of a checkpoint must have a plain name, got {name!r}")
            (Path(folder) / name).write_bytes(content)
        yield Path(folder)


def _in_float32(config: Any) -> None:
    """Models inside a model are made in the precision their own part of config.json names; all are wanted exact."""
    import torch

    config.dtype = torch.float32
    for key in getattr(config, "sub_configs", None) or {}:
        if (below := getattr(config, key, None)) is not None:
            _in_float32(below)


def short(error: BaseException) -> str:
    """The first line of an error's text, or its kind if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
