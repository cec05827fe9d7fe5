"""The towers of the `openclip` family."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text
from multimodal.encoders.openclip import networks
from multimodal.encoders.openclip.encoders import OpenClipImage, OpenClipText
from multimodal.exporting.towers import TOKENIZER_FILE, TowerSpec, truncated_tokens

EXAMPLE = ("a photo of a small dog", "a cat")
# open_clip's pattern of word pieces (its SimpleTokenizer), applied to lowercase text
PIECES = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class _Tower(nn.Module):
    """A tower of open_clip, run by a function of `networks`."""

    def __init__(self, net: nn.Module, run: Callable[..., Tensor], name: str) -> None:
        super().__init__()
        self.net, self.run, self.name = net, run, name

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.normalize(self.run(self.net, {self.name: inputs}).float(), dim=-1)


class _Pixels(nn.Module):
    """uint8 pixels -> 0 to 1 -> normalised -> tower, in the order of torchvision's transforms."""

    def __init__(self, tower: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.tower = tower
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        rows: Tensor = self.tower((pixels.float() / 255 - self.mean) / self.std)
        return rows


def spec(encoder: Encoder) -> TowerSpec:
    """See `towers.spec`."""
    if isinstance(encoder, OpenClipText):
        return _text(encoder)
    if isinstance(encoder, OpenClipImage):
        return _image(encoder)
    raise InvalidInput(f"{type(encoder).__name__} cannot be exported")


def _text(encoder: OpenClipText) -> TowerSpec:
    settings = encoder.config()["tokenizer"]
    if settings["from_files"] or settings["mode"] or settings["options"]:
        raise InvalidInput(
            f"the tokenizer of {encoder.title} is not exported: only CLIP's own vocabulary is; "
            "load the model by the 'hf' family and export that"
        )
    trims = networks.is_causal(encoder.net)
    batch = encoder.prepare([Text(text) for text in EXAMPLE])
    tokens = batch["tokens"][:, : int(batch["lengths"].max())] if trims else batch["tokens"]
    preprocessing = truncated_tokens(
        settings["context_length"],
        padding="longest" if trims else "max_length",
        pad_id=0,
        pad_left=False,
        ids="tokens",
    ) | {"lowercase": True, "collapse_spaces": True, "unescape_html": True}
    net = _Tower(encoder.net, networks.encode_text, "tokens")
    files = {TOKENIZER_FILE: _tokenizer_json(encoder.tokenizer.apply)}
    return TowerSpec(net.eval(), {"tokens": tokens}, {"tokens": (1,)} if trims else {}, preprocessing, files)


def _tokenizer_json(tokenizer: Any) -> bytes:
    """open_clip's SimpleTokenizer as a tokenizer.json."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

    ranks = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    exported = Tokenizer(models.BPE(dict(tokenizer.encoder), ranks, end_of_word_suffix="</w>"))
    exported.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    start, end = "<start_of_text>", "<end_of_text>"
    exported.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, tokenizer.encoder[start]), (end, tokenizer.encoder[end])],
    )
    return json.dumps(json.loads(exported.to_str()), ensure_ascii=False).encode()


def _image(encoder: OpenClipImage) -> TowerSpec:
    settings = encoder.config()["preprocess"]
    height, width = encoder.size
    if settings["resize_mode"] == "longest" or (settings["resize_mode"] == "shortest" and height != width):
        raise InvalidInput(
            f"the transform of this model (resize_mode {settings['resize_mode']!r}, {height} × {width}) is not exported"
        )
    is_shortest = settings["resize_mode"] == "shortest"
    interpolation = "bilinear" if settings["interpolation"] == "bilinear" else "bicubic"
    preprocessing = {
        "kind": "resize", "pixels": "pixels", "mode": "shortest" if is_shortest else "exact",
        "edge": height if is_shortest else None, "size": [height, width], "resample": interpolation,
    }  # fmt: skip
    net = _Pixels(_Tower(encoder.net, networks.encode_image, "pixels"), settings["mean"], settings["std"])
    pixels = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    return TowerSpec(net.eval(), {"pixels": pixels}, {}, preprocessing)
