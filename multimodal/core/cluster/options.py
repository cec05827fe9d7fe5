"""ClusterOptions: on which machines a job runs, and with how many workers."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

from multimodal.core.checks import whole_number
from multimodal.core.errors import InvalidInput, MissingExtra

ENGINE = "ray"
EXTRA_PACKAGES = {"ray": "ray", "lance": "pylance"}  # module -> package


@dataclass(frozen=True)
class ClusterOptions:
    """Where the workers of a job run.

    Attributes:
        address: Of a Ray cluster, as "10.0.0.1:6379" or "ray://head:10001". None: the cluster that `ray.init` has
            connected this process to, or that RAY_ADDRESS names, or else this machine.
        workers: How many. None: one for each GPU, or without GPUs one for each core, as far as memory allows.
        gpus_per_worker: GPUs of each worker; 0.5 lets two share one. None: 1 if the cluster has GPUs and the model may
            run on one, otherwise 0.
        decoders_per_worker: Further processes of each worker, without a GPU, that only decode. None: as many as the
            first units show to be needed, of the cores that no worker reserves; without GPUs none.

    Raises:
        InvalidInput: A number is out of range.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    decoders_per_worker: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            whole_number(self.workers, "workers")
        if self.decoders_per_worker is not None:
            whole_number(self.decoders_per_worker, "decoders_per_worker", least=0)
        gpus: object = self.gpus_per_worker
        if gpus is not None and (
            isinstance(gpus, bool) or not isinstance(gpus, int | float) or not 0 <= gpus < math.inf
        ):
            raise InvalidInput(
                f"gpus_per_worker must be a number of at least 0, such as 1 or 0.5, got {gpus!r}"
            )


def cluster_options(
    engine: str | None,
    address: str | None,
    workers: int | None,
    gpus_per_worker: float | None,
    decoders_per_worker: int | None = None,
) -> ClusterOptions | None:
    """The arguments of a call that may run on a cluster -> its options; None: it runs in this process.

    Raises InvalidInput for an unknown engine, or options of a cluster without one.
    """
    if engine not in (None, ENGINE):
        raise InvalidInput(f"engine must be {ENGINE!r}, or None for this process, got {engine!r}")
    given = {"address": address, "workers": workers, "gpus_per_worker": gpus_per_worker}
    given["decoders_per_worker"] = decoders_per_worker
    named = [name for name, value in given.items() if value is not None]
    if engine is None and named:
        raise InvalidInput(
            f"{' and '.join(named)} given without engine={ENGINE!r}: give that too, or leave them out"
        )
    if engine is None:
        return None
    return ClusterOptions(address, workers, gpus_per_worker, decoders_per_worker)


def require_extra(*modules: str) -> None:
    """Raises MissingExtra if Ray, or another module of the extra that the caller needs, is not installed."""
    for module in ("ray", *modules):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(f"engine={ENGINE!r}", package=EXTRA_PACKAGES.get(module, module), extra=ENGINE)
