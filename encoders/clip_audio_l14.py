"""`load("clip-audio-l14")`: text, image and audio in one space, with openly licensed weights.

A preset for `load("openclip/ViT-L-14:datacomp_xl_s13b_b90k") | load("languagebind/audio-ft")`. LanguageBind trained its
audio tower to match the frozen text tower of that CLIP. Text and image use the logit scale of CLIP, audio and text that
of LanguageBind.
"""

from __future__ import annotations

from typing import Any

from multimodal.core import catalog
from multimodal.core.backends.runtime import Decode, Precision
from multimodal.core.card import Card
from multimodal.core.errors import UnknownModel
from multimodal.core.modality import Modality
from multimodal.core.space import Space

CLIP_MODEL, AUDIO_MODEL = "openclip/ViT-L-14:datacomp_xl_s13b_b90k", "languagebind/audio-ft"
CARDS = (
    Card(
        name="clip-audio-l14",
        modalities=(Modality.TEXT, Modality.IMAGE, Modality.AUDIO),
        dim=768,
        licence="MIT",
        source="laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K and LanguageBind/LanguageBind_Audio_FT",
        size_mb=3_423,
        description=f"{CLIP_MODEL} and {AUDIO_MODEL} as one space",
        figure="ImageNet 79.2, ESC-50 94.0",
    ),
)


def load(
    rest: str = "",
    *,
    device: str = "auto",
    precision: Precision = "float32",
    decode: Decode = "exact",
    offline: bool = False,
) -> Space:
    """Loads both models and joins them.

    Args:
        rest: Must be empty; there is only one variant.
        device: "auto", "cpu", "cuda", … See `core.backends.runtime.Runtime`, also for the next two.
        precision: "float32", "bfloat16" or "auto".
        decode: "exact", or "fast" for reduced-size JPEG decoding.
        offline: Use only files that are in the cache.

    Returns:
        A space of text, image and audio with 768 dimensions.

    Raises:
        UnknownModel: If `rest` is not empty.
        DownloadError: If a file cannot be downloaded.
        CheckpointError: If a checkpoint is damaged.
        MissingExtra: If a required package is not installed.
    """
    if rest:
        raise UnknownModel(
            f"got 'clip-audio-l14/{rest}', but there is only one clip-audio-l14: use load('clip-audio-l14')"
        )
    options: dict[str, Any] = {
        "device": device, "precision": precision, "decode": decode, "offline": offline,
    }  # fmt: skip
    joined = catalog.load(CLIP_MODEL, **options) | catalog.load(AUDIO_MODEL, **options)
    return Space(
        joined.encoders, joined.logit_scales, name="clip-audio-l14", card=CARDS[0], revisions=joined.revisions
    )
