"""Truncation: the first numbers of a space's vectors as a space of its own, for models trained so (Matryoshka)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Batch = dict[str, torch.Tensor]

CONFIG_KEY = "truncated_to"  # in the saved configuration of an encoder


def check_dims(dims: object, dim: int) -> int:
    """A valid number of dimensions to keep of `dim`. Raises InvalidInput."""
    if isinstance(dims, bool) or not isinstance(dims, int) or not 1 <= dims <= dim:
        raise InvalidInput(
            f"dims must be a whole number from 1 to {dim}, the size of the vectors, got {dims!r}"
        )
    return dims


def truncated(encoder: Encoder, dims: int) -> Encoder:
    """An encoder of the first `dims` numbers of another one's vectors, at length one."""
    inner = encoder.inner if isinstance(encoder, TruncatedEncoder) else encoder
    return inner if dims == inner.dim else TruncatedEncoder(inner, dims)


class TruncatedEncoder(Encoder):
    """The first `dims` numbers of the vectors of another encoder."""

    def __init__(self, inner: Encoder, dims: int) -> None:
        self.inner, self.dim, self.modality = inner, dims, inner.modality
        self.runtime, self.net, self.is_deferred = inner.runtime, inner.net, inner.is_deferred
        self.max_input, self.precision_decision = inner.max_input, inner.precision_decision
        self.float32_reason, self.use_bfloat16 = inner.float32_reason, inner.use_bfloat16
        self.space_id = None if inner.space_id is None else f"{inner.space_id} [:{dims}]"

    @property
    def family(self) -> str | None:
        return self.inner.family

    @property
    def query_encoder(self) -> Encoder:
        query = self.inner.query_encoder
        return self if query is self.inner else TruncatedEncoder(query, self.dim)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint_of(self.inner.fingerprint)

    @property
    def accepted_fingerprints(self) -> tuple[str, ...]:
        return tuple(map(self._fingerprint_of, self.inner.accepted_fingerprints))

    def _fingerprint_of(self, inner: str) -> str:
        return hashlib.sha256(f"{inner} {CONFIG_KEY} {self.dim}".encode()).hexdigest()

    def prepare(self, items: Sequence[Item]) -> Batch:
        return self.inner.prepare(items)

    def forward(self, batch: Batch) -> torch.Tensor:
        return self.inner.forward(batch)[:, : self.dim]

    def _compute(self, batch: Batch) -> NDArray[np.float32]:
        return self.inner._compute(batch)[:, : self.dim]

    def with_network(self, net: Any) -> TruncatedEncoder:
        return TruncatedEncoder(self.inner.with_network(net), self.dim)

    def config(self) -> dict[str, Any]:
        return self.inner.config() | {CONFIG_KEY: self.dim}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        return self.inner.state_dict()

    def files(self) -> Mapping[str, bytes]:
        return self.inner.files()
