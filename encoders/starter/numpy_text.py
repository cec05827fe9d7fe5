"""The starter's text tower in numpy, for the few texts of a query. `networks.TextTower` is the same in torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodal.encoders.starter.parameters import TEXT_HEADS, TEXT_LAYERS, TEXT_WIDTH

Array = NDArray[np.float32]
LAYER_NORM_EPSILON = 1e-5


class NumpyTextTower:
    """Equal to `networks.TextTower` within float32 rounding.

    Args:
        tensors: The weights by name, of any floating-point type.
    """

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self._token_table = tensors["tokens.weight"]  # rows are converted as they are looked up
        self._tensors = {
            name: np.asarray(tensor, np.float32)
            for name, tensor in tensors.items()
            if name != "tokens.weight"
        }

    def __call__(self, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Array:
        """tokens (n, t) int64, zero-padded; lengths (n,) -> (n, DIM) unit rows."""
        is_token = np.arange(tokens.shape[1])[None] < lengths[:, None]
        real = is_token[..., None].astype(np.float32)
        blocked = np.where(is_token, np.float32(0), np.float32(-np.inf))[:, None, None]
        words = self._token_table[tokens].astype(np.float32)
        states = self._linear("widen", words) + self._tensors["positions"][: tokens.shape[1]]
        for layer in range(TEXT_LAYERS):
            states = self._block(f"blocks.{layer}", states, blocked)
        count = np.maximum(lengths[:, None], 1).astype(np.float32)
        pooled = (self._norm("norm", states) * real).sum(1) / count
        vectors = self._linear("project", pooled) + self._linear("direct", (words * real).sum(1) / count)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    def _block(self, name: str, states: Array, blocked: Array) -> Array:
        states = states + self._attention(
            f"{name}.attention", self._norm(f"{name}.attention_norm", states), blocked
        )
        wide = np.maximum(self._linear(f"{name}.wide", self._norm(f"{name}.wide_norm", states)), 0)
        return states + self._linear(f"{name}.narrow", np.square(wide))

    def _attention(self, name: str, states: Array, blocked: Array) -> Array:
        n, t, _ = states.shape
        width = TEXT_WIDTH // TEXT_HEADS
        joint = self._linear(f"{name}.into", states).reshape(n, t, 3, TEXT_HEADS, width)
        query, key, value = joint.transpose(2, 0, 3, 1, 4)
        weights = query @ key.swapaxes(-1, -2) / np.float32(math.sqrt(width)) + blocked
        weights = np.exp(weights - weights.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ value
        return self._linear(f"{name}.out", mixed.transpose(0, 2, 1, 3).reshape(n, t, TEXT_WIDTH))

    def _linear(self, name: str, rows: Array) -> Array:
        return rows @ self._tensors[f"{name}.weight"].T + self._tensors[f"{name}.bias"]

    def _norm(self, name: str, rows: Array) -> Array:
        centred = rows - rows.mean(-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(-1, keepdims=True) + np.float32(LAYER_NORM_EPSILON))
        return centred / deviation * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]
