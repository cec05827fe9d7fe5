"""Prometheus metrics of one server; each application has a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counters of requests, batches and queues."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "multimodal_requests", "Requests by route and status.", ["route", "code"], registry=self.registry
        )
        self._seconds = Histogram(
            "multimodal_request_seconds", "Duration of requests.", ["route"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._queue_items = Gauge(
            "multimodal_queue_items", "Waiting items.", ["modality"], registry=self.registry
        )
        self._queue_seconds = Histogram(
            "multimodal_queue_seconds", "Time that the oldest item of a batch waited.", ["modality"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._batch_items = Histogram(
            "multimodal_batch_items", "Items of a batch.", ["modality"],
            buckets=BATCH_ITEMS, registry=self.registry,
        )  # fmt: skip
        self._encode_seconds = Histogram(
            "multimodal_encode_seconds", "Time to compute a batch.", ["modality"],
            buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._dropped = Counter(
            "multimodal_dropped", "Items that were not computed.", ["reason"], registry=self.registry
        )
        self._by_code: dict[tuple[str, int], Counter] = {}
        self._by_route: dict[str, Histogram] = {}
        self._waiting: dict[str, list[Callable[[], int]]] = {}

    def request(self, route: str, code: int, seconds: float) -> None:
        """Counts a finished request. route: the path pattern of its endpoint, never the path itself."""
        counter = self._by_code.get((route, code))
        if counter is None:
            counter = self._by_code[route, code] = self._requests.labels(route, str(code))
            self._by_route.setdefault(route, self._seconds.labels(route))
        counter.inc()
        self._by_route[route].observe(seconds)

    def lane(self, modality: str, waiting: Callable[[], int]) -> LaneMetrics:
        """The metrics of a lane. waiting: counts the items in its queue."""
        counts = self._waiting.setdefault(modality, [])
        counts.append(waiting)
        self._queue_items.labels(modality).set_function(lambda: sum(count() for count in counts))
        return LaneMetrics(
            self._batch_items.labels(modality),
            self._encode_seconds.labels(modality),
            self._queue_seconds.labels(modality),
            self.dropped,
        )

    def dropped(self, reason: str, n_items: int = 1) -> None:
        """Counts items that were not computed, or requests whose client had disconnected."""
        self._dropped.labels(reason).inc(n_items)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class LaneMetrics:
    """What a lane counts."""

    def __init__(
        self, items: Histogram, encode: Histogram, queue: Histogram, dropped: Callable[[str, int], None]
    ) -> None:
        self._items, self._encode, self._queue = items, encode, queue
        self.dropped = dropped

    def batch(self, n_items: int, encode_s: float, queue_s: float) -> None:
        """Counts a computed batch."""
        self._items.observe(n_items)
        self._encode.observe(encode_s)
        self._queue.observe(queue_s)
