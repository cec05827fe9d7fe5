"""Tiny models of real architectures with random weights, saved in folders as sentence-transformers has them."""

from __future__ import annotations

import json
import shutil
import string
from pathlib import Path
from typing import Any

import pytest
import torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, *string.digits, *".,:/-?"]
WORDS += [f"##{item}" for item in (*string.ascii_lowercase, *string.digits)]


def bytes_as_characters() -> list[str]:
    """The 256 characters that stand for bytes in byte-level vocabularies (GPT-2's order does not matter here)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [number for number in range(256) if number not in plain]
    return [chr(item) for item in plain] + [chr(256 + n) for n in range(len(others))]


def spread(model: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that different inputs give clearly different vectors."""
    generator = torch.Generator().manual_seed(7)
    for name, item in model.named_parameters():
        if item.ndim > 1:
            torch.nn.init.normal_(item, std=0.2, generator=generator)
        elif "norm" in name.lower() and name.endswith("weight"):
            torch.nn.init.ones_(item)
    return model


def bert(folder: Path) -> str:
    from transformers import BertConfig, BertModel, BertTokenizer

    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    spread(BertModel(config)).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    BertTokenizer(vocab=vocabulary, model_max_length=64).save_pretrained(folder)
    return str(folder)


def clip(folder: Path) -> str:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

    letters = bytes_as_characters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    n = len(words)
    text = tower | {
        "vocab_size": n,
        "max_position_embeddings": 24,
        "bos_token_id": n - 2,
        "eos_token_id": n - 1,
    }
    config = CLIPConfig(
        text_config=text | {"pad_token_id": n - 1, "projection_dim": 16},
        vision_config=tower | {"image_size": 32, "patch_size": 8, "projection_dim": 16},
        projection_dim=16,
    )
    spread(CLIPModel(config)).save_pretrained(folder)
    tokenizer = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=24)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    CLIPProcessor(processor, tokenizer).save_pretrained(folder)
    return str(folder)


def clap(folder: Path) -> str:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor, RobertaTokenizer

    words = ["<s>", "<pad>", "</s>", "<unk>", *bytes_as_characters()]
    config = ClapConfig(
        text_config={
            "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 40, "projection_dim": 16,
        },
        audio_config={
            "window_size": 4, "num_mel_bins": 16, "spec_size": 64, "patch_size": 2, "patch_stride": [2, 2],
            "hidden_size": 32, "patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2],
            "projection_dim": 16, "num_classes": 8,
        },
        projection_dim=16,
    )  # fmt: skip
    spread(ClapModel(config)).save_pretrained(folder)
    tokenizer = RobertaTokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=32
    )
    ClapProcessor(
        ClapFeatureExtractor(feature_size=16, max_length_s=1, truncation="rand_trunc"), tokenizer
    ).save_pretrained(folder)
    return str(folder)


def ast(folder: Path) -> str:
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    config = ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_length=64,
        num_mel_bins=32,
    )
    spread(ASTModel(config)).save_pretrained(folder)
    ASTFeatureExtractor(max_length=64, num_mel_bins=32).save_pretrained(folder)
    return str(folder)


