"""A space behind the interface of mteb. `python -m benchmarks.equality.mteb_tasks` compares the figures of both."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest

import multimodal as mm
from multimodal.core.errors import DownloadError, InvalidInput, MultimodalWarning
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
    clip = np.random.default_rng(0).integers(0, 255, (8, 3, 5, 4), dtype=np.uint8)  # channels first
    (video,) = meta.loader().encode([{"video": [clip]}], task_metadata=None, hf_split="", hf_subset="")
    mean = space.encode([mm.Image(frame) for frame in clip.transpose(0, 2, 3, 1)]).mean(0)
    assert video == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    with pytest.raises(InvalidInput, match="a batch of mteb has video"):
        ours.model_meta(space.select("text")).loader().encode(
            [{"video": [0]}], task_metadata=None, hf_split="", hf_subset=""
        )


def test_zero_shot_probabilities_are_those_of_the_space() -> None:
    pytest.importorskip("mteb")
    from mteb.similarity_functions import similarity

    space = mm.load("starter")
    images = [PIL.Image.new("RGB", (64, 64), colour) for colour in ("red", "yellow", "navy")]
    labels = ["a tomato", "a lemon", "the night sky", "snow"]
    encoder = ours.model_meta(space).loader()
    about = {
        "task_metadata": SimpleNamespace(type="ZeroShotClassification", modalities=["image", "text"]),
        "hf_split": "",
        "hf_subset": "",
    }
    texts, seen = (encoder.encode([batch], **about) for batch in ({"text": labels}, {"image": images}))
    theirs = similarity(texts, seen).numpy()
    expected = space.probabilities([mm.Image(image) for image in images], labels)
    assert theirs == pytest.approx(expected, abs=1e-5)
    plain = similarity(space.encode(labels), space.encode([mm.Image(image) for image in images])).numpy()
    assert np.abs(plain - expected).max() > 0.02  # softmax(100 · cosine) is more certain


class Local:
    """A task without mteb: its data is there, or not."""

    def __init__(self, name: str, modalities: list[str], *, lost: bool = False) -> None:
        self.metadata = SimpleNamespace(
            name=name,
            type="ZeroShotClassification",
            modalities=modalities,
            category=None,
            dataset={"path": f"mteb/{name}", "revision": "0123456789abcdef"},
        )
        self.lost = lost

    def load_data(self, **options: Any) -> None:
        if self.lost:
            raise ConnectionError("offline mode is enabled")


def test_tasks_that_cannot_be_run_are_named_with_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def evaluate(meta: Any, task: Any, **options: Any) -> Any:
        task.load_data()
        scores = {"test": [{"accuracy": 0.5, "main_score": 0.5}]}
        return SimpleNamespace(task_results=[SimpleNamespace(task_name=task.metadata.name, scores=scores)])

    library = SimpleNamespace(evaluate=evaluate, ResultCache=lambda path: None)
    meta = SimpleNamespace(modalities=["text", "audio"])
    monkeypatch.setattr(ours, "_import_mteb", lambda: library)
    monkeypatch.setattr(ours, "model_meta", lambda *args, **options: meta)
    here, lost = Local("Here", ["audio", "text"]), Local("Lost", ["audio", "text"], lost=True)
    seen = Local("Seen", ["video", "text"])
    with pytest.warns(
        MultimodalWarning, match="2 of 3 tasks .* Lost: mteb/Lost .*offline.*; Seen: .*no video"
    ):
        assert ours.evaluate_mteb("starter", [here, lost, seen])["Here"]["accuracy"] == 0.5
    with pytest.raises(DownloadError, match="hf download --repo-type dataset"):
        ours.evaluate_mteb("starter", [lost])
    with pytest.raises(InvalidInput, match="the space encodes no video"):
        ours.evaluate_mteb("starter", [seen])


def test_a_task_that_mteb_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def get_task(name: str) -> Any:
        raise KeyError(name)

    library = SimpleNamespace(get_benchmarks=lambda: [SimpleNamespace(name="MIEB(lite)")], get_task=get_task)
    monkeypatch.setattr(ours, "_import_mteb", lambda: library)
    with pytest.raises(
        InvalidInput, match=r"no benchmark or task 'MIEB\(light\)'; did you mean 'MIEB\(lite\)'"
    ):
        ours.evaluate_mteb("starter", "MIEB(light)")
