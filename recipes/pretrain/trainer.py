"""Training stage by stage, on one process or several, with checkpoints that resume bit-equal.

Nothing depends on the state of a random number generator: the samples of a step and what is hidden in them follow from
the seed, the stage and the step. A checkpoint therefore holds weights, optimiser and step alone.

Several processes (`accelerate launch -m recipes.pretrain …`) share each batch. The contrastive losses see the vectors
of the whole batch (`multimodal.adapt.finetuning.gradients`). Batch statistics of the ConvNet are those of each process.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.adapt.finetuning.gradients import Devices, backward, start_processes
from multimodal.adapt.finetuning.losses import clip_loss, siglip_loss
from multimodal.adapt.finetuning.plot import line_plot
from recipes.pretrain.collate import Collate, make_vocabulary
from recipes.pretrain.config import CONTRASTIVE, Config, Data, Stage
from recipes.pretrain.emoji import EmojiWorld
from recipes.pretrain.events import EventWriter
from recipes.pretrain.objectives import make_head, make_tower, self_supervised
from recipes.pretrain.samples import Folder, Sample, Shards, Source, batches

WARM_UP = 0.1  # of a stage's steps
WEIGHT_DECAY = 0.05
FIRST_SCALE = {"clip": 14.0, "siglip": 10.0}
FIRST_BIAS = -10.0  # of SigLIP
MAX_SCALE = 100.0
GRADIENT_NORM = 1.0


def open_source(data: Data) -> Source:
    """The source that a configuration names."""
    if data.source == "emoji":
        return EmojiWorld(data.concepts, data.renders)
    if data.source.endswith(".tar"):
        return Shards(data.source, data.shuffle)
    return Folder(Path(data.source).expanduser())


class Run:
    """One configuration in one folder: towers by modality, and where training is."""

    def __init__(self, config: Config, folder: Path, source: Source | None = None) -> None:
        start_processes()
        self.config, self.folder = config, folder
        self.devices = Devices()
        self.device = torch.device(f"cuda:{self.devices.rank}" if torch.cuda.is_available() else "cpu")
        self.source = source or open_source(config.data)
        folder.mkdir(parents=True, exist_ok=True)
        self.collate = Collate(self._vocabulary(), config.data.side, cache=config.data.cache)
        torch.manual_seed(config.seed)
        needed = dict.fromkeys(name for stage in config.stages for name in stage.modalities)
        self.towers = nn.ModuleDict({name: self._tower(name) for name in sorted(needed)})
        self.logit = nn.ParameterDict({"log_scale": torch.zeros(()), "bias": torch.zeros(())}).to(self.device)
        self.stage = self.step = 0
        self.saved: dict[str, Any] = {}
        self.losses: list[tuple[int, int, float]] = []  # stage, step, loss
        self.seconds = 0.0  # CPU seconds of the steps

    def _vocabulary(self) -> list[str]:
        path = self.folder / "vocabulary.json"
        if path.exists():
            known: list[str] = json.loads(path.read_text(encoding="utf-8"))
            return known
        data = self.config.data
        samples = itertools.islice(self.source.epoch(self.config.seed), data.vocabulary_samples)
        vocabulary = make_vocabulary(samples, data.vocabulary)
        if self.devices.is_main:
            path.write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
        return vocabulary

    def _tower(self, modality: str) -> nn.Module:
        return make_tower(modality, len(self.collate.vocabulary)).to(self.device)

    # --- which samples take part -----------------------------------------------------------------

    def is_held_out(self, sample: Sample) -> bool:
        """Whether a sample only judges."""
        return sample.place >= 1 - self.config.data.held_out

    def takes_part(self, sample: Sample, stage: Stage) -> bool:
        """Whether a sample trains in a stage; `share` counts from the pairs that are not held out."""
        limit = stage.share * (1 - self.config.data.held_out)
        return all(name in sample.parts for name in stage.modalities) and sample.place < limit

    # --- training --------------------------------------------------------------------------------

    def train(self, *, stop_after: int | None = None) -> None:
        """Runs the stages that remain.

        Args:
            stop_after: Stop after so many steps, with a checkpoint, as an interruption would.
        """
        writer = EventWriter(self.folder / "events") if self.devices.is_main else None
        remaining = stop_after
        for number in range(self.stage, len(self.config.stages)):
            remaining = self._train_stage(self.config.stages[number], writer, remaining)
            if self.step < self.config.stages[number].steps:
                return  # stopped within the stage
            self.stage, self.step, self.saved = number + 1, 0, {}
            self.save()
            if remaining == 0:
                return

    def _train_stage(self, stage: Stage, writer: EventWriter | None, remaining: int | None) -> int | None:
        head, optimiser = self._prepare(stage)
        seed = self.config.seed + 7919 * self.stage
        stream = batches(
            self.source, stage.batch, seed, lambda sample: self.takes_part(sample, stage), self.step
        )
        for step in range(self.step, stage.steps):
            if remaining == 0:
                self.save(head, optimiser)
                return 0
            samples, began = next(stream), time.process_time()
            for group in optimiser.param_groups:
                group["lr"] = stage.learning_rate * schedule(step, stage.steps)
            optimiser.zero_grad()
            if stage.objective in CONTRASTIVE:
                loss = self._align(stage, samples)
            else:
                loss = self._predict(stage, head, samples, step)
            parameters = [entry for group in optimiser.param_groups for entry in group["params"]]
            self.devices.sum_gradients(parameters)
            nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            optimiser.step()
            with torch.no_grad():
                self.logit["log_scale"].clamp_(max=math.log(MAX_SCALE))
            self.seconds += time.process_time() - began
            self.step = step + 1
            remaining = None if remaining is None else remaining - 1
            self._log(stage, loss, writer)
            if self.step % self.config.checkpoint_every == 0 and self.step < stage.steps:
                self.save(head, optimiser)
        return remaining

    def _prepare(self, stage: Stage) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The head and the optimiser of a stage, as the checkpoint has them if it is in the middle of it."""
        torch.manual_seed(self.config.seed + 101 * self.stage)
        is_contrastive = stage.objective in CONTRASTIVE
        head = nn.Identity() if is_contrastive else make_head(stage.objective, len(self.collate.vocabulary))
        head = head.to(self.device)
        if is_contrastive and not self.step:
            with torch.no_grad():
                self.logit["log_scale"].fill_(math.log(FIRST_SCALE[stage.objective]))
                self.logit["bias"].fill_(FIRST_BIAS if stage.objective == "siglip" else 0.0)
        modules = [*(self.towers[name] for name in stage.modalities), self.logit if is_contrastive else head]
        trained = [entry for module in modules for entry in module.parameters()]
        optimiser = torch.optim.AdamW(
            trained, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
        )
        if self.saved:
            head.load_state_dict(self.saved["head"])
            optimiser.load_state_dict(self.saved["optimiser"])
        for module in modules:
            module.train()
        return head, optimiser

    def _predict(self, stage: Stage, head: nn.Module, samples: Sequence[Sample], step: int) -> float:
        """Adds the gradient of a self-supervised loss. Each chunk hides by its own position in the batch."""
        (modality,) = stage.modalities
        total = 0.0
        own = self.devices.own(len(samples))
        for start in range(0, len(own), stage.chunk):
            positions = own[start : start + stage.chunk]
            inputs = self._inputs([samples[position] for position in positions], modality)
            seed = hash((self.config.seed, self.stage, step, positions[0]))
            generator = torch.Generator().manual_seed(seed % 2**63)
            with self._autocast():
                losses = self_supervised(stage.objective, self.towers[modality], head, inputs, generator)
            loss = losses.sum() / len(samples)
            loss.backward()
            total += float(loss.detach())
        return total

    def _align(self, stage: Stage, samples: Sequence[Sample]) -> float:
        """Adds the gradient of a contrastive loss over the whole batch. Samples with equal texts are positives."""
        texts = (
            self.collate.texts(samples) if "text" in stage.modalities else [sample.key for sample in samples]
        )
        numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        owners = torch.tensor([numbers[text] for text in texts], device=self.device)
        positives = owners[:, None] == owners[None]

        def embed(modality: str) -> Any:
            def rows(positions: Sequence[int]) -> Tensor:
                inputs = self._inputs([samples[position] for position in positions], modality)
                with self._autocast():
                    return self.towers[modality](*inputs)

            return rows

        is_direct = self.devices.size == 1 and len(samples) <= stage.chunk

        def loss(a: Tensor, b: Tensor) -> Tensor:
            scale: Any = self.logit["log_scale"].exp()
            bias: Any = self.logit["bias"]
            if stage.objective == "clip":
                value = clip_loss(a, b, positives, scale=scale)
            else:
                value = siglip_loss(a, b, positives, scale=scale, bias=bias)
            if not is_direct:  # `backward` then asks for the gradient of the rows alone
                self._scale_gradient(value)
            return value

        sides, n = [embed(name) for name in stage.pair], (len(samples), len(samples))
        return backward(loss, sides, n, stage.chunk, self.devices)

    def _scale_gradient(self, value: Tensor) -> None:
        """Adds the gradient of scale and bias; each process has that of the whole batch, and their sum is taken."""
        learned = list(self.logit.parameters())
        gradients = torch.autograd.grad(value, learned, retain_graph=True, allow_unused=True)
        for parameter, gradient in zip(learned, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient / self.devices.size

    def vectors(self, modality: str, samples: Sequence[Sample]) -> Tensor:
        """Unit rows (n, dim) of samples, by the tower as it is."""
        rows: Tensor = self.towers[modality](*self._inputs(samples, modality))
        return rows

    def _inputs(self, samples: Sequence[Sample], modality: str) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self.device) for tensor in self.collate(samples, modality))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.mixed_precision)

    # --- what is written -------------------------------------------------------------------------

    def _log(self, stage: Stage, loss: float, writer: EventWriter | None) -> None:
        self.losses.append((self.stage, self.step, loss))
        if writer is None or (self.step % self.config.log_every and self.step != stage.steps):
            return
        done = sum(earlier.steps for earlier in self.config.stages[: self.stage]) + self.step
        writer.add(done, {f"{self.stage}-{stage.objective}/loss": loss})
        print(f"{stage.objective} {self.step}/{stage.steps}: loss {loss:.4f}", flush=True)

    def save(self, head: nn.Module | None = None, optimiser: torch.optim.Optimizer | None = None) -> None:
        """Replaces the checkpoint and the plot of the losses."""
        if not self.devices.is_main:
            return
        state = {
            "towers": self.towers.state_dict(), "logit": self.logit.state_dict(), "stage": self.stage,
            "step": self.step, "losses": self.losses, "seconds": self.seconds,
        }  # fmt: skip
        if head is not None and optimiser is not None:
            state |= {"head": head.state_dict(), "optimiser": optimiser.state_dict()}
        scratch = self.folder / "state.tmp"
        torch.save(state, scratch)
        scratch.replace(self.folder / "state.pt")
        (self.folder / "losses.svg").write_text(self._plot(), encoding="utf-8")

    def _plot(self) -> str:
        series = []
        for number, stage in enumerate(self.config.stages):
            points = [(float(step), loss, loss, loss) for at, step, loss in self.losses if at == number]
            if points:
                thinned = points[:: math.ceil(len(points) / 200)]
                series.append((stage.objective, thinned))
        return line_plot("loss by step of each stage", series, mark=-1.0, percent=False)

    def resume(self) -> bool:
        """Loads the checkpoint of the folder. Returns whether there is one."""
        path = self.folder / "state.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.towers.load_state_dict(state["towers"])
        self.logit.load_state_dict(state["logit"])
        self.stage, self.step, self.seconds = state["stage"], state["step"], state["seconds"]
        self.losses = [tuple(entry) for entry in state["losses"]]
        self.saved = state if "optimiser" in state else {}
        return True


def schedule(step: int, steps: int) -> float:
    """The share of the peak learning rate: warm-up, then half a cosine."""
    return min(1.0, (step + 1) / max(1.0, WARM_UP * steps)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
