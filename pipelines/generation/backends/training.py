"""The loss of images, for fine-tuning Stable Diffusion by diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Image, Item


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
        pixels = torch.stack([_pixels(item, _side(pipe)) for item, _ in pairs]).to(device, dtype)
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


def _side(pipe: Any) -> int:
    return int(pipe.unet.config.sample_size) * int(pipe.vae_scale_factor)


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
