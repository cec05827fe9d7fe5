"""`python -m recipes.align.captioner --work …`: the starter's captioner learns to name both of two things.

Preferences are scenes in words and as images: the exact caption, against what the captioner writes if that is wrong,
else against one of the two things. Single things in words and as images are replayed. The figures are those of the
starter's model card, on backgrounds, voices, an artist and combinations that no training has seen. The shipped weights
are not touched.

Needs world.jsonl, glyphs.npz, openmoji.npz and speech_judge.npz of `recipes/starter` in the work folder.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import multimodal as mm
from multimodal.adapt.alignment.api import align
from recipes.starter.captioner import captions, judge_captions
from recipes.starter.captioner.caption_data import describe
from recipes.starter.data import backgrounds, compositor
from recipes.starter.figures import evaluate, judges

ASSETS = Path(__file__).parents[2] / "assets" / "starter"
SHOWN = ("clean", "ground", "both", "untouched ground")
SEEN = {**backgrounds.TRAINED, "white": backgrounds.white}


class World:
    """The towers as they ship, and vectors of new scenes."""

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self.rng = work, random.Random(seed)
        self.model = evaluate.Shipped(ASSETS, work)
        self.names, self.known = self.model.names, set(self.model.names)
        self.held = captions.held_out(len(self.names))
        drawings = np.load(work / "glyphs.npz")
        self.compositor = judges.make_compositor(
            np.stack([drawings["noto"], drawings["twemoji"]]), SEEN, seed
        )

    def vectors(self, scenes: Sequence[captions.Scene]) -> tuple[Tensor, Tensor]:
        """(of their words, of their images), unit rows."""
        texts = self.model.encode([captions.caption(scene, self.names, self.rng) for scene in scenes])
        rows = []
        for start in range(0, len(scenes), 256):
            drawn = self.compositor.draw(scenes[start : start + 256], judges.SIDE, jitter=0.6)
            rows.append(judges.see(self.model.image, compositor.as_bytes(drawn)))
        return texts, torch.cat(rows)

    def scenes(self, n: int, kind: str) -> list[captions.Scene]:
        """n training scenes: "plain" (one thing), or "rich" (two things, or a colour)."""
        found: list[captions.Scene] = []
        while len(found) < n:
            plain = 1.0 if kind == "plain" else 0.0
            found.append(captions.random_scene(self.rng, len(self.names), self.held, plain=plain))
        return found

    def caption(self, scene: captions.Scene) -> str:
        """The exact caption."""
        return describe(scene, self.names, self.known)


def preferences(world: World, caption: Any, n: int) -> list[tuple[Any, str, str]]:
    """(vector, exact caption, what is worse) of rich scenes."""
    scenes = world.scenes(n, "rich")
    found = []
    for rows in world.vectors(scenes):
        vectors = rows.numpy()
        for scene, vector, written in zip(scenes, vectors, caption(vectors, batch_size=256), strict=True):
            right = world.caption(scene)
            wrong = written.text if written.text != right else world.names[scene[0].concept]
            if wrong.strip() and wrong != right:
                found.append((vector, right, wrong))
    return found


def replay(world: World, n: int) -> list[tuple[Any, str]]:
    """(vector, caption) of single things."""
    scenes = world.scenes(n, "plain")
    said = [world.caption(scene) for scene in scenes]
    return [(v, text) for rows in world.vectors(scenes) for v, text in zip(rows.numpy(), said, strict=True)]


def figures(backend: Any, world: World, every: int) -> dict[str, float]:
    """Percent of exact captions, on what no training has seen. every: judges one of so many single things."""
    model, work = world.model, world.work
    result = {}
    for kind in SHOWN:
        vectors = judges.see(model.image, judges.images(work, kind)[::every])
        result[kind] = judge_captions.share(backend, vectors, model.names[::every])
    rows = judges.drawn_by_openmoji(work)[::every]
    vectors = judges.see(model.image, judges.images(work, "openmoji")[rows])
    result["OpenMoji"] = judge_captions.share(backend, vectors, [model.names[row] for row in rows])
    voices = set(np.load(work / "speech_judge.npz")["speakers"].tolist())
    for title, speakers in evaluate.SPEAKERS.items():
        heard = [judges.hear(model.audio, work, speaker, every) for speaker in speakers if speaker in voices]
        if heard:
            right = [model.names[row] for _, own in heard for row in own]
            vectors = torch.cat([vectors for vectors, _ in heard])
            result[f"speech, {title}"] = judge_captions.share(backend, vectors, right)
    result |= judge_captions.combinations(backend, model, work)
    pairs = [(captions.Subject(a), captions.Subject(b)) for a, b in world.held.pairs]
    seen = judges.see(model.image, judges.scenes(work, list(pairs), 17))
    texts = [output.text for output in backend.caption_vectors(seen, mm_options())]
    result["picture, two said"] = round(100 * sum(" and " in text for text in texts) / len(texts), 1)
    return result


def mm_options() -> Any:
    """The options of a caption by default."""
    from multimodal.pipelines.captioning.options import CaptioningOptions

    return CaptioningOptions()


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.align.captioner", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="the work folder of recipes/starter")
    parser.add_argument("--output", type=Path, help="where the aligned decoder goes")
    parser.add_argument(
        "--methods", default="sft,dpo,plain", help="of sft, dpo, plain (DPO without likelihood), best-of-n"
    )
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--scenes", type=int, default=3000, help="of each of words and images, for each of both parts"
    )
    parser.add_argument("--every", type=int, default=1, help="judge one of so many single things")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    world = World(args.work, args.seed)
    caption = mm.pipeline("captioning", model="starter", device="cpu")
    wanted, kept = preferences(world, caption, args.scenes), replay(world, args.scenes)
    print(f"{len(wanted)} preferences, {len(kept)} replayed", flush=True)
    print(json.dumps({"before": figures(caption.backend, world, args.every)}), flush=True)
    for method in args.methods.split(","):
        options: dict[str, Any] = {"method": method, "replay": kept}
        if method == "plain":
            options = {"method": "dpo", "likelihood": 0.0, "interpolate": 1.0}
        elif method == "best-of-n":
            options["judge"] = caption.backend.space
        aligned = align(
            caption, wanted, steps=args.steps, batch_size=96, held_out=0.05, seed=args.seed, **options
        )
        print(f"{method}: {aligned.report}", flush=True)
        print(json.dumps({method: figures(aligned.pipeline.backend, world, args.every)}), flush=True)
        if args.output is not None:
            aligned.save(args.output / method)


if __name__ == "__main__":
    main()
