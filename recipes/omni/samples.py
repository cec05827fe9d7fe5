"""Batches of charts for the trainer, drawn in worker processes."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from multimodal.encoders.starter.omni.networks import CELL_HEIGHT, CELL_WIDTH, COLUMNS, ROWS
from multimodal.encoders.starter.omni.vocabulary import (
    END,
    IS,
    MARK,
    MAX_TOKENS,
    ROW,
    TASK_TOKEN,
    TOKEN_OF,
    to_tokens,
)
from recipes.omni import charts

IGNORED = -100
SORTED = 6  # batches that are drawn and sorted together
MARK_WEIGHT = 4.0  # of the position of a bar's top or a line's point, which becomes a value
PLACE_NOISE, VALUE_NOISE = 0.7, 0.15  # deviations, pixels and units: while reading, positions are not exact


@dataclass
class ChartBatch:
    """Charts and what is right about them.

    Attributes:
        pixels: (n, 1, height, width) uint8.
        classes: (n, cells) int64, for the chart eye.
        shifts: Row, cell (k, 2) int64, x, y of what is there, in cells from the centre (k, 2), and a weight (k, 1).
        tokens: (n, t) int64, the task first.
        places: (n, t, 3), as the decoder receives them.
        targets: (n, t) int64 next tokens, IGNORED past the end.
        cells: (n, t) int64, where to point for the next token, or IGNORED.
    """

    pixels: Tensor
    classes: Tensor
    shifts: tuple[Tensor, Tensor, Tensor]
    tokens: Tensor
    places: Tensor
    targets: Tensor
    cells: Tensor


def cell_of(x: float, y: float) -> int:
    """The cell that holds a position in pixels; positions outside the image count to its border."""
    column = min(max(int(x // CELL_WIDTH), 0), COLUMNS - 1)
    return min(max(int(y // CELL_HEIGHT), 0), ROWS - 1) * COLUMNS + column


def followed(text: str, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(len(text), 3): the last position pointed at and the value there, after each character, with noise."""
    result, last, value = np.full((len(text), 3), np.nan, np.float32), np.full(2, np.nan), math.nan
    for at, character in enumerate(text):
        if not np.isnan(places[at, 0]):
            last = places[at, :2] + rng.normal(0, PLACE_NOISE, 2)
        if character == ROW:
            value = math.nan
        elif character == IS and not np.isnan(places[at, 2]):
            value = places[at, 2] + float(np.clip(rng.normal(0, VALUE_NOISE), -0.45, 0.45))
        result[at] = (*last, value)
    return result


def collate(drawn: list[charts.Chart], rng: np.random.Generator) -> ChartBatch:
    """Charts as tensors."""
    count, longest = len(drawn), max(len(chart.text) for chart in drawn) + 1
    classes = torch.zeros(count, ROWS * COLUMNS, dtype=torch.int64)
    tokens = torch.zeros(count, longest, dtype=torch.int64)
    targets = torch.full((count, longest), IGNORED)
    cells = torch.full((count, longest), IGNORED)
    places = torch.full((count, longest, 3), math.nan)
    spots, shifts, weights = [], [], []
    for row, chart in enumerate(drawn):
        labelled = [(TOKEN_OF.get(letter, 0), x, y) for letter, x, y in chart.letters]
        for label, x, y in [*labelled, *((MARK, x, y) for x, y in chart.marks)]:
            cell = cell_of(x, y)
            classes[row, cell] = label
            spots.append((row, cell))
            weights.append(MARK_WEIGHT if label == MARK else 1.0)
            shifts.append((
                x / CELL_WIDTH - cell % COLUMNS - 0.5, y / CELL_HEIGHT - cell // COLUMNS - 0.5,
            ))  # fmt: skip
        length = len(chart.text)
        ids = torch.tensor(to_tokens(chart.text))
        tokens[row, 0], tokens[row, 1 : length + 1] = TASK_TOKEN["table"], ids[: longest - 1]
        targets[row, :length], targets[row, length] = ids, END
        places[row, 1 : length + 1] = torch.from_numpy(followed(chart.text, chart.places, rng))
        for at, (x, y, _) in enumerate(chart.places.tolist()):
            if not math.isnan(x):
                cells[row, at] = cell_of(x, y)
    pixels = torch.from_numpy(np.stack([chart.pixels for chart in drawn]))[:, None]
    located = (torch.tensor(spots), torch.tensor(shifts), torch.tensor(weights)[:, None])
    return ChartBatch(pixels, classes, located, tokens, places, targets, cells)


class ChartStream(IterableDataset[ChartBatch]):
    """Endless batches of fresh charts. cores: the processor cores of the workers, or None for any."""

    def __init__(self, size: int, seed: int, cores: set[int] | None = None) -> None:
        self.size, self.seed, self.cores = size, seed, cores

    def __iter__(self) -> Iterator[ChartBatch]:
        info = get_worker_info()
        worker = 0 if info is None else info.id
        if info is not None and self.cores is not None:
            os.sched_setaffinity(0, self.cores)
        torch.set_num_threads(1)
        rng, noise = random.Random(f"{self.seed} {worker}"), np.random.default_rng([self.seed, worker])
        while True:
            drawn: list[charts.Chart] = []
            while len(drawn) < SORTED * self.size:
                chart = charts.draw(rng)
                if len(chart.text) < MAX_TOKENS:
                    drawn.append(chart)
            drawn.sort(key=lambda chart: len(chart.text))  # so that little is padding
            for part in rng.sample(range(SORTED), SORTED):
                yield collate(drawn[part * self.size : (part + 1) * self.size], noise)
