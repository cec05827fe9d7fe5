"""A space behind the interface of mteb. `python -m benchmarks.equality.mteb_tasks` compares the figures of both."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

import multimodal as mm
from multimodal.core.errors import InvalidInput
from multimodal.evaluation import mteb as ours
from multimodal.testing import fake_space


def test_a_space_is_a_model_of_mteb_that_encodes_its_batches() -> None:
    pytest.importorskip("mteb")
    space = fake_space()
    meta = ours.model_meta(space)
    assert meta.name == "multimodal/fake"
    assert meta.modalities == ["text", "image", "audio"]
    picture = PIL.Image.new("RGB", (4, 4), "red")
    sound = {"array": [0.0, 0.5, -0.5] * 100, "sampling_rate": 8000}
    batches = [
        {"text": ["a", ""]},
        {"image": [picture]},
        {"audio": [sound]},
        {"text": ["a"], "image": [picture]},
    ]
    rows = meta.loader().encode(batches, task_metadata=None, hf_split="", hf_subset="")
    assert rows.shape == (5, space.dim)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1)
    assert rows[0] == pytest.approx(space.encode("a"))
    assert rows[2] == pytest.approx(space.encode(mm.Image(picture)))
    both = space.encode("a") + space.encode(mm.Image(picture))
    assert rows[4] == pytest.approx(both / np.linalg.norm(both), abs=1e-6)
    with pytest.raises(InvalidInput, match="a batch of mteb has video"):
        meta.loader().encode([{"video": [0]}], task_metadata=None, hf_split="", hf_subset="")


def test_a_task_that_mteb_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_task(name: str) -> Any:
        raise KeyError(name)

    library = SimpleNamespace(get_benchmarks=lambda: [SimpleNamespace(name="MIEB(lite)")], get_task=get_task)
    monkeypatch.setattr(ours, "_import_mteb", lambda: library)
    with pytest.raises(
        InvalidInput, match=r"no benchmark or task 'MIEB\(light\)'; did you mean 'MIEB\(lite\)'"
    ):
        ours.evaluate_mteb("starter", "MIEB(light)")
