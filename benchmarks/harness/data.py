"""Synthetic inputs of the benchmarks, generated from seeds, identical on every machine and cached in a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

# (width, height): share. Typical sizes of web images, screenshots and photos of phones (12 megapixels)
PHOTO_SIZES = {
    (400, 300): 15, (640, 480): 20, (768, 1024): 10, (1024, 768): 15, (1920, 1080): 20, (3000, 2000): 10,
    (4000, 3000): 10,
}  # fmt: skip
SMALL_PHOTO_SIZES = {(400, 300): 50, (640, 480): 30, (1024, 768): 20}
SCENES = 12
JPEG_QUALITY = 88
OCTAVES = 7
CLIP_HZ = 48_000
CLIP_SECONDS = (1.0, 10.0)
CAPTION_WORDS = (3, 60)

WORDS = {
    "adjectives": "a two three several some many old young small large red blue green wet broken painted wooden bright",
    "nouns": "dog cat horse man woman child boat car bicycle train tree house mountain river beach kitchen table "
    "chair window street market bridge church garden bird apple cake bottle umbrella kite lamp guitar ball bear",
    "verbs": "sits stands runs sleeps waits plays jumps looks shines lies hangs leans floats drives falls turns",
    "prepositions": "on in near behind under beside above across from along by",
}
ORDER = ("adjectives", "nouns", "verbs", "prepositions", "adjectives", "nouns", "and")


def photos(folder: Path, n: int, *, small: bool = False) -> list[str]:
    """Paths of n JPEGs of mixed sizes, in random order."""
    where = folder / f"photos-{n}{'-small' if small else ''}"
    rng = np.random.default_rng(n)
    shares = SMALL_PHOTO_SIZES if small else PHOTO_SIZES
    counts = _counts(n, list(shares.values()))
    sizes = [size for size, count in zip(shares, counts, strict=True) for _ in range(count)]
    sizes = [sizes[at] for at in rng.permutation(n)]
    paths = [where / f"{number:05}-{width}x{height}.jpg" for number, (width, height) in enumerate(sizes)]
    if (where / "done").exists():
        return list(map(str, paths))
    where.mkdir(parents=True, exist_ok=True)
    scenes = [scene(max(max(size) for size in shares), seed) for seed in range(min(n, SCENES))]
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        _view(scenes[number % SCENES], size, rng).save(path, quality=JPEG_QUALITY)
    (where / "done").touch()
    return list(map(str, paths))


def _counts(n: int, shares: list[int]) -> list[int]:
    edges = np.round(np.cumsum([0, *shares]) / sum(shares) * n).astype(int)
    return np.diff(edges).tolist()


def scene(side: int, seed: int) -> PIL.Image.Image:
    """Noise with a 1/f amplitude spectrum, as in photographs, and shapes with sharp edges."""
    import PIL.Image
    import PIL.ImageDraw

    rng = np.random.default_rng(seed)
    width, height = side, side * 3 // 4
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(OCTAVES):
        cells = 3 * 4**octave
        coarse = rng.normal(0, 1, (min(cells, height), min(cells * 4 // 3, width), 3)).astype(np.float32)
        channels = [
            PIL.Image.fromarray(coarse[..., c]).resize((width, height), PIL.Image.Resampling.BICUBIC)
            for c in range(3)
        ]
        total += np.stack([np.asarray(channel) for channel in channels], -1) / 2**octave
        if cells >= width:
            break
    image = PIL.Image.fromarray(np.clip(128 + 45 * total, 0, 255).astype(np.uint8))
    draw = PIL.ImageDraw.Draw(image)
    for _ in range(40):
        x, y = rng.integers(0, (width, height))
        w, h = rng.integers(side // 80, side // 6, 2)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((int(x), int(y), int(x + w), int(y + h)), fill=tuple(map(int, rng.integers(0, 256, 3))))
    return image


def _view(whole: PIL.Image.Image, size: tuple[int, int], rng: np.random.Generator) -> PIL.Image.Image:
    """A random crop of a scene, scaled to a size and flipped at random."""
    import PIL.Image

    width, height = size
    scale = min(whole.width / width, whole.height / height) * rng.uniform(0.6, 1.0)
    w, h = scale * width, scale * height
    x, y = rng.uniform(0, whole.width - w), rng.uniform(0, whole.height - h)
    part = whole.resize(size, PIL.Image.Resampling.BILINEAR, box=(x, y, x + w, y + h))
    return part.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def captions(n: int, seed: int = 0) -> list[str]:
    """n distinct captions, mostly of 8 to 15 words as in COCO, some of up to 60."""
    rng = np.random.default_rng(seed)
    low, high = CAPTION_WORDS
    known = {kind: words.split() for kind, words in WORDS.items()} | {"and": ["and"]}
    texts: dict[str, None] = {}
    while len(texts) < n:
        length = int(np.clip(round(rng.lognormal(2.4, 0.5)), low, high))
        chosen = [known[ORDER[at % len(ORDER)]] for at in range(length)]
        words = [some[int(rng.random() * len(some))] for some in chosen]
        texts[" ".join(words).capitalize() + "."] = None
    return list(texts)


def clips(folder: Path, n: int) -> list[str]:
    """Paths of n WAV files of 48 kHz and 1 to 10 seconds, with chirps and noise."""
    import soundfile

    where = folder / f"clips-{n}"
    paths = [where / f"{number:04}.wav" for number in range(n)]
    if (where / "done").exists():
        return list(map(str, paths))
    where.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        rng = np.random.default_rng(number)
        t = np.arange(int(rng.uniform(*CLIP_SECONDS) * CLIP_HZ)) / CLIP_HZ
        samples = rng.normal(0, rng.uniform(0.005, 0.05), len(t))
        for _ in range(rng.integers(1, 5)):
            low, rise = rng.uniform(80, 4000), rng.uniform(-200, 200)
            samples += (
                0.15 * np.sin(2 * np.pi * (low * t + rise * t**2 / 2)) * (1 + np.sin(t * rng.uniform(1, 20)))
            )
        soundfile.write(path, samples.astype(np.float32), CLIP_HZ, subtype="PCM_16")
    (where / "done").touch()
    return list(map(str, paths))


def clustered(folder: Path, n: int, dim: int, queries: int) -> tuple[Path, Path]:
    """Clustered unit vectors (n, dim), like embeddings, and queries near some of them -> two .npy files.

    There is a cluster for every 200 vectors. A vector is its centre plus noise of 0.6 times the norm; a common mean is
    added to all, as in CLIP's spaces (Liang et al., 2022, "Mind the gap").
    """
    base, query_file = folder / f"clustered-{n}-{dim}.npy", folder / f"clustered-{n}-{dim}-queries.npy"
    if base.exists() and query_file.exists():
        return base, query_file
    rng = np.random.default_rng(n)
    centres = rng.standard_normal((max(1, n // 200), dim), dtype=np.float32)
    mean = rng.standard_normal(dim, dtype=np.float32) / 2

    def sample(count: int) -> NDArray[np.float32]:
        own = centres[rng.integers(0, len(centres), count)]
        rows = own + 0.6 * rng.standard_normal((count, dim), dtype=np.float32) + mean
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    folder.mkdir(parents=True, exist_ok=True)
    np.save(query_file, sample(queries))
    partial = base.with_suffix(".part.npy")
    rows = np.lib.format.open_memmap(partial, "w+", np.float32, (n, dim))
    for start in range(0, n, 50_000):
        rows[start : start + 50_000] = sample(min(50_000, n - start))
    rows.flush()
    partial.replace(base)
    return base, query_file


def of_starter(folder: Path, n: int, queries: int) -> tuple[Path, Path]:
    """The starter's vectors of n distinct captions, and of other captions as queries -> two .npy files."""
    import multimodal as mm

    base, query_file = folder / f"starter-{n}.npy", folder / f"starter-{n}-queries.npy"
    if not (base.exists() and query_file.exists()):
        space = mm.load("starter")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(query_file, space.encode(captions(queries, seed=2)))
        np.save(base, space.encode(captions(n, seed=1), batch_size=256))
    return base, query_file


def many_small_files(folder: Path, n: int) -> Path:
    """A folder of n distinct files: half are texts of a line, half images of 48 x 48 pixels."""
    import PIL.Image

    where = folder / f"small-files-{n}"
    if (where / "done.json").exists():
        return where / "files"
    texts = captions(n // 2, seed=3)
    rng = np.random.default_rng(4)
    for number in range(n):
        inside = where / "files" / f"{number // 1000:03}"
        if number % 1000 == 0:
            inside.mkdir(parents=True, exist_ok=True)
        if number % 2:
            (inside / f"{number:06}.txt").write_text(texts[number // 2], encoding="utf-8")
        else:
            pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).resize((48, 48)).save(inside / f"{number:06}.png")
    (where / "done.json").write_text(json.dumps({"files": n}))
    return where / "files"


def usual_folder() -> Path:
    """The folder for data that is kept between runs: $MULTIMODAL_BENCH, or a temporary folder."""
    import tempfile

    return Path(os.environ.get("MULTIMODAL_BENCH", Path(tempfile.gettempdir()) / "multimodal-bench"))
