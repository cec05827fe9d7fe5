"""Lanes, on an encoder whose vectors, pace and faults are known."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.encoder import Encoder
from multimodal.core.items import Item, Text
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.server import batching
from multimodal.server.batching import ItemError, Lane, choose_window
from multimodal.server.config import Batching, ServerConfig
from multimodal.server.errors import ApiError
from multimodal.server.metrics import Metrics
from tests.server.conftest import running

WAIT_S = 20


class Recorder(Encoder):
    """The vector of a text of n characters is (n, 1) as a unit vector. "bad" cannot be prepared; "poison" fails a batch
    that holds it. Records its batches; waits for `gate` before each."""

    modality = Modality.TEXT
    dim = 2

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        texts = [str(item.source) for item in items]
        if "bad" in texts:
            raise ValueError("cannot be prepared")
        lengths = torch.tensor([[len(text), 1.0] for text in texts])
        self.texts = texts
        return {"lengths": lengths, "poisoned": torch.tensor("poison" in texts)}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        self.batches.append(list(self.texts))
        self.entered.set()
        assert self.gate.wait(WAIT_S)
        if batch["poisoned"]:
            raise RuntimeError("a fault of the model")
        return batch["lengths"]

    def config(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}


@pytest.fixture
def encoder() -> Recorder:
    return Recorder()


def make_lane(encoder: Encoder, **sizes: int) -> Lane:
    lanes: list[Lane] = []
    lane = Lane(encoder, Batching(**sizes), Metrics().lane("text", lambda: len(lanes[0])))
    lanes.append(lane)
    return lane


def encode(lane: Lane, *texts: str) -> Any:
    return lane.encode([Text(text) for text in texts], [len(text) for text in texts])


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=60),
    st.integers(1, 12),
    st.integers(1, 6000),
    st.booleans(),
)
@settings(max_examples=12)
def test_a_window_holds_the_oldest_and_keeps_its_bounds(
    costs: list[int], items: int, cost: int, padded: bool
) -> None:
    chosen = choose_window(costs, items, cost, padded=padded)
    own = [costs[place] for place in chosen]
    assert 0 in chosen and len(set(chosen)) == len(chosen) <= items
    assert len(chosen) == 1 or (max(own) * len(own) if padded else sum(own)) <= cost
    between = [c for place, c in enumerate(costs) if place not in chosen and min(own) < c < max(own)]
    assert not between, "a window leaves out items between its cheapest and its dearest"


def test_requests_that_wait_together_are_computed_together(encoder: Recorder) -> None:
    async def run() -> None:
        lane = make_lane(encoder)
        encoder.gate.clear()
        first = asyncio.ensure_future(encode(lane, "x"))
        await asyncio.to_thread(encoder.entered.wait, WAIT_S)
        others = [asyncio.ensure_future(encode(lane, "a" * n, "b" * n)) for n in range(1, 20)]
        await asyncio.sleep(0)
        encoder.gate.set()
        await first
        for n, rows in enumerate(await asyncio.gather(*others), 1):
            assert np.allclose(rows, np.array([[n, 1], [n, 1]]) / np.hypot(n, 1))
        lane.close()
        assert [len(batch) for batch in encoder.batches] == [1, 38]

    asyncio.run(run())


def test_an_item_that_cannot_be_prepared_fails_alone(encoder: Recorder) -> None:
    async def run() -> None:
        lane = make_lane(encoder)
        encoder.gate.clear()
        first = asyncio.ensure_future(encode(lane, "x"))
        await asyncio.to_thread(encoder.entered.wait, WAIT_S)
        good = asyncio.ensure_future(encode(lane, "aa"))
        bad = asyncio.ensure_future(encode(lane, "aa", "bad"))
        poisoned = asyncio.ensure_future(encode(lane, "poison"))
        await asyncio.sleep(0)
        encoder.gate.set()
        assert (await first).shape == (await good).shape == (1, 2)
        with pytest.raises(ItemError, match="cannot be prepared") as caught:
            await bad
        assert caught.value.position == 1
        with pytest.raises(ItemError, match="a fault of the model"):
            await poisoned
        lane.close()

    asyncio.run(run())


def test_cancelled_items_are_not_computed(encoder: Recorder) -> None:
    async def run() -> None:
        lane = make_lane(encoder)
        encoder.gate.clear()
        first = asyncio.ensure_future(encode(lane, "x"))
        await asyncio.to_thread(encoder.entered.wait, WAIT_S)
        dropped = [asyncio.ensure_future(encode(lane, "dropped")) for _ in range(50)]
        await asyncio.sleep(0)
        for task in dropped:
            task.cancel()
        await asyncio.gather(*dropped, return_exceptions=True)
        kept = asyncio.ensure_future(encode(lane, "kept"))
        await asyncio.sleep(0)
        encoder.gate.set()
        await asyncio.gather(first, kept)
        lane.close()
        assert encoder.batches == [["x"], ["kept"]]

    asyncio.run(run())


def test_a_full_queue_refuses_and_a_stopping_lane_finishes_what_it_has(encoder: Recorder) -> None:
    async def run() -> None:
        lane = make_lane(encoder, capacity=3)
        encoder.gate.clear()
        first = asyncio.ensure_future(encode(lane, "x"))
        await asyncio.to_thread(encoder.entered.wait, WAIT_S)
        waiting = [asyncio.ensure_future(encode(lane, *"ab"[: n + 1])) for n in range(2)]  # three items
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as full:
            await encode(lane, "c")
        assert (full.value.status, full.value.headers["retry-after"]) == (429, "1")
        closing = threading.Thread(target=lane.close)
        closing.start()
        while not lane._closed:
            time.sleep(0.001)
        with pytest.raises(ApiError) as stopping:
            await encode(lane, "d")
        assert stopping.value.status == 503
        encoder.gate.set()
        assert [rows.shape for rows in await asyncio.gather(first, *waiting)] == [(1, 2), (1, 2), (2, 2)]
        await asyncio.to_thread(closing.join)

    asyncio.run(run())


def test_a_steady_stream_of_cheap_items_does_not_starve_a_dear_one(encoder: Recorder) -> None:
    async def run() -> None:
        lane = make_lane(encoder, items=4, tokens=40)
        encoder.gate.clear()
        tasks = [asyncio.ensure_future(encode(lane, "x"))]
        await asyncio.to_thread(encoder.entered.wait, WAIT_S)
        tasks += [asyncio.ensure_future(encode(lane, "y")) for _ in range(4)]
        tasks.append(asyncio.ensure_future(encode(lane, "z" * 30)))
        tasks += [asyncio.ensure_future(encode(lane, "y")) for _ in range(40)]
        await asyncio.sleep(0)
        encoder.gate.set()
        await asyncio.gather(*tasks)
        lane.close()
        place = next(place for place, batch in enumerate(encoder.batches) if "z" * 30 in batch)
        assert place <= 2  # as soon as it is the oldest

    asyncio.run(run())


def test_the_next_batch_is_prepared_while_one_is_computed(
    encoder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "N_CORES", 2)

    async def run() -> None:
        lane = make_lane(encoder, items=1)
        lane._prepare_s, lane._compute_s = 1.0, 1.0  # as measured on images
        encoder.gate.clear()
        tasks = [asyncio.ensure_future(encode(lane, text)) for text in ("a", "bb", "ccc")]
        while not lane._prepared:
            await asyncio.sleep(0.001)
        assert [entry.item.source for entry in lane._prepared[0].entries] == ["bb"]
        encoder.gate.set()
        rows = await asyncio.gather(*tasks)
        assert np.allclose([row[0, 0] / row[0, 1] for row in rows], [1, 2, 3])
        lane.close()

    asyncio.run(run())


def test_requests_whose_clients_leave_are_not_computed(encoder: Recorder) -> None:
    config = ServerConfig(
        port=0, spaces=("recorder",), preloaded={"recorder": Space([encoder], name="recorder")}
    )
    with running(config) as api, contextlib.ExitStack() as stack:
        encoder.entered.clear()
        encoder.gate.clear()
        stack.callback(encoder.gate.set)
        first = threading.Thread(target=api.post, args=("/v1/embeddings", {"input": "first"}))
        first.start()
        assert encoder.entered.wait(WAIT_S)
        body = json.dumps({"input": ["dropped"]})
        head = f"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        for _ in range(20):
            with socket.create_connection((api.host, api.port)) as leaving:
                leaving.sendall(f"{head}content-type: application/json\r\n\r\n{body}".encode())
        end = time.monotonic() + WAIT_S
        while b'multimodal_dropped_total{reason="disconnect"} 20.0' not in api.get("/metrics").body:
            assert time.monotonic() < end
            time.sleep(0.01)
        encoder.gate.set()
        first.join()
        assert api.post("/v1/embeddings", {"input": "last"}).status == 200
        assert encoder.batches[1:] == [["first"], ["last"]]  # after the warm-up
