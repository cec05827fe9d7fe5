"""Figures of scaling laws as SVG, without a plotting library: axes are logarithmic."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from multimodal.adapt.scaling.isoflop import IsoFlop
from multimodal.adapt.scaling.runs import Runs

WIDTH, HEIGHT = 520, 330
LEFT, RIGHT, TOP, BOTTOM = 56, 96, 30, 42
COLOURS = ("#440154", "#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#a0da39", "#d0b11c")  # viridis
SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


class Axes:
    """Two logarithmic axes over the range of some points."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.x0, self.x1 = _range(xs)
        self.y0, self.y1 = _range(ys)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Position in the figure."""
        across = (math.log(x) - self.x0) / (self.x1 - self.x0)
        up = (math.log(y) - self.y0) / (self.y1 - self.y0)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def grid(self, x_label: str, y_label: str) -> Iterator[str]:
        """Lines, numbers and names of the axes."""
        for value in _ticks(self.x0, self.x1):
            x, _ = self.at(value, math.exp(self.y0))
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#e2e6ee"/>'
            yield _text(x, HEIGHT - BOTTOM + 15, short(value), "middle")
        for value in _ticks(self.y0, self.y1):
            _, y = self.at(math.exp(self.x0), value)
            yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e2e6ee"/>'
            yield _text(LEFT - 6, y + 4, f"{value:.3g}", "end")
        yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, "middle")
        yield _text(LEFT - 40, TOP - 12, y_label, "start")


def loss_plot(runs: Runs, predict: Callable[[Any, Any], Any]) -> str:
    """Loss over data, one colour for each size: points are runs, lines the law. Returns an <svg> element."""
    axes = Axes(runs.data.tolist(), runs.loss.tolist())
    sizes = np.unique(runs.n_parameters)
    parts = list(axes.grid("data D", "loss"))
    for number, size in enumerate(sizes):
        colour = _colour(number, len(sizes))
        own = runs.n_parameters == size
        data = np.geomspace(runs.data.min(), runs.data.max(), 40)
        parts.append(
            _line([axes.at(*point) for point in zip(data, predict(size, data), strict=True)], colour)
        )
        for x, y in zip(runs.data[own], runs.loss[own], strict=True):
            parts.append(_point(axes.at(x, y), colour))
        parts.append(_text(WIDTH - RIGHT + 10, TOP + 12 + 15 * number, f"N = {short(size)}", "start", colour))
    return _figure("Loss by size and data: runs and law", parts)


def isoflop_plot(curves: Sequence[IsoFlop]) -> str:
    """Loss over size at equal compute, one colour for each budget; a ring marks an interior minimum."""
    axes = Axes(
        [size for curve in curves for size, _ in curve.points],
        [loss for curve in curves for _, loss in curve.points],
    )
    parts = list(axes.grid("parameters N", "loss"))
    for number, curve in enumerate(curves):
        colour = _colour(number, len(curves))
        places = [axes.at(size, loss) for size, loss in curve.points]
        parts.append(_line(places, colour))
        parts += [_point(place, colour) for place in places]
        if curve.is_interior:
            x, y = axes.at(curve.N, curve.loss)
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" fill="none" stroke="{colour}" stroke-width="1.6"/>'
            )
        parts.append(_text(WIDTH - RIGHT + 10, TOP + 12 + 15 * number, f"C = {curve.C:.1e}", "start", colour))
    return _figure("Loss by size at equal compute", parts)


def short(value: float) -> str:
    """A number with a suffix: 12500 -> "12.5k"."""
    for size, suffix in SUFFIXES:
        if value >= size:
            return f"{value / size:.3g}{suffix}"
    return f"{value:.3g}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.log(min(values)), math.log(max(values))
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two logarithms, about three to eight."""
    decades = range(math.floor(low / math.log(10)), math.ceil(high / math.log(10)) + 1)
    for steps in (
        (1,),
        (1, 3),
        (1, 2, 5),
        (1, 1.5, 2, 3, 5, 7),
        tuple(np.arange(1, 10, 0.2).round(1).tolist()),
    ):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        inside = [tick for tick in ticks if low <= math.log(tick) <= high]
        if len(inside) >= 3:
            return inside[:: math.ceil(len(inside) / 8)]
    return [math.exp((low + high) / 2)]


def _colour(number: int, count: int) -> str:
    return COLOURS[round(number * (len(COLOURS) - 1) / max(1, count - 1))]


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#57606f") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" fill="{colour}">'
        f"{html.escape(text)}</text>"
    )


def _line(places: Sequence[tuple[float, float]], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _point(place: tuple[float, float], colour: str) -> str:
    return f'<circle cx="{place[0]:.1f}" cy="{place[1]:.1f}" r="3" fill="{colour}"/>'


def _figure(title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{html.escape(title)}" font-family="system-ui, sans-serif">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>{"".join(parts)}</svg>'
    )
