"""Reads the tensors of a checkpoint and splits them by tower, with uniform names.

open_clip's CLIP class keeps its text tower at the top level ("ln_final.weight"), all other classes under "text.";
training saves {"state_dict": …} with the prefix "module."; Apple uses its own names. Tensors must fit the
architecture exactly: upstream silently interpolates position embeddings of another size, here that is an error.
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
# Attributes of TorchScript archives, and a buffer that transformers saved until 4.31
IGNORED = {
    *("input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask"),
    "text.transformer.embeddings.position_ids",
}
MAX_NAMED = 4  # tensors listed in an error


@dataclass(frozen=True)
class TowerTensors:
    """A checkpoint's tensors by their names within each tower, and its head."""

    image: dict[str, Tensor]
    text: dict[str, Tensor]
    head: LogitScale


def split_towers(
    path: Path, title: str, build_image_tower: Callable[[], nn.Module], *, has_decoder: bool
) -> TowerTensors:
    """Reads a weights file.

    Args:
        path: The file.
        title: Name of the checkpoint in error messages.
        build_image_tower: Builds an empty image tower, needed to translate Apple's names.
        has_decoder: Whether the model has a text decoder (CoCa), whose weights are ignored.

    Raises:
        CheckpointError: If the file is damaged, unsafe or has unexpected contents.
    """
    if path.suffix == ".npz":
        raise CheckpointError(
            f"{path} is in big_vision's format, which is not supported; use a pretrained tag, such as "
            "'openclip/ViT-B-16-SigLIP:webli'"
        )
    tensors = _renamed(_unwrapped(load_tensors(path), path), build_image_tower)
    towers: dict[str, dict[str, Tensor]] = {"visual": {}, "text": {}}
    others = {}
    for name in list(tensors):
        tower, _, inner = name.partition(".")
        if name in IGNORED or (has_decoder and tower == "text_decoder"):
            del tensors[name]
        elif tower in towers and inner:
            towers[tower][inner] = tensors.pop(name)
        else:
            others[name] = tensors.pop(name)
    head = _head(others, title)
    if others:
        raise CheckpointError(_misfit(title, [f"{name}: unexpected" for name in others]))
    return TowerTensors(towers["visual"], towers["text"], head)


def check_fit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], prefix: str, title: str) -> None:
    """Raises CheckpointError naming the tensors that are missing, unexpected or of another shape."""
    faults = []
    for name, tensor in expected.items():
        if name not in tensors:
            faults.append(f"{prefix}{name}: missing, expected {tuple(tensor.shape)}")
        elif tensors[name].shape != tensor.shape:
            faults.append(f"{prefix}{name}: expected {tuple(tensor.shape)}, got {tuple(tensors[name].shape)}")
    faults += [f"{prefix}{name}: unexpected" for name in tensors if name not in expected]
    if faults:
        raise CheckpointError(_misfit(title, faults))


def _misfit(title: str, faults: list[str]) -> str:
    more = f"; and {len(faults) - MAX_NAMED} more" if len(faults) > MAX_NAMED else ""
    return (
        f"the weights of {title} do not fit its architecture: {'; '.join(faults[:MAX_NAMED])}{more}. Name the "
        "architecture they were trained with"
    )


def _unwrapped(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    import torch

    inner = content.get("state_dict", content)
    if not isinstance(inner, Mapping) or not inner:
        raise CheckpointError(f"{path} has no named tensors; save a model's state_dict()")
    others = [name for name, value in inner.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise CheckpointError(
            f"{path} contains {others[0]!r}, which is not a tensor; save a model's state_dict() and nothing else"
        )
    return {str(name).removeprefix("module."): value for name, value in inner.items()}


def _renamed(tensors: dict[str, Tensor], build_image_tower: Callable[[], nn.Module]) -> dict[str, Tensor]:
    if any(name.startswith(APPLE) for name in tensors):
        from open_clip.convert import convert_state_dict

        tensors = dict(convert_state_dict(SimpleNamespace(visual=build_image_tower()), tensors))
    return {
        f"text.{name}" if name.split(".")[0] in TEXT else name: tensor for name, tensor in tensors.items()
    }


def _head(others: dict[str, Tensor], title: str) -> LogitScale:
    """The head of the training loss: with a bias a sigmoid per pair (SigLIP), else a softmax over candidates (CLIP)."""
    if "logit_scale" not in others:
        raise CheckpointError(_misfit(title, ["logit_scale: missing"]))
    scale = float(others.pop("logit_scale").float().exp())
    if "logit_bias" not in others:
        return LogitScale(scale)
    return LogitScale(scale, float(others.pop("logit_bias").float()), "sigmoid")
