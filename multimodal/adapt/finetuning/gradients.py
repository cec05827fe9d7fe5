"""Gradients of a contrastive loss whose batch does not fit in memory (GradCache, Gao et al. 2021), on any devices.

A contrastive loss couples all rows of a batch, so it cannot be accumulated over parts of it. But its gradient with
respect to the rows can be computed from the rows alone: all parts are embedded without gradients, the loss gives the
gradient of each row, and each part is embedded once more to send its rows' gradients on to the weights. The result is
that of the whole batch. With several processes each embeds its part, and all see the rows of the whole batch.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from multimodal.core.errors import MissingExtra

Embed = Callable[[Sequence[int]], Tensor]  # positions in the batch -> unit rows (len(positions), dim)
BatchLoss = Callable[..., Tensor]  # rows of each side -> ()


def start_processes() -> None:
    """Gives each process of `accelerate launch` its own device; does nothing for a single process.

    To be called before a model is loaded.

    Raises:
        MissingExtra: If there are several processes, and accelerate is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    if importlib.util.find_spec("accelerate") is None:
        raise MissingExtra("training on several devices", package="accelerate", extra="train")
    from accelerate import Accelerator

    Accelerator()  # PartialState() alone does not follow ACCELERATE_USE_CPU, and would join no processes there


class Devices:
    """The processes of a job: one, or as many as `accelerate launch` or `torchrun` started."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self._accelerator: Any = None
        if self.size > 1:
            from accelerate import Accelerator

            self._accelerator = Accelerator()
        self.rank = 0 if self._accelerator is None else int(self._accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def own(self, n: int) -> list[int]:
        """The positions of a batch of n that this process embeds: equal shares, the last ones shorter."""
        share = -(-n // self.size)
        return list(range(n))[self.rank * share : (self.rank + 1) * share]

    def gather(self, rows: Tensor, n: int) -> Tensor:
        """The rows of all processes (n, dim), in the order of the batch."""
        if self._accelerator is None:
            return rows
        share = -(-n // self.size)
        padded = torch.nn.functional.pad(rows, (0, 0, 0, share - len(rows)))
        gathered: Tensor = self._accelerator.gather(padded)
        return gathered[:n]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replaces each gradient by its sum over all processes."""
        if self._accelerator is None:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad = self._accelerator.reduce(parameter.grad, reduction="sum")


def backward(
    loss: BatchLoss, sides: Sequence[Embed], n: Sequence[int], chunk: int, devices: Devices
) -> float:
    """Adds the gradient of a loss to the parameters.

    Args:
        loss: Takes the rows of each side (n, dim).
        sides: Embeds positions of each side; rows without gradients are constants.
        n: The number of rows of each side.
        chunk: Rows of a side that are embedded with gradients at a time.
        devices: The processes that share the work.

    Returns:
        The loss of the whole batch.
    """
    if devices.size == 1 and max(n) <= chunk:
        value = loss(*(embed(range(count)) for embed, count in zip(sides, n, strict=True)))
        if value.requires_grad and torch.isfinite(value):
            value.backward()
        return float(value.detach())
    rows = [
        _embedded(embed, count, chunk, devices).requires_grad_(True)
        for embed, count in zip(sides, n, strict=True)
    ]
    value = loss(*rows)
    if not torch.isfinite(value):
        return float(value.detach())
    gradients = torch.autograd.grad(value, rows)
    for embed, gradient, count in zip(sides, gradients, n, strict=True):
        own = devices.own(count)
        for start in range(0, len(own), chunk):
            positions = own[start : start + chunk]
            part = embed(positions)
            if part.requires_grad:
                part.backward(gradient[positions].to(part.device))
    return float(value.detach())


def _embedded(embed: Embed, n: int, chunk: int, devices: Devices) -> Tensor:
    own = devices.own(n)
    with torch.no_grad():
        parts = [embed(own[start : start + chunk]) for start in range(0, len(own), chunk)]
    rows = torch.cat(parts) if parts else embed([0])[:0]
    return devices.gather(rows, n)
