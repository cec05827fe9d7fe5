"""Hardware, package versions and GEMM peak of the machine that a benchmark runs on."""

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
    """The versions of Python and of the installed packages that benchmarks use."""
    installed = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def hardware() -> dict[str, Any]:
    """Processor, relevant instruction sets, cores available to this process, and memory in GB."""
    cpuinfo = _cpuinfo()
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    return {
        "cpu": cpuinfo.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": cores(),
        "threads a core": _threads_a_core(cpuinfo),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()}",
    }


def cores() -> int:
    """The number of cores that this process may use, where the system states it."""
    ours = getattr(os, "sched_getaffinity", None)
    return len(ours(0)) if ours is not None else os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    """The /proc/cpuinfo entry of the first processor; empty without this file."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _threads_a_core(cpuinfo: dict[str, str]) -> int | None:
    try:
        return int(cpuinfo["siblings"]) // int(cpuinfo["cpu cores"])
    except (KeyError, ValueError, ZeroDivisionError):
        return None


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def gemm_gflops(device: str = "cpu", side: int = GEMM_SIDE) -> dict[str, float]:
    """GFLOP/s of a large matrix product in this process, by precision: the median of GEMM_TIMES, after a warm-up.

    Uses torch's threads. On a CPU, CPU time counts instead of wall time, so that other load does not change the result.
    """
    import torch

    peaks: dict[str, float] = {}
    place = torch.device(device)
    on_cpu = place.type == "cpu"
    clock, threads = (time.process_time, torch.get_num_threads()) if on_cpu else (time.perf_counter, 1)
    for dtype in (torch.float32, torch.bfloat16):
        layer = torch.nn.Linear(side, side, bias=False, device=place, dtype=dtype)
        values = torch.randn(side, side, device=place, dtype=dtype)
        times = []
        with torch.inference_mode():
            for turn in range(GEMM_TIMES + 3):
                started = clock()
                layer(values)
                if place.type != "cpu":
                    torch.accelerator.synchronize(place)
                if turn >= 3:
                    times.append((clock() - started) / threads)
        peaks[str(dtype).removeprefix("torch.")] = round(2 * side**3 / statistics.median(times) / 1e9, 1)
    return peaks


def flops(call: Any) -> int:
    """FLOP of a call of a torch model, counted by torch; a multiplication and an addition count as two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # torch does not count its fused attention kernel
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return int(counter.get_total_flops())
