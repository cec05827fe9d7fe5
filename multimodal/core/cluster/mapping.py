"""map_inputs: a function of many inputs, such as files, on the workers of a cluster.

Each input has exactly one outcome, whatever workers die meanwhile. An input by which several workers die has a
ClusterError as its outcome; it does not end the map.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from multimodal.core.cluster.connection import connected
from multimodal.core.cluster.options import ClusterOptions
from multimodal.core.cluster.pool import Event, Failed, Finished, Inbox, Lost, Part, WorkerPool
from multimodal.core.errors import ClusterError

MAX_LOSSES = 2  # of a worker by a unit, after which it is divided
WAIT_S = 1.0

Work = Callable[[Sequence[Any]], Sequence[Any]]


class _Unit(NamedTuple):
    """Inputs for one worker. start: the position of the first. n_losses: how many workers have died at work on it."""

    start: int
    inputs: Sequence[Any]
    n_losses: int = 0


class _MapWorker:
    """Applies the function on a machine of the cluster."""

    def __init__(self, build: Callable[[], Work]) -> None:
        self._work = build()

    def run(self, unit: Sequence[Any], inbox: Inbox) -> Iterator[Any]:
        yield list(self._work(unit))


def map_inputs(
    build: Callable[[], Work],
    inputs: Sequence[Any],
    options: ClusterOptions,
    *,
    unit_size: int,
    wants_gpus: bool = True,
) -> Iterator[tuple[int, list[Any]]]:
    """Applies a function to inputs in units, in any order.

    Args:
        build: Makes the function, on each worker once: inputs -> one outcome each. It must be picklable.
        inputs: The inputs, which must be picklable.
        options: Where the workers run.
        unit_size: Inputs in a unit.
        wants_gpus: Whether the function may use a GPU.

    Yields:
        (position of the first input, outcomes) of each unit when it is complete.

    Raises:
        MissingExtra: Ray is not installed.
        ClusterError: The cluster cannot be reached, or no worker starts.
        Exception: What `build` or the function raises.
    """
    starts = range(0, len(inputs), unit_size)
    units = deque(_Unit(start, inputs[start : start + unit_size]) for start in starts)
    with connected(options, wants_gpus=wants_gpus) as size:
        size = size._replace(n=max(1, min(size.n, len(units))))
        with WorkerPool(partial(_MapWorker, build), size) as pool:
            yield from _run(units, pool)


def _run(units: deque[_Unit], pool: WorkerPool) -> Iterator[tuple[int, list[Any]]]:
    under_way: dict[int, _Unit] = {}
    outcomes: dict[int, list[Any]] = {}
    n_submitted = 0
    while units or under_way:
        while units and pool.room > 0:
            n_submitted += 1
            under_way[n_submitted] = units.popleft()
            pool.submit(n_submitted, under_way[n_submitted].inputs)
        for event in pool.wait(WAIT_S):
            yield from _handle(event, under_way, outcomes, units)


def _handle(
    event: Event, under_way: dict[int, _Unit], outcomes: dict[int, list[Any]], units: deque[_Unit]
) -> Iterator[tuple[int, list[Any]]]:
    if isinstance(event, Part):
        outcomes[event.number] = event.value
        return
    unit = under_way.pop(event.number)
    if isinstance(event, Finished):
        yield unit.start, outcomes.pop(event.number)
    elif isinstance(event, Failed):
        raise event.error
    else:
        outcomes.pop(event.number, None)
        yield from _repeat(unit, event, units)


def _repeat(unit: _Unit, lost: Lost, units: deque[_Unit]) -> Iterator[tuple[int, list[Any]]]:
    """Puts a unit back. One by which several workers died is divided; a single input has an error as its outcome."""
    n_losses = unit.n_losses + lost.was_running
    if n_losses < MAX_LOSSES:
        units.appendleft(unit._replace(n_losses=n_losses))
    elif len(unit.inputs) > 1:
        middle = len(unit.inputs) // 2
        for start, half in ((middle, unit.inputs[middle:]), (0, unit.inputs[:middle])):
            units.appendleft(_Unit(unit.start + start, half, MAX_LOSSES - 1 if len(half) > 1 else 0))
    else:
        error = ClusterError(
            "the process of the worker ended while this was processed, more than once; it may need more memory than "
            "the machine has, or break a decoder"
        )
        yield unit.start, [error]
