"""1,000 JPEGs of mixed sizes -> an index on disk: python -m benchmarks.images [--cores 2] [--small]

A ViT-B/32 with the same random weights in open_clip's README loop, sentence-transformers, txtai and multimodal. Each
library is used as in its README, and writes what it searches in: a NumPy array, a txtai index, a multimodal index.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.benchmark import Benchmark
from benchmarks.harness.data import photos
from benchmarks.harness.models import CLIP_SIZES, clip_folders
from benchmarks.harness.peers import indexed, open_clip_model, saved, txtai_embeddings
from benchmarks.harness.worker import Work

BATCH = 32


def size_of(folder: Path) -> str:
    return "tiny" if folder.name == "small" else "ViT-B/32"


def open_clip_loop(folder: Path) -> Work:
    """One image at a time, as in the README."""
    import torch
    from PIL import Image

    model, preprocess, _ = open_clip_model(folder, size_of(folder))

    def work(paths: list[str], out: Path) -> Callable[[], Any]:
        rows = []
        for path in paths:
            image = preprocess(Image.open(path)).unsqueeze(0)
            with torch.no_grad():
                vectors = model.encode_image(image)
                vectors /= vectors.norm(dim=-1, keepdim=True)
            rows.append(vectors)
        return saved(torch.cat(rows).numpy(), out)

    return work


def open_clip_batches(folder: Path) -> Work:
    """The same in batches of 32 images."""
    import torch
    from PIL import Image

    model, preprocess, _ = open_clip_model(folder, size_of(folder))

    def work(paths: list[str], out: Path) -> Callable[[], Any]:
        rows = []
        for start in range(0, len(paths), BATCH):
            images = torch.stack([preprocess(Image.open(path)) for path in paths[start : start + BATCH]])
            with torch.no_grad():
                vectors = model.encode_image(images)
                vectors /= vectors.norm(dim=-1, keepdim=True)
            rows.append(vectors)
        return saved(torch.cat(rows).numpy(), out)

    return work


def sentence_transformers(folder: Path) -> Work:
    from PIL import Image
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(clip_folders(folder, size_of(folder))[0]), device="cpu")

    def work(paths: list[str], out: Path) -> Callable[[], Any]:
        return saved(model.encode([Image.open(path) for path in paths], batch_size=BATCH), out)

    return work


def txtai(folder: Path) -> Work:
    from PIL import Image

    embeddings = txtai_embeddings(clip_folders(folder, size_of(folder))[0])

    def work(paths: list[str], out: Path) -> Callable[[], Any]:
        embeddings.index((path, Image.open(path), None) for path in paths)
        embeddings.save(str(out))
        return lambda: embeddings.batchtransform([Image.open(path) for path in paths])

    return work


def ours(name: str, **options: Any) -> Callable[[Path], Work]:
    """name: the family, "openclip" or "hf", which selects the checkpoint."""

    def set_up(folder: Path) -> Work:
        import numpy as np

        import multimodal as mm

        hf, openclip = clip_folders(folder, size_of(folder))
        space = mm.load(
            f"hf/{hf}" if name == "hf" else f"openclip/local-dir:{openclip}", device="cpu", **options
        )
        space.encode(np.zeros((8, 8, 3), np.uint8))  # OpenVINO compiles at the first call
        return lambda paths, out: indexed(space, [Path(path) for path in paths], paths, out)

    return set_up


COMPETITORS: dict[str, Callable[[Path], Work]] = {
    "open_clip, one by one": open_clip_loop,
    "open_clip, batches of 32": open_clip_batches,
    "sentence-transformers": sentence_transformers,
    "txtai": txtai,
    "multimodal, exact": ours("openclip"),
    "multimodal, fast": ours("openclip", precision="auto", decode="fast"),
    "multimodal, fast (hf)": ours("hf", precision="auto", decode="fast"),
    "multimodal, OpenVINO": ours("openclip", engine="openvino"),
    "multimodal, OpenVINO fast": ours("openclip", engine="openvino", precision="auto", decode="fast"),
}


def gflop(folder: Path, small: bool) -> float:
    """GFLOP of the image tower per image."""
    return image_gflop("tiny" if small else "ViT-B/32")


def image_gflop(size: str) -> float:
    """GFLOP of matrix products; a multiplication and an addition count as two."""
    width, layers, _, patch, side = CLIP_SIZES[size]["vision"]
    n = (side // patch) ** 2
    tokens = n + 1
    block = 2 * tokens * width * 12 * width + 4 * tokens * tokens * width
    return (2 * n * 3 * patch * patch * width + layers * block + 2 * width * CLIP_SIZES[size]["dim"]) / 1e9


def inputs(folder: Path, n: int, small: bool) -> Sequence[str]:
    clip_folders(folder, "tiny" if small else "ViT-B/32")  # once, before several processes need it
    return photos(folder, n, small=small)


BENCHMARK = Benchmark(
    name="images",
    module="benchmarks.images",
    unit="images",
    n=1000,
    n_small=24,
    inputs=inputs,
    gflop=gflop,
    truth="open_clip, one by one",
    references=("open_clip, one by one", "sentence-transformers"),
    bfloat16=tuple(name for name in COMPETITORS if "fast" in name),
)

if __name__ == "__main__":
    BENCHMARK.run(list(COMPETITORS), sys.argv[1:])
