"""Step 5: distils the text tower from the teacher, and learns the concept points that images and speech are matched to.

Five losses, all in the teacher's space, centred and projected (PCA) to DIM dimensions:
- geometry: a phrase's vector has the direction of the teacher's;
- meaning: a phrase ranks the concepts as the teacher does (KL);
- labels: names, training keywords and their templates select their concepts, with several correct answers;
- scenes: "a small blue strawberry" selects that scene's point in the batch, where a scene's point is the sum of the
  points of its objects, its colour and its size;
- anchor: concept points stay near the teacher's.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.encoders.starter.networks import TextTower
from multimodal.encoders.starter.parameters import DIM, MAX_TOKENS, TOKEN_WIDTH, VOCABULARY
from multimodal.encoders.starter.preprocessing import pad_tokens
from multimodal.encoders.starter.tokenizer import Tokenizer
from recipes.starter.captioner import captions
from recipes.starter.data import phrases as supply
from recipes.starter.data.concepts import Concept, read
from recipes.starter.towers.training import Training

WARM = 0.06  # temperature of the teacher's and the student's rankings
COLOUR_WEIGHT, SIZE_WEIGHT = 0.75, 0.45
WEIGHTS = {"geometry": 2.0, "meaning": 1.0, "labels": 0.5, "compose": 0.5, "near": 1.0}
SHARES = {
    "name": 0.06,
    "keyword": 0.1,
    "told": 0.04,
    "word": 0.34,
    "gloss": 0.26,
    "made up": 0.12,
    "scene": 0.08,
}


@dataclass
class Batch:
    """Rows of `Phrases`, and scenes with their captions' tokens."""

    rows: list[int]
    scenes: list[captions.Scene]
    told_tokens: list[list[int]]


@dataclass
class Turn:
    """The teacher's space brought to DIM axes: centred, rotated to its principal axes, unit rows."""

    mean: Tensor
    axes: Tensor  # (384, DIM)

    def __call__(self, vectors: Tensor) -> Tensor:
        return F.normalize((vectors.float() - self.mean) @ self.axes, dim=-1)


class Targets(nn.Module):
    """Points of the space that are learned beside the towers: one a concept, one a colour, one a size."""

    def __init__(self, concepts: Tensor) -> None:
        super().__init__()
        self.concepts = nn.Parameter(concepts.clone())
        self.colours = nn.Parameter(0.06 * torch.randn(len(captions.COLOURS), DIM))
        self.sizes = nn.Parameter(0.06 * torch.randn(len(captions.SIZES), DIM))

    def points(self) -> Tensor:
        """Unit rows (concepts, DIM)."""
        return F.normalize(self.concepts, dim=-1)

    def scenes(self, scenes: list[captions.Scene]) -> Tensor:
        """Unit rows (scenes, DIM): the sums of objects, colours and sizes."""
        subjects = [(row, subject) for row, scene in enumerate(scenes) for subject in scene]
        rows = torch.tensor([row for row, _ in subjects])
        parts = self.points()[[subject.concept for _, subject in subjects]]
        for table, weight, places in (
            (self.colours, COLOUR_WEIGHT, [subject.colour for _, subject in subjects]),
            (self.sizes, SIZE_WEIGHT, [subject.size for _, subject in subjects]),
        ):
            place = torch.tensor(places)
            said = (place >= 0).float()[:, None]
            parts = parts + weight * said * F.normalize(table, dim=-1)[place.clamp(min=0)]
        return F.normalize(torch.zeros(len(scenes), DIM).index_add(0, rows, parts), dim=-1)


def choose_vocabulary(phrases: dict[str, list[str]], folder: Path, file: Path) -> None:
    """The teacher's own word pieces, cut to the VOCABULARY that these phrases use most; all single characters stay."""
    whole = json.loads((folder / "tokenizer.json").read_text())
    pieces = list(whole["model"]["vocab"])
    from tokenizers import Tokenizer as Pieces

    teacher = Pieces.from_str(json.dumps(whole))
    teacher.no_padding()
    teacher.no_truncation()
    counts: dict[str, float] = {}
    for source, weight in (
        ("name", 50),
        ("keyword", 50),
        ("scene", 1),
        ("word", 2),
        ("gloss", 1),
        ("made up", 0.5),
    ):
        for results in teacher.encode_batch(phrases[source], add_special_tokens=False):
            for token in results.tokens:
                counts[token] = counts.get(token, 0) + weight
    single = [piece for piece in pieces if len(piece.removeprefix("##")) == 1 and piece.isascii()]
    ranked = sorted(counts, key=lambda token: -counts[token])
    kept = list(
        dict.fromkeys(["[UNK]", *single, *ranked, *(p for p in pieces if p.isascii() and p.isalpha())])
    )[:VOCABULARY]
    file.write_text(json.dumps(kept, ensure_ascii=False))


