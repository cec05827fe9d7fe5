"""One competitor in its own process: python -m benchmarks.harness.worker MODULE NAME CORES FOLDER

Reads tasks as JSON lines and answers each with one. Its own process, so that memory is its own, and no library's
threads or caches help another's. MODULE.COMPETITORS[NAME](FOLDER) sets up and gives `work`; `work(inputs, out)` does a
part of the job, which is timed, and gives back what makes its vectors of it, which is not; None where it has none.
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
    """The most memory this process has had so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else KIB) / 1e6, 1)


def pin(cores: int) -> None:
    """Holds this process, and whatever threads it will make, to so many cores."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(cores)  # before anything reads them


def main() -> None:
    module, name, cores, folder = sys.argv[1:]
    # What libraries print must not get between the answers
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
