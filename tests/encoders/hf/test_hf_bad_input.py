"""What cannot be loaded by `hf/…` is refused in one sentence, with its cure."""

import json
import re
import shutil
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import multimodal as mm
from multimodal.core.errors import (
    CheckpointError,
    CorruptSpace,
    InvalidInput,
    MissingExtra,
    UnknownModel,
    UnsupportedModality,
)
from tests.encoders.hf import hf_tiny
from tests.encoders.hf.hf_cases import case

VERSION = transformers.__version__


def refused(error, text, rest, **options):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        mm.load(f"hf/{rest}", device="cpu", **options)


def copied(kind, folder):
    shutil.copytree(case(kind).folder, folder)
    return folder


def edited(folder, name, **changes):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def changed_tensors(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


# --- names ---------------------------------------------------------------------------------------


def test_no_name_at_all():
    refused(
        UnknownModel,
        "'hf' needs the id of a model or a folder: 'hf/openai/clip-vit-base-patch32', "
        "'hf/openai/clip-vit-large-patch14', 'hf/laion/CLIP-ViT-B-32-laion2B-s34B-b79K', …, 'hf/./folder' "
        "(multimodal.cards() lists them)",
        "",
    )


def test_a_folder_that_is_not_there(tmp_path):
    refused(
        UnknownModel,
        f"'hf/{tmp_path}/no' names the folder '{tmp_path}/no', which does not exist; check the path",
        f"{tmp_path}/no",
    )


def test_a_folder_without_a_configuration(tmp_path):
    refused(
        UnknownModel,
        f"'hf/{tmp_path}' has no config.json, so it is not a checkpoint of transformers; give a folder that "
        "save_pretrained() of transformers wrote, or the id of a model",
        tmp_path,
    )


def test_a_configuration_that_is_not_json(tmp_path):
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(CheckpointError, match=r"config\.json is not JSON \(.*\); fetch or copy it again$"):
        mm.load(f"hf/{tmp_path}")


def test_a_configuration_of_something_else(tmp_path):
    (tmp_path / "config.json").write_text('{"model_cfg": {}}')
    refused(
        CheckpointError,
        f"{tmp_path}/config.json has no model_type, so it is not of a model of transformers; a checkpoint of "
        "open_clip is 'openclip/…', one of sentence-transformers 'st/…'",
        tmp_path,
    )


def test_a_saved_space_is_not_a_checkpoint(tmp_path):
    case("clip").space.save_pretrained(tmp_path / "s")
    refused(
        CheckpointError,
        f"'hf/{tmp_path}/s' is a saved space, not a checkpoint of transformers: load it as a folder, without 'hf/'",
        f"{tmp_path}/s",
    )


def test_a_type_that_transformers_does_not_know(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "brandnew"}')
    refused(
        CheckpointError,
        f"'hf/{tmp_path}' is of type 'brandnew', which transformers {VERSION} does not support; upgrade transformers",
        tmp_path,
    )


def test_code_of_a_repository_is_not_run_by_itself(tmp_path):
    (tmp_path / "config.json").write_text(
        '{"model_type": "brandnew", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}'
    )
    (tmp_path / "evil.py").write_text("raise SystemExit('it was run')")
    refused(
        CheckpointError,
        f"'hf/{tmp_path}' is of type 'brandnew', which transformers {VERSION} does not support; its repository "
        "contains code: read it and, if you trust it, pass trust_remote_code=True",
        tmp_path,
    )


def test_code_of_a_repository_runs_if_it_is_trusted(tmp_path, monkeypatch):
    """A CLIP under another name, whose class is in its folder."""
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = copied("clip", tmp_path / "m")
    (folder / "own.py").write_text(
        "from transformers import CLIPConfig, CLIPModel\n\n\n"
        "class OwnConfig(CLIPConfig):\n    model_type = 'own'\n\n\n"
        "class OwnModel(CLIPModel):\n    config_class = OwnConfig\n"
    )
    edited(
        folder, "config.json", model_type="own", architectures=["OwnModel"],
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"},
    )  # fmt: skip
    space = mm.load(f"hf/{folder}", device="cpu", trust_remote_code=True)
    assert abs(space.encode("a cat") - case("clip").space.encode("a cat")).max() <= 1e-6
    space.save_pretrained(tmp_path / "s")
    with pytest.raises(CorruptSpace, match=r"this space needs OwnModel, .* with trust_remote_code=True"):
        mm.load(tmp_path / "s")


# --- models of another kind ----------------------------------------------------------------------


def test_a_bert_encodes_text_only(tmp_path):
    transformers.BertModel(transformers.BertConfig(**hf_tiny.TOWER, vocab_size=40)).save_pretrained(tmp_path)
    refused(
        CheckpointError,
        f"'hf/{tmp_path}' is a BertModel, which does not embed text and another modality into one space; it encodes "
        "text only: try 'st/…' for text embeddings",
        tmp_path,
    )


def test_a_whisper_has_no_text_tower(tmp_path):
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=60_000,
    )  # fmt: skip
    transformers.WhisperForConditionalGeneration(config).save_pretrained(tmp_path)
    refused(
        CheckpointError,
        f"'hf/{tmp_path}' is a WhisperForConditionalGeneration, which does not embed text and another modality "
        "into one space; it has an audio encoder but no text encoder: use it for transcription or audio classification",
        tmp_path,
    )


