"""LanguageBind's weights in every form they come in; what cannot be used is refused with the reason."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import multimodal as mm
from multimodal.core.errors import CheckpointError, CorruptSpace
from multimodal.encoders.languagebind import checkpoint as checkpoint

GOLDEN = Path(__file__).parent / "golden"
SHORT = mm.Audio(GOLDEN / "short.flac")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to be spoilt."""
    return Path(shutil.copytree(GOLDEN / "tiny-112mel", tmp_path / "mine"))


def loaded(folder: Path) -> mm.Space:
    return mm.load(f"languagebind/{folder}", device="cpu")


def change_config(
    folder: Path, *, drop: tuple[str, ...] = (), top: dict[str, Any] | None = None, **vision: Any
) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= top or {}
    config["vision_config"] |= vision
    for name in drop:
        (config["vision_config"] if name in config["vision_config"] else config).pop(name)
    path.write_text(json.dumps(config))


def as_pickle(folder: Path, *, zipped: bool = True) -> None:
    tensors = load_file(folder / "model.safetensors")
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "the format before torch 1.6"])
def test_a_pickle_of_tensors_gives_the_vectors_of_safetensors(folder, zipped):
    expected = loaded(folder).encode(SHORT)
    as_pickle(folder, zipped=zipped)
    (folder / "model.safetensors").unlink()
    assert np.array_equal(loaded(folder).encode(SHORT), expected)


def test_safetensors_are_preferred(folder):
    expected = loaded(folder).encode(SHORT)
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert np.array_equal(loaded(folder).encode(SHORT), expected)


def test_a_pickle_that_holds_code_is_refused_and_not_run(folder, tmp_path):
    trace = tmp_path / "trace"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (trace,)

    (folder / "model.safetensors").unlink()
    torch.save({"a": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(
        CheckpointError,
        match=r"pytorch_model\.bin is refused: its pickle holds more than tensors, and reading it could run code\.",
    ):
        loaded(folder)
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0, 10, 1_000, 200_000])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_truncated_file_is_refused(folder, name, keep):
    as_pickle(folder)
    for other in {"model.safetensors", "pytorch_model.bin"} - {name}:
        (folder / other).unlink()
    path = folder / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        CheckpointError, match=rf"{name} (is damaged \(.*\); fetch|is empty; fetch|is neither)"
    ):
        loaded(folder)


def test_the_text_tower_is_not_read(folder):
    tensors = load_file(folder / "model.safetensors") | {"text_model.final_layer_norm.bias": torch.zeros(3)}
    save_file(tensors, folder / "model.safetensors")
    assert set(checkpoint.read(folder).tensors) == set(loaded(folder).encoders["audio"].state_dict())


def test_half_precision_weights_are_run_in_full(folder):
    tensors = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    assert {value.dtype for value in loaded(folder).encoders["audio"].state_dict().values()} == {
        torch.float32
    }


def test_a_checkpoint_without_a_scale_has_no_head(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["logit_scale"]
    save_file(tensors, folder / "model.safetensors")
    assert loaded(folder).logit_scales == {}


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    with pytest.raises(
        CheckpointError,
        match=rf"^'{folder}' has no config\.json; a LanguageBind checkpoint is a folder with config\.json and "
        r"model\.safetensors or pytorch_model\.bin$",
    ):
        loaded(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError,
        match=rf"^'{folder}' has a config\.json but no weights: neither model\.safetensors nor pytorch_model\.bin$",
    ):
        loaded(folder)


def test_a_config_that_is_no_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not valid JSON \(.*\); download it again$"):
        loaded(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"model_type": "clip"}'])
def test_another_kind_of_model_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    kind = "'clip'" if "clip" in text else "None"
    with pytest.raises(
        CheckpointError,
        match=rf"config\.json describes a model of type {kind}, expected 'LanguageBindAudio': only LanguageBind's "
        "audio models can be loaded here$",
    ):
        loaded(folder)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"drop": ("vision_config",)}, "has no 'vision_config', which describes the audio tower$"),
        (
            {"drop": ("projection_dim", "hidden_size"), "num_mel_bins": 0},
            "does not define hidden_size, num_mel_bins, which have no default$",
        ),
        ({"hidden_act": "relu"}, r"has the activation 'relu', expected one of gelu, quick_gelu$"),
        (
            {"add_time_attn": True, "num_frames": 8},
            "has temporal attention over 8 frames; audio is one frame, so num_frames must be 1$",
        ),
    ],
    ids=["no vision_config", "sizes missing", "activation", "frames"],
)
def test_an_incomplete_or_unsupported_configuration_is_refused(folder, changes, text):
    change_config(folder, **changes)
    with pytest.raises(CheckpointError, match=rf"config\.json {text}"):
        loaded(folder)


