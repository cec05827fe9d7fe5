"""Labelled sets that the starter was not trained for: scans of digits, textures, sounds, an artist, symbols, a voice.

Each set is made from a seed, or read from a package or the work folder of `recipes/starter`; nothing is downloaded.
"""

from __future__ import annotations

import io
import math
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodal.core.items import Audio, Image, Item

PER_CLASS = 56  # 16 to learn from and 40 to judge
SIDE = 96
RATE_HZ = 16_000
N_CONCEPTS = 60
FLITE_WORDS = ("apple", "dog", "guitar", "train", "pizza", "clock", "flower", "house", "rain", "camera")
SYMBOLS = "★☂☎☘☠☢☭☯☸☺♀♂♔♕♖♗♘♙♠♣♥♦♨♪♫♻⚀⚁⚂⚃⚄⚅⚑⚒⚓⚔⚖⚗⚙⚛✂✈✉✎✒✔✖✚✡✦❀❄❤➔➜➤∞∑∫√"
FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSansCondensed.ttf")


@dataclass(frozen=True)
class LabelledSet:
    """Items with the number of their class, and the words that zero-shot classification is given."""

    name: str
    items: list[Item]
    classes: NDArray[np.int64]
    labels: list[str]


def digits() -> LabelledSet:
    """scikit-learn's scans of digits, 8 × 8, enlarged."""
    import PIL.Image
    from sklearn.datasets import load_digits

    data = load_digits()
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    images = []
    for pixels in data.images:
        grey = PIL.Image.fromarray((255 - pixels * 255 / 16).astype(np.uint8))
        images.append(Image(grey.resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC).convert("RGB")))
    return LabelledSet(
        "digits", list(images), data.target.astype(np.int64), [f"the digit {word}" for word in words]
    )


def textures() -> LabelledSet:
    """Thirteen kinds of generated texture."""
    from recipes.starter.data import backgrounds

    kinds: dict[str, Callable[[np.random.Generator, int], NDArray[Any]]] = {
        "stripes": backgrounds.stripes, "a checkerboard": backgrounds.checks, "clouds": backgrounds.clouds,
        "dots": backgrounds.dots, "bricks": backgrounds.bricks, "rays": backgrounds.rays, "rings": backgrounds.rings,
        "zigzag": backgrounds.zigzag, "marble": backgrounds.marble, "cells": backgrounds.cells,
        "patches": backgrounds.patches, "terraces": backgrounds.terraces, "grain": backgrounds.grain,
    }  # fmt: skip
    rng = np.random.default_rng(0)

    def image(maker: Callable[[np.random.Generator, int], NDArray[Any]]) -> Item:
        pixels = np.asarray(maker(rng, SIDE))
        if pixels.dtype != np.uint8:
            pixels = (pixels * (255 if pixels.max() <= 1 else 1)).clip(0, 255).astype(np.uint8)
        return Image(pixels if pixels.shape[-1] == 3 else np.moveaxis(pixels, 0, -1).copy())

    return _grouped(
        "textures", {name: [image(maker) for _ in range(PER_CLASS)] for name, maker in kinds.items()}
    )


def sounds() -> LabelledSet:
    """Ten kinds of synthetic sound, with noise."""
    rng = np.random.default_rng(1)
    time_s = np.arange(RATE_HZ) / RATE_HZ

    def phase(start_hz: float, end_hz: float) -> NDArray[np.float64]:
        return 2 * np.pi * np.cumsum(np.linspace(start_hz, end_hz, len(time_s))) / RATE_HZ

    def pitch() -> float:
        return float(np.exp(rng.uniform(math.log(150), math.log(1200))))

    def pink() -> NDArray[np.float64]:
        spectrum = np.fft.rfft(rng.standard_normal(len(time_s)))
        spectrum /= np.sqrt(np.arange(1, len(spectrum) + 1))
        return np.fft.irfft(spectrum, len(time_s))

    def clicks() -> NDArray[np.float64]:
        wave = np.zeros(len(time_s))
        wave[:: int(RATE_HZ / rng.uniform(4, 20))] = 1
        return np.convolve(wave, np.exp(-np.arange(200) / 30))[: len(time_s)]

    def bell() -> NDArray[np.float64]:
        base = pitch()
        parts = [np.sin(2 * np.pi * base * ratio * time_s) for ratio in (1, 2.76, 5.4)]
        return np.sum(parts, axis=0) * np.exp(-time_s * rng.uniform(2, 8))

    def siren() -> NDArray[np.float64]:
        swing = np.sin(2 * np.pi * rng.uniform(1, 5) * time_s)
        return np.sin(2 * np.pi * np.cumsum(pitch() * (1 + 0.4 * swing)) / RATE_HZ)

    kinds: dict[str, Callable[[], NDArray[np.float64]]] = {
        "a steady tone": lambda: np.sin(phase(base := pitch(), base)),
        "a buzz": lambda: np.sign(np.sin(phase(base := pitch(), base))),
        "a rising whistle": lambda: np.sin(phase(base := pitch(), base * rng.uniform(1.5, 3))),
        "a falling whistle": lambda: np.sin(phase(base := pitch(), base / rng.uniform(1.5, 3))),
        "hiss": lambda: rng.standard_normal(len(time_s)),
        "a rumble": pink,
        "clicks": clicks,
        "a bell": bell,
        "a siren": siren,
        "a pulsing tone": lambda: (
            np.sin(phase(base := pitch(), base)) * (np.sin(2 * np.pi * rng.uniform(3, 9) * time_s) > 0)
        ),
    }

    def clip(make: Callable[[], NDArray[np.float64]]) -> Item:
        wave = make()
        wave = wave / np.abs(wave).max() + rng.uniform(0, 0.15) * rng.standard_normal(len(wave))
        wave = wave[: int(rng.uniform(0.5, 1) * len(wave))] / np.abs(wave).max() * rng.uniform(0.2, 0.9)
        return Audio({"array": wave.astype(np.float32), "sampling_rate": RATE_HZ})

    return _grouped("sounds", {name: [clip(make) for _ in range(PER_CLASS)] for name, make in kinds.items()})


