"""Decoders: processes that read and decode for a worker whose cores cannot keep its GPU busy.

The worker runs its job as without them. Only `prepare` of its encoders is divided among its own cores and the decoders,
and a decoder that dies takes nothing with it: what it had is prepared by the worker.

How many decoders are needed follows from two times: that of preparing a batch in one thread, over that of encoding it,
is the number of threads that keep the GPU busy.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from multimodal.core.encoder import Encoder
from multimodal.core.families import register_family, registered_families
from multimodal.core.items import Item
from multimodal.core.limits import Limits, limits
from multimodal.core.modality import Modality
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.encoder import Batch

BATCHES_AHEAD = 2  # for each thread of a decoder, so that it never waits for the next
FIRST_BATCHES = 4  # not measured: they include what is done once
MEASURED_BATCHES = 8
SHORTAGE = 1.2  # threads needed over threads there are, from which decoders are started


class DecoderLost(Exception):
    """The process of a decoder is gone."""


class Decoder(Protocol):
    """Prepares items elsewhere."""

    n_threads: int

    def is_ready(self) -> bool:
        """Whether its process has loaded the space."""
        ...

    def prepare(self, modality: Modality, items: Sequence[Item]) -> Batch:
        """See Encoder.prepare. Raises what that raises, and DecoderLost."""
        ...


class DecoderActor:
    """Runs on the cluster. build: a pickled function that loads the space of the worker, without a GPU."""

    def __init__(self, build: bytes, families: dict[str, str], most: Limits) -> None:
        import pickle

        for name, path in families.items():
            register_family(name, path)
        self._space: Space = pickle.loads(build)()
        # for as long as the process lives
        limits(max_pixels=most.max_pixels, max_seconds=most.max_seconds, max_bytes=most.max_bytes).__enter__()

    def start(self) -> None:
        """Returns when the space is loaded."""

    def prepare(self, modality: Modality, items: Sequence[Item]) -> Batch:
        """See Encoder.prepare."""
        return self._space.encoder_for(modality).prepare(items)


class RemoteDecoder:
    """A DecoderActor, as its worker sees it. It ends with the worker."""

    def __init__(self, build: Callable[[], Space], n_cpus: float, n_threads: int, most: Limits) -> None:
        import ray

        self.n_threads = n_threads
        actor = ray.remote(
            num_cpus=n_cpus,
            max_restarts=0,
            max_concurrency=n_threads,
            scheduling_strategy="SPREAD",  # to machines whose cores have nothing to do
        )(DecoderActor)
        self._handle = actor.remote(ray.cloudpickle.dumps(build), registered_families(), most)
        self._starting: Any = self._handle.start.remote()

    def is_ready(self) -> bool:
        """See Decoder. One whose machine has no free cores never is."""
        import ray

        if self._starting is None:
            return True
        ready, _ = ray.wait([self._starting], timeout=0)
        if ready:
            try:
                ray.get(self._starting)
            except ray.exceptions.RayError as error:
                raise DecoderLost(str(error)) from error
            self._starting = None
        return bool(ready)

    def prepare(self, modality: Modality, items: Sequence[Item]) -> Batch:
        """See Decoder."""
        import ray

        try:
            batch: Batch = ray.get(self._handle.prepare.remote(modality, list(items)))
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except ray.exceptions.RayError as error:
            raise DecoderLost(str(error)) from error
        return batch


class StageTimes:
    """How long batches take to be prepared in one thread of the worker, and to be encoded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_left_out = 0
        self._clear()

    def _clear(self) -> None:
        self._n_prepared = self._n_encoded = 0
        self._prepare_s = self._encode_s = 0.0

    def prepared(self, seconds: float) -> None:
        """A batch was prepared in the worker."""
        with self._lock:
            self._n_prepared += 1
            self._prepare_s += seconds

    def encoded(self, seconds: float) -> None:
        """A batch was encoded, which ends with its vectors."""
        with self._lock:
            if self._n_left_out < FIRST_BATCHES:
                self._n_left_out += 1
                self._clear()
                return
            self._n_encoded += 1
            self._encode_s += seconds

    def take(self) -> float | None:
        """How many threads of preparation keep the encoder busy, by the batches since the last call; None if these are
        too few."""
        with self._lock:
            if min(self._n_prepared, self._n_encoded) < MEASURED_BATCHES:
                return None
            n_threads = self._prepare_s / self._n_prepared / max(self._encode_s / self._n_encoded, 1e-9)
            self._clear()
            return n_threads