def test_upstreams_defaults_fill_in_what_a_config_leaves_out(folder):
    change_config(
        folder, drop=("hidden_act", "layer_norm_eps", "audio_sample_rate", "add_time_attn", "num_frames")
    )
    loaded = checkpoint.read(folder)
    assert (loaded.sizes.activation, loaded.sizes.epsilon, loaded.mel_settings.rate_hz) == (
        "quick_gelu",
        1e-5,
        16_000,
    )


def test_tensors_that_do_not_fit_are_named(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["vision_model.post_layernorm.bias"]
    tensors["visual_projection.weight"] = torch.zeros(24, 31)
    tensors["vision_model.extra.weight"] = torch.zeros(1)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(
        CheckpointError,
        match=rf"^the weights in {folder} do not fit its config\.json: vision_model\.post_layernorm\.bias is missing; "
        r"vision_model\.extra\.weight is unknown; visual_projection\.weight has shape \(24, 31\), expected \(24, 32\); "
        "take both files from the same checkpoint$",
    ):
        loaded(folder)


def test_of_many_faults_the_first_three_are_named(folder):
    change_config(folder, num_hidden_layers=3)
    with pytest.raises(
        CheckpointError, match=r"is missing; .* is missing; .* is missing … \(16 faults in all\)"
    ):
        loaded(folder)


def test_positions_of_a_grid_that_is_not_square_are_not_guessed_at(folder):
    change_config(folder, num_mel_bins=126)
    with pytest.raises(
        CheckpointError,
        match=r"position_embedding\.weight has shape \(593, 32\), expected \(667, 32\)",
    ):
        loaded(folder)


@pytest.mark.parametrize(
    ("halves", "text"),
    [
        ({"A": (2, 32)}, "is incomplete: it needs lora_A, lora_B and the weight$"),
        ({"A": (2, 16), "B": (32, 2)}, r"has shape \(32, 16\), but its weight has \(32, 32\)$"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(folder, halves, text):
    layer = "vision_model.encoder.layers.0.self_attn.q_proj"
    extra = {f"{layer}.lora_{half}.default.weight": torch.zeros(shape) for half, shape in halves.items()}
    save_file(load_file(folder / "model.safetensors") | extra, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"^the LoRA adapter of {layer} in '{folder}' {text}"):
        loaded(folder)


def test_a_saved_space_whose_weights_were_swapped_is_refused(folder, tmp_path):
    loaded(folder).save_pretrained(tmp_path / "saved")
    save_file({"weight": torch.zeros(1)}, tmp_path / "saved" / "audio.safetensors")
    with pytest.raises(CorruptSpace, match=r"the weights in the saved space do not fit its config\.json: "):
        mm.load(tmp_path / "saved", device="cpu")


def test_reading_twice_gives_equal_tensors(folder):
    first, again = checkpoint.read(folder), checkpoint.read(folder)
    assert first.sizes == again.sizes and first.mel_settings == again.mel_settings
    assert all(torch.equal(tensor, again.tensors[name]) for name, tensor in first.tensors.items())
    assert pickle.dumps(first.sizes) == pickle.dumps(again.sizes)