def speech() -> LabelledSet | None:
    """Ten words by voices of flite, at several speeds and pitches. None where flite is not installed."""
    if shutil.which("flite") is None:
        return None
    import soundfile

    rng = random.Random(2)

    def clip(word: str) -> Item:
        settings = [
            f"duration_stretch={rng.uniform(0.7, 1.5):.2f}",
            f"int_f0_target_mean={rng.uniform(80, 220):.0f}",
        ]
        command = ["flite", "-voice", rng.choice(["awb", "slt", "kal"]), "-t", word, "-o", "/dev/stdout"]
        command += [part for setting in settings for part in ("--setf", setting)]
        data = subprocess.run(command, check=True, capture_output=True).stdout
        samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
        noise = np.random.default_rng(rng.randrange(1 << 30)).standard_normal(len(samples))
        noisy = samples + rng.uniform(0, 0.02) * noise.astype(np.float32)
        return Audio({"array": noisy, "sampling_rate": rate_hz})

    return _grouped("speech", {word: [clip(word) for _ in range(PER_CLASS)] for word in FLITE_WORDS})


def new_artist(work: Path) -> LabelledSet | None:
    """Sixty things by OpenMoji on backgrounds. None without the work folder of `recipes/starter`."""
    if not (work / "openmoji.npz").exists():
        return None
    from multimodal.encoders.starter.parameters import SIDE as TOWER_SIDE
    from recipes.starter.captioner.captions import Subject
    from recipes.starter.data import backgrounds, compositor
    from recipes.starter.data.concepts import read
    from recipes.starter.figures import judges

    names = [concept.name for concept in read(work / "world.jsonl")]
    rows = random.Random(3).sample(judges.drawn_by_openmoji(work), N_CONCEPTS)
    drawings = np.load(work / "openmoji.npz")["openmoji"]
    scene = judges.make_compositor(drawings[None], backgrounds.HELD_OUT, 3)
    groups = {}
    for row in rows:
        drawn = compositor.as_bytes(scene.draw([(Subject(row),)] * PER_CLASS, TOWER_SIDE, jitter=0.6))
        groups[names[row]] = [Image(pixels) for pixels in drawn.permute(0, 2, 3, 1).contiguous().numpy()]
    return _grouped("new artist", groups)


def symbols() -> LabelledSet | None:
    """Sixty symbols in four styles of DejaVu, turned, moved and coloured. None where the fonts are not installed."""
    import unicodedata

    import PIL.Image
    from PIL import ImageDraw, ImageFont

    folder = Path("/usr/share/fonts/truetype/dejavu")
    fonts = [folder / name for name in FONTS if (folder / name).exists()]
    if not fonts:
        return None
    rng = random.Random(4)

    def image(symbol: str) -> Item:
        dark, light = ([rng.randrange(*span) for _ in range(3)] for span in ((0, 110), (170, 256)))
        canvas = PIL.Image.new("RGB", (SIDE, SIDE), tuple(light))
        font = ImageFont.truetype(rng.choice(fonts), rng.randrange(48, 76))
        place = (SIDE / 2 + rng.uniform(-8, 8), SIDE / 2 + rng.uniform(-8, 8))
        ImageDraw.Draw(canvas).text(place, symbol, fill=tuple(dark), font=font, anchor="mm")
        return Image(canvas.rotate(rng.uniform(-20, 20), fillcolor=tuple(light)))

    groups = {unicodedata.name(s).lower(): [image(s) for _ in range(PER_CLASS)] for s in SYMBOLS[:N_CONCEPTS]}
    return _grouped("symbols", groups)


def _grouped(name: str, groups: dict[str, list[Item]]) -> LabelledSet:
    items = [item for group in groups.values() for item in group]
    counts = [len(group) for group in groups.values()]
    return LabelledSet(name, items, np.repeat(np.arange(len(groups)), counts), list(groups))


def available(work: Path, only: Sequence[str] = ()) -> Iterator[LabelledSet]:
    """The sets that can be made here. only: their names; by default all."""
    makers: dict[str, Callable[[], LabelledSet | None]] = {
        "digits": digits, "textures": textures, "sounds": sounds, "speech": speech,
        "new artist": lambda: new_artist(work), "symbols": symbols,
    }  # fmt: skip
    for name, make in makers.items():
        if (not only or name in only) and (made := make()) is not None:
            yield made
