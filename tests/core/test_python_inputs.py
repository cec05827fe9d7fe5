"""What Python programs pass to `Space.encode` and to the items: iterables, tables' columns, tensors, tuples."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import multimodal as mm
from multimodal.core.errors import InvalidInput, PathLikeTextWarning
from multimodal.core.media import inputs, path_like
from multimodal.core.media.path_like import looks_like_path
from multimodal.core.space import Space
from multimodal.testing import fake_space

TEXTS = ["a cat", "a dog", "a red apple"]
PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
SAMPLES = np.sin(np.arange(8_000) / 20).astype(np.float32)


@pytest.fixture(scope="module")
def space() -> Space:
    return fake_space()


def collections() -> dict[str, Any]:
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    return {
        "tuple": tuple(TEXTS),
        "generator": (text for text in TEXTS),
        "iterator": iter(TEXTS),
        "map": map(str, TEXTS),
        "values of a dict": dict(enumerate(TEXTS)).values(),
        "object array": np.array(TEXTS, dtype=object),
        "array of str": np.array(TEXTS),
        "pandas Series": pandas.Series(TEXTS, index=[7, 8, 9]),
        "pandas column": pandas.DataFrame({"text": TEXTS})["text"],
        "pandas string": pandas.Series(TEXTS, dtype="string"),
        "Arrow array": arrow.array(TEXTS),
        "Arrow chunks": arrow.chunked_array([TEXTS[:1], TEXTS[1:]]),
    }


@pytest.mark.parametrize("kind", sorted(collections()))
def test_every_ordered_collection_is_encoded_as_its_list(kind: str, space: Space) -> None:
    np.testing.assert_array_equal(space.encode(collections()[kind]), space.encode(TEXTS))
    np.testing.assert_array_equal(
        space.similarity(collections()[kind], ["a cat"]), space.similarity(TEXTS, ["a cat"])
    )


def test_an_object_array_may_hold_items_of_any_modality(space: Space) -> None:
    items: list[Any] = ["a cat", mm.Image(PIXELS), mm.Audio((SAMPLES, 16_000))]
    array = np.empty(3, dtype=object)
    array[:] = items
    np.testing.assert_array_equal(space.encode(array), space.encode(items))


@pytest.mark.parametrize("empty", [[], (), iter([]), np.array([], dtype=object)])
def test_nothing_gives_no_rows(empty: object, space: Space) -> None:
    vectors = space.encode(empty)
    assert vectors.shape == (0, space.dim) and vectors.dtype == np.float32
    assert space.similarity([], TEXTS).shape == (0, 3) and space.similarity(TEXTS, []).shape == (3, 0)
    assert space.probabilities([], TEXTS).shape == (0, 3)


def test_tables_and_sets_are_refused(space: Space) -> None:
    pandas, arrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    for table in (pandas.DataFrame({"text": TEXTS}), arrow.table({"text": TEXTS})):
        with pytest.raises(InvalidInput, match=r"^a table of type .* pass one of its columns$"):
            space.encode(table)
    with pytest.raises(InvalidInput, match=r"^a set has no order, .*; pass a list$"):
        space.encode(set(TEXTS))


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_value_is_named_by_its_position(missing: object, space: Space) -> None:
    with pytest.raises(InvalidInput, match=r"^item 1 is missing \((None|nan)\); leave it out$"):
        space.encode(["a cat", missing])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(24, 32), (24, 32, 1), (24, 32, 3), (24, 32, 4)])
def test_an_image_of_floats_in_0_to_1_is_the_image_of_its_bytes(shape: tuple[int, ...], dtype: str) -> None:
    levels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    floats = (levels.astype(np.float64) / 255).astype(dtype)
    np.testing.assert_array_equal(mm.Image(floats).load(), mm.Image(levels).load())


@pytest.mark.parametrize(
    "values", [np.full((2, 2, 3), 1.5), np.full((2, 2, 3), -0.1), np.full((2, 2, 3), np.nan)]
)
def test_an_image_of_other_floats_is_refused(values: Any) -> None:
    with pytest.raises(
        InvalidInput, match=r"^an image of floats must lie in 0 to 1, got .*astype\(np\.uint8\)$"
    ):
        mm.Image(values).load()


def test_a_tensor_is_the_image_of_its_array_with_channels_first_or_last(space: Space) -> None:
    tensor = torch.from_numpy(PIXELS)
    first = tensor.permute(2, 0, 1)
    for given_tensor in (tensor, first, first / 255, (first / 255).double(), (first / 255).requires_grad_()):
        np.testing.assert_array_equal(mm.Image(given_tensor).load(), PIXELS)
        np.testing.assert_array_equal(space.encode(given_tensor), space.encode(mm.Image(PIXELS)))
    np.testing.assert_array_equal(
        space.encode(list(torch.stack([first] * 2))), space.encode([mm.Image(PIXELS)] * 2)
    )
    half = mm.Image((first / 255).bfloat16()).load()
    assert np.abs(half.astype(int) - PIXELS.astype(int)).max() <= 1


def test_tensors_are_vectors_samples_and_frames_too(space: Space) -> None:
    vectors = torch.from_numpy(space.encode(TEXTS))
    np.testing.assert_array_equal(space.similarity(vectors, vectors[0]), space.similarity(TEXTS, "a cat"))
    waveform = mm.Audio({"array": torch.from_numpy(SAMPLES), "sampling_rate": 16_000}).load()
    np.testing.assert_array_equal(waveform.samples, SAMPLES)
    clip = torch.from_numpy(np.stack([PIXELS] * 4)).permute(0, 3, 1, 2)
    np.testing.assert_array_equal(mm.Video(clip, fps=2).load().frames[0], PIXELS)


@pytest.mark.parametrize(
    "pair",
    [
        (SAMPLES, 16_000), (16_000, SAMPLES), (torch.from_numpy(SAMPLES), 16_000), (SAMPLES, np.int64(16_000)),
        (np.stack([SAMPLES] * 2), 16_000.0), (np.round(SAMPLES * 32_767).astype(np.int16), 16_000),
    ],
)  # fmt: skip
def test_samples_with_their_rate_are_audio_in_either_order(pair: tuple[Any, Any], space: Space) -> None:
    waveform = mm.Audio(pair).load()
    assert waveform.rate_hz == 16_000
    np.testing.assert_allclose(waveform.samples, SAMPLES, atol=1e-4)
    np.testing.assert_array_equal(space.encode(pair), space.encode(mm.Audio(pair)))
    np.testing.assert_array_equal(space.encode([pair, "a cat"])[0], space.encode(pair))


def test_pipelines_take_the_same_collections(space: Space) -> None:
    classify = mm.ZeroShotClassificationPipeline(space)
    expected = [result.label for result in classify(TEXTS, labels=["cat", "dog"])]
    for kind, values in collections().items():
        assert [result.label for result in classify(values, labels=["cat", "dog"])] == expected, kind


PATHS = [
    "nope/does-not-exist.jpg", "photo.JPG", "./photo", "../a/b.png", "~/Pictures", "~/my photos/a.jpg", "C:\\a\\b.png",
    "/data/images/0001", "/data/my photos/a b.webp", "https://example.org/cat.png", "file:///a.wav", "talk.mp3",
    "clip.mp4", "a\\b\\c.tiff", " photo.png ",
]  # fmt: skip
WORDS = [
    "cat", "cat/dog", "and/or", "a cat and/or a dog", "AC/DC", "24/7", "e.g. this", "U.S.A.", "version 1.2", "node.js",
    "a photo of cat.jpg", "I lost my photo.jpg", "3.14", "…", "", " ", "a/b/c", "What is a .jpg?", ".jpg",
    "he/she/they",
    "The end.", "www.example.org", "me@example.org", "1/2 cup", "/", "//", "s/he", "jpg",
    "line\nphoto.jpg", "-1", "*.jpg files",
]  # fmt: skip


@pytest.mark.parametrize("text", PATHS)
def test_a_str_that_looks_like_a_path_is_text_with_a_warning(
    text: str, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(path_like, "_warned", set())
    with pytest.warns(
        PathLikeTextWarning, match=r"looks like a path and was taken as text.*for the words pass Text"
    ):
        vector = space.encode(text)
    np.testing.assert_array_equal(vector, space.encode(mm.Text(text)))  # which does not warn


@pytest.mark.parametrize("text", WORDS)
def test_words_and_labels_are_no_paths(text: str) -> None:
    assert not looks_like_path(text)


@given(st.lists(st.text("abcdefghijklmnopqrstuvwxyz'-/,", min_size=1, max_size=9), min_size=2, max_size=12))
def test_sentences_are_no_paths(words: list[str]) -> None:
    assert not looks_like_path("The " + " ".join(words) + ".")


def test_a_line_of_code_warns_once_whatever_it_encodes(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_like, "_warned", set())
    with pytest.warns(PathLikeTextWarning) as caught:
        for start in range(3):
            space.encode([f"photos/{start + number}.jpg" for number in range(5)])
    assert len(caught) == 1 and caught[0].filename == __file__
    assert "'photos/0.jpg'" in str(caught[0].message)


def test_every_function_that_takes_text_warns_of_a_path(
    space: Space, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(path_like, "_warned", set())
    index = mm.Index.create(tmp_path / "x.lance", space)
    index.add(TEXTS)
    classify = mm.ZeroShotClassificationPipeline(space)
    with pytest.warns(PathLikeTextWarning):
        index.search("nope/does-not-exist.jpg")
    with pytest.warns(PathLikeTextWarning):
        classify("nope/does-not-exist.jpg", labels=["cat/dog", "a cat"])
    with pytest.warns(PathLikeTextWarning):
        space.similarity("nope/does-not-exist.jpg", TEXTS)


def test_captioning_warns_of_a_path_and_transcription_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_like, "_warned", set())
    starter = mm.load("starter")
    with pytest.warns(PathLikeTextWarning):
        mm.pipeline("captioning", model=starter)("nope/does-not-exist.jpg")
    with pytest.raises(mm.errors.MediaNotFound, match=r"^nope.does-not-exist\.mp3: no such file"):
        mm.pipeline("transcription", model=starter)("nope/does-not-exist.mp3")


def test_values_are_recognised_while_another_thread_imports_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))  # as far as it is then
    assert not inputs.is_tensor(PIXELS)
    assert mm.Image(PIXELS).load().shape == PIXELS.shape


def test_each_line_of_a_script_is_warned_of_its_own_path() -> None:
    """The code of a script has no frame below it."""
    code = (
        "from multimodal.core.media.path_like import warn_path_like\n"
        "for _ in range(2):\n    warn_path_like(['no/a.jpg'])\n"
        "warn_path_like(['no/b.jpg'])\n"
    )
    command = [sys.executable, "-W", "always", "-c", code]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert [line[:13] for line in shown.stderr.splitlines() if "PathLike" in line] == [
        "<string>:3: P",
        "<string>:4: P",
    ]
