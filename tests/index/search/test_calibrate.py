"""`Index.calibrate`: probabilities fitted to labelled pairs, stored with the index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.core.errors import IndexStateError, InvalidInput
from multimodal.core.items import Image
from multimodal.core.space import Space
from multimodal.index import CalibrationReport, Index
from multimodal.index.search.calibration_fit import (
    FOLDS,
    Example,
    expected_calibration_error,
    fit_coefficients,
    make_report,
    threshold,
)
from multimodal.index.search.score_calibration import DEFAULT_COEFFICIENTS, Coefficients
from tests.index.search.test_calibration import N, items

TRUE_COEFFICIENTS = Coefficients((0.8, 1.5), (1.2, 0.5))


@pytest.fixture
def filled(index: Index) -> Index:
    index.add(items(np.random.default_rng(0), N))
    return index


def drawn(n_queries: int, seed: int = 0, coefficients: Coefficients = TRUE_COEFFICIENTS) -> list[Example]:
    """Rows whose labels are drawn with the probabilities that `coefficients` give."""
    rng = np.random.default_rng(seed)
    examples = []
    for query in range(n_queries):
        for row in range(20):
            prominence, same = float(rng.normal(3, 2)), float(row % 2)
            slope, intercept = coefficients.mixed(same)
            chance = 1 / (1 + np.exp(-(slope * prominence + intercept - 4)))
            examples.append(Example(query, prominence, -4.0, same, bool(rng.random() < chance)))
    return examples


# --- the fit --------------------------------------------------------------------------------------


def test_the_fit_finds_the_coefficients_that_made_the_labels() -> None:
    fitted = fit_coefficients(drawn(2000))
    assert fitted.same_modality == pytest.approx(TRUE_COEFFICIENTS.same_modality, abs=0.1)
    assert fitted.cross_modality == pytest.approx(TRUE_COEFFICIENTS.cross_modality, abs=0.1)


def test_few_labels_change_little_and_none_of_a_kind_changes_nothing() -> None:
    one = [Example(0, 3.0, -4.0, 1.0, True)]
    fitted = fit_coefficients(one)
    assert fitted.cross_modality == DEFAULT_COEFFICIENTS.cross_modality
    assert np.abs(np.subtract(fitted.same_modality, DEFAULT_COEFFICIENTS.same_modality)).max() < 2


@given(
    labels=st.lists(st.booleans(), min_size=1, max_size=30),
    prominences=st.lists(st.floats(-50, 50), min_size=30, max_size=30),
    same=st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=30, max_size=30),
)
def test_any_labels_give_finite_coefficients_that_keep_the_order(
    labels: list[bool], prominences: list[float], same: list[float]
) -> None:
    examples = [
        Example(number % 4, prominence, -3.0, share, label)
        for number, (label, prominence, share) in enumerate(zip(labels, prominences, same, strict=False))
    ]
    report = make_report(examples, DEFAULT_COEFFICIENTS)
    assert all(slope > 0 and np.isfinite([slope, intercept]).all()
               for slope, intercept in (report.same_modality, report.cross_modality))  # fmt: skip
    assert 0 <= report.error_after <= 1 and 0 <= report.error_before <= 1
    assert report.n_relevant == sum(labels)


def test_the_error_falls_on_queries_that_were_not_fitted_on() -> None:
    report = make_report(drawn(200), DEFAULT_COEFFICIENTS)
    assert report.error_before > 0.1 > 0.05 > report.error_after
    assert report.n_queries == 200 and report.n_pairs == 4000
    assert "200 queries" in str(report) and report.to_dict()["error_after"] == report.error_after
    assert FOLDS > 1


def test_the_threshold_is_the_least_with_the_target_precision() -> None:
    probabilities = np.array([0.9, 0.8, 0.7, 0.7, 0.2])
    assert threshold(probabilities, np.array([1, 1, 1, 1, 0])) == 0.7
    assert threshold(probabilities, np.array([1, 1, 1, 0, 0])) == 0.8
    assert threshold(probabilities, np.array([0, 1, 1, 1, 1])) is None
    assert expected_calibration_error(np.full(4, 0.95), np.array([1, 1, 1, 0])) == pytest.approx(0.2)


# --- the index ------------------------------------------------------------------------------------


def pairs_of(index: Index) -> list[tuple[Any, str]]:
    """For every fourth text, the text itself and the image that comes first, as if both were relevant."""
    texts = [row for row in index.rows() if row["modality"] == "text"][::4]
    return [
        (row["text"], id_)
        for row in texts
        for id_ in (row["id"], index.search(row["text"], 1, modality="image")[0].id)
    ]


def test_a_fit_changes_probabilities_but_no_order_within_a_modality(filled: Index, space: Space) -> None:
    before = filled.search("1 0 0 1", 3 * N)
    report = filled.calibrate(pairs_of(filled))
    after = filled.search("1 0 0 1", 3 * N)
    assert isinstance(report, CalibrationReport) and report.n_queries == N // 4
    assert report.n_relevant == N // 2 and report.n_pairs > 10 * report.n_queries
    assert report.error_after <= report.error_before
    assert {hit.id: hit.probability for hit in before} != {hit.id: hit.probability for hit in after}
    for modality in ("text", "image", "audio"):
        assert [hit.id for hit in before if hit.modality == modality] == [
            hit.id for hit in after if hit.modality == modality
        ]
    assert Index.open(filled.path, space).search("1 0 0 1", 3 * N) == after
    stored = json.loads((filled.path / "calibration.json").read_text())
    assert stored["fingerprint"] == filled.fingerprint and stored["n_pairs"] == report.n_pairs


def test_a_reset_restores_the_built_in_calibration(filled: Index) -> None:
    before = filled.search("1 0 0 1", 9)
    filled.calibrate(pairs_of(filled))
    assert filled.search("1 0 0 1", 9) != before
    assert filled.reset_calibration()
    assert filled.search("1 0 0 1", 9) == before
    assert not filled.reset_calibration()


def test_another_open_index_sees_the_fit(filled: Index, space: Space) -> None:
    other = Index.open(filled.path, space)
    before = other.search("1 0 0 1", 9)
    filled.calibrate(pairs_of(filled))
    assert other.search("1 0 0 1", 9) == filled.search("1 0 0 1", 9) != before


def test_explicit_labels_leave_unlabelled_rows_out(filled: Index) -> None:
    first, second = filled.search("1 0 0 1", 2, modality="image")
    report = filled.calibrate([("1 0 0 1", first.id, True), ("1 0 0 1", second.id, False)])
    assert (report.n_queries, report.n_pairs, report.n_relevant) == (1, 2, 1)


def test_a_document_stands_for_its_best_chunk_and_a_query_may_be_any_item(
    filled: Index, tmp_path: Path
) -> None:
    (tmp_path / "long.txt").write_text(("apple apple banana. " * 30 + "\n\n") * 40)
    filled.add(tmp_path / "long.txt")
    red = Image(np.full((2, 2, 3), (200, 0, 0), np.uint8))
    report = filled.calibrate([(red, tmp_path / "long.txt", True), (red, "image 3", False)])
    assert (report.n_queries, report.n_pairs) == (1, 2)


@pytest.mark.parametrize("damage", ["", "{}", '{"format": 1}', '{"format": 9}', None])
def test_a_damaged_or_foreign_fit_is_ignored(filled: Index, damage: str | None) -> None:
    before = filled.search("1 0 0 1", 9)
    filled.calibrate(pairs_of(filled))
    path = filled.path / "calibration.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | {"fingerprint": "other"}) if damage is None else damage)
    assert filled.search("1 0 0 1", 9) == before


@pytest.mark.parametrize(("pairs", "message"), [
    ([], "there are no pairs to calibrate with"),
    ("a cat", "pairs must be a list of .query, id. .*; got str"),
    ([("a cat",)], "pair 0 must be .query, id. "),
    ([("a cat", 3)], "pair 0 has the id 3; an id is a str, or the Path of a file"),
    ([("a cat", "image 1", "yes")], "pair 0 has the label 'yes'; a label is True or False"),
    ([("a cat", "image 1", True), ("a cat", "image 1", False)], "pair 1 contradicts an earlier one"),
    ([("a cat", "nowhere")], "no item of the index has the id 'nowhere'"),
    ([(["a", "b"], "image 1")], "a pair has one query, got a list"),
])  # fmt: skip
def test_malformed_pairs_are_refused(filled: Index, pairs: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        filled.calibrate(pairs)
    assert not (filled.path / "calibration.json").exists()


def test_an_index_with_few_rows_cannot_be_calibrated(index: Index) -> None:
    index.add(["1 0 0 1", "0 1 0 1"], ids=["a", "b"])
    with pytest.raises(InvalidInput, match="the index cannot be calibrated: 2 text rows are too few"):
        index.calibrate([("1 0 0 1", "a")])


def test_an_index_that_cannot_be_written_says_so(filled: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    filled.search("1 0 0 1")
    monkeypatch.setattr("multimodal.index.storage.remote.stored_file.tempfile.mkstemp", refused)
    with pytest.raises(
        IndexStateError, match=r"the calibration cannot be stored in .*make the folder writable"
    ):
        filled.calibrate(pairs_of(filled))
