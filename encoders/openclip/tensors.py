"""The tensors of a checkpoint, by tower, in the one naming that the towers here have.

open_clip's plain CLIP keeps its text tower at the top level ("ln_final.weight"), every other class under "text.";
training saves {"state_dict": …} with "module." before each name; Apple publishes in its own. What fits the
architecture exactly is taken; upstream stretches position embeddings of another size to fit, silently, and here that
is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError
from multimodal.core.hub.api import load_tensors
from multimodal.core.space import LogitScale

if TYPE_CHECKING:
    from torch import Tensor, nn

TEXT = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
APPLE = ("image_encoder.model.patch_embed.", "image_encoder.model.patch_emb.")
# What TorchScript archives keep beside weights, and an index that transformers saved until 4.31
IGNORED = {
    *("input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask"),
    "text.transformer.embeddings.position_ids",
}
SHOWN = 4


@dataclass(frozen=True)
class Parts:
    """A checkpoint taken apart. image, text: a tower's tensors, by their names within it."""

    image: dict[str, Tensor]
    text: dict[str, Tensor]
    head: LogitScale


def parts(path: Path, title: str, image: Callable[[], nn.Module], *, captions: bool) -> Parts:
    """captions: whether the model has a decoder beside its towers (CoCa), whose weights are left out.

    image: makes the empty image tower, by which Apple's names are translated.
    Raises CheckpointError for a file that is damaged, unsafe or holds something else.
    """
    if path.suffix == ".npz":
        raise CheckpointError(
            f"{path} is in big_vision's format, which is not read here; its models are tags, such as "
            "'openclip/ViT-B-16-SigLIP:webli'"
        )
    found = _renamed(_unwrapped(load_tensors(path), path), image)
    towers: dict[str, dict[str, Tensor]] = {"visual": {}, "text": {}}
    others = {}
    for name in list(found):
        tower, _, inner = name.partition(".")
        if name in IGNORED or (captions and tower == "text_decoder"):
            del found[name]
        elif tower in towers and inner:
            towers[tower][inner] = found.pop(name)
        else:
            others[name] = found.pop(name)
    head = _head(others, title)
    if others:
        raise CheckpointError(_misfit(title, [f"{name}: not a part of the model" for name in others]))
    return Parts(towers["visual"], towers["text"], head)


def check_fit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], prefix: str, title: str) -> None:
    """Raises CheckpointError that names the tensors which are missing, of another shape, or too many."""
    faults = []
    for name, tensor in expected.items():
        if name not in found:
            faults.append(f"{prefix}{name}: missing, expected {tuple(tensor.shape)}")
        elif found[name].shape != tensor.shape:
            faults.append(f"{prefix}{name}: expected {tuple(tensor.shape)}, got {tuple(found[name].shape)}")
    faults += [f"{prefix}{name}: not a part of the model" for name in found if name not in expected]
    if faults:
        raise CheckpointError(_misfit(title, faults))


def _misfit(title: str, faults: list[str]) -> str:
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return (
        f"the weights of {title} do not fit its architecture: {'; '.join(faults[:SHOWN])}{more}. Name the architecture "
        "they were trained in"
    )


def _unwrapped(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    import torch

    inner = content.get("state_dict", content)
    if not isinstance(inner, Mapping) or not inner:
        raise CheckpointError(f"{path} holds no tensors by name; save a model's state_dict()")
    strange = [name for name, value in inner.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise CheckpointError(
            f"{path} holds {strange[0]!r}, which is no tensor; save a model's state_dict() and nothing else"
        )
    return {str(name).removeprefix("module."): value for name, value in inner.items()}


def _renamed(found: dict[str, Tensor], image: Callable[[], nn.Module]) -> dict[str, Tensor]:
    if any(name.startswith(APPLE) for name in found):
        from open_clip.convert import convert_state_dict

        found = dict(convert_state_dict(SimpleNamespace(visual=image()), found))
    return {f"text.{name}" if name.split(".")[0] in TEXT else name: one for name, one in found.items()}


def _head(others: dict[str, Tensor], title: str) -> LogitScale:
    """As it was trained: with a bias, each pair by a sigmoid (SigLIP); without, a softmax over candidates (CLIP)."""
    if "logit_scale" not in others:
        raise CheckpointError(_misfit(title, ["logit_scale: missing"]))
    scale = float(others.pop("logit_scale").float().exp())
    if "logit_bias" not in others:
        return LogitScale(scale)
    return LogitScale(scale, float(others.pop("logit_bias").float()), "sigmoid")