def principal(vectors: np.ndarray, axes: int) -> Turn:
    """PCA of rows."""
    sample = torch.from_numpy(vectors.astype(np.float32))
    mean = sample.mean(0)
    _, _, right = torch.linalg.svd(sample - mean, full_matrices=False)
    return Turn(mean, right[:axes].T.contiguous())


def concept_vectors(
    world: list[Concept], teacher: dict[str, np.ndarray], phrases: dict[str, list[str]], turn: Turn
) -> Tensor:
    """The teacher's point for each concept: the mean of its name, its training keywords and both together."""
    keyword = dict(
        zip(phrases["keyword"], torch.from_numpy(teacher["keyword"].astype(np.float32)), strict=True)
    )
    described = torch.from_numpy(teacher["told"].astype(np.float32))
    by_name: dict[str, list[Tensor]] = {}
    for phrase, vector in zip(phrases["told"], described, strict=True):
        by_name.setdefault(phrase.split(": ")[0], []).append(vector)
    names = torch.from_numpy(teacher["name"].astype(np.float32))
    rows = []
    for concept, own in zip(world, names, strict=True):
        words = [keyword[word] for word in concept.keywords if word in keyword]
        parts = [
            own,
            *(
                F.normalize(torch.stack(group).mean(0), dim=0)
                for group in (words, by_name.get(concept.name, []))
                if group
            ),
        ]
        rows.append(torch.stack(parts).mean(0))
    return turn(torch.stack(rows))


def start_from_teacher(tower: TextTower, vectors: np.ndarray, counts: np.ndarray, turn: Turn) -> None:
    """Token table = principal part of the teacher's vector for each lone piece, weighted down where frequent
    (after Arora et al. 2017), and the direct path that carries its mean back into the space."""
    points = turn(torch.from_numpy(vectors))
    share = torch.from_numpy(counts / counts.sum()).float()
    points = points * (1e-3 / (1e-3 + share))[:, None]
    _, _, right = torch.linalg.svd(points, full_matrices=False)
    basis = right[:TOKEN_WIDTH]
    with torch.no_grad():
        tower.tokens.weight.copy_(points @ basis.T)
        tower.direct.weight.copy_(basis.T)
        tower.direct.bias.zero_()


class Phrases:
    """Every training phrase tokenised once, with the teacher's turned vector and, where known, its concepts."""

    def __init__(self, world: list[Concept], phrases: dict[str, list[str]], teacher: dict[str, np.ndarray],
                 tokenizer: Tokenizer, turn: Turn) -> None:  # fmt: skip
        self.sources, self.texts, self.tokens, vectors = {}, [], [], []
        meanings: dict[str, list[int]] = {}
        for number, concept in enumerate(world):
            for phrase in (concept.name, *concept.keywords):
                meanings.setdefault(phrase, []).append(number)
        for source, results in phrases.items():
            self.sources[source] = range(len(self.texts), len(self.texts) + len(results))
            self.texts += results
            self.tokens += [row[:MAX_TOKENS] for row in tokenizer(results)]
            vectors.append(teacher[source])
        self.vectors = turn(torch.from_numpy(np.concatenate(vectors)))
        self.meanings = [meanings.get(text.split(": ")[0], []) for text in self.texts]

    def sample(self, count: int, rng: random.Random) -> list[int]:
        """Rows drawn by SHARES."""
        rows = []
        for source, share in SHARES.items():
            rows += rng.choices(self.sources[source], k=round(count * share))
        return rows


def encode_sorted(tower: TextTower, tokens: list[list[int]], chunks: int = 4) -> Tensor:
    """All rows through the tower, in chunks of like length so that little is padding."""
    order = sorted(range(len(tokens)), key=lambda row: len(tokens[row]))
    size = math.ceil(len(order) / chunks)
    with torch.autocast("cpu", torch.bfloat16):
        parts = [
            tower(*pad_tokens([tokens[row] for row in order[k : k + size]]))
            for k in range(0, len(order), size)
        ]
    return torch.cat(parts)[torch.argsort(torch.tensor(order))]


def label_loss(vectors: Tensor, points: Tensor, meanings: list[list[int]], scale: Tensor) -> Tensor:
    """Negative log of the total probability of all correct concepts."""
    logs = torch.log_softmax(scale * vectors @ points.T, dim=1)
    right = torch.full_like(logs, -torch.inf)
    for row, concepts in enumerate(meanings):
        right[row, concepts] = 0.0
    return -torch.logsumexp(logs + right, dim=1).mean()


