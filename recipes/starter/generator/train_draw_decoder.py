"""Trains the autoencoder's decoder further with a perceptual loss, keeping the latents.

The loss (Johnson et al. 2016; Zhang et al. 2018) compares normalised features of the starter's image tower at three
depths and its vector, between the decoded image and the artist's. With pixels alone, small and thin details such as a
clock face or an arrowhead count less than the shade of a large area. Afterwards the image tower is no longer an
independent judge; the judge of pixels still is.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.core.modality import Modality
from multimodal.core.space import Space
from recipes.starter.generator import train_draw_codec
from recipes.starter.generator.train_draw_codec import BLOCK, edges
from recipes.starter.towers.training import Training

BATCH = 48
NOISE = 0.3  # at most, of the latents' deviation
SEEN = {4: 0.5, 8: 0.5, 10: 0.5}  # what the maps after these layers of the tower count
VECTOR = 1.0  # and what its vector does
AVERAGED = 0.996  # of the running mean of the weights


def seen(tower: nn.Module, images: Tensor) -> tuple[list[Tensor], Tensor]:
    """The maps of SEEN with channels of length one, and the unit vectors, of pictures in [-1, 1]."""
    states, maps = images, []
    for number, layer in enumerate(tower.maps):  # type: ignore[arg-type]
        states = layer(states)
        if number in SEEN:
            maps.append(F.normalize(states.float(), dim=1))
    pooled = torch.cat([states.mean((2, 3)), states.amax((2, 3))], dim=1)
    return maps, F.normalize(tower.project(pooled).float(), dim=1)  # type: ignore[operator]


def loss_of(codec: nn.Module, tower: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The parts of the loss; pictures in [-1, 1]."""
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            blocks = F.pixel_unshuffle(images, BLOCK).contiguous(memory_format=torch.channels_last)
            latents = codec.encode(blocks).latent_dist.mean  # type: ignore[operator]
            wanted, vectors = seen(tower, images.contiguous(memory_format=torch.channels_last))
        much = NOISE * torch.rand(len(latents), 1, 1, 1)
        again = F.pixel_shuffle(codec.decode(latents + much * torch.randn_like(latents)).sample, BLOCK)  # type: ignore[operator]
        results, own = seen(tower, again.contiguous(memory_format=torch.channels_last))
    again = again.float()
    slopes = [F.l1_loss(*pair) for pair in zip(edges(again), edges(images), strict=True)]
    maps = [
        weight * (item - other).square().sum(1).mean()
        for weight, item, other in zip(SEEN.values(), results, wanted, strict=True)
    ]
    return {
        "l1": F.l1_loss(again, images),
        "l2": F.mse_loss(again, images),
        "edges": 0.7 * torch.stack(slopes).sum(),
        "maps": torch.stack(maps).sum(),
        "vector": VECTOR * (1 - (own * vectors).sum(1)).mean(),
    }


def run(work: Path, space: Path, *, minutes: float, seed: int = 89) -> None:
    """Trains for `minutes` in total (interrupted runs resume); writes draw_decoder.pt, the whole autoencoder."""
    torch.manual_seed(seed)
    codec, mean = (train_draw_codec.codec().to(memory_format=torch.channels_last) for _ in range(2))
    for item in (codec, mean):
        item.load_state_dict(torch.load(work / "draw_codec.pt", weights_only=True))
    tower = Space.from_pretrained(space, device="cpu").encoders[Modality.IMAGE].net.float().eval()  # type: ignore[attr-defined]
    tower.to(memory_format=torch.channels_last)
    for frozen in (mean, tower, codec.encoder, codec.quant_conv):
        frozen.requires_grad_(False)
    learned = nn.ModuleDict({"post": codec.post_quant_conv, "decoder": codec.decoder})
    slow = nn.ModuleDict({"post": mean.post_quant_conv, "decoder": mean.decoder})
    training = Training(
        work, "draw_decoder", {"net": learned, "mean": slow}, minutes=minutes, peak=1e-3, decay=0.0, warm_up=50,
        seed=seed, muon="net",
    )  # fmt: skip
    batch = train_draw_codec.drawn(work, training.seed)
    while training.going_on():
        parts = loss_of(codec, tower, batch(BATCH))
        training.learn(torch.stack(list(parts.values())).sum())
        kept = min(AVERAGED, 1 - 1 / (training.step / 4 + 1))
        with torch.no_grad():
            torch._foreach_lerp_(list(slow.parameters()), list(learned.parameters()), 1 - kept)
        if training.step % 100 == 0:
            training.log(**parts)
        if training.step % 500 == 0:
            training.save()
    training.save()
    torch.save(mean.state_dict(), work / "draw_decoder.pt")
