"""A SentenceTransformer, loaded from a folder and nowhere else, and what it says about itself.

Upstream fills weights that a checkpoint lacks with random numbers and says so in a log. Here they are filled with NaN,
and the model is asked for one vector of each modality: a lacking weight that reaches a vector shows, and is named; one
that no vector needs (BERT's pooler, under a mean) does no harm.
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
from multimodal.encoders.st.checkpoint import MODULES, parts_of
from multimodal.encoders.st.preprocessing import sample
from multimodal.encoders.st.prompts import Role

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

OURS = "sentence_transformers."  # modules of a model are classes of this package; others would be the model's own code
LOADING = threading.Lock()
TROUBLE = (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, pickle.UnpicklingError)
ADAPTER = "adapter_config.json"
SHOWN = 3  # of the tensors at fault


def require(what: str) -> None:
    """Raises MissingExtra if sentence-transformers is not installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingExtra(what, package="sentence-transformers", extra="st")


def build(
    folder: Path, name: str, runtime: Runtime, prompts: Mapping[str, str] | None = None
) -> tuple[SentenceTransformer, list[Loaded]]:
    """The model in a folder, in `runtime`'s precision and on its device, without gradients; and what `check` looks at.

    name: for messages. prompts: in place of, or beside, the model's own.
    Raises CheckpointError if it cannot be loaded, or needs code of its own.
    """
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    _refuse_code(folder, name)
    _refuse_adapter(folder, name)
    with LOADING, _quiet(), _watched() as loaded:
        try:
            model = SentenceTransformer(
                str(folder),
                device="cpu",
                prompts=dict(prompts or {}),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": runtime.cast},
            )
        except (*TROUBLE, SafetensorError) as error:
            parts_of(folder).tensors()  # which says it better, if it is the weights
            raise CheckpointError(f"{name!r} cannot be loaded: {_first_lines(error)}") from error
    _refuse_guessed_pooling(model, folder, name)
    model.to(device=runtime.torch_device, dtype=runtime.cast)
    model.eval().requires_grad_(False)
    return model, loaded


def modalities(model: SentenceTransformer, name: str) -> list[Modality]:
    """What it takes, one at a time. Raises CheckpointError if it takes only pairs of them."""
    found = [one for one in Modality if model.supports(str(one))]
    if not found:
        takes = ", ".join("+".join(one) if isinstance(one, tuple) else str(one) for one in model.modalities)
        raise CheckpointError(
            f"{name!r} takes {takes or 'nothing'}, and no text, picture, sound or video by itself"
        )
    return found


def dim(model: SentenceTransformer, modality: Modality, role: Role, name: str, dtype: torch.dtype) -> int:
    """How long its vectors are, whole."""
    import torch

    said = model.get_embedding_dimension() if model.truncate_dim is None else None
    if said is not None:
        return int(said)
    features = model.preprocess([sample(model, modality, name)], **role.routing)
    with torch.inference_mode():
        return vectors(model, features, role, dtype).shape[1]


