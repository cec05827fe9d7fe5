"""The trainable copy of an encoder: which parameters move, how far they are interpolated, and what is saved."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.adapt.finetuning.targets import adapter_outputs, last_parameters, target_layers
from multimodal.core.adapters import PEFT_WEIGHTS, AdapterMetadata, quiet_peft, require_peft, write_metadata
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from multimodal.core.families import family_module
from multimodal.core.projector import Projector

METHODS = ("lora", "probe", "full", "last")
BRIDGED = "bridged"  # the family of an encoder followed by a projector


class Tower:
    """A copy of an encoder of which some parameters train.

    Args:
        encoder: The encoder, which is not changed.
        method: "lora" (adapters), "last" (the last layer), "full" (every weight) or "probe" (a linear map of the
            vectors, which starts as the identity).
        rank: Of the adapters.
        alpha: Of the adapters: their change is multiplied by alpha / rank.
        targets: Layers that get adapters; None for those of `targets.RULES`.
        seed: Seed of the adapters' first matrices.

    Attributes:
        encoder: The copy, with adapters where the method is "lora".
        base: The encoder it was made from.
        parameters: The parameters that train, by name.
    """

    def __init__(
        self,
        encoder: Encoder,
        method: str,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        targets: str | list[str] | None = None,
        seed: int = 0,
    ) -> None:
        _check_trainable(encoder, method)
        self.base, self.method = encoder, method
        self.peft: Any = None
        self.projector: Projector | None = None
        if method == "probe":
            self._make_probe(encoder)
        else:
            net = copy.deepcopy(encoder.net).eval().requires_grad_(False)
            if method == "lora":
                self.peft = with_lora(net, rank=rank, alpha=alpha, targets=targets, seed=seed)
            else:
                names = (
                    last_parameters(net) if method == "last" else [name for name, _ in net.named_parameters()]
                )
                for name in names:
                    net.get_parameter(name).requires_grad_(True)
            self.encoder = encoder.with_network(net)
            self.parameters = {name: value for name, value in net.named_parameters() if value.requires_grad}
        # A tensor that scales the change: all of them, except that of an adapter only its second matrices
        scaled = adapter_outputs(self.encoder.net) if self.peft is not None else self.parameters
        self._anchors = {
            name: torch.zeros_like(value) if self.peft is not None else value.detach().clone()
            for name, value in scaled.items()
        }

    def _make_probe(self, encoder: Encoder) -> None:
        projector = Projector(encoder.dim, encoder.dim)
        with torch.no_grad():
            projector.linear.weight.copy_(torch.eye(encoder.dim))
            projector.linear.bias.zero_()
        self.projector = projector
        self.encoder = family_module(BRIDGED).BridgedEncoder(encoder, projector)
        self.encoder.space_id = encoder.space_id
        self.parameters = dict(projector.named_parameters())

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Prepared items -> unit rows (n, dim) with gradients."""
        return F.normalize(self.encoder.forward(dict(batch)).float(), dim=1)

    def forward_vectors(self, rows: Tensor) -> Tensor:
        """For "probe": the base's unit rows (n, dim) -> unit rows (n, dim) with gradients."""
        assert self.projector is not None
        return F.normalize(self.projector(rows), dim=1)

    def state(self) -> dict[str, Tensor]:
        """Copies of the parameters that train."""
        return {name: value.detach().clone() for name, value in self.parameters.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Sets the parameters that train."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state[name])

    def interpolate(self, state: Mapping[str, Tensor], weight: float) -> None:
        """Sets the parameters to base + weight * (state - base) (WiSE-FT, Wortsman et al. 2022).

        Of an adapter the change itself is scaled, rounded to float16 as it is saved.
        """
        self.load(state)
        with torch.no_grad():
            for name, anchor in self._anchors.items():
                value = self.parameters[name]
                value.copy_(anchor + weight * (value - anchor))
            if self.peft is not None:
                for value in self.parameters.values():
                    value.copy_(value.half().float())

    def merged(self) -> Encoder:
        """The encoder with the trained weights, without adapters or gradients."""
        if self.projector is not None:
            projector = copy.deepcopy(self.projector).eval().requires_grad_(False)
            encoder: Encoder = family_module(BRIDGED).BridgedEncoder(self.base, projector)
            encoder.space_id = self.base.space_id
            return encoder
        if self.peft is None:
            net = copy.deepcopy(self.encoder.net)
        else:
            with quiet_peft():
                net = copy.deepcopy(self.peft).merge_and_unload()
        return self.base.with_network(net.eval().requires_grad_(False))

    def save_adapter(self, folder: Path, metadata: AdapterMetadata) -> None:
        """Writes PEFT's folder with float16 weights, and multimodal.json."""
        save_lora(self.peft, folder, metadata)


def with_lora(net: Any, *, rank: int, alpha: float, targets: str | list[str] | None, seed: int) -> Any:
    """Puts LoRA adapters into a module, in place.

    Args:
        net: The module.
        rank: Of the adapters.
        alpha: Their change is multiplied by alpha / rank.
        targets: The layers; None for those of the module's rule.
        seed: Seed of the first matrices.

    Returns:
        PEFT's model around the module.
    """
    require_peft("training adapters")
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=target_layers(net, targets)
    )
    with quiet_peft(), torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(net, config).eval()
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"PEFT cannot adapt these layers: {error}; leave out targets=") from error


def save_lora(peft: Any, folder: Path, metadata: AdapterMetadata) -> None:
    """Writes PEFT's folder with float16 weights, and multimodal.json."""
    state = {
        name: value.half().contiguous() if re.search("lora_", name) else value
        for name, value in peft.state_dict().items()
    }
    with quiet_peft():
        peft.peft_config["default"].base_model_name_or_path = metadata.base_name
        peft.save_pretrained(str(folder), state_dict=state, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # a model card full of blanks
    (folder / PEFT_WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
    write_metadata(folder, metadata)


def _check_trainable(encoder: Encoder, method: str) -> None:
    if method not in METHODS:
        raise InvalidInput(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    if encoder.net is None and method != "probe":
        raise InvalidInput(
            f"{type(encoder).__name__} keeps no torch module in `net`: only method='probe' can train it"
        )
    if encoder.runtime.engine != "torch":
        raise InvalidInput(
            f"the {encoder.modality} encoder runs by {encoder.runtime.engine}; load it with engine='torch' to train it"
        )
    if encoder.runtime.precision != "float32":
        raise InvalidInput(
            f"the {encoder.modality} encoder has precision={encoder.runtime.precision!r}: load it with "
            "precision='float32' to train it, and give mixed_precision=True for speed"
        )
