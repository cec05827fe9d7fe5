"""Loads a SentenceTransformer from a local folder and inspects it.

Upstream initialises missing weights at random and logs a warning. Here they are filled with NaN and one vector of each
modality is computed: a missing weight that affects a vector is an error that names it; one that does not (BERT's
pooler, under mean pooling) is accepted.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import logging
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError, MissingExtra
from multimodal.core.modality import Modality
from multimodal.encoders.st.checkpoint import MODULES, files_in
from multimodal.encoders.st.preprocessing import sample
from multimodal.encoders.st.prompts import PromptRole

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

UPSTREAM = "sentence_transformers."  # package of the allowed modules; others would be code from a repository
_LOAD_LOCK = threading.Lock()
LOAD_ERRORS = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    pickle.UnpicklingError,
)
ADAPTER = "adapter_config.json"
MAX_NAMED = 3  # tensors listed in an error


def require(feature: str) -> None:
    """Raises MissingExtra if sentence-transformers is not installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingExtra(feature, package="sentence-transformers", extra="st")


def build(
    folder: Path, name: str, runtime: Runtime, prompts: Mapping[str, str] | None = None
) -> tuple[SentenceTransformer, list[LoadReport]]:
    """Loads the model in a folder.

    Args:
        folder: The folder.
        name: Name of the model in error messages.
        runtime: Its device and precision.
        prompts: Prompts by name, which extend or replace the model's.

    Returns:
        The model without gradients, and the load reports for `check_weights`.

    Raises:
        CheckpointError: If it cannot be loaded or needs code from its repository.
    """
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    _refuse_code(folder, name)
    _refuse_adapter(folder, name)
    with _LOAD_LOCK, _quiet(), _recorded() as reports:
        try:
            model = SentenceTransformer(
                str(folder),
                device="cpu",
                prompts=dict(prompts or {}),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": runtime.cast},
            )
        except (*LOAD_ERRORS, SafetensorError) as error:
            files_in(folder).tensors()  # raises a clearer error if the weights are damaged
            raise CheckpointError(f"{name!r} cannot be loaded: {_first_lines(error)}") from error
    _refuse_guessed_pooling(model, folder, name)
    model.to(device=runtime.torch_device, dtype=runtime.cast)
    model.eval().requires_grad_(False)
    return model, reports


def modalities(model: SentenceTransformer, name: str) -> list[Modality]:
    """The modalities it supports on their own. Raises CheckpointError if it supports combinations only."""
    supported = [modality for modality in Modality if model.supports(str(modality))]
    if not supported:
        inputs = ", ".join(
            "+".join(modality) if isinstance(modality, tuple) else str(modality)
            for modality in model.modalities
        )
        raise CheckpointError(
            f"{name!r} supports {inputs or 'nothing'}, but not text, image, audio or video on its own"
        )
    return supported


def dim(
    model: SentenceTransformer, modality: Modality, role: PromptRole, name: str, dtype: torch.dtype
) -> int:
    """Dimensions of its vectors before truncation."""
    import torch

    stated = model.get_embedding_dimension() if model.truncate_dim is None else None
    if stated is not None:
        return int(stated)
    features = model.preprocess([sample(model, modality, name)], **role.routing)
    with torch.inference_mode():
        return vectors(model, features, role, dtype).shape[1]


