"""Image generation from vectors of a shared space as a diffusers pipeline: rectified flow in an autoencoder's latents.

`prior` predicts sketches in latents from a vector; `transformer` (Flux's single-stream blocks) is conditioned on the
vector and the sketches; `vae` maps 64x64 pixels, as blocks of 4x4, to 8x8 latents and back; `scheduler` integrates from
noise to the image (Liu et al. 2022; Lipman et al. 2022). The pipeline depends on vectors alone, not on modalities. The
folder has the format of diffusers: `SpacePicturePipeline.from_pretrained(folder)` reads it.
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
BLOCK = 4  # edge in pixels of a position of the autoencoder's input
PATCH = 2  # edge in latents of a token
LATENT = SIDE // 8
PLACE = 4.0  # norm of a token's one-hot position, that of a standard normal vector of dimension 16
STEPS, GUIDANCE = 16, 3.0

OnStep = Callable[[int, int], object]


def tokens_of(latents: Tensor) -> Tensor:
    """(n, c, 8, 8) -> (n, 16, 4 c)."""
    return F.pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)


def latents_of(tokens: Tensor) -> Tensor:
    """The inverse of `tokens_of`."""
    side = LATENT // PATCH
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (side, side)), PATCH)


def places(device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """The rotary positions of the vector's token and the image's tokens: (1, 3) and (16, 3)."""
    row = torch.arange(LATENT // PATCH, device=device)
    down, across = torch.meshgrid(row, row, indexing="ij")
    places = torch.stack([torch.zeros_like(down), down, across], dim=-1).reshape(-1, 3)
    return torch.zeros(1, 3, device=device), places.float()


def velocity(transformer: Any, tokens: Tensor, vectors: Tensor, canvases: Tensor, sigmas: Tensor) -> Tensor:
    """The predicted velocity at noise levels sigmas (n,) in [0, 1]: noise minus image, shaped like tokens.

    Each token is concatenated with its part of the canvases (n, 16, 2 channels) and its position as a one-hot vector:
    Flux encodes positions only by rotation, from which a small network learns slowly. Unit vectors are scaled to
    standard deviation 1.
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
        """The dimension of the vectors."""
        return int(self.transformer.config.joint_attention_dim)

    @torch.inference_mode()
    def __call__(
        self,
        vectors: Tensor,
        generators: Sequence[torch.Generator],
        *,
        steps: int = STEPS,
        guidance: float = GUIDANCE,
        images: Tensor | None = None,
        strength: float = 1.0,
        negative: Tensor | None = None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """vectors (n, dim) unit rows, one generator each -> (n, 3, 64, 64) in [0, 1].

        guidance: the scale of classifier-free guidance, away from the unconditional prediction (or that of `negative`,
        (dim,)); 1 disables it. images: (n, 3, 64, 64) in [0, 1] to start from; `strength` is the fraction of the
        trajectory that remains. on_step: called with (steps done, steps in total).
        """
        device, dtype = self.transformer.device, self.transformer.dtype
        channels = int(self.vae.config.latent_channels)
        shape = (channels, LATENT, LATENT)
        noise = torch.stack(
            [torch.randn(shape, generator=generator, device=generator.device) for generator in generators]
        )
        tokens = tokens_of(noise.to(device))
        self.scheduler.set_timesteps(steps, device=device)
        sigmas = self.scheduler.sigmas
        first = 0
        if images is not None:
            first = min(steps - 1, int((sigmas > strength).sum()))
            image_tokens = tokens_of(self.encode(images))
            tokens = sigmas[first] * tokens + (1 - sigmas[first]) * image_tokens
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
            if on_step is not None:
                on_step(number + 1 - first, steps - first)
        return self.decode(latents_of(tokens))

    def condition(
        self, vectors: Tensor, generators: Sequence[torch.Generator], guidance: float, negative: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(vectors, canvases), with randomly drawn layouts; with guidance, the unconditional rows follow."""
        turn, layouts = [], []
        for generator in generators:
            turn.append(torch.rand(1, generator=generator, device=generator.device) < 0.5)
            choice = [
                torch.randint(most, (1,), generator=generator, device=generator.device)
                for most in (SINGLES, len(PAIRS))
            ]
            layouts.append(torch.cat(choice))
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

    def encode(self, images: Tensor) -> Tensor:
        """(n, 3, 64, 64) in [0, 1] -> latents (n, c, 8, 8) of mean 0 and standard deviation 1."""
        blocks = F.pixel_unshuffle(images.to(self.vae.device, self.vae.dtype) * 2 - 1, BLOCK)
        return self.vae.encode(blocks).latent_dist.mean.float()

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of `encode`."""
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
