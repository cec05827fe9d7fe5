"""Reading LanguageBind's audio checkpoints: config.json, and model.safetensors or pytorch_model.bin.

Only the audio side is read: `vision_model.*`, `visual_projection.weight` and `logit_scale`. LoRA adapters are merged
into the weights they adapt, position embeddings of another (square) grid are resized as upstream does it.
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
from multimodal.encoders.languagebind.preprocessing import Sound

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MODEL_TYPE = "LanguageBindAudio"
CONFIG, SAFE, PICKLE = "config.json", "model.safetensors", "pytorch_model.bin"
POSITIONS = "vision_model.embeddings.position_embedding.weight"
WANTED = ("vision_model.", "visual_projection.", "logit_scale")
# A sound is a video of one frame: its attention over time has one weight, which is 1 whatever queries and keys say, and
# upstream adds the embeddings of time only where there are more frames. Left out, since they reach no vector.
UNUSED = re.compile(r"\.temporal_embedding$|\.temporal_attn\.[qk]_proj\.|\.position_ids$")
ADAPTER = re.compile(r"(?P<layer>.+)\.lora_(?P<half>[AB])\.(?:\w+\.)?weight")
ACTIVATIONS = ("gelu", "quick_gelu")
# What upstream's configuration class fills in where config.json is silent.
SILENT: dict[str, Any] = {
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "lora_alpha": 16, "num_frames": 1, "add_time_attn": False,
    "audio_sample_rate": 16_000,
}  # fmt: skip
NEEDED = (
    *("projection_dim", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("patch_size", "num_mel_bins", "target_length", "audio_mean", "audio_std"),
)


@dataclass(frozen=True)
class Sizes:
    """The shape of the tower. time_attention, time_mlp: whether its layers have these parts."""

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
    def from_dict(cls, values: Mapping[str, Any]) -> Sizes:
        return cls(**{**values, "grid": tuple(values["grid"])})


@dataclass(frozen=True)
class Checkpoint:
    """An audio tower: its tensors by upstream's names, float32, and the scale it was trained with (None if unknown)."""

    sizes: Sizes
    sound: Sound
    tensors: dict[str, Tensor]
    scale: float | None


def read(folder: Path) -> Checkpoint:
    """The audio side of a checkpoint. Raises CheckpointError if files are missing or damaged, of another kind of model,
    or if tensors are missing or do not fit the configuration; the message names them."""
    config = _read_config(folder)
    vision = SILENT | config["vision_config"]
    tensors = _merged(_read_tensors(folder), vision["lora_alpha"], folder)
    scale = tensors.pop("logit_scale", None)
    sizes, sound = _sizes(config, vision, tensors, folder)
    tensors = _fit_positions(tensors, sizes)
    check_fit(tensors, sizes, str(folder))
    return Checkpoint(sizes, sound, tensors, None if scale is None else math.exp(float(scale)))


def check_fit(tensors: Mapping[str, Tensor], sizes: Sizes, where: str) -> None:
    """Raises CheckpointError naming the tensors that are missing, unknown, or not of the shape `sizes` asks for."""
    import torch

    from multimodal.encoders.languagebind.networks import AudioTower

    with torch.device("meta"):
        due = {name: tuple(one.shape) for name, one in AudioTower(sizes).state_dict().items()}
    faults = [f"{name} is missing" for name in sorted(due.keys() - tensors.keys())]
    faults += [f"{name} is unknown" for name in sorted(tensors.keys() - due.keys())]
    faults += [
        f"{name} has shape {tuple(one.shape)}, expected {due[name]}"
        for name, one in sorted(tensors.items())
        if name in due and tuple(one.shape) != due[name]
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
            f"{SAFE} or {PICKLE}"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); download it again") from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != MODEL_TYPE:
        raise CheckpointError(
            f"{path} describes a model of type {kind!r}, expected {MODEL_TYPE!r}: only LanguageBind's audio models "
            "can be loaded here"
        )
    if not isinstance(config.get("vision_config"), dict):
        raise CheckpointError(f"{path} has no 'vision_config', which describes the audio tower")
    return config  # type: ignore[no-any-return]


