"""Encoders and spaces for tests: no weights, no downloads, deterministic vectors.

    from multimodal.testing import FakeEncoder, fake_space

    space = fake_space(modalities=("text", "image"), dim=4)
    assert space.encode("a cat").shape == (4,)

A vector depends on the content of an item alone, so equal items have equal vectors in every process. Vectors can be
set for single texts or uris, and chosen items can fail. A saved space of fake encoders opens again anywhere, and
`multimodal.load("fake")` gives one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.errors import EncoderError, InvalidInput, UnknownModel
from multimodal.core.items import Audio, Image, Item, Text
from multimodal.core.logit_scale import LogitScale
from multimodal.core.modality import Modality
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

DIM = 8
LOGIT_SCALE = LogitScale(10.0)
CARDS: tuple[Card, ...] = ()


class FakeEncoder(Encoder):
    """An encoder whose vectors are computed from the content of an item.

    Args:
        modality: The modality it encodes.
        dim: The length of its vectors.
        vectors: Vectors (dim,) for chosen items, by their text or uri; they need not have length one.
        failing: Texts or uris of items that raise EncoderError when they are prepared.
        max_input: As `Encoder.max_input`: seconds or characters above which an index cuts an item into chunks.

    Attributes:
        seen: Every item prepared so far, in order.

    Raises:
        InvalidInput: If dim is below 1, or a given vector has another length.
    """

    def __init__(
        self,
        modality: Modality | str = Modality.TEXT,
        dim: int = DIM,
        *,
        vectors: Mapping[str, Sequence[float]] | None = None,
        failing: Collection[str] = (),
        max_input: float | None = None,
    ) -> None:
        if dim < 1:
            raise InvalidInput(f"dim must be a whole number of at least 1, got {dim!r}")
        self.modality, self.dim = Modality(modality), dim
        self.vectors = {key: [float(value) for value in vector] for key, vector in (vectors or {}).items()}
        for key, vector in self.vectors.items():
            if len(vector) != dim:
                raise InvalidInput(f"the vector for {key!r} has {len(vector)} numbers, and dim is {dim}")
        self.failing, self.max_input = frozenset(failing), max_input
        self.seen: list[Item] = []

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Looks up or derives the vectors of items.

        Args:
            items: Items of the modality.

        Returns:
            The vectors, (n, dim).

        Raises:
            EncoderError: An item is in `failing`.
        """
        import numpy as np
        import torch

        self.seen += items
        return {"rows": torch.from_numpy(np.stack([self._vector(item) for item in items]))}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns the prepared vectors.

        Args:
            batch: The output of `prepare`.

        Returns:
            float32 (n, dim).
        """
        return batch["rows"]

    def config(self) -> dict[str, Any]:
        """Describes everything that determines the vectors.

        Returns:
            JSON values.
        """
        return {
            "dim": self.dim,
            "vectors": self.vectors,
            "failing": sorted(self.failing),
            "max_input": self.max_input,
        }

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Lists the weights.

        Returns:
            {}: a fake encoder has no weights.
        """
        import torch

        return {"unused": torch.zeros(1)}

    def _vector(self, item: Item) -> NDArray[np.float32]:
        import numpy as np

        keys = [item.source if isinstance(item, Text) else None, item.uri]
        for key in keys:
            if key in self.failing:
                raise EncoderError(f"this fake encoder is set to fail on {key!r}")
        for key in keys:
            if key in self.vectors:
                return np.array(self.vectors[key], dtype=np.float32)
        seed = int.from_bytes(hashlib.sha256(_content(item)).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(self.dim).astype(np.float32)


def fake_space(
    modalities: Iterable[Modality | str] = ("text", "image", "audio"),
    dim: int = DIM,
    *,
    vectors: Mapping[str, Sequence[float]] | None = None,
    failing: Collection[str] = (),
    logit_scale: LogitScale | None = LOGIT_SCALE,
    name: str = "fake",
) -> Space:
    """A space of fake encoders.

    Args:
        modalities: Those it encodes.
        dim: The length of its vectors.
        vectors: Vectors (dim,) for chosen items of any modality, by their text or uri.
        failing: Texts or uris of items that raise EncoderError.
        logit_scale: For `Space.probabilities`; None for a space that has only cosines.
        name: Of the space.

    Returns:
        The space.
    """
    encoders = [FakeEncoder(modality, dim, vectors=vectors, failing=failing) for modality in modalities]
    return Space(encoders, logit_scale, name=name)


def load(rest: str = "", *, device: str = "cpu") -> Space:
    """The space of `multimodal.load("fake")`; "fake/32" has vectors of 32 numbers.

    Args:
        rest: The dimension, as text; "" for the default.
        device: Ignored.

    Returns:
        The space.

    Raises:
        UnknownModel: If what follows the slash is no number of at least 1.
    """
    if not rest:
        return fake_space()
    if not rest.isdecimal() or int(rest) < 1:
        raise UnknownModel(f"got 'fake/{rest}', expected 'fake' or 'fake/<dim>', as 'fake/32'")
    return fake_space(dim=int(rest), name=f"fake/{rest}")


def from_config(state: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuilds a fake encoder from its saved state.

    Args:
        state: The saved state.
        runtime: Ignored: fake encoders run on the CPU.

    Returns:
        The encoder.
    """
    config = state.config
    return FakeEncoder(
        state.modality,
        config["dim"],
        vectors=config["vectors"],
        failing=config["failing"],
        max_input=config["max_input"],
    )


def _content(item: Item) -> bytes:
    """The decoded content of an item, so that a file and its bytes give one vector."""
    if isinstance(item, Text):
        return item.load().encode()
    if isinstance(item, Image):
        array: NDArray[Any] = item.load()
    elif isinstance(item, Audio):
        array = item.load().samples
    else:
        array = item.load().frames
    return repr(array.shape).encode() + array.tobytes()
