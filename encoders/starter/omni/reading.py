"""Reads charts: the decoder writes the table and points at the image, and positions become values of the axis.

Reading a chart into a table first, and answering from the table, follows DePlot (Liu et al. 2023). Locating marks and
ticks, and scaling positions by the axis, follows ChartOCR (Luo et al. 2021); here one decoder does all of it: it writes
the labels of the lowest and the highest tick, which give the scale, and then receives the value at each position that
it points at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from multimodal.core.progress import step
from multimodal.encoders.starter.omni.networks import OmniNet
from multimodal.encoders.starter.omni.vocabulary import (
    CHARACTERS,
    END,
    FIRST_TASK,
    IS,
    MAX_TOKENS,
    PERCENT,
    ROW,
    TASK_TOKEN,
    pointed,
)

Place = tuple[float, float, float]  # x and y in pixels, and the value there; NaN where unknown
NOWHERE: Place = (math.nan, math.nan, math.nan)


@dataclass
class Cursor:
    """Where a chart is being read: the text so far, the last position pointed at, and the value there."""

    text: str = ""
    x: float = math.nan
    y: float = math.nan
    value: float = math.nan
    ticks: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))

    def write(self, character: str, at: tuple[float, float]) -> Place:
        """Appends a character; `at` is where the decoder points, which counts at some characters only."""
        self.text += character
        if pointed(self.text):
            self.x, self.y = at
            if ROW not in self.text:
                self.ticks[IS in self.text].append(self.y)
        if character == ROW:
            self.value = math.nan
        if character == IS and ROW in self.text and not self.text.startswith(PERCENT):
            self.value = self.at_axis(self.y)
        return self.x, self.y, self.value

    def at_axis(self, y: float) -> float:
        """The value of the axis at a height in pixels; NaN if its ticks were not read."""
        low_text, _, high_text = self.text.partition(ROW)[0].partition(IS)
        if not (low_text.isdigit() and high_text.isdigit() and all(self.ticks)):
            return math.nan
        low, high = int(low_text), int(high_text)
        low_y, high_y = (sum(ys) / len(ys) for ys in self.ticks)
        if low_y - high_y < 1:
            return math.nan
        return low + (high - low) * (low_y - y) / (low_y - high_y)


@dataclass(frozen=True)
class Reading:
    """What was read of one chart.

    Attributes:
        text: The table, as `vocabulary` describes it.
        mean_log_prob: The mean log-probability of its characters and the end.
        ended: Whether the decoder ended it.
        values: What the axis says at each mark, before the decoder wrote the number.
    """

    text: str
    mean_log_prob: float
    ended: bool
    values: tuple[float, ...]


@torch.inference_mode()
def read_charts(net: OmniNet, pixels: Tensor) -> list[Reading]:
    """Reads a batch of charts, greedily.

    Args:
        net: The network, on the device of the pixels.
        pixels: (n, 1, CHART_HEIGHT, CHART_WIDTH) uint8.

    Returns:
        One reading per chart.
    """
    states = net.chart_eye(pixels)
    memory = net.chart_memory(states)
    positions = net.chart_eye.positions(states).cpu()
    count, device = len(pixels), pixels.device
    cursors = [Cursor() for _ in range(count)]
    rows: list[list[Place]] = [[NOWHERE] for _ in range(count)]
    written = [[TASK_TOKEN["table"]] for _ in range(count)]
    sums, values = [0.0] * count, [list[float]() for _ in range(count)]
    active = list(range(count))
    while active and len(written[active[0]]) < MAX_TOKENS:
        step()
        keep = torch.tensor(active, device=device)
        logits, pointing = net.decoder(
            torch.tensor([written[row] for row in active], device=device),
            torch.tensor([rows[row] for row in active], device=device),
            (memory[0][keep], memory[1][keep]),
        )
        log_probs, tokens = torch.log_softmax(logits[:, -1].float(), dim=-1).max(dim=-1)
        cells = pointing[:, -1].argmax(dim=-1).tolist()
        going_on = []
        for row, token, log_prob, cell in zip(
            active, tokens.tolist(), log_probs.tolist(), cells, strict=True
        ):
            sums[row] += log_prob
            if token == END or token >= FIRST_TASK:
                written[row].append(END)
                continue
            written[row].append(token)
            x, y = positions[row, cell].tolist()
            place = cursors[row].write(CHARACTERS[token - 1], (x, y))
            rows[row].append(place)
            if CHARACTERS[token - 1] == IS and ROW in cursors[row].text:
                values[row].append(place[2])
            going_on.append(row)
        active = going_on
    return [
        Reading(cursor.text, total / len(cursor.text + " "), tokens[-1] == END, tuple(seen))
        for cursor, total, tokens, seen in zip(cursors, sums, written, values, strict=True)
    ]
