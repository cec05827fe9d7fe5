"""Trains the generator's prior: from a vector to a sketch of the image, by regression.

One step processes thousands of vectors in the time of a hundred of the flow, so memorisation happens here. A vector of
two objects has no order: the assignment with the lower loss counts. For one object, the prediction before colouring
and the estimated colour are supervised too, so that no object is memorised in each of its colours.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.pipelines.generation.backends.space_prior import HALF, DrawingPrior, swap_halves
from recipes.starter.captioner import captions
from recipes.starter.generator import draw_batches
from recipes.starter.generator.draw_frames import Frames
from recipes.starter.towers.training import Training

BATCH = {"plain": 400, "scenes": 400, "sums": 112, "between": 64, "keywords": 48}
BARE, READ = 0.5, 0.05  # what the things without their colours count, and the reading of colours
HALVES = 3.0  # what an error in a half counts: it has a quarter of the numbers
AVERAGED = 0.998  # of the running mean of the weights


def errors(predicted: Tensor, wanted: Tensor) -> Tensor:
    """(n,): mean squares, of the halves in whichever order fits better."""
    least = torch.minimum(weighed(predicted, wanted), weighed(predicted, swap_halves(wanted)))
    return least / wanted[0].numel()


def weighed(predicted: Tensor, wanted: Tensor) -> Tensor:
    """(n,): sums of squares, of the halves HALVES times."""
    squares = (predicted - wanted).square().sum(2)
    return squares[:, : -2 * HALF].sum(1) + HALVES * squares[:, -2 * HALF :].sum(1)


def bare_errors(plain: Tensor, shares: Tensor, scenes: Tensor, frames: Frames) -> tuple[Tensor, Tensor]:
    """Of scenes of one thing, the errors (n,) of its sketches before they are dyed; and those of reading colours, in
    nats (m,), there and in the halves of two things without any. Whose a colour is in other pairs, no one tells."""
    alone = scenes[:, 3] < 0
    bare, colour = scenes[alone].clone(), scenes[alone, 1] % shares.shape[2]
    bare[:, 1] = captions.NONE
    logs = shares.clamp(min=1e-6).log()
    both = (scenes[:, 3] >= 0) & (scenes[:, [1, 4]] == captions.NONE).all(1)
    read = [F.nll_loss(logs[alone, 0], colour, reduction="none"), -logs[both, 1:, -1].flatten()]
    return errors(plain[alone], frames.targets(bare)), torch.cat(read)


def begin(net: DrawingPrior, data: dict[str, Tensor]) -> None:
    """Let the directions be vectors of names, from which what they are best is not far: those that are least alike, if
    there are too many; and what a colour adds the difference of means."""
    names, subjects = data["texts"][:, 0].float(), data["scene things"]
    plain = data["texts"].float().mean((0, 1))
    for dye in range(len(captions.COLOUR_NAMES)):
        has_colour = (subjects[:, 1] == dye) & (subjects[:, 3] < 0)
        with torch.no_grad():
            net.dye_axes[dye] = data["scene texts"][has_colour].float().mean((0, 1)) - plain
    rows = F.normalize(names, dim=1)
    chosen = [0]
    nearest = rows @ rows[0]
    while len(chosen) < min(len(rows), len(net.axes)):
        chosen.append(int(nearest.argmin()))
        nearest = torch.maximum(nearest, rows @ rows[chosen[-1]])
    with torch.no_grad():
        net.axes[: len(chosen)] = rows[chosen]


def run(work: Path, *, minutes: float, seed: int = 77) -> None:
    """Trains for `minutes` in total (interrupted runs resume); writes the folder draw_prior."""
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
        for item in (net, mean):
            begin(item, data)
    lately = {"one": 0.0, "two": 0.0, "bare": 0.0, "read": 0.0}
    while training.going_on():
        vectors, scenes, _ = batches.draw()
        with torch.autocast("cpu", torch.bfloat16):
            plain, shares = net.recalled(vectors)
            result = net.coloured(plain, shares)
        each = errors(result.float(), frames.targets(scenes))
        bare, read = bare_errors(plain.float(), shares.float(), scenes, frames)
        training.learn(each.mean() + BARE * bare.mean() + READ * read.mean())
        kept = min(AVERAGED, 1 - 1 / (training.step / 8 + 1))
        with torch.no_grad():
            torch._foreach_lerp_(list(mean.parameters()), list(net.parameters()), 1 - kept)
        pair = scenes[:, 3] >= 0
        for name, some in {"one": each[~pair], "two": each[pair], "bare": bare, "read": read}.items():
            lately[name] += float(some.detach().mean())
        if training.step % 100 == 0:
            training.log(**{name: value / 100 for name, value in lately.items()})
            lately = dict.fromkeys(lately, 0.0)
        if training.step % 500 == 0:
            training.save()
    training.save()
    mean.save_pretrained(work / "draw_prior")
