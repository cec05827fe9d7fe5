"""How a model runs: words that are checked, and precisions that keep a model's fingerprint."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import multimodal
from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import InvalidInput


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, "precision must be one of 'float32', 'bfloat16', 'auto', got 'half'"),
        ({"decode": "quick"}, "decode must be one of 'exact', 'fast', got 'quick'"),
        ({"device": "gpu"}, "'gpu' is not a device: write 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'"),
    ],
)
def test_an_unknown_word_is_answered_with_the_known_ones(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{re.escape(message)}$"):
        multimodal.load("starter", **options)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="asks for what is not there")
def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"^device 'cuda' is not available: torch sees no accelerator; write 'cpu' or"
    ):
        multimodal.load("starter", device="cuda")


def test_precision_names_a_dtype() -> None:
    assert Runtime().dtype == torch.float32
    assert Runtime(precision="bfloat16").dtype == torch.bfloat16
    assert Runtime(precision="auto").dtype in (torch.float32, torch.bfloat16)


def test_bfloat16_keeps_the_fingerprint_and_nearly_the_vectors() -> None:
    exact, fast = multimodal.load("starter"), multimodal.load("starter", precision="bfloat16")
    assert exact.fingerprint == fast.fingerprint
    rng = np.random.default_rng(0)
    items = [
        "an animal that barks",
        rng.integers(0, 255, (90, 64, 3), dtype=np.uint8),
        {"array": rng.normal(0, 0.1, 16_000), "sampling_rate": 16_000},
    ]
    cosines = (exact.encode(items) * fast.encode(items)).sum(1)
    assert (cosines > 0.999).all() and (cosines < 1 - 1e-7).any()
