"""The process that holds a Ray cluster of this machine: `python -m multimodal.core.cluster.head`.

It is a process of its own for two reasons. Ray starts its daemons by fork, which is unsafe in a process in which
LanceDB runs threads. And the daemons must not outlive the job: they end when this process does, and it ends when its
standard input closes, which the operating system sees to even if the job is killed.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile

OBJECT_STORE_BYTES = 256 << 20  # what workers return is small: the vectors go to the index by another way
PREFIX = "mm-ray-"  # short: the paths of sockets below it are limited to 107 bytes
STARTS = 3  # Ray gives its daemons 30 s to start, which is too little on a machine that is very busy


def main() -> None:
    """Starts the cluster, prints its address as JSON, and waits for the end of standard input."""
    import ray

    folder = tempfile.mkdtemp(prefix=PREFIX)
    try:
        for remaining in reversed(range(STARTS)):
            try:
                _start(int(sys.argv[1]), folder)
                break
            except Exception:  # Ray raises no narrower one
                ray.shutdown()
                if not remaining:
                    raise
        print(json.dumps({"address": ray.get_runtime_context().gcs_address}), flush=True)
        sys.stdin.read()
        ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(n_cpus: int, folder: str) -> None:
    import ray

    ray.init(
        num_cpus=n_cpus,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=OBJECT_STORE_BYTES,
        _temp_dir=folder,
    )


if __name__ == "__main__":
    main()