@dataclass(eq=False)
class _Place:
    """Where items are prepared. decoder: None for this process."""

    decoder: Decoder | None
    n_threads: int
    n_batches: int = 0

    @property
    def load(self) -> float:
        return self.n_batches / self.n_threads


class Decoders:
    """Divides the preparation of a worker among its own threads and its decoders.

    Attributes:
        n_batches: Batches that decoders have prepared.
        times: Of the batches so far.
    """

    def __init__(self, decoders: Sequence[Decoder], n_threads: int) -> None:
        self.n_batches = 0
        self.times = StageTimes()
        self._lock = threading.Lock()
        self._here = _Place(None, n_threads)
        self._places = [self._here, *(_Place(decoder, decoder.n_threads) for decoder in decoders)]

    @property
    def n_threads(self) -> int:
        """Threads of the worker that keep all of them busy."""
        return self._here.n_threads + BATCHES_AHEAD * sum(place.n_threads for place in self._places[1:])

    def add(self, decoders: Sequence[Decoder]) -> None:
        """Divides among more decoders."""
        with self._lock:
            self._places = [*self._places, *(_Place(decoder, decoder.n_threads) for decoder in decoders)]

    def n_missing(self, n_threads: int) -> int:
        """How many more decoders would keep the encoder busy, as far as the times since the last call tell.

        n_threads: of each of them.
        """
        n_needed, n_there = self.times.take(), sum(place.n_threads for place in self._places)
        if n_needed is None or n_needed < SHORTAGE * n_there:
            return 0
        return math.ceil((n_needed - n_there) / n_threads)

    def serve(self, space: Space) -> None:
        """Has the encoders of a space prepare by this."""
        for encoder in space.encoders.values():
            self._divide(encoder)

    def _divide(self, encoder: Encoder) -> None:
        own_prepare, own_encode = encoder.prepare, encoder.encode_prepared

        def own(items: Sequence[Item]) -> Batch:
            start = time.perf_counter()
            batch = own_prepare(items)
            self.times.prepared(time.perf_counter() - start)
            return batch

        def encode(batch: Batch, items: Sequence[Item], start: int = 0) -> NDArray[np.float32]:
            began = time.perf_counter()
            vectors = own_encode(batch, items, start)
            self.times.encoded(time.perf_counter() - began)
            return vectors

        def prepare(items: Sequence[Item]) -> Batch:
            place = self._take()
            try:
                if place.decoder is None:
                    return own(items)
                batch = place.decoder.prepare(encoder.modality, items)
            except DecoderLost:
                self._remove(place)
                return own(items)
            finally:
                with self._lock:
                    place.n_batches -= 1
            with self._lock:
                self.n_batches += 1
            return batch

        encoder.prepare = prepare  # type: ignore[method-assign]
        encoder.encode_prepared = encode  # type: ignore[misc,method-assign]  # on this object only

    def _take(self) -> _Place:
        """The place with the least to do; its number of batches is raised."""
        with self._lock:
            ready = [place for place in self._places if place.decoder is None or self._is_ready(place)]
            place = min(ready, key=lambda place: place.load)
            place.n_batches += 1
            return place

    def _is_ready(self, place: _Place) -> bool:
        try:
            return place.decoder is not None and place.decoder.is_ready()
        except DecoderLost:
            self._places = [other for other in self._places if other is not place]
            return False

    def _remove(self, place: _Place) -> None:
        with self._lock:
            self._places = [other for other in self._places if other is not place]