def test_a_vit_has_no_text_tower(tmp_path):
    transformers.ViTModel(transformers.ViTConfig(**hf_tiny.VISION)).save_pretrained(tmp_path)
    refused(
        CheckpointError,
        f"'hf/{tmp_path}' is a ViTModel, which does not embed text and another modality into one space; it has an "
        "image encoder but no text encoder: use it for captioning or image classification",
        tmp_path,
    )


def test_blip_2_compares_a_text_with_many_vectors_of_an_image(tmp_path):
    config = transformers.Blip2Config(
        vision_config=hf_tiny.VISION, qformer_config=hf_tiny.TOWER | {"vocab_size": 40, "encoder_hidden_size": 32},
        text_config={"model_type": "opt", "hidden_size": 16, "num_hidden_layers": 1, "ffn_dim": 16, "vocab_size": 40,
                     "num_attention_heads": 2, "word_embed_proj_dim": 16},
    )  # fmt: skip
    config.architectures = ["Blip2ForImageTextRetrieval"]
    config.save_pretrained(tmp_path)
    refused(
        CheckpointError,
        f"'hf/{tmp_path}' is a Blip2ForImageTextRetrieval, which does not embed text and another modality "
        "into one space; it has an image encoder but no text encoder: use it for captioning or image classification",
        tmp_path,
    )


def test_a_frame_level_audio_model_is_refused(tmp_path):
    refused(
        CheckpointError,
        "PeAudioFrameLevelModel returns a vector for every 40 ms of audio, not one per clip; load the 'pe-av-…' "
        "checkpoint of the same size instead",
        edited(copied("pe_audio", tmp_path / "m"), "config.json", architectures=["PeAudioFrameLevelModel"]),
    )


def test_a_captioner_is_not_the_dual_encoder_of_its_type(tmp_path):
    """BLIP's captioner has no text tower to compare with, though its bare model would."""
    config = transformers.BlipConfig(
        text_config=hf_tiny.TOWER | {"vocab_size": 84}, vision_config=hf_tiny.VISION
    )
    transformers.BlipForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"do not fit a BlipModel as its config\.json describes it \(\d+ missing: "
    ):
        mm.load(f"hf/{tmp_path}")


# --- tensors -------------------------------------------------------------------------------------


def test_missing_tensors_are_named_with_their_shapes(tmp_path):
    folder = copied("clip", tmp_path / "m")
    changed_tensors(
        folder, lambda tensors: [tensors.pop(name) for name in ("logit_scale", "text_projection.weight")]
    )
    refused(
        CheckpointError,
        f"the tensors of 'hf/{folder}' do not fit a CLIPModel as its config.json describes it (2 missing: logit_scale "
        "(), text_projection.weight (16, 32)); the checkpoint is incomplete or of another model",
        folder,
    )


def test_tensors_of_another_shape_are_named_with_both(tmp_path):
    folder = copied("clip", tmp_path / "m")
    changed_tensors(folder, lambda tensors: tensors.update({"visual_projection.weight": torch.zeros(8, 32)}))
    refused(
        CheckpointError,
        f"the tensors of 'hf/{folder}' do not fit a CLIPModel as its config.json describes it (1 of another shape: "
        "visual_projection.weight is (8, 32), expected (16, 32)); the checkpoint is incomplete or of another model",
        folder,
    )


def test_tensors_that_nobody_knows_are_named(tmp_path):
    folder = copied("clip", tmp_path / "m")
    changed_tensors(folder, lambda tensors: tensors.update({"extra.weight": torch.zeros(2, 3)}))
    refused(
        CheckpointError,
        f"the tensors of 'hf/{folder}' do not fit a CLIPModel as its config.json describes it (1 unknown: extra.weight "
        "(2, 3)); the checkpoint is incomplete or of another model",
        folder,
    )


def test_of_many_tensors_three_are_named(tmp_path):
    folder = edited(copied("clip", tmp_path / "m"), "config.json", projection_dim=12)
    changed_tensors(
        folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if "vision_model" in name]
    )
    with pytest.raises(
        CheckpointError, match=r"\((\d+) missing: ([^,]+ \([^)]*\), ){3}…; 2 of another shape: "
    ):
        mm.load(f"hf/{folder}")


