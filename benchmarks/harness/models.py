"""Models with the same random weights in the formats of all libraries: CLIP for transformers and open_clip, and CLAP.

Nothing is downloaded: architectures are built from their published configurations. Speed does not depend on the values
of weights; similarity is measured between libraries with the same weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SEED = 0
CONTEXT = 77
# openai/clip-vit-base-patch32 and -large-patch14
CLIP_SIZES: dict[str, dict[str, Any]] = {
    "ViT-B/32": {"vision": (768, 12, 12, 32, 224), "text": (512, 12, 8), "dim": 512},
    "ViT-L/14": {"vision": (1024, 24, 16, 14, 224), "text": (768, 12, 12), "dim": 768},
    "tiny": {"vision": (64, 2, 1, 32, 64), "text": (64, 2, 1), "dim": 32},
}
# laion/clap-htsat-unfused; "tiny" is a small version of the same network
CLAP_SIZES: dict[str, dict[str, Any]] = {
    "clap-htsat-unfused": {"projection_dim": 512},
    "tiny": {
        "projection_dim": 32,
        "audio_config": {"patch_embeds_hidden_size": 16, "hidden_size": 128, "depths": [1, 1, 1, 1],
                         "num_attention_heads": [1, 1, 2, 2], "projection_dim": 32},
        "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
                        "projection_dim": 32},
    },
}  # fmt: skip


def clip_folders(folder: Path, size: str) -> tuple[Path, Path]:
    """(a folder as transformers saves CLIP, a folder for open_clip's "local-dir:"), created once."""
    name = size.replace("/", "-")
    ours, theirs = folder / f"{name}-transformers", folder / f"{name}-open_clip"
    if not (theirs / "open_clip_config.json").is_file():
        model = _clip(size)
        model.save_pretrained(ours)
        _clip_processor(size).save_pretrained(ours)
        _write_open_clip(model, size, theirs)
    return ours, theirs


def _clip(size: str) -> Any:
    import torch
    from transformers import CLIPConfig, CLIPModel

    sizes = CLIP_SIZES[size]
    width, layers, heads, patch, side = sizes["vision"]
    text_width, text_layers, text_heads = sizes["text"]
    config = CLIPConfig(
        projection_dim=sizes["dim"],
        vision_config={
            "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
            "num_attention_heads": heads, "patch_size": patch, "image_size": side, "projection_dim": sizes["dim"],
        },
        text_config={
            "hidden_size": text_width, "intermediate_size": 4 * text_width, "num_hidden_layers": text_layers,
            "num_attention_heads": text_heads, "projection_dim": sizes["dim"], "bos_token_id": 49406,
            "eos_token_id": 49407, "pad_token_id": 49407,
        },
    )  # fmt: skip
    torch.manual_seed(SEED)
    return CLIPModel(config).eval()


def _clip_processor(size: str) -> Any:
    """A processor with CLIP's vocabulary, which ships with open_clip."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPImageProcessor, CLIPProcessor, CLIPTokenizer

    read = SimpleTokenizer()
    merges = sorted(read.bpe_ranks, key=read.bpe_ranks.__getitem__)
    vocabulary = {word.replace("<start_of_text>", "<|startoftext|>").replace("<end_of_text>", "<|endoftext|>"): number
                  for word, number in read.encoder.items()}  # fmt: skip
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)
    side = CLIP_SIZES[size]["vision"][4]
    return CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": side}, crop_size=side), tokenizer)


def _write_open_clip(model: Any, size: str, folder: Path) -> None:
    from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from safetensors.torch import save_file

    sizes = CLIP_SIZES[size]
    width, layers, heads, patch, side = sizes["vision"]
    text_width, text_layers, text_heads = sizes["text"]
    config = {
        "model_cfg": {
            "embed_dim": sizes["dim"], "quick_gelu": True,
            "vision_cfg": {"image_size": side, "layers": layers, "width": width, "head_width": width // heads,
                           "patch_size": patch},
            "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": text_width, "heads": text_heads,
                         "layers": text_layers},
        },
        "preprocess_cfg": {"mean": OPENAI_DATASET_MEAN, "std": OPENAI_DATASET_STD, "interpolation": "bicubic",
                           "resize_mode": "shortest"},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    save_file(as_open_clip(model.state_dict()), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n")


def as_open_clip(tensors: dict[str, Any]) -> dict[str, Any]:
    """Renames the weights of transformers' CLIP to open_clip's names."""
    renamed = {
        "logit_scale": tensors["logit_scale"],
        "text_projection": tensors["text_projection.weight"].T,
        "visual.proj": tensors["visual_projection.weight"].T,
        "token_embedding.weight": tensors["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": tensors["text_model.embeddings.position_embedding.weight"],
        "visual.class_embedding": tensors["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": tensors["vision_model.embeddings.position_embedding.weight"],
        "visual.conv1.weight": tensors["vision_model.embeddings.patch_embedding.weight"],
    }
    norms = {"text_model.final_layer_norm": "ln_final", "vision_model.pre_layrnorm": "visual.ln_pre",
             "vision_model.post_layernorm": "visual.ln_post"}  # fmt: skip
    for theirs, ours in norms.items():
        renamed |= {f"{ours}.{part}": tensors[f"{theirs}.{part}"] for part in ("weight", "bias")}
    for tower, prefix in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
        for number in range(sum(f"{tower}.encoder.layers.{n}.mlp.fc1.bias" in tensors for n in range(99))):
            layer = f"{tower}.encoder.layers.{number}"
            renamed |= {
                f"{prefix}.resblocks.{number}.{name}": tensor
                for name, tensor in _block(tensors, layer).items()
            }
    return {name: tensor.detach().clone().contiguous() for name, tensor in renamed.items()}


def _block(tensors: dict[str, Any], layer: str) -> dict[str, Any]:
    import torch

    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}  # fmt: skip
    renamed = {}
    for part in ("weight", "bias"):
        renamed |= {f"{ours}.{part}": tensors[f"{layer}.{theirs}.{part}"] for theirs, ours in names.items()}
        three = [tensors[f"{layer}.self_attn.{part_name}_proj.{part}"] for part_name in "qkv"]
        renamed[f"attn.in_proj_{part}"] = torch.cat(three)
    return renamed


def clap_folder(folder: Path, size: str) -> Path:
    """A folder as transformers saves CLAP, created once."""
    where = folder / f"{size}-transformers" if size != "tiny" else folder / "tiny-clap-transformers"
    if (where / "preprocessor_config.json").is_file() or (where / "processor_config.json").is_file():
        return where
    import torch
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizer

    torch.manual_seed(SEED)
    ClapModel(ClapConfig(**CLAP_SIZES[size])).eval().save_pretrained(where)
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(code) for code in plain] + [chr(256 + n) for n in range(256 - len(plain))]
    words = [
        "<s>",
        "<pad>",
        "</s>",
        "<unk>",
        *letters,
    ]  # bytes alone: RoBERTa's own vocabulary is not at hand
    tokenizer = RobertaTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=512
    )
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
    ClapProcessor(extractor, tokenizer).save_pretrained(where)
    return where
