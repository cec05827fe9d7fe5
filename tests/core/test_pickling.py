"""Spaces and pipelines pickle as what they were opened from, and move to another device."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import multimodal as mm
from multimodal.core.errors import InvalidInput
from multimodal.core.space import Space
from multimodal.testing import fake_space


def test_a_space_pickles_as_its_address_and_options(tmp_path: Path) -> None:
    starter = mm.load("starter", device="cpu", decode="fast")
    data = pickle.dumps(starter)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert again.address == "starter" and again.fingerprint == starter.fingerprint
    assert {encoder.runtime.decode for encoder in again.encoders.values()} == {"fast"}
    fake_space(dim=3).save_pretrained(tmp_path / "s")
    for saved in (mm.load(tmp_path / "s", device="cpu"), Space.from_pretrained(tmp_path / "s", device="cpu")):
        assert pickle.loads(pickle.dumps(saved)).fingerprint == saved.fingerprint


def test_a_space_without_an_address_says_how_to_give_it_one() -> None:
    with pytest.raises(InvalidInput, match=r"^space 'fake' cannot be pickled: .* save_pretrained\(folder\)"):
        pickle.dumps(fake_space())


def test_a_pipeline_pickles_as_the_arguments_it_was_opened_with() -> None:
    classify = mm.pipeline("zero-shot-classification", model="starter")
    again = pickle.loads(pickle.dumps(classify))
    assert type(again) is type(classify) and again.space.fingerprint == classify.space.fingerprint
    caption = mm.pipeline("captioning", model="starter", device="cpu")
    assert len(pickle.dumps(caption)) < 1000
    assert pickle.loads(pickle.dumps(caption)).device.type == "cpu"
    with pytest.raises(InvalidInput, match=r"^this ZeroShotClassificationPipeline cannot be pickled: "):
        pickle.dumps(mm.ZeroShotClassificationPipeline(fake_space()))


def test_a_space_moves_to_another_device_in_place(toy: ModuleType) -> None:
    space = mm.load("starter", device="cpu")
    vector, fingerprint = space.encode("a red apple"), space.fingerprint
    assert space.to("cpu") is space
    np.testing.assert_array_equal(space.encode("a red apple"), vector)
    assert space.fingerprint == fingerprint
    assert space.to("meta") is space  # the one other device that every machine has
    assert {encoder.runtime.torch_device for encoder in space.encoders.values()} == {torch.device("meta")}
    assert {parameter.device.type for parameter in space.encoders[mm.Modality.TEXT].net.parameters()} == {
        "meta"
    }


def test_a_pipeline_moves_its_space() -> None:
    classify = mm.pipeline(
        "zero-shot-classification",
        model="starter",
    )
    assert classify.to("meta") is classify
    assert {encoder.runtime.device for encoder in classify.space.encoders.values()} == {"meta"}


def test_a_pipeline_without_a_space_is_opened_again_on_the_device(tmp_path: Path) -> None:
    transcribe = mm.pipeline("transcription", model="starter", device="cpu")
    assert transcribe.to("meta") is transcribe
    assert transcribe.backend.encoder.runtime.device == "meta"
    bare = type(transcribe)(transcribe.backend, "starter")
    with pytest.raises(InvalidInput, match=r"^this TranscriptionPipeline cannot be moved: "):
        bare.to("cpu")


def test_a_retrieval_pipeline_moves_the_space_of_its_index(tmp_path: Path) -> None:
    search = mm.RetrievalPipeline(mm.Index.create(tmp_path / "i.lance", mm.load("starter", device="cpu")))
    assert search.to("meta") is search
    assert {encoder.runtime.device for encoder in search.index.space.encoders.values()} == {"meta"}


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tpu9"):
        fake_space().to("tpu9")
