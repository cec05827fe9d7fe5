"""Tiny checkpoints of open_clip's real architectures: its configurations and classes, narrower and with fewer layers,
random weights, in the files that users have. timm's towers cannot be shrunk by a configuration, so that narrow ones
are registered under names of their own."""

import functools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL.Image
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from timm.models import register_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import M2M100Config, MT5Config, PretrainedConfig, RobertaConfig, XLMRobertaConfig

import multimodal as mm

WORDS = [
    "a",
    "the",
    "photo",
    "of",
    "red",
    "green",
    "blue",
    "apple",
    "dog",
    "cat",
    "horse",
    "at",
    "in",
    "on",
    "grass",
]
VOCABULARY = 120
OPENAI = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
SIGLIP = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"}
APPLE = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "bilinear", "resize_mode": "shortest"}
SMALL_VIT = {"embed_dim": 48, "depth": 2, "num_heads": 4, "img_size": 64}
SMALL_TEXT = {"width": 48, "heads": 4, "layers": 2}
SMALL_IMAGE = {"width": 64, "head_width": 32, "layers": 2, "image_size": 64}
# layer_norm_eps and the like stay as they are in the real configurations
SMALL_BERT = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
SMALL_BERT |= {"vocab_size": VOCABULARY, "max_position_embeddings": 96}


def _narrow(name: str, **sizes: Any) -> str:
    """Registers a timm model of the same class with other sizes. Gives its name."""

    def build(pretrained: bool = False, **options: Any) -> torch.nn.Module:
        return timm.create_model(name, pretrained=False, **(sizes | options))

    build.__name__ = build.__qualname__ = f"narrow_{name}"
    register_model(build)
    return build.__name__


@dataclass(frozen=True)
class Recipe:
    """How a real architecture is made small. transformer: of a text tower that is one of transformers'."""

    model: str
    image: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=lambda: dict(OPENAI))
    transformer: Callable[[], PretrainedConfig] | None = None
    embed_dim: int = 32


def _timm(name: str, **sizes: Any) -> dict[str, Any]:
    return {"timm_model_name": _narrow(name, **sizes), "image_size": sizes.get("img_size", 64)}


