"""Files of weights: they say nothing of themselves, so whoever loads one says what it is, or is asked to."""

import re
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from multimodal.core.errors import CheckpointError, InvalidInput, UnknownModel
from tests.encoders.openclip.openclip_checkpoints import (
    OPENAI,
    SAID,
    SQUASHED,
    architecture,
    by_hand,
    load,
    parity,
    published,
    tags,
    weights,
)

__all__ = ["architecture", "published", "tags", "weights"]  # fixtures


def training(tensors: dict[str, torch.Tensor], path: Path) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": wrapped, "optimizer": {"lr": 0.1}}, path)


def custom_text(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """As `CustomTextCLIP` names them, with a scale of one dimension."""
    outside = ("visual", "logit_scale")
    renamed = {
        name if name.startswith(outside) else f"text.{name}": tensor for name, tensor in tensors.items()
    }
    save_file(renamed | {"logit_scale": tensors["logit_scale"][None]}, path)


def in_half(tensors: dict[str, torch.Tensor], path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in tensors.items()}, path)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("weights.safetensors", save_file),
        ("weights.pt", torch.save),
        ("epoch_3.pt", training),
        ("custom.safetensors", custom_text),
        ("half.safetensors", in_half),
    ],
)
def test_a_file_of_weights_is_loaded_as_upstream_does(architecture, weights, tmp_path, name, save):
    save(load_file(weights), tmp_path / name)
    settings = {f"image_{key}": value for key, value in SQUASHED.items()}
    settings |= {"force_custom_text": save is custom_text}  # upstream must be told the class
    expected = by_hand(architecture, pretrained=str(tmp_path / name), **settings)
    space = load(f"{architecture}:{tmp_path / name}", preprocess=SQUASHED, quick_gelu=False)
    assert parity(space, expected) <= 1e-5
    assert {encoder.space_id for encoder in space.encoders.values()} == {None}


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_torchscript_archive_as_openai_publishes_is_loaded(architecture, weights, tmp_path):
    model = open_clip.create_model(f"{architecture}-quickgelu", pretrained=str(weights)).eval()
    for number in ("input_resolution", "context_length", "vocab_size"):
        vars(model).pop(number, None)
        model.register_buffer(number, torch.tensor(1))
    torch.jit.script(model).save(tmp_path / "ViT-B-32.pt")
    space = load(f"{architecture}-quickgelu:{tmp_path / 'ViT-B-32.pt'}", preprocess=SAID)
    assert parity(space, by_hand(f"{architecture}-quickgelu", pretrained=str(weights))) <= 1e-5


def test_a_relative_file_is_found(architecture, weights, monkeypatch):
    monkeypatch.chdir(weights.parent)
    spaces = [
        load(f"{architecture}:{name}", preprocess=SAID, quick_gelu=False)
        for name in ("./mine.safetensors", "mine.safetensors")
    ]
    assert spaces[0].fingerprint == spaces[1].fingerprint


def test_a_file_without_preprocessing_settings_is_refused(tags, weights):
    text = (
        f"{weights} has weights only, without settings of image preprocessing (mean, std, interpolation, "
        "resize_mode): pass preprocess={'mean': …, 'std': …, 'interpolation': …, 'resize_mode': …} as in training, "
        "or like= the tag it is a copy of (openai, laion)"
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(text)}$"):
        load(f"{tags}:{weights}", quick_gelu=False)
    with pytest.raises(
        CheckpointError, match=re.escape("image preprocessing (interpolation, resize_mode): pass")
    ):
        load(f"{tags}:{weights}", quick_gelu=False, preprocess=OPENAI)


def test_a_file_without_an_activation_is_refused_where_both_exist(tags, weights):
    text = (
        f"{weights} may have been trained with QuickGELU (as OpenAI's weights) or without (as LAION's), and {tags} "
        "exists with both: pass quick_gelu=True or quick_gelu=False, or like= the tag it is a copy of (openai, laion)"
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(text)}$"):
        load(f"{tags}:{weights}", preprocess=SAID)


