"""Probabilities: their order, what they do not depend on, and what is kept for them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.items import Audio, Image
from multimodal.core.space import Space
from multimodal.index import Hits, Index
from multimodal.index.search.query import UNKNOWN, modality_weights, part_modalities
from multimodal.index.search.score_calibration import (
    CROSS_MODALITY,
    INVERSE_TEMPERATURE,
    SAME_MODALITY,
    TOP_ROWS,
    ModalityCalibration,
    deviation_without_highest,
    probability,
)
from multimodal.pipelines.retrieval import RetrievalPipeline

N = 40  # of each modality


def items(rng: np.random.Generator, n: int) -> list[Any]:
    """n texts near (1, 1, 1, 3), n colours and n audio clips: three clusters, each far from the others."""
    texts = [" ".join(f"{x:.3f}" for x in rng.random(4) + np.array([0, 0, 0, 2])) for _ in range(n)]
    images = [
        Image(np.full((2, 2, 3), rng.integers(1, 255, 3), np.uint8), uri=f"image {row}") for row in range(n)
    ]
    audio: list[Any] = []
    for row in range(n):
        samples = np.zeros(80, np.float32)
        samples[: rng.integers(4, 80)] = rng.uniform(0.1, 1)
        audio.append(Audio({"array": samples, "sampling_rate": 8000}, uri=f"audio {row}"))
    return [*texts, *images, *audio]


@pytest.fixture
def filled(index: Index) -> Index:
    index.add(items(np.random.default_rng(0), N), metadata={"all": True})
    return index


def ids(hits: Hits) -> list[str]:
    return [hit.id for hit in hits]


queries = st.lists(st.floats(-2, 2, width=16), min_size=4, max_size=4).filter(
    lambda q: max(map(abs, q)) > 0.1
)

# --- the scale ------------------------------------------------------------------------------------


@pytest.mark.parametrize("alike", [0.0, 0.25, 1.0])
def test_a_scale_is_the_formula_of_its_module(alike: float) -> None:
    slope, level = (
        alike * own + (1 - alike) * other for own, other in zip(SAME_MODALITY, CROSS_MODALITY, strict=True)
    )
    rng = np.random.default_rng(1)
    cosines = np.sort(rng.normal(0.1, 0.1, 500))[::-1]
    scale = ModalityCalibration.fit(cosines, cosines[:TOP_ROWS].tolist(), 500, 200.0, alike)
    logits = scale.logits(cosines[:5].tolist())
    normal = np.sort(rng.standard_normal((2000, 500)))
    share = normal[:, :-1].var(1).mean() / normal.var(1).mean()  # of the variance, without the highest
    tilt = INVERSE_TEMPERATURE * math.sqrt(share) / cosines[1:].std()
    for place in range(5):
        others = np.delete(cosines, place)
        outstanding = tilt * cosines[place] - math.log(np.exp(tilt * others).mean())
        expected = slope * outstanding + level - math.log(200)
        assert logits[place] == pytest.approx(expected, rel=2e-3)


@given(n=st.integers(3, 1024), queries=st.integers(1, 40), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_the_deviation_of_unrelated_rows_is_estimated_without_bias_and_whatever_the_match(
    n: int, queries: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((max(queries, 30_000 // n), n))
    assert deviation_without_highest(matrix) == pytest.approx(1, rel=0.05)
    row = np.sort(matrix[0])
    further = np.append(row[:-1], row[-1] + 100)
    assert deviation_without_highest(further) == pytest.approx(deviation_without_highest(row), rel=1e-6)
    assert deviation_without_highest(0.3 + 0.1 * row) == pytest.approx(0.1 * deviation_without_highest(row))


def test_a_few_sampled_rows_tell_nearly_what_all_rows_tell() -> None:
    rng = np.random.default_rng(2)
    cosines = np.sort(rng.normal(0.1, 0.1, 20_000))[::-1]
    top = cosines[:TOP_ROWS].tolist()
    exact = ModalityCalibration.fit(cosines, top, 20_000, 20_000.0).logits(top)
    some = ModalityCalibration.fit(rng.choice(cosines, 1000), top, 20_000, 20_000.0).logits(top)
    assert np.abs(np.subtract(exact, some)).max() < 0.5


@given(
    cosines=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60),
    background=st.none() | st.floats(0, 0.5),
)
@settings(max_examples=50)
def test_logits_never_rise_where_cosines_fall(cosines: list[float], background: float | None) -> None:
    ordered = sorted(cosines, reverse=True)
    fitted = ModalityCalibration.fit(
        np.array(cosines), ordered[:TOP_ROWS], len(cosines), 10.0, 1.0, background
    )
    logits = fitted.logits(ordered)
    assert all(map(math.isfinite, logits))
    assert logits == sorted(logits, reverse=True)


def test_another_temperature_or_another_offset_of_the_cosines_changes_nothing() -> None:
    """What a space trained at four times the temperature, with a gap of 0.3, would give."""
    cosines = np.sort(np.random.default_rng(3).normal(0.0, 0.2, 300).clip(-1, 1))[::-1]
    moved = 0.3 + cosines / 4
    first = ModalityCalibration.fit(cosines, cosines[:TOP_ROWS].tolist(), 300, 300.0).logits(
        cosines[:9].tolist()
    )
    second = ModalityCalibration.fit(moved, moved[:TOP_ROWS].tolist(), 300, 300.0).logits(moved[:9].tolist())
    assert first == pytest.approx(second, abs=2e-3)


def test_rows_that_are_all_alike_do_not_stand_out() -> None:
    same = [0.5] * 100
    assert (
        max(
            map(
                probability, ModalityCalibration.fit(np.array(same), same[:TOP_ROWS], 100, 100.0).logits(same)
            )
        )
        < 0.01
    )


def test_a_row_that_stands_out_is_certain_and_probabilities_stay_within_bounds() -> None:
    cosines = [0.9] + [0.1 + 0.001 * (row % 10) for row in range(99)]
    logits = ModalityCalibration.fit(
        np.array(cosines[1:]), sorted(cosines, reverse=True)[:TOP_ROWS], 100, 100.0
    ).logits([0.9, 0.1])
    assert probability(logits[0]) > 0.99 and probability(logits[1]) < 0.01
    assert probability(1e4) == 1.0 and probability(-1e4) == 0.0


def test_what_stands_out_far_among_its_own_kind_says_less_than_among_others() -> None:
    """Audio clips sound alike, and drawings look alike, whatever their meaning."""
    cosines = [0.6] + [0.1 + 0.01 * (row % 10) for row in range(99)]
    own, other = (
        ModalityCalibration.fit(
            np.array(cosines),
            cosines[:1] + sorted(cosines[1:], reverse=True)[: TOP_ROWS - 1],
            100,
            100.0,
            alike,
        )
        for alike in (1.0, 0.0)
    )
    assert own.logits([0.6])[0] < other.logits([0.6])[0]


# --- searching ------------------------------------------------------------------------------------


@given(query=queries)
@settings(max_examples=12)
def test_within_one_modality_the_order_is_that_of_cosine(mixed: Index, query: list[float]) -> None:
    hits = mixed.search(np.array(query), 3 * N)
    assert len(hits) == 3 * N
    probabilities = [hit.probability for hit in hits]
    assert probabilities == sorted(probabilities, reverse=True)  # type: ignore[type-var]
    for modality in ("text", "image", "audio"):
        plain = mixed.search(np.array(query), 3 * N, modality=modality, calibrated=False)
        own = [hit for hit in hits if hit.modality == modality]
        assert [hit.id for hit in own] == ids(plain)
        assert [hit.score for hit in own] == [hit.score for hit in plain]


@pytest.fixture(scope="module")
def mixed(plain: Any, tmp_path_factory: pytest.TempPathFactory) -> Index:
    index = Index.create(tmp_path_factory.mktemp("mixed") / "index.lance", plain.load())
    index.add(items(np.random.default_rng(0), N))
    return index


def test_a_crowd_that_is_near_to_everything_no_longer_fills_the_first_places(mixed: Index) -> None:
    query = "0.9 0.1 0.1 3"
    plain = {hit.modality for hit in mixed.search(query, 10, calibrated=False)}
    fair = {hit.modality for hit in mixed.search(query, 10)}
    assert plain == {"text"}
    assert len(fair) > 1


def test_a_hit_is_worth_the_same_whatever_else_is_searched(filled: Index) -> None:
    every = {hit.id: hit.probability for hit in filled.search("1 0 0 1", 3 * N)}
    assert None not in every.values()
    for options in (
        {"k": 3}, {"k": 5, "offset": 4}, {"modality": "image"}, {"modality": ["image", "audio"]},
        {"where": {"all": True}}, {"ids": list(every)[5:9]}, {"exact": True}, {"text": "1", "k": 30},
    ):  # fmt: skip
        hits = filled.search("1 0 0 1", **options)  # type: ignore[call-overload]
        assert len(hits) and {hit.id: hit.probability for hit in hits}.items() <= every.items(), options


def test_one_modality_is_ordered_as_before_and_searched_once(
    filled: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multimodal.index.search.view import SnapshotView

    searched: list[int] = []
    nearest = SnapshotView.nearest

    def counted(view: SnapshotView, vectors: Any, n: int, *rest: Any, **options: Any) -> Any:
        searched.append(n)
        return nearest(view, vectors, n, *rest, **options)

    monkeypatch.setattr(SnapshotView, "nearest", counted)
    hits = filled.search("1 0 0 1", 5, modality="audio")
    assert ids(hits) == ids(filled.search("1 0 0 1", 5, modality="audio", calibrated=False))
    assert searched == [TOP_ROWS, 5] and hits.note == ""


def test_without_calibration_hits_are_ordered_by_cosine_and_have_no_probability(filled: Index) -> None:
    hits = filled.search("1 0 0 1", 50, calibrated=False)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert {hit.probability for hit in hits} == {None}


def test_min_probability_leaves_out_what_is_less_probable_and_perhaps_everything(filled: Index) -> None:
    every = filled.search("1 0 0 1", 3 * N)
    least = every[6].probability
    assert filled.search("1 0 0 1", 3 * N, min_probability=least) == [
        hit for hit in every if hit.probability >= least
    ]
    assert filled.search("1 0 0 1", min_probability=1) == []
    assert filled.search("1 0 0 1", 3 * N, min_probability=0) == every
    assert filled.search("1 0 0 1", 3 * N, min_probability=least, offset=3) == every[3:7]


def test_composed_and_near_queries_are_calibrated_too(filled: Index) -> None:
    red = Image(np.full((2, 2, 3), (200, 0, 0), np.uint8))
    hits = filled.search([("1 0 0 1", 1.0), (red, 0.5), ("0 1 0 0", -0.3)], 9)
    assert all(hit.probability is not None for hit in hits)
    near = filled.search(similar_to="image 3", k=9)
    assert "image 3" not in ids(near) and all(hit.probability is not None for hit in near)


def test_a_query_is_read_by_its_own_modality(filled: Index) -> None:
    """The same vector: as a text, as more of an item, and as a vector, of which it is not known what it is."""
    text = next(row for row in filled.rows() if row["modality"] == "text")
    vector = filled.space.encode([text["text"]])[0]

    def probabilities(query: object, **options: Any) -> dict[str, tuple[str, float | None]]:
        return {hit.id: (hit.modality, hit.probability) for hit in filled.search(query, 3 * N, **options)}

    by_text, by_vector = probabilities(text["text"]), probabilities(vector)
    assert probabilities([(text["text"], 2.0)]) == by_text
    near = probabilities(None, similar_to=[text["id"]])  # itself left out, so that other texts stand out more
    assert {item for item in near.items() if item[1][0] != "text"} == {
        item for item in by_text.items() if item[1][0] != "text"
    }
    own = {id_ for id_, (modality, _) in by_text.items() if modality == "text"}
    assert {id_: by_vector[id_] for id_ in own} == {id_: by_text[id_] for id_ in own}
    assert any(by_vector[id_] != by_text[id_] for id_ in by_text.keys() - own)


def test_the_kind_of_a_query_is_shared_out_by_the_weights_of_what_it_seeks() -> None:
    red = Image(np.full((2, 2, 3), 9, np.uint8))
    parts = [("a", 1.0), (red, 2.0), (np.ones(4), 1.0), ("b", -5.0)]
    assert modality_weights(part_modalities(parts)) == {"text": 0.25, "image": 0.5, UNKNOWN: 0.25}
    assert modality_weights(part_modalities([("b", -1.0)])) == {}


def test_several_parts_of_one_item_are_one_hit_when_grouped(index: Index) -> None:
    index.add(
        [(text, {"film": video}) for video, text in (("a", "3 4 0 0"), ("b", "0 0 3 4"), ("a", "4 3 0 0"))]
    )
    index.add([(Image(np.full((2, 2, 3), (255, 9, 9), np.uint8), uri="frame"), {"film": "b"}), "0 1 0 3"])
    hits = index.search("3 4 0 0", group_by="film")
    assert [hit.metadata.get("film") for hit in hits] == ["a", "b", None]
    assert hits[0].text == "3 4 0 0"
    assert len(index.search("3 4 0 0", 2, group_by="film")) == 2


def test_the_best_part_stands_for_a_long_text(index: Index, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(("apple apple banana. " * 30 + "\n\n") * 40)
    index.add([tmp_path / "long.txt", "cherry"])
    assert len(index.search("apple", 100)) > 2
    hits = index.search("apple", 100, group_by=True)
    assert len(hits) == 2
    assert hits[0] == index.search("apple", 1)[0]


# --- what is kept ---------------------------------------------------------------------------------


def test_an_index_without_statistics_gets_them_at_its_first_search(filled: Index, space: Space) -> None:
    kept = filled.path / "background.npz"
    assert not kept.exists()
    first = filled.search("1 0 0 1")
    written = kept.read_bytes()
    assert Index.open(filled.path, space).search("1 0 0 1") == first
    assert kept.read_bytes() == written
    with np.load(kept, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
    assert about["fingerprint"] == filled.fingerprint
    assert about["counts"] == {"text": N, "image": N, "audio": N}


def test_statistics_are_made_anew_when_a_modality_has_doubled(filled: Index) -> None:
    filled.search("1 0 0 1")
    before = (filled.path / "background.npz").read_bytes()
    filled.add([f"1 2 3 {row}" for row in range(N - 1)])
    filled.search("1 0 0 1")
    assert (filled.path / "background.npz").read_bytes() == before
    filled.add(["1 2 3 999"])
    filled.search("1 0 0 1")
    assert (filled.path / "background.npz").read_bytes() != before


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_damaged_statistics_are_made_anew(filled: Index, space: Space, damage: bytes | None) -> None:
    first = filled.search("1 0 0 1")
    kept = filled.path / "background.npz"
    kept.write_bytes(kept.read_bytes()[:700] if damage is None else damage)
    assert Index.open(filled.path, space).search("1 0 0 1") == first
    with np.load(kept) as file:
        assert "about" in file


def test_who_cannot_write_keeps_statistics_in_memory(filled: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("multimodal.index.search.reference_sample.tempfile.mkstemp", refused)
    hits = filled.search("1 0 0 1")
    assert hits[0].probability is not None
    assert not (filled.path / "background.npz").exists()


# --- bad input ------------------------------------------------------------------------------------


def test_too_few_rows_are_ordered_by_cosine_and_the_hits_say_so(index: Index) -> None:
    rng = np.random.default_rng(0)
    index.add(items(rng, N)[: 2 * N])
    index.add(Audio({"array": np.ones(80, np.float32), "sampling_rate": 8000}, uri="alone"))
    hits = index.search("1 0 0 1", 50)
    assert (
        hits.note
        == "not calibrated, ordered by cosine: 1 audio row is too few for statistics (10 are needed)"
    )
    assert hits == index.search("1 0 0 1", 50, calibrated=False)
    assert index.search("1 0 0 1", modality=["text", "image"]).note == ""
    assert index.search("1 0 0 1", modality=["text", "image"])[0].probability is not None


def test_an_empty_index_has_no_hits_and_nothing_to_say(index: Index) -> None:
    hits = index.search("1 0 0 1", min_probability=0.5)
    assert hits == [] and hits.note == ""


@pytest.mark.parametrize(("options", "message"), [
    ({"min_probability": 1.5}, "min_probability must be a number from 0 to 1, got 1.5"),
    ({"min_probability": -0.1}, "min_probability must be a number from 0 to 1, got -0.1"),
    ({"min_probability": "high"}, "min_probability must be a number from 0 to 1, got 'high'"),
    ({"min_probability": float("nan")}, "min_probability must be a number from 0 to 1, got nan"),
    ({"min_probability": 0.5, "calibrated": False},
     "min_probability needs calibrated hits, but calibrated=False; leave out one of them"),
    ({"min_probability": 0.5, "mode": "text"},
     "min_probability needs vectors, but mode='text' searches keywords only; leave it out"),
    ({"group_by": ""}, "group_by must be True, False or a metadata key such as 'film', got ''"),
    ({"group_by": 3}, "group_by must be True, False or a metadata key such as 'film', got 3"),
    ({"min_probability": 0.5}, "min_probability=0.5 cannot be applied: 2 text rows are too few for statistics "
     "(10 are needed); leave it out, or add more items"),
])  # fmt: skip
def test_invalid_options_are_refused(index: Index, options: dict[str, Any], message: str) -> None:
    index.add(["1 0 0 1", "0 1 0 1"])
    with pytest.raises(InvalidInput) as raised:
        index.search("a", **options)
    assert str(raised.value) == message


def test_a_query_of_a_modality_the_space_lacks_is_refused(plain: Any, tmp_path: Path) -> None:
    words = Index.create(tmp_path / "words.lance", plain.load("words"))
    words.add(["1 0 0 1"])
    with pytest.raises(
        UnsupportedModality, match=r"^image given to a space with text: 'plain/words' cannot encode it"
    ):
        words.search(Image(np.zeros((2, 2, 3), np.uint8)))


def test_the_pipeline_passes_these_on(filled: Index) -> None:
    search = RetrievalPipeline(filled)
    assert search("1 0 0 1", calibrated=False) == filled.search("1 0 0 1", calibrated=False)
    assert search("1 0 0 1", min_probability=1) == []