def vectors(
    model: SentenceTransformer, features: Mapping[str, Any], role: PromptRole, dtype: torch.dtype
) -> torch.Tensor:
    """Features of `model.preprocess` -> (n, dim) float32 on the model's device. `dtype` is that of its inputs."""
    import torch

    def placed(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(model.device, dtype if value.is_floating_point() else value.dtype)

    out = model({key: placed(value) for key, value in features.items()}, **role.routing)
    return out["sentence_embedding"].float()


def check_weights(
    reports: list[LoadReport],
    model: SentenceTransformer,
    name: str,
    supported: Iterable[Modality],
    roles: Iterable[PromptRole],
    dtype: torch.dtype,
) -> None:
    """Raises CheckpointError naming weights that have the wrong shape, or are missing and affect a vector."""
    import torch

    wrong = [fault for report in reports for fault in report.misshaped]
    if wrong:
        raise CheckpointError(f"the weights of {name!r} do not fit its configuration: {_listed(wrong)}")
    missing = [f"{key} is missing" for report in reports for key in report.missing]
    if not missing:
        return
    for report in reports:
        tensors = {**dict(report.model.named_parameters()), **dict(report.model.named_buffers())}
        for key in report.missing:
            if key in tensors and tensors[key].is_floating_point():
                tensors[key].data.fill_(float("nan"))
    for modality, role in itertools.product(supported, roles):
        features = model.preprocess([sample(model, modality, name)], **role.routing)
        with torch.inference_mode():
            probe = vectors(model, features, role, dtype)
        if not probe.isfinite().all():
            raise CheckpointError(f"the weights of {name!r} are incomplete: {_listed(missing)}")


def ends_in_unit_vectors(model: SentenceTransformer) -> bool:
    """Whether its last module normalises vectors."""
    return type(list(model)[-1]).__name__ == "Normalize"


@dataclass(frozen=True, eq=False)
class SharedModel:
    """A loaded model that encoders share. `lock` guards its tokenizer, which stores padding as state."""

    model: SentenceTransformer
    runtime: Runtime
    name: str
    lock: Any = field(default_factory=threading.Lock)


@dataclass
class LoadReport:
    """A model of transformers, and the weights its checkpoint lacked or had in another shape."""

    model: Any
    missing: list[str]
    misshaped: list[str]


@contextlib.contextmanager
def _recorded() -> Iterator[list[LoadReport]]:
    """Records the faults of checkpoints that transformers loads in this context, which upstream only logs.

    `output_loading_info` and `ignore_mismatched_sizes` are public arguments of from_pretrained, but
    sentence-transformers, which calls it, does not expose them.
    """
    from transformers import PreTrainedModel

    reports: list[LoadReport] = []
    original = PreTrainedModel.__dict__["from_pretrained"]
    load: Callable[..., Any] = original.__func__

    def from_pretrained(cls: type, *arguments: Any, **options: Any) -> Any:
        if options.get("output_loading_info"):
            return load(cls, *arguments, **options)
        options["ignore_mismatched_sizes"] = True
        model, info = load(cls, *arguments, output_loading_info=True, **options)
        wrong = [
            f"{key} has shape {tuple(got)}, expected {tuple(expected)}"
            for key, got, expected in sorted(info["mismatched_keys"])
        ]
        reports.append(LoadReport(model, sorted(info["missing_keys"]), wrong))
        return model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)
    try:
        yield reports
    finally:
        PreTrainedModel.from_pretrained = original


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences upstream's progress bars and logs; faults are raised instead."""
    from transformers.utils import logging as transformers_logging

    own = logging.getLogger("sentence_transformers")
    levels, bars = (
        (transformers_logging.get_verbosity(), own.level),
        transformers_logging.is_progress_bar_enabled(),
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(levels[0])
        own.setLevel(levels[1])
        if bars:
            transformers_logging.enable_progress_bar()


def _refuse_code(folder: Path, name: str) -> None:
    path = folder / MODULES
    if not path.is_file():
        return
    try:
        types = [str(module["type"]) for module in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a list of modules ({error!r}); download or copy it again"
        ) from error
    foreign = [class_name for class_name in types if not class_name.startswith(UPSTREAM)]
    if foreign:
        raise CheckpointError(
            f"{name!r} needs {foreign[0]}, code that is not part of sentence_transformers; such code is never run. Use "
            "a model with modules of sentence_transformers only"
        )


def _refuse_adapter(folder: Path, name: str) -> None:
    adapter = next(iter(sorted(folder.rglob(ADAPTER))), None)
    if adapter is not None:
        raise CheckpointError(
            f"{name!r} is an adapter ({adapter.relative_to(folder)}), not a complete model; merge it into its base "
            "model (peft: merge_and_unload()), save that with SentenceTransformer.save() and load the result"
        )


def _refuse_guessed_pooling(model: SentenceTransformer, folder: Path, name: str) -> None:
    """Without modules.json upstream uses mean pooling, whatever the model was trained with."""
    if not (folder / MODULES).is_file() and type(list(model)[-1]).__name__ == "Pooling":
        raise CheckpointError(
            f"{name!r} has no {MODULES}, so its pooling is unknown and the default may be wrong; if it is mean "
            f"pooling, write one with SentenceTransformer({str(folder)!r}).save(…) and load that"
        )


def _listed(faults: list[str]) -> str:
    return "; ".join(faults[:MAX_NAMED]) + (f" … ({len(faults)} in all)" if len(faults) > MAX_NAMED else "")


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or repr(error)
