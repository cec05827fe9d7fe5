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
    MARK,
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
    """Where a chart is being read: the text so far, the last position pointed at, and the value there.

    Also the heights at which the lowest and the highest tick were read.
    """

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


@dataclass
class Reader:
    """Reads one chart step by step.

    Attributes:
        positions: (cells, 2): where what each cell holds is, in pixels.
        marks: (cells,): log-probability that each cell holds a mark.
    """

    positions: Tensor
    marks: Tensor
    cursor: Cursor = field(default_factory=Cursor)
    tokens: list[int] = field(default_factory=lambda: [TASK_TOKEN["table"]])
    places: list[Place] = field(default_factory=lambda: [NOWHERE])
    values: list[float] = field(default_factory=list)
    total: float = 0.0

    def take(self, log_probs: Tensor, scores: Tensor) -> bool:
        """One step, by log-probabilities (N_TOKENS,) and scores of the cells (cells,). False if the text ended."""
        token = int(log_probs.argmax())
        self.total += float(log_probs[token])
        if token == END or token >= FIRST_TASK:
            self.tokens.append(END)
            return False
        self.tokens.append(token)
        character = CHARACTERS[token - 1]
        is_value = character == IS and ROW in self.cursor.text
        if is_value and pointed(self.cursor.text + IS):
            scores = scores + self.marks  # where the decoder points and the eye sees a mark
        x, y = self.positions[int(scores.argmax())].tolist()
        self.places.append(self.cursor.write(character, (x, y)))
        if is_value:
            self.values.append(self.places[-1][2])
        return True

    def reading(self) -> Reading:
        """What was read."""
        n = max(1, len(self.tokens) - 1)
        return Reading(self.cursor.text, self.total / n, self.tokens[-1] == END, tuple(self.values))


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
    keys, values = net.chart_memory(states)
    positions = net.chart_eye.positions(states).cpu()
    marks = torch.log_softmax(net.chart_eye.classes(states).float(), dim=-1)[..., MARK].cpu()
    readers = [Reader(*seen) for seen in zip(positions, marks, strict=True)]
    active = list(range(len(readers)))
    while active and len(readers[active[0]].tokens) < MAX_TOKENS:
        step()
        keep = torch.tensor(active, device=pixels.device)
        logits, pointing = net.decoder(
            torch.tensor([readers[row].tokens for row in active], device=pixels.device),
            torch.tensor([readers[row].places for row in active], device=pixels.device),
            (keys[keep], values[keep]),
        )
        log_probs = torch.log_softmax(logits[:, -1].float(), dim=-1).cpu()
        scores = pointing[:, -1].float().cpu()
        active = [row for at, row in enumerate(active) if readers[row].take(log_probs[at], scores[at])]
    return [reader.reading() for reader in readers]
