"""The scaling study: its metrics, and its table against its own findings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.scaling import corpus, findings, grid, metrics, training
from recipes.scaling.model import CONTEXT, CharacterModel, n_parameters

HERE = Path(grid.__file__).parent


@pytest.fixture(scope="module")
def text() -> corpus.Corpus:
    words = np.random.default_rng(0).choice(["a red hat", "an old key", "the blue sea", "two dogs"], 8_000)
    return corpus.split(", ".join(words))


def test_more_data_lowers_the_loss_and_a_run_reports_what_it_was_trained_on(text: corpus.Corpus) -> None:
    few, many = (training.train(training.Plan(8, n), text) for n in (2_000, 30_000))
    assert many["loss"] < few["loss"] < np.log(len(corpus.ALPHABET))
    assert many["N"] == n_parameters(8)
    assert many["C"] == 6 * many["N"] * many["D"]
    assert many["exact_1"] == pytest.approx(many["accuracy"])
    assert many["exact_10"] <= many["exact_5"] <= many["exact_3"] <= many["exact_1"]
    with pytest.raises(ValueError, match="give a longer text"):
        training.train(training.Plan(8, 10**7), text)


def test_exact_match_without_generating_is_that_of_greedy_continuations(text: corpus.Corpus) -> None:
    torch.manual_seed(0)
    model, k = CharacterModel(8).eval(), 3
    torch.nn.init.normal_(model.read.weight)
    part = text.test[:400]
    windows = torch.from_numpy(part).unfold(0, CONTEXT + 1, 1).long()
    n_right = 0
    with torch.inference_mode():
        for start in range(len(windows) - k + 1):
            written = windows[start, :-1]
            for _ in range(k):
                written = torch.cat([written, model(written[None, -CONTEXT:]).argmax(-1)])
            n_right += written[CONTEXT:].tolist() == part[start + CONTEXT : start + CONTEXT + k].tolist()
    assert metrics.judge(model, part)[f"exact_{k}"] == pytest.approx(n_right / (len(windows) - k + 1))


@pytest.mark.parametrize(
    ("first", "second", "distance"), [("kitten", "sitting", 3), ("", "ab", 2), ("ab", "ab", 0)]
)
def test_the_edit_distance_counts_insertions_deletions_and_substitutions(
    first: str, second: str, distance: int
) -> None:
    assert metrics.edit_distance([*map(ord, first)], [*map(ord, second)]) == distance


def test_the_published_findings_are_those_of_the_published_table() -> None:
    rows = grid.read_table(HERE / "runs.csv")
    published = json.loads((HERE / "results.json").read_text())
    assert len(rows) == published["law"]["n_runs"]
    assert findings.equal_compute(rows) == published["equal_compute"]
    assert findings.emergence(rows) == published["emergence"]
    assert findings.seed_spread(rows) == published["seeds"]
