"""Does an attack that was made on one model also defeat others?

Projected gradient descent (Madry et al. 2018) on the vector of each image, at the resolution of the model. The control
is noise of the same size with random signs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.auditing.checks.common import NotTested, Subject, interval, nearest
from multimodal.auditing.finding import Example, Finding
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.items import Image
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

EPSILON, STEPS = 4 / 255, 10
IMAGES = 48
LIMIT = 0.10
CONTROL = "noise of the same size with random signs"


def transfer(subject: Subject, others: Mapping[str, Subject]) -> list[Finding]:
    """The share of attacked images that still find themselves, by the attacked model and by each other one."""
    import numpy as np

    subject.needs(Modality.IMAGE)
    images = subject.material.images[:IMAGES]
    attacked = attack(subject, images)
    rng = np.random.default_rng(subject.seed)
    noisy = [
        np.clip(np.round(p + rng.choice([-1, 1], p.shape) * EPSILON * 255), 0, 255).astype(np.uint8)
        for p in images
    ]
    findings = []
    for name, other in {"": subject, **others}.items():
        if Modality.IMAGE not in other.space.modalities:
            continue
        clean = other.clean_images()
        answers = [nearest(other.images(stack), clean) for stack in (attacked, noisy)]
        found = [row == np.arange(len(images)) for row in answers]
        findings.append(_finding(subject, name, images, attacked, found, answers[0]))
    return findings


def _finding(
    subject: Subject,
    name: str,
    images: Sequence[Pixels],
    attacked: Sequence[Pixels],
    found: Sequence[NDArray[np.bool_]],
    answers: NDArray[np.int64],
) -> Finding:
    import numpy as np

    value, low, high = interval(found[0], subject.seed)
    control = float(found[1].mean())
    warns = high < control - LIMIT
    names = subject.material.image_names
    examples = tuple(
        Example(
            Image(images[row]),
            Image(attacked[row]),
            names[row] or f"image {row}",
            names[answers[row]] or f"image {answers[row]}",
        )
        for row in map(int, np.flatnonzero(~found[0])[:3])
    )
    who = f"an attack on this model, seen by {name}" if name else "an attack on this model"
    return Finding(
        f"attack: transfers to {name}" if name else "attack: own",
        "transfer",
        "warn" if warns else "fine",
        f"{who}: {value:.0%} of images still find themselves; with random noise of that size, {control:.0%}",
        value,
        low,
        high,
        CONTROL,
        control,
        f"the interval lies more than {LIMIT:.0%} below the control",
        len(images),
        "adversarial training; a second model of other weights and data as a check" if warns else "",
        examples if warns else (),
        {"epsilon": "4/255", "steps": STEPS},
    )


def attack(subject: Subject, images: Sequence[Pixels]) -> list[Pixels]:
    """Images within EPSILON of the given ones whose vectors are far from what they were.

    Raises:
        NotTested: The encoder offers no gradient, or resizes images of this size.
    """
    import numpy as np
    import torch

    encoder: Any = _differentiable(subject.space.encoders[Modality.IMAGE])
    key, low, high = _pixel_range(encoder, images[0])
    gallery = torch.from_numpy(subject.clean_images())
    adversarial: list[Pixels] = []
    for start in range(0, len(images), 16):
        part = images[start : start + 16]
        prepared = encoder.prepare([Image(pixels) for pixels in part])[key].float()
        unit = (prepared - low) / (high - low)  # in 0 to 1
        try:
            moved = _descend(
                lambda values: encoder.forward({key: values * (high - low) + low}), unit, gallery, start
            )
        except RuntimeError as error:  # of torch: an encoder that computes without gradients, or elsewhere
            raise NotTested(f"the encoder allows no gradients: {error}") from error
        pixels = (moved.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        adversarial += [np.ascontiguousarray(image) for image in pixels]
    return adversarial


def _differentiable(encoder: Encoder) -> Encoder:
    """The same encoder with weights of its own: those that were made in inference mode allow no gradients."""
    from multimodal.core import serialization

    if encoder.family is None:
        return encoder
    tensors = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    state = EncoderState(encoder.modality, encoder.config(), tensors, encoder.files())
    return serialization.rebuild(encoder.family, state, encoder.runtime)


def _pixel_range(encoder: Any, sample: Pixels) -> tuple[str, torch.Tensor, torch.Tensor]:
    """The tensor of pixels in a batch, and what black and white become in it."""
    import numpy as np

    black, white = (encoder.prepare([Image(np.full_like(sample, level))]) for level in (0, 255))
    keys = [key for key, value in black.items() if value.ndim == 4 and value.shape[1] == 3]
    if len(black) != 1 or len(keys) != 1:
        raise NotTested("the encoder takes more than one tensor of pixels")
    key = keys[0]
    if tuple(black[key].shape[2:]) != sample.shape[:2]:
        raise NotTested(f"the encoder resizes images of {sample.shape[0]} pixels")
    low, high = (values[key].float().mean((2, 3), keepdim=True) for values in (black, white))
    return key, low, high


def _descend(forward: Any, unit: torch.Tensor, gallery: torch.Tensor, start: int) -> torch.Tensor:
    """Steps that lower the cosine with the own clean image, less that with the nearest other one."""
    import torch

    own = torch.arange(start, start + len(unit))
    is_own = torch.nn.functional.one_hot(own, len(gallery)).bool()
    generator = torch.Generator().manual_seed(0)
    moved = unit + (torch.rand(unit.shape, generator=generator) * 2 - 1) * EPSILON
    for _ in range(STEPS):
        moved = moved.detach().clamp(0, 1).requires_grad_(True)
        with torch.enable_grad():
            scores = torch.nn.functional.normalize(forward(moved).float(), dim=-1) @ gallery.T
            loss = scores[is_own].sum() - scores.masked_fill(is_own, -2.0).max(1).values.sum()
            if not loss.requires_grad:
                raise NotTested("the encoder computes without gradients")
            (gradient,) = torch.autograd.grad(loss, moved)
        stepped = moved.detach() - 2.5 * EPSILON / STEPS * gradient.sign()
        moved = unit + (stepped - unit).clamp(-EPSILON, EPSILON)
    return moved.detach()
