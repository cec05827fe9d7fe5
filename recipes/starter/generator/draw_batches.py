"""Training batches of the generator: vectors with their scenes and the indices of matching images.

A vector of a plain object, of any modality, is paired with any image of it; captions and the image of a scene with its
image; the sum of two objects' vectors with an image of both. Interpolations between similar objects are paired with
the nearer of them, and a keyword that few objects share with any of these: "tree" is one tree, not a palm beside a
fir. Noise is added to the vectors.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.starter.captioner import captions
from recipes.starter.generator import draw_data, draw_frames, train_draw_codec

MODALITIES = {"texts": 0.4, "seen": 0.25, "heard": 0.35}
READ = 0.7  # share of the scenes conditioned on a caption; the others on a picture
MIXED = 0.15  # of the plain vectors lie between two of the same thing
# at most, against vectors of length one; squares are drawn
NOISE = {"plain": 0.35, "scenes": 0.2, "sums": 0.3, "between": 0.2, "keywords": 0.2}
ALIKE = 6  # names that are nearest to a name
LEANING = 0.12  # by how much one of two things may weigh more


def gathered(work: Path) -> dict[str, Tensor]:
    """What `draw_data` gathered, its drawings as float16 tokens; written once to draw_tokens.pt.

    tokens (drawings, 16, channels) and layouts (drawings, 3): DRAWN rounds of all plain things, then the scenes.
    """
    file = work / "draw_tokens.pt"
    if file.exists():
        return torch.load(file, weights_only=True, mmap=True)  # type: ignore[no-any-return]
    codec = train_draw_codec.codec().eval().to(memory_format=torch.channels_last)
    codec.load_state_dict(torch.load(work / "draw_codec.pt", weights_only=True))
    began = time.time()
    plain = dict(np.load(work / draw_data.PLAIN))
    shards = [np.load(file) for file in sorted(work.glob("draw_shard_*.npz"))]
    drawings = [plain.pop("drawings"), *(shard["drawings"] for shard in shards)]
    layouts = [plain.pop("layouts").reshape(-1, 3), *(shard["layouts"] for shard in shards)]
    results = {key: torch.from_numpy(value) for key, value in plain.items()}
    results["layouts"] = torch.from_numpy(np.concatenate(layouts))
    for key in ("texts", "seen", "things"):
        results[f"scene {key}"] = torch.from_numpy(np.concatenate([shard[key] for shard in shards]))
    results["tokens"] = torch.cat([
        draw_frames.encoded(codec, part.float() / 255).half()
        for some in drawings for part in torch.from_numpy(some).flatten(0, -4).split(256)
    ])  # fmt: skip
    torch.save(results, file)
    print(f"encoded in {time.time() - began:.0f} s", flush=True)
    return results


class Batch(NamedTuple):
    """vectors (n, dim) unit rows; scenes int (n, 5) as in draw_data; rows (n,) of a drawing each in tokens."""

    vectors: Tensor
    scenes: Tensor
    rows: Tensor


class Batches:
    """`sizes`: how many of each kind, of the keys of NOISE."""

    def __init__(self, data: dict[str, Tensor], sizes: dict[str, int], seed: int) -> None:
        self.data, self.sizes = data, sizes
        self.generator = torch.Generator().manual_seed(seed)
        named = data["named"]
        self.count = len(data["texts"])
        names = F.normalize(data["texts"].float().mean(1), dim=1)
        self.alike = (names @ names.T).topk(ALIKE + 1, dim=1).indices[:, 1:]
        self.order = named.argsort(stable=True)
        self.counts = torch.bincount(named, minlength=self.count)
        self.starts = self.counts.cumsum(0) - self.counts
        self.subjects = data["scene things"]
        self.plain_drawings = len(data["tokens"]) - len(self.subjects)
        bare = (self.subjects[:, [1, 2, 4]] == captions.NONE).all(1)
        self.pairs = ((self.subjects[:, 3] >= 0) & bare).nonzero()[:, 0]

    def draw(self) -> Batch:
        """All kinds, one after the other."""
        parts = []
        for kind, most in NOISE.items():
            vectors, scenes, rows = getattr(self, kind)(self.sizes[kind])
            vectors = F.normalize(vectors.float(), dim=1)
            parts.append(Batch(F.normalize(self.noised(vectors, most), dim=1), scenes, rows))
        return Batch(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def plain(self, count: int) -> Batch:
        """Single objects."""
        concepts = self.below(self.count, count)
        artists = self.below(2, count)
        vectors, again = self.of(concepts, artists), self.of(concepts, artists)
        weight = self.uniform(count) * (self.uniform(count) < MIXED)
        return self._alone(vectors + weight[:, None] * (again - vectors), concepts)

    def between(self, count: int) -> Batch:
        """Single objects interpolated towards similar ones, at most half-way."""
        concepts, artists = self.below(self.count, count), self.below(2, count)
        others = self.alike[concepts, self.below(ALIKE, count)]
        vectors, others = self.of(concepts, artists), self.of(others, artists)
        return self._alone(vectors + self.uniform(count)[:, None] / 2 * (others - vectors), concepts)

    def keywords(self, count: int) -> Batch:
        """Single objects by keywords that few others share."""
        rows = self.below(len(self.data["keywords"]), count)
        return self._alone(self.data["keywords"][rows].float(), self.data["keywords of"][rows])

    def _alone(self, vectors: Tensor, concepts: Tensor) -> Batch:
        scenes = torch.full((len(concepts), 5), captions.NONE)
        scenes[:, 0] = concepts
        rows = self.below(self.plain_drawings // self.count, len(concepts)) * self.count + concepts
        return Batch(vectors, scenes, rows)

    def of(self, concepts: Tensor, artists: Tensor) -> Tensor:
        """A vector of each concept, of a random modality; float32."""
        count = len(concepts)
        texts, seen, heard = (self.data[key] for key in MODALITIES)
        shares = torch.tensor(list(MODALITIES.values()))
        kinds = torch.multinomial(shares, count, True, generator=self.generator)
        counts = self.counts[concepts]
        kinds[(kinds == 2) & (counts == 0)] = 0
        clips = self.order[
            (self.starts[concepts] + (self.uniform(count) * counts).long()).clamp(max=len(self.order) - 1)
        ]
        rows = torch.stack([
            texts[concepts, self.below(texts.shape[1], count)],
            seen[artists, self.below(seen.shape[1], count), concepts], heard[clips],
        ])  # fmt: skip
        return rows[kinds, torch.arange(count)].float()

    def scenes(self, count: int) -> Batch:
        """What was drawn with captions and a busy picture."""
        rows = self.below(len(self.subjects), count)
        texts = self.data["scene texts"][rows, self.below(2, count)]
        said = self.uniform(count)[:, None] < READ
        return self._drawn(torch.where(said, texts, self.data["scene seen"][rows]), rows)

    def sums(self, count: int) -> Batch:
        """Two objects by the sum of their vectors."""
        rows = self.pairs[self.below(len(self.pairs), count)]
        artists = (rows // draw_data.SHARD) % 2
        lean = 0.5 + LEANING * (2 * self.uniform(count) - 1)[:, None]
        first, second = (self.of(self.subjects[rows, column], artists) for column in (0, 3))
        return self._drawn(F.normalize(lean * first + (1 - lean) * second, dim=1), rows)

    def _drawn(self, vectors: Tensor, rows: Tensor) -> Batch:
        return Batch(vectors, self.subjects[rows].long(), self.plain_drawings + rows)

    def noised(self, vectors: Tensor, most: float) -> Tensor:
        """With normal noise, of a strength that is drawn too."""
        noise = torch.randn(vectors.shape, generator=self.generator) / vectors.shape[1] ** 0.5
        return vectors + most * self.uniform(len(vectors))[:, None].square() * noise

    def uniform(self, count: int) -> Tensor:
        return torch.rand(count, generator=self.generator)

    def below(self, most: int, count: int) -> Tensor:
        return torch.randint(most, (count,), generator=self.generator)
