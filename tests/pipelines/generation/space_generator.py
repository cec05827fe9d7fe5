"""A generator of the real classes with random weights, for the starter's vectors, written by diffusers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import multimodal as mm
from multimodal.core.space import Space

CHANNELS = 4


@pytest.fixture(scope="module")
def starter() -> Space:
    return mm.load("starter", device="cpu")


@pytest.fixture(scope="module")
def folder(starter: Space, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator of the real classes with random weights, for the starter's vectors, written by diffusers."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel

    from multimodal.pipelines.generation.backends.space_pipeline import SpacePicturePipeline
    from multimodal.pipelines.generation.backends.space_prior import DrawingPrior

    torch.manual_seed(0)
    flow = FluxTransformer2DModel(
        patch_size=1, in_channels=3 * 4 * CHANNELS + 16, out_channels=4 * CHANNELS, num_layers=0,
        num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=256,
        pooled_projection_dim=256, guidance_embeds=False,
        axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    with (
        torch.no_grad()
    ):  # upstream begins with a last layer of zeros, which would draw nothing of the vector
        for weight in flow.parameters():
            weight.normal_(std=0.2)
    codec = AutoencoderKL(
        in_channels=48, out_channels=48, latent_channels=CHANNELS, sample_size=16, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16), layers_per_block=1, mid_block_add_attention=False,
    )  # fmt: skip
    place = tmp_path_factory.mktemp("generator") / "draw"
    prior = DrawingPrior(
        dim=256, channels=4 * CHANNELS, width=24, inner=32, known=40, directions=20, dyes=5, dyed=9
    )
    with torch.no_grad():
        prior.dye_axes.normal_(std=0.05)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    SpacePicturePipeline(prior, flow, codec, scheduler).save_pretrained(place)
    fingerprints = {str(kind): encoder.fingerprint for kind, encoder in starter.encoders.items()}
    (place / "draw.json").write_text(json.dumps({"format": 1, "encoders": fingerprints}))
    return place
