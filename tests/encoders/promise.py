"""What precision="auto" promises, checked by hand: a centred cosine of at least 0.999 with float32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

import multimodal as mm

LEAST = 0.999
ITEMS = ("bird", "guitar", "boat", "lake", "red dog", "small dog", "cup", "man", "green apple", "blue horse")
PROMPTS = [f"the photo of a {name}" for name in ITEMS]  # hardly different, and not those of the trial


@pytest.fixture
def fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which "auto" looks into bfloat16."""
    monkeypatch.setattr("multimodal.core.backends.runtime._bfloat16_is_fast", lambda kind: True)


def centred_cosine(exact: Any, near: Any) -> float:
    """The smallest between rows whose means were taken away; of rows that differ from their mean at all."""
    a, b = (np.asarray(rows, dtype=np.float64) for rows in (exact, near))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    cosines = [
        x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True) if x @ x > 1e-12
    ]
    return min(cosines, default=1.0)


def assert_kept(exact: mm.Space, auto: mm.Space, items: Mapping[str, Sequence[Any]]) -> None:
    """For every modality of a space loaded with precision="auto", on these items and, of texts, on near prompts too."""
    assert auto.fingerprint == exact.fingerprint
    for modality, encoder in auto.encoders.items():
        lots = [list(items[modality])] + ([PROMPTS] if modality == "text" else [])
        for lot in lots:
            exact_rows, auto_rows = exact.encode(lot), auto.encode(lot)
            assert centred_cosine(exact_rows, auto_rows) >= LEAST, (modality, encoder.precision_decision)
            assert encoder.precision_decision.bfloat16 or np.array_equal(exact_rows, auto_rows)
        dtypes = {parameter.dtype for parameter in encoder.net.parameters()}
        assert (torch.bfloat16 in dtypes) == encoder.precision_decision.bfloat16
