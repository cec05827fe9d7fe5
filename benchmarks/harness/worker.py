"""The process of a competitor: python -m benchmarks.harness.worker MODULE NAME CORES FOLDER

Reads tasks as JSON lines and answers each with a JSON line. Competitors run in separate processes, so that memory is
measured separately and no library uses the threads or caches of another. MODULE.COMPETITORS[NAME](FOLDER) sets up and
returns `work`. `work(inputs, out)` is timed; it returns a function, which is not timed, that returns the vectors, or
None if there are none.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from multimodal.core.errors import MissingExtra

Vectors = Callable[[], Any]
Work = Callable[[list[Any], Path], Vectors]
KIB = 1024


def peak_mb() -> float:
    """The peak memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: ru_maxrss also counts the parent at the time of the fork
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return round(int(line.split()[1]) * KIB / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else KIB) / 1e6, 1)


def pin(cores: int) -> None:
    """Restricts this process and its threads to a number of cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(cores)  # before any library reads them


def main() -> None:
    module, name, cores, folder = sys.argv[1:]
    # Output of libraries must not mix with the answers
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    pin(int(cores))
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    competitor = importlib.import_module(module).COMPETITORS[name]
    try:
        work: Work = competitor(Path(folder))
    except (ModuleNotFoundError, MissingExtra) as error:
        answer(missing=error.package if isinstance(error, MissingExtra) else str(error.name))
        return
    answer(peak_mb=peak_mb())
    for line in sys.stdin:
        _do(json.loads(line), work, answer)


def _do(task: dict[str, Any], work: Work, answer: Callable[..., None]) -> None:
    import numpy as np

    out = Path(task["out"])
    started, computed = time.perf_counter(), time.process_time()
    vectors = work(task["inputs"], out)
    seconds, core_s = time.perf_counter() - started, time.process_time() - computed
    peak = peak_mb()  # before the vectors are gathered for the comparison
    if task["keep"] and (rows := vectors()) is not None:
        np.save(out.with_suffix(".npy"), rows)
    answer(seconds=seconds, core_s=core_s, peak_mb=peak)


if __name__ == "__main__":
    main()
