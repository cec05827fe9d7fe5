"""The state of an interrupted training run: one safetensors file, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FILE = "training.safetensors"


@dataclass(frozen=True)
class SavedState:
    """What a checkpoint holds besides the weights and the optimiser, which are set in place."""

    step: int
    history: dict[str, Any]
    best: dict[str, Tensor]


class TrainingCheckpoint:
    """Saves and restores a training run.

    Args:
        folder: Where the file is kept; None to keep nothing.
        job: Everything the result depends on, as JSON values. A file of another job is not resumed.
        resume: Whether to continue from a file that is there.
    """

    def __init__(
        self, folder: Path | None, job: Mapping[str, Any] | None = None, *, resume: bool = False
    ) -> None:
        self.path = None if folder is None else folder / FILE
        self.job = json.dumps(dict(job or {}), sort_keys=True)
        self.resume = resume

    def save(
        self,
        step: int,
        parameters: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        history: Mapping[str, Any],
        best: Mapping[str, Tensor],
    ) -> None:
        """Writes the state after a step."""
        if self.path is None:
            return
        from safetensors.torch import save_file

        tensors = {f"now/{name}": value.detach() for name, value in parameters.items()}
        tensors |= {f"best/{name}": value for name, value in best.items()}
        for number, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{key}": value for key, value in state.items()}
        plain = {name: value.cpu().clone().contiguous() for name, value in tensors.items()}
        metadata = {"job": self.job, "step": str(step), "history": json.dumps(history)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(".partial")
        save_file(plain, scratch, metadata=metadata)
        scratch.replace(self.path)

    def load(self, parameters: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> SavedState | None:
        """Restores the parameters and the optimiser in place.

        Returns:
            The rest of the state; None if there is nothing to resume.

        Raises:
            InvalidInput: If the file is of another job or cannot be read.
        """
        if self.path is None or not self.resume or not self.path.is_file():
            return None
        import torch
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InvalidInput(f"{self.path} cannot be read ({error}); delete it to start again") from error
        if metadata["job"] != self.job:
            raise InvalidInput(
                f"{self.path} is the state of another training run (other data, base or options); repeat the call that "
                "was interrupted, delete the file, or give another folder"
            )
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer/"):
                _, number, key = name.split("/", 2)
                state.setdefault(int(number), {})[key] = value
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[f"now/{name}"])
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
        best = {
            name.removeprefix("best/"): value for name, value in tensors.items() if name.startswith("best/")
        }
        return SavedState(int(metadata["step"]), json.loads(metadata["history"]), best)

    def delete(self) -> None:
        """Removes the file after the result is written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
