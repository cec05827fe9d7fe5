"""Spaces that were trained into one are joined; others are refused with the reason."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import multimodal as mm
from multimodal.core.errors import InvalidInput, SpaceMismatch, UnsupportedModality
from multimodal.core.space import LogitScale, Space

HOME = "toy/home"


def of(toy: ModuleType, *kinds: str, home: str | None = HOME, seed: int = 0, name: str = "one") -> Space:
    encoders = [getattr(toy, kind)(seed=seed) for kind in kinds]
    for encoder in encoders:
        encoder.space_id = home
    return Space(encoders, LogitScale(10.0), name=name)


def test_joined_spaces_give_the_vectors_each_gave_alone(toy: ModuleType) -> None:
    eyes, ears = of(toy, "ToyText", "ToyImage"), of(toy, "ToyAudio", name="two")
    both = eyes | ears
    beep = {"array": np.sin(np.arange(4_000) * 0.3), "sampling_rate": 8_000}
    assert [str(m) for m in both.modalities] == ["text", "image", "audio"]
    assert both.name == "one | two"
    vectors = both.encode(["bell", beep])
    assert (vectors[0] == eyes.encode("bell")).all() and (vectors[1] == ears.encode(beep)).all()


def test_what_both_know_alike_is_kept_once(toy: ModuleType) -> None:
    both = of(toy, "ToyText", "ToyImage") | of(toy, "ToyText", "ToyAudio", name="two")
    assert len(both.modalities) == 3


def test_spaces_trained_apart_are_refused_with_the_reason(toy: ModuleType) -> None:
    with pytest.raises(
        SpaceMismatch,
        match=r"^these spaces were not trained into one, so their vectors cannot be compared: "
        r"'one' was trained into 'toy/home'; 'two' was trained into 'toy/away'; join spaces that name the same one$",
    ):
        of(toy, "ToyText") | of(toy, "ToyAudio", home="toy/away", name="two")


def test_spaces_that_name_no_home_are_not_taken_for_relatives(toy: ModuleType) -> None:
    with pytest.raises(SpaceMismatch, match=r"'one' was trained into a space of its own"):
        of(toy, "ToyText", home=None) | of(toy, "ToyAudio", home=None, name="two")


def test_one_modality_known_differently_is_refused(toy: ModuleType) -> None:
    with pytest.raises(
        SpaceMismatch,
        match=r"^both 'one' and 'two' encode text, and differently; leave one out with space\.select\(…\)$",
    ):
        of(toy, "ToyText") | of(toy, "ToyText", "ToyAudio", seed=1, name="two")


def test_only_what_is_there_can_be_kept(toy: ModuleType) -> None:
    space = of(toy, "ToyText", "ToyImage", "ToyAudio")
    assert [str(m) for m in space.select("audio", "text").modalities] == ["audio", "text"]
    with pytest.raises(UnsupportedModality, match=r"^video given to a space with text, image, audio"):
        space.select("video")


def test_a_saved_space_remembers_where_its_encoders_were_trained_into(
    toy: ModuleType, tmp_path: Path
) -> None:
    of(toy, "ToyAudio").save_pretrained(tmp_path / "ears")
    again = Space.from_pretrained(tmp_path / "ears")
    assert len((of(toy, "ToyText") | again).modalities) == 2


def test_a_joined_space_can_be_saved_and_loaded(toy: ModuleType, tmp_path: Path) -> None:
    both = of(toy, "ToyText") | of(toy, "ToyAudio", name="two")
    both.save_pretrained(tmp_path / "both")
    assert Space.from_pretrained(tmp_path / "both").fingerprint == both.fingerprint


def test_what_is_no_space_cannot_be_joined(toy: ModuleType) -> None:
    with pytest.raises(TypeError):
        of(toy, "ToyText") | "starter"  # type: ignore[operator]


def test_an_encoders_files_are_saved_beside_its_weights_and_enter_the_fingerprint(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = toy.ToyText().fingerprint
    seen = []
    original = toy.from_config
    monkeypatch.setattr(toy.ToyText, "files", lambda self: {"words.json": b"[1]"})
    monkeypatch.setattr(
        toy, "from_config", lambda saved, how: seen.append(saved.files) or original(saved, how)
    )
    assert toy.ToyText().fingerprint != bare
    Space([toy.ToyText()]).save_pretrained(tmp_path / "s")
    assert (tmp_path / "s" / "text" / "words.json").read_bytes() == b"[1]"
    Space.from_pretrained(tmp_path / "s")
    assert seen == [{"words.json": b"[1]"}]


def test_a_file_with_a_folder_in_its_name_is_refused(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy.ToyText, "files", lambda self: {"../words.json": b""})
    with pytest.raises(
        InvalidInput, match=r"^an encoder's file must have a plain name, got '\.\./words\.json'$"
    ):
        Space([toy.ToyText()]).save_pretrained(tmp_path / "s")


def test_parts_of_one_space_join_again_into_the_whole(toy: ModuleType) -> None:
    whole = of(toy, "ToyText", "ToyImage", "ToyAudio", home=None, name="whole")
    text, image, audio = (whole.select(modality) for modality in whole.modalities)
    part = image | text
    assert ([str(m) for m in part.modalities], part.name) == (["text", "image"], "whole")
    again = audio | part
    assert (again.modalities, again.fingerprint) == (whole.modalities, whole.fingerprint)
    assert again.logit_scales == whole.logit_scales
    assert (again.encode("bell") == whole.encode("bell")).all()
    assert (whole.select("text", "image") | whole.select("image", "audio")).fingerprint == whole.fingerprint


def test_parts_of_a_loaded_space_join_into_what_can_be_loaded_again() -> None:
    first, second = mm.load("starter"), mm.load("starter")
    whole = first.select("audio", "text") | second.select("image")
    assert (whole.address, whole.modalities, whole.name) == ("starter", first.modalities, "starter")
    assert pickle.loads(pickle.dumps(whole)).fingerprint == first.fingerprint
    assert (first.select("text") | second.select("image")).address is None


def test_parts_of_different_spaces_are_refused(toy: ModuleType) -> None:
    one, two = (of(toy, "ToyText", "ToyImage", home=None, seed=seed, name=f"{seed}") for seed in (1, 2))
    with pytest.raises(SpaceMismatch, match="not trained into one"):
        one.select("text") | two.select("image")
