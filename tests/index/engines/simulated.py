"""A pool whose workers run in this process, one step at a time, and die when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from multimodal.core.cluster.connection import WorkerSize
from multimodal.core.cluster.pool import UNITS_AHEAD, Event, Failed, Finished, Inbox, Lost, Part
from multimodal.index.ingest.engines.units import Unit
from multimodal.index.ingest.engines.worker import IndexWorker


class SimulatedPool:
    """In the place of a WorkerPool.

    dies: called with the unit that a worker is about to continue, and how many parts of it have arrived; whether the
    worker dies instead.
    """

    def __init__(self, worker: IndexWorker, n: int, dies: Callable[[Unit, int], bool]) -> None:
        self.size = WorkerSize(n, 1.0, 0.0)
        self.worker, self.dies = worker, dies
        self.units: list[dict[int, Unit]] = [{} for _ in range(n)]
        self.inboxes: dict[int, Inbox] = {}
        self.streams: dict[int, Iterator[Any]] = {}
        self.n_parts: dict[int, int] = {}
        self.sizes: list[int] = []
        self.n_deaths = 0

    def __enter__(self) -> SimulatedPool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def room(self) -> int:
        return sum(UNITS_AHEAD - len(units) for units in self.units)

    @property
    def n_units(self) -> int:
        return sum(map(len, self.units))

    def submit(self, number: int, unit: Unit) -> None:
        min(self.units, key=len)[number] = unit
        self.sizes.append(len(unit.records))
        self.inboxes[number], self.n_parts[number] = Inbox(), 0
        self.streams[number] = self.worker.run(unit, self.inboxes[number])

    def answer(self, number: int, value: Any) -> None:
        self.inboxes[number].put(value)

    def wait(self, timeout_s: float) -> list[Event]:
        return [event for units in self.units if units for event in self._step(units)]

    def _step(self, units: dict[int, Unit]) -> Iterator[Event]:
        number, unit = next(iter(units.items()))
        if self.dies(unit, self.n_parts[number]):
            self.n_deaths += 1
            for other in list(units):
                yield Lost(other, was_running=other == number)
            units.clear()
            return
        try:
            value = next(self.streams[number])
        except StopIteration:
            del units[number]
            yield Finished(number)
        except Exception as error:
            del units[number]
            yield Failed(number, error)
        else:
            self.n_parts[number] += 1
            yield Part(number, value)
