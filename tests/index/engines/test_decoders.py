"""Decoders take over the preparation of a worker, and may die. They are threads of this process here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from multimodal.core.errors import EncoderError
from multimodal.core.items import Item, Text
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.index.ingest.engines.decoders import (
    FIRST_BATCHES,
    MEASURED_BATCHES,
    DecoderLost,
    Decoders,
    StageTimes,
)
from multimodal.testing import FakeEncoder

SECONDS_PER_ITEM = 0.01


class Slow(FakeEncoder):
    def prepare(self, items: Sequence[Item]) -> dict[str, Any]:
        time.sleep(SECONDS_PER_ITEM * len(items))
        return super().prepare(items)


class LocalDecoder:
    """lives: how many batches it prepares before it dies. starts: how often it is asked before it is ready."""

    n_threads = 1

    def __init__(self, lives: int = 1000, starts: int = 0) -> None:
        self.lives, self.starts, self.encoder = lives, starts, Slow(Modality.TEXT, failing=["bad"])

    def is_ready(self) -> bool:
        self.starts -= 1
        return self.starts < 0

    def prepare(self, modality: Modality, items: Sequence[Item]) -> dict[str, Any]:
        self.lives -= 1
        if self.lives < 0:
            raise DecoderLost
        return self.encoder.prepare(items)


def prepared(decoders: Sequence[LocalDecoder]) -> tuple[Decoders, list[dict[str, Any]], Space]:
    """24 batches of two texts, prepared by a worker of one thread and its decoders."""
    space = Space([Slow(Modality.TEXT, failing=["bad"])], name="slow")
    divided = Decoders(decoders, n_threads=1)
    divided.serve(space)
    batches = [[Text(f"{number} a"), Text(f"{number} b")] for number in range(24)]
    with ThreadPoolExecutor(divided.n_threads) as pool:
        return divided, list(pool.map(space.encoders[Modality.TEXT].prepare, batches)), space


def test_decoders_prepare_most_batches_and_their_loss_costs_none() -> None:
    own = Slow(Modality.TEXT)
    divided, batches, space = prepared([LocalDecoder(), LocalDecoder(starts=3), LocalDecoder(lives=1)])
    assert 12 <= divided.n_batches < 24
    for number, batch in enumerate(batches):
        expected = own.prepare([Text(f"{number} a"), Text(f"{number} b")])
        assert all((batch[name] == expected[name]).all() for name in expected)
    for _ in range(3):  # wherever it is prepared
        with pytest.raises(EncoderError):
            space.encoders[Modality.TEXT].prepare([Text("bad")])


def measured(decoders: Decoders, prepare_s: float, encode_s: float, n: int = MEASURED_BATCHES) -> None:
    for _ in range(n):
        decoders.times.prepared(prepare_s)
        decoders.times.encoded(encode_s)


def test_decoders_are_missing_as_far_as_preparing_takes_longer_than_encoding() -> None:
    decoders = Decoders([], n_threads=2)
    measured(decoders, 9.0, 1.0, FIRST_BATCHES)  # what is done once
    measured(decoders, 0.010, 0.002, MEASURED_BATCHES - 1)
    assert decoders.n_missing(1) == 0  # too few
    measured(decoders, 0.010, 0.002, 1)
    assert decoders.n_missing(1) == 3  # five threads keep the encoder busy
    decoders.add([LocalDecoder(), LocalDecoder()])
    measured(decoders, 0.010, 0.002)
    assert decoders.n_missing(4) == 1
    measured(decoders, 0.008, 0.002)
    assert decoders.n_missing(1) == 0  # four threads are enough
    assert StageTimes().take() is None


def test_the_times_of_a_space_are_measured_while_it_encodes() -> None:
    space = Space([Slow(Modality.TEXT)], name="slow")
    decoders = Decoders([], n_threads=1)
    decoders.serve(space)
    encoder = space.encoders[Modality.TEXT]
    for _ in range(FIRST_BATCHES + MEASURED_BATCHES):
        items = [Text("a"), Text("b")]
        assert encoder.encode_prepared(encoder.prepare(items), items).shape[0] == 2
    assert decoders.n_missing(1) >= 1
