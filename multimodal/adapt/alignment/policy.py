"""What a captioner offers so that it can be aligned. Pipelines implement this; nothing here knows a pipeline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multimodal.core.space import Space


class CaptionPolicy(Protocol):
    """A network that writes captions of vectors.

    Attributes:
        name: Of the model, for messages.
        net: The network; `log_probs` and `write` use a copy of it that the caller trains.
        space: The space of the vectors.
    """

    name: str
    net: nn.Module
    space: Space

    def vectors(self, inputs: Sequence[Any]) -> Tensor:
        """Items or vectors (dim,) -> unit vectors (n, dim), float32."""

    def tokens(self, captions: Sequence[str]) -> Tensor:
        """Captions -> int64 (n, t), each ended by the end token and padded with it.

        Raises InvalidInput for a word that the captioner does not know, or a caption that is too long.
        """

    def log_probs(self, net: nn.Module, vectors: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(log-probability of each token (n, t), whether the token counts (n, t): all up to the first end)."""

    def write(
        self, net: nn.Module, vectors: Tensor, *, temperature: float = 0.0, seed: int | None = None
    ) -> list[str]:
        """One caption per vector: by the decoder's usual search, or sampled if `temperature` is above 0."""

    def replaced(self, net: nn.Module) -> Any:
        """The backend of the pipeline, with these weights."""

    def save(self, net: nn.Module, folder: str | os.PathLike[str]) -> None:
        """Writes the weights for `pipeline("captioning", decoder=folder)`."""