def test_the_activation_matters_and_can_be_given_in_three_ways(tags, weights):
    quick = by_hand(f"{tags}-quickgelu", pretrained=str(weights))
    plain = by_hand(tags, pretrained=str(weights))
    assert np.abs(quick[0] - plain[0]).max() > 1e-3  # it matters
    assert parity(load(f"{tags}:{weights}", preprocess=SAID, quick_gelu=True), quick) <= 1e-5
    assert parity(load(f"{tags}-quickgelu:{weights}", preprocess=SAID), quick) <= 1e-5
    assert parity(load(f"{tags}:{weights}", like="openai"), quick) <= 1e-5
    assert parity(load(f"{tags}:{weights}", preprocess=SAID, quick_gelu=False), plain) <= 1e-5


def test_like_brings_the_preprocessing_of_a_tag(tags, weights):
    settings = {f"image_{key}": value for key, value in SQUASHED.items()}
    space = load(f"{tags}:{weights}", like="laion", space_id="openclip/mine")
    assert parity(space, by_hand(tags, pretrained=str(weights), **settings)) <= 1e-5
    assert {encoder.space_id for encoder in space.encoders.values()} == {"openclip/mine"}


CONTRADICTIONS = {
    "quick_gelu=False, but the architecture narrow-ViT-B-32-quickgelu says True; leave one of them out":
        ("-quickgelu", {"quick_gelu": False, "preprocess": SAID}),
    "quick_gelu=True, but like='laion' says False; leave one of them out": ("", {"quick_gelu": True, "like": "laion"}),
    "quick_gelu=False, but like='openai' says True; leave one of them out":
        ("", {"quick_gelu": False, "like": "openai"}),
}  # fmt: skip


@pytest.mark.parametrize("text", CONTRADICTIONS)
def test_options_that_contradict_each_other_are_refused(tags, weights, text):
    suffix, options = CONTRADICTIONS[text]
    with pytest.raises(InvalidInput, match=f"^{re.escape(text)}$"):
        load(f"{tags}{suffix}:{weights}", **options)


def test_like_must_be_a_tag(tags, weights):
    text = (
        "like='laoin': narrow-ViT-B-32 has no pretrained tag 'laoin'; did you mean 'laion'? its tags: openai, laion; "
        "write for example 'openclip/narrow-ViT-B-32:openai', or a weights file"
    )
    with pytest.raises(UnknownModel, match=f"^{re.escape(text)}$"):
        load(f"{tags}:{weights}", like="laoin")


PREPROCESS_FAULTS = {
    "preprocess= has 'interpolate'; did you mean 'interpolation'? expected mean, std, interpolation, resize_mode, "
    "fill_color": {"interpolate": "bicubic"},
    "preprocess= has 'size'; expected mean, std, interpolation, resize_mode, fill_color": {"size": 224},
    "preprocess= has interpolation 'lanczos', expected one of 'bicubic', 'bilinear', 'random'":
        {"interpolation": "lanczos"},
    "preprocess= has resize_mode 'crop', expected one of 'shortest', 'longest', 'squash'": {"resize_mode": "crop"},
    "preprocess= has mean [0.5, 0.5], expected three numbers for pixels in 0 to 1": {"mean": [0.5, 0.5]},
    "preprocess= has mean [0.5, nan, 0.5], expected three numbers for pixels in 0 to 1":
        {"mean": [0.5, float("nan"), 0.5]},
    "preprocess= has std 0, expected three numbers above 0 for pixels in 0 to 1": {"std": 0},
    "preprocess= has std 'wide', expected three numbers above 0 for pixels in 0 to 1": {"std": "wide"},
}  # fmt: skip


@pytest.mark.parametrize("text", PREPROCESS_FAULTS)
def test_invalid_preprocessing_is_refused(architecture, weights, text):
    with pytest.raises(InvalidInput, match=f"^{re.escape(text)}$"):
        load(f"{architecture}:{weights}", preprocess=SAID | PREPROCESS_FAULTS[text], quick_gelu=False)
