"""Spaces whose items are encoded in lanes, together with those of other requests.

`LaneSpace` is a Space for code that runs in threads of the server: an index that searches, a pipeline that classifies.
A handler awaits `ServedSpace.encode` instead, and can hand the vectors on with `known_vectors`, so that a thread of the
search does not wait for the model.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from multimodal.core.encoder import Encoder
from multimodal.core.errors import UnsupportedModality
from multimodal.core.items import Item, Text, as_item, as_items
from multimodal.core.media.inputs import as_list
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.server.batching import ItemError, Lane
from multimodal.server.errors import ApiError, from_exception
from multimodal.server.media import CHARS_PER_TOKEN, Checked

if TYPE_CHECKING:
    from numpy.typing import NDArray

Role = Literal["document", "query"]
LaneOf = Callable[[Encoder], Lane]
PIXELS = 1_000_000  # cost of an image whose header was not read
SECONDS = 10

_known: ContextVar[Mapping[int, NDArray[np.float32]] | None] = ContextVar("known_vectors", default=None)


@contextlib.contextmanager
def known_vectors(items: Sequence[Item], vectors: NDArray[np.float32]) -> Iterator[None]:
    """Inside the block, and in its thread, a LaneSpace takes the vectors of these very items from here."""
    token = _known.set({id(item): vector for item, vector in zip(items, vectors, strict=True)})
    try:
        yield
    finally:
        _known.reset(token)


class LaneSpace(Space):
    """A Space that encodes in lanes. For threads other than that of the event loop.

    Args:
        space: The space whose encoders, scales and names it shares.
        lane_of: The lane of an encoder.
    """

    def __init__(self, space: Space, lane_of: LaneOf) -> None:
        super().__init__(space.encoders, space.logit_scales, name=space.name, card=space.card)
        self.revisions, self.address, self.options = space.revisions, space.address, space.options
        self._reopen = space._reopen
        self._lane_of = lane_of
        queries = space.query_space
        self._queries: Space = self if queries is space else LaneSpace(queries, lane_of)

    @property
    def query_space(self) -> Space:
        """The space that encodes queries, in lanes too."""
        return self._queries

    def encode(
        self, items: object, *, batch_size: int = 32, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """As `Space.encode`; the lanes choose the sizes of batches.

        Raises:
            ApiError: The queue of a lane is full.
        """
        listed = as_list(items)
        if listed is None:
            return self._rows([as_item(items)])[0]
        rows = self._rows(as_items(listed))
        if progress is not None:
            progress(len(rows))
        return rows

    def _rows(self, items: Sequence[Item]) -> NDArray[np.float32]:
        rows = np.empty((len(items), self.dim), np.float32)
        known = _known.get() or {}
        unknown: dict[Modality, list[int]] = {}
        for position, item in enumerate(items):
            if (vector := known.get(id(item))) is not None:
                rows[position] = vector
            else:
                unknown.setdefault(item.modality, []).append(position)
        for modality, positions in unknown.items():
            lane = self._lane_of(self.encoder_for(modality))
            part = [items[position] for position in positions]
            try:
                rows[positions] = lane.encode_in_thread(part, list(map(_cost, part)))
            except ItemError as error:
                raise error.error from None
        return rows


def _cost(item: Item) -> int:
    if isinstance(item, Text):
        return len(item.source) // CHARS_PER_TOKEN + 2
    return PIXELS if item.modality is Modality.IMAGE else SECONDS


class ServedSpace:
    """A model that the server offers.

    Args:
        name: What requests call it.
        space: The model.
        make_lane: Makes the lane of an encoder; each encoder gets one.

    Attributes:
        space: The model, encoding in lanes; for threads.
    """

    def __init__(self, name: str, space: Space, make_lane: LaneOf) -> None:
        self.name = name
        self._lanes: dict[int, Lane] = {}  # by id of the encoder
        self._make_lane = make_lane
        self._encoders: dict[tuple[Modality, Role], Encoder] = {}
        for modality, encoder in space.encoders.items():
            self._encoders[modality, "document"] = encoder
            self._encoders[modality, "query"] = encoder.query_encoder
        self.space = LaneSpace(space, self._lane)
        self.dim = space.dim
        self.fingerprint = space.fingerprint
        self.modalities = tuple(map(str, space.modalities))
        self.matryoshka = () if space.card is None else space.card.matryoshka

    def _lane(self, encoder: Encoder) -> Lane:
        lane = self._lanes.get(id(encoder))
        if lane is None:
            lane = self._lanes.setdefault(id(encoder), self._make_lane(encoder))
        return lane

    @property
    def lanes(self) -> list[Lane]:
        """The lanes that were used so far."""
        return list(self._lanes.values())

    async def encode(
        self,
        checked: Sequence[Checked],
        role: Role = "document",
        name: Callable[[int], str] | None = None,
    ) -> NDArray[np.float32]:
        """Encodes items of any of its modalities, together with those of other requests.

        Args:
            checked: Items and their costs, at least one.
            role: Whether they are documents or queries; some models tell them apart.
            name: The field of the request for an item's position, for messages.

        Returns:
            float32 (n, dim), rows of length one.

        Raises:
            ApiError: An item cannot be encoded, or the queue is full.
        """
        first = checked[0].item.modality
        if all(element.item.modality is first for element in checked):
            return await self._encode_part(first, range(len(checked)), checked, role, name)
        positions: dict[Modality, list[int]] = {}
        for position, element in enumerate(checked):
            positions.setdefault(element.item.modality, []).append(position)
        rows = np.empty((len(checked), self.dim), np.float32)
        async with asyncio.TaskGroup() as group:
            tasks = {
                modality: group.create_task(self._encode_part(modality, places, checked, role, name))
                for modality, places in positions.items()
            }
        for modality, places in positions.items():
            rows[places] = tasks[modality].result()
        return rows

    async def _encode_part(
        self,
        modality: Modality,
        positions: Sequence[int],
        checked: Sequence[Checked],
        role: Role,
        name: Callable[[int], str] | None,
    ) -> NDArray[np.float32]:
        encoder = self._encoders.get((modality, role))
        param = None if name is None else name(positions[0])
        if encoder is None:
            have = ", ".join(self.modalities)
            raise from_exception(
                UnsupportedModality(f"{modality} given to the model {self.name!r}, which encodes {have}"),
                param,
            )
        part = [checked[position] for position in positions]
        try:
            return await self._lane(encoder).encode([c.item for c in part], [c.cost for c in part])
        except ItemError as error:
            param = None if name is None else name(positions[error.position])
            raise _answer(error.error, param) from error


def _answer(error: Exception, param: str | None) -> ApiError:
    answer = from_exception(error, param)
    if answer.param is not None and answer.param not in answer.message:
        answer.message = f"{answer.param}: {answer.message}"
    return answer


def describe(space: ServedSpace) -> dict[str, Any]:
    """What `/v1/models` says of a model beside its name."""
    return {
        "modalities": list(space.modalities),
        "dim": space.dim,
        "matryoshka": list(space.matryoshka),
        "fingerprint": space.fingerprint,
    }
