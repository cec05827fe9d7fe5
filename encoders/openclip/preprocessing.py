"""From a picture to what an image tower takes: open_clip's own transform, built from numbers that were checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from multimodal.core.catalog import close_matches
from multimodal.core.errors import CheckpointError, InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

NEEDED = ("mean", "std", "interpolation", "resize_mode")
KEYS = (*NEEDED, "fill_color")
UNSAID = {"interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
CHOICES = {
    "interpolation": ("bicubic", "bilinear", "random"),  # "random" is for training; bicubic when it is used
    "resize_mode": ("shortest", "longest", "squash"),
}


def check(given: Mapping[str, Any], by: str, kind: type[InvalidInput | CheckpointError]) -> None:
    """Raises `kind`, in the name of `by`, for a key or value that open_clip's transform does not have."""
    for key, value in given.items():
        if key not in KEYS:
            raise kind(f"{by} has {key!r}; {close_matches(key, KEYS)}it takes {', '.join(KEYS)}")
        if key in CHOICES and value not in CHOICES[key]:
            raise kind(f"{by} has {key} {value!r}, expected one of {', '.join(map(repr, CHOICES[key]))}")
        if key in ("mean", "std") and not _are_three(_three(value), above_zero=key == "std"):
            above = " above 0" if key == "std" else ""
            raise kind(f"{by} has {key} {value!r}, expected three numbers{above} for pixels in 0 to 1")


def settled(given: Mapping[str, Any]) -> dict[str, Any]:
    """Every number of the preprocessing but the size, as JSON values."""
    full = UNSAID | {key: value for key, value in given.items() if key in KEYS}
    return full | {key: [float(one) for one in _three(full[key])] for key in ("mean", "std")}


def transform(
    preprocess: Mapping[str, Any], size: tuple[int, int]
) -> Callable[[NDArray[np.uint8]], torch.Tensor]:
    """Pixels uint8 (h, w, 3) -> float32 (3, *size), as `open_clip.image_transform_v2` makes them for inference."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    apply = image_transform_v2(PreprocessCfg(size=size, **preprocess), is_train=False)
    return _FromArray(apply)


class _FromArray:
    """A class, not a closure: encoders are pickled when they are sent to other processes."""

    def __init__(self, apply: Callable[[Any], torch.Tensor]) -> None:
        self.apply = apply

    def __call__(self, rgb: NDArray[np.uint8]) -> torch.Tensor:
        import PIL.Image

        return self.apply(PIL.Image.fromarray(rgb))


def _three(value: Any) -> list[Any]:
    return (
        list(value) if isinstance(value, list | tuple) else [value] * 3
    )  # one number is meant for all channels


def _are_three(numbers: list[Any], *, above_zero: bool) -> bool:
    return len(numbers) == 3 and all(
        isinstance(one, int | float) and math.isfinite(one) and (one > 0 or not above_zero) for one in numbers
    )
