"""The lane of calls that take seconds: a bounded queue, and an end for whom nobody waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from multimodal.core.progress import step
from multimodal.server.errors import ApiError
from multimodal.server.metrics import Metrics
from multimodal.server.tasks.lane import Call, Finished, Progress, Stopped, TaskLane, Written

WAIT_S = 10.0


@pytest.fixture
def lane() -> Iterator[TaskLane]:
    lane = TaskLane("test", 2, Metrics().lane("test", lambda: 0))
    yield lane
    lane.close()


class Endless:
    """Work that steps until it is stopped."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()

    def __call__(self, call: Call) -> None:
        self.began.set()
        try:
            while not self.ended.wait(0.001):
                step()
        finally:
            self.ended.set()


def run(test: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.wait_for(test(), WAIT_S))


def test_a_call_reports_progress_and_text_before_its_result(lane: TaskLane) -> None:
    def work(call: Call) -> str:
        call.progress(1, 2)
        step("hello")
        step()
        return "done"

    async def test() -> list[Any]:
        return [event async for event in lane.events(work)]

    assert run(test) == [Progress(1, 2), Written("hello"), Finished("done")]


def test_calls_that_wait_for_another_server_run_at_once() -> None:
    lane = TaskLane("test", 8, Metrics().lane("test", lambda: 0), n_workers=3)
    together = threading.Barrier(3)

    async def test() -> list[Any]:
        return await asyncio.gather(*(lane.run(lambda call: together.wait(WAIT_S)) for _ in range(3)))

    assert sorted(run(test)) == [0, 1, 2]
    lane.close()


def test_a_running_call_stops_at_its_next_step_when_nobody_waits(lane: TaskLane) -> None:
    endless = Endless()

    async def test() -> None:
        waiting = asyncio.ensure_future(lane.run(endless))
        await asyncio.to_thread(endless.began.wait, WAIT_S)
        waiting.cancel()
        await asyncio.to_thread(endless.ended.wait, WAIT_S)

    run(test)
    assert lane.run_in_thread(lambda call: 3) == 3  # the worker is free again


def test_a_full_queue_is_a_429_and_whoever_leaves_it_makes_room(lane: TaskLane) -> None:
    endless, calls = Endless(), []

    async def test() -> None:
        running = asyncio.ensure_future(lane.run(endless))
        await asyncio.to_thread(endless.began.wait, WAIT_S)
        waiting = [asyncio.ensure_future(lane.run(calls.append)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="2 items are waiting already"):
            await lane.run(calls.append)
        waiting[0].cancel()
        await asyncio.sleep(0.01)
        last = asyncio.ensure_future(lane.run(calls.append))
        await asyncio.sleep(0.01)
        endless.ended.set()
        await asyncio.gather(running, waiting[1], last)

    run(test)
    assert len(calls) == 2


def test_an_error_of_a_call_is_raised_where_it_is_awaited(lane: TaskLane) -> None:
    def work(call: Call) -> None:
        raise ValueError("no such thing")

    async def test() -> None:
        with pytest.raises(ValueError, match="no such thing"):
            await lane.run(work)

    run(test)
    with pytest.raises(ValueError, match="no such thing"):
        lane.run_in_thread(work)


def test_closing_stops_the_running_call_and_refuses_new_ones(lane: TaskLane) -> None:
    endless = Endless()
    stopped: list[Stopped] = []

    def call() -> None:
        try:
            lane.run_in_thread(endless)
        except Stopped as error:
            stopped.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert endless.began.wait(WAIT_S)
    lane.close()
    assert endless.ended.is_set()
    thread.join(WAIT_S)
    assert len(stopped) == 1
    with pytest.raises(ApiError, match="stopping"):
        lane.run_in_thread(endless)
