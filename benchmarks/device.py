"""Images per second on a device, and the share of its peak: python -m benchmarks.device --device cuda

Measures ViT-B/32 and ViT-L/14 with random weights and the starter, in float32 and bfloat16: the model alone, on batches
on the device, and the whole path from pixels in memory to vectors, with preprocessing. The peak is that of a large
matrix product, measured in the same run.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import machine
from benchmarks.harness.benchmark import arguments, keep
from benchmarks.harness.models import CLIP_SIZES, clip_folders
from benchmarks.harness.report import draw_bars, machine_line

PRECISIONS = ("float32", "bfloat16")
WARM = 3


def spaces(folder: Path, sizes: Sequence[str], device: str, precision: str) -> dict[str, Callable[[], Any]]:
    """{model: a function that loads it}."""
    import multimodal as mm

    def clip(size: str) -> Callable[[], Any]:
        name = f"openclip/local-dir:{clip_folders(folder, size)[1]}"
        return lambda: mm.load(name, device=device, precision=precision)

    return {size: clip(size) for size in sizes} | {
        "starter": lambda: mm.load("starter", device=device, precision=precision)
    }


def measured(space: Any, device: str, batch: int, times: int) -> dict[str, float]:
    """Rates of the image tower ("model": batches on the device; "whole": images in memory), and GFLOP per image."""
    import torch

    import multimodal as mm

    encoder = space.encoders[mm.Modality.IMAGE]
    rng = np.random.default_rng(0)
    images = [mm.Image(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)) for _ in range(batch)]
    place = torch.device(device)
    single = encoder.prepare(images[:1])
    batch_tensors = {name: tensor.to(place) for name, tensor in encoder.prepare(images).items()}

    def forward() -> None:
        with torch.inference_mode():
            encoder.forward(batch_tensors)
        if place.type != "cpu":
            torch.accelerator.synchronize(place)

    return {
        "gflop each": machine.flops(lambda: encoder.forward(single)) / 1e9,
        "model": batch / median_s(forward, times),
        "whole": batch / median_s(lambda: encoder.encode(images, batch_size=batch), times),
    }


def median_s(call: Callable[[], Any], times: int) -> float:
    """The median seconds of a call, after WARM calls."""
    taken = []
    for turn in range(WARM + times):
        started = time.perf_counter()
        call()
        if turn >= WARM:
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def name_of(device: str) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = arguments(__doc__ or "", rounds=10)
    parser.add_argument(
        "--device", default="auto", help='as torch names it; "auto" for the accelerator, if any'
    )
    parser.add_argument(
        "--batch", type=int, help="images per batch (default: 256 on an accelerator, 16 on a CPU)"
    )
    args = parser.parse_args(argv)
    from multimodal.core.backends.runtime import Runtime

    device = str(Runtime(device=args.device).torch_device)
    batch = args.batch or (4 if args.small else 16 if device == "cpu" else 256)
    sizes = ["tiny"] if args.small else [size for size in CLIP_SIZES if size != "tiny"]
    times = 2 if args.small else args.rounds
    peaks = machine.gemm_gflops(device, side=512 if args.small else 2048 if device == "cpu" else 8192)
    table: dict[str, dict[str, float]] = {}
    for precision in PRECISIONS:
        for name, load in spaces(args.data / "device", sizes, device, precision).items():
            rates = measured(load(), device, batch, times)
            rates["share of peak"] = rates["model"] * rates["gflop each"] / peaks[precision]
            table[f"{name}, {precision}"] = rates
    result = {"benchmark": "device", "device": device, "device name": name_of(device), "batch": batch,
             "gemm gflop/s": peaks, "hardware": machine.hardware(), "versions": machine.versions(),
             "summary": table}  # fmt: skip
    title = f"device-{device.replace(':', '-')}{'-small' * args.small}"
    keep(result, args.results, title)
    print(f"{machine_line(result)}\n{name_of(device)}, batches of {batch}, GEMM peak in GFLOP/s: "
          f"float32 {peaks['float32']:,.0f}, bfloat16 {peaks['bfloat16']:,.0f}")  # fmt: skip
    print("\n| | model, images/s | with preparing | GFLOP each | share of GEMM peak |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, rates in table.items():
        print(f"| {name} | {rates['model']:,.1f} | {rates['whole']:,.1f} | {rates['gflop each']:.2f} | "
              f"{100 * rates['share of peak']:.0f} % |")  # fmt: skip
    draw_bars({f"multimodal, {name}": rates["model"] for name, rates in table.items()},
              f"images a second, the model alone, {name_of(device)}", args.results / f"{title}.png",
              log=True)  # fmt: skip
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
