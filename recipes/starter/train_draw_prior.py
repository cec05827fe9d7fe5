"""The generator's prior: from a vector to what the picture should hold, by plain regression.

A step shows it thousands of vectors at what a hundred cost the flow, so what must be learned by heart is learned here.
Two things have no order in a vector: whichever way fits better counts.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.pipelines._generation_space_prior import HALF, DrawingPrior, swapped
from recipes.starter import draw_batches
from recipes.starter.draw_frames import Frames
from recipes.starter.training import Training

BATCH = {"plain": 352, "scenes": 544, "sums": 128}
HALVES = 3.0  # what an error in a half counts: it has a quarter of the numbers
AVERAGED = 0.998  # of the running mean of the weights


def errors(found: Tensor, wanted: Tensor) -> Tensor:
    """(n,): mean squares, of the halves in whichever order fits better."""
    least = torch.minimum(weighed(found, wanted), weighed(found, swapped(wanted)))
    return least / wanted[0].numel()


def weighed(found: Tensor, wanted: Tensor) -> Tensor:
    """(n,): sums of squares, of the halves HALVES times."""
    squares = (found - wanted).square().sum(2)
    return squares[:, : -2 * HALF].sum(1) + HALVES * squares[:, -2 * HALF :].sum(1)


def begin(net: DrawingPrior, names: Tensor) -> None:
    """Let the directions be vectors of names (n, dim), from which what they are best is not far: those that are least
    alike, if there are too many."""
    rows = F.normalize(names, dim=1)
    chosen = [0]
    nearest = rows @ rows[0]
    while len(chosen) < min(len(rows), len(net.axes)):
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, rows @ rows[chosen[-1]])
    with torch.no_grad():
        net.axes[: len(chosen)] = rows[chosen]


def run(work: Path, *, minutes: float, seed: int = 77) -> None:
    """Train for `minutes` in all (a stopped run goes on where it was); write the folder draw_prior."""
    torch.manual_seed(seed)
    net, mean = DrawingPrior(), DrawingPrior()
    mean.load_state_dict(net.state_dict())
    mean.requires_grad_(False)
    training = Training(
        work, "draw_prior", {"net": net, "mean": mean}, minutes=minutes, peak=2e-3, decay=0.0, warm_up=100, seed=seed
    )  # fmt: skip
    frames = Frames.of(work)
    data = draw_batches.gathered(work)
    batches = draw_batches.Batches(data, BATCH, training.seed)
    if training.step == 0:
        for one in (net, mean):
            begin(one, data["texts"][:, 0].float())
    lately = {"one": 0.0, "two": 0.0}
    while training.going_on():
        vectors, scenes, _ = batches.draw()
        with torch.autocast("cpu", torch.bfloat16):
            found = net(vectors)
        each = errors(found.float(), frames.targets(scenes))
        training.learn(each.mean())
        kept = min(AVERAGED, 1 - 1 / (training.step / 8 + 1))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), 1 - kept)
        pair = scenes[:, 3] >= 0
        for name, chosen in (("one", ~pair), ("two", pair)):
            lately[name] += float(each.detach()[chosen].mean())
        if training.step % 100 == 0:
            training.log(**{name: value / 100 for name, value in lately.items()})
            lately = dict.fromkeys(lately, 0.0)
        if training.step % 500 == 0:
            training.save()
    training.save()
    mean.save_pretrained(work / "draw_prior")
