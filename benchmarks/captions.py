"""2,000 captions of mixed length -> an index on disk: python -m benchmarks.captions [--cores 2] [--small]

The text tower of a ViT-B/32 with the same random weights, in open_clip's README loop, sentence-transformers, txtai and
multimodal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import data
from benchmarks.harness.benchmark import Benchmark
from benchmarks.harness.models import CLIP_SIZES, CONTEXT, clip_folders
from benchmarks.harness.peers import indexed, open_clip_model, saved, txtai_embeddings
from benchmarks.harness.worker import Work
from benchmarks.images import BATCH, size_of


def open_clip(at_once: int) -> Callable[[Path], Work]:
    """`at_once` texts at a time, as in the README."""

    def set_up(folder: Path) -> Work:
        import torch

        model, _, tokenizer = open_clip_model(folder, size_of(folder))

        def work(texts: list[str], out: Path) -> Callable[[], Any]:
            rows = []
            for start in range(0, len(texts), at_once):
                tokens = tokenizer(texts[start : start + at_once])
                with torch.no_grad():
                    vectors = model.encode_text(tokens)
                    vectors /= vectors.norm(dim=-1, keepdim=True)
                rows.append(vectors)
            return saved(torch.cat(rows).numpy(), out)

        return work

    return set_up


def sentence_transformers(folder: Path) -> Work:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(clip_folders(folder, size_of(folder))[0]), device="cpu")
    return lambda texts, out: saved(model.encode(texts, batch_size=BATCH), out)


def txtai(folder: Path) -> Work:
    embeddings = txtai_embeddings(clip_folders(folder, size_of(folder))[0])

    def work(texts: list[str], out: Path) -> Callable[[], Any]:
        embeddings.index((str(number), text, None) for number, text in enumerate(texts))
        embeddings.save(str(out))
        return lambda: embeddings.batchtransform(texts, "data")

    return work


def ours(name: str, **options: Any) -> Callable[[Path], Work]:
    """name: the family, "openclip" or "hf", which selects the checkpoint."""

    def set_up(folder: Path) -> Work:
        import multimodal as mm

        hf, openclip = clip_folders(folder, size_of(folder))
        space = mm.load(
            f"hf/{hf}" if name == "hf" else f"openclip/local-dir:{openclip}", device="cpu", **options
        )
        space.encode(["a caption"])  # OpenVINO compiles at the first call
        return lambda texts, out: indexed(space, texts, [f"{n:05}" for n in range(len(texts))], out)

    return set_up


COMPETITORS: dict[str, Callable[[Path], Work]] = {
    "open_clip, one by one": open_clip(1),
    "open_clip, batches of 32": open_clip(BATCH),
    "sentence-transformers": sentence_transformers,
    "txtai": txtai,
    "multimodal, exact": ours("openclip"),
    "multimodal, auto": ours("openclip", precision="auto"),
    "multimodal, bfloat16": ours("openclip", precision="bfloat16"),
    "multimodal, OpenVINO": ours("openclip", engine="openvino"),
    "multimodal, OpenVINO bfloat16": ours("openclip", engine="openvino", precision="bfloat16"),
    "multimodal, exact (hf)": ours("hf"),
    "multimodal, auto (hf)": ours("hf", precision="auto"),
    "multimodal, bfloat16 (hf)": ours("hf", precision="bfloat16"),
}


def gflop(folder: Path, small: bool) -> float:
    """GFLOP of the text tower over the whole context, as open_clip computes it for texts of any length.

    Libraries that skip padding compute less, so that a share of the peak may exceed 1.
    """
    sizes = CLIP_SIZES["tiny" if small else "ViT-B/32"]
    width, layers, _ = sizes["text"]
    block = 2 * CONTEXT * width * 12 * width + 4 * CONTEXT * CONTEXT * width
    return (layers * block + 2 * width * sizes["dim"]) / 1e9


def inputs(folder: Path, n: int, small: bool) -> Sequence[str]:
    clip_folders(folder, "tiny" if small else "ViT-B/32")
    return data.captions(n)


BENCHMARK = Benchmark(
    name="captions",
    module="benchmarks.captions",
    unit="captions",
    n=2000,
    n_small=120,
    inputs=inputs,
    gflop=gflop,
    truth="open_clip, batches of 32",
    references=("open_clip, batches of 32", "sentence-transformers"),
    bfloat16=tuple(name for name in COMPETITORS if "auto" in name or "bfloat16" in name),
)

if __name__ == "__main__":
    BENCHMARK.run(list(COMPETITORS), sys.argv[1:])
