"""Folders with an open_clip_config.json: settings are used, missing ones required, faults refused with a cure."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import open_clip
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file

from multimodal.core.errors import CheckpointError, InvalidInput, UnknownModel
from tests.encoders.openclip.openclip_checkpoints import (
    IMAGES,
    OPENAI,
    PIXELS,
    SAID,
    SQUASHED,
    Expected,
    by_hand,
    copy_of,
    edit,
    load,
    model_of,
    parity,
    published,
)

__all__ = ["published"]  # a fixture

Published = Callable[[str], Expected]


def test_a_folder_needs_no_prefix_if_it_looks_like_one(published: Published, tmp_path, monkeypatch):
    copy_of(published("ViT-B-32"), tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load("./folder").fingerprint == published("ViT-B-32").space.fingerprint


def test_missing_settings_of_old_folders_default_to_open_clips_of_that_time(published: Published, tmp_path):
    folder = copy_of(published("ViT-B-32"), tmp_path)
    edit(folder, preprocess_cfg=SAID)
    fingerprint = load(f"local-dir:{folder}").fingerprint
    edit(folder, preprocess_cfg=OPENAI)
    assert load(f"local-dir:{folder}").fingerprint == fingerprint


def test_options_complete_a_folder_without_preprocessing(published: Published, tmp_path):
    folder = copy_of(published("ViT-B-32"), tmp_path)
    edit(folder, preprocess_cfg={})
    text = (
        f"{folder}/open_clip_config.json does not define image preprocessing (mean, std): pass "
        "preprocess={'mean': …, 'std': …, 'interpolation': …, 'resize_mode': …} as in training"
    )
    with pytest.raises(CheckpointError, match=f"^{re.escape(text)}$"):
        load(f"local-dir:{folder}")
    space = load(f"local-dir:{folder}", preprocess=SQUASHED, quick_gelu=True)
    edit(folder, preprocess_cfg=SQUASHED)
    config = model_of(folder)
    edit(folder, model_cfg=config | {"quick_gelu": True})
    assert parity(space, by_hand(f"local-dir:{folder}")) <= 1e-5


def test_a_text_tower_may_lie_beside_its_checkpoint(published: Published, tmp_path):
    expected = published("roberta-ViT-B-32")
    folder = copy_of(published("roberta-ViT-B-32"), tmp_path)
    config = model_of(folder)
    config["text_cfg"]["hf_model_name"] = "text"  # upstream would look for it where one stands
    edit(folder, model_cfg=config)
    assert load(f"local-dir:{folder}").fingerprint == expected.space.fingerprint


def no_config(folder: Path) -> str:
    (folder / "open_clip_config.json").unlink()
    return (
        f"{folder} has no open_clip_config.json, which describes its weights; weights of an architecture of "
        "open_clip are written 'openclip/ViT-B-32:/path/to/weights.safetensors'"
    )


def no_json(folder: Path) -> str:
    (folder / "open_clip_config.json").write_text("{")
    return (
        f"{folder}/open_clip_config.json is not valid JSON (Expecting property name enclosed in double quotes: line 1 "
        "column 2 (char 1)); download or copy it again"
    )


def no_model(folder: Path) -> str:
    edit(folder, model_cfg={"embed_dim": 3})
    return (
        f"{folder}/open_clip_config.json does not describe a model: expected 'model_cfg' with embed_dim, vision_cfg "
        "and text_cfg"
    )


def strange_resize(folder: Path) -> str:
    edit(folder, preprocess_cfg=SAID | {"resize_mode": "stretch"})
    return f"{folder}/open_clip_config.json has resize_mode 'stretch', expected one of 'shortest', 'longest', 'squash'"


def no_weights(folder: Path) -> str:
    (folder / "open_clip_model.safetensors").unlink()
    return f"{folder} has no weights; name them open_clip_model.safetensors"


def two_weights(folder: Path) -> str:
    shutil.copy(folder / "open_clip_model.safetensors", folder / "a.safetensors")
    (folder / "open_clip_model.safetensors").rename(folder / "b.safetensors")
    return (
        f"{folder} has 2 files that could be weights: a.safetensors, b.safetensors; name them "
        "open_clip_model.safetensors"
    )


def unknown_setting(folder: Path) -> str:
    config = model_of(folder)
    edit(folder, model_cfg=config | {"vision_cfg": config["vision_cfg"] | {"wings": 2}})
    return (
        f"the image tower of local-dir:{folder} cannot be built by open_clip {open_clip.__version__}: "
        "CLIPVisionCfg.__init__() got an unexpected keyword argument 'wings'; upgrade open_clip_torch, or correct its "
        "configuration"
    )


def misfit(folder: Path, *faults: str) -> str:
    return (
        f"the weights of local-dir:{folder} do not fit its architecture: {'; '.join(faults)}. Name the architecture "
        "they were trained with"
    )


def wrong_shapes(folder: Path) -> str:
    file = folder / "open_clip_model.safetensors"
    tensors = load_file(file)
    tensors["visual.proj"] = tensors["visual.proj"][:, :9].contiguous()
    tensors["visual.extra"] = tensors.pop("visual.ln_pre.bias")
    save_file(tensors, file)
    return misfit(
        folder,
        "visual.proj: expected (64, 32), got (64, 9)",
        "visual.ln_pre.bias: missing, expected (64,)",
        "visual.extra: unexpected",
    )


def another_size(folder: Path) -> str:
    config = model_of(folder)
    edit(folder, model_cfg=config | {"text_cfg": config["text_cfg"] | {"context_length": 50}})
    return misfit(folder, "text.positional_embedding: expected (50, 48), got (77, 48)")


def many_missing(folder: Path) -> str:
    file = folder / "open_clip_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if "transformer" not in name}, file)
    return misfit(
        folder,
        "text.transformer.resblocks.0.ln_1.weight: missing, expected (48,)",
        "text.transformer.resblocks.0.ln_1.bias: missing, expected (48,)",
        "text.transformer.resblocks.0.attn.in_proj_weight: missing, expected (144, 48)",
        "text.transformer.resblocks.0.attn.in_proj_bias: missing, expected (144,)",
        "and 20 more",
    )


def no_scale(folder: Path) -> str:
    file = folder / "open_clip_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if name != "logit_scale"}, file)
    return misfit(folder, "logit_scale: missing")


def something_else(folder: Path) -> str:
    file = folder / "open_clip_model.safetensors"
    save_file(load_file(file) | {"decoder.weight": torch.zeros(3)}, file)
    return misfit(folder, "decoder.weight: unexpected")


def a_number(folder: Path) -> str:
    (folder / "open_clip_model.safetensors").unlink()
    torch.save({"step": 3}, folder / "model.pth")
    return f"{folder}/model.pth contains 'step', which is not a tensor; save a model's state_dict() and nothing else"


def google(folder: Path) -> str:
    (folder / "open_clip_model.safetensors").rename(folder / "siglip.npz")
    return (
        f"{folder}/siglip.npz is in big_vision's format, which is not supported; use a pretrained tag, such as "
        "'openclip/ViT-B-16-SigLIP:webli'"
    )


@pytest.mark.parametrize(
    "damage",
    [
        *(
            no_config,
            no_json,
            no_model,
            strange_resize,
            no_weights,
            two_weights,
            unknown_setting,
            wrong_shapes,
        ),
        *(another_size, many_missing, no_scale, something_else, a_number, google),
    ],
)
def test_a_folder_that_cannot_be_loaded_is_refused_with_the_cure(published: Published, tmp_path, damage):
    folder = copy_of(published("ViT-B-32"), tmp_path)
    text = damage(folder)
    with pytest.raises(CheckpointError, match=f"^{re.escape(text)}$"):
        load(f"local-dir:{folder}")


def test_a_folder_without_its_tokenizer_is_refused(published: Published, tmp_path):
    folder = copy_of(published("ViT-B-16-SigLIP"), tmp_path)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(
        CheckpointError, match=re.escape(f"and {folder} has none of its files; copy them there")
    ):
        load(f"local-dir:{folder}")


def test_the_tokenizer_of_another_model_is_refused(published: Published, tmp_path):
    folder = copy_of(published("ViT-B-16-SigLIP"), tmp_path)
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"horse": ', '"horse": 4'))
    space = load(f"local-dir:{folder}")
    with pytest.raises(
        CheckpointError,
        match=r"returned the token 41\d, but its text tower has a vocabulary of 120: it is not the tokenizer",
    ):
        space.encode("a horse")


def test_a_folder_that_is_not_there_is_unknown(tmp_path):
    with pytest.raises(UnknownModel, match=f"^there is no folder {re.escape(str(tmp_path / 'no'))}$"):
        load(f"local-dir:{tmp_path / 'no'}")


def test_like_is_not_for_folders(published: Published):
    text = (
        "like='openai' names a tag of an architecture, for a weights file such as "
        "'openclip/ViT-B-32:/path/to/weights.pt'; for a folder or repository pass preprocess="
    )
    with pytest.raises(InvalidInput, match=f"^{re.escape(text)}$"):
        load(f"local-dir:{published('ViT-B-32').folder}", like="openai")


IMAGE_NAMES = {
    "patch_embed.backbone.": "patch_emb.", ".conv.": ".block.conv.", ".bn.": ".block.norm.", "norm1": "pre_norm_mha.0",
    "norm2": "pre_norm_ffn.0", "attn.qkv": "pre_norm_mha.1.qkv_proj", "attn.proj": "pre_norm_mha.1.out_proj",
    "mlp.fc1": "pre_norm_ffn.1", "mlp.fc2": "pre_norm_ffn.4", "blocks.": "transformer.",
    "head.weight": "classifier.proj", "pos_embed": "pos_embed.pos_embed.pos_embed",
}  # fmt: skip
TEXT_NAMES = {
    "text_projection": "projection_layer", "token_embedding": "embedding_layer", "ln_final": "final_layer_norm",
    "positional_embedding": "positional_embedding.pos_embed.pos_embed", "ln_1": "pre_norm_mha.0",
    "attn.": "pre_norm_mha.1.", "ln_2": "pre_norm_ffn.0", "mlp.c_fc": "pre_norm_ffn.1", "mlp.c_proj": "pre_norm_ffn.4",
    "in_proj_": "qkv_proj.", "transformer.resblocks.": "transformer.",
}  # fmt: skip


def as_apple(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    if name.startswith("visual.trunk."):
        inner, names, prefix = name.removeprefix("visual.trunk."), IMAGE_NAMES, "image_encoder.model."
        inner = f"post_transformer_{inner}" if inner.startswith("norm.") else inner
        tensor = tensor.T if inner == "head.weight" else tensor
        tensor = tensor[None] if inner == "pos_embed" else tensor
    elif name.startswith("text."):
        inner, names, prefix = name.removeprefix("text."), TEXT_NAMES, "text_encoder."
    else:
        return name, tensor
    for ours, theirs in names.items():
        inner = inner.replace(ours, theirs)
    return prefix + inner, tensor


def test_apples_own_names_are_translated(published: Published, tmp_path):
    """MobileCLIP-B as Apple published it, before open_clip took it over."""
    folder = copy_of(published("MobileCLIP-B"), tmp_path)
    file = folder / "open_clip_model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(file).items() if name != "visual.trunk.head.bias"}
    torch.save(dict(as_apple(*pair) for pair in tensors.items()), folder / "open_clip_pytorch_model.bin")
    file.unlink()
    assert parity(load(f"local-dir:{folder}"), by_hand(f"local-dir:{folder}")) <= 1e-5


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_are_open_clips(published: Published, tmp_path, resize_mode, interpolation):
    changes = {
        "resize_mode": resize_mode,
        "interpolation": interpolation,
        "fill_color": 90,
        "mean": 0.4,
        "std": [0.2] * 3,
    }
    folder = copy_of(published("ViT-B-32"), tmp_path)
    edit(folder, preprocess_cfg=changes)
    _, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    ours = load(f"local-dir:{folder}").encoders["image"].prepare(IMAGES)["pixels"]
    theirs = torch.stack([preprocess(PIL.Image.fromarray(image)) for image in PIXELS])
    assert torch.equal(ours, theirs)
