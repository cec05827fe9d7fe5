"""open_clip's image transform, built from validated settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from multimodal.core.catalog import close_matches
from multimodal.core.errors import CheckpointError, InvalidInput

if TYPE_CHECKING:
    import PIL.Image
    import torch

NEEDED = ("mean", "std", "interpolation", "resize_mode")
KEYS = (*NEEDED, "fill_color")
DEFAULTS = {"interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
CHOICES = {
    "interpolation": (
        "bicubic",
        "bilinear",
        "random",
    ),  # "random" is for training and means bicubic in inference
    "resize_mode": ("shortest", "longest", "squash"),
}


def validate(settings: Mapping[str, Any], origin: str, error: type[InvalidInput | CheckpointError]) -> None:
    """Raises `error`, naming `origin`, for a key or value that open_clip's transform does not support."""
    for key, value in settings.items():
        if key not in KEYS:
            raise error(f"{origin} has {key!r}; {close_matches(key, KEYS)}expected {', '.join(KEYS)}")
        if key in CHOICES and value not in CHOICES[key]:
            raise error(f"{origin} has {key} {value!r}, expected one of {', '.join(map(repr, CHOICES[key]))}")
        if key in ("mean", "std") and not _is_valid(_per_channel(value), above_zero=key == "std"):
            above = " above 0" if key == "std" else ""
            raise error(f"{origin} has {key} {value!r}, expected three numbers{above} for pixels in 0 to 1")


def with_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of the transform but the image size, as JSON values."""
    full = DEFAULTS | {key: value for key, value in settings.items() if key in KEYS}
    return full | {key: [float(number) for number in _per_channel(full[key])] for key in ("mean", "std")}


def transform(
    preprocess: Mapping[str, Any], size: tuple[int, int]
) -> Callable[[PIL.Image.Image], torch.Tensor]:
    """`open_clip.image_transform_v2` for inference: a PIL image -> (3, *size) float32, normalised."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    apply: Callable[[PIL.Image.Image], torch.Tensor]
    apply = image_transform_v2(PreprocessCfg(size=size, **preprocess), is_train=False)
    return apply


def shortest_edge(preprocess: Mapping[str, Any], size: tuple[int, int]) -> int | None:
    """The length to which the transform resizes the shorter side; None if it bounds the longer side too."""
    return max(size) if preprocess["resize_mode"] == "shortest" else None


def _per_channel(value: Any) -> list[Any]:
    """Three values; a single number applies to all channels."""
    return list(value) if isinstance(value, list | tuple) else [value] * 3


def _is_valid(numbers: list[Any], *, above_zero: bool) -> bool:
    return len(numbers) == 3 and all(
        isinstance(number, int | float) and math.isfinite(number) and (number > 0 or not above_zero)
        for number in numbers
    )
