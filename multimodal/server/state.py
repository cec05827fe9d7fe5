"""State: what one server has loaded, and what its handlers share. One for each application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from multimodal.core.adapters import split_options
from multimodal.core.catalog import close_matches, load
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Audio, Image
from multimodal.core.limits import limits
from multimodal.core.remote.path import GivenPath, RemotePath
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.opening import accepted_fingerprints, index_folder
from multimodal.server.batching import N_CORES, Lane
from multimodal.server.budget import Budget
from multimodal.server.config import ServerConfig
from multimodal.server.errors import ApiError, overloaded
from multimodal.server.media import MediaReader
from multimodal.server.metrics import Metrics
from multimodal.server.spaces import ServedSpace
from multimodal.server.urls import Fetcher

DEFAULT_SPACE = "starter"
MAX_THREADED = 256  # calls that wait for a thread of a pool
MAX_PREVIEWS = 1024  # one page of a browser asks for up to a hundred
BACKGROUND_NICE = 15
WARM_UP_TEXT = "a red apple"
WARM_UP_RATE_HZ = 16_000
OLLAMA_TAG = ":latest"
Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Pool:
    """Threads for work that blocks, with a bounded queue.

    Args:
        name: Of the threads.
        n_threads: How many there are.
        capacity: Calls that may wait.
        background: Whether its threads yield the CPU to all others.
    """

    def __init__(
        self, name: str, n_threads: int, capacity: int = MAX_THREADED, *, background: bool = False
    ) -> None:
        self._executor = ThreadPoolExecutor(
            n_threads, thread_name_prefix=name, initializer=_lower_priority if background else None
        )
        self._capacity, self._pending = capacity, 0

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Calls a function in a thread.

        Raises:
            ApiError: 429 if too many calls wait.
        """
        if self._pending >= self._capacity:
            raise overloaded(self._pending)
        self._pending += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
        finally:
            self._pending -= 1

    def close(self) -> None:
        """Waits for the running calls."""
        self._executor.shutdown(cancel_futures=True)