def test_a_folder_without_weights(tmp_path):
    folder = copied("clip", tmp_path / "m")
    (folder / "model.safetensors").unlink()
    refused(
        CheckpointError,
        f"'hf/{folder}' has no weights: neither model.safetensors nor pytorch_model.bin, whole or in parts; "
        "save them with save_pretrained()",
        folder,
    )


def test_damaged_weights(tmp_path):
    folder = copied("clip", tmp_path / "m")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:5_000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged .*fetch or copy it again$"):
        mm.load(f"hf/{folder}")


# --- preprocessing -------------------------------------------------------------------------------


def test_a_missing_tokenizer_is_an_error(tmp_path):
    folder = copied("clip", tmp_path / "m")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(
        CheckpointError, match=r"^no tokenizer can be built from the checkpoint's files \(none\): "
    ):
        mm.load(f"hf/{folder}")


def test_a_tokenizer_that_cannot_pad(tmp_path):
    folder = edited(copied("siglip2", tmp_path / "m"), "tokenizer_config.json", pad_token=None)
    refused(
        CheckpointError,
        "the checkpoint's tokenizer has no pad_token; name one in its tokenizer_config.json",
        folder,
    )


def test_missing_preprocessing_is_an_error(tmp_path):
    folder = copied("siglip", tmp_path / "m")
    (folder / "processor_config.json").unlink()
    with pytest.raises(
        CheckpointError, match=r"^no image processor can be built from the checkpoint's files \(none\): "
    ):
        mm.load(f"hf/{folder}")


def test_a_text_head_for_a_class_with_only_one():
    refused(
        InvalidInput,
        "text_head='audio' was given, but CLIPModel has a single text head; leave it out",
        case("clip").folder,
        text_head="audio",
    )


def test_a_text_head_that_pe_av_does_not_have():
    refused(
        InvalidInput,
        "text_head must be one of 'audio', 'video', 'audio_video', got 'image'",
        case("pe_av").folder,
        text_head="image",
    )


# --- what is not installed, not there, or damaged since ------------------------------------------


def test_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(
        MissingExtra,
        "loading a checkpoint of transformers ('hf/…') needs transformers: pip install 'multimodal[hf]'",
        case("clip").folder,
    )


@pytest.mark.parametrize("package", ["sentencepiece", "protobuf"])
def test_without_what_a_tokenizer_needs(package, monkeypatch):
    monkeypatch.setattr(transformers.utils.import_utils, f"is_{package}_available", lambda: False)
    monkeypatch.setitem(
        transformers.utils.import_utils.BACKENDS_MAPPING, package,
        (lambda: False, transformers.utils.import_utils.BACKENDS_MAPPING[package][1]),
    )  # fmt: skip
    with pytest.raises(
        MissingExtra,
        match=rf"^the tokenizer of this checkpoint needs {package}: pip install 'multimodal\[hf\]'$",
    ):
        mm.load(f"hf/{case('siglip').folder}", device="cpu")


def test_a_saved_space_requires_the_library_its_images_were_resized_by(tmp_path, monkeypatch):
    """torchvision and Pillow resize a little differently."""
    case("siglip").space.save_pretrained(tmp_path / "s")
    from_pretrained = transformers.AutoImageProcessor.from_pretrained
    monkeypatch.setattr(
        transformers.AutoImageProcessor,
        "from_pretrained",
        lambda *a, **b: from_pretrained(*a, **b | {"backend": "pil"}),
    )
    with pytest.raises(
        MissingExtra,
        match=r"^this space \(images are resized by torchvision\) needs torchvision: pip install 'multimodal\[hf\]'$",
    ):
        mm.load(tmp_path / "s")


def test_audio_given_to_a_space_of_text_and_image():
    name = f"hf/{case('clip').folder}"
    with pytest.raises(
        UnsupportedModality,
        match=rf"^audio given to a space with text, image: {name!r} cannot encode it; load a space that encodes audio "
        r"\(multimodal\.cards\(\) lists the modalities of each model\)$",
    ):
        case("clip").space.encode(mm.Audio({"array": [0.0] * 100, "sampling_rate": 8_000}))


def test_a_space_whose_weights_were_changed_since(tmp_path):
    case("clip").space.save_pretrained(tmp_path / "s")
    tensors = load_file(tmp_path / "s" / "image.safetensors")
    tensors.pop("visual_projection.weight")
    save_file(tensors, tmp_path / "s" / "image.safetensors")
    with pytest.raises(
        CorruptSpace, match=r"the saved tensors do not fit a CLIPModel \(of \d+ it needs, 1 are "
    ):
        mm.load(tmp_path / "s")
