"""A family of fake encoders that take 10 ms for an item, so that a job can be stopped while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.testing import FakeEncoder

CARDS = ()
SECONDS = 0.01


class SlowEncoder(FakeEncoder):
    def prepare(self, items: Sequence[Item]) -> dict[str, Any]:
        time.sleep(SECONDS * len(items))
        return super().prepare(items)


def load(rest: str = "", *, device: str = "auto") -> Space:
    return Space([SlowEncoder(Modality.TEXT), SlowEncoder(Modality.IMAGE)], name="slow")


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    return SlowEncoder(saved.modality)
