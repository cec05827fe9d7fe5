"""An encoder that fails for every item raises its error; broken files are listed, whatever they raise."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from multimodal.core.errors import EncoderError
from multimodal.core.items import Item
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.testing import FakeEncoder


class Faulty(FakeEncoder):
    """Fails as told: in `prepare` or `forward`, for all items or for some texts."""

    stage, fails_for, shape = "prepare", None, None

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        batch = super().prepare(items)
        if self.stage == "prepare":
            self.fail(items)
        return batch | {"texts": [item.source for item in items]}  # type: ignore[dict-item]

    def forward(self, batch: dict[str, Any]) -> torch.Tensor:
        if self.stage == "forward":
            self.fail(batch["texts"])
        if self.stage == "shape":
            return batch["rows"][:, :3]
        return super().forward(batch)

    def fail(self, items: Collection[Any]) -> None:
        for item in items:
            text = getattr(item, "source", item)
            if self.fails_for is None or text in self.fails_for:
                raise TypeError(f"unsupported operand for {text}")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., tuple[Index, Faulty]]:
    def index(stage: str, fails_for: Collection[str] | None = None) -> tuple[Index, Faulty]:
        encoder = Faulty()
        encoder.stage, encoder.fails_for = stage, fails_for
        return Index.create(tmp_path / "index.lance", Space([encoder], name="own")), encoder

    return index


@pytest.mark.parametrize("stage", ["prepare", "forward"])
@pytest.mark.parametrize("n", [2, 300])
def test_an_error_by_which_every_item_fails_is_raised_with_its_traceback(
    make: Callable[..., tuple[Index, Faulty]], stage: str, n: int
) -> None:
    index, _ = make(stage)
    with pytest.raises(TypeError, match="unsupported operand for") as caught:
        index.add([f"word {number}" for number in range(n)])
    shown = "".join(traceback.format_exception(caught.value))
    assert "test_encoder_faults.py" in shown and "in fail" in shown
    assert "every text failed by this error" in shown
    assert len(index) == 0


def test_a_long_job_ends_early(make: Callable[..., tuple[Index, Faulty]]) -> None:
    index, encoder = make("prepare")
    with pytest.raises(TypeError):
        index.add((f"word {number}" for number in range(5000)), batch_size=2, threads=1)
    assert len({item.source for item in encoder.seen}) < 1000


def test_vectors_of_a_wrong_shape_are_raised(make: Callable[..., tuple[Index, Faulty]]) -> None:
    index, _ = make("shape")
    with pytest.raises(EncoderError):
        index.add(["one", "two", "three"])


def test_an_encoder_that_fails_for_some_items_lists_them(make: Callable[..., tuple[Index, Faulty]]) -> None:
    texts = [f"word {number}" for number in range(100)]
    index, _ = make("forward", texts[1:])
    report = index.add(texts)
    assert (report.added, len(report.failed)) == (1, 99)


def test_one_item_that_fails_is_listed(make: Callable[..., tuple[Index, Faulty]]) -> None:
    index, _ = make("prepare")
    report = index.add(["alone"])
    assert [failure.reason for failure in report.failed] == ["TypeError: unsupported operand for alone"]


def test_an_encoder_that_has_worked_before_is_not_at_fault(make: Callable[..., tuple[Index, Faulty]]) -> None:
    index, encoder = make("none")
    index.add(["one", "two"])
    encoder.stage = "prepare"
    report = index.add([f"word {number}" for number in range(50)])
    assert (len(report.failed), len(index)) == (50, 2)
