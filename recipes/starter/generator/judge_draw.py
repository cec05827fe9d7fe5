"""Evaluates the generator with the starter's image tower and with a judge of pixels.

The tower's vectors condition the generator, so it is not independent; `pixel_judge` is. Each figure is reported beside
the same judge's figure on the artists' own images in the same layout, which is the upper bound.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipes.starter.captioner import captions
from recipes.starter.data import compositor
from recipes.starter.figures import evaluate, judges
from recipes.starter.generator import draw_scenes
from recipes.starter.generator.pixel_judge import PixelJudge, apart

CONCEPTS = 400
PAIRS = 100
AT_ONCE = 50
SEEDS = 1_000  # the seed of the first drawing of each figure
Figures = dict[str, float]


@dataclass(frozen=True)
class Judge:
    """pipe: the generator. model: the towers. pixels: the other judge."""

    pipe: Any
    model: evaluate.Shipped
    pixels: PixelJudge
    work: Path

    @classmethod
    def open(cls, pipe: Any, space: Path, work: Path) -> Judge:
        drawings = compositor.kept_at(draw_scenes.artist(work), draw_scenes.KEPT_AT)
        return cls(pipe, evaluate.Shipped(space, work), PixelJudge(drawings), work)

    def draw(self, vectors: Tensor, first: int = SEEDS, **how: Any) -> Tensor:
        """(n, 3, 64, 64) in [0, 1], with seeds that count on."""
        results = []
        for start in range(0, len(vectors), AT_ONCE):
            part = vectors[start : start + AT_ONCE]
            dice = [torch.Generator().manual_seed(first + start + place) for place in range(len(part))]
            results.append(self.pipe(part, dice, **how))
        return torch.cat(results)

    def see(self, images: Tensor) -> Tensor:
        """(n, dim) of pictures in [0, 1]."""
        return judges.see(self.model.image, compositor.as_bytes(images))

    def real(self, scenes: list[captions.Scene], seed: int = 3) -> Tensor:
        """The artists' own drawings of the scenes, laid out as those learned from."""
        return draw_scenes.easel(draw_scenes.artist(self.work), seed).draw(scenes)


def share(right: list[bool]) -> float:
    """Percent."""
    return round(100 * sum(right) / len(right), 1)


def named(judge: Judge, images: Tensor, concepts: list[int]) -> Figures:
    """Whether each image shows the expected object."""
    scores = judge.see(images) @ judge.model.name_vectors.T
    own = torch.tensor(concepts)
    by_pixels = judge.pixels.single(images, coloured=True).argmax(1)
    first = scores.topk(5).indices.tolist()
    return {
        "tower R@1": share((scores.argmax(1) == own).tolist()),
        "tower R@5": share([row in results for row, results in zip(concepts, first, strict=True)]),
        "pixels R@1": share((by_pixels == own).tolist()),
    }  # fmt: skip


def single(judge: Judge, concepts: list[int], **how: Any) -> dict[str, Figures]:
    """Single objects from vectors of each kind."""
    model, work = judge.model, judge.work
    sources: dict[str, Callable[[], Tensor]] = {"text": lambda: model.name_vectors[concepts]}
    for title, speaker in (("unseen voices", "espeak0"), ("flite kal16", "kal16")):
        sources[f"speech, {title}"] = lambda speaker=speaker: spoken(judge, speaker, concepts)  # type: ignore[misc]
    for kind in ("clean", "trained", "ground"):
        sources[f"picture, {kind}"] = lambda kind=kind: judges.see(  # type: ignore[misc]
            model.image, judges.images(work, kind)[concepts]
        )
    results = {
        title: named(judge, judge.draw(source(), **how), concepts) for title, source in sources.items()
    }
    results["the artists' own"] = named(
        judge, judge.real([(captions.Subject(row),) for row in concepts]), concepts
    )
    return results


def spoken(judge: Judge, speaker: str, concepts: list[int]) -> Tensor:
    """The vectors of a speaker's names of the concepts; a concept that is not spoken uses that of its neighbour."""
    vectors, own = judges.hear(judge.model.audio, judge.work, speaker)
    rows = {concept: row for row, concept in enumerate(own)}
    missing = [concept for concept in concepts if concept not in rows]
    if missing:
        raise ValueError(
            f"{speaker} does not say {len(missing)} of the concepts, such as number {missing[0]}"
        )
    return vectors[[rows[concept] for concept in concepts]]


def coloured(judge: Judge, scenes: list[captions.Scene], images: Tensor) -> Figures:
    """Right thing and right hue, of pictures of one coloured thing each.

    By the tower: of all things in all colours and as they are, the nearest text's. By pixels: the thing by its outline
    and lights, the hue by its mean colour.
    """
    model, names = judge.model, judge.model.names
    dyes = [*captions.COLOUR_NAMES, ""]
    texts = model.encode([captions.with_article(f"{dye} {name}".strip()) for name in names for dye in dyes])
    best = (judge.see(images) @ texts.T).argmax(1)
    subjects, hues = best // len(dyes), best % len(dyes)
    own = [(scene[0].concept, scene[0].colour) for scene in scenes]
    by_outline = judge.pixels.single(images, coloured=False).argmax(1).tolist()
    by_hue = judge.pixels.hues(images, [concept for concept, _ in own])
    pairs = list(zip(subjects.tolist(), hues.tolist(), strict=True))
    return {
        "tower, thing": share([results[0] == wanted[0] for results, wanted in zip(pairs, own, strict=True)]),
        "tower, hue": share([results[1] == wanted[1] for results, wanted in zip(pairs, own, strict=True)]),
        "tower, both": share([results == wanted for results, wanted in zip(pairs, own, strict=True)]),
        "pixels, thing": share([results == wanted[0] for results, wanted in zip(by_outline, own, strict=True)]),
        "pixels, hue": share([results == wanted[1] for results, wanted in zip(by_hue, own, strict=True)]),
        "pixels, both": share(
            [(subject, hue) == wanted for subject, hue, wanted in zip(by_outline, by_hue, own, strict=True)]
        ),
        "tower's thing, pixels' hue": share(
            [pair[0] == wanted[0] and hue == wanted[1] for pair, hue, wanted in zip(pairs, by_hue, own, strict=True)]
        ),
    }  # fmt: skip


