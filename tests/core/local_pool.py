"""A pool whose workers run in this process, in the place of those of map_inputs."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from multimodal.core.cluster import mapping
from multimodal.core.cluster.connection import WorkerSize
from multimodal.core.cluster.pool import Event, Finished, Inbox, Lost, Part

Kills = Callable[[Any], bool]


class LocalPool:
    """One worker. Units and what becomes of them are pickled, as on a cluster. kills: whether an input ends it."""

    def __init__(self, build: Callable[[], Any], kills: Kills) -> None:
        self.worker, self.kills, self.units = build(), kills, dict[int, bytes]()

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def room(self) -> int:
        return 2 - len(self.units)

    def submit(self, number: int, unit: Sequence[Any]) -> None:
        self.units[number] = pickle.dumps(unit)

    def wait(self, timeout_s: float) -> list[Event]:
        number = next(iter(self.units))
        unit = pickle.loads(self.units[number])
        if any(map(self.kills, unit)):
            lost: list[Event] = [Lost(other, other == number) for other in self.units]
            self.units.clear()
            return lost
        del self.units[number]
        parts = pickle.loads(pickle.dumps(list(self.worker.run(unit, Inbox()))))
        return [*(Part(number, part) for part in parts), Finished(number)]


@contextlib.contextmanager
def mapped_here(kills: Kills = lambda value: False) -> Iterator[None]:
    """Has engine="ray" of what uses map_inputs run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        size = WorkerSize(1, 1.0, 0.0)
        patch.setattr(mapping, "connected", lambda *_, **__: contextlib.nullcontext(size))
        patch.setattr(mapping, "WorkerPool", lambda build, _: LocalPool(build, kills))
        yield
