"""Trains the generator's autoencoder: diffusers' AutoencoderKL over blocks of 4x4 pixels, 64x64x3 <-> 8x8x12.

Convolutions on 16x16 and 8x8 feature maps with many channels are several times faster on a CPU than thin ones at full
resolution. Latents are normalised by a batch norm without parameters, which is folded into the last layer at the end;
noise on the latents makes the decoder robust to errors of the generator. The loss is L1, L2 and gradients of pixels,
without an adversary; `train_draw_decoder` continues from there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.starter.captioner import captions
from recipes.starter.generator import draw_scenes
from recipes.starter.towers.training import Training

BLOCK = 4  # pixels a side that become channels
CHANNELS = 12  # of the latents
BATCH = 48
NOISE = 0.3  # at most, of the latents' deviation
AVERAGED = 0.998  # of the running mean of the weights


def codec() -> Any:
    """The untrained AutoencoderKL."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3 * BLOCK**2, out_channels=3 * BLOCK**2, latent_channels=CHANNELS, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(64, 128), layers_per_block=1, norm_num_groups=8, mid_block_add_attention=False,
        scaling_factor=1.0,
    )  # fmt: skip


class Folded(nn.Module):
    """The codec and the norm of its latents while it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.codec = codec()
        self.norm = nn.BatchNorm2d(CHANNELS, affine=False, momentum=0.02)

    def latents(self, images: Tensor) -> Tensor:
        """pictures (n, 3, h, w) in [-1, 1] -> (n, CHANNELS, h / 8, w / 8), mean 0 and deviation 1."""
        blocks = F.pixel_unshuffle(images, BLOCK).contiguous(memory_format=torch.channels_last)
        return self.norm(self.codec.encode(blocks).latent_dist.mean.float())

    def images(self, latents: Tensor) -> Tensor:
        """The way back."""
        return F.pixel_shuffle(self.codec.decode(latents).sample.float(), BLOCK)

    def folded(self) -> Any:
        """The codec, giving normal latents by itself."""
        layer = self.codec.quant_conv
        with torch.no_grad():
            scale = (self.norm.running_var + self.norm.eps).rsqrt()
            layer.weight[:CHANNELS] *= scale[:, None, None, None]
            layer.bias[:CHANNELS] = (layer.bias[:CHANNELS] - self.norm.running_mean) * scale
        return self.codec


def edges(images: Tensor) -> tuple[Tensor, Tensor]:
    """Differences down and across."""
    return images.diff(dim=2), images.diff(dim=3)


def loss_of(net: Folded, images: Tensor, noise: float) -> dict[str, Tensor]:
    """The parts of the loss; pictures in [-1, 1]."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = net.latents(images)
        much = noise * torch.rand(len(latents), 1, 1, 1)
        again = net.images(latents + much * torch.randn_like(latents))
    pairs = zip(edges(again), edges(images), strict=True)
    return {
        "l1": F.l1_loss(again, images),
        "l2": F.mse_loss(again, images),
        "edges": 0.7 * torch.stack([F.l1_loss(*pair) for pair in pairs]).sum(),
    }


def psnr(net: Folded, images: Tensor) -> float:
    """Decibels of pictures in [-1, 1], without noise."""
    with torch.no_grad():
        error = F.mse_loss(net.images(net.latents(images)).clamp(-1, 1), images)
    return float(10 * torch.log10(4 / error))


def drawn(work: Path, seed: int) -> Callable[[int], Tensor]:
    """What gives so many pictures (n, 3, 64, 64) in [-1, 1] of scenes by chance, none of them held out."""
    drawings = draw_scenes.artist(work)
    easel, count = draw_scenes.easel(drawings, seed), drawings.shape[1]
    held, rng = captions.held_out(count), random.Random(seed)

    def batch(n: int) -> Tensor:
        return easel.draw([draw_scenes.random_scene(rng, count, held) for _ in range(n)]) * 2 - 1

    return batch


def run(work: Path, *, minutes: float, seed: int = 71) -> None:
    """Trains for `minutes` of wall time in total (interrupted runs resume); writes draw_codec.pt."""
    torch.manual_seed(seed)
    net, mean = Folded().to(memory_format=torch.channels_last), Folded()
    mean.load_state_dict(net.state_dict())
    mean.requires_grad_(False)
    training = Training(
        work, "draw_codec", {"net": net, "mean": mean}, minutes=minutes, peak=2e-3, decay=0.0, warm_up=100,
        seed=seed, muon="net",
    )  # fmt: skip
    batch = drawn(work, training.seed)
    judged = batch(256)
    while training.going_on():
        parts = loss_of(net, batch(BATCH), NOISE)
        training.learn(torch.stack(list(parts.values())).sum())
        kept = min(AVERAGED, 1 - 1 / (training.step / 4 + 1))
        with torch.no_grad():
            for slow, fast in zip(mean.state_dict().values(), net.state_dict().values(), strict=True):
                if slow.is_floating_point():
                    slow.lerp_(fast, 1 - kept)
        if training.step % 100 == 0:
            training.log(**parts)
        if training.step % 500 == 0:
            training.save()
            mean.eval()
            training.log(psnr=psnr(mean, judged))
    training.save()
    torch.save(mean.eval().folded().state_dict(), work / "draw_codec.pt")
