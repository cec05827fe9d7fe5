"""200 audio clips with CLAP -> an index on disk: python -m benchmarks.audio [--cores 2] [--small]

The architecture of laion/clap-htsat-unfused with random weights, in the loop of transformers' documentation, its
zero-shot-audio-classification pipeline, and multimodal. The clips are 1 to 10 seconds long, at 48 kHz as for CLAP.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.benchmark import Benchmark
from benchmarks.harness.data import CLIP_HZ, clips
from benchmarks.harness.models import clap_folder
from benchmarks.harness.peers import indexed, saved
from benchmarks.harness.worker import Work

BATCH = 8
LABELS = ["a dog", "a bell", "rain"]


def size_of(folder: Path) -> str:
    return "tiny" if folder.name == "small" else "clap-htsat-unfused"


def _read(path: str) -> Any:
    import soundfile

    samples, rate_hz = soundfile.read(path, dtype="float32")
    if rate_hz != CLIP_HZ:
        raise ValueError(f"{path} has {rate_hz} Hz, expected {CLIP_HZ}")
    return samples


def transformers_pipeline(folder: Path) -> Work:
    """Returns label scores and no vectors, and encodes the labels again for each clip."""
    from transformers import pipeline

    classify = pipeline("zero-shot-audio-classification", model=str(clap_folder(folder, size_of(folder))))

    def work(paths: list[str], out: Path) -> Callable[[], Any]:
        for path in paths:
            classify(_read(path), candidate_labels=LABELS)
        return lambda: None

    return work


def transformers_loop(at_once: int) -> Callable[[Path], Work]:
    """`at_once` clips at a time, with the processor and get_audio_features."""

    def set_up(folder: Path) -> Work:
        import torch
        from transformers import AutoProcessor, ClapModel

        where = clap_folder(folder, size_of(folder))
        model, processor = ClapModel.from_pretrained(where).eval(), AutoProcessor.from_pretrained(where)

        def work(paths: list[str], out: Path) -> Callable[[], Any]:
            rows = []
            for start in range(0, len(paths), at_once):
                clips_read = [_read(path) for path in paths[start : start + at_once]]
                inputs_ = processor(audio=clips_read, sampling_rate=CLIP_HZ, return_tensors="pt")
                with torch.no_grad():
                    output = model.get_audio_features(**inputs_)
                rows.append(getattr(output, "pooler_output", output))
            return saved(torch.cat(rows).numpy(), out)

        return work

    return set_up


def ours(**options: Any) -> Callable[[Path], Work]:
    def set_up(folder: Path) -> Work:
        import numpy as np

        import multimodal as mm

        space = mm.load(f"hf/{clap_folder(folder, size_of(folder))}", device="cpu", **options)
        silence = {"array": np.zeros(CLIP_HZ, np.float32), "sampling_rate": CLIP_HZ}
        space.encode(mm.Audio(silence))  # OpenVINO compiles at the first call
        return lambda paths, out: indexed(space, [Path(path) for path in paths], paths, out)

    return set_up


COMPETITORS: dict[str, Callable[[Path], Work]] = {
    "transformers' pipeline": transformers_pipeline,
    "transformers, one by one": transformers_loop(1),
    "transformers, batches of 8": transformers_loop(BATCH),
    "multimodal, exact": ours(),
    "multimodal, auto": ours(precision="auto"),
    "multimodal, bfloat16": ours(precision="bfloat16"),
    "multimodal, OpenVINO": ours(engine="openvino"),
    "multimodal, OpenVINO bfloat16": ours(engine="openvino", precision="bfloat16"),
}


def gflop(folder: Path, small: bool) -> float:
    """GFLOP of the audio tower per clip, as counted by torch."""
    import torch
    from transformers import ClapModel

    from benchmarks.harness.machine import flops

    model = ClapModel.from_pretrained(clap_folder(folder, "tiny" if small else "clap-htsat-unfused")).eval()
    mel = torch.zeros(1, 1, 1001, 64)
    return (
        flops(
            lambda: model.get_audio_features(
                input_features=mel, is_longer=torch.zeros(1, 1, dtype=torch.bool)
            )
        )
        / 1e9
    )


def inputs(folder: Path, n: int, small: bool) -> Sequence[str]:
    clap_folder(folder, "tiny" if small else "clap-htsat-unfused")
    return clips(folder, n)


BENCHMARK = Benchmark(
    name="audio",
    module="benchmarks.audio",
    unit="clips",
    n=200,
    n_small=8,
    inputs=inputs,
    gflop=gflop,
    truth="transformers, one by one",
    references=("transformers' pipeline", "transformers, one by one"),
    bfloat16=tuple(name for name in COMPETITORS if "auto" in name or "bfloat16" in name),
)

if __name__ == "__main__":
    BENCHMARK.run(list(COMPETITORS), sys.argv[1:])
