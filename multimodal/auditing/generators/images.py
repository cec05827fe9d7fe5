"""Sixteen kinds of damage to images, in five severities, after ImageNet-C (Hendrycks & Dietterich 2019).

Sizes are shares of the side of the image, so that a severity means the same at every resolution. The tests hold that
each severity lowers the structural similarity, and that the highest leaves the images apart from each other.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import PIL.Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Floats = NDArray[np.float64]
    Generator = np.random.Generator

SEVERITIES = (1, 2, 3, 4, 5)


def damage(pixels: Pixels, kind: str, severity: int, seed: int = 0) -> Pixels:
    """Damages an image.

    Args:
        pixels: RGB (h, w, 3).
        kind: One of KINDS.
        severity: 1 to 5.
        seed: Of noise and places; equal for all severities of an image, so that these are comparable.

    Returns:
        RGB of the same shape.
    """
    import numpy as np

    image = pixels.astype(np.float64)
    damaged = KINDS[kind](image, severity - 1, np.random.default_rng(seed))
    return np.clip(np.round(damaged), 0, 255).astype(np.uint8)


def _gaussian_noise(image: Floats, level: int, rng: Generator) -> Floats:
    return image + rng.standard_normal(image.shape) * (10, 20, 33, 50, 72)[level]


def _shot_noise(image: Floats, level: int, rng: Generator) -> Floats:
    photons = (80, 40, 20, 10, 5)[level]
    # one uniform number per value, so that severities differ in strength alone
    spread = rng.standard_normal(image.shape) * (image / 255 * photons) ** 0.5
    return (image / 255 * photons + spread) / photons * 255


def _salt_and_pepper(image: Floats, level: int, rng: Generator) -> Floats:
    chance = rng.random(image.shape[:2])[..., None]
    white = rng.random(image.shape[:2])[..., None] < 0.5
    import numpy as np

    return np.where(chance < (0.02, 0.05, 0.09, 0.15, 0.23)[level], 255.0 * white, image)


def _blur(image: Floats, level: int, rng: Generator) -> Floats:
    radius = (0.010, 0.016, 0.023, 0.032, 0.043)[level] * max(image.shape[:2])
    return _gaussian(image, radius)


def _motion_blur(image: Floats, level: int, rng: Generator) -> Floats:
    import numpy as np

    reach = max(1, round((0.02, 0.035, 0.055, 0.075, 0.10)[level] * image.shape[1]))
    padded = np.pad(image, ((0, 0), (reach + 1, reach), (0, 0)), mode="edge")
    sums = np.cumsum(padded, axis=1)
    moved: Floats = (sums[:, 2 * reach + 1 :] - sums[:, : -2 * reach - 1]) / (2 * reach + 1)
    return moved


def _zoom_blur(image: Floats, level: int, rng: Generator) -> Floats:
    import numpy as np

    most = (1.08, 1.16, 1.26, 1.40, 1.60)[level]
    zoomed = [_zoom(image, factor) for factor in np.linspace(1.0, most, 8)]
    return np.mean(zoomed, axis=0)


def _brightness(image: Floats, level: int, rng: Generator) -> Floats:
    return image + (25, 50, 80, 110, 145)[level]


def _darkness(image: Floats, level: int, rng: Generator) -> Floats:
    return image * (0.75, 0.55, 0.38, 0.25, 0.14)[level]


def _contrast(image: Floats, level: int, rng: Generator) -> Floats:
    middle = image.mean((0, 1), keepdims=True)
    return middle + (image - middle) * (0.65, 0.45, 0.30, 0.19, 0.11)[level]


def _fog(image: Floats, level: int, rng: Generator) -> Floats:
    share = (0.25, 0.40, 0.54, 0.67, 0.79)[level]
    return image * (1 - share) + 255 * share * (0.55 + 0.45 * _clouds(image.shape[:2], rng))


def _jpeg(image: Floats, level: int, rng: Generator) -> Floats:
    import numpy as np

    buffer = io.BytesIO()
    whole = np.clip(np.round(image), 0, 255).astype(np.uint8)
    PIL.Image.fromarray(whole).save(buffer, "JPEG", quality=(40, 22, 12, 7, 3)[level])
    return np.asarray(PIL.Image.open(buffer).convert("RGB"), dtype=np.float64)


def _pixelate(image: Floats, level: int, rng: Generator) -> Floats:
    share = (0.60, 0.45, 0.34, 0.26, 0.20)[level]
    height, width = (
        max(2, round(side * min(1.0, share * 64 / max(image.shape[:2])))) for side in image.shape[:2]
    )
    small = _picture(image).resize((width, height), PIL.Image.Resampling.BOX)
    return _array(small.resize((image.shape[1], image.shape[0]), PIL.Image.Resampling.NEAREST))


def _occlusion(image: Floats, level: int, rng: Generator) -> Floats:
    """A grey square over the middle, where the thing is."""
    height, width = image.shape[:2]
    share = (0.20, 0.30, 0.40, 0.50, 0.60)[level]
    top, left = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    covered = image.copy()
    covered[top : height - top, left : width - left] = 128.0
    return covered


def _rotation(image: Floats, level: int, rng: Generator) -> Floats:
    """About the middle; the corners are filled with the mean colour of the border."""
    import numpy as np

    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).mean(0)
    colour = tuple(int(value) for value in border)
    turned = _picture(image).rotate(
        (10, 20, 35, 60, 90)[level], PIL.Image.Resampling.BICUBIC, fillcolor=colour
    )
    return _array(turned)


def _dark_lines(image: Floats, level: int, rng: Generator) -> Floats:
    """Thin dark horizontal lines at equal distances, over the whole image."""
    import numpy as np

    height = image.shape[0]
    phase = (np.arange(height) % (0.094 * height)) / (0.094 * height)
    share = (0.16, 0.16, 0.32, 0.32, 0.49)[level]
    lined = image.copy()
    lined[phase < share] *= (0.75, 0.5, 0.3, 0.15, 0.05)[level]
    return lined


def _ripple(image: Floats, level: int, rng: Generator) -> Floats:
    """Rows and columns shifted along smooth waves."""
    import numpy as np

    height, width = image.shape[:2]
    swing = (0.012, 0.020, 0.030, 0.041, 0.054)[level] * max(height, width)
    rows, columns = np.mgrid[:height, :width]
    first, second = rng.uniform(0, 2 * np.pi, 2)
    rows = rows + swing * np.sin(columns / width * 6 * np.pi + first)
    columns = columns + swing * np.sin(rows / height * 6 * np.pi + second)
    inside = (
        np.clip(np.round(rows), 0, height - 1).astype(int),
        np.clip(np.round(columns), 0, width - 1).astype(int),
    )
    return image[inside]


KINDS: dict[str, Callable[[Floats, int, Generator], Floats]] = {
    "gaussian noise": _gaussian_noise,
    "shot noise": _shot_noise,
    "salt and pepper": _salt_and_pepper,
    "blur": _blur,
    "motion blur": _motion_blur,
    "zoom blur": _zoom_blur,
    "brightness": _brightness,
    "darkness": _darkness,
    "contrast": _contrast,
    "fog": _fog,
    "jpeg": _jpeg,
    "pixelate": _pixelate,
    "occlusion": _occlusion,
    "rotation": _rotation,
    "dark lines": _dark_lines,
    "ripple": _ripple,
}


def _picture(image: Floats) -> PIL.Image.Image:
    import numpy as np

    return PIL.Image.fromarray(np.clip(np.round(image), 0, 255).astype(np.uint8))


def _array(picture: PIL.Image.Image) -> Floats:
    import numpy as np

    return np.asarray(picture.convert("RGB"), dtype=np.float64)


def _gaussian(image: Floats, radius: float) -> Floats:
    """Gaussian blur along both axes, with the border repeated."""
    import numpy as np

    reach = max(1, int(3 * radius + 0.5))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        pads = [(reach, reach) if at == axis else (0, 0) for at in range(3)]
        padded = np.pad(image, pads, mode="edge")
        size = image.shape[axis]
        image = sum(
            weight * np.take(padded, range(shift, shift + size), axis=axis)
            for shift, weight in enumerate(kernel)
        )  # type: ignore[assignment]
    return image


def _zoom(image: Floats, factor: float) -> Floats:
    height, width = image.shape[:2]
    across, down = width / factor / 2, height / factor / 2
    box = (width / 2 - across, height / 2 - down, width / 2 + across, height / 2 + down)
    return _array(_picture(image).resize((width, height), PIL.Image.Resampling.BILINEAR, box=box))


def _clouds(shape: tuple[int, ...], rng: Generator) -> Floats:
    """Smooth noise from 0 to 1, (h, w, 1)."""
    import numpy as np

    total = np.zeros(shape[:2])
    for size, weight in ((3, 0.6), (6, 0.3), (12, 0.1)):
        small = PIL.Image.fromarray(rng.random((size, size)).astype(np.float32))
        total += weight * np.asarray(small.resize((shape[1], shape[0]), PIL.Image.Resampling.BICUBIC))
    return np.clip(total, 0, 1)[..., None]
