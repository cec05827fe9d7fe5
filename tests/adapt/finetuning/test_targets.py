"""Adapters on every kind of architecture: each learns, is saved, loads again, and merges exactly."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import multimodal as mm
from multimodal.adapt.finetuning.targets import (
    adapter_outputs,
    check_alive,
    check_merge,
    last_parameters,
    target_layers,
)
from multimodal.adapt.finetuning.towers import Tower
from multimodal.adapt.finetuning.weights import with_lora
from multimodal.core.adapters import AdapterMetadata, apply_adapters, quiet_peft
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from tests.encoders.hf import hf_cases

SAMPLES: dict[str, list[mm.Image | mm.Audio | mm.Text]] = {
    "text": [mm.Text("a cat"), mm.Text("rain"), mm.Text("hello world")],
    "image": [mm.Image(pixels) for pixels in hf_cases.IMAGES],
    "audio": [mm.Audio({"array": clip, "sampling_rate": hf_cases.RATE_HZ}) for clip in hf_cases.SOUNDS],
}


def openclip_space(tmp_path: Path) -> mm.Space:
    from tests.encoders.openclip.openclip_checkpoints import RECIPES, write

    return mm.load(f"openclip/{write(RECIPES['ViT-B-32'], tmp_path / 'openclip')}")


def st_space(tmp_path: Path) -> mm.Space:
    from tests.encoders.st import st_models

    return mm.load(f"st/{st_models.Models(tmp_path)('mean')}")


SPACES: dict[str, Callable[[Path], mm.Space]] = {
    "starter": lambda folder: mm.load("starter"),
    "clip": lambda folder: hf_cases.case("clip").space,
    "siglip": lambda folder: hf_cases.case("siglip").space,
    "clap": lambda folder: hf_cases.case("clap").space,
    "blip": lambda folder: hf_cases.case("blip").space,
    "openclip": openclip_space,
    "st": st_space,
}


def trained(encoder: Encoder, items: list[Any], method: str) -> Tower:
    """One large step of the adapters towards other vectors."""
    tower = Tower(encoder, method, rank=2, alpha=4.0)
    optimizer = torch.optim.AdamW(tower.parameters.values(), lr=0.02)
    goal = torch.nn.functional.normalize(
        torch.randn(len(items), encoder.dim, generator=torch.Generator().manual_seed(0))
    )
    for _ in range(2):  # the first matrices learn in the second step, when the second ones are not zero
        optimizer.zero_grad()
        (-(tower.forward(encoder.prepare(items)) * goal).sum()).backward()
        optimizer.step()
    return tower


METHODS = [(name, "lora") for name in SPACES] + [(name, "dora") for name in ("starter", "clip", "openclip")]


@pytest.mark.parametrize(("name", "method"), METHODS)
def test_an_adapter_learns_merges_exactly_and_loads_again(name: str, method: str, tmp_path: Path) -> None:
    space = SPACES[name](tmp_path)
    for modality, encoder in space.encoders.items():
        items = SAMPLES[str(modality)]
        before, fingerprint = encoder.encode(items), encoder.fingerprint
        tower = trained(encoder, items, method)
        check_alive(tower.encoder.net)
        assert all(value.grad is not None and value.grad.any() for value in tower.parameters.values())
        tower.interpolate(tower.state(), 1.0)
        adapted, merged = tower.encoder.encode(items), tower.merged()
        check_merge(adapted, merged.encode(items))
        assert np.abs(adapted - before).max() > 1e-3
        assert merged.fingerprint != fingerprint == encoder.fingerprint
        assert np.array_equal(encoder.encode(items), before)
        folder = tmp_path / str(modality)
        tower.save_adapter(
            folder, AdapterMetadata(str(modality), fingerprint, space.name, merged.fingerprint)
        )
        loaded = apply_adapters(space, folder).encoders[modality]
        assert loaded.fingerprint == merged.fingerprint
        assert np.abs(loaded.encode(items) - adapted).max() < 1e-5
        if method == "dora":
            tower.interpolate(tower.state(), 0.0)
            assert np.abs(tower.encoder.encode(items) - before).max() < 1e-6


def captioner() -> tuple[nn.Module, dict[str, Any]]:
    from multimodal.pipelines.captioning.backends.networks import CaptionNet

    return CaptionNet(20, 16), {"vectors": torch.randn(2, 16), "words": torch.tensor([[3, 4], [5, 6]])}


@pytest.mark.parametrize("use_dora", [False, True])  # Whisper, BLIP, a UNet and Flux are in test_decoders
def test_the_layers_of_a_decoder_learn_and_merge_exactly(use_dora: bool) -> None:
    torch.manual_seed(0)
    net, inputs = captioner()
    net = net.eval().requires_grad_(False)

    def output() -> torch.Tensor:
        return net(**inputs)

    peft = with_lora(net, rank=2, alpha=4.0, targets=None, seed=0, use_dora=use_dora)
    optimizer = torch.optim.AdamW([value for value in net.parameters() if value.requires_grad], lr=0.02)
    for _ in range(2):
        optimizer.zero_grad()
        output().square().mean().backward()
        optimizer.step()
    check_alive(net)
    with torch.no_grad(), quiet_peft():
        adapted = output().numpy().copy()
        net = copy.deepcopy(peft).merge_and_unload()
        check_merge(adapted, output().numpy())


def test_all_linear_is_refused_and_unknown_layers_are_named() -> None:
    net = hf_cases.case("clap").space.encoders["audio"].net
    with pytest.raises(InvalidInput, match="'all-linear' makes adapters that never learn"):
        target_layers(net, "all-linear")
    with pytest.raises(InvalidInput, match=r"targets=\['q_proj'\] names no layer of ClapModel"):
        target_layers(net, ["q_proj"])
    with pytest.raises(InvalidInput, match="no layers for adapters are known in Sequential"):
        target_layers(nn.Sequential(nn.Linear(2, 2)), None)


def test_adapters_that_never_learn_are_refused(tmp_path: Path) -> None:
    """open_clip's fused attention uses the weights of out_proj, and never calls it."""
    encoder = openclip_space(tmp_path).encoders["image"]
    net = copy.deepcopy(encoder.net)
    with quiet_peft():
        from peft import LoraConfig, get_peft_model

        get_peft_model(net, LoraConfig(target_modules=["out_proj", "c_fc"]))
    for name, value in adapter_outputs(net).items():
        if "c_fc" in name:
            value.data.fill_(0.1)
    with pytest.raises(InvalidInput, match=r"2 of 4 adapters got no gradient.*out_proj"):
        check_alive(net)


