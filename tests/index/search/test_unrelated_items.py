"""Items that have nothing to do with a query never stand above near ones of another modality, however many they are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.catalog import load
from multimodal.core.items import Audio, Image
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.search.reference_sample import ReferenceSample
from multimodal.index.search.score_calibration import TOP_ROWS, ModalityCalibration
from multimodal.index.storage.schema import Provenance, Row
from multimodal.index.storage.table import ItemTable

GALLERY = Path(__file__).parents[3] / "assets" / "gallery"
NEAR_COSINE = 0.53  # from which an image or a clip of the gallery shows what the query names
CONCEPTS = {
    "a dog": ("dog", "puppy"), "a cat": ("cat", "kitten"), "a piano": ("piano",), "an elephant": ("elephant",),
    "a red apple": ("red-apple",), "an owl": ("owl",), "pizza": ("pizza",), "a strawberry": ("strawberry",),
    "a guitar": ("guitar",), "an umbrella": ("umbrella",), "a butterfly": ("butterfly",), "a tractor": ("tractor",),
}  # fmt: skip
SUBJECTS = (
    "printer", "meeting", "accountant", "invoice", "intern", "spreadsheet", "quarterly report", "copier", "projector",
    "budget", "deadline", "supplier", "contract", "helpdesk ticket", "elevator", "reception desk", "server",
)  # fmt: skip
PREDICATES = (
    "was late again", "was moved to the third floor", "needs a signature", "was approved by the board",
    "is waiting for a reply", "has been postponed", "was discussed for hours", "costs more than expected",
    "ran out of paper", "was sent to the wrong department", "must be filed under section four",
    "was closed for maintenance", "is due at the end of the quarter", "caused a delay in accounting",
    "will be reviewed by the auditors", "was forwarded to legal",
)  # fmt: skip
WHEN = (
    "", " on Monday", " on Tuesday", " on Friday", " in March", " in June", " this week", " last week", " yesterday",
    " before lunch", " after the audit", " this quarter", " last year", " by email", " in the annex", " at noon",
    " without notice", " for the second time", " in the morning", " at the end of the day", " upstairs", " next door",
    " in the basement", " on page two", " as agreed", " as usual", " once more", " for now", " in part", " in full",
    " twice", " by mistake", " on request", " in advance", " at short notice", " in the new wing", " at five",
    " in writing", " by phone", " in April", " in May", " in July", " in August",
)  # fmt: skip
Corpus = tuple[list[Row], np.ndarray]


@pytest.fixture(scope="module")
def starter() -> Space:
    return load("starter")


@pytest.fixture(scope="module")
def gallery(starter: Space) -> dict[str, Corpus]:
    """The rows and vectors of the gallery, by modality."""
    pictures, sounds, notes = (sorted((GALLERY / name).iterdir()) for name in ("pictures", "sounds", "notes"))
    texts = [path.read_text() for path in notes]
    return {
        "image": ([Row(path.stem, str(path), "image", None, {}) for path in pictures],
                  starter.encode([Image(path) for path in pictures])),
        "audio": ([Row(f"{path.stem}.flac", str(path), "audio", None, {}) for path in sounds],
                  starter.encode([Audio(path) for path in sounds])),
        "text": ([Row(path.stem, None, "text", text, {}) for path, text in zip(notes, texts, strict=True)],
                 starter.encode(list(texts))),
    }  # fmt: skip


@pytest.fixture(scope="module")
def office(starter: Space) -> Corpus:
    """11,696 sentences about an office; the first 272 are the same ones without a time."""
    texts = [f"The {subject} {predicate}{when}." for when, subject, predicate in
             itertools.product(WHEN, SUBJECTS, PREDICATES)]  # fmt: skip
    rows = [Row(f"office {number}", None, "text", text, {}) for number, text in enumerate(texts)]
    return rows, starter.encode(list(texts), batch_size=512)


def filled(path: Path, space: Space, *parts: Corpus) -> Index:
    index = Index.create(path, space)
    rows = [row for own, _ in parts for row in own]
    vectors = np.concatenate([vectors for _, vectors in parts]).astype(np.float32)
    ItemTable.open(index.path).upsert(rows, [Provenance(row.id) for row in rows], vectors)
    return index


def misplaced(index: Index, k: int = 400) -> list[tuple[str, str, str]]:
    """(query, unrelated note, near item below it) of all queries."""
    wrong = []
    for query, names in CONCEPTS.items():
        hits = index.search(query, k)
        unrelated = next((place for place, hit in enumerate(hits) if hit.id.startswith("office")), len(hits))
        wrong += [
            (query, hits[unrelated].text or "", hit.id)
            for hit in hits[unrelated:]
            if hit.modality != "text" and hit.score >= NEAR_COSINE and any(name in hit.id for name in names)
        ]
    return wrong


@pytest.mark.parametrize("times", [1, 10, 100])
@pytest.mark.parametrize("with_notes", [True, False])
def test_unrelated_notes_stay_below_near_images_and_clips(
    tmp_path: Path, starter: Space, gallery: dict[str, Corpus], office: Corpus, times: int, with_notes: bool
) -> None:
    n = min(len(office[0]), 117 * times)
    parts = [gallery["image"], gallery["audio"], (office[0][:n], office[1][:n])]
    index = filled(tmp_path / "index.lance", starter, *parts, *([gallery["text"]] if with_notes else []))
    assert misplaced(index) == []
    best = {query: index.search(query, 1)[0] for query in CONCEPTS}
    assert [query for query, hit in best.items() if hit.id.startswith("office")] == []


@pytest.mark.parametrize("absent", ["image", "audio", "text"])
def test_one_modality_may_be_absent(
    tmp_path: Path, starter: Space, gallery: dict[str, Corpus], office: Corpus, absent: str
) -> None:
    parts = [part for name, part in gallery.items() if name != absent]
    notes = (office[0][:272], office[1][:272])
    index = filled(tmp_path / "index.lance", starter, *parts, *([] if absent == "text" else [notes]))
    assert misplaced(index) == []
    hits = index.search("a dog", 50)
    assert absent not in {hit.modality for hit in hits}
    assert all(hit.probability is not None for hit in hits)


def test_ten_items_in_all_are_ordered_by_cosine_and_twenty_by_probability(
    tmp_path: Path, starter: Space, gallery: dict[str, Corpus], office: Corpus
) -> None:
    rows, vectors = gallery["image"]
    puppies = [place for place, row in enumerate(rows) if "dog" in row.id or "puppy" in row.id]
    kept = (puppies + [place for place in range(len(rows)) if place not in puppies])[:10]
    images = ([rows[place] for place in kept], vectors[kept])
    notes = (office[0][::20][:10], office[1][::20][:10])
    few = filled(tmp_path / "ten.lance", starter, *((own[:5], matrix[:5]) for own, matrix in (images, notes)))
    hits = few.search("a dog", 10)
    assert len(few) == 10 and misplaced(few) == []
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True) and hits.note
    more = filled(tmp_path / "twenty.lance", starter, images, notes)
    assert misplaced(more) == [] and more.search("a dog", 1)[0].probability is not None


def test_the_match_among_ten_images_is_probable_and_nothing_else_is(
    tmp_path: Path, starter: Space, gallery: dict[str, Corpus]
) -> None:
    rows, vectors = gallery["image"]
    concepts = dict(list(CONCEPTS.items())[2:])  # there are several dogs and cats
    kept = [
        next(place for place, row in enumerate(rows) if names[0] in row.id) for names in concepts.values()
    ]
    assert len(kept) == 10
    index = filled(tmp_path / "index.lance", starter, ([rows[place] for place in kept], vectors[kept]))
    for query, place in zip(concepts, kept, strict=True):
        first, *others = index.search(query, 10)
        assert first.id == rows[place].id and (first.probability or 0) > 0.75, query
        assert all((hit.probability or 0) < 0.05 for hit in others), query


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(10, 272), query=st.sampled_from(sorted(CONCEPTS)))
@settings(max_examples=20, deadline=None)
def test_any_choice_of_unrelated_notes_stays_below_near_images(
    starter: Space, gallery: dict[str, Corpus], office: Corpus, seed: int, n: int, query: str
) -> None:
    """The same on the level of one query, for any notes, without an index."""
    notes = office[1][np.random.default_rng(seed).permutation(len(office[1]))[:n]]
    vectors = {"text": notes, "image": gallery["image"][1], "audio": gallery["audio"][1]}
    sample = ReferenceSample({name: len(own) for name, own in vectors.items()}, vectors)
    (vector,) = starter.encode([query])
    mean_rows = sum(map(len, vectors.values())) / len(vectors)
    logits = {}
    for name, own in vectors.items():
        cosines = np.sort(own @ vector)[::-1]
        background = sample.background("text", name)
        fitted = ModalityCalibration.fit(
            cosines, cosines[:TOP_ROWS].tolist(), len(own), mean_rows, float(name == "text"), background
        )
        logits[name] = list(zip(cosines.tolist(), fitted.logits(cosines.tolist()), strict=True))
        assert [logit for _, logit in logits[name]] == sorted(
            (logit for _, logit in logits[name]), reverse=True
        )
    near = [
        logit for name in ("image", "audio") for cosine, logit in logits[name][:1] if cosine >= NEAR_COSINE
    ]
    assert near and all(logit > logits["text"][0][1] for logit in near)


@given(
    unrelated=st.lists(st.floats(-1, 1), min_size=10, max_size=60),
    others=st.lists(st.floats(-1.5, 1.5), min_size=10, max_size=60),
    height=st.floats(4, 8),
    units=st.tuples(st.floats(0.02, 0.2), st.floats(0.02, 0.1)),
    same_modality=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_a_row_within_the_background_stays_below_one_far_above_it(
    unrelated: Sequence[float],
    others: Sequence[float],
    height: float,
    units: tuple[float, float],
    same_modality: float,
) -> None:
    """All in standard deviations of unrelated pairs, whatever they are in a space, and however alike the rows are."""
    own_unit, other_unit = units
    low = np.sort(np.array(unrelated) * own_unit)[::-1]
    low += -np.median(low)
    low = low.clip(-own_unit, own_unit)
    high = np.sort(np.append(np.array(others), height) * other_unit)[::-1]
    first = ModalityCalibration.fit(low, low[:TOP_ROWS].tolist(), len(low), 50.0, same_modality, own_unit)
    second = ModalityCalibration.fit(
        high, high[:TOP_ROWS].tolist(), len(high), 50.0, 1 - same_modality, other_unit
    )
    assert first.logits(low.tolist())[0] < second.logits(high.tolist())[0]


def test_rows_that_are_all_alike_have_the_background_of_other_modalities() -> None:
    rng = np.random.default_rng(0)
    varied = rng.standard_normal((40, 16)).astype(np.float32)
    varied /= np.linalg.norm(varied, axis=1, keepdims=True)
    alike = np.repeat(varied[:1], 40, axis=0)
    sample = ReferenceSample({"text": 40, "image": 40}, {"text": alike, "image": varied})
    assert sample.background("text", "text") > 0.05
    assert sample.background("image", "text") == pytest.approx(float((varied @ varied[0]).std()), rel=1e-3)
    assert ReferenceSample({"text": 2}, {"text": varied[:2]}).background("text", "text") == 0
