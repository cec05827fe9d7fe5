"""How sounds that are not speech are found: `python -m recipes.starter.figures.heard_sounds`.

Sounds of the fifty classes with parameters that training never draws, other ones than those that chose the weights.
The galleries are the names of the classes, or one sound of each class; and all names of the world beside those of the
classes, where the concept that makes a sound is right, too.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch

import multimodal as mm
from multimodal.auditing.checks.common import clip_item
from multimodal.core.space import Space
from recipes.starter.data.prepare_sounds import CONCEPTS
from recipes.starter.data.sounds import KINDS, sound
from recipes.starter.figures import evaluation_rows
from recipes.starter.figures.evaluate import Recall, recall_of

ASSETS = Path(__file__).parents[3] / "assets" / "starter"
EACH, SEED = 20, 9
MOST_CONFUSED = 12  # pairs that are listed


def drawn(each: int = EACH, seed: int = SEED) -> list[mm.Audio]:
    """`each` sounds of every class, class after class in turn."""
    return [
        clip_item(sound(name, np.random.default_rng((seed, row, take)), judging=True))
        for take in range(each)
        for row, name in enumerate(KINDS)
    ]


def figures(space: Space, names: list[str], each: int = EACH) -> dict[str, object]:
    """Recall with intervals, recall by class, and which classes are taken for which.

    names: those of the world.
    """
    clips, classes = drawn(each), list(KINDS)
    kinds = [row % len(classes) for row in range(len(clips))]
    sounds = evaluation_rows.numbered("audio", clips, kinds)
    lines: dict[str, Recall] = {}
    for title, texts in (
        ("name", classes),
        ("first description", [kind.descriptions[0] for kind in KINDS.values()]),
    ):
        rows = evaluation_rows.numbered("text", texts)
        lines[f"sound -> {title} of 50"] = recall_of(
            mm.evaluate(space, sounds + rows, "retrieval", query="audio", gallery="text")
        )
        galleries = [
            recall_of(
                mm.evaluate(
                    space,
                    sounds[first : first + len(classes)] + rows,
                    "retrieval",
                    query="text",
                    gallery="audio",
                )
            )
            for first in range(0, len(sounds), len(classes))
        ]
        mean = {key: float(np.mean([line[key] for line in galleries])) for key in ("R@1", "R@5", "R@10")}
        lines[f"{title} -> sound among one of each class"] = {
            key: round(value, 1) for key, value in mean.items()
        }
    vectors, by_name = space.encode(list(clips)), space.encode(classes)
    taken = (vectors @ by_name.T).argmax(1)
    share = {
        name: round(100 * float(np.mean([taken[k] == row for k in range(len(kinds)) if kinds[k] == row])))
        for row, name in enumerate(classes)
    }
    pairs = Counter((kind, int(other)) for kind, other in zip(kinds, taken, strict=True) if kind != other)
    confused = [
        {"sound": classes[kind], "taken for": classes[other], "percent": round(100 * count / each)}
        for (kind, other), count in pairs.most_common(MOST_CONFUSED)
    ]
    lines[f"sound -> name of 50 or of the {len(names)} concepts"] = among_all(
        vectors, by_name, space, names, kinds
    )
    return {"each": each, "recall": lines, "by class": share, "confused": confused}


def among_all(
    vectors: np.ndarray, by_name: np.ndarray, space: Space, names: list[str], kinds: list[int]
) -> Recall:
    """Percent of sounds with their class, or a concept that makes it, among the nearest of all names."""
    gallery = np.concatenate([by_name, space.encode(list(names), batch_size=256)])
    right = np.zeros((len(KINDS), len(gallery)), bool)
    for row, name in enumerate(KINDS):
        right[row, row] = True
        right[row, [len(KINDS) + names.index(concept) for concept in CONCEPTS.get(name, ())]] = True
    order = np.argsort(-(vectors @ gallery.T), axis=1)[:, :10]
    hits = np.take_along_axis(right[kinds], order, axis=1)
    return {f"R@{k}": round(100 * float(hits[:, :k].any(1).mean()), 1) for k in (1, 5, 10)}


def main() -> None:
    """Prints the figures as JSON, or writes them into figures.json of the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=ASSETS, help="the starter")
    parser.add_argument("--names", type=Path, required=True, help="world.jsonl")
    parser.add_argument("--write", action="store_true", help="into figures.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = [json.loads(line)["name"] for line in given.names.read_text().splitlines()]
    result = figures(Space.from_pretrained(given.folder), names)
    print(json.dumps(result, indent=1))
    if given.write:
        file = given.folder / "figures.json"
        content = json.loads(file.read_text()) | {"sounds": result}
        file.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
