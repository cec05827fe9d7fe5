"""Children of the starter, and models that share no base with it; all name the pictures of the gallery.

The children and the small networks train on the same data: the pictures of the gallery with damage below the severities
that are tested.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import multimodal as mm
from multimodal.auditing.generators.images import KINDS, damage
from multimodal.core import serialization
from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import EncoderState
from multimodal.core.space import Space

SIDE = 64
TRAINED_SEVERITIES = (1, 2)
VIEWS_TUNED = 4  # damaged views of each picture for fine-tuning and the probe
VIEWS_NET = 24  # for the small networks, which are shifted, scaled and recoloured, too
TUNING_STEPS, TUNING_BATCH = 40, 32
NET_STEPS, NET_BATCH = 240, 48
WIDTHS = (3, 16, 32, 64, 96)
COLOURS = 6  # bins of each channel of the colour histograms

Named = Sequence[tuple[NDArray[np.uint8], str]]


def rounded(space: Space, bits: int = 8) -> Space:
    """A space whose matrices are rounded to whole numbers of `bits` bits, row by row."""
    encoders = []
    for modality, encoder in space.encoders.items():
        tensors = {}
        for name, tensor in encoder.state_dict().items():
            values = tensor.float()
            if values.ndim > 1:
                axes = tuple(range(1, values.ndim))
                step = values.abs().amax(axes, keepdim=True).clamp_min(1e-8) / (2 ** (bits - 1) - 1)
                values = (values / step).round() * step
            tensors[name] = values.half()
        state = EncoderState(modality, encoder.config(), tensors, encoder.files())
        encoders.append(serialization.rebuild("starter", state, Runtime()))
    return Space(encoders, space.logit_scales, name=f"int{bits}")


def exported(space: Space, folder: Path) -> Space:
    """The int8 export of the image and text towers, opened again; a folder that exists is such an export."""
    if not folder.exists():
        mm.export(space.select("image", "text"), folder, quantize="int8")
    return mm.load(f"onnx/{folder.resolve()}")


def lightly_damaged(named: Named, views: int) -> list[tuple[NDArray[np.uint8], str]]:
    """Pictures with damage of random kinds, each `views` times, and their names."""
    rng = np.random.default_rng(0)
    return [
        (damage(pixels, str(rng.choice(list(KINDS))), int(rng.choice(TRAINED_SEVERITIES)), view), name)
        for view in range(views)
        for pixels, name in named
    ]


def pairs(named: Named) -> list[tuple[Any, Any]]:
    """The training pairs of the children."""
    return [(mm.Image(pixels), mm.Text(name)) for pixels, name in lightly_damaged(named, VIEWS_TUNED)]


def fine_tuned(space: Space, named: Named, method: str) -> Space:
    """The starter trained further; all of the way to the trained weights, whatever the validation pairs say."""
    child, _ = mm.adapt.finetune(
        space,
        pairs(named),
        method=method,
        modality="image",
        steps=TUNING_STEPS,
        batch_size=TUNING_BATCH,
        eval_every=TUNING_STEPS,
        interpolate=1.0,
        reference=None,
    )
    return child


def probe(space: Space, named: Named) -> Any:
    """A classifier on the vectors of the starter."""
    return mm.adapt.few_shot(space, [(image, str(text.load())) for image, text in pairs(named)])


class SmallNet:
    """A small CNN that names pictures; a function of items.

    Args:
        named: Pictures and names to train on.
        teacher: A space whose vectors of the same views are the target; None for the names themselves.
    """

    def __init__(self, named: Named, teacher: Space | None = None) -> None:
        torch.manual_seed(0)
        self.names = [name for _, name in named]
        self.anchors = None if teacher is None else torch.from_numpy(teacher.encode(list(self.names)))
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(WIDTHS):
            layers += [
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        width = len(self.names) if self.anchors is None else self.anchors.shape[1]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(WIDTHS[-1] * (SIDE // 16) ** 2, width))
        images, rows = training_views(named)
        self._train(images, rows if teacher is None else seen_by(teacher, images))

    def _train(self, images: Tensor, targets: Tensor) -> None:
        """Cross-entropy over the names, or the distance to the teacher's unit vectors."""
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=2e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=NET_STEPS)
        for _ in range(NET_STEPS):
            rows = torch.randint(len(images), (NET_BATCH,))
            outputs = self.net(images[rows].float() / 127.5 - 1)
            if self.anchors is None:
                loss = nn.functional.cross_entropy(outputs, targets[rows])
            else:
                loss = 1 - nn.functional.cosine_similarity(outputs, targets[rows]).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        self.net.eval()

    def __call__(self, items: Sequence[Any]) -> list[str]:
        """The name of each image."""
        with torch.inference_mode():
            outputs = self.net(torch.stack([as_tensor(item.load()) for item in items]))
            if self.anchors is not None:
                outputs = outputs @ self.anchors.T  # the length of an output changes no order
        return [self.names[row] for row in outputs.argmax(1).tolist()]


