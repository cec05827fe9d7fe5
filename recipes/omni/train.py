"""Trains the network on all three tasks at once: every step has charts, and scenes or speech.

Charts: the chart eye classifies each cell and locates what is in it; the decoder writes the table, and one head points.
Scenes and speech: the decoder writes captions and words from the states of the starter's towers, which stay as they
are.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from multimodal.core.modality import Modality
from multimodal.encoders.starter import load
from multimodal.encoders.starter.networks import padding
from multimodal.encoders.starter.omni.networks import OmniNet
from multimodal.encoders.starter.omni.vocabulary import END, MAX_TOKENS, TASK_TOKEN, to_tokens
from recipes.omni.samples import IGNORED, ChartBatch, ChartStream
from recipes.omni.scenes import SceneStream
from recipes.omni.speech import SpeechStream
from recipes.starter.towers.muon import Muon
from recipes.starter.towers.training import is_matrix

CHARTS, SCENES, CLIPS = 32, 96, 64  # in a batch
SPEECH_EVERY = 4  # steps; the others have scenes
KEPT = 512  # cells of a chart that the decoder sees in training
NOTHING = 0.1  # weight of empty cells
WEIGHTS = {
    "classes": 1.0,
    "shift": 2.0,
    "point": 0.5,
    "table": 1.0,
    "scenes": 0.6,
    "speech": 0.6,
}
PEAK, DECAY, WARM_UP = 3e-3, 0.02, 100
COOL_DOWN = 0.5  # share of the time in which the rate falls to zero
CLIP = 1.0
SAVE_S, LOG_STEPS = 150, 20


def from_shipped() -> OmniNet:
    """The network with the starter's towers, the rest random."""
    net, space = OmniNet(), load()
    image, audio = (space.encoders[m].net for m in (Modality.IMAGE, Modality.AUDIO))  # type: ignore[attr-defined]
    net.image.load_state_dict(image.state_dict())
    net.audio.load_state_dict(audio.state_dict())
    return net


def as_targets(texts: list[str], task: str) -> tuple[Tensor, Tensor]:
    """Texts -> tokens (n, t) with the task first, and the next tokens (n, t)."""
    rows = [to_tokens(text)[: MAX_TOKENS - 1] for text in texts]
    longest = max(map(len, rows)) + 1
    tokens, targets = (
        torch.zeros(len(rows), longest, dtype=torch.int64),
        torch.full((len(rows), longest), IGNORED),
    )
    for number, row in enumerate(rows):
        ids = torch.tensor(row, dtype=torch.int64)
        tokens[number, 0], tokens[number, 1 : len(row) + 1] = TASK_TOKEN[task], ids
        targets[number, : len(row)], targets[number, len(row)] = ids, END
    return tokens, targets


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED)


def kept_cells(classes: Tensor) -> Tensor:
    """The cells (n, KEPT), in order, that the decoder sees in training: all that hold something, and random others.

    Most cells of a chart are empty; leaving two of three out saves a third of the time.
    """
    return (torch.rand(classes.shape) + 2 * (classes != 0)).topk(KEPT, dim=1).indices.sort(dim=1).values


def among(cells: Tensor, kept: Tensor) -> Tensor:
    """The places (n, t) of cells (n, t) among the kept ones (n, s); IGNORED where they are left out or ignored."""
    places = torch.searchsorted(kept, cells.clamp(min=0)).clamp(max=kept.shape[1] - 1)
    is_kept = (kept.gather(1, places) == cells) & (cells != IGNORED)
    return torch.where(is_kept, places, IGNORED)


def chart_losses(net: OmniNet, batch: ChartBatch) -> dict[str, Tensor]:
    """The losses of a batch of charts, by name."""
    states = net.chart_eye(batch.pixels.contiguous(memory_format=torch.channels_last))
    classes = net.chart_eye.classes(states).float()
    weight = torch.ones(classes.shape[-1])
    weight[0] = NOTHING
    rows, cells = batch.shifts[0].unbind(1)
    weight_of = batch.shifts[2] * torch.tensor([1.0, 2.0])  # heights become values
    with torch.autocast("cpu", enabled=False):
        shift = net.chart_eye.shift(states.float())
    kept = kept_cells(batch.classes)
    some = states.gather(1, kept[..., None].expand(-1, -1, states.shape[2]))
    logits, pointing = net.decoder(batch.tokens, batch.places, net.chart_memory(some, kept))
    return {
        "classes": F.cross_entropy(classes.flatten(0, 1), batch.classes.flatten(), weight),
        "shift": (
            F.smooth_l1_loss(shift[rows, cells], batch.shifts[1], beta=0.05, reduction="none") * weight_of
        ).mean(),
        "point": cross_entropy(pointing, among(batch.cells, kept)),
        "table": cross_entropy(logits, batch.targets),
    }


def scene_losses(net: OmniNet, pixels: Tensor, texts: list[str]) -> dict[str, Tensor]:
    tokens, targets = as_targets(texts, "describe")
    with torch.no_grad():
        seen = net.image_states(pixels.contiguous(memory_format=torch.channels_last))
    memory = net.memory.of_image(*seen)
    return {"scenes": cross_entropy(net.decoder(tokens, None, memory)[0], targets)}