def test_an_unequal_merge_is_refused() -> None:
    rows = np.eye(3, dtype=np.float32)
    check_merge(rows, rows + 1e-7)
    for other in (rows + 0.2, rows * np.nan):
        with pytest.raises(InvalidInput, match="merging the adapter changes the vectors by"):
            check_merge(rows, other)


def test_the_last_layer_is_known() -> None:
    starter = mm.load("starter")
    assert last_parameters(starter.encoders["image"].net) == ["project.weight", "project.bias"]
    assert last_parameters(hf_cases.case("clip").space.encoders["text"].net)[-1] == "text_projection.weight"
    with tempfile.TemporaryDirectory() as folder:
        assert last_parameters(openclip_space(Path(folder)).encoders["image"].net)[0] == "proj"


def test_one_step_is_that_of_peft_by_hand() -> None:
    """The loop's adapters after a step on a tiny CLIP equal a loop of four lines with PEFT and AdamW."""
    from peft import LoraConfig, get_peft_model

    from multimodal.adapt.finetuning.checkpoint import TrainingCheckpoint
    from multimodal.adapt.finetuning.data import Pair
    from multimodal.adapt.finetuning.examples import encode_pairs
    from multimodal.adapt.finetuning.loop import Job, Trainer
    from multimodal.adapt.finetuning.losses import make_loss
    from multimodal.adapt.finetuning.optimisation import TrainingConfig, batch_indices

    space = hf_cases.case("clip").space
    pairs = [
        Pair(image, mm.Text(text)) for image, text in zip(SAMPLES["image"], hf_cases.TEXTS, strict=False)
    ]
    examples, _ = encode_pairs(space, pairs, "training", lambda *_: None)
    encoder, scale = space.encoders["image"], space.logit_scale_for("image", "text").scale
    tower = Tower(encoder, "lora", rank=4, alpha=8.0, seed=5)
    config = TrainingConfig(steps=1, batch_size=3, chunk=3, learning_rate=1e-2, seed=5)
    loss = make_loss("clip", scale, 0.0, None, space.dim)
    job = Job({mm.Modality("image"): tower}, examples, examples, None, loss)
    Trainer(job, config, TrainingCheckpoint(None), lambda *_: None).run()

    net = copy.deepcopy(encoder.net)
    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(5)
        names = [f"{block}.{name}" for block in ("self_attn", "mlp")
                 for name in ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")]  # fmt: skip
        model = get_peft_model(net, LoraConfig(r=4, lora_alpha=8, target_modules=names)).eval()
    trainable = {name: value for name, value in net.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(trainable.values(), lr=1e-2, weight_decay=0.01)
    order = batch_indices(3, 3, 0, 5, "train")
    features = model.base_model.model.get_image_features(
        **encoder.prepare([examples.firsts[i] for i in order])
    )
    images = torch.nn.functional.normalize(features.pooler_output, dim=1)
    logits = scale * images @ torch.from_numpy(examples.second_rows[order]).T
    (
        0.5
        * (
            nn.functional.cross_entropy(logits, torch.arange(3))
            + nn.functional.cross_entropy(logits.T, torch.arange(3))
        )
    ).backward()
    optimizer.step()
    assert trainable.keys() == tower.parameters.keys() and len(trainable) == 24
    for name, value in trainable.items():
        assert float((value - tower.parameters[name]).detach().abs().max()) < 1e-6, name