def qwen(folder: Path) -> str:
    """A vision-language model: everything reaches it as a chat message."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2VLConfig,
        Qwen2VLImageProcessor,
        Qwen2VLModel,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    pads = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
    start, end = "<|vision_start|>", "<|vision_end|>"
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", start, end, *pads.values()]
    ids = {item: i for i, item in enumerate([*bytes_as_characters(), *special])}
    core = Tokenizer(models.BPE(vocab=ids, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    core.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=special[0], model_max_length=512)
    tokenizer.image_token, tokenizer.video_token = pads["image"], pads["video"]
    media = "".join(
        f"{{% elif part.type == '{kind}' %}}{start}{pad}{end}" for kind, pad in pads.items()
    ).removeprefix("{% el")
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }} {% for part in m.content %}{% "
        + media
        + "{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
    )
    patches = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
    image = Qwen2VLImageProcessor(**patches, size={"shortest_edge": 64, "longest_edge": 1024})
    video = Qwen2VLVideoProcessor(**patches, size={"shortest_edge": 64, "longest_edge": 4096})
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": len(ids), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10_000.0},
            "bos_token_id": ids[special[1]], "eos_token_id": ids[special[2]], "pad_token_id": ids[special[0]],
        },
        vision_config={
            "depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 4, "mlp_ratio": 2,
            "temporal_patch_size": 2, "spatial_merge_size": 2,
        },
        image_token_id=ids[pads["image"]], video_token_id=ids[pads["video"]], vision_start_token_id=ids[start],
        vision_end_token_id=ids[end],
    )  # fmt: skip
    spread(Qwen2VLModel(config)).save_pretrained(folder)
    Qwen2VLProcessor(image, tokenizer, video, chat_template=template).save_pretrained(folder)
    return str(folder)


class Models:
    """Each model is built once, when it is first asked for: `models("mean")` is its folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of_this_run(cls, tmp_path_factory: pytest.TempPathFactory) -> Models:
        """The same for every module of tests."""
        root = tmp_path_factory.getbasetemp() / "st-models"
        root.mkdir(exist_ok=True)
        return cls(root)

    def __call__(self, name: str) -> Path:
        folder = self.root / name
        if not folder.exists():
            getattr(self, f"_{name}")(folder)
        return folder

    def transformer(self, kind: str) -> Any:
        """A fresh module on the (once built) checkpoint of bert, clip, clap, ast or qwen."""
        from sentence_transformers.base.modules import Transformer

        bare = self.root / f"bare-{kind}"
        if not bare.exists():
            globals()[kind](bare)
        return Transformer(str(bare))

    def save(self, folder: Path, *modules: Any, **options: Any) -> None:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(modules=list(modules), device="cpu", **options)
        model.save(str(folder), create_model_card=False)

    def pooled(self, folder: Path, mode: Any, *more: Any, **options: Any) -> None:
        from sentence_transformers.sentence_transformer.modules import Pooling

        self.save(folder, self.transformer("bert"), Pooling(32, mode), *more, **options)

    def _mean(self, folder: Path) -> None:
        self.pooled(folder, "mean")

    def _normalised(self, folder: Path) -> None:
        from sentence_transformers.base.modules import Normalize

        self.pooled(folder, "cls", Normalize(), similarity_fn_name="dot")

    def _dense(self, folder: Path) -> None:
        from sentence_transformers.base.modules import Dense

        torch.manual_seed(3)
        self.pooled(folder, ("mean", "max"), Dense(64, 20), truncate_dim=12)

    def _last(self, folder: Path) -> None:
        self.pooled(folder, "lasttoken")

    def _weighted(self, folder: Path) -> None:
        self.pooled(folder, "weightedmean")

    def _static(self, folder: Path) -> None:
        from sentence_transformers.sentence_transformer.modules import StaticEmbedding

        torch.manual_seed(4)
        self.save(folder, StaticEmbedding(self.transformer("bert").tokenizer, embedding_dim=24))

    def _prompted(self, folder: Path) -> None:
        prompts = {"query": "q: ", "document": "d: ", "cluster": "c: "}
        self.pooled(folder, "mean", prompts=prompts, default_prompt_name="cluster")

    def _passages(self, folder: Path) -> None:
        self.pooled(folder, "mean", prompts={"query": "q: ", "passage": "p: "})

    def _dotted(self, folder: Path) -> None:
        self.pooled(folder, "mean", similarity_fn_name="dot")

    def _router(self, folder: Path) -> None:
        from sentence_transformers.base.modules import Router
        from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding

        torch.manual_seed(5)
        asking = [StaticEmbedding(self.transformer("bert").tokenizer, embedding_dim=32)]
        answering = [self.transformer("bert"), Pooling(32, "mean")]
        self.save(
            folder, Router.for_query_document(asking, answering, default_route=None, allow_empty_key=False)
        )

    def _two_towers(self, folder: Path) -> None:
        """A router by modality: texts to BERT and a projection, pictures to CLIP."""
        from sentence_transformers.base.modules import Dense, Router
        from sentence_transformers.sentence_transformer.modules import Pooling

        torch.manual_seed(6)
        texts = [self.transformer("bert"), Pooling(32, "mean"), Dense(32, 16)]
        ways = {(None, "text"): "text", (None, "image"): "image"}
        self.save(folder, Router({"text": texts, "image": [self.transformer("clip")]}, route_mappings=ways))

    def _clip(self, folder: Path) -> None:
        self.save(folder, self.transformer("clip"))

    def _old_clip(self, folder: Path) -> None:
        """As sentence-transformers/clip-ViT-B-32 is laid out."""
        self.transformer("clip")
        shutil.copytree(self.root / "bare-clip", folder / "0_CLIPModel")
        module = {
            "idx": 0,
            "name": "0",
            "path": "0_CLIPModel",
            "type": "sentence_transformers.models.CLIPModel",
        }
        (folder / "modules.json").write_text(json.dumps([module]))

    def _clap(self, folder: Path) -> None:
        self.save(folder, self.transformer("clap"))

    def _ast(self, folder: Path) -> None:
        from sentence_transformers.sentence_transformer.modules import Pooling

        self.save(folder, self.transformer("ast"), Pooling(32, "mean"))

    def _qwen(self, folder: Path) -> None:
        from sentence_transformers.sentence_transformer.modules import Pooling

        self.save(folder, self.transformer("qwen"), Pooling(32, "lasttoken"))
