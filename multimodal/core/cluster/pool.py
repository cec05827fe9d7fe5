"""WorkerPool: workers on a cluster that take units of work, and may die at any moment.

A worker is a Ray actor that builds one object, the worker itself, and runs units on it one after the other. What a unit
yields arrives part by part. Two units are with each worker, so that it never waits for the next. A worker that dies is
replaced; which of its units are run again is decided by the caller, who knows which parts it has made use of.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from multimodal.core.cluster.connection import WorkerSize
from multimodal.core.errors import ClusterError
from multimodal.core.families import register_family, registered_families

UNITS_AHEAD = 2
START_S = 600.0  # a cluster that grows on demand takes minutes to add a machine
MAX_FAILED_STARTS = 3  # for each worker
CALL_S = 30.0


class Inbox:
    """What the caller answers to the questions of a running unit."""

    def __init__(self) -> None:
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, answer: Any) -> None:
        """Delivers an answer."""
        self._answers.put(answer)

    def get(self) -> Any:
        """Waits for the next answer."""
        return self._answers.get()


class Worker(Protocol):
    """What a pool builds on each of its actors."""

    def run(self, unit: Any, inbox: Inbox) -> Iterator[Any]:
        """Yields the parts of a unit."""
        ...


class Part(NamedTuple):
    """Something that a unit yielded."""

    number: int
    value: Any


class Finished(NamedTuple):
    """A unit is complete."""

    number: int


class Failed(NamedTuple):
    """A unit raised an error."""

    number: int
    error: Exception


class Lost(NamedTuple):
    """The worker that had a unit is gone. was_running: whether it was at work on this unit."""

    number: int
    was_running: bool


Event = Part | Finished | Failed | Lost


class Actor:
    """Runs on the cluster. build: a pickled function that makes the worker; unpickling it may load a model."""

    def __init__(self, build: bytes, n_threads: int, families: dict[str, str]) -> None:
        self._build, self._n_threads, self._families = build, n_threads, families
        self._worker: Worker | None = None
        self._inboxes: dict[int, Inbox] = {}

    def start(self) -> None:
        """Builds the worker, with the families that the caller has registered. Raises what that raises."""
        for name, path in self._families.items():
            register_family(name, path)
        self._worker = pickle.loads(self._build)()
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(self._n_threads)

    def run(self, number: int, unit: Any) -> Iterator[Any]:
        """Yields the parts of a unit."""
        if self._worker is not None:
            self._inboxes[number] = inbox = Inbox()
            try:
                yield from self._worker.run(unit, inbox)
            finally:
                del self._inboxes[number]

    def answer(self, number: int, value: Any) -> None:
        """Answers a question of a running unit. Runs beside `run`."""
        if (inbox := self._inboxes.get(number)) is not None:
            inbox.put(value)


@dataclass(eq=False)
class _Member:
    """An actor. starting: the reference that resolves when it is ready; None from then on. units: those that it has, by
    number, in the order in which it runs them."""

    handle: Any
    starting: Any
    units: dict[int, Any] = field(default_factory=dict)


class WorkerPool:
    """A number of workers. It must be closed; `with` does so.

    Args:
        build: Makes a worker; called on the cluster.
        size: How many, and what each reserves.
    """

    def __init__(self, build: Callable[[], Worker], size: WorkerSize) -> None:
        import ray

        self.size = size
        self._build = ray.cloudpickle.dumps(build)
        self._actor = ray.remote(
            num_cpus=size.n_cpus,
            num_gpus=size.n_gpus,
            max_restarts=0,
            concurrency_groups={"work": 1, "answers": 1},
        )(Actor)
        self._members: list[_Member] = []
        self._failed_starts = 0
        self._began = time.monotonic()
        for _ in range(size.n):
            self._add()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def room(self) -> int:
        """How many more units the workers take that are ready now."""
        return sum(UNITS_AHEAD - len(member.units) for member in self._ready)

    @property
    def n_units(self) -> int:
        """How many units the workers have."""
        return sum(len(member.units) for member in self._members)

    @property
    def _ready(self) -> list[_Member]:
        return [member for member in self._members if member.starting is None]

    def submit(self, number: int, unit: Any) -> None:
        """Gives a unit to the worker that has the fewest. There must be room."""
        member = min(self._ready, key=lambda member: len(member.units))
        run = member.handle.run.options(concurrency_group="work", num_returns="streaming")
        member.units[number] = run.remote(number, unit)

    def answer(self, number: int, value: Any) -> None:
        """Answers a question that a unit asked by yielding it."""
        for member in self._members:
            if number in member.units:
                member.handle.answer.options(concurrency_group="answers").remote(number, value)

    def wait(self, timeout_s: float) -> list[Event]:
        """What has happened since the last call; waits for something up to timeout_s seconds.

        Raises what building a worker raises, and ClusterError if no worker starts.
        """
        import ray

        waiting = {member.starting: member for member in self._members if member.starting is not None}
        owners = {stream: member for member in self._members for stream in member.units.values()}
        pending = [*owners, *waiting]
        if not pending:
            return []
        ready, _ = ray.wait(pending, num_returns=1, timeout=timeout_s, fetch_local=False)
        if ready:
            ready, _ = ray.wait(pending, num_returns=len(pending), timeout=0, fetch_local=False)
        events: list[Event] = []
        for reference in ready:
            if (member := waiting.get(reference)) is not None:
                self._started(member)
            elif (member := owners[reference]) in self._members:  # it may have died a moment ago
                events += self._next(member, reference)
        self._check_started()
        return events

    def close(self) -> None:
        """Ends the workers."""
        for member in self._members:
            self._kill(member)
        self._members = []

    def _add(self) -> None:
        handle = self._actor.remote(self._build, self.size.n_threads, registered_families())
        self._members.append(_Member(handle, handle.start.options(concurrency_group="work").remote()))

    def _started(self, member: _Member) -> None:
        import ray

        try:
            ray.get(member.starting)
        except ray.exceptions.RayTaskError as error:
            raise _cause(error) from None
        except ray.exceptions.RayError as error:
            self._failed_starts += 1
            self._replace(member)
            if self._failed_starts > MAX_FAILED_STARTS * self.size.n and not self._ready:
                raise ClusterError(
                    f"the workers on the Ray cluster end while they start ({_reason(error)}); give fewer workers "
                    "if memory runs out, and see the logs of the cluster"
                ) from error
        else:
            member.starting = None

    def _check_started(self) -> None:
        import ray

        if self._ready:
            self._began = time.monotonic()
        elif time.monotonic() - self._began > START_S:
            free = {
                name: amount for name, amount in ray.available_resources().items() if name in ("CPU", "GPU")
            }
            raise ClusterError(
                f"no worker started within {START_S:.0f} s: each asks for {self.size.n_cpus:g} CPUs and "
                f"{self.size.n_gpus:g} GPUs, free are {free or 'none'}; wait for the other jobs of the cluster, or "
                "give fewer workers"
            )

    def _next(self, member: _Member, stream: Any) -> Iterator[Event]:
        """The next event of a unit of a worker; if the worker is gone, that of each of its units."""
        import ray

        number = next(number for number, other in member.units.items() if other is stream)
        try:
            part = Part(number, ray.get(next(stream)))
        except StopIteration:
            del member.units[number]
            yield Finished(number)
        except ray.exceptions.RayTaskError as error:
            del member.units[number]
            yield Failed(number, _cause(error))
        except ray.exceptions.RayError:  # a part that was on a machine that is gone counts as the unit itself
            running = next(iter(member.units), None)
            lost = [Lost(other, other == running) for other in member.units]
            self._replace(member)
            yield from lost
        else:
            yield part

    def _replace(self, member: _Member) -> None:
        self._members.remove(member)
        self._kill(member)
        self._add()

    def _kill(self, member: _Member) -> None:
        import ray

        with contextlib.suppress(Exception):  # it is gone, or the cluster is
            ray.kill(member.handle, no_restart=True)


def _cause(error: Any) -> Exception:
    """The error that was raised on a worker, as it was raised there."""
    cause = error.cause if isinstance(error.cause, Exception) else error
    cause.add_note(f"raised by a worker on the cluster:\n{error}")  # its text is the traceback
    return cause


def _reason(error: BaseException) -> str:
    """The last line of what Ray says of an actor: the error, if it was raised there."""
    return next(
        (line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__
    )
