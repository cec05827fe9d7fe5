"""`load("clip-audio-l14")`: texts, pictures and sounds in one space of openly licensed weights, in one word.

It is `load("openclip/ViT-L-14:datacomp_xl_s13b_b90k") | load("languagebind/audio-ft")`. LanguageBind trained its audio
tower toward the frozen text tower of that CLIP, so sounds lie where texts about them lie, and near pictures of what
makes them. Texts and pictures keep CLIP's own scale, sounds and texts LanguageBind's.
"""

from __future__ import annotations

from typing import Any

from multimodal.core import catalog
from multimodal.core.backends.runtime import Decode, Precision
from multimodal.core.card import Card
from multimodal.core.errors import UnknownModel
from multimodal.core.modality import Modality
from multimodal.core.space import Space

EYES, EARS = "openclip/ViT-L-14:datacomp_xl_s13b_b90k", "languagebind/audio-ft"
CARDS = (
    Card(
        name="clip-audio-l14",
        modalities=(Modality.TEXT, Modality.IMAGE, Modality.AUDIO),
        dim=768,
        licence="MIT",
        source="laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K and LanguageBind/LanguageBind_Audio_FT",
        size_mb=3_423,
        description=f"{EYES} and {EARS} as one space",
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
    """The three-modal space. There is only one, so `rest` must be empty; the options go to both models.

    Raises UnknownModel, and what loading either raises: DownloadError, CheckpointError, MissingExtra, InvalidInput.
    """
    if rest:
        raise UnknownModel(
            f"got 'clip-audio-l14/{rest}', but there is only one clip-audio-l14: use load('clip-audio-l14')"
        )
    how: dict[str, Any] = {
        "device": device, "precision": precision, "decode": decode, "offline": offline,
    }  # fmt: skip
    both = catalog.load(EYES, **how) | catalog.load(EARS, **how)
    return Space(
        both.encoders, both.logit_scales, name="clip-audio-l14", card=CARDS[0], revisions=both.revisions
    )