def _sizes(
    config: Mapping[str, Any], vision: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path
) -> tuple[Sizes, Sound]:
    path = folder / CONFIG
    given = {**vision, "projection_dim": config.get("projection_dim")}
    absent = [key for key in NEEDED if given.get(key) is None or (given[key] == 0 and key != "audio_mean")]
    if absent:
        raise CheckpointError(f"{path} does not give {', '.join(absent)}, and there is no default to take")
    if vision["hidden_act"] not in ACTIVATIONS:
        raise CheckpointError(
            f"{path} asks for the activation {vision['hidden_act']!r}, known are {', '.join(ACTIVATIONS)}"
        )
    if vision["add_time_attn"] and vision["num_frames"] != 1:
        raise CheckpointError(
            f"{path} asks for attention over {vision['num_frames']} frames; a sound is one frame, so num_frames must "
            "be 1"
        )
    sound = Sound(
        vision["audio_sample_rate"],
        vision["num_mel_bins"],
        vision["target_length"],
        vision["audio_mean"],
        vision["audio_std"],
    )
    patch = vision["patch_size"]
    sizes = Sizes(
        width=vision["hidden_size"],
        layers=vision["num_hidden_layers"],
        heads=vision["num_attention_heads"],
        mlp_width=vision["intermediate_size"],
        patch=patch,
        grid=(sound.mels // patch, sound.frames // patch),
        dim=config["projection_dim"],
        activation=vision["hidden_act"],
        epsilon=vision["layer_norm_eps"],
        time_attention=vision["add_time_attn"],
        time_mlp=any(".temporal_mlp." in name for name in tensors),
    )
    return sizes, sound


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of the audio side, as they are kept. Half of a checkpoint is a text tower, which is not needed."""
    from multimodal.core.hub import api as hub

    for name in (SAFE, PICKLE):
        if (folder / name).is_file():
            found = hub.load_tensors(folder / name)
            return {key: one for key, one in found.items() if key.startswith(WANTED)}
    raise CheckpointError(f"{str(folder)!r} has a {CONFIG} but no weights: neither {SAFE} nor {PICKLE}")


def _merged(tensors: Mapping[str, Tensor], alpha: float, folder: Path) -> dict[str, Tensor]:
    """Float32, by plain names, with W + (alpha / r) B A for each weight W (out, in) that has adapters A (r, in) and
    B (out, r) (Hu et al. 2021, arXiv 2106.09685; the names are those of peft, before and after its 0.6)."""
    plain = {
        name.replace(".base_model.model.", ".").replace(".base_layer.", "."): one.float()
        for name, one in tensors.items()
    }
    halves: dict[str, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    for name, one in plain.items():
        if found := ADAPTER.fullmatch(name):
            halves.setdefault(found["layer"], {})[found["half"]] = one
        else:
            weights[name] = one
    for layer, pair in halves.items():
        name = f"{layer}.weight"
        if len(pair) < 2 or name not in weights:
            raise CheckpointError(
                f"the LoRA adapter of {layer} in {str(folder)!r} is incomplete: it takes lora_A, lora_B and the weight"
            )
        change = alpha / len(pair["A"]) * (pair["B"] @ pair["A"])
        if change.shape != weights[name].shape:
            raise CheckpointError(
                f"the LoRA adapter of {layer} in {str(folder)!r} changes {tuple(change.shape)}, but its weight is "
                f"{tuple(weights[name].shape)}"
            )
        weights[name] = weights[name] + change
    return {name: one for name, one in weights.items() if not UNUSED.search(name)}


def _fit_positions(tensors: dict[str, Tensor], sizes: Sizes) -> dict[str, Tensor]:
    """Position embeddings of a square grid (a CLIP that saw pictures) resized to the tower's, as upstream does it."""
    table = tensors.get(POSITIONS)
    if table is None or table.ndim != 2 or len(table) == 1 + sizes.grid[0] * sizes.grid[1]:
        return tensors
    side = math.isqrt(len(table) - 1)
    if side * side != len(table) - 1:
        return tensors  # `check_fit` names it
    return tensors | {POSITIONS: resized_positions(table, (side, side), sizes.grid)}


def resized_positions(table: torch.Tensor, old: tuple[int, int], new: tuple[int, int]) -> torch.Tensor:
    """(1 + rows * columns, width) of one grid -> of another, bicubic with antialiasing; the class token's row stays."""
    import torch

    first, rest = table[:1], table[1:]
    grid = rest.reshape(1, *old, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(
        grid, size=new, mode="bicubic", antialias=True, align_corners=False
    )
    return torch.cat([first, grid.permute(0, 2, 3, 1).reshape(new[0] * new[1], -1)])
