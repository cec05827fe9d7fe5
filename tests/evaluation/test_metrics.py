"""Metrics equal those of independent implementations, and sums written out here."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.evaluation.comparison import mcnemar
from multimodal.evaluation.figure import Resampling, mean, ratio, wilson
from multimodal.evaluation.metrics import classification, generated, retrieval, text

EXACT = 1e-9
# From `python -m benchmarks.equality.metrics`, which computes them with torchmetrics 1.9 and scikit-learn 1.9.
RECORDED = {
    "ndcg@10": [0.0, 0.3702914, 0.0, 0.3235868, 0.0, 0.0],
    "map": [0.0635667, 0.2304094, 0.0597661, 0.2222222, 0.0662963, 0.0464372],
    "recall@10": [0.0, 0.6666667, 0.0, 0.6666667, 0.0, 0.0],
    "hit@5": [0.0, 1.0, 0.0, 0.0, 0.0, 0.0],
    "mrr@10": [0.0, 0.3333333, 0.0, 0.1666667, 0.0, 0.0],
}
CALIBRATION = [0.2394817, 0.1459823]
KERNEL_DISTANCE = 0.00728182495


def unit(rng: np.random.Generator, n: int, dim: int = 8) -> np.ndarray:
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_retrieval_metrics_equal_their_definitions_when_several_answers_are_right() -> None:
    rng = np.random.default_rng(0)
    queries, gallery = unit(rng, 60), unit(rng, 200)
    right = [sorted(rng.choice(200, size=rng.integers(1, 6), replace=False).tolist()) for _ in range(60)]
    values = retrieval.item_values(retrieval.rank(queries, gallery, right))
    scores = queries.astype(np.float64) @ gallery.T.astype(np.float64)
    for row, own in enumerate(right):
        hits = np.isin(np.argsort(-scores[row]), own)
        places = np.flatnonzero(hits) + 1
        ideal = sum(1 / np.log2(1 + place) for place in range(1, min(len(own), 10) + 1))
        assert values["hit@5"][row] == hits[:5].any()
        assert values["recall@10"][row] == pytest.approx(hits[:10].sum() / len(own), abs=EXACT)
        gain = sum(1 / np.log2(1 + place) for place in places if place <= 10)
        assert values["ndcg@10"][row] == pytest.approx(gain / ideal, abs=EXACT)
        precision = np.mean([(number + 1) / place for number, place in enumerate(places)])
        assert values["map"][row] == pytest.approx(precision, abs=EXACT)
        assert values["mrr"][row] == pytest.approx(1 / places[0], abs=EXACT)


@pytest.mark.parametrize(("name", "recorded"), RECORDED.items())
def test_retrieval_metrics_equal_those_recorded_from_torchmetrics(name: str, recorded: list[float]) -> None:
    rng = np.random.default_rng(1)
    queries, gallery = unit(rng, 6), unit(rng, 50)
    right = [sorted(rng.choice(50, size=3, replace=False).tolist()) for _ in range(6)]
    values = retrieval.item_values(retrieval.rank(queries, gallery, right))
    assert values[name] == pytest.approx(recorded, abs=1e-5)


def test_a_collapsed_model_ranks_in_the_middle() -> None:
    same = np.ones((9, 4), np.float32) / 2
    ranks = retrieval.rank(same, same, [[row] for row in range(9)])
    assert ranks.best.tolist() == [5.0] * 9
    assert ranks.tied.all()
    assert retrieval.item_values(ranks)["hit@1"].sum() == 0


def test_right_answers_that_tie_with_each_other_lose_nothing() -> None:
    gallery = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    values = retrieval.item_values(retrieval.rank(gallery[:1], gallery, [[0, 1]]))
    assert {name: row[0] for name, row in values.items() if name != "recall@1"} == dict.fromkeys(
        values.keys() - {"recall@1"}, 1.0
    )


def test_calibration_error_and_class_mean_equal_those_recorded_from_torchmetrics_and_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    probabilities, truth = rng.dirichlet(np.ones(7), 300), rng.integers(0, 7, 300)
    predicted = probabilities.argmax(1)
    correct, confidence = (predicted == truth).astype(float), probabilities.max(1)
    error = classification.calibration_error(confidence, correct)(np.ones((1, 300)))[0]
    per_class = classification.class_mean(correct, truth)(np.ones((1, 300)))[0]
    assert [error, per_class] == pytest.approx(CALIBRATION, abs=1e-6)
    one_hot = np.eye(7)[truth]
    assert classification.brier(probabilities, truth) == pytest.approx(
        ((probabilities - one_hot) ** 2).sum(1)
    )


WORDS = st.lists(st.sampled_from(["a", "red", "apple", "on", "the", "tree"]), max_size=8)


@settings(max_examples=20)
@given(WORDS.filter(bool), WORDS)
def test_edit_distances_equal_those_of_jiwer(reference: list[str], hypothesis: list[str]) -> None:
    jiwer = pytest.importorskip("jiwer")
    first, second = " ".join(reference), " ".join(hypothesis)
    assert text.edits(reference, hypothesis) / len(reference) == pytest.approx(jiwer.wer(first, second))
    assert text.edits(first, second) / len(first) == pytest.approx(jiwer.cer(first, second))


def test_normalising_rewrites_no_words() -> None:
    assert text.normalize("Twelve thirty") == "twelve thirty"
    assert text.normalize("[noise] (um) — It’s  “NICE”!") == "noise um it's nice"
    assert text.normalize("…") == ""


def test_cider_prefers_the_informative_words() -> None:
    references = [["a red apple"], ["a blue car"], ["a big dog"]]
    perfect = text.cider(["a red apple", "a blue car", "a big dog"], references)
    assert perfect == pytest.approx(
        [7.5] * 3
    )  # no n-grams of four words: three of the four lengths are perfect
    partial = text.cider(["a red apple", "a car", "a a a"], references)
    assert partial[0] == perfect[0] > partial[1] > partial[2]


def test_the_kernel_distance_equals_that_recorded_from_torchmetrics() -> None:
    rng = np.random.default_rng(3)
    figure = generated.kernel_distance(unit(rng, 40), unit(rng, 30))
    assert figure.value == pytest.approx(KERNEL_DISTANCE, abs=1e-8)
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < 0 < figure.high


def test_the_kernel_distance_of_shifted_vectors_is_shown() -> None:
    rng = np.random.default_rng(4)
    first, second = rng.standard_normal((60, 8)), rng.standard_normal((60, 8)) + 1.0
    low = generated.kernel_distance(first.astype(np.float32), second.astype(np.float32)).low
    assert low is not None
    assert low > 0


def test_clip_scores_are_clamped_pair_by_pair() -> None:
    images = np.eye(2, dtype=np.float32)
    assert generated.clip_score(images, np.array([[1, 0], [0, -1]], np.float32)).tolist() == [2.5, 0.0]


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(100):
        flags = rng.random(200) < 0.7
        figure = Resampling(200, draws=400, seed=seed).share(flags)
        covered += figure.low <= 0.7 <= figure.high  # type: ignore[operator]
    assert 88 <= covered <= 100


def test_groups_are_drawn_together_and_widen_the_interval() -> None:
    groups = [f"speaker {row // 50}" for row in range(300)]
    values = np.repeat([1.0, 0.0, 1.0, 1.0, 0.0, 1.0], 50)
    alone, together = (Resampling(300, own).figure(mean(values)) for own in (None, groups))
    assert alone.value == together.value == pytest.approx(4 / 6)
    width = [figure.high - figure.low for figure in (alone, together)]  # type: ignore[operator]
    assert width[1] > 4 * width[0]
    assert together.groups == 6


def test_a_single_group_has_no_interval() -> None:
    figure = Resampling(5, ["one"] * 5).figure(mean([1.0, 0.0, 1.0, 1.0, 1.0]))
    assert (figure.value, figure.low, figure.high) == (0.8, None, None)


def test_a_perfect_share_has_the_interval_of_wilson() -> None:
    figure = Resampling(150).share(np.ones(150))
    assert (figure.low, figure.high) == pytest.approx(wilson(150, 150))
    assert figure.low == pytest.approx(0.975, abs=1e-3)


def test_a_ratio_is_pooled_over_items() -> None:
    assert Resampling(2).figure(ratio([1, 0], [2, 8])).value == pytest.approx(0.1)


def test_mcnemars_test_is_exact() -> None:
    scipy = pytest.importorskip("scipy.stats")
    for lost, won in ((0, 0), (5, 4), (10, 1), (3, 30)):
        expected = scipy.binomtest(lost, lost + won).pvalue if lost + won else 1.0
        assert mcnemar(lost, won) == pytest.approx(expected)


def test_two_thousand_bootstraps_of_1427_ranks_take_a_tenth_of_a_second() -> None:
    flags = np.random.default_rng(6).random(1427) < 0.9
    seconds = []
    for _ in range(3):
        started = time.process_time()
        Resampling(1427).share(flags)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.1
