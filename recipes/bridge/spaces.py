"""Trains an image-text space, a speech-text space, and a speech tower that matches the first, for comparison."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.core.encoder import Encoder
from multimodal.core.families import register_family
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Space
from multimodal.encoders.starter.parameters import MAX_TOKENS
from multimodal.encoders.starter.preprocessing import pad_tokens
from multimodal.encoders.starter.tokenizer import Tokenizer
from recipes.bridge import data, towers
from recipes.starter.towers.train_speech import letters_loss
from recipes.starter.towers.training import Training

FAMILY = "recipes.bridge.family.small"
LETTERS = 0.5  # weight
EASY_SHARE = 0.2  # of the time, from clips as recorded to all variations


@dataclass(frozen=True)
class Plan:
    """One space: pictures or speech beside text, how many numbers, which seed, how many steps.

    into: a finished space of the same size, whose text tower stays as it is and teaches, and whose modalities the new
    tower joins; None for a space that is trained from scratch.
    """

    name: str
    kind: str  # "image" or "audio"
    dim: int
    seed: int
    steps: int
    into: Space | None = None
    batch: int = 256


class Steps(Training):
    """Training for a number of steps, not of minutes: what comes out does not depend on what else the machine does."""

    def __init__(self, folder: Path, name: str, modules: dict[str, nn.Module], plan: Plan) -> None:
        self.steps = plan.steps
        super().__init__(
            folder, name, modules, minutes=1, peak=3e-3, decay=0.02, warm_up=50, seed=plan.seed, muon="media"
        )

    @property
    def done(self) -> float:
        return self.step / self.steps


def family() -> object:
    """The module of the recipe's encoder family, registered as `small`."""
    register_family("small", FAMILY)
    return importlib.import_module(FAMILY)


class Room:
    """The towers of one plan, and the losses of one step."""

    def __init__(self, plan: Plan, work: Path) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.vocabulary = plan, data.vocabulary_of(work)
        self.tokenizer = Tokenizer(self.vocabulary)
        self.text: nn.Module = (
            plan.into.encoders[Modality.TEXT].net  # type: ignore[attr-defined]
            if plan.into
            else towers.TextTower(len(self.vocabulary), plan.dim)
        )
        self.media: towers.ImageTower | towers.AudioTower
        if plan.kind == "image":
            self.media = towers.ImageTower(plan.dim).to(memory_format=torch.channels_last)
            self.images = data.Pictures(work, data.world_of(work), plan.seed)
        else:
            self.media = towers.AudioTower(plan.dim)
            self.speech = data.Speech(work, plan.seed)

    def words(self, texts: list[str]) -> Tensor:
        return self.text(*pad_tokens([row[:MAX_TOKENS] for row in self.tokenizer(texts)]))

    def losses(self, scale: Tensor, ease: float) -> dict[str, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            if isinstance(self.media, towers.ImageTower):
                images, descriptions = self.images.batch(self.plan.batch)
                seen = self.media(images.contiguous(memory_format=torch.channels_last))
                return {"picture": contrast(seen, self.words(descriptions), descriptions, scale)}
            mels, lengths, said = self.speech.batch(self.plan.batch, ease)
            states, lengths = self.media.states(mels, lengths)
            heard = self.media.pool(states, lengths)
            letters = [[1 + towers.ALPHABET.index(c) for c in text if c in towers.ALPHABET] for text in said]
            read = letters_loss(self.media, states, lengths, letters)  # type: ignore[arg-type]
            return {"speech": contrast(heard, self.words(said), said, scale), "letters": LETTERS * read}

    def space(self, scale: float) -> Space:
        """The towers as encoders."""
        small, tensors = family(), self.media.state_dict()
        kind = small.SmallImage if self.plan.kind == "image" else small.SmallAudio  # type: ignore[attr-defined]
        others: list[Encoder] = [] if self.plan.into is None else list(self.plan.into.encoders.values())
        if self.plan.into is None:
            others = [small.SmallText(self.plan.dim, self.text.state_dict(), self.vocabulary)]  # type: ignore[attr-defined]
        return Space([*others, kind(self.plan.dim, tensors)], LogitScale(scale), name=self.plan.name)


def contrast(rows: Tensor, texts: Tensor, descriptions: list[str], scale: Tensor) -> Tensor:
    """Symmetric InfoNCE; items with the same text are not negatives of each other."""
    logits = scale * rows.float() @ texts.float().T
    number = {text: place for place, text in enumerate(dict.fromkeys(descriptions))}
    own = torch.tensor([number[text] for text in descriptions])
    same = (own[:, None] == own[None]) & ~torch.eye(len(descriptions), dtype=torch.bool)
    logits = logits.masked_fill(same, -torch.inf)
    right = torch.arange(len(descriptions))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def train(plan: Plan, work: Path, runs: Path) -> Space:
    """Trains for `plan.steps` in total (interrupted runs resume), or opens a finished space, runs/<name>."""
    family()
    folder = runs / plan.name
    if folder.exists():
        return Space.from_pretrained(folder, device="cpu")
    runs.mkdir(parents=True, exist_ok=True)
    room = Room(plan, work)
    modules: dict[str, nn.Module] = ({} if plan.into else {"text": room.text}) | {"media": room.media}
    training = Steps(runs, plan.name, modules, plan)
    while training.going_on():
        parts = room.losses(training.scale, max(0.0, 1 - training.done / EASY_SHARE))
        training.learn(torch.stack(list(parts.values())).sum())
        if training.step % 50 == 0:
            training.log(**parts)
        if training.step % 100 == 0:
            training.save()
    for net in modules.values():
        net.eval()
    space = room.space(training.scale.item())
    space.save_pretrained(folder)
    return space
