"""What a benchmark ran on: the processor as the system tells it, the versions of everything, and the peak of a GEMM."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

PACKAGES = (
    *("multimodal", "torch", "torchvision", "torchaudio", "numpy", "pillow", "lancedb", "open_clip_torch"),
    *("transformers", "sentence-transformers", "txtai", "faiss-cpu", "usearch", "openvino"),
)
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8", "asimd", "sve")
GEMM_SIDE = 2048  # 2 × 2048³ = 17 GFLOP
GEMM_TIMES = 9


def versions() -> dict[str, str]:
    """Of Python and of every package that takes part; one that is not there is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """The processor's name, the instructions that matter here, cores of this process, and memory in GB."""
    told = _cpuinfo()
    flags = set((told.get("flags") or told.get("Features") or "").split())
    return {
        "cpu": told.get("model name") or platform.processor() or platform.machine(),
        "flags": [one for one in FLAGS if one in flags],
        "cores": cores(),
        "threads a core": _threads_a_core(told),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()}",
    }


def cores() -> int:
    """Those this process may use, where the system tells."""
    ours = getattr(os, "sched_getaffinity", None)
    return len(ours(0)) if ours is not None else os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    """Of the first processor; empty where there is no such file."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _threads_a_core(told: dict[str, str]) -> int | None:
    try:
        return int(told["siblings"]) // int(told["cpu cores"])
    except (KeyError, ValueError, ZeroDivisionError):
        return None


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def gemm_gflops(device: str = "cpu", side: int = GEMM_SIDE) -> dict[str, float]:
    """What this process reaches now in one large product of matrices, in GFLOP/s by precision: the median of
    GEMM_TIMES, after three that do not count. The threads are those torch has; on a CPU their own seconds count, so
    that the figure holds beside other work."""
    import torch

    found: dict[str, float] = {}
    place = torch.device(device)
    on_cpu = place.type == "cpu"
    clock, threads = (time.process_time, torch.get_num_threads()) if on_cpu else (time.perf_counter, 1)
    for dtype in (torch.float32, torch.bfloat16):
        layer = torch.nn.Linear(side, side, bias=False, device=place, dtype=dtype)
        given = torch.randn(side, side, device=place, dtype=dtype)
        times = []
        with torch.inference_mode():
            for turn in range(GEMM_TIMES + 3):
                started = clock()
                layer(given)
                if place.type != "cpu":
                    torch.accelerator.synchronize(place)
                if turn >= 3:
                    times.append((clock() - started) / threads)
        found[str(dtype).removeprefix("torch.")] = round(2 * side**3 / statistics.median(times) / 1e9, 1)
    return found


def flops(call: Any) -> int:
    """Of one call of a torch model, counted by torch as it runs: a multiplication and an addition are two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(
        False
    )  # one kernel for all of an attention: torch counts none of it
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())
