"""What a class of transformers offers: which modalities it turns into vectors of one space, by which of its parts, and
the scale it was trained with.

Nothing here is a list of models. A class that has `get_text_features` and one of `get_image_features`,
`get_audio_features` and `get_video_features`, and was trained to compare them, is a dual encoder; which modules a
method needs is read in its code. The few that say it in other words are in `_hf_special`.
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
from multimodal.core.space import Head, Pair

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
    """The way from the inputs of one modality to vectors.

    parts: dotted names of the modules and parameters it takes; none means all. takes: the inputs it knows by name.
    run: (model, inputs) -> (n, dim), not normalised. joint: every modality goes through one processor and one model.
    """

    parts: tuple[str, ...]
    takes: frozenset[str]
    run: Callable[[Any, Mapping[str, Tensor]], Tensor]
    joint: bool = False

    def __call__(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        return self.run(model, {name: tensor for name, tensor in inputs.items() if name in self.takes})


def by_methods(cls: type) -> dict[Modality, Tower]:
    """The towers of a class that has a method for each; empty unless text is among two or more that share a space."""
    found = {modality: _tower(cls, name) for modality, name in METHODS.items() if hasattr(cls, name)}
    return found if Modality.TEXT in found and len(found) > 1 and is_contrastive(cls) else {}


def is_contrastive(cls: type) -> bool:
    """Whether a class was trained to compare: it has a scale for cosines, or its output has a `text_embeds`."""
    if set(SCALES) & _names_in(inspect.getattr_static(cls, "__init__")):
        return True
    returned = inspect.signature(cls.forward).return_annotation  # type: ignore[attr-defined]
    outputs = [one for one in (*typing.get_args(returned), returned) if dataclasses.is_dataclass(one)]
    return any(field.name == "text_embeds" for one in outputs for field in dataclasses.fields(one))


def _tower(cls: type, method: str) -> Tower:
    def run(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        return pooled(getattr(model, method)(**inputs))

    parameters = inspect.signature(getattr(cls, method)).parameters
    return Tower(tuple(sorted(_used(cls, method))), frozenset(parameters) - {"self", "kwargs"}, run)


def pooled(output: Any) -> Tensor:
    """The embedding in what a `get_…_features` returns: since transformers 5 an output whose `pooler_output` it is.

    FLAVA projects every token; its embedding is the first one's, as its contrastive loss takes it.
    """
    found: Tensor = getattr(output, "pooler_output", output)
    return found[:, 0] if found.dim() == 3 else found


def _used(cls: type, method: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Names a method's code uses, with those of the methods of the same class that it calls."""
    names = _names_in(getattr(cls, method))
    for name in names - seen:
        if inspect.isfunction(inspect.getattr_static(cls, name, None)):
            names = names | _used(cls, name, seen | names)
    return names


def _names_in(function: Any) -> set[str]:
    return set(inspect.unwrap(function).__code__.co_names)


def cut(model: nn.Module, parts: Sequence[str]) -> nn.Module:
    """The model without the modules, parameters and buffers that are no part of a tower. Tensors are shared.

    Names in `parts` that the model does not have are passed over; if it has none of them, it stays whole.
    """
    owned = (*model._modules, *model._parameters, *model._buffers)
    kept = {part.partition(".")[0] for part in parts} & set(owned)
    if not kept:
        return model
    tower = copy.copy(model)
    for table in ("_modules", "_parameters", "_buffers"):
        members = getattr(model, table)
        tower.__dict__[table] = {name: one for name, one in members.items() if name in kept}
    for name in kept & set(tower._modules):
        below = [part.partition(".")[2] for part in parts if part.partition(".")[0] == name]
        child = tower._modules[name]
        if all(below) and child is not None:
            tower._modules[name] = cut(child, below)
    return tower


def heads(model: Any) -> dict[Pair | None, Head]:
    """How the model turns cosines into probabilities, as its own forward does; empty if it knows no scale for them.

    CLAP learned two scales: sounds asked for texts, and texts asked for sounds.
    """
    if hasattr(model, "logit_scale_a"):
        of_audio, of_text = Head(_exp(model.logit_scale_a)), Head(_exp(model.logit_scale_t))
        return {
            (Modality.AUDIO, Modality.TEXT): of_audio,
            (Modality.TEXT, Modality.AUDIO): of_text,
            None: of_audio,
        }
    if hasattr(model, "temperature"):
        return {None: Head(1 / float(model.temperature))}
    if not hasattr(model, "logit_scale"):
        return {}
    ceiling = getattr(model, "max_log_logit_scale", None)  # AIMv2 keeps its scale within bounds
    scale = model.logit_scale if ceiling is None else model.logit_scale.clamp(0, ceiling)
    if hasattr(model, "logit_bias"):
        return {None: Head(_exp(scale), float(model.logit_bias), "sigmoid")}
    return {None: Head(_exp(scale))}


def _exp(logarithm: Tensor) -> float:
    return float(logarithm.detach().double().exp())
