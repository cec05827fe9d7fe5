"""Synthetic items for the self-test: eight of each modality, all different, and of different sizes, so that errors in
padding, cropping and resizing show."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE_HZ = 48_000
FPS = 8
TEXTS = (
    "red",
    "a photo of a cat",
    "rain on a tin roof",
    "The stock market fell sharply on Monday.",
    "a mountain lake at sunrise, with snow on the peaks",
    "two people cooking dinner in a small kitchen",
    "How do I reset my password?",
    "an old steam locomotive crosses a stone bridge at night while a dog barks somewhere down in the valley",
)


def items(modality: Modality) -> list[Item]:
    """The eight test items of a modality."""
    return {
        Modality.TEXT: _texts,
        Modality.IMAGE: _images,
        Modality.AUDIO: _audio_clips,
        Modality.VIDEO: _videos,
    }[modality]()


def _texts() -> list[Item]:
    return [Text(text) for text in TEXTS]


def _images() -> list[Item]:
    sizes = ((96, 96), (96, 160), (200, 120), (64, 64), (120, 300), (150, 150), (256, 192), (80, 110))
    return [Image(draw(*size, 0.0)) for draw, size in zip(_drawings(), sizes, strict=True)]


def _videos() -> list[Item]:
    return [
        Video(np.stack([draw(96, 128, moved / n) for moved in range(n)]), fps=FPS)
        for draw, n in zip(_drawings(), (8, 16, 12, 24, 16, 8, 20, 16), strict=True)
    ]


def _drawings() -> list[Callable[[int, int, float], NDArray[np.uint8]]]:
    """Functions (height, width, phase of the motion from 0 to 1) -> uint8 (h, w, 3), each of another pattern."""

    def painted(mask: NDArray[np.bool_], ink: tuple[int, ...], paper: tuple[int, ...]) -> NDArray[np.uint8]:
        return np.where(mask[..., None], np.array(ink), np.array(paper)).astype(np.uint8)

    def grid(height: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
        y, x = np.mgrid[0:height, 0:width]
        return y / height, x / width

    def plain(height: int, width: int, moved: float) -> NDArray[np.uint8]:
        return np.full((height, width, 3), (210, 25, 30), dtype=np.uint8)

    def stripes(height: int, width: int, moved: float) -> NDArray[np.uint8]:
        _, x = grid(height, width)
        return painted((x + moved) * 6 % 1 < 0.5, (20, 40, 200), (250, 250, 250))

    def squares(height: int, width: int, moved: float) -> NDArray[np.uint8]:
        y, x = grid(height, width)
        return painted((np.floor(y * 8) + np.floor((x + moved) * 8)) % 2 == 0, (0, 0, 0), (240, 240, 240))

    def disc(height: int, width: int, moved: float) -> NDArray[np.uint8]:
        y, x = grid(height, width)
        return painted((x - 0.3 - 0.4 * moved) ** 2 + (y - 0.5) ** 2 < 0.07, (245, 200, 20), (15, 90, 40))

    def shade(height: int, width: int, moved: float) -> NDArray[np.uint8]:
        _, x = grid(height, width)
        return np.repeat(((x + moved) % 1 * 255).astype(np.uint8)[..., None], 3, axis=2)

    def rings(height: int, width: int, moved: float) -> NDArray[np.uint8]:
        y, x = grid(height, width)
        return painted(
            (np.hypot(x - 0.5, y - 0.5) * 9 + moved * 4) % 1 < 0.5, (150, 20, 160), (250, 220, 120)
        )

    def horizon(height: int, width: int, moved: float) -> NDArray[np.uint8]:
        y, _ = grid(height, width)
        return painted(y < 0.3 + 0.4 * moved, (120, 190, 250), (70, 140, 50))

    def noise(height: int, width: int, moved: float) -> NDArray[np.uint8]:
        return np.random.default_rng(round(moved * 1000)).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return [plain, stripes, squares, disc, shade, rings, horizon, noise]


def _audio_clips() -> list[Item]:
    def at(seconds: float) -> NDArray[Any]:
        return np.arange(round(seconds * RATE_HZ)) / RATE_HZ

    def tone(seconds: float, hz: float) -> NDArray[Any]:
        return 0.5 * np.sin(2 * np.pi * hz * at(seconds))

    def chirp(seconds: float, low: float, high: float) -> NDArray[Any]:
        t = at(seconds)
        return 0.5 * np.sin(2 * np.pi * (low * t + (high - low) * t**2 / (2 * seconds)))

    def clicks(seconds: float, a_second: float) -> NDArray[Any]:
        return 0.8 * (at(seconds) * a_second % 1 < 0.01)

    rng = np.random.default_rng(0)
    waves = (
        tone(1.0, 220),
        tone(2.2, 3_000) * (at(2.2) * 4 % 1 < 0.5),
        0.3 * rng.standard_normal(round(1.5 * RATE_HZ)),
        chirp(2.0, 100, 8_000),
        clicks(3.0, 7),
        0.3 * np.cumsum(rng.standard_normal(round(2.5 * RATE_HZ))) / 200 % 1.0,
        sum((tone(1.8, 110 * n) / n for n in range(1, 9)), np.zeros(round(1.8 * RATE_HZ))),
        chirp(2.8, 6_000, 200) * np.exp(-2 * at(2.8)),
    )
    return [Audio({"array": wave.astype(np.float32), "sampling_rate": RATE_HZ}) for wave in waves]
