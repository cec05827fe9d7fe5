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
from torch import Tensor

import multimodal as mm
from multimodal.auditing.checks.common import clip_item
from multimodal.core.space import Space
from recipes.starter.data.prepare_sounds import CONCEPTS
from recipes.starter.data.sounds import KINDS, sound
from recipes.starter.figures import evaluation_rows
from recipes.starter.figures.evaluate import Recall, recall, recall_of
from recipes.starter.figures.evaluate import each as each_own

ASSETS = Path(__file__).parents[3] / "assets" / "starter"
EACH, SEED = 20, 9
READ = 2  # sounds of each class that are transcribed


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
    vectors = torch.from_numpy(space.encode(list(clips)))
    sounds, lines = evaluation_rows.numbered("audio", clips, kinds), {}
    for title, texts in (
        ("name", classes),
        ("first description", [kind.descriptions[0] for kind in KINDS.values()]),
    ):
        rows = sounds + evaluation_rows.numbered("text", texts)
        result = mm.evaluate(space, rows, "retrieval", query="audio", gallery="text")
        lines[f"sound -> {title}"] = recall_of(result)
        queries = torch.from_numpy(space.encode(list(texts)))
        galleries = [recall(queries, part, each_own(len(texts))) for part in vectors.split(len(classes))]
        lines[f"{title} -> sound, one of each class"] = {
            key: round(float(np.mean([line[key] for line in galleries])), 1) for key in galleries[0]
        }
    by_name = torch.from_numpy(space.encode(classes))
    lines[f"sound -> name, beside those of {len(names)} concepts"] = among_all(
        vectors, by_name, torch.from_numpy(space.encode(list(names), batch_size=256)), names, kinds
    )
    transcribe = mm.pipeline("transcription", model=space)
    read = [not transcribe(clip).text for clip in clips[: READ * len(classes)]]
    return {
        "each": each,
        "recall": lines,
        "empty transcripts, percent": round(100 * float(np.mean(read))),
        **by_class((vectors @ by_name.T).argmax(1).tolist(), kinds, each),
    }


def by_class(taken: list[int], kinds: list[int], each: int) -> dict[str, object]:
    """Percent of the sounds of each class with its name first, and what the others are taken for."""
    classes, pairs = list(KINDS), Counter(zip(kinds, taken, strict=True))
    share = {name: round(100 * pairs[row, row] / each) for row, name in enumerate(classes)}
    confused = [
        {"sound": classes[kind], "taken for": classes[other], "percent": round(100 * count / each)}
        for (kind, other), count in pairs.most_common()
        if kind != other
    ]
    return {"by class": share, "confused": confused}


def among_all(
    vectors: Tensor, by_name: Tensor, concepts: Tensor, names: list[str], kinds: list[int]
) -> Recall:
    """Percent of sounds with their class, or a concept that makes it, among the nearest of all names."""
    right = [
        {row, *(len(KINDS) + names.index(concept) for concept in CONCEPTS.get(name, ()))}
        for row, name in enumerate(KINDS)
    ]
    order = (vectors @ torch.cat([by_name, concepts]).T).topk(10, dim=1).indices.tolist()
    return {
        f"R@{k}": round(
            100
            * sum(bool(right[kind] & set(row[:k])) for kind, row in zip(kinds, order, strict=True))
            / len(kinds),
            1,
        )
        for k in (1, 5, 10)
    }


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
