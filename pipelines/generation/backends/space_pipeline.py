"""Pictures out of vectors of a shared space, as a pipeline of diffusers: a rectified flow in an autoencoder's latents.

`prior` recalls what a vector tells of, as sketches in latents; `transformer` (Flux's single-stream blocks) reads the
vector and the sketches; `vae` turns 64x64 pixels, as blocks of 4x4, into 8x8 latents and back; `scheduler` walks from
noise to the picture in straight steps (Liu et al. 2022; Lipman et al. 2022). It knows neither words nor modalities. The
folder is diffusers' own: `SpacePicturePipeline.from_pretrained(folder)` reads it, and so does each part's class.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
)
from torch import Tensor
from torch.nn import functional as F

from multimodal.pipelines.generation.backends.space_prior import (
    PAIRS,
    SINGLES,
    DrawingPrior,
    apply_layout,
    swap_halves,
)

SIDE = 64  # pixels
BLOCK = 4  # pixels a side that are one position of the autoencoder's input
PATCH = 2  # latents a side that are one token
LATENT = SIDE // 8
PLACE = 4.0  # the length of what tells a token its place, that of a vector of 16 normal numbers
STEPS, GUIDANCE = 16, 3.0

Told = Callable[[int, int], object]


def tokens_of(latents: Tensor) -> Tensor:
    """(n, c, 8, 8) -> (n, 16, 4 c)."""
    return F.pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)


def latents_of(tokens: Tensor) -> Tensor:
    """The way back."""
    side = LATENT // PATCH
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (side, side)), PATCH)


def places(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Where the vector's token and the picture's stand, for the rotary positions: (1, 3) and (16, 3)."""
    row = torch.arange(LATENT // PATCH, device=device)
    down, across = torch.meshgrid(row, row, indexing="ij")
    places = torch.stack([torch.zeros_like(down), down, across], dim=-1).reshape(-1, 3)
    return torch.zeros(1, 3, device=device), places.float()


def velocity(transformer: Any, tokens: Tensor, vectors: Tensor, canvases: Tensor, sigmas: Tensor) -> Tensor:
    """What the flow says at noise levels sigmas (n,) in [0, 1]: noise minus picture, like tokens.

    Beside a token's latents stand its part of the canvases (n, 16, 2 channels) and its place, one of 16: Flux tells
    tokens apart by rotation alone, which a small network is slow to learn from. A unit row's numbers are small; they
    are brought to a deviation of one.
    """
    alone, own = places(tokens.device)
    vectors = vectors * vectors.shape[1] ** 0.5
    count, length, _ = tokens.shape
    place = PLACE * torch.eye(length, device=tokens.device, dtype=tokens.dtype).expand(count, -1, -1)
    seen = torch.cat([tokens, place, canvases.to(tokens.dtype)], dim=2)
    return transformer(
        hidden_states=seen, encoder_hidden_states=vectors[:, None], pooled_projections=vectors, timestep=sigmas,
        txt_ids=alone, img_ids=own, return_dict=True,
    ).sample  # fmt: skip


class SpacePicturePipeline(DiffusionPipeline):  # type: ignore[misc]
    """prior: DrawingPrior. transformer: FluxTransformer2DModel. vae: AutoencoderKL. scheduler:
    FlowMatchEulerDiscreteScheduler."""

    model_cpu_offload_seq = "prior->transformer->vae"

    def __init__(self, prior: Any, transformer: Any, vae: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(prior=prior, transformer=transformer, vae=vae, scheduler=scheduler)

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return int(self.transformer.config.joint_attention_dim)

    @torch.inference_mode()
    def __call__(
        self,
        vectors: Tensor,
        generators: Sequence[torch.Generator],
        *,
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        pictures: Tensor | None = None,
        strength: float = 1.0,
        negative: Tensor | None = None,
        told: Told | None = None,
    ) -> Tensor:
        """vectors (n, dim) unit rows, one generator each -> (n, 3, 64, 64) in [0, 1].

        guidance: how far to go from what is drawn of nothing (or of `negative`, (dim,)) towards the vector; 1 is as
        trained. pictures (n, 3, 64, 64) in [0, 1]: where to begin, with `strength` of the way still to go.
        """
        device, dtype = self.transformer.device, self.transformer.dtype
        channels = int(self.vae.config.latent_channels)
        shape = (channels, LATENT, LATENT)
        noise = torch.stack([torch.randn(shape, generator=one, device=one.device) for one in generators])
        tokens = tokens_of(noise.to(device))
        self.scheduler.set_timesteps(steps, device=device)
        sigmas = self.scheduler.sigmas
        first = 0
        if pictures is not None:
            first = min(steps - 1, int((sigmas > strength).sum()))
            begun = tokens_of(self.encode(pictures))
            tokens = sigmas[first] * tokens + (1 - sigmas[first]) * begun
            self.scheduler.set_begin_index(first)
        vectors, canvases = self.condition(vectors.to(device, torch.float32), generators, guidance, negative)
        for number in range(first, steps):
            repeats = len(vectors) // len(tokens)
            level = sigmas[number].expand(len(vectors)).to(dtype)
            seen = tokens.repeat(repeats, 1, 1).to(dtype)
            slope = velocity(self.transformer, seen, vectors.to(dtype), canvases, level).float()
            if guidance != 1:
                towards, from_ = slope.chunk(2)
                slope = from_ + guidance * (towards - from_)
            moment = self.scheduler.timesteps[number]
            tokens = self.scheduler.step(slope, moment, tokens, return_dict=False)[0]
            if told is not None:
                told(number + 1 - first, steps - first)
        return self.decode(latents_of(tokens))

    def condition(
        self, vectors: Tensor, generators: Sequence[torch.Generator], guidance: float, negative: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Vectors and what is recalled of them, laid out by the dice; with guidance, then those to go away from."""
        turn, layouts = [], []
        for one in generators:
            turn.append(torch.rand(1, generator=one, device=one.device) < 0.5)
            dice = [
                torch.randint(most, (1,), generator=one, device=one.device) for most in (SINGLES, len(PAIRS))
            ]
            layouts.append(torch.cat(dice))
        laid = torch.stack(layouts).to(vectors.device)

        def canvases(vectors: Tensor) -> Tensor:
            sketches = self.prior.sketch(vectors)
            turned = torch.stack(turn).to(vectors.device)[:, None]
            return apply_layout(torch.where(turned, swap_halves(sketches), sketches), laid)

        if guidance == 1:
            return vectors, canvases(vectors)
        away = (torch.zeros_like(vectors[:1]) if negative is None else negative.to(vectors)[None]).expand_as(
            vectors
        )
        return torch.cat([vectors, away]), torch.cat([canvases(vectors), canvases(away)])

    def encode(self, pictures: Tensor) -> Tensor:
        """(n, 3, 64, 64) in [0, 1] -> latents (n, c, 8, 8) of mean 0 and deviation 1."""
        blocks = F.pixel_unshuffle(pictures.to(self.vae.device, self.vae.dtype) * 2 - 1, BLOCK)
        return self.vae.encode(blocks).latent_dist.mean.float()

    def decode(self, latents: Tensor) -> Tensor:
        """The way back."""
        blocks = self.vae.decode(latents.to(self.vae.dtype)).sample.float()
        return (F.pixel_shuffle(blocks, BLOCK) / 2 + 0.5).clamp(0, 1)


def load_parts(folder: Path) -> SpacePicturePipeline:
    """Loads the pipeline from its folder, in float32.

    The classes of the parts are fixed here and not taken from model_index.json: folders of earlier versions name
    modules there that no longer exist.
    """
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    if index.get("_class_name") != SpacePicturePipeline.__name__:
        raise ValueError(f"model_index.json names no {SpacePicturePipeline.__name__}")
    models = {"prior": DrawingPrior, "transformer": FluxTransformer2DModel, "vae": AutoencoderKL}
    parts = {
        name: model.from_pretrained(
            folder, subfolder=name, torch_dtype=torch.float32, local_files_only=True, low_cpu_mem_usage=False
        )
        for name, model in models.items()
    }
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(
        folder, subfolder="scheduler", local_files_only=True
    )
    return SpacePicturePipeline(**parts, scheduler=scheduler)
