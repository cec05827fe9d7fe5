"""multimodal.testing: vectors that are known beforehand, items that fail, spaces that reopen."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

import multimodal as mm
from multimodal.core.errors import EncoderError, InvalidInput, UnknownModel
from multimodal.testing import FakeEncoder, fake_space

IMAGE = np.full((4, 4, 3), 7, dtype=np.uint8)


def test_equal_content_gives_equal_vectors_of_length_one(tmp_path: Path) -> None:
    samples = np.linspace(-0.5, 0.5, 800, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    space = fake_space(("text", "image", "audio", "video"), dim=5)
    items = ["a", mm.Image(IMAGE), mm.Audio(tmp_path / "a.wav"), mm.Video(IMAGE[None], fps=1)]
    rows = space.encode(items)
    assert rows.shape == (4, 5) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(space.encode(mm.Audio({"array": samples, "sampling_rate": 8000})), rows[2])
    np.testing.assert_array_equal(fake_space(dim=5).encode("a"), rows[0])
    assert len({row.tobytes() for row in rows} | {space.encode("b").tobytes()}) == 5


def test_vectors_are_set_by_text_or_uri() -> None:
    space = fake_space(dim=2, vectors={"up": [0, 3], "x.png": [2, 0]})
    np.testing.assert_array_equal(space.encode(["up", mm.Image(IMAGE, uri="x.png")]), [[0, 1], [1, 0]])


def test_chosen_items_fail_and_the_others_do_not() -> None:
    encoder = FakeEncoder("text", failing=["bad"])
    assert encoder.encode([mm.Text("good")]).shape == (1, 8)
    with pytest.raises(EncoderError, match=r"^this fake encoder is set to fail on 'bad'$"):
        encoder.encode([mm.Text("bad")])
    assert [item.source for item in encoder.seen] == ["good", "bad"]


def test_a_fake_space_reopens_from_its_folder_its_name_and_a_pickle(tmp_path: Path) -> None:
    space = fake_space(("text",), dim=3, vectors={"a": [1, 2, 3]}, failing=["b"])
    space.save_pretrained(tmp_path / "s")
    again = mm.load(tmp_path / "s", device="cpu")
    assert again.fingerprint == space.fingerprint
    np.testing.assert_array_equal(again.encode("a"), space.encode("a"))
    assert mm.load("fake/32").dim == 32 and mm.load("fake").fingerprint == fake_space().fingerprint
    assert pickle.loads(pickle.dumps(mm.load("fake/32"))).dim == 32
    assert "fake" not in {card.name.partition("/")[0] for card in mm.cards()}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^dim must be a whole number of at least 1, got 0$"):
        FakeEncoder(dim=0)
    with pytest.raises(InvalidInput, match=r"^the vector for 'a' has 3 numbers, and dim is 2$"):
        FakeEncoder(dim=2, vectors={"a": [1, 2, 3]})
    with pytest.raises(UnknownModel, match=r"^got 'fake/x', expected 'fake' or 'fake/<dim>', as 'fake/32'$"):
        mm.load("fake/x")
