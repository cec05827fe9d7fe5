"""Connects to a Ray cluster, or starts one on this machine for as long as a job lasts.

Ray's log lines and warnings are kept from the user. A cluster that is started here listens on the loopback interface
only, requires a token that each process generates, and reports no usage statistics.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from multimodal.core.cluster.options import ClusterOptions, require_extra
from multimodal.core.errors import ClusterError
from multimodal.core.families import register_family

HEAD_STOP_S = 20.0
BYTES_PER_WORKER = 1 << 30  # a worker with a small model takes 0.8 GB
SHOWN_ERROR_CHARS = 400
# Ray's own variable: by default it uses the loopback interface on these two systems only.
LOOPBACK_UNLESS = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

_token = secrets.token_hex(32)


class WorkerSize(NamedTuple):
    """How many workers there are, and what each of them reserves. n_decoders: further processes of each, which reserve
    as many cores. max_decoders: how many more it may start if its GPU waits for cores."""

    n: int
    n_cpus: float
    n_gpus: float
    n_decoders: int = 0
    max_decoders: int = 0

    @property
    def n_threads(self) -> int:
        """Threads for what runs on cores."""
        return max(1, int(self.n_cpus))


@contextlib.contextmanager
def connected(options: ClusterOptions, *, wants_gpus: bool = True) -> Iterator[WorkerSize]:
    """Connects this process to the cluster while the block runs. A connection that exists is used, and kept.

    wants_gpus: whether the work may run on a GPU.
    Raises MissingExtra without Ray, ClusterError if the cluster cannot be reached or started.
    """
    require_extra()
    ray = sys.modules.get("ray")  # not imported here: Ray reads its settings when it is
    if ray is not None and ray.is_initialized():
        yield _worker_size(ray.cluster_resources(), options, wants_gpus, _nodes())
        return
    address = options.address or os.environ.get("RAY_ADDRESS")
    with contextlib.ExitStack() as stack:
        if address is None:
            stack.enter_context(_private_cluster())
            address = stack.enter_context(_local_cluster())
        yield _worker_size(stack.enter_context(_session(address)), options, wants_gpus, _nodes())


def remote_call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function on the cluster, in a process of its own. Raises what it raises."""
    import ray

    task = ray.remote(num_cpus=min(1.0, float(ray.cluster_resources().get("CPU", 1.0))), max_calls=1)(
        function
    )
    try:
        return ray.get(task.remote(*arguments))
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from None


def _call(families: dict[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    for name, path in families.items():
        register_family(name, path)
    return function(*arguments)


@contextlib.contextmanager
def _session(address: str) -> Iterator[dict[str, Any]]:
    """Connects to a cluster -> what it has, such as {"CPU": 8.0}."""
    import ray

    try:
        with _quiet(), _signals_kept():
            ray.init(address=address, configure_logging=False, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        raise ClusterError(
            f"no Ray cluster at {address!r} ({_short(error)}); start one with `ray start --head`, or leave the address "
            "out to use this machine"
        ) from error
    try:
        with _no_messages():
            yield ray.cluster_resources()
    finally:
        with _quiet(), _signals_kept():
            ray.shutdown()


@contextlib.contextmanager
def _local_cluster() -> Iterator[str]:
    """Runs a cluster on this machine -> its address."""
    package = str(Path(__file__).resolve().parents[3])
    paths = [path for path in (os.environ.get("PYTHONPATH"), package) if path]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "multimodal.core.cluster.head", str(_n_cores())]
    with (
        tempfile.TemporaryFile() as log,
        # In a session of its own, so that Ctrl-C in a terminal reaches only this process.
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            start_new_session=True,
        ) as process,
    ):
        stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)
        try:
            line = stdout.readline()
            if not line.strip():
                process.wait()
                log.seek(0)
                lines = log.read().decode(errors="replace").strip().splitlines()
                reason = next(reversed(lines), "")[:SHOWN_ERROR_CHARS]
                raise ClusterError(
                    f"Ray does not start on this machine ({reason or 'no message'}); run `ray start --head` to see "
                    "why, or leave out engine='ray'"
                )
            yield str(json.loads(line)["address"])
        finally:
            stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(HEAD_STOP_S)
            process.kill()


def _nodes() -> list[dict[str, float]]:
    """What each machine of the cluster has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _worker_size(
    resources: dict[str, Any],
    options: ClusterOptions,
    wants_gpus: bool,
    nodes: Sequence[Mapping[str, float]] = (),
) -> WorkerSize:
    """Divides what a cluster has among the workers. Raises ClusterError if it has no cores or too few GPUs."""
    n_cpus, n_gpus = float(resources.get("CPU", 0)), float(resources.get("GPU", 0))
    if not n_cpus:
        raise ClusterError("the Ray cluster has no CPUs to run workers on; add a node to it")
    per_worker = options.gpus_per_worker
    if per_worker is None:
        per_worker = 1.0 if n_gpus and wants_gpus else 0.0
    if per_worker > n_gpus:
        raise ClusterError(
            f"each worker asks for {per_worker:g} GPUs and the Ray cluster has {n_gpus:g}; give gpus_per_worker=0 to "
            "run on CPUs, or add GPUs"
        )
    n = options.workers
    if n is None:
        by_memory = int(float(resources.get("memory", 0)) / BYTES_PER_WORKER) or int(n_cpus)
        n = max(1, int(n_gpus / per_worker) if per_worker else min(int(n_cpus), by_memory))
    n_decoders = options.decoders_per_worker or 0
    if options.workers is None and not per_worker:
        n = max(1, n // (1 + n_decoders))
    share = n_cpus / (n * (1 + n_decoders))
    if per_worker:  # so that the workers of a node fit on it
        with_gpus = [node for node in nodes or [resources] if node.get("GPU", 0) >= per_worker]
        share = min([share, *(node.get("CPU", 0) * per_worker / node["GPU"] for node in with_gpus)])
    n_reserved = float(int(share)) if share >= 1 else int(share * 1000) / 1000
    is_automatic = bool(per_worker and n_reserved and options.decoders_per_worker is None)
    n_spare = int((n_cpus - n * n_reserved) / (n * n_reserved)) if is_automatic else 0
    return WorkerSize(n, n_reserved, per_worker, n_decoders, max(0, n_spare))


@contextlib.contextmanager
def _private_cluster() -> Iterator[None]:
    """Has the cluster that is started, and this process, require the token and use the loopback interface."""
    values = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token, LOOPBACK_UNLESS: "0"}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        _read_settings()
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _read_settings()


def _read_settings() -> None:
    """Has Ray read its settings again, if it was imported earlier."""
    if "ray" not in sys.modules:
        return
    with contextlib.suppress(ImportError, AttributeError):  # another version of Ray, without tokens
        from ray._private import ray_constants
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

        Config.initialize("")
        AuthenticationTokenLoader.instance().reset_cache()
        default = not ray_constants.IS_WINDOWS_OR_OSX
        ray_constants.ENABLE_RAY_CLUSTER = ray_constants.env_bool(LOOPBACK_UNLESS, default)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _no_messages() -> Iterator[None]:
    """Keeps what Ray says of workers that died from standard output, which may be JSON."""
    module = sys.modules.get("ray._private.worker")
    name = "print_to_stdstream"
    before = getattr(module, name, None)
    if module is None or before is None:  # another version of Ray
        yield
        return
    setattr(module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Restores the handler of SIGTERM, which Ray replaces."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:SHOWN_ERROR_CHARS] or type(error).__name__


def _n_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
