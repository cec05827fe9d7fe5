"""Jobs on a real Ray cluster and an object store: a killed driver, a second driver, and a driver without a model.

What happens when workers die at chosen moments is tested with simulated workers, in test_driver.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray")  # the extra `ray`
pytest.importorskip("lance")

from multimodal.core.cluster import connection
from multimodal.core.cluster.options import ClusterOptions
from multimodal.core.errors import ClusterError, IndexBusy
from multimodal.index import Index
from multimodal.index.storage.remote import lock as remote_lock
from tests import plugins
from tests.index import remote_store
from tests.index.ingest import faults

ROOT = Path(__file__).parents[3]
N_FILES, N_BAD = 200, 12
MAX_DRIVER_MB = 350  # about 300 with the client of an object store; a process with torch takes 400 or more
DRIVER = (
    plugins.registration("slow")
    + """
import sys
from multimodal.core.cluster.options import ClusterOptions
from multimodal.index import IngestConfig
from multimodal.index.cluster_index import opened_on_cluster
from multimodal.index.storage.deferred import import_without

import_without("pyarrow.dataset", "pandas")  # as the command line does
_, address, index, folder = sys.argv
with opened_on_cluster(index, None, ClusterOptions(address, workers=1), {}) as opened:
    opened.add(folder, config=IngestConfig(commit_interval_s=0.2))
"""
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster on this machine, to which this process is connected."""
    try:
        stack = contextlib.ExitStack()
        stack.enter_context(connection.connected(ClusterOptions()))
    except ClusterError as error:
        pytest.skip(f"Ray gives its daemons 30 s to start: {error}")
    with stack:
        yield


def address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cluster") / "files"
    faults.make_files(root, N_FILES, N_BAD)
    for sound in root.rglob("*.wav"):
        sound.unlink()
    return root


def test_after_a_killed_driver_nothing_is_lost_or_doubled_on_a_store(
    cluster: None, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster is older than the store: its own environment names neither endpoint nor credentials. The first driver
    has them in its environment, the second as options."""
    url = "s3://bucket/index.lance"
    monkeypatch.setenv("MULTIMODAL_INDEX_CACHE", str(tmp_path / "cache"))
    with plugins.family("slow"), remote_store.served() as endpoint:
        remote_store.request("PUT", f"{endpoint}/bucket")
        plain = Index.create(tmp_path / "plain.lance", "slow")
        expected = plain.add(folder, batch_size=8)
        options = {name.lower(): value for name, value in remote_store.VARIABLES.items()}
        index = Index.create(url, "slow", storage_options=options | {"aws_endpoint": endpoint})
        environment = os.environ | remote_store.VARIABLES
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER, address(), url, str(folder)],
            env=environment | {"AWS_ENDPOINT_URL": endpoint, "PYTHONPATH": str(ROOT)},
        )
        while len(index) == 0:
            assert driver.poll() is None
            time.sleep(0.05)
        status, maps = (Path(f"/proc/{driver.pid}/{name}").read_text() for name in ("status", "maps"))
        with pytest.raises(IndexBusy, match=f"process {driver.pid}"):
            index.add(folder, engine="ray", workers=1, wait=0)
        driver.send_signal(signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL
        peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        assert "libtorch" not in maps
        assert peak_kb < MAX_DRIVER_MB << 10, f"the driver takes {peak_kb / 1024:.0f} MB"
        kept = len({provenance.source for _, provenance in index._table.provenances()})
        assert 0 < kept < expected.added

        monkeypatch.setattr(remote_lock, "CLOCK_STEP_S", -remote_lock.LEASE_S)  # as if the lease was over
        report = index.add(folder, engine="ray", workers=1)
        assert report.unchanged >= kept
        assert report.unchanged + report.added == expected.added
        assert len(report.failed) == len(expected.failed)
        assert faults.assert_same(index.path, plain.path) >= expected.added
        assert index.search("apple", k=5) == plain.search("apple", k=5)


def test_a_cluster_that_cannot_be_used_is_one_clear_error(cluster: None) -> None:
    with (
        pytest.raises(ClusterError, match="each worker asks for 9 GPUs and the Ray cluster has"),
        connection.connected(ClusterOptions(gpus_per_worker=9)),
    ):
        pass
    size = connection._worker_size({"CPU": 8.0, "GPU": 2.0}, ClusterOptions(), wants_gpus=True)
    assert size == (2, 4.0, 1.0, 0, 0) and size.n_threads == 4
    assert connection._worker_size({"CPU": 8.0, "GPU": 2.0}, ClusterOptions(), wants_gpus=False).n_gpus == 0
    # a machine with a GPU and few cores, and one with cores only, which decoders use
    nodes = [{"CPU": 1.0, "GPU": 1.0}, {"CPU": 3.0}]
    both = {"CPU": 4.0, "GPU": 1.0}
    assert connection._worker_size(both, ClusterOptions(), True, nodes) == (1, 1.0, 1.0, 0, 3)
    decoders = ClusterOptions(decoders_per_worker=3)
    assert connection._worker_size(both, decoders, True, nodes) == (1, 1.0, 1.0, 3, 0)
    assert connection._worker_size({"CPU": 8.0}, decoders, True) == (2, 1.0, 0.0, 3, 0)
    none = ClusterOptions(decoders_per_worker=0)
    assert connection._worker_size(both, none, True, nodes).max_decoders == 0
    assert connection._worker_size({"CPU": 2.0}, ClusterOptions(workers=8), wants_gpus=True).n_cpus == 0.25
