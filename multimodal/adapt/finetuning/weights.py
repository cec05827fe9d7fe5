"""The parameters of a network that train: which they are, how far they are interpolated, and how adapters are saved."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.adapt.finetuning.targets import ADAPTERS, adapter_outputs, last_parameters, target_layers
from multimodal.core.adapters import PEFT_WEIGHTS, AdapterMetadata, quiet_peft, require_peft, write_metadata
from multimodal.core.errors import InvalidInput

METHODS = ("lora", "dora", "probe", "full", "last")
MAGNITUDE = "lora_magnitude_vector"  # of DoRA: the lengths of a layer's weight vectors


class TrainableNetwork:
    """A copy of a network of which some parameters train.

    Args:
        net: The network, which is not changed.
        method: "lora" or "dora" (adapters), "last" (the last layer) or "full" (every weight).
        rank: Of the adapters.
        alpha: Of the adapters: their change is multiplied by alpha / rank.
        targets: Layers that get adapters; None for those of `targets.RULES`.
        seed: Seed of the adapters' first matrices.

    Attributes:
        net: The copy.
        parameters: The parameters that train, by name.
        peft: PEFT's model around the copy; None for the other methods.
    """

    def __init__(
        self,
        net: nn.Module,
        method: str,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        targets: str | list[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.peft: Any = None
        if method in ADAPTERS:
            self.peft = with_lora(
                self.net, rank=rank, alpha=alpha, targets=targets, seed=seed, use_dora=method == "dora"
            )
        else:
            named = [name for name, _ in self.net.named_parameters()]
            for name in last_parameters(self.net) if method == "last" else named:
                self.net.get_parameter(name).requires_grad_(True)
        self._set_parameters(
            {name: value for name, value in self.net.named_parameters() if value.requires_grad}
        )

    def _set_parameters(self, parameters: dict[str, nn.Parameter]) -> None:
        self.parameters = parameters
        # Tensors that scale the change: all of them, except that of an adapter only its second matrices, which are zero
        # before, and the lengths of DoRA
        scaled = parameters if self.peft is None else adapter_outputs(self.net)
        self._anchors = {
            name: value.detach().clone() if self.peft is None else torch.zeros_like(value)
            for name, value in scaled.items()
        }
        self._anchors |= {
            name: value.detach().clone() for name, value in parameters.items() if MAGNITUDE in name
        }

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

        Of an adapter the change itself is scaled (with DoRA the change of direction and that of length), rounded to
        float16 as it is saved.
        """
        self.load(state)
        with torch.no_grad():
            for name, anchor in self._anchors.items():
                value = self.parameters[name]
                value.copy_(anchor + weight * (value - anchor))
            if self.peft is not None:
                for name, value in self.parameters.items():
                    if _is_float16(name):
                        value.copy_(value.half().float())

    def merged_network(self) -> nn.Module:
        """The network with the trained weights, without adapters or gradients."""
        if self.peft is None:
            net = copy.deepcopy(self.net)
        else:
            with quiet_peft():
                net = copy.deepcopy(self.peft).merge_and_unload()
        return net.eval().requires_grad_(False)

    def save_adapter(self, folder: Path, metadata: AdapterMetadata) -> None:
        """Writes PEFT's folder with float16 matrices, and multimodal.json."""
        state = {
            name: value.half().contiguous() if _is_float16(name) else value
            for name, value in self.peft.state_dict().items()
        }
        with quiet_peft():
            self.peft.peft_config["default"].base_model_name_or_path = metadata.base_name
            self.peft.save_pretrained(str(folder), state_dict=state, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # a model card full of blanks
        (folder / PEFT_WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
        write_metadata(folder, metadata)


def _is_float16(name: str) -> bool:
    """Whether a tensor of an adapter is saved as float16. Rounding the lengths of DoRA would move the base."""
    return re.search("lora_", name) is not None and MAGNITUDE not in name


def with_lora(
    net: Any,
    *,
    rank: int,
    alpha: float,
    targets: str | list[str] | None,
    seed: int,
    use_dora: bool = False,
) -> Any:
    """Puts LoRA adapters into a module, in place.

    Args:
        net: The module.
        rank: Of the adapters.
        alpha: Their change is multiplied by alpha / rank.
        targets: The layers; None for those of the module's rule.
        seed: Seed of the first matrices.
        use_dora: Trains the length of each weight vector apart from its direction (DoRA, Liu et al. 2024,
            arXiv:2402.09353).

    Returns:
        PEFT's model around the module.
    """
    require_peft("training adapters")
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=0.0,
        target_modules=target_layers(net, targets, use_dora=use_dora),
        use_dora=use_dora,
    )
    with quiet_peft(), torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            return get_peft_model(net, config).eval()
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"PEFT cannot adapt these layers: {error}; leave out targets=") from error
