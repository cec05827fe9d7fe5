"""How training runs: methods, interruption, early stop, broken losses, bad inputs, several processes."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import multimodal as mm
from multimodal.adapt import finetune
from multimodal.adapt.finetuning import losses
from multimodal.adapt.finetuning.judge import Figure, change, recall_at_1, share
from multimodal.adapt.finetuning.optimisation import batch_indices, schedule
from multimodal.core.errors import InvalidInput, UnsupportedModality
from tests.adapt.finetuning.conftest import COLOURS, QUICK, SHAPES, shape

ROOT = Path(__file__).parents[3]
PAIRS = [(mm.Image(shape(colour, name)), f"a {colour} {name}") for colour in COLOURS for name in SHAPES]


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tiny: mm.Space, tmp_path: Path) -> None:
    options = QUICK | {"steps": 4, "eval_every": 2, "interpolate": None, "replay": PAIRS[:6]}
    whole = finetune(tiny, PAIRS, out=tmp_path / "whole", **options)[1]

    def interrupt(task: str, done: int, total: int) -> None:
        if task.startswith("training, validation loss ") and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(tiny, PAIRS, out=tmp_path / "cut", progress=interrupt, **options)
    with pytest.raises(InvalidInput, match="holds an interrupted run: continue it with resume=True"):
        finetune(tiny, PAIRS, out=tmp_path / "cut", **options)
    with pytest.raises(InvalidInput, match="is the state of another training run"):
        finetune(tiny, PAIRS, out=tmp_path / "cut", resume=True, **(options | {"seed": 1}))
    resumed = finetune(tiny, PAIRS, out=tmp_path / "cut", resume=True, **options)[1]
    assert (resumed.losses, resumed.validation) == (whole.losses, whole.validation)
    assert resumed.fingerprint == whole.fingerprint
    first, second = tensors(tmp_path / "whole"), tensors(tmp_path / "cut")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "multimodal.json", "report.html", "report.json",
    }  # fmt: skip


def test_the_seed_decides_the_result(tiny: mm.Space) -> None:
    results = [finetune(tiny, PAIRS, seed=seed, interpolate=None, **QUICK)[1] for seed in (0, 0, 1)]
    assert results[0].fingerprint == results[1].fingerprint != results[2].fingerprint


@pytest.mark.parametrize("method", ["full", "last", "probe"])
def test_other_methods_give_a_space_that_is_saved(method: str, starter: mm.Space, tmp_path: Path) -> None:
    rate = 5e-5 if method == "last" else None
    options = QUICK | {"interpolate": 0.5, "learning_rate": rate}
    space, report = finetune(starter, PAIRS, method=method, out=tmp_path / "s", **options)
    loaded = mm.load(tmp_path / "s")
    assert loaded.fingerprint == space.fingerprint != starter.fingerprint
    assert np.abs(loaded.encode(PAIRS[0][0]) - space.encode(PAIRS[0][0])).max() < 1e-6
    net, before = (model.encoders["image"].net for model in (space, starter))
    changed = {
        name: value.numel()
        for name, value in net.named_parameters()
        if not torch.equal(value, before.get_parameter(name))
    }
    assert (set(changed) == {"project.weight", "project.bias"}) == (method == "last")
    assert bool(changed) == (method != "probe")
    assert report.n_parameters == {"probe": 256 * 256 + 256, "last": 576 * 256 + 256}.get(
        method, sum(value.numel() for value in net.parameters())
    )


def test_an_interpolation_of_zero_is_the_base(tiny: mm.Space) -> None:
    space, report = finetune(tiny, PAIRS, method="last", interpolate=0, **QUICK)
    assert space.fingerprint == tiny.fingerprint
    assert report.gain.value == 0.0 and "the space is as before" in report.notes[-1]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_weights(
    tiny: mm.Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    original = losses.clip_loss

    def broken(*args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal calls
        calls += torch.is_grad_enabled()
        return original(*args, **kwargs) * (float("nan") if calls > 3 else 1.0)

    monkeypatch.setattr(losses, "clip_loss", broken)
    options = QUICK | {"steps": 9, "eval_every": 2, "interpolate": None}
    space, report = finetune(tiny, PAIRS, **options)
    assert report.stopped == "the loss became nan at step 4; the weights of step 2 are kept"
    assert report.stopped in report.notes and len(report.losses) == 3
    monkeypatch.setattr(losses, "clip_loss", original)
    assert finetune(tiny, PAIRS, **(options | {"steps": 9, "patience": 1}))[0].encode(PAIRS[0][0]).shape == (
        16,
    )
    assert np.isfinite(space.encode(PAIRS[0][0])).all()


def test_training_stops_when_validation_no_longer_improves(tiny: mm.Space) -> None:
    options = QUICK | {"steps": 12, "eval_every": 1, "patience": 2, "learning_rate": 0.5}
    report = finetune(tiny, PAIRS, method="last", **options)[1]
    assert report.stopped == f"no improvement since step {report.best_step}"
    assert len(report.losses) == report.best_step + 2 < 12
    assert min(loss for _, loss in report.validation) == dict(report.validation)[report.best_step]


def test_a_batch_in_parts_trains_like_the_whole(tiny: mm.Space) -> None:
    options = QUICK | {"method": "last", "interpolate": None, "batch_size": 12}
    results = [finetune(tiny, PAIRS, chunk_size=size, **options) for size in (12, 5)]
    vectors = [space.encode(PAIRS[0][0]) for space, _ in results]
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-6
    assert results[0][1].losses == pytest.approx(results[1][1].losses, abs=1e-6)


def test_hard_negatives_matryoshka_siglip_and_bfloat16_are_options(tiny: mm.Space) -> None:
    triples = [(image, text, f"not {text}") for image, text in PAIRS]
    options = QUICK | {"interpolate": None, "matryoshka": (8,), "loss": "siglip", "mixed_precision": True}
    report = finetune(tiny, triples, method="last", **options)[1]
    plain = finetune(tiny, PAIRS, method="last", **(QUICK | {"interpolate": None}))[1]
    assert np.isfinite(report.losses).all() and report.losses != plain.losses
    assert report.settings["loss"] == "siglip"


def test_augmented_items_are_what_is_trained(tiny: mm.Space) -> None:
    seen: list[tuple[int, float]] = []

    def augment(item: Any, rng: np.random.Generator) -> Any:
        seen.append((id(item), rng.random()))
        return mm.Image(255 - item.load())

    options = QUICK | {"method": "last", "interpolate": None}
    first = finetune(tiny, PAIRS, augment=augment, **options)[1]
    assert len(seen) == 16 and len({draw for _, draw in seen}) == 16
    assert first.losses != finetune(tiny, PAIRS, **options)[1].losses


def test_texts_are_trained_when_asked_for(starter: mm.Space) -> None:
    options = QUICK | {"interpolate": None}
    # Colours by the names of others: new to the starter, so that even two steps bring something to keep
    named = dict(zip(COLOURS, [*COLOURS][1:] + [*COLOURS][:1], strict=True))
    pairs = [
        (mm.Image(shape(colour, name)), f"a {named[colour]} {name}") for colour in COLOURS for name in SHAPES
    ]
    space, report = finetune(starter, pairs, modality=("image", "text"), **options)
    assert report.modalities == ("image", "text")
    for modality in ("image", "text"):
        assert space.encoders[modality].fingerprint != starter.encoders[modality].fingerprint
    with pytest.raises(
        UnsupportedModality, match="modality=audio is to be trained, and the pairs are of image and"
    ):
        finetune(starter, PAIRS, modality="audio", **options)
    with pytest.raises(InvalidInput, match="leaves nothing to train in pairs of image and text"):
        finetune(starter, PAIRS, lock=("image", "text"), **options)


def test_leaks_and_unreadable_files_are_said(tiny: mm.Space, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    data = [*PAIRS, (mm.Image(tmp_path / "broken.png"), "broken"), (mm.Image(tmp_path / "gone.png"), "gone")]
    report = finetune(tiny, data, held_out=PAIRS[:4], method="last", **QUICK)[1]
    leaks, failures = report.notes[:2]
    assert leaks == "4 training pairs were removed because the held-out pairs contain the same items"
    assert (
        failures.startswith("2 items could not be read and were left out, first ")
        and "broken.png" in failures
    )
    assert report.before.n == 4


def test_replayed_pairs_of_the_reference_are_removed(tiny: mm.Space) -> None:
    options = QUICK | {"replay": PAIRS[:4], "reference": PAIRS[2:8], "method": "last"}
    report = finetune(tiny, PAIRS[8:], **options)[1]
    assert report.n_replay == 2 and report.reference == "given"
    assert "2 replayed pairs were removed because the reference contains them" in report.notes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "ia3"}, "method must be one of 'lora', 'dora', 'probe', 'full', 'last', got 'ia3'"),
        ({"interpolate": 2.0}, "interpolate must be 'auto', None or a number from 0 to 1, got 2.0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be a number above 0, got -1.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a number above 0, got nan"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"resume": True}, "resume=True needs out="),
        ({"held_out": 0}, "held_out must be a share above 0 and below 0.9, or pairs, got 0"),
    ],
)
def test_wrong_options_are_refused_before_training(
    options: dict[str, Any], message: str, tiny: mm.Space
) -> None:
    with pytest.raises(InvalidInput, match=message):
        finetune(tiny, PAIRS, **(QUICK | options))


def test_all_unreadable_is_an_error(tiny: mm.Space, tmp_path: Path) -> None:
    data = [(mm.Image(tmp_path / f"{n}.png"), f"text {n}") for n in range(12)]
    with pytest.raises(InvalidInput, match="training pairs can be read: "):
        finetune(tiny, data, **QUICK)


def test_a_space_in_bfloat16_is_refused() -> None:
    with pytest.raises(InvalidInput, match="has precision='bfloat16': load it with precision='float32'"):
        finetune(mm.load("starter", precision="bfloat16"), PAIRS, **QUICK)


def test_the_figures_are_those_of_their_definitions() -> None:
    queries, gallery = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]], np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    ids = np.array([0, 1, 2, 3])
    assert recall_at_1(queries, ids, gallery, np.array([10, 11, 12, 12])).tolist() == [1.0, 1.0, 0.0, 1.0]
    assert recall_at_1(queries * 0, ids, gallery, ids).tolist() == [0.0] * 4  # ties are misses
    scores = np.array([1.0] * 8 + [0.0] * 2)
    assert share(scores) == Figure(0.8, pytest.approx(0.4901, abs=1e-4), pytest.approx(0.9433, abs=1e-4), 10)
    moved = change(scores, np.ones(10))
    assert moved.value == pytest.approx(0.2) and 0 <= moved.low <= 0.2 <= moved.high <= 0.5


def test_batches_cover_an_epoch_without_repetition() -> None:
    epoch = [batch_indices(10, 3, step, 0, "train") for step in range(3)]
    assert len({index for batch in epoch for index in batch}) == 9
    assert batch_indices(10, 3, 3, 0, "train") != epoch[0]
    assert batch_indices(10, 3, 0, 0, "replay") != epoch[0] != batch_indices(10, 3, 0, 1, "train")
    assert len(batch_indices(2, 8, 5, 0, "train")) == 2
    rates = [schedule(step, 50) for step in range(50)]
    assert max(rates) == 1.0 and rates[0] < 0.2 and rates[-1] < 0.12


WORKER = """
import torch
torch.set_num_threads(1)
from multimodal.adapt import finetune
from tests.adapt.finetuning.test_training import PAIRS, TOGETHER
_, report = finetune("starter", PAIRS, **TOGETHER)
print(*report.losses, report.validation[-1][1])
"""
TOGETHER: dict[str, Any] = QUICK | {"method": "last", "interpolate": None, "batch_size": 7}


def test_two_processes_train_like_one(starter: mm.Space, tmp_path: Path) -> None:
    """As `accelerate launch` starts them: each embeds its half of a batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2",
              "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # fmt: skip
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    _, report = finetune(starter, PAIRS, **TOGETHER)
    alone = [*report.losses, report.validation[-1][1]]
    for process in processes:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-3000:]
        assert [float(word) for word in output.split()] == pytest.approx(alone, abs=1e-5)
