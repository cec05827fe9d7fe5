"""Cards of well-known checkpoints of transformers, and their equivalents in open_clip.

Figures are as published in papers and model cards: CLIP (Radford et al. 2021), OpenCLIP (LAION 2022),
SigLIP 2 (Tschannen et al. 2025, table 1, which has SigLIP's too), MetaCLIP 2 (Chuang et al. 2025), X-CLIP (Ni et al.
2022). Figures that could not be confirmed are left out. A pinned revision is one that several public projects agree
on; without one, the newest is loaded and `space.revisions` records it. Any other id of the Hub loads as well if its
class is supported.
"""

from __future__ import annotations

from multimodal.core.card import Card
from multimodal.core.modality import Modality

TEXT_IMAGE = (Modality.TEXT, Modality.IMAGE)
TEXT_AUDIO = (Modality.TEXT, Modality.AUDIO)
TEXT_VIDEO = (Modality.TEXT, Modality.VIDEO)


def _card(
    source: str, modalities: tuple[Modality, ...], dim: int, licence: str, size_mb: float, **more: object
) -> Card:
    return Card(f"hf/{source}", modalities, dim, licence, source, size_mb, **more)  # type: ignore[arg-type]


CARDS = (
    _card(
        "openai/clip-vit-base-patch32", TEXT_IMAGE, 512, "MIT", 605,
        description="OpenAI's CLIP, small and fast", figure="ImageNet 63.2",
        revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
    ),
    _card(
        "openai/clip-vit-large-patch14", TEXT_IMAGE, 768, "MIT", 1_711,
        description="OpenAI's CLIP, the usual baseline", figure="ImageNet 75.3",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    ),
    _card(
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", TEXT_IMAGE, 512, "MIT", 605,
        description="CLIP trained on LAION-2B", figure="ImageNet 66.6",
        revision="1a25a446712ba5ee05982a381eed697ef9b435cf",
    ),
    _card(
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", TEXT_IMAGE, 768, "MIT", 1_711,
        description="CLIP trained on DataComp-1B; languagebind/audio-ft shares its space", figure="ImageNet 79.2",
        revision="84c9828e63dc9a9351d1fe637c346d4c1c4db341",
    ),
    _card(
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", TEXT_IMAGE, 1024, "MIT", 3_944,
        description="CLIP trained on LAION-2B, large", figure="ImageNet 78.0",
        revision="1c2b8495b28150b8a4922ee1c8edee224c284c0c",
    ),
    _card(
        "google/siglip-base-patch16-224", TEXT_IMAGE, 768, "Apache-2.0", 813,
        description="CLIP with a sigmoid loss: scores of pairs are independent", figure="ImageNet 76.2",
        revision="7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed",
    ),
    _card(
        "google/siglip2-base-patch16-224", TEXT_IMAGE, 768, "Apache-2.0", 1_501,
        description="SigLIP 2, multilingual", figure="ImageNet 78.2",
        revision="75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
    ),
    _card(
        "google/siglip2-so400m-patch14-384", TEXT_IMAGE, 1152, "Apache-2.0", 4_544,
        description="SigLIP 2, multilingual, large, 384 pixels", figure="ImageNet 84.1",
        revision="e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
    ),
    _card(
        "google/siglip2-base-patch16-naflex", TEXT_IMAGE, 768, "Apache-2.0", 1_501,
        description="SigLIP 2 that keeps the aspect ratio of images",
        revision="b53b807d3a2d5e2b3911292f2d69e5341cdc064c",
    ),
    _card(
        "facebook/metaclip-2-worldwide-huge-quickgelu", TEXT_IMAGE, 1024, "CC-BY-NC-4.0", 7_435,
        description="CLIP trained on web data in more than 300 languages", figure="ImageNet 81.3", commercial=False,
    ),
    _card(
        "BAAI/AltCLIP", TEXT_IMAGE, 768, "CreativeML-OpenRAIL-M", 3_457,
        description="CLIP ViT-L/14 for English and Chinese",
    ),
    _card(
        "OFA-Sys/chinese-clip-vit-base-patch16", TEXT_IMAGE, 512, "none stated for the weights", 753,
        description="CLIP for Chinese", commercial=False,
    ),
    _card(
        "apple/aimv2-large-patch14-224-lit", TEXT_IMAGE, 768, "Apple-AMLR", 1_750,
        description="AIMv2 with a text tower; for research only", commercial=False,
    ),
    _card(
        "kakaobrain/align-base", TEXT_IMAGE, 640, "none stated for the weights", 688,
        description="ALIGN (EfficientNet-B7 and BERT) on the public COYO pairs", commercial=False,
        revision="e96a37facc7b1f59090ece82293226b817afd6ba",
    ),
    _card(
        "laion/clap-htsat-unfused", TEXT_AUDIO, 512, "Apache-2.0", 615,
        description="audio and text; clips of up to 10 s per window",
        revision="8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a",
    ),
    _card(
        "laion/larger_clap_general", TEXT_AUDIO, 512, "Apache-2.0", 776,
        description="sound, music and speech, and text", revision="ada0c23a36c4e8582805bb38fec3905903f18b41",
    ),
    _card(
        "microsoft/xclip-base-patch32", TEXT_VIDEO, 512, "MIT", 786,
        description="video (8 frames) and text; trained on the classes of Kinetics-400",
        revision="a2e27a78a2b5d802e894b8a1ef14f3a8ce490963",
    ),
    _card(
        "microsoft/xclip-base-patch16-zero-shot", TEXT_VIDEO, 512, "MIT", 780,
        description="video (32 frames) and text", figure="Kinetics-600 65.2",
    ),
    _card(
        "facebook/pe-av-base", (Modality.TEXT, Modality.AUDIO, Modality.VIDEO), 1024, "Apache-2.0", 4_140,
        description="audio, video and text; needs timm; has no scale for probabilities",
        revision="1c4c329b78d80a18d860ebfb05daebff4bc44518",
    ),
)  # fmt: skip

SAME_SPACE = {
    "hf/laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "openclip/ViT-B-32:laion2b_s34b_b79k",
    "hf/laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K": "openclip/ViT-B-32:datacomp_xl_s13b_b90k",
    "hf/laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K": "openclip/ViT-B-16:datacomp_xl_s13b_b90k",
    "hf/laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K": "openclip/ViT-L-14:datacomp_xl_s13b_b90k",
    "hf/laion/CLIP-ViT-L-14-laion2B-s32B-b82K": "openclip/ViT-L-14:laion2b_s32b_b82k",
    "hf/laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "openclip/ViT-H-14:laion2b_s32b_b79k",
    "hf/laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": "openclip/ViT-bigG-14:laion2b_s39b_b160k",
}
"""The name in open_clip of the same weights, both published by LAION; the two share one space."""
