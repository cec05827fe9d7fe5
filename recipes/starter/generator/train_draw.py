"""Trains the generator's rectified flow: from noise to latents, conditioned on a vector and the prior's sketches.

The prior's prediction is mostly correct, so the flow learns general skills: positions and sharpening. A tenth of the
samples are unconditional, for guidance.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.pipelines.generation.backends.space_pipeline import velocity
from multimodal.pipelines.generation.backends.space_prior import DrawingPrior, apply_layout, swap_halves
from recipes.starter.generator import draw_batches, train_draw_codec
from recipes.starter.generator.draw_frames import Frames
from recipes.starter.generator.train_draw_prior import weighed
from recipes.starter.towers.training import Training

WIDTH, HEAD, LAYERS = 192, 64, 3
DIM = 256
TOKENS = 16
CHANNELS = 4 * train_draw_codec.CHANNELS
BATCH = {"plain": 60, "scenes": 60, "sums": 12, "between": 6, "keywords": 6}
UNTOLD = 0.1
SIGMA = (0.3, 1.1)  # mean and deviation of the logit of the noise level
AVERAGED = 0.998  # of the running mean of the weights


def flow() -> Any:
    """The untrained FluxTransformer2DModel: single-stream blocks only."""
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        patch_size=1, in_channels=3 * CHANNELS + TOKENS, out_channels=CHANNELS,
        num_layers=0, num_single_layers=LAYERS,
        attention_head_dim=HEAD, num_attention_heads=WIDTH // HEAD, joint_attention_dim=DIM,
        pooled_projection_dim=DIM, guidance_embeds=False, axes_dims_rope=(16, 24, 24),
    )  # fmt: skip


class PlainAttention:
    """FluxAttnProcessor's numbers by matrix products: its kernel's backward took a third of a step on a CPU."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: None = None, attention_mask: None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        count, length, _ = hidden_states.shape
        parts = (attn.to_q, attn.to_k, attn.to_v)
        weight, bias = (torch.cat([getattr(part, key) for part in parts]) for key in ("weight", "bias"))
        states = F.linear(hidden_states, weight, bias).view(count, length, 3, attn.heads, -1)
        query, key, value = states.permute(2, 0, 3, 1, 4)
        cos, sin = (item.to(value.dtype) for item in image_rotary_emb or ())

        def turned(rows: Tensor, norm: Any) -> Tensor:
            rows = F.rms_norm(rows, (HEAD,), norm.weight.to(rows.dtype), norm.eps)
            real, imaginary = rows.unflatten(-1, (-1, 2)).unbind(-1)
            return rows * cos + torch.stack([-imaginary, real], -1).flatten(-2) * sin

        query, key = turned(query, attn.norm_q), turned(key, attn.norm_k)
        scores = (query @ key.transpose(-1, -2)).float() / math.sqrt(HEAD)
        return (torch.softmax(scores, -1).to(value.dtype) @ value).transpose(1, 2).reshape(count, length, -1)


def loss_of(
    net: nn.Module, condition: tuple[Tensor, Tensor], tokens: Tensor, generator: torch.Generator
) -> Tensor:
    """The mean squared error of the velocity; told: vectors and canvases."""
    mean, deviation = SIGMA
    sigmas = torch.sigmoid(mean + deviation * torch.randn(len(tokens), generator=generator))
    noise = torch.randn(tokens.shape, generator=generator)
    level = sigmas[:, None, None]
    with torch.autocast("cpu", torch.bfloat16):
        result = velocity(net, (1 - level) * tokens + level * noise, *condition, sigmas)
    return F.mse_loss(result.float(), noise - tokens)


def in_order(sketches: Tensor, wanted: Tensor, scenes: Tensor, layouts: Tensor) -> Tensor:
    """The halves as they stand in the picture; that of one small thing, whose other is empty, where it stands."""
    wrong = weighed(sketches, swap_halves(wanted)) < weighed(sketches, wanted)
    turn = torch.where(scenes[:, 3] >= 0, wrong, layouts[:, 2] > 0)
    return torch.where(turn[:, None, None], swap_halves(sketches), sketches)


def run(work: Path, *, minutes: float, seed: int = 79) -> None:
    """Trains for `minutes` in total (interrupted runs resume); writes draw_flow.pt, the averaged weights."""
    torch.manual_seed(seed)
    net, mean = flow(), flow()
    net.set_attn_processor(PlainAttention())
    mean.load_state_dict(net.state_dict())
    mean.requires_grad_(False)
    prior = DrawingPrior.from_pretrained(work / "draw_prior", low_cpu_mem_usage=False).eval()
    training = Training(
        work, "draw_flow", {"net": net, "mean": mean}, minutes=minutes, peak=4e-3, decay=0.01, warm_up=200, seed=seed,
        muon="net",
    )  # fmt: skip
    data = draw_batches.gathered(work)
    batches, frames = draw_batches.Batches(data, BATCH, training.seed), Frames.of(work)
    lately = 0.0
    while training.going_on():
        vectors, scenes, rows = batches.draw()
        with torch.no_grad():
            sketches = in_order(prior.sketch(vectors), frames.targets(scenes), scenes, data["layouts"][rows])
            canvases = apply_layout(sketches, data["layouts"][rows])
        keep = (batches.uniform(len(vectors)) >= UNTOLD)[:, None]
        vectors, canvases = vectors * keep, canvases * keep[:, None]
        loss = loss_of(net, (vectors, canvases), data["tokens"][rows].float(), batches.generator)
        training.learn(loss)
        lately += float(loss.detach())
        kept = min(AVERAGED, 1 - 1 / (training.step / 8 + 1))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), 1 - kept)
        if training.step % 100 == 0:
            training.log(loss=lately / 100)
            lately = 0.0
        if training.step % 500 == 0:
            training.save()
    training.save()
    torch.save(mean.state_dict(), work / "draw_flow.pt")
