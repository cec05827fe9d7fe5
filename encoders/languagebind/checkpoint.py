"""Reads LanguageBind's audio checkpoints: config.json, and model.safetensors or pytorch_model.bin.

Only the audio tower is read: `vision_model.*`, `visual_projection.weight` and `logit_scale`. LoRA adapters are merged
into the weights they adapt; position embeddings of another (square) grid are resized as upstream does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError
from multimodal.encoders.languagebind.preprocessing import MelSettings

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MODEL_TYPE = "LanguageBindAudio"
CONFIG, SAFETENSORS, PICKLE = "config.json", "model.safetensors", "pytorch_model.bin"
POSITIONS = "vision_model.embeddings.position_embedding.weight"
PREFIXES = ("vision_model.", "visual_projection.", "logit_scale")
# Audio is a video of one frame: temporal attention has a single weight, always 1, so queries and keys have no effect,
# and upstream adds temporal embeddings only for several frames. These tensors are ignored.
UNUSED = re.compile(r"\.temporal_embedding$|\.temporal_attn\.[qk]_proj\.|\.position_ids$")
ADAPTER = re.compile(r"(?P<layer>.+)\.lora_(?P<half>[AB])\.(?:\w+\.)?weight")
ACTIVATIONS = ("gelu", "quick_gelu")
# Defaults of upstream's configuration class.
DEFAULTS: dict[str, Any] = {
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "lora_alpha": 16, "num_frames": 1, "add_time_attn": False,
    "audio_sample_rate": 16_000,
}  # fmt: skip
NEEDED = (
    *("projection_dim", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("patch_size", "num_mel_bins", "target_length", "audio_mean", "audio_std"),
)


@dataclass(frozen=True)
class TowerConfig:
    """The architecture of the tower. `time_attention`, `time_mlp`: whether its layers have these temporal modules."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    patch: int
    grid: tuple[int, int]
    dim: int
    activation: str
    epsilon: float
    time_attention: bool = False
    time_mlp: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"grid": list(self.grid)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TowerConfig:
        return cls(**{**values, "grid": tuple(values["grid"])})


@dataclass(frozen=True)
class LanguageBindCheckpoint:
    """An audio tower: float32 tensors by upstream's names, and the trained logit scale (None if unknown)."""

    sizes: TowerConfig
    mel_settings: MelSettings
    tensors: dict[str, Tensor]
    scale: float | None


def read(folder: Path) -> LanguageBindCheckpoint:
    """Reads the audio tower of a checkpoint.

    Raises:
        CheckpointError: If a file is missing, damaged or of another model, or tensors do not fit the configuration.
    """
    config = _read_config(folder)
    vision = DEFAULTS | config["vision_config"]
    tensors = _merged(_read_tensors(folder), vision["lora_alpha"], folder)
    scale = tensors.pop("logit_scale", None)
    sizes, mel_settings = _sizes(config, vision, tensors, folder)
    tensors = _fit_positions(tensors, sizes)
    check_fit(tensors, sizes, str(folder))
    return LanguageBindCheckpoint(
        sizes, mel_settings, tensors, None if scale is None else math.exp(float(scale))
    )


def check_fit(tensors: Mapping[str, Tensor], sizes: TowerConfig, where: str) -> None:
    """Raises CheckpointError naming the tensors that are missing, unknown or not of the shape that `sizes` defines."""
    import torch

    from multimodal.encoders.languagebind.networks import AudioTower

    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in AudioTower(sizes).state_dict().items()}
    faults = [f"{name} is missing" for name in sorted(expected.keys() - tensors.keys())]
    faults += [f"{name} is unknown" for name in sorted(tensors.keys() - expected.keys())]
    faults += [
        f"{name} has shape {tuple(tensor.shape)}, expected {expected[name]}"
        for name, tensor in sorted(tensors.items())
        if name in expected and tuple(tensor.shape) != expected[name]
    ]
    if faults:
        more = f" … ({len(faults)} faults in all)" if len(faults) > 3 else ""
        raise CheckpointError(
            f"the weights in {where} do not fit its {CONFIG}: {'; '.join(faults[:3])}{more}; "
            "take both files from the same checkpoint"
        )


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(
            f"{str(folder)!r} has no {CONFIG}; a LanguageBind checkpoint is a folder with {CONFIG} and "
            f"{SAFETENSORS} or {PICKLE}"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); download it again") from error
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type != MODEL_TYPE:
        raise CheckpointError(
            f"{path} describes a model of type {model_type!r}, expected {MODEL_TYPE!r}: only LanguageBind's audio "
            "models can be loaded here"
        )
    if not isinstance(config.get("vision_config"), dict):
        raise CheckpointError(f"{path} has no 'vision_config', which describes the audio tower")
    return config  # type: ignore[no-any-return]