def training_views(named: Named) -> tuple[Tensor, Tensor]:
    """Views of lightly damaged pictures, uint8 (n, 3, SIDE, SIDE), and the place of the name of each, (n,)."""
    torch.manual_seed(0)
    stack = torch.stack([as_tensor(pixels) for pixels, _ in lightly_damaged(named, VIEWS_NET)])
    images = torch.cat([moved(part) for part in stack.split(256)])
    places = torch.arange(len(named)).repeat(VIEWS_NET)
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8), places


def seen_by(teacher: Space, images: Tensor) -> Tensor:
    """The teacher's unit vectors of uint8 images (n, 3, h, w), (n, dim)."""
    items = [mm.Image(image.permute(1, 2, 0).contiguous().numpy()) for image in images]
    return torch.from_numpy(teacher.encode(items, batch_size=128))


def as_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """RGB (h, w, 3) as (3, SIDE, SIDE) in -1 to 1."""
    image = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 127.5 - 1
    return nn.functional.interpolate(image[None], (SIDE, SIDE), mode="area")[0]


def moved(images: Tensor) -> Tensor:
    """Images (n, 3, h, w) shifted, scaled, mirrored, brighter or darker, and with noise."""
    n = len(images)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 + 0.3 * (torch.rand(n) - 0.5)
    theta[:, 0, 0] *= torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    theta[:, :, 2] = 0.3 * (torch.rand(n, 2) - 0.5)
    grid = nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    shifted = nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
    scale, shift = 1 + 0.4 * (torch.rand(n, 1, 1, 1) - 0.5), 0.4 * (torch.rand(n, 3, 1, 1) - 0.5)
    return shifted * scale + shift + 0.1 * torch.randn_like(shifted)


class Colours:
    """The nearest picture by its histogram of colours; a function of items."""

    def __init__(self, named: Named) -> None:
        damaged = lightly_damaged(named, VIEWS_TUNED)
        rows = np.stack([histogram(pixels) for pixels, _ in damaged]).reshape(VIEWS_TUNED, len(named), -1)
        self.means, self.names = rows.mean(0), [name for _, name in named]

    def __call__(self, items: Sequence[Any]) -> list[str]:
        """The name of each image."""
        rows = np.stack([histogram(item.load()) for item in items])
        shared = np.minimum(rows[:, None], self.means[None]).sum(-1)  # histogram intersection
        return [self.names[row] for row in shared.argmax(1)]


def histogram(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The share of pixels in each of COLOURS³ colours."""
    bins = pixels.reshape(-1, 3).astype(int) * COLOURS // 256
    places = (bins[:, 0] * COLOURS + bins[:, 1]) * COLOURS + bins[:, 2]
    return np.bincount(places, minlength=COLOURS**3) / len(places)
