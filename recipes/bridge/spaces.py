"""Training: an image-text space, a speech-text space, and one that is trained on everything at once to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import multimodal.encoders
from multimodal.core.encoder import Encoder
from multimodal.core.space import Head, Space
from multimodal.encoders._starter_features import Tokenizer, pad
from multimodal.encoders._starter_nets import MAX_TOKENS
from recipes.bridge import data, towers
from recipes.starter.train_speech import letters_loss
from recipes.starter.training import Training

FAMILY = str(Path(__file__).parent / "family")
LETTERS, TOGETHER = 0.5, 1.0  # weights
EASY_SHARE = 0.2  # of the time, from clips as recorded to all variations


@dataclass(frozen=True)
class Plan:
    """One space: which modalities beside text, how many numbers, which seed, how long."""

    name: str
    images: bool
    speech: bool
    dim: int
    seed: int
    minutes: float
    batch: int = 256


def family() -> object:
    """The module `multimodal.encoders.small`, found as if it lay in encoders/."""
    import importlib

    if FAMILY not in multimodal.encoders.__path__:
        multimodal.encoders.__path__.append(FAMILY)
    return importlib.import_module("multimodal.encoders.small")


class Room:
    """The towers of one plan, and the losses of one step."""

    def __init__(self, plan: Plan, work: Path) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.vocabulary = plan, data.vocabulary_of(work)
        self.tokenizer = Tokenizer(self.vocabulary)
        world = data.world_of(work)
        self.nets: dict[str, nn.Module] = {"text": towers.TextTower(len(self.vocabulary), plan.dim)}
        if plan.images:
            self.nets["image"] = towers.ImageTower(plan.dim).to(memory_format=torch.channels_last)
            self.pictures = data.Pictures(work, world, plan.seed)
        if plan.speech:
            self.nets["audio"] = towers.AudioTower(plan.dim)
            self.speech = data.Speech(work, plan.seed)

    def words(self, texts: list[str]) -> Tensor:
        return self.nets["text"](*pad([row[:MAX_TOKENS] for row in self.tokenizer(texts)]))

    def losses(self, scale: Tensor, ease: float) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        with torch.autocast("cpu", torch.bfloat16):
            if self.plan.images:
                pictures, told, shown = self.pictures.batch(self.plan.batch)
                seen = self.nets["image"](pictures.contiguous(memory_format=torch.channels_last))
                found["picture"] = contrast(seen, self.words(told), told, scale)
            if self.plan.speech:
                mels, lengths, said, named = self.speech.batch(self.plan.batch, ease)
                tower: towers.AudioTower = self.nets["audio"]  # type: ignore[assignment]
                states, lengths = tower.states(mels, lengths)
                heard = tower.pool(states, lengths)
                found["speech"] = contrast(heard, self.words(said), said, scale)
                letters = [
                    [1 + towers.ALPHABET.index(c) for c in text if c in towers.ALPHABET] for text in said
                ]
                found["letters"] = LETTERS * letters_loss(tower, states, lengths, letters)  # type: ignore[arg-type]
        if self.plan.images and self.plan.speech:
            found["together"] = TOGETHER * self.together(seen, shown, heard, named, scale)
        return found

    def together(
        self, seen: Tensor, shown: list[int], heard: Tensor, named: list[int], scale: Tensor
    ) -> Tensor:
        """Clips that name a thing find its picture: pairs, which only the joint training has."""
        place = {concept: row for row, concept in enumerate(shown) if concept >= 0}
        rows = [row for row, concept in enumerate(named) if concept in place]
        if not rows:
            return torch.zeros(())
        right = torch.tensor([place[named[row]] for row in rows])
        return F.cross_entropy(scale * heard[rows] @ seen.T, right)

    def space(self, scale: float) -> Space:
        """The towers as encoders."""
        small = family()
        kinds: dict[str, type[Encoder]] = {"image": small.SmallImage, "audio": small.SmallAudio}  # type: ignore[attr-defined]
        tensors = {name: net.state_dict() for name, net in self.nets.items()}
        text = small.SmallText(self.plan.dim, tensors["text"], self.vocabulary)  # type: ignore[attr-defined]
        others = [kinds[name](self.plan.dim, tensors[name]) for name in tensors if name != "text"]  # type: ignore[call-arg]
        return Space([text, *others], Head(scale), name=self.plan.name)


def contrast(rows: Tensor, texts: Tensor, told: list[str], scale: Tensor) -> Tensor:
    """InfoNCE both ways; things told by the same words are not each other's negatives."""
    logits = scale * rows.float() @ texts.float().T
    number = {text: place for place, text in enumerate(dict.fromkeys(told))}
    own = torch.tensor([number[text] for text in told])
    same = (own[:, None] == own[None]) & ~torch.eye(len(told), dtype=torch.bool)
    logits = logits.masked_fill(same, -torch.inf)
    right = torch.arange(len(told))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def train(plan: Plan, work: Path, runs: Path) -> Space:
    """Train for `plan.minutes` of wall time in all, or open what was trained; runs/<name> is a space folder."""
    family()
    folder = runs / plan.name
    if folder.exists():
        return Space.from_pretrained(folder, device="cpu")
    runs.mkdir(parents=True, exist_ok=True)
    room = Room(plan, work)
    media = nn.ModuleDict({name: net for name, net in room.nets.items() if name != "text"})
    training = Training(
        runs, plan.name, {"text": room.nets["text"], "media": media},
        minutes=plan.minutes, peak=3e-3, decay=0.02, warm_up=50, seed=plan.seed, muon="media",
    )  # fmt: skip
    while training.going_on():
        parts = room.losses(training.scale, max(0.0, 1 - training.done / EASY_SHARE))
        training.learn(torch.stack(list(parts.values())).sum())
        if training.step % 50 == 0:
            training.log(**parts)
        if training.step % 200 == 0:
            training.save()
    for net in room.nets.values():
        net.eval()
    space = room.space(training.scale.item())
    space.save_pretrained(folder)
    return space