def _sizes(
    config: Mapping[str, Any], vision: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> tuple[TowerConfig, MelSettings]:
    path = folder / CONFIG
    settings = {**vision, "projection_dim": config.get("projection_dim")}
    absent = [
        key for key in NEEDED if settings.get(key) is None or (settings[key] == 0 and key != "audio_mean")
    ]
    if absent:
        raise CheckpointError(f"{path} does not define {', '.join(absent)}, which have no default")
    if vision["hidden_act"] not in ACTIVATIONS:
        raise CheckpointError(
            f"{path} has the activation {vision['hidden_act']!r}, expected one of {', '.join(ACTIVATIONS)}"
        )
    if vision["add_time_attn"] and vision["num_frames"] != 1:
        raise CheckpointError(
            f"{path} has temporal attention over {vision['num_frames']} frames; audio is one frame, so num_frames must "
            "be 1"
        )
    mel_settings = MelSettings(
        vision["audio_sample_rate"],
        vision["num_mel_bins"],
        vision["target_length"],
        vision["audio_mean"],
        vision["audio_std"],
    )
    patch = vision["patch_size"]
    sizes = TowerConfig(
        width=vision["hidden_size"],
        layers=vision["num_hidden_layers"],
        heads=vision["num_attention_heads"],
        mlp_width=vision["intermediate_size"],
        patch=patch,
        grid=(mel_settings.mels // patch, mel_settings.frames // patch),
        dim=config["projection_dim"],
        activation=vision["hidden_act"],
        epsilon=vision["layer_norm_eps"],
        time_attention=vision["add_time_attn"],
        time_mlp=any(".temporal_mlp." in name for name in tensors),
    )
    return sizes, mel_settings


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """The stored tensors of the audio tower; half of a checkpoint is a text tower, which is not needed."""
    from multimodal.core.hub import api as hub

    for name in (SAFETENSORS, PICKLE):
        if (folder / name).is_file():
            tensors = hub.load_tensors(folder / name)
            return {key: tensor for key, tensor in tensors.items() if key.startswith(PREFIXES)}
    raise CheckpointError(
        f"{str(folder)!r} has a {CONFIG} but no weights: neither {SAFETENSORS} nor {PICKLE}"
    )


def _merged(tensors: Mapping[str, Tensor], alpha: float, folder: Path) -> dict[str, Tensor]:
    """Merges LoRA adapters (Hu et al. 2021, arXiv 2106.09685) -> float32 tensors by their names without adapters.

    A weight W (out, in) with adapters A (r, in) and B (out, r) becomes W + (alpha / r) B A. Names are those of peft,
    before and after version 0.6.
    """
    plain = {
        name.replace(".base_model.model.", ".").replace(".base_layer.", "."): tensor.float()
        for name, tensor in tensors.items()
    }
    halves: dict[str, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    for name, tensor in plain.items():
        if match := ADAPTER.fullmatch(name):
            halves.setdefault(match["layer"], {})[match["half"]] = tensor
        else:
            weights[name] = tensor
    for layer, pair in halves.items():
        name = f"{layer}.weight"
        if len(pair) < 2 or name not in weights:
            raise CheckpointError(
                f"the LoRA adapter of {layer} in {str(folder)!r} is incomplete: it needs lora_A, lora_B and the weight"
            )
        change = alpha / len(pair["A"]) * (pair["B"] @ pair["A"])
        if change.shape != weights[name].shape:
            raise CheckpointError(
                f"the LoRA adapter of {layer} in {str(folder)!r} has shape {tuple(change.shape)}, but its weight has "
                f"{tuple(weights[name].shape)}"
            )
        weights[name] = weights[name] + change
    return {name: tensor for name, tensor in weights.items() if not UNUSED.search(name)}


def _fit_positions(tensors: dict[str, Tensor], sizes: TowerConfig) -> dict[str, Tensor]:
    """Resizes position embeddings of a square grid (a CLIP for images) to the tower's grid, as upstream does."""
    table = tensors.get(POSITIONS)
    if table is None or table.ndim != 2 or len(table) == 1 + sizes.grid[0] * sizes.grid[1]:
        return tensors
    side = math.isqrt(len(table) - 1)
    if side * side != len(table) - 1:
        return tensors  # reported by `check_fit`
    return tensors | {POSITIONS: resized_positions(table, (side, side), sizes.grid)}


def resized_positions(table: torch.Tensor, old: tuple[int, int], new: tuple[int, int]) -> torch.Tensor:
    """Resizes position embeddings (1 + rows * columns, width), bicubic with antialiasing, except the class token's."""
    import torch

    first, rest = table[:1], table[1:]
    grid = rest.reshape(1, *old, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(
        grid, size=new, mode="bicubic", antialias=True, align_corners=False
    )
    return torch.cat([first, grid.permute(0, 2, 3, 1).reshape(new[0] * new[1], -1)])
