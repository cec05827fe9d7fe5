"""`load("openclip/ViT-B-32:laion2b_s34b_b79k")`: CLIP models of open_clip for text and image.

Supported are any architecture of `open_clip.list_models()` with a pretrained tag or a weights file; any repository of
the Hub with an open_clip_config.json, "openclip/hf-hub:owner/name"; and any such folder, "openclip/local-dir:…" or
"openclip/./folder". With precision="float32" and decode="exact", vectors agree with open_clip to 1e-5. Weights are
stored in the cache of huggingface_hub (HF_HOME).

One difference is deliberate: a tag is loaded with the activation it was trained with, so "ViT-B-32:openai" is what
upstream calls "ViT-B-32-quickgelu:openai". Upstream loads the former with a warning and computes wrong vectors.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from multimodal.core.backends.runtime import Decode, Engine, Precision, Runtime
from multimodal.core.errors import MissingExtra
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.openclip.cards import CARDS

if TYPE_CHECKING:
    from multimodal.core.encoder import Encoder, EncoderState
    from multimodal.encoders.openclip.checkpoint import OpenClipCheckpoint

__all__ = ["CARDS", "from_config", "load"]


def load(
    rest: str = "",
    *,
    device: str = "auto",
    precision: Precision = "float32",
    decode: Decode = "exact",
    engine: Engine = "torch",
    offline: bool = False,
    revision: str | None = None,
    preprocess: Mapping[str, Any] | None = None,
    like: str | None = None,
    quick_gelu: bool | None = None,
    space_id: str | None = None,
) -> Space:
    """Loads a space of text and image.

    Args:
        rest: The model, as described in `names`.
        device: "auto", "cpu", "cuda", … See `core.backends.runtime.Runtime`, also for the next three.
        precision: "float32", "bfloat16" or "auto".
        decode: "exact", or "fast" for reduced-size JPEG decoding.
        engine: "torch" or "openvino".
        offline: Use only files that are in the cache.
        revision: A branch, tag or commit; by default the revision of the card, or the newest.
        preprocess: {"mean", "std", "interpolation", "resize_mode"}, for a checkpoint that does not specify them.
        like: A tag of the same architecture with the same preprocessing, for a weights file.
        quick_gelu: The activation, for a weights file whose architecture exists with both.
        space_id: The space this one can be joined with; by default its own name, none for a file or folder.

    Returns:
        A space whose head holds the trained scale and, for SigLIP, bias.

    Raises:
        UnknownModel: If the name, file or folder does not exist; close matches are named.
        CheckpointError: If the checkpoint is damaged, incomplete or does not specify its preprocessing.
        DownloadError: If a file cannot be downloaded.
        InvalidInput: If an option contradicts the checkpoint.
        MissingExtra: If open_clip or another required package is not installed.
    """
    runtime = Runtime(device, precision, decode, engine)
    _require_open_clip(f"'openclip/{rest}'")
    from multimodal.encoders.openclip import names
    from multimodal.encoders.openclip.checkpoint import Overrides, resolve

    overrides = Overrides(preprocess, like, quick_gelu)
    address = names.parse(rest)
    pinned = next((card.revision for card in CARDS if card.name == names.card_name(address)), "")
    checkpoint = resolve(address, overrides, revision=revision or pinned or None, offline=offline)
    space = _space(checkpoint, runtime, space_id or checkpoint.home)
    space.address = names.absolute_address(address)
    space.name = checkpoint.home or f"openclip/{rest}"
    space.card = next((card for card in CARDS if card.name == space.name), None)
    return space


def _space(checkpoint: OpenClipCheckpoint, runtime: Runtime, home: str | None) -> Space:
    from multimodal.encoders.openclip import tokenizer
    from multimodal.encoders.openclip.encoders import OpenClipImage, OpenClipText
    from multimodal.encoders.openclip.networks import image_tower
    from multimodal.encoders.openclip.tensors import split_towers

    model, title = checkpoint.model, checkpoint.title
    shared = {"embed_dim": model["embed_dim"], "quick_gelu": model.get("quick_gelu", False)}
    image_config = shared | {"tower": model["vision_cfg"], "preprocess": checkpoint.preprocess}
    # Before the weights: these files are small, and a fault in them shows without a long download
    text_settings, files = tokenizer.text_settings(checkpoint)
    towers = split_towers(
        checkpoint.weights,
        title,
        lambda: image_tower(image_config, title),
        has_decoder="multimodal_cfg" in model,
    )
    encoders: list[Encoder] = [
        OpenClipText(shared | text_settings, towers.text, files, runtime, title),
        OpenClipImage(image_config, towers.image, runtime, title),
    ]
    for encoder in encoders:
        encoder.space_id = home
    return Space(encoders, towers.head)


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuilds an encoder from its saved configuration, tensors and files.

    Raises:
        MissingExtra: If open_clip is not installed.
        CheckpointError: If the tensors do not fit.
    """
    _require_open_clip("this saved space")
    from multimodal.encoders.openclip.encoders import OpenClipImage, OpenClipText

    if saved.modality == Modality.TEXT:
        return OpenClipText(saved.config, dict(saved.tensors), saved.files, runtime)
    return OpenClipImage(saved.config, dict(saved.tensors), runtime)


def _require_open_clip(feature: str) -> None:
    if importlib.util.find_spec("open_clip") is None:
        raise MissingExtra(feature, package="open_clip_torch", extra="openclip")
