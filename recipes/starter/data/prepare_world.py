"""Step 1: the concepts and their images -> world.jsonl, glyphs.npz, openmoji.npz (evaluation only)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from recipes.starter.data import concepts
from recipes.starter.data import glyphs


def run(npm: Path, work: Path) -> None:
    """Write the world under `work`; `npm` is the node_modules folder with CLDR, Twemoji and OpenMoji."""
    work.mkdir(parents=True, exist_ok=True)
    noto = glyphs.noto_coverage([emoji for emoji, _ in concepts.fully_qualified()])
    world = concepts.concepts(npm, has_glyph=set(noto))
    concepts.save(world, work / "world.jsonl")
    emojis = [concept.emoji for concept in world]
    drawn, _ = glyphs.stack(emojis, dict(noto))
    twemoji = {emoji: glyphs.twemoji(emoji, npm / "@twemoji" / "svg") for emoji in emojis}
    second, has_second = glyphs.stack(emojis, twemoji)
    np.savez_compressed(work / "glyphs.npz", noto=drawn, twemoji=second, has_twemoji=has_second)
    openmoji = {emoji: glyphs.openmoji(emoji, npm / "openmoji" / "color" / "svg") for emoji in emojis}
    judge, has_judge = glyphs.stack(emojis, openmoji)
    np.savez_compressed(work / "openmoji.npz", openmoji=judge, has_openmoji=has_judge)
    print(f"{len(world)} concepts; Twemoji draws {has_second.sum()}, OpenMoji {has_judge.sum()}")