def speech_losses(net: OmniNet, mels: Tensor, lengths: Tensor, texts: list[str]) -> dict[str, Tensor]:
    tokens, targets = as_targets(texts, "transcribe")
    with torch.no_grad():
        states, counts = net.audio.states(mels, lengths)
    memory, blocked = net.memory.of_speech(states), padding(counts, states.shape[1])[1]
    return {"speech": cross_entropy(net.decoder(tokens, None, memory, blocked)[0], targets)}


def optimisers(net: OmniNet) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for matrices, of all parts but the two towers. The schedule sets the rates."""
    tables = {id(p) for p in (net.decoder.tokens.weight, net.decoder.out.weight, net.decoder.positions)}
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for part in (net.chart_eye, net.memory, net.decoder):
        for parameter in part.parameters():
            groups[is_matrix(parameter) and id(parameter) not in tables].append(parameter)
    return [
        torch.optim.AdamW(groups[False], lr=PEAK, betas=(0.9, 0.98), weight_decay=DECAY),
        Muon(groups[True], lr=PEAK, decay=DECAY),
    ]


@dataclass
class Clock:
    """A budget of wall time."""

    minutes: float
    spent: float = 0.0

    def __post_init__(self) -> None:
        self.began = time.time() - self.spent

    @property
    def done(self) -> float:
        return (time.time() - self.began) / (60 * self.minutes)

    def rate(self, step: int) -> float:
        """Warm-up, constant, linear to zero."""
        return PEAK * min(1.0, (step + 1) / WARM_UP, max(0.0, (1 - self.done) / COOL_DOWN))


class Trainer:
    """The network, its optimisers and its data, in a work folder with the starter's world and drawings."""

    def __init__(self, work: Path, minutes: float, seed: int, cores: set[int] | None) -> None:
        torch.manual_seed(seed)
        self.work, self.file = work, work / "omni_state.pt"
        self.net = from_shipped().train()
        self.net.image.eval()  # batch statistics of the towers stay as they are
        self.net.audio.eval()
        self.net = self.net.to(memory_format=torch.channels_last)
        self.optimisers, self.step, spent = optimisers(self.net), 0, 0.0
        self.batches = {"scenes": 0, "speech": 0}
        if self.file.exists():
            saved = torch.load(self.file, weights_only=True)
            self.net.load_state_dict(saved["net"])
            for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
                optimiser.load_state_dict(state)
            self.step, self.batches, spent = saved["step"], saved["batches"], saved["spent"]
        self.clock = Clock(minutes, spent)
        seed += self.step  # a resumed run draws other charts
        self.charts = self._load(ChartStream(CHARTS, seed, cores))
        self.scenes = self._load(SceneStream(work, SCENES, seed, cores))
        self.clips = self._load(SpeechStream(work, CLIPS, seed, cores))

    @staticmethod
    def _load(stream: Any) -> Any:
        return iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=6))

    def learn(self) -> dict[str, float]:
        """One step on all tasks."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()
            for group in optimiser.param_groups:
                group["lr"] = self.clock.rate(self.step)
        values: dict[str, float] = {}
        parts: list[tuple[Any, Any]] = [
            (chart_losses, (next(self.charts),)),
        ]
        task = "scenes" if self.step % SPEECH_EVERY else "speech"
        self.batches[task] += 1
        parts.append(
            (scene_losses, next(self.scenes)) if task == "scenes" else (speech_losses, next(self.clips))
        )
        for losses, batch in parts:
            with torch.autocast("cpu", torch.bfloat16):
                terms = losses(self.net, *batch)
            torch.stack([WEIGHTS[name] * term for name, term in terms.items()]).sum().backward()
            values |= {name: float(term.detach()) for name, term in terms.items()}
        nn.utils.clip_grad_norm_([p for p in self.net.parameters() if p.grad is not None], CLIP)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        return values

    def save(self) -> None:
        """A checkpoint to go on from; replaced whole."""
        state = {
            "net": self.net.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "batches": self.batches,
            "spent": time.time() - self.clock.began,
        }
        scratch = self.file.with_suffix(".tmp")
        torch.save(state, scratch)
        scratch.replace(self.file)

    def run(self) -> None:
        """Trains until the time is spent."""
        seen: dict[str, list[float]] = {}
        saved = time.time()
        while self.clock.done < 1:
            for name, value in self.learn().items():
                seen.setdefault(name, []).append(value)
            if self.step % LOG_STEPS == 0:
                row = {"step": self.step, "seconds": round(time.time() - self.clock.began)}
                row |= {name: round(sum(values) / len(values), 4) for name, values in seen.items()}
                with (self.work / "omni.log.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)
                seen = {}
            if time.time() - saved > SAVE_S:
                self.save()
                saved = time.time()
        self.save()


def run(work: Path, *, minutes: float, seed: int = 41, cores: set[int] | None = None) -> None:
    """Trains for minutes of wall time in total (interrupted runs resume); writes omni_state.pt."""
    Trainer(work, minutes, seed, cores).run()