def vectors(
    model: SentenceTransformer, features: Mapping[str, Any], role: Role, dtype: torch.dtype
) -> torch.Tensor:
    """What `model.preprocess` gave -> (n, dim) float32, on the model's device. dtype: of what the model takes."""
    import torch

    def placed(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(model.device, dtype if value.is_floating_point() else value.dtype)

    out = model({key: placed(value) for key, value in features.items()}, **role.routing)
    return out["sentence_embedding"].float()


def check(
    loaded: list[Loaded],
    model: SentenceTransformer,
    name: str,
    takes: Iterable[Modality],
    roles: Iterable[Role],
    dtype: torch.dtype,
) -> None:
    """Raises CheckpointError naming the tensors if weights have the wrong shape, or are missing and reach a vector."""
    import torch

    wrong = [fault for one in loaded for fault in one.misshaped]
    if wrong:
        raise CheckpointError(f"the weights of {name!r} do not fit its configuration: {_shown(wrong)}")
    missing = [f"{key} is missing" for one in loaded for key in one.missing]
    if not missing:
        return
    for one in loaded:
        tensors = {**dict(one.model.named_parameters()), **dict(one.model.named_buffers())}
        for key in one.missing:
            if key in tensors and tensors[key].is_floating_point():
                tensors[key].data.fill_(float("nan"))
    for modality, role in itertools.product(takes, roles):
        features = model.preprocess([sample(model, modality, name)], **role.routing)
        with torch.inference_mode():
            probe = vectors(model, features, role, dtype)
        if not probe.isfinite().all():
            raise CheckpointError(f"the weights of {name!r} are incomplete: {_shown(missing)}")


def ends_in_unit_vectors(model: SentenceTransformer) -> bool:
    """Whether its last module scales vectors to length one."""
    return type(list(model)[-1]).__name__ == "Normalize"


@dataclass(frozen=True, eq=False)
class Running:
    """A loaded model and how it runs. lock: for its tokenizer, which keeps its padding as state."""

    model: SentenceTransformer
    runtime: Runtime
    name: str
    lock: Any = field(default_factory=threading.Lock)


@dataclass
class Loaded:
    """A transformers model, and what its checkpoint lacked or had in another shape."""

    model: Any
    missing: list[str]
    misshaped: list[str]


@contextlib.contextmanager
def _watched() -> Iterator[list[Loaded]]:
    """Collects what transformers found at fault with the checkpoints loaded inside, which upstream only logs.

    `output_loading_info` and `ignore_mismatched_sizes` are public arguments of from_pretrained, but
    sentence-transformers, which makes the call, passes on neither the first nor what it returns.
    """
    from transformers import PreTrainedModel

    found: list[Loaded] = []
    original = PreTrainedModel.__dict__["from_pretrained"]
    load: Callable[..., Any] = original.__func__

    def from_pretrained(cls: type, *arguments: Any, **options: Any) -> Any:
        if options.get("output_loading_info"):
            return load(cls, *arguments, **options)
        options["ignore_mismatched_sizes"] = True
        model, info = load(cls, *arguments, output_loading_info=True, **options)
        wrong = [
            f"{key} has shape {tuple(has)}, expected {tuple(due)}"
            for key, has, due in sorted(info["mismatched_keys"])
        ]
        found.append(Loaded(model, sorted(info["missing_keys"]), wrong))
        return model

    PreTrainedModel.from_pretrained = classmethod(from_pretrained)
    try:
        yield found
    finally:
        PreTrainedModel.from_pretrained = original


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no logs of upstream's: what matters of them is raised."""
    from transformers.utils import logging as theirs

    own = logging.getLogger("sentence_transformers")
    levels, bars = (theirs.get_verbosity(), own.level), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        theirs.set_verbosity(levels[0])
        own.setLevel(levels[1])
        if bars:
            theirs.enable_progress_bar()


def _refuse_code(folder: Path, name: str) -> None:
    path = folder / MODULES
    if not path.is_file():
        return
    try:
        types = [str(one["type"]) for one in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is no list of modules ({error!r}); fetch or copy it again") from error
    foreign = [one for one in types if not one.startswith(OURS)]
    if foreign:
        raise CheckpointError(
            f"{name!r} needs {foreign[0]}, code that comes with the model or from elsewhere; it is never run. Only "
            "modules of sentence_transformers itself can be used"
        )


def _refuse_adapter(folder: Path, name: str) -> None:
    found = next(iter(sorted(folder.rglob(ADAPTER))), None)
    if found is not None:
        raise CheckpointError(
            f"{name!r} is an adapter ({found.relative_to(folder)}), not a whole model; merge it into the model it was "
            "made for once (peft: merge_and_unload()), and load what SentenceTransformer.save() writes then"
        )


def _refuse_guessed_pooling(model: SentenceTransformer, folder: Path, name: str) -> None:
    """Without modules.json upstream takes the mean of all tokens, whatever the model was trained with."""
    if not (folder / MODULES).is_file() and type(list(model)[-1]).__name__ == "Pooling":
        raise CheckpointError(
            f"{name!r} has no {MODULES}, so it does not say how its tokens become one vector, and a guess may be far "
            f"off; if it is their mean, write one with SentenceTransformer({str(folder)!r}).save(…) and load that"
        )


def _shown(faults: list[str]) -> str:
    return "; ".join(faults[:SHOWN]) + (f" … ({len(faults)} in all)" if len(faults) > SHOWN else "")


def _first_lines(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or repr(error)
