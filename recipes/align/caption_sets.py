"""Preferences and replay for the alignment of the starter's captioner, as vectors of the shipped towers.

Preferences teach to tell two things from one: of scenes of two things, or of one in a stated colour, as images and in
words, the exact caption against what the captioner writes; of single things on backgrounds, the name against two names.

The replay has four kinds, whose held-out parts limit how much of the change is kept: drawings on white, drawings on the
backgrounds of the image tower's training (with lines and distortions), spoken clips by the voices of the speech
tower's training, and words. A third of each is moved by noise as in the captioner's own training, which stands for
artists and voices that no training has.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.encoders.starter.parameters import SIDE
from recipes.starter.captioner import caption_data, captions
from recipes.starter.captioner.train_captions import NOISE
from recipes.starter.data import backgrounds, compositor
from recipes.starter.figures import evaluate, judges
from recipes.starter.towers import train_photographs

Captioned = tuple[Tensor, list[str]]  # unit rows (n, dim), and the caption of each
SEEN = {**backgrounds.TRAINED, "white": backgrounds.white}
GROUNDS = (1_500, 1_500)  # backgrounds of either kind of the image tower's training
REDRAWN = 2
NOISY = 1 / 3  # of the replay


class CaptionSets:
    """Draws scenes and encodes them with the towers as they ship.

    Args:
        model: The towers.
        work: The work folder of recipes/starter.
        seed: Of all random choices.
    """

    def __init__(self, model: evaluate.Shipped, work: Path, seed: int) -> None:
        self.model, self.work, self.seed = model, work, seed
        self.rng, self.generator = random.Random(seed), torch.Generator().manual_seed(seed)
        self.names, self.known = model.names, set(model.names)
        self.held = captions.held_out(len(self.names))
        drawings = np.load(work / "glyphs.npz")
        self.drawings = np.stack([drawings["noto"], drawings["twemoji"]])

    def preferences(self, caption: Any, n: int) -> list[tuple[np.ndarray, str, str]]:
        """(vector, exact caption, worse caption) of 4 n scenes, about a quarter of each kind.

        Args:
            caption: The captioning pipeline, which writes the worse captions.
            n: Scenes of each of: in words, as images on quiet backgrounds and on cluttered ones, of single things.
        """
        scenes = self._rich(n)
        words = self.model.encode([captions.caption(scene, self.names, self.rng) for scene in scenes])
        kinds: list[Captioned] = [(words, self.captions(scenes))]
        scenes = self._rich(n)
        kinds.append((self._see(self._compositor(SEEN), scenes, jitter=0.6), self.captions(scenes)))
        kinds.append(self._cluttered(round(0.8 * n), round(0.2 * n)))
        singles, names = self._cluttered(0, n)
        result = []
        for vectors, right in kinds:
            written = caption(self._noisy(vectors, NOISE[1]).numpy(), batch_size=256)
            for vector, exact, output in zip(vectors.numpy(), right, written, strict=True):
                wrong = output.text if output.text != exact else _one_of(exact)
                if wrong.strip() and wrong != exact:
                    result.append((vector, exact, wrong))
        singles = self._noisy(singles, NOISE[0])
        nearest = (singles @ self.model.name_vectors.T).topk(2, dim=1).indices.tolist()
        for vector, name, rows in zip(singles.numpy(), names, nearest, strict=True):
            other = next(self.names[row] for row in rows if self.names[row] != name)
            if name in self.known:
                result.append((vector, name, caption_data.joined([name, other], self.known)))
        return result

    def replay(self, n: int) -> dict[str, list[tuple[np.ndarray, str]]]:
        """(vector, caption) of about n scenes of each kind."""
        white: list[captions.Scene] = [(captions.Subject(row),) for row in range(len(self.names))]
        said = self._plain_words(n // 2)
        scenes = [captions.random_scene(self.rng, len(self.names), self.held) for _ in range(n // 2)]
        texts = [text for text, _ in said] + [captions.caption(s, self.names, self.rng) for s in scenes]
        kinds: dict[str, Captioned] = {
            "white": (self._see(self._compositor(judges.WHITE), white, jitter=0.3), self.captions(white)),
            "backgrounds": self._cluttered(0, n),
            "speech": caption_data.Gatherer(self.model, self.work, self.seed).speech(n),
            "words": (self.model.encode(texts), [name for _, name in said] + self.captions(scenes)),
        }
        result = {}
        for kind, (vectors, right) in kinds.items():
            noisy = torch.rand(len(vectors), generator=self.generator) < NOISY
            plain = torch.tensor([text in self.known for text in right])
            for rows, most in ((noisy & plain, NOISE[0]), (noisy & ~plain, NOISE[1])):
                vectors[rows] = self._noisy(vectors[rows], most)
            result[kind] = list(zip(vectors.numpy(), right, strict=True))
        return result

    def captions(self, scenes: Sequence[captions.Scene]) -> list[str]:
        """The exact caption of each scene."""
        return [caption_data.describe(scene, self.names, self.known) for scene in scenes]

    def _rich(self, n: int) -> list[captions.Scene]:
        """Training scenes, two thirds of them of two things."""
        scenes: list[captions.Scene] = []
        while len(scenes) < n:
            scene = captions.random_scene(self.rng, len(self.names), self.held)
            if len(scene) == 2 or self.rng.random() < 0.4:
                scenes.append(scene)
        return scenes

    def _plain_words(self, n: int) -> list[tuple[str, str]]:
        forms = list(dict.fromkeys(captions.PLAIN_FORMS))
        chosen = [(self.rng.choice(forms), self.rng.choice(self.names)) for _ in range(n)]
        return [(form.format(x=name, a_x=captions.with_article(name)), name) for form, name in chosen]

    def _compositor(self, makers: dict[str, backgrounds.Maker]) -> compositor.Compositor:
        return judges.make_compositor(self.drawings, makers, self.seed)

    def _see(
        self, source: compositor.Compositor, scenes: Sequence[captions.Scene], *, jitter: float
    ) -> Tensor:
        rows = []
        for start in range(0, len(scenes), 256):
            drawn = source.draw(list(scenes[start : start + 256]), SIDE, jitter=jitter)
            rows.append(judges.see(self.model.image, compositor.as_bytes(drawn)))
        return torch.cat(rows)

    def _cluttered(self, rich: int, plain: int) -> Captioned:
        """Images such as the image tower was trained on: so many of scenes, and of single things."""
        if not hasattr(self, "scenes"):
            self.scenes = train_photographs.Scenes(
                self.work, self.names, self.seed, grounds=GROUNDS, redrawn=REDRAWN
            )
        n_batches = max(1, -(-(rich + plain) // 256))
        counts = (plain // (2 * n_batches), max(1, rich // (2 * n_batches)), 0)  # no batch is without a scene
        vectors, shown = [], []
        for _ in range(n_batches):
            drawn = self.scenes.batch(counts, counts)
            vectors.append(judges.see(self.model.image, drawn.images))
            shown += drawn.scenes
        return torch.cat(vectors), self.captions(shown)

    def _noisy(self, vectors: Tensor, most: float) -> Tensor:
        noise = torch.randn(vectors.shape, generator=self.generator) / vectors.shape[1] ** 0.5
        share = torch.rand(len(vectors), 1, generator=self.generator)
        return F.normalize(vectors + most * share * noise, dim=-1)


def _one_of(caption: str) -> str:
    """'a dog and a pizza' -> 'a dog'; 'a blue strawberry' -> 'strawberry'; else the caption."""
    first, joint, _ = caption.partition(" and ")
    return first if joint else caption.rpartition(" ")[2]
