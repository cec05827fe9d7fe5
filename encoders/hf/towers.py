"""Towers of a class of transformers: the modalities it embeds, the modules each needs, and the trained scale.

There is no list of models. A class with `get_text_features` and one of `get_image_features`, `get_audio_features` and
`get_video_features` that was trained contrastively is a dual encoder; the modules that a method needs are read from
its code. Classes with other methods are in `special`.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Pair

if TYPE_CHECKING:
    from torch import Tensor, nn

METHODS = {
    Modality.TEXT: "get_text_features",
    Modality.IMAGE: "get_image_features",
    Modality.AUDIO: "get_audio_features",
    Modality.VIDEO: "get_video_features",
}
SCALES = ("logit_scale", "logit_scale_a", "logit_scale_t", "logit_bias", "temperature")


@dataclass(frozen=True)
class Tower:
    """How a model embeds one modality.

    Attributes:
        parts: Dotted names of the modules and parameters it needs; empty means all.
        input_names: Names of the model inputs it accepts.
        run: (model, inputs (n, …) by name) -> (n, dim), not normalised.
        joint: Whether all modalities share one processor and one model.
    """

    parts: tuple[str, ...]
    input_names: frozenset[str]
    run: Callable[[Any, Mapping[str, Tensor]], Tensor]
    joint: bool = False

    def __call__(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.run(model, {name: tensor for name, tensor in inputs.items() if name in self.input_names})


def by_methods(cls: type) -> dict[Modality, Tower]:
    """The towers of a class with `get_…_features` methods; empty unless text and another modality share a space."""
    towers = {modality: _tower(cls, name) for modality, name in METHODS.items() if hasattr(cls, name)}
    return towers if Modality.TEXT in towers and len(towers) > 1 and is_contrastive(cls) else {}


def is_contrastive(cls: type) -> bool:
    """Whether a class was trained contrastively: it has a logit scale, or its output has `text_embeds`."""
    if set(SCALES) & _names_in(inspect.getattr_static(cls, "__init__")):
        return True
    returned = inspect.signature(cls.forward).return_annotation  # type: ignore[attr-defined]
    types = (*typing.get_args(returned), returned)
    outputs = [output for output in types if dataclasses.is_dataclass(output)]
    return any(field.name == "text_embeds" for output in outputs for field in dataclasses.fields(output))


def _tower(cls: type, method: str) -> Tower:
    def run(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        return pooled(getattr(model, method)(**inputs))

    parameters = inspect.signature(getattr(cls, method)).parameters
    return Tower(tuple(sorted(_used(cls, method))), frozenset(parameters) - {"self", "kwargs"}, run)


def pooled(output: Any) -> Tensor:
    """The embedding (n, dim) in the output of a `get_…_features`: since transformers 5 its `pooler_output`.

    FLAVA projects every token; its contrastive loss uses the first.
    """
    embedding: Tensor = getattr(output, "pooler_output", output)
    return embedding[:, 0] if embedding.dim() == 3 else embedding


def _used(cls: type, method: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Names used in a method's code, and in the methods of the same class that it calls."""
    names = _names_in(getattr(cls, method))
    for name in names - seen:
        if inspect.isfunction(inspect.getattr_static(cls, name, None)):
            names = names | _used(cls, name, seen | names)
    return names


def _names_in(function: Any) -> set[str]:
    return set(inspect.unwrap(function).__code__.co_names)


def extract(model: nn.Module, parts: Sequence[str]) -> nn.Module:
    """A copy of the model with only the modules, parameters and buffers of a tower. Tensors are shared.

    Names in `parts` that the model does not have are ignored; if it has none of them, the model is returned as it is.
    """
    owned = (*model._modules, *model._parameters, *model._buffers)
    kept = {part.partition(".")[0] for part in parts} & set(owned)
    if not kept:
        return model
    tower = copy.copy(model)
    for table in ("_modules", "_parameters", "_buffers"):
        members = getattr(model, table)
        tower.__dict__[table] = {name: member for name, member in members.items() if name in kept}
    for name in kept & set(tower._modules):
        below = [part.partition(".")[2] for part in parts if part.partition(".")[0] == name]
        child = tower._modules[name]
        if all(below) and child is not None:
            tower._modules[name] = extract(child, below)
    return tower


def heads(model: Any) -> dict[Pair | None, LogitScale]:
    """How the model's own forward turns cosines into probabilities; empty if it has no scale for them.

    CLAP learned two scales, one per direction: audio to text and text to audio.
    """
    if hasattr(model, "logit_scale_a"):
        audio_to_text, text_to_audio = (
            LogitScale(_exp(model.logit_scale_a)),
            LogitScale(_exp(model.logit_scale_t)),
        )
        return {
            (Modality.AUDIO, Modality.TEXT): audio_to_text,
            (Modality.TEXT, Modality.AUDIO): text_to_audio,
            None: audio_to_text,
        }
    if hasattr(model, "temperature"):
        return {None: LogitScale(1 / float(model.temperature))}
    if not hasattr(model, "logit_scale"):
        return {}
    ceiling = getattr(model, "max_log_logit_scale", None)  # AIMv2 clamps its scale
    scale = model.logit_scale if ceiling is None else model.logit_scale.clamp(0, ceiling)
    if hasattr(model, "logit_bias"):
        return {None: LogitScale(_exp(scale), float(model.logit_bias), "sigmoid")}
    return {None: LogitScale(_exp(scale))}


def _exp(logarithm: Tensor) -> float:
    return float(logarithm.detach().double().exp())
