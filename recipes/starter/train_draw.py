"""The generator's rectified flow: from noise to the latents of a drawing, told by a vector of the shared space.

Every vector of a plain thing, of whatever modality, may go with every drawing of it (a picture's with one by the same
artist); a scene's captions and picture with its drawing; and the sum of two things' vectors with a drawing of both.
Noise on the vectors makes what lies between mean the same. A tenth are told nothing, for guidance.
"""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.pipelines._generation_space_pipe import tokens_of, velocity
from recipes.starter import draw_data, train_draw_codec
from recipes.starter.training import Training

WIDTH, HEAD, LAYERS = 256, 64, 5
DIM = 256
TOKENS = 16
BATCH = {"plain": 88, "scenes": 48, "sums": 8}
MODALITIES = {"texts": 0.38, "seen": 0.37, "heard": 0.25}
UNTOLD = 0.1
MIXED = 0.15  # of the plain vectors lie between two of the same thing
NOISE = {
    "plain": 1.0,
    "scenes": 0.35,
    "sums": 0.5,
}  # at most, against vectors of length one; squares are drawn
LEANING = 0.12  # by how much one of two things may weigh more
SIGMA = (0.5, 1.1)  # mean and deviation of the logit of the noise level
AVERAGED = 0.9985  # of the running mean of the weights


def flow() -> Any:
    """The untrained FluxTransformer2DModel: single-stream blocks only."""
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        patch_size=1, in_channels=4 * train_draw_codec.CHANNELS + TOKENS + DIM,
        out_channels=4 * train_draw_codec.CHANNELS, num_layers=0, num_single_layers=LAYERS,
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
        weight, bias = (torch.cat([getattr(one, key) for one in parts]) for key in ("weight", "bias"))
        states = F.linear(hidden_states, weight, bias).view(count, length, 3, attn.heads, -1)
        query, key, value = states.permute(2, 0, 3, 1, 4)
        cos, sin = (one.to(value.dtype) for one in image_rotary_emb or ())

        def turned(rows: Tensor, norm: Any) -> Tensor:
            rows = F.rms_norm(rows, (HEAD,), norm.weight.to(rows.dtype), norm.eps)
            real, imaginary = rows.unflatten(-1, (-1, 2)).unbind(-1)
            return rows * cos + torch.stack([-imaginary, real], -1).flatten(-2) * sin

        query, key = turned(query, attn.norm_q), turned(key, attn.norm_k)
        scores = (query @ key.transpose(-1, -2)).float() / math.sqrt(HEAD)
        return (torch.softmax(scores, -1).to(value.dtype) @ value).transpose(1, 2).reshape(count, length, -1)


def encoded(work: Path) -> dict[str, Tensor]:
    """What `draw_data` gathered, its drawings as float16 tokens; written once to draw_tokens.pt."""
    file = work / "draw_tokens.pt"
    if file.exists():
        return torch.load(file, weights_only=True)  # type: ignore[no-any-return]
    codec = train_draw_codec.codec().eval().to(memory_format=torch.channels_last)
    codec.load_state_dict(torch.load(work / "draw_codec.pt", weights_only=True))

    def tokens(drawings: np.ndarray) -> Tensor:
        found = []
        with torch.inference_mode():
            for part in torch.from_numpy(drawings).split(256):
                blocks = F.pixel_unshuffle(part.float() / 127.5 - 1, train_draw_codec.BLOCK)
                with torch.autocast("cpu", torch.bfloat16):
                    latents = codec.encode(blocks).latent_dist.mean
                found.append(tokens_of(latents.float()).half())
        return torch.cat(found)

    began = time.time()
    plain = dict(np.load(work / draw_data.PLAIN))
    drawings = plain.pop("drawings")
    found = {key: torch.from_numpy(value) for key, value in plain.items()}
    found["tokens"] = tokens(drawings.reshape(-1, *drawings.shape[-3:])).unflatten(0, drawings.shape[:2])
    shards = [np.load(file) for file in sorted(work.glob("draw_shard_*.npz"))]
    for key in ("texts", "seen", "things", "bare"):
        found[f"scene {key}"] = torch.from_numpy(np.concatenate([one[key] for one in shards]))
    found["scene tokens"] = torch.cat([tokens(one["drawings"]) for one in shards])
    torch.save(found, file)
    print(f"encoded in {time.time() - began:.0f} s", flush=True)
    return found