def two(judge: Judge, scenes: list[captions.Scene], images: Tensor) -> Figures:
    """Whether both of two objects are recognised.

    By the tower, as a whole: the picture is nearest to the text of these two among the texts of one of them and any of
    300 others. By the tower and by pixels, apart: each of the two clouds of what is drawn is one of them.
    """
    model, names = judge.model, judge.model.names
    vectors = judge.see(images)
    own = [(scene[0].concept, scene[1].concept) for scene in scenes]
    whole = []
    for vector, (first, second) in zip(vectors, own, strict=True):
        right = (
            model.encode([pair_caption(names, first, second), pair_caption(names, second, first)]) @ vector
        )
        others = [other for other in range(len(names)) if other not in (first, second)]
        wrong = model.encode(
            [
                pair_caption(names, kept, other)
                for kept in (first, second)
                for other in others[:: max(1, len(others) // 300)]
            ]
        )
        whole.append(bool(right.max() > (wrong @ vector).max()))
    clouds = apart(images)
    looks = {
        "tower": tuple(judge.see(part) @ model.name_vectors.T for part in clouds),
        "pixels": tuple(judge.pixels.single(part, coloured=True) for part in clouds),
    }
    return {
        "tower, as a whole": share(whole),
        **{
            f"{look}, both in the first {k}": share(recognised(parts, own, k))
            for look, parts in looks.items()
            for k in (1, 5)
        },
    }


def pair_caption(names: list[str], first: int, second: int) -> str:
    """'a cat and a pizza'."""
    return f"{captions.with_article(names[first])} and {captions.with_article(names[second])}"


def recognised(parts: tuple[Tensor, ...], own: list[tuple[int, int]], k: int) -> list[bool]:
    """Whether the two are the two things, in either order, each among the first k. parts: (n, concepts) of each."""
    ranked = [part.topk(k).indices.tolist() for part in parts]
    return [
        (a in left and b in right) or (b in left and a in right)
        for left, right, (a, b) in zip(*ranked, own, strict=True)
    ]


def combined(judge: Judge, **how: Any) -> dict[str, Figures]:
    """Combinations excluded from training, prompted by text."""
    model = judge.model
    held = captions.held_out(len(model.names))
    dyed: list[captions.Scene] = [(captions.Subject(subject, colour),) for subject, colour in held.coloured]
    pairs: list[captions.Scene] = [(captions.Subject(a), captions.Subject(b)) for a, b in held.pairs[:PAIRS]]
    said = [
        captions.with_article(f"{captions.COLOUR_NAMES[t.colour]} {model.names[t.concept]}") for (t,) in dyed
    ]
    both = [pair_caption(model.names, a.concept, b.concept) for a, b in pairs]
    return {
        "colour + thing": coloured(judge, dyed, judge.draw(model.encode(said), **how)),
        "colour + thing, the artists' own": coloured(judge, dyed, judge.real(dyed)),
        "two things": two(judge, pairs, judge.draw(model.encode(both), **how)),
        "two things, the artists' own": two(judge, pairs, judge.real(pairs)),
    }


def variety(judge: Judge, concepts: list[int], **how: Any) -> Figures:
    """Mean absolute difference of pixels in [0, 1] between two seeds, and between two objects for comparison."""
    vectors = judge.model.name_vectors[concepts]
    first, second = judge.draw(vectors, 1, **how), judge.draw(vectors, 50_001, **how)
    return {
        "two seeds": round(float((first - second).abs().mean()), 4),
        "two things": round(float((first - first.roll(1, 0)).abs().mean()), 4),
    }


def seconds(judge: Judge) -> float:
    """The median time of one drawing from a vector, on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spent = []
    for row in range(9):
        began = time.perf_counter()
        judge.draw(judge.model.name_vectors[row : row + 1])
        spent.append(time.perf_counter() - began)
    torch.set_num_threads(threads)
    return round(sorted(spent)[4], 3)


def everything(judge: Judge) -> dict[str, Any]:
    """All figures of the card."""
    concepts = sorted(random.Random(17).sample(range(len(judge.model.names)), CONCEPTS))
    parts = {name: getattr(judge.pipe, name) for name in ("prior", "transformer", "vae")}
    return {
        "re-encoded, percent": single(judge, concepts), "combinations, percent": combined(judge),
        "mean difference": variety(judge, concepts[:100]), "seconds a drawing": seconds(judge),
        "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
    }  # fmt: skip
