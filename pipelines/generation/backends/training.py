"""The losses of images, for fine-tuning Stable Diffusion and Flux by diffusers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Image, Item

GUIDANCE = 3.5  # of a Flux that was distilled with guidance: the default of its pipeline
PATCH = 2  # latents to a token of Flux, in each direction


def noise_losses(pipe: Any, pairs: Sequence[tuple[Item, Item]], seed: int) -> Tensor:
    """Mean squared error of the predicted noise (or velocity) at one random time for each pair.

    Args:
        pipe: A Stable Diffusion pipeline: VAE, text encoder, UNet and scheduler.
        pairs: (image, prompt).
        seed: Of times and noise.

    Returns:
        (n,) with gradients.

    Raises:
        InvalidInput: If a first item is no image, or the scheduler adds no noise in this form.
    """
    kind = pipe.scheduler.config.get("prediction_type")
    if kind not in ("epsilon", "v_prediction"):
        raise InvalidInput(f"a scheduler that predicts {kind!r} is not supported for training; use 'epsilon'")
    device, dtype = pipe.unet.device, pipe.unet.dtype
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        side = int(pipe.unet.config.sample_size) * int(pipe.vae_scale_factor)
        pixels = torch.stack([_pixels(item, side) for item, _ in pairs]).to(device, dtype)
        latents = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
        prompts = [str(text.load()) for _, text in pairs]
        conditions = pipe.encode_prompt(prompts, device, 1, False)[0]
        noise = torch.randn(latents.shape, generator=generator).to(device, dtype)
        n_times = pipe.scheduler.config.num_train_timesteps
        times = torch.randint(0, n_times, (len(pairs),), generator=generator).to(device)
        noisy = pipe.scheduler.add_noise(latents, noise, times)
        target = noise if kind == "epsilon" else pipe.scheduler.get_velocity(latents, noise, times)
    predicted = pipe.unet(noisy, times, encoder_hidden_states=conditions).sample
    return (predicted.float() - target.float()).square().mean(dim=(1, 2, 3))


def flow_losses(pipe: Any, pairs: Sequence[tuple[Item, Item]], seed: int) -> Tensor:
    """Mean squared error of the velocity from image to noise at one random time for each pair (flow matching).

    Times are logit-normal (Esser et al. 2024, arXiv:2403.03206). Images are not enlarged: a batch has the side of its
    largest image, at most that of the model.

    Args:
        pipe: A Flux pipeline: VAE, two text encoders and transformer.
        pairs: (image, prompt).
        seed: Of times and noise.

    Returns:
        (n,) with gradients.

    Raises:
        InvalidInput: If a first item is no image.
    """
    net, vae = pipe.transformer, pipe.vae
    device, dtype = net.device, net.dtype
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        side = _largest_side(
            pairs, PATCH * int(pipe.vae_scale_factor), int(pipe.default_sample_size) // PATCH
        )
        pixels = torch.stack([_pixels(item, side) for item, _ in pairs]).to(device, dtype)
        latents = (vae.encode(pixels).latent_dist.mean - vae.config.shift_factor) * vae.config.scaling_factor
        n_patches = latents.shape[-1] // PATCH
        tokens = torch.nn.functional.pixel_unshuffle(latents, PATCH).flatten(2).transpose(1, 2)
        prompts = [str(text.load()) for _, text in pairs]
        conditions, pooled, text_places = pipe.encode_prompt(prompts, device=device)
        noise = torch.randn(tokens.shape, generator=generator).to(device, dtype)
        times = torch.randn(len(pairs), generator=generator).sigmoid().to(device, dtype)
        noisy = torch.lerp(tokens, noise, times[:, None, None])
    guidance = torch.full_like(times, GUIDANCE) if net.config.guidance_embeds else None
    predicted = net(
        hidden_states=noisy, timestep=times, guidance=guidance, pooled_projections=pooled,
        encoder_hidden_states=conditions, txt_ids=text_places, img_ids=_places(n_patches).to(device, dtype),
    ).sample  # fmt: skip
    return (predicted.float() - (noise - tokens).float()).square().mean(dim=(1, 2))


# Class of diffusers -> the part that trains, and its loss
TRAINABLE: dict[str, tuple[str, Callable[[Any, Sequence[tuple[Item, Item]], int], Tensor]]] = {
    "StableDiffusionPipeline": ("unet", noise_losses),
    "FluxPipeline": ("transformer", flow_losses),
}


def _largest_side(pairs: Sequence[tuple[Item, Item]], unit: int, most: int) -> int:
    """The side of a batch: that of its largest image in multiples of `unit` pixels, at most `most` of them."""
    edges = [min(item.load().shape[:2]) for item, _ in pairs if isinstance(item, Image)]
    return unit * min(most, max(1, max(edges, default=unit) // unit))


def _places(n: int) -> Tensor:
    """(n * n, 3): the row and the column of each token of a square image."""
    rows, columns = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    return torch.stack([torch.zeros(n, n), rows, columns], dim=-1).reshape(-1, 3)


def _pixels(item: Item, side: int) -> Tensor:
    """An image as (3, side, side) between -1 and 1, its centre square."""
    if not isinstance(item, Image):
        raise InvalidInput(f"an image generator is trained on pairs of image and text, got {item.modality}")
    pixels = torch.from_numpy(item.load().copy()).permute(2, 0, 1).float() / 127.5 - 1.0
    height, width = pixels.shape[1:]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = pixels[None, :, top : top + edge, left : left + edge]
    return torch.nn.functional.interpolate(square, size=(side, side), mode="bilinear", antialias=True)[0]
