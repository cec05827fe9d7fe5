"""Cards of well-known checkpoints of open_clip.

Figures are zero-shot top-1 accuracy on ImageNet, from open_clip (its README and docs/openclip_results.csv) or, for
SigLIP 2, MobileCLIP and PE-Core, from their publishers. Sizes are those of the weights in float32. A pinned revision
is one that several public projects agree on; without one, the newest is loaded and `space.revisions` records it.
"""

from __future__ import annotations

from multimodal.core.card import Card
from multimodal.core.modality import Modality

APPLE = "apple-amlr (research only)"


def _card(
    name: str,
    dim: int,
    size_mb: float,
    licence: str,
    source: str,
    figure: float | None,
    description: str,
    *,
    commercial: bool = True,
    revision: str = "",
) -> Card:
    return Card(
        name=f"openclip/{name}",
        modalities=(Modality.TEXT, Modality.IMAGE),
        dim=dim,
        licence=licence,
        source=source,
        size_mb=size_mb,
        description=description,
        figure="" if figure is None else f"ImageNet {figure}",
        commercial=commercial,
        revision=revision,
    )


CARDS = (
    _card("RN50:openai", 1024, 408, "MIT", "timm/resnet50_clip.openai", 59.8, "OpenAI's CLIP with a ResNet"),
    _card(
        "ViT-B-32:openai", 512, 605, "MIT", "timm/vit_base_patch32_clip_224.openai", 63.2,
        "OpenAI's CLIP, the fastest", revision="a6f597a30f7b82c51704746581f9a4e41421e878",
    ),
    _card("ViT-B-16:openai", 512, 598, "MIT", "timm/vit_base_patch16_clip_224.openai", 68.3, "OpenAI's CLIP"),
    _card("ViT-L-14:openai", 768, 1710, "MIT", "timm/vit_large_patch14_clip_224.openai", 75.5, "OpenAI's CLIP"),
    _card(
        "ViT-L-14-336:openai", 768, 1712, "MIT", "timm/vit_large_patch14_clip_336.openai", 76.6,
        "OpenAI's CLIP at 336 pixels",
    ),
    _card(
        "ViT-B-32:laion2b_s34b_b79k", 512, 605, "MIT", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", 66.6,
        "small, openly trained; a good first choice", revision="1a25a446712ba5ee05982a381eed697ef9b435cf",
    ),
    _card("ViT-L-14:laion2b_s32b_b82k", 768, 1710, "MIT", "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", 75.3, "LAION-2B"),
    _card(
        "ViT-H-14:laion2b_s32b_b79k", 1024, 3944, "MIT", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", 78.0, "LAION-2B",
        revision="1c2b8495b28150b8a4922ee1c8edee224c284c0c",
    ),
    _card(
        "ViT-bigG-14:laion2b_s39b_b160k", 1280, 10158, "MIT", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", 80.1,
        "LAION-2B, the largest of its series", revision="bc7788f151930d91b58474715fdce5524ad9a189",
    ),
    _card(
        "convnext_xxlarge:laion2b_s34b_b82k_augreg_soup", 1024, 4802, "MIT",
        "laion/CLIP-convnext_xxlarge-laion2B-s34B-b82K-augreg-soup", 79.5, "a convolutional image tower, on LAION-2B",
    ),
    _card(
        "ViT-B-32-256:datacomp_s34b_b86k", 512, 605, "MIT", "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", 72.8,
        "DataComp-1B, small and fast",
    ),
    _card(
        "ViT-B-16:datacomp_xl_s13b_b90k", 512, 598, "MIT", "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", 73.5,
        "DataComp-1B", revision="d110532e8d4ff91c574ee60a342323f28468b287",
    ),
    _card(
        "ViT-L-14:datacomp_xl_s13b_b90k", 768, 1710, "MIT", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", 79.2,
        "DataComp-1B; LanguageBind's audio encoder shares its space",
        revision="84c9828e63dc9a9351d1fe637c346d4c1c4db341",
    ),
    _card(
        "ViT-H-14:dfn5b", 1024, 3944, APPLE, "apple/DFN5B-CLIP-ViT-H-14", 83.4,
        "Apple's filtered data, 5 billion pairs", commercial=False,
    ),
    _card(
        "ViT-L-14:metaclip_fullcc", 768, 1710, "CC-BY-NC-4.0", "timm/vit_large_patch14_clip_224.metaclip_2pt5b", 79.2,
        "MetaCLIP", commercial=False,
    ),
    _card(
        "ViT-H-14:metaclip_fullcc", 1024, 3944, "CC-BY-NC-4.0", "timm/vit_huge_patch14_clip_224.metaclip_2pt5b", 80.5,
        "MetaCLIP", commercial=False,
    ),
    _card("ViT-B-16-SigLIP:webli", 768, 813, "Apache-2.0", "timm/ViT-B-16-SigLIP", 76.0, "Google's SigLIP"),
    _card(
        "ViT-SO400M-14-SigLIP-384:webli", 1152, 3512, "Apache-2.0", "timm/ViT-SO400M-14-SigLIP-384", 83.1,
        "Google's SigLIP, shape-optimised",
    ),
    _card(
        "ViT-B-16-SigLIP2-256:webli", 768, 1501, "Apache-2.0", "timm/ViT-B-16-SigLIP2-256", 79.1,
        "Google's SigLIP 2, multilingual",
    ),
    _card(
        "ViT-SO400M-16-SigLIP2-384:webli", 1152, 4544, "Apache-2.0", "timm/ViT-SO400M-16-SigLIP2-384", 84.1,
        "Google's SigLIP 2, multilingual",
    ),
    _card(
        "MobileCLIP-S1:datacompdr", 512, 340, APPLE, "apple/MobileCLIP-S1-OpenCLIP", 72.6, "for phones",
        commercial=False,
    ),
    _card(
        "MobileCLIP-S2:datacompdr", 512, 397, APPLE, "apple/MobileCLIP-S2-OpenCLIP", 74.4, "for phones",
        commercial=False,
    ),
    _card(
        "MobileCLIP2-S0:dfndr2b", 512, 300, APPLE, "timm/MobileCLIP2-S0-OpenCLIP", 71.5, "for phones, the smallest",
        commercial=False,
    ),
    _card(
        "MobileCLIP2-S4:dfndr2b", 768, 1783, APPLE, "timm/MobileCLIP2-S4-OpenCLIP", 81.9, "for phones, the largest",
        commercial=False,
    ),
    _card(
        "EVA02-B-16:merged2b_s8b_b131k", 512, 599, "MIT", "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k", 74.7,
        "EVA-02-CLIP",
    ),
    _card(
        "EVA02-L-14-336:merged2b_s6b_b61k", 768, 1712, "MIT",
        "timm/eva02_large_patch14_clip_336.merged2b_s6b_b61k", 80.4, "EVA-02-CLIP at 336 pixels",
    ),
    _card("PE-Core-B-16:meta", 1024, 1791, "Apache-2.0", "timm/PE-Core-B-16", 78.4, "Meta's Perception Encoder"),
    _card(
        "PE-Core-L-14-336:meta", 1024, 2685, "Apache-2.0", "timm/PE-Core-L-14-336", 83.5,
        "Meta's Perception Encoder at 336 pixels",
    ),
    _card(
        "PE-Core-bigG-14-448:meta", 1280, 9677, "Apache-2.0", "timm/PE-Core-bigG-14-448", 85.4,
        "Meta's Perception Encoder, the highest ImageNet accuracy here",
    ),
    _card(
        "coca_ViT-L-14:laion2b_s13b_b90k", 768, 2554, "MIT", "laion/CoCa-ViT-L-14-laion2B-s13B-b90k", 75.6,
        "CoCa; its caption decoder is not loaded",
    ),
    _card(
        "xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k", 512, 1464, "MIT",
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k", 62.4, "a hundred languages",
    ),
    _card(
        "nllb-clip-base-siglip:v1", 768, 2030, "CC-BY-NC-4.0", "visheratin/nllb-clip-base-siglip", None,
        "two hundred languages", commercial=False,
    ),
)  # fmt: skip
