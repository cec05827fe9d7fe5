"""Classifiers from a few examples: against brute force, on scans of digits, and with bad input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray

import multimodal as mm
from multimodal.adapt.fewshot import conformal, discriminant, prior
from multimodal.core.encoder import Encoder
from multimodal.core.errors import (
    CheckpointError,
    InvalidInput,
    MediaNotFound,
    MediaWarning,
    SpaceMismatch,
    UnsupportedModality,
)
from multimodal.core.items import Item
from multimodal.core.modality import Modality

DIM = 12
N_CLASSES = 4


class Pixels(Encoder):
    """The red of the first row, minus its middle: images are vectors."""

    modality = Modality.IMAGE
    dim = DIM

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        rows = [np.asarray(item.load())[0, :, 0].astype(np.float32) - 127.5 for item in items]
        return {"rows": torch.from_numpy(np.stack(rows))}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["rows"]

    def config(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        return {"nothing": torch.zeros(1)}


@pytest.fixture(scope="module")
def pixels() -> mm.Space:
    return mm.Space([Pixels()], name="pixels")


@pytest.fixture(scope="module")
def starter() -> mm.Space:
    return mm.load("starter", device="cpu")


@pytest.fixture(scope="module")
def digits() -> tuple[list[mm.Image], NDArray[np.int64]]:
    """Twenty scans of each of five digits."""
    from sklearn.datasets import load_digits

    data = load_digits()
    rows = np.concatenate([np.flatnonzero(data.target == digit)[:20] for digit in range(5)])
    images = []
    for pixels in data.images[rows]:
        grey = PIL.Image.fromarray((255 - pixels * 15).astype(np.uint8))
        images.append(mm.Image(grey.resize((64, 64)).convert("RGB")))
    return images, data.target[rows]


def cluster(label: int, rng: np.random.Generator, spread: float) -> mm.Image:
    """An image whose vector lies near the centre of its class."""
    centre = np.random.default_rng(label).uniform(70, 185, DIM)
    row = (centre + spread * rng.standard_normal(DIM)).clip(0, 255).astype(np.uint8)
    return mm.Image(np.repeat(row[None, :, None], 3, axis=2))


def clusters(n: int, seed: int = 0, spread: float = 55.0) -> list[tuple[mm.Image, str]]:
    """n examples of each of the classes c0, c1, …"""
    rng = np.random.default_rng(seed)
    return [(cluster(label, rng, spread), f"c{label}") for label in range(N_CLASSES) for _ in range(n)]


def unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


# --- the classifier of vectors --------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dim"), [(14, 30), (40, 7)])
def test_leave_one_out_scores_are_those_of_classifiers_fitted_without_the_example(n: int, dim: int) -> None:
    rng = np.random.default_rng(n)
    classes = np.concatenate([np.arange(3), rng.integers(0, 3, n - 3)])
    vectors = unit(rng.standard_normal((n, dim)) + 2 * np.eye(dim)[classes]).astype(np.float32)
    fit = discriminant.discriminant(vectors, classes, 3)
    rows = discriminant.centred(vectors, fit.scores.mean)
    residuals = rows - discriminant.class_means(rows, classes, 3)[classes]
    unit_ridge = (residuals**2).sum() / (n - 3)
    ratios = []
    for shrinkage in discriminant.SHRINKAGES:
        brute = []
        for left_out in fit.rows:
            kept = np.arange(n) != left_out
            means = discriminant.class_means(rows[kept], classes[kept], 3)
            scatter = rows[kept] - means[classes[kept]]
            inverse = np.linalg.inv(scatter.T @ scatter + shrinkage * unit_ridge * np.eye(dim))
            lengths = np.sqrt(np.einsum("kd,de,ke->k", means, inverse, means))
            brute.append(rows[left_out] @ inverse @ means.T / lengths)
        ratio = fit.held_out / np.array(brute)
        ratios.append(float(ratio.std() / abs(ratio.mean())))
    assert min(ratios) < 1e-6  # of the shrinkage that was chosen: equal but for the common factor


def test_the_words_count_only_where_they_are_better_than_chance() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(5), 6)
    vectors = unit(rng.standard_normal((30, 20)) + np.eye(20)[classes]).astype(np.float32)
    fit = discriminant.discriminant(vectors, classes, 5)
    right = 6 * np.eye(5)[classes] + rng.standard_normal((30, 5))
    assert prior.blend(fit, right, classes)[0] > 0
    assert prior.blend(fit, right[:, [1, 2, 3, 4, 0]], classes)[0] == 0
    single = discriminant.nearest_mean(vectors[::6], classes[::6], 5)
    assert prior.blend(single, right[::6], classes[::6])[0] == prior.SINGLE_WEIGHT


def test_with_few_examples_the_words_count_less_and_the_candidates_are_fewer() -> None:
    rng = np.random.default_rng(0)
    words = 8 * np.eye(5) + rng.standard_normal((5, 5))
    weights = []
    for n in (4, 12):
        classes = np.repeat(np.arange(5), n)
        vectors = unit(rng.standard_normal((5 * n, 20)) + 0.3 * np.eye(20)[classes]).astype(np.float32)
        weights.append(
            prior.blend(discriminant.discriminant(vectors, classes, 5), words[classes], classes)[0]
        )
    assert weights[0] == prior.LARGEST_FEW < weights[1]
    assert conformal.error_rate(0.1, [4, 4]) == pytest.approx(0.125)
    assert conformal.error_rate(0.1, [8, 8]) == 0.1


def test_chance_is_told_from_skill_by_the_binomial_tail() -> None:
    assert not prior.better_than_chance(4, 20, 5)  # as expected by chance
    assert prior.better_than_chance(10, 20, 5)
    assert not prior.better_than_chance(2, 2, 2)


# --- few_shot -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "least"), [(1, 0.55), (4, 0.8)])
def test_a_few_scans_teach_digits_that_the_words_do_not(
    starter: mm.Space, digits: tuple[list[mm.Image], NDArray[np.int64]], k: int, least: float
) -> None:
    images, classes = digits
    rows = [row for digit in range(5) for row in np.flatnonzero(classes == digit)[:k]]
    labels = ["zero", "one", "two", "three", "four"]
    classify = mm.pipeline(
        "zero-shot-classification",
        model=starter,
        examples=[(images[row], labels[classes[row]]) for row in rows],
    )
    judged = [row for digit in range(5) for row in np.flatnonzero(classes == digit)[10:]]
    results = classify([images[row] for row in judged])
    right = np.mean(
        [result.label == labels[classes[row]] for result, row in zip(results, judged, strict=True)]
    )
    words = mm.pipeline("zero-shot-classification", model=starter)
    by_words = words([images[row] for row in judged], labels=labels)
    zero_shot = np.mean([r.label == labels[classes[row]] for r, row in zip(by_words, judged, strict=True)])
    assert right >= least
    assert right > zero_shot + 0.2
    assert sum(score.score for score in results[0]) == pytest.approx(1)
    assert (classify.classifier.report.accuracy is None) == (k == 1)


def test_examples_of_several_modalities_teach_one_classifier(starter: mm.Space) -> None:
    gallery = Path("assets/gallery/pictures")
    examples = {
        "food": [mm.Image(gallery / "pizza-on-table.jpg"), "a slice of bread", "a bowl of rice"],
        "music": ["a violin", "a drum", mm.Audio("assets/gallery/sounds/guitar.flac")],
    }
    classify = mm.adapt.few_shot(starter, examples)
    assert [result.label for result in classify(["a piano", "a pancake"])] == ["music", "food"]
    assert set(classify.rule.words) <= {"image", "text", "audio"}


def test_an_example_with_a_wrong_label_is_doubtful(pixels: mm.Space) -> None:
    examples = clusters(8, spread=30)
    examples[3] = (examples[3][0], "c2")
    report = mm.adapt.few_shot(pixels, examples).report
    assert [(example.name, example.suggested) for example in report.doubtful] == [("example 3", "c0")]
    assert "example 3 is labelled 'c2', the others say 'c0'" in str(report)
    assert mm.adapt.few_shot(pixels, clusters(8, spread=30)).report.doubtful == ()


def test_the_report_predicts_accuracy_and_the_probabilities_are_calibrated(pixels: mm.Space) -> None:
    classify = mm.adapt.few_shot(pixels, clusters(10))
    judged = clusters(150, seed=1)
    results = classify([item for item, _ in judged])
    hits = np.array([result.label == label for result, (_, label) in zip(results, judged, strict=True)])
    low, high = classify.report.interval
    assert low <= hits.mean() <= high
    assert np.mean([result.score for result in results]) == pytest.approx(hits.mean(), abs=0.06)


def test_candidates_hold_the_right_label_as_often_as_promised(pixels: mm.Space) -> None:
    classify = mm.adapt.few_shot(pixels, clusters(16), reject=0.1)
    judged = clusters(150, seed=1)
    results = classify([item for item, _ in judged])
    covered = np.mean(
        [label in result.candidates for result, (_, label) in zip(results, judged, strict=True)]
    )
    assert covered == pytest.approx(0.9, abs=0.05)
    assert classify.report.coverage == pytest.approx(0.9, abs=0.03)
    unsure = [result for result in results if result.reason == "ambiguous"]
    assert all(len(result.candidates) > 1 for result in unsure)
    assert np.mean([result.reason == "unknown" for result in results]) < 0.2
    centres = np.stack(
        [np.asarray(cluster(k, np.random.default_rng(), 0.0).load())[0, :, 0] for k in range(4)]
    )
    unlike = mm.Image(np.repeat((255 - centres.mean(axis=0)).astype(np.uint8)[None, :, None], 3, axis=2))
    assert classify(unlike).reason == "unknown"
    assert classify(unlike).rejected


def test_the_nearest_examples_are_shown_by_name(pixels: mm.Space) -> None:
    examples = clusters(3)
    classify = mm.adapt.few_shot(pixels, examples)
    result = classify(examples[4][0], neighbours=2, top_k=1)
    assert (result.nearest[0].name, result.nearest[0].label) == ("example 4", "c1")
    assert result.nearest[0].similarity == pytest.approx(1, abs=1e-6)
    assert (len(result), len(result.nearest), result.candidates, result.rejected) == (1, 2, None, False)


def test_logistic_regression_classifies_two_and_more_labels(pixels: mm.Space) -> None:
    for examples in (clusters(5, spread=30), clusters(5, spread=30)[:10]):
        classify = mm.adapt.few_shot(pixels, examples, method="logistic")
        assert classify.report.method == "logistic"
        assert classify.report.accuracy > 0.8
        results = classify([item for item, _ in examples])
        assert np.mean([r.label == label for r, (_, label) in zip(results, examples, strict=True)]) > 0.9


def test_labels_may_be_codes_with_words(starter: mm.Space) -> None:
    examples = {"x1": ["a dog", "a cat", "a cow"], "x2": ["a car", "a bus", "a truck"]}
    classify = mm.adapt.few_shot(starter, examples, labels={"x2": "vehicle", "x1": "animal"})
    assert classify.labels == ("x2", "x1")
    assert classify("a horse").label == "x1"


# --- files ----------------------------------------------------------------------------------------


def test_a_saved_classifier_gives_the_same_results(
    starter: mm.Space, pixels: mm.Space, tmp_path: Path
) -> None:
    examples = {
        "animal": ["a dog", "a cat", "a cow", "a pig"],
        "vehicle": ["a car", "a bus", "a van", "a ship"],
    }
    classify = mm.adapt.few_shot(starter, examples, reject=0.2)
    file = tmp_path / "mine.clf"
    classify.save(file)
    opened = mm.load_classifier(file, device="cpu")
    assert opened("a horse") == classify("a horse")
    assert opened.report == classify.report
    assert mm.load_classifier(file, starter)("a truck") == classify("a truck")
    other = mm.adapt.few_shot(pixels, clusters(2))
    other.save(tmp_path / "unnamed.clf")
    assert mm.load_classifier(tmp_path / "unnamed.clf", pixels).labels == other.labels
    with pytest.raises(InvalidInput, match=r"which has no name to load it by: give space="):
        mm.load_classifier(tmp_path / "unnamed.clf")
    with pytest.raises(
        SpaceMismatch, match=r"was made in 'pixels' with another image than that of 'starter'"
    ):
        mm.load_classifier(tmp_path / "unnamed.clf", starter)


def test_a_file_that_is_no_classifier_is_refused(pixels: mm.Space, tmp_path: Path) -> None:
    file = tmp_path / "mine.clf"
    with pytest.raises(MediaNotFound, match=r"no such file; make it with 'multimodal teach'"):
        mm.load_classifier(file)
    mm.adapt.few_shot(pixels, clusters(2)).save(file)
    data = file.read_bytes()
    for damaged in (b"", b"pickle", data[:-5], data.replace(b'\\"sharpness\\"', b'\\"sharpnes_\\"')):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"is no classifier|is damaged"):
            mm.load_classifier(file, pixels)
    with pytest.raises(InvalidInput, match=r"is a folder; give the name of a file"):
        mm.adapt.few_shot(pixels, clusters(1)).save(tmp_path)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("examples", "options", "message"),
    [
        ([], {}, "there are no examples"),
        (clusters(3)[:3], {}, r"all examples \(3\) have the label 'c0'"),
        (clusters(1)[:1], {}, r"all examples \(1\) have the label 'c0'"),
        (clusters(1), {"labels": ["c0", "c1", "c2", "c3", "c4"]}, "the label 'c4' has no example"),
        (clusters(1), {"labels": ["c0", "c1"]}, "has the label 'c2', which is not among labels: c0, c1"),
        (clusters(1), {"labels": "c0"}, r"labels must be a list of names"),
        ([(clusters(1)[0][0], "a"), (clusters(1)[0][0], "b")], {}, "example 0 and example 1 have the same content"),
        ([*clusters(1), "c4"], {}, r"example 4 must be a pair \(item, label\); got 'c4'"),
        ([*clusters(1), (clusters(1)[0][0], " ")], {}, "example 4 has the label ' '"),
        (17, {}, "examples must be pairs"),
        (clusters(3), {"reject": 0.1}, "at least 4 examples of each label; 'c0' has 3"),
        (clusters(4), {"reject": 1.5}, "reject must be a share of errors between 0 and 1"),
        (clusters(1), {"method": "logistic"}, "needs two examples of each label, 'c0' has one"),
        (clusters(1), {"method": "svm"}, "method must be one of 'auto', 'nearest mean', 'logistic'"),
        (clusters(1), {"templates": ["a photo"]}, "templates must be a list of sentences"),
        ([(Path("a.png"), "a"), (Path("b.png"), "b")], {}, "none of the 2 examples could be read; the first is a.png"),
        ([("a word", "a"), *clusters(1)], {"labels": ["a", "c0", "c1", "c2", "c3"]}, "none of its 1 could be read"),
    ],
)  # fmt: skip
def test_bad_examples_are_refused(
    pixels: mm.Space, examples: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        mm.adapt.few_shot(pixels, examples, **options)


def test_examples_that_cannot_be_read_are_skipped_and_named(pixels: mm.Space) -> None:
    examples = [*clusters(2), (Path("gone.png"), "c0"), ("a word", "c1"), clusters(2)[0]]
    with pytest.warns(MediaWarning, match=r"2 of 11 examples could not be read and were skipped.*gone.png"):
        report = mm.adapt.few_shot(pixels, examples).report
    assert [(example.name, example.label) for example in report.skipped] == [
        ("gone.png", "c0"),
        ("'a word'", "c1"),
    ]
    assert (report.n_duplicates, sum(report.counts.values())) == (1, 8)
    assert "1 exact copies" in str(report)


def test_a_taught_pipeline_takes_no_labels_and_an_untaught_one_needs_them(starter: mm.Space) -> None:
    taught = mm.pipeline("zero-shot-classification", model=starter, examples={"a": ["dog"], "b": ["car"]})
    with pytest.raises(InvalidInput, match="was taught by examples, whose labels it has"):
        taught("cat", labels=["a", "b"])
    with pytest.raises(UnsupportedModality, match="video given to a space with text, image, audio"):
        taught(mm.Video(np.zeros((2, 8, 8, 3), np.uint8), fps=1))
    with pytest.raises(InvalidInput, match="no labels given"):
        mm.pipeline("zero-shot-classification", model=starter)("cat")
    with pytest.raises(InvalidInput, match="go with examples="):
        mm.pipeline("zero-shot-classification", model=starter, labels=["a"])
