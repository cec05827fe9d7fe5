"""Towers of the `hf` family with a tokenizer.json or a plain resize: CLIP, SigLIP, …; CLAP is in towers_clap.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Image, Text
from multimodal.encoders.hf.encoders import HFAudio, HFEncoder, HFImage, HFText
from multimodal.exporting.towers import TOKENIZER_FILE, TowerSpec, truncated_tokens

EXAMPLE = ("a photo of a small dog", "a cat")
RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # as Pillow numbers them


class _Tower(nn.Module):
    """A tower's own inputs by position; pixels arrive as uint8."""

    def __init__(self, encoder: HFEncoder, names: tuple[str, ...]) -> None:
        super().__init__()
        self.net, self.tower, self.names = encoder.net, encoder.tower, names

    def forward(self, *inputs: Tensor) -> Tensor:
        rows = self.tower(self.net, dict(zip(self.names, inputs, strict=True)))
        return nn.functional.normalize(rows.float(), dim=-1)


class _Pixels(nn.Module):
    """uint8 pixels (n, 3, h, w) -> normalised floats -> tower."""

    def __init__(self, tower: nn.Module, factor: float, mean: Any, std: Any) -> None:
        super().__init__()
        self.tower, self.factor = tower, factor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        rows: Tensor = self.tower((pixels.float() * self.factor - self.mean) / self.std)
        return rows


def spec(encoder: Encoder) -> TowerSpec:
    """See `towers.spec`."""
    if isinstance(encoder, HFText):
        return _text(encoder)
    if isinstance(encoder, HFImage):
        return _image(encoder)
    if isinstance(encoder, HFAudio) and encoder.class_name == "ClapModel":
        from multimodal.exporting import towers_clap

        return towers_clap.spec(encoder)
    raise InvalidInput(
        f"{type(encoder).__name__} cannot be exported yet: of the 'hf' family, text, image and CLAP's audio can; "
        "export space.select('text', 'image')"
    )


def _text(encoder: HFText) -> TowerSpec:
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InvalidInput(
            f"the tokenizer {type(encoder.tokenizer).__name__} has no tokenizer.json to export"
        )
    if encoder.settings["keep_mask"]:
        raise InvalidInput(
            f"{encoder.class_name} needs padding in every batch, which an export does not give"
        )
    batch = encoder.prepare([Text(text) for text in EXAMPLE])
    preprocessing = truncated_tokens(
        encoder.settings["max_length"],
        padding=encoder.settings["padding"],
        pad_id=encoder.tokenizer.pad_token_id,
        pad_left=encoder.tokenizer.padding_side == "left",
        ids="input_ids",
        mask="attention_mask" if "attention_mask" in batch else None,
        types="token_type_ids" if "token_type_ids" in batch else None,
    )
    dynamic = dict.fromkeys(batch, (1,)) if encoder.settings["padding"] == "longest" else {}
    files = {TOKENIZER_FILE: backend.to_str().encode()}
    return TowerSpec(_Tower(encoder, tuple(batch)), batch, dynamic, preprocessing, files)


def _image(encoder: HFImage) -> TowerSpec:
    processor = encoder.processor
    preprocessing = _resize(processor, encoder.class_name)
    height, width = preprocessing["size"]
    factor = float(processor.rescale_factor) if processor.do_rescale else 1.0
    normalises = bool(processor.do_normalize)
    mean, std = (processor.image_mean, processor.image_std) if normalises else ([0.0] * 3, [1.0] * 3)
    names = set(encoder.prepare([Image(np.zeros((8, 8, 3), np.uint8))]))
    if names != {"pixel_values"}:
        raise InvalidInput(
            f"{encoder.class_name} has the inputs {', '.join(sorted(names))}, which are not exported"
        )
    net = _Pixels(_Tower(encoder, ("pixel_values",)), factor, mean, std)
    pixels = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    return TowerSpec(net.eval(), {"pixels": pixels}, {}, preprocessing)


def _resize(processor: Any, class_name: str) -> dict[str, Any]:
    """The settings of `Resize`, from those of an image processor."""
    size, crop = dict(processor.size or {}), dict(getattr(processor, "crop_size", None) or {})
    resample = RESAMPLE.get(int(processor.resample))
    settings = {"kind": "resize", "pixels": "pixels", "resample": resample, "edge": None}
    crops = bool(getattr(processor, "do_center_crop", False))
    other = any(getattr(processor, name, False) for name in ("do_pad", "rescale_offset"))
    if processor.do_resize and resample and not other:
        edge = size.get("shortest_edge")
        if edge and not size.get("longest_edge") and crops:
            return settings | {"mode": "shortest", "edge": edge, "size": [crop["height"], crop["width"]]}
        if size.get("height") and size.get("width") and not crops:
            return settings | {"mode": "exact", "size": [size["height"], size["width"]]}
    raise InvalidInput(
        f"the image processor of {class_name} (size {size}, crop {crop or None}) is not exported: it must resize the "
        "shorter side and crop the centre, or resize to a fixed height and width"
    )
