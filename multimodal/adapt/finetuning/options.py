"""The options of `finetune`, checked, with their defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.adapt.finetuning.examples import Examples
from multimodal.core.checks import positive_number
from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.modality import Modality
from multimodal.core.space import Space

if TYPE_CHECKING:
    from multimodal.adapt.finetuning.loop import Augment
    from multimodal.adapt.finetuning.losses import LossFunction
    from multimodal.adapt.finetuning.optimisation import TrainingConfig

LEARNING_RATES = {"lora": 5e-4, "dora": 5e-4, "full": 2e-4, "last": 5e-4, "probe": 1e-3}
EPOCHS, MIN_STEPS, MAX_STEPS = 10, 20, 200
DEFAULT_SCALE = 20.0  # of a space without logit scales


@dataclass(frozen=True)
class FinetuneOptions:
    """See the arguments of `finetune`."""

    method: str
    modality: str | Sequence[str] | None
    lock: Sequence[str]
    loss: str
    matryoshka: Sequence[int] | None
    replay: object
    reference: object
    interpolate: str | float | None
    held_out: object
    steps: int | None
    batch_size: int
    chunk_size: int
    learning_rate: float | None
    rank: int
    targets: str | list[str] | None
    augment: Augment | None
    mixed_precision: bool
    eval_every: int | None
    patience: int
    out: Path | None
    resume: bool
    seed: int

    def __post_init__(self) -> None:
        for name in ("batch_size", "chunk_size", "rank", "patience"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise InvalidInput(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.steps is not None and self.steps < 1:
            raise InvalidInput(f"steps must be at least 1, got {self.steps!r}")
        if self.learning_rate is not None:
            positive_number(self.learning_rate, "learning_rate")
        if self.seed < 0:
            raise InvalidInput(f"seed must be at least 0, got {self.seed!r}")
        if isinstance(self.held_out, int | float) and not 0 < self.held_out < 0.9:
            raise InvalidInput(
                f"held_out must be a share above 0 and below 0.9, or pairs, got {self.held_out!r}: what is trained "
                "cannot be judged on itself"
            )
        if self.resume and self.out is None:
            raise InvalidInput("resume=True needs out=, the folder of the interrupted run")
        weight = self.interpolate
        if not (weight is None or weight == "auto" or (isinstance(weight, int | float) and 0 <= weight <= 1)):
            raise InvalidInput(f"interpolate must be 'auto', None or a number from 0 to 1, got {weight!r}")

    def config(self, n_train: int) -> TrainingConfig:
        """The training configuration for so many pairs."""
        from multimodal.adapt.finetuning.optimisation import TrainingConfig

        per_epoch = max(1, n_train // self.batch_size)
        steps = self.steps or min(MAX_STEPS, max(MIN_STEPS, EPOCHS * per_epoch))
        return TrainingConfig(
            steps=steps,
            batch_size=self.batch_size,
            chunk=self.chunk_size,
            learning_rate=self.learning_rate or LEARNING_RATES[self.method],
            eval_every=self.eval_every or max(5, steps // 10),
            patience=self.patience,
            mixed_precision=self.mixed_precision,
            seed=self.seed,
        )


def trained_modalities(space: Space, examples: Examples, options: FinetuneOptions) -> tuple[Modality, ...]:
    """The modalities whose encoders train.

    Raises:
        UnsupportedModality: For one that the pairs do not have.
        InvalidInput: If all are locked.
    """
    present = tuple(dict.fromkeys(examples.modalities))
    if options.modality is not None:
        given = [options.modality] if isinstance(options.modality, str) else list(options.modality)
        chosen = tuple(space.encoder_for(modality).modality for modality in given)
        missing = [modality for modality in chosen if modality not in present]
        if missing:
            raise UnsupportedModality(
                f"modality={', '.join(missing)} is to be trained, and the pairs are of {' and '.join(present)}"
            )
        return chosen
    if len(present) == 1:
        return present
    chosen = tuple(modality for modality in present if modality not in options.lock)
    if not chosen:
        raise InvalidInput(
            f"lock={tuple(options.lock)} leaves nothing to train in pairs of {' and '.join(present)}; name one with "
            "modality="
        )
    return chosen


def loss_for(space: Space, examples: Examples, options: FinetuneOptions) -> tuple[str, LossFunction]:
    """(name, function) of the loss, with the space's own scale and bias."""
    from multimodal.adapt.finetuning.losses import make_loss

    scale, bias, kind = DEFAULT_SCALE, 0.0, "clip"
    if space.logit_scales:
        try:
            known = space.logit_scale_for(*examples.modalities)
        except InvalidInput:  # it has scales for other pairs only
            known = None
        if known is not None:
            scale, bias = known.scale, known.bias
            kind = "siglip" if known.activation == "sigmoid" else "clip"
    name = kind if options.loss == "auto" else options.loss
    return name, make_loss(name, scale, bias, options.matryoshka, space.dim)
