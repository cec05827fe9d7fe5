"""A process that holds a simulated Ray cluster of several nodes: `python -m tests.index.engines.host`.

It prints the address, then takes lines on its standard input: "add" adds a node with two GPUs, "remove" kills it, as if
its power were cut. The cluster ends with the input.
"""

from __future__ import annotations

import shutil
import sys
import tempfile

from ray.cluster_utils import Cluster

STORE_BYTES = 80 << 20


def main() -> None:
    folder = tempfile.mkdtemp(prefix="mm-ray-")
    head = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": STORE_BYTES, "temp_dir": folder}
    cluster = Cluster()
    cluster.add_node(**head)
    print(cluster.address, flush=True)
    node = None
    for line in sys.stdin:
        if line.strip() == "add":
            node = cluster.add_node(num_cpus=2, num_gpus=2, object_store_memory=STORE_BYTES)
        elif node is not None:
            cluster.remove_node(node, allow_graceful=False)
        print("done", flush=True)
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