def scene_loss(vectors: Tensor, targets: Tensor, scenes: list[captions.Scene], scale: Tensor) -> Tensor:
    """InfoNCE both ways; captions of the same scene are not each other's negatives."""
    logits = scale * vectors @ targets.T
    keys = [tuple(sorted((t.concept, t.colour, t.size) for t in scene)) for scene in scenes]
    same = torch.tensor([[a == b for b in keys] for a in keys]) & ~torch.eye(len(keys), dtype=torch.bool)
    logits = logits.masked_fill(same, -torch.inf)
    own = torch.arange(len(keys))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def scene_batch(
    rng: random.Random, count: int, names: list[str], held: captions.HeldOut
) -> tuple[list[captions.Scene], list[str]]:
    """Scenes in groups that share an object, so that colour and the other object matter."""
    scenes: list[captions.Scene] = []
    while len(scenes) < count:
        first = captions.random_scene(rng, len(names), held, plain=0.15)
        scenes.append(first)
        for _ in range(3):
            other = captions.random_scene(rng, len(names), held)
            kin = (captions.Subject(first[0].concept, other[0].colour, other[0].size), *other[1:])
            if captions.allowed(kin, held) and len({subject.concept for subject in kin}) == len(kin):
                scenes.append(kin)
    scenes = scenes[:count]
    return scenes, [captions.caption(scene, names, rng) for scene in scenes]


def losses(
    tower: TextTower, targets: Targets, data: Phrases, anchor: Tensor, batch: Batch, scale: Tensor
) -> dict[str, Tensor]:
    """The five losses of the module's docstring, by name."""
    vectors = encode_sorted(tower, [data.tokens[row] for row in batch.rows] + batch.told_tokens)
    phrase, scene = vectors[: len(batch.rows)], vectors[len(batch.rows) :]
    wanted, points = data.vectors[batch.rows], targets.points()
    goal = torch.softmax(wanted @ anchor.T / WARM, dim=1)
    ranks = torch.log_softmax(phrase @ points.T / WARM, dim=1)
    known = [place for place, row in enumerate(batch.rows) if data.meanings[row]]
    meanings = [data.meanings[batch.rows[place]] for place in known]
    return {
        "geometry": (1 - (phrase * wanted).sum(1)).mean(),
        "meaning": F.kl_div(ranks, goal, reduction="batchmean"),
        "labels": label_loss(phrase[known], points, meanings, scale),
        "compose": scene_loss(scene, targets.scenes(batch.scenes), batch.scenes, scale),
        "near": (1 - (points * anchor).sum(1)).mean(),
    }


def run(work: Path, *, minutes: float, batch: int = 1024, seed: int = 11) -> None:
    """Train for `minutes`; write text.pt (tower and targets) and vocabulary.json. Resumes."""
    torch.manual_seed(seed)
    world = read(work / "world.jsonl")
    phrases = json.loads((work / "phrases.json").read_text())
    teacher = dict(np.load(work / "teacher.npz"))
    if not (work / "vocabulary.json").exists():
        choose_vocabulary(phrases, supply.teacher_folder(), work / "vocabulary.json")
    pieces = json.loads((work / "vocabulary.json").read_text())
    tokenizer = Tokenizer(pieces)
    turn = principal(np.concatenate([teacher["name"], teacher["word"][:20_000], teacher["gloss"][::4]]), DIM)
    anchor = concept_vectors(world, teacher, phrases, turn)
    data = Phrases(world, phrases, teacher, tokenizer, turn)
    tower, targets = TextTower(), Targets(anchor)
    modules: dict[str, nn.Module] = {"tower": tower, "targets": targets}
    training = Training(
        work, "text", modules, minutes=minutes, peak=2e-3, decay=0.02, warm_up=60, seed=seed, first_scale=20.0
    )
    if training.step == 0:
        counts = (
            np.bincount(np.concatenate([np.array(row) for row in data.tokens]), minlength=len(pieces)) + 1.0
        )
        lone = supply.Teacher().encode([piece.removeprefix("##") for piece in pieces])
        start_from_teacher(tower, lone, counts, turn)
    rng = random.Random(training.seed)
    names, held = [concept.name for concept in world], captions.held_out(len(world))
    while training.going_on():
        scenes, descriptions = scene_batch(rng, batch // 4, names, held)
        drawn = Batch(data.sample(batch, rng), scenes, tokenizer(descriptions))
        parts = losses(tower, targets, data, anchor, drawn, training.scale)
        loss = sum(WEIGHTS[name] * part for name, part in parts.items())
        training.learn(loss)
        if training.step % 20 == 0:
            training.log(loss=loss, **parts)
        if training.step % 200 == 0:
            training.save()
    training.save()
    finished = {
        "tower": tower.state_dict(),
        "targets": targets.state_dict(),
        "points": targets.points().detach(),
    }
    torch.save(finished, work / "text.pt")