FASTVIT = {"layers": (1, 1, 1, 1), "embed_dims": (32, 64, 128, 256)}
RECIPES = {
    recipe.model: recipe
    for recipe in (
        Recipe("ViT-B-32", SMALL_IMAGE, SMALL_TEXT),
        Recipe("ViT-B-32-quickgelu", SMALL_IMAGE, SMALL_TEXT),
        Recipe("RN50", {"layers": [1, 1, 1, 1], "width": 16, "image_size": 64}, SMALL_TEXT),
        Recipe("coca_ViT-B-32", SMALL_IMAGE | {"attn_pooler_heads": 4}, SMALL_TEXT),
        Recipe("ViT-H-14-CLIPA", SMALL_IMAGE | {"image_size": 56}, SMALL_TEXT | {"vocab_size": VOCABULARY},
               {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear",
                "resize_mode": "squash"}),
        Recipe("ViT-H-14-worldwide", SMALL_IMAGE | {"image_size": 56}, SMALL_TEXT | {"vocab_size": VOCABULARY}),
        Recipe("convnext_base", _timm("convnext_base", depths=(1, 1, 1, 1), dims=(16, 32, 48, 64)), SMALL_TEXT),
        Recipe("ViT-B-16-SigLIP", _timm("vit_base_patch16_siglip_224", **SMALL_VIT),
               SMALL_TEXT | {"vocab_size": VOCABULARY}, SIGLIP, embed_dim=48),
        Recipe("ViT-B-16-SigLIP2", _timm("vit_base_patch16_siglip_256", **SMALL_VIT),
               SMALL_TEXT | {"vocab_size": VOCABULARY}, SIGLIP, embed_dim=48),
        Recipe("MobileCLIP-S1", _timm("fastvit_mci1", **FASTVIT), SMALL_TEXT, APPLE),
        Recipe("MobileCLIP2-S3", _timm("fastvit_mci3", layers=(1, 1, 1, 1, 1), embed_dims=(32, 64, 128, 256, 512)),
               SMALL_TEXT, OPENAI | {"interpolation": "bilinear", "resize_mode": "shortest"}),
        Recipe("MobileCLIP-B", _timm("vit_base_mci_224", depth=1, img_size=64),
               SMALL_TEXT, APPLE),
        Recipe("PE-Core-B-16", _timm("vit_pe_core_base_patch16_224", **SMALL_VIT), SMALL_TEXT,
               {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bilinear", "resize_mode": "squash"}),
        Recipe("EVA02-B-16", _timm("eva02_base_patch16_clip_224", **SMALL_VIT), SMALL_TEXT),
        Recipe("EVA01-g-14", _timm("eva_giant_patch14_224", **(SMALL_VIT | {"img_size": 56})), SMALL_TEXT),
        Recipe("ViTamin-S", _timm("vitamin_small_224", depth=1, img_size=64),
               SMALL_TEXT),
        Recipe("swin_base_patch4_window7_224", _timm("swin_base_patch4_window7_224", embed_dim=16, depths=(1, 1, 1, 1),
               num_heads=(1, 2, 4, 8), img_size=56), SMALL_TEXT),
        Recipe("vit_relpos_medium_patch16_cls_224", _timm("vit_relpos_medium_patch16_cls_224", **SMALL_VIT),
               SMALL_TEXT),
        Recipe("roberta-ViT-B-32", SMALL_IMAGE, {}, transformer=lambda: RobertaConfig(
            pad_token_id=1, bos_token_id=0, eos_token_id=2, **SMALL_BERT)),
        Recipe("xlm-roberta-base-ViT-B-32", SMALL_IMAGE, {}, transformer=lambda: XLMRobertaConfig(
            pad_token_id=1, bos_token_id=0, eos_token_id=2, **SMALL_BERT)),
        Recipe("coca_roberta-ViT-B-32", SMALL_IMAGE | {"attn_pooler_heads": 4}, {}, transformer=lambda: RobertaConfig(
            pad_token_id=1, bos_token_id=0, eos_token_id=2, **SMALL_BERT)),
        Recipe("mt5-base-ViT-B-32", SMALL_IMAGE, {}, transformer=lambda: MT5Config(
            vocab_size=VOCABULARY, d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4, pad_token_id=1)),
        Recipe("nllb-clip-base", SMALL_IMAGE, {}, transformer=lambda: _nllb()),
        Recipe("nllb-clip-base-siglip", _timm("vit_base_patch16_siglip_384", **SMALL_VIT), {}, SIGLIP,
               transformer=lambda: _nllb(), embed_dim=48),
    )
}  # fmt: skip


def _nllb() -> PretrainedConfig:
    return M2M100Config(
        vocab_size=VOCABULARY, d_model=48, encoder_layers=2, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=96, decoder_ffn_dim=96, max_position_embeddings=96,
        pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2,
    )  # fmt: skip


def model_config(recipe: Recipe) -> dict[str, Any]:
    """open_clip's configuration of the architecture, with the recipe's sizes."""
    config = open_clip.get_model_config(recipe.model)
    config["embed_dim"] = recipe.embed_dim
    config["vision_cfg"] |= recipe.image
    config["text_cfg"] |= recipe.text
    if "multimodal_cfg" in config:
        config["multimodal_cfg"] |= SMALL_TEXT | {"attn_pooler_heads": 4}
        config["vision_cfg"]["attn_pooler_queries"] = 8
    return dict(config)


def write(recipe: Recipe, folder: Path, *, seed: int = 0) -> Path:
    """A folder as open_clip's push_to_hf_hub writes it: configuration, safetensors and, if one is named, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model_config(recipe)
    if recipe.transformer is not None:
        recipe.transformer().save_pretrained(folder / "text")
        config["text_cfg"]["hf_model_name"] = str(folder / "text")
    if config["text_cfg"].get("hf_tokenizer_name"):
        config["text_cfg"]["hf_tokenizer_name"] = str(folder)
        save_tokenizer(folder)
    described = {"model_cfg": config, "preprocess_cfg": recipe.preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(described))
    save_file(random_weights(folder, seed), folder / "open_clip_model.safetensors")
    return folder


def random_weights(folder: Path, seed: int) -> dict[str, torch.Tensor]:
    """Weights such that pictures and texts differ: with the usual initial ones they would all be nearly equal."""
    torch.manual_seed(seed)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_hf=False)
    weights = {}
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or tensor.ndim == 0 or name.startswith("logit"):
            weights[name] = tensor.clone()
        elif name.endswith(("gamma", "ls1.gamma")) or (tensor.ndim == 1 and name.endswith("weight")):
            weights[name] = 1 + 0.1 * torch.randn_like(tensor)
        elif tensor.ndim == 1:
            weights[name] = 0.1 * torch.randn_like(tensor)
        else:
            std = 0.2 if "embed" in name else tensor[0].numel() ** -0.5
            std *= 0.3 if name.endswith("SelfAttention.q.weight") else 1  # T5 does not scale its scores
            weights[name] = std * torch.randn_like(tensor)
    model.load_state_dict(weights)
    return _calibrated(model)


def _calibrated(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gives every BatchNorm the statistics of what passes through it, as training does."""
    norms = [
        module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    ]
    if norms:
        for norm in norms:
            norm.momentum = 1.0
        height, width = open_clip.transform.to_2tuple(model.visual.image_size)
        with torch.no_grad():
            model.train().encode_image(torch.rand(16, 3, height, width))
    return model.state_dict()


def save_tokenizer(folder: Path) -> None:
    """A word-level tokenizer with the habits of SentencePiece ones: "<s> … </s>", padded with <pad>."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    fast = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    fast.normalizer = normalizers.Lowercase()
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.decoder = decoders.WordPiece()
    fast.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    fast.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, "sep_token": "</s>"}
    described |= {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))


RNG = np.random.default_rng(0)
TEXTS = [
    "a photo of a red apple",
    "the dog",
    "horse",
    "a small green cat on the grass at night, in the photo of the large blue horse on the grass",
    "red " * 100,  # longer than any context
]
_Y, _X = np.mgrid[0:100, 0:140]
PIXELS = [
    *(RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((64, 64), (80, 200), (300, 90), (65, 63))),
    np.stack([_X, _Y, (_X + _Y) // 2], axis=-1).astype(np.uint8),
]


@dataclass(frozen=True)
class Expected:
    """A checkpoint's folder, and what open_clip, called by hand, makes of TEXTS and PIXELS: unit rows."""

    folder: Path
    texts: NDArray[np.float32]
    images: NDArray[np.float32]

    @property
    def name(self) -> str:
        return f"openclip/local-dir:{self.folder}"

    @functools.cached_property
    def space(self) -> mm.Space:
        """Loaded once, in float32; not to be changed."""
        return mm.load(self.name, device="cpu")


def by_hand(model_name: str, **how: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """open_clip as its README uses it."""
    model, _, preprocess = open_clip.create_model_and_transforms(model_name, **how)
    tokenizer = open_clip.get_tokenizer(model_name)
    model.eval()
    with torch.no_grad():
        texts = model.encode_text(tokenizer(TEXTS), normalize=True)
        images = torch.stack([preprocess(PIL.Image.fromarray(image)) for image in PIXELS])
        return texts.numpy(), model.encode_image(images, normalize=True).numpy()


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Expected]:
    """The checkpoint of an architecture, written once."""

    @functools.cache
    def expected_of(model: str) -> Expected:
        folder = write(RECIPES[model], tmp_path_factory.mktemp("openclip") / model)
        return Expected(folder, *by_hand(f"local-dir:{folder}"))

    return expected_of


@pytest.fixture
def architecture(published: Callable[[str], Expected], tmp_path: Path) -> Iterator[str]:
    """ "narrow-ViT-B-32" among open_clip's architectures, and its twin "narrow-ViT-B-32-quickgelu"."""
    config = json.loads((published("ViT-B-32").folder / "open_clip_config.json").read_text())["model_cfg"]
    folder = tmp_path / "architectures"
    folder.mkdir()
    (folder / "narrow-ViT-B-32.json").write_text(json.dumps(config))
    (folder / "narrow-ViT-B-32-quickgelu.json").write_text(json.dumps(config | {"quick_gelu": True}))
    open_clip.add_model_config(folder)
    yield "narrow-ViT-B-32"
    open_clip.factory._MODEL_CONFIG_PATHS.remove(folder)
    for name in ("narrow-ViT-B-32", "narrow-ViT-B-32-quickgelu"):
        del open_clip.factory._MODEL_CONFIGS[name]


IMAGES = [mm.Image(image) for image in PIXELS]
SAID = {**OPENAI, "interpolation": "bicubic", "resize_mode": "shortest"}
SQUASHED = {**SIGLIP, "interpolation": "bilinear"}


def load(name: object, **options: Any) -> mm.Space:
    return mm.load(f"openclip/{name}", device="cpu", **options)


def parity(space: mm.Space, expected: tuple[NDArray[np.float32], NDArray[np.float32]]) -> float:
    """How far any number of TEXTS and PIXELS is from what upstream says."""
    texts, images = expected
    return float(max(np.abs(space.encode(TEXTS) - texts).max(), np.abs(space.encode(IMAGES) - images).max()))


def copy_of(expected: Expected, target: Path) -> Path:
    return shutil.copytree(expected.folder, target / "folder")


def edit(folder: Path, **changes: Any) -> None:
    """Changes what a folder's configuration says."""
    file = folder / "open_clip_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def model_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "open_clip_config.json").read_text())["model_cfg"])


@pytest.fixture
def weights(published: Callable[[str], Expected], tmp_path: Path) -> Path:
    """A bare file of weights of the architecture "narrow-ViT-B-32"."""
    source = published("ViT-B-32").folder / "open_clip_model.safetensors"
    return shutil.copy(source, tmp_path / "mine.safetensors")


@pytest.fixture
def tags(architecture: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Pretrained tags for the architecture: "openai" with QuickGELU, "laion" without and squashed."""
    kinds = {
        "openai": {**SAID, "hf_hub": "org/quick/", "quick_gelu": True},
        "laion": {**SQUASHED, "hf_hub": "org/plain/pytorch_model.bin"},
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, architecture, kinds)
    quick = {"openai": kinds["openai"]}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, f"{architecture}-quickgelu", quick)
    return architecture