def _lower_priority() -> None:
    """Lowers the priority of this thread. Only Linux has priorities of threads: elsewhere nothing changes."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICE)


@dataclass
class ServedIndex:
    """An index that the server offers.

    Attributes:
        name: What requests call it: the stem of its folder.
        index: The index; call it in `State.searches`.
        model: The model of its space.
        uploads: The folder of uploaded files.
        write_lock: Held while the server itself writes to it.
    """

    name: str
    index: Index
    model: ServedSpace
    uploads: Path
    write_lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class State:
    """What the handlers of a server share.

    Attributes:
        config: The settings.
        metrics: The Prometheus metrics.
        models: The models by name, aliases not included; the first is the default.
        indexes: The indexes by name; the first is the default.
        media: Makes items of what requests hold; call it in `media_pool`.
        body_budget: Bytes of request bodies in memory.
        media_pool: Threads for reading headers and fetching URLs.
        previews: The one thread that draws thumbnails and waveforms, after all other work.
        searches: Threads for searches and lists.
        writes: The one thread that writes to indexes.
        failure: Why loading failed, or None.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.metrics = Metrics()
        self.models: dict[str, ServedSpace] = {}
        self.indexes: dict[str, ServedIndex] = {}
        ceilings = config.ceilings
        self.media = MediaReader(ceilings, Fetcher(config.allow_urls, ceilings.body_bytes))
        self.body_budget = Budget(ceilings.bodies_bytes, "bytes")
        self.media_pool = Pool("media", max(2, min(4, N_CORES)))
        self.previews = Pool("previews", 1, MAX_PREVIEWS, background=True)
        self.searches = Pool("search", max(2, min(8, N_CORES)))
        self.writes = Pool("write", 1, capacity=64)
        self.extras: dict[str, Any] = {}
        self.failure: str | None = None
        self.started = time.time()
        self._is_loaded = self._stops = False
        self._space_options: dict[str, Any] = {}
        self._closers: list[Callable[[], None]] = []

    # --- phases -----------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether requests are served: all is loaded, and the server does not stop."""
        return self._is_loaded and not self._stops

    def check_ready(self) -> None:
        """Raises ApiError (503) while loading and while stopping."""
        if self.is_ready:
            return
        if self.failure is not None:
            raise ApiError(503, "the models could not be loaded; the log has the reason", code="not_loaded")
        if self._stops:
            raise ApiError(503, "the server is stopping; try another one", code="stopping")
        raise ApiError(503, "the models are being loaded; try again in a second", code="loading")

    def load(self) -> None:
        """Loads models and opens indexes. Ready after a text with each model; then encodes media to warm up. Blocks."""
        config = self.config
        self._space_options, _ = split_options(config.load_options)
        for name in config.spaces:
            self._add_model(name, config.preloaded.get(name) or load(name, **self._space_options))
        for path in config.indexes:
            self._open_index(path)
        if not self.models:
            name = DEFAULT_SPACE
            self._add_model(name, config.preloaded.get(name) or load(name, **self._space_options))
        task_models = {name for names in config.task_models.values() for name in names}
        for alias, name in config.aliases.items():
            if name not in self.models and name not in task_models:
                raise InvalidInput(
                    f"alias {alias!r} stands for {name!r}, which is not served; served: {', '.join(self.models)}"
                )
        for model in self.models.values():
            if "text" in model.modalities:
                model.space.query_space.encode([WARM_UP_TEXT])
        for served in self.indexes.values():
            if len(served.index) and "text" in served.model.modalities:
                served.index.search(WARM_UP_TEXT, k=1)
        if config.task_models:
            from multimodal.server.tasks.models import task_models_of

            task_models_of(self).load()
        if config.task_models.get("answering"):
            from multimodal.server.tasks.answers import answers_of

            answers_of(self).load()
        # Before two lanes import it at once: one could meet half of it, and fail its first request
        import torch  # noqa: F401

        self._is_loaded = True
        for model in self.models.values():  # the first image need not wait until its encoder is built
            self._warm_up_media(model)

    def _warm_up_media(self, model: ServedSpace) -> None:
        """Encodes an image and a sound, where the model takes them."""
        import numpy as np

        samples = {"array": np.sin(np.arange(WARM_UP_RATE_HZ // 4) / 10.0), "sampling_rate": WARM_UP_RATE_HZ}
        for item in (Image(np.zeros((16, 16, 3), np.uint8)), Audio(samples)):
            if item.modality in model.modalities and not self._stops:
                try:
                    model.space.encode([item])
                except Exception as error:  # the server works; requests of this kind will say the same
                    log.warning("warming up %s of %s failed: %s", item.modality, model.name, error)

    def _add_model(self, name: str, space: Space) -> ServedSpace:
        def make_lane(encoder: Encoder) -> Lane:
            modality = str(encoder.modality)
            # The lane asks for its own length; the gauge needs it before the lane exists.
            lane = Lane(
                encoder,
                self.config.batching,
                self.metrics.lane(modality, lambda: len(lane)),
                self.media_limits,
            )
            return lane

        model = self.models[name] = ServedSpace(name, space, make_lane)
        return model

    def _open_index(self, path: GivenPath) -> None:
        from multimodal.index.storage.remote.cache import cache_root
        from multimodal.index.storage.table import ItemTable

        folder = index_folder(path)
        if self.config.write and isinstance(folder, RemotePath):
            raise InvalidInput(
                f"the index {folder} on an object store is served read-only; leave out --write"
            )
        about = ItemTable.open(folder).index_metadata
        served = self.models.values()
        model = next((m for m in served if about.fingerprint in accepted_fingerprints(m.space)), None)
        if model is None:
            options = about.options | self._space_options
            name = about.address if about.address not in self.models else f"{about.address}@{folder.stem}"
            model = self._add_model(
                name, self.config.preloaded.get(about.address) or load(about.address, **options)
            )
        name = folder.stem
        if name in self.indexes:
            raise InvalidInput(f"two indexes are called {name!r}; rename one of their folders")
        parent = folder.parent if isinstance(folder, Path) else cache_root()
        uploads = self.config.uploads or parent / f"{folder.stem}-uploads"
        self.indexes[name] = ServedIndex(name, Index.open(folder, model.space), model, uploads)

    def stop_accepting(self) -> None:
        """Answers new requests with a 503 from now on."""
        self._stops = True

    def on_close(self, closer: Callable[[], None]) -> None:
        """Registers what is called, in a thread, when the server stops; for lanes of other modules."""
        self._closers.append(closer)

    def close(self) -> None:
        """Waits until lanes and threads have finished their current work."""
        self._stops = True
        for closer in self._closers:
            with contextlib.suppress(Exception):
                closer()
        for model in self.models.values():
            for lane in model.lanes:
                lane.close()
        for pool in (self.media_pool, self.previews, self.searches, self.writes):
            pool.close()

    def extra(self, name: str, make: Callable[[], Result]) -> Result:
        """What a module keeps for the life of the server, made at first need. Call it in the event loop.

        Args:
            name: Unique among all modules.
            make: Makes it.
        """
        if name not in self.extras:
            self.extras[name] = make()
        kept: Result = self.extras[name]
        return kept

    # --- look-up ----------------------------------------------------------------------------------------

    def model(self, name: str | None) -> ServedSpace:
        """The model of a request.

        Args:
            name: Its name or an alias; None for the default.

        Raises:
            ApiError: 404 with close matches.
        """
        if name is None:
            return next(iter(self.models.values()))
        found = self.models.get(name)
        if found is None:
            plain = name.removesuffix(OLLAMA_TAG)
            found = self.models.get(self.config.aliases.get(name, self.config.aliases.get(plain, plain)))
        if found is None:
            known = [*self.models, *self.config.aliases]
            raise ApiError(
                404,
                f"no model is called {name[:100]!r}; {close_matches(name[:100], known)}served: {', '.join(known)}; "
                "start the server with --alias to give one another name",
                param="model", code="model_not_found",
            )  # fmt: skip
        return found

    def index(self, name: str | None) -> ServedIndex:
        """The index of a request.

        Args:
            name: Its name; None for the default.

        Raises:
            ApiError: 404 with close matches.
        """
        if not self.indexes:
            raise ApiError(
                404,
                "this server has no index; start it with one: multimodal serve memories.lance",
                param="index",
            )
        if name is None:
            return next(iter(self.indexes.values()))
        if name not in self.indexes:
            raise ApiError(
                404,
                f"no index is called {name[:100]!r}; {close_matches(name[:100], self.indexes)}"
                f"served: {', '.join(self.indexes)}",
                param="index", code="index_not_found",
            )  # fmt: skip
        return self.indexes[name]

    def media_limits(self) -> AbstractContextManager[Any]:
        """A context inside which decoding stays below the ceilings."""
        ceilings = self.config.ceilings
        return limits(max_pixels=ceilings.pixels, max_seconds=ceilings.media_seconds)

    async def in_media_pool(self, function: Callable[..., Result], *args: Any) -> Result:
        """Calls a function in a thread of `media_pool`, with the limits of `media_limits`."""
        return await self.media_pool.run(self._limited, function, *args)

    async def preview(self, function: Callable[..., Result], *args: Any) -> Result:
        """Calls a function in the thread of `previews`, with the limits of `media_limits`.

        A search thus waits neither for the previews of the search before it nor for their rows.
        """
        return await self.previews.run(self._limited, function, *args)

    def _limited(self, function: Callable[..., Result], *args: Any) -> Result:
        with self.media_limits():
            return function(*args)