class Batches:
    """Vectors and the tokens of drawings that go with them."""

    def __init__(self, data: dict[str, Tensor], seed: int) -> None:
        self.data = data
        self.generator = torch.Generator().manual_seed(seed)
        self.rng = random.Random(seed)
        named = data["named"]
        order = named.argsort(stable=True)
        counts = torch.bincount(named, minlength=len(data["texts"]))
        self.order, self.counts, self.starts = order, counts, counts.cumsum(0) - counts
        self.pairs = ((data["scene things"][:, 1] >= 0) & data["scene bare"]).nonzero()[:, 0]

    def draw(self) -> tuple[Tensor, Tensor]:
        """(n, DIM) unit rows, or zeros for nothing told, and (n, 16, channels)."""
        parts = [self.plain(), self.scenes(), self.sums()]
        vectors = [
            F.normalize(self.noised(one.float(), NOISE[kind]), dim=-1)
            for kind, (one, _) in zip(NOISE, parts, strict=True)
        ]
        told = torch.cat(vectors)
        told[self.uniform(len(told)) < UNTOLD] = 0
        return told, torch.cat([tokens for _, tokens in parts]).float()

    def plain(self) -> tuple[Tensor, Tensor]:
        concepts = self.below(len(self.data["texts"]), BATCH["plain"])
        artists = self.below(2, len(concepts))
        vectors, again = self.of(concepts, artists), self.of(concepts, artists)
        weight = self.uniform(len(concepts)) * (self.uniform(len(concepts)) < MIXED)
        drawings = self.data["tokens"]
        chosen = self.below(len(drawings), len(concepts))
        return vectors + weight[:, None] * (again - vectors), drawings[chosen, concepts]

    def of(self, concepts: Tensor, artists: Tensor) -> Tensor:
        """A vector of each concept, of a random modality; float32."""
        count = len(concepts)
        texts, seen, heard = (self.data[key] for key in MODALITIES)
        kinds = torch.multinomial(
            torch.tensor(list(MODALITIES.values())), count, True, generator=self.generator
        )
        counts = self.counts[concepts]
        kinds[(kinds == 2) & (counts == 0)] = 0
        clips = self.order[
            self.starts[concepts] + (self.uniform(count) * counts).long().clamp(max=counts.max() - 1)
        ]
        rows = torch.stack([
            texts[concepts, self.below(texts.shape[1], count)],
            seen[artists, self.below(seen.shape[1], count), concepts], heard[clips],
        ])  # fmt: skip
        return rows[kinds, torch.arange(count)].float()

    def scenes(self) -> tuple[Tensor, Tensor]:
        rows = self.below(len(self.data["scene seen"]), BATCH["scenes"])
        texts = self.data["scene texts"][rows, self.below(2, len(rows))].float()
        seen = self.data["scene seen"][rows].float()
        return torch.where(self.uniform(len(rows))[:, None] < 0.6, texts, seen), self.data["scene tokens"][
            rows
        ]

    def sums(self) -> tuple[Tensor, Tensor]:
        rows = self.pairs[self.below(len(self.pairs), BATCH["sums"])]
        things, artists = self.data["scene things"][rows], (rows // draw_data.SHARD) % 2
        lean = 0.5 + LEANING * (2 * self.uniform(len(rows)) - 1)[:, None]
        first, second = (self.of(things[:, k], artists) for k in (0, 1))
        return F.normalize(lean * first + (1 - lean) * second, dim=-1), self.data["scene tokens"][rows]

    def noised(self, vectors: Tensor, most: float) -> Tensor:
        noise = torch.randn(vectors.shape, generator=self.generator) / vectors.shape[1] ** 0.5
        return vectors + most * self.uniform(len(vectors))[:, None].square() * noise

    def uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator)

    def below(self, most: int, count: int) -> Tensor:
        return torch.randint(most, (count,), generator=self.generator)


def loss_of(net: nn.Module, vectors: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """The mean squared error of the velocity."""
    mean, deviation = SIGMA
    sigmas = torch.sigmoid(mean + deviation * torch.randn(len(tokens), generator=generator))
    noise = torch.randn(tokens.shape, generator=generator)
    level = sigmas[:, None, None]
    with torch.autocast("cpu", torch.bfloat16):
        found = velocity(net, (1 - level) * tokens + level * noise, vectors, sigmas)
    return F.mse_loss(found.float(), noise - tokens)


def run(work: Path, *, minutes: float, seed: int = 79) -> None:
    """Train for `minutes` in all (a stopped run goes on where it was); write draw_flow.pt, the mean of the weights."""
    torch.manual_seed(seed)
    data = encoded(work)
    net, mean = flow(), flow()
    net.set_attn_processor(PlainAttention())
    mean.load_state_dict(net.state_dict())
    mean.requires_grad_(False)
    training = Training(
        work, "draw_flow", {"net": net, "mean": mean}, minutes=minutes, peak=4e-3, decay=0.01, warm_up=200, seed=seed,
        muon="net",
    )  # fmt: skip
    batches = Batches(data, training.seed)
    lately = 0.0
    while training.going_on():
        loss = loss_of(net, *batches.draw(), batches.generator)
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
