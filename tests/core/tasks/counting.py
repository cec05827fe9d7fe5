"""A pipeline that the tests find by its task."""

from __future__ import annotations

from typing import Any

import multimodal.core.pipeline as core
from multimodal.core.space import Space


class Abstract(core.Pipeline):
    """Sets no task, so it is never offered."""


class CountingPipeline(core.Pipeline):
    task = "counting"

    def __init__(self, space: Space, *, start: int = 0) -> None:
        self.space, self.start = space, start

    def __call__(self, inputs: Any, *, step: int = 1) -> Any:
        items, alone = core.one_or_many(inputs)
        counts = [self.start + step * len(self.space.encode(item)) for item in items]
        return counts[0] if alone else counts
