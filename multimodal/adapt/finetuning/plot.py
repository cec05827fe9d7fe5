"""A line plot as SVG, without a plotting library."""

from __future__ import annotations

import html
from collections.abc import Sequence

WIDTH, HEIGHT = 440, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 34, 34
COLOURS = ("#1f5fb4", "#c2571a", "#2c7d3f", "#7d3f9c")
TICKS = 4

Points = Sequence[tuple[float, float, float, float]]  # x, y, lower end, upper end


def line_plot(title: str, series: Sequence[tuple[str, Points]], *, mark: float, percent: bool) -> str:
    """Draws lines with intervals.

    Args:
        title: Above the plot.
        series: (name, points) of each line.
        mark: An x that gets a vertical line.
        percent: Whether y is a share.

    Returns:
        An <svg> element.
    """
    xs = [point[0] for _, points in series for point in points] or [0.0, 1.0]
    ys = [value for _, points in series for point in points for value in point[1:]] or [0.0, 1.0]
    x0, x1 = min(xs), max(max(xs), min(xs) + 1e-9)
    y0, y1 = min(ys), max(max(ys), min(ys) + 1e-9)
    margin = 0.06 * (y1 - y0)
    y0, y1 = y0 - margin, y1 + margin

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_axes(x0, x1, y0, y1, percent), _mark(at(mark, y0), at(mark, y1))] if x0 <= mark <= x1 else [
        _axes(x0, x1, y0, y1, percent)
    ]  # fmt: skip
    for number, (name, points) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        places = [at(x, y) for x, y, _, _ in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        if len(points) <= 20:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        for x, y, low, high in points:
            if high > low and low <= y <= high:
                (px, top), (_, bottom) = at(x, high), at(x, low)
                parts.append(
                    f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" stroke="{colour}" '
                    'stroke-opacity=".45"/>'
                )
        parts.append(
            f'<text x="{LEFT + 8 + 130 * number}" y="{TOP - 6}" font-size="12" fill="{colour}">'
            f"{html.escape(name)}</text>"
        )
    label = html.escape(title)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{label}" '
        f'font-family="system-ui, sans-serif"><text x="{LEFT}" y="14" font-size="13" font-weight="600">{label}</text>'
        f"{''.join(parts)}</svg>"
    )


def _axes(x0: float, x1: float, y0: float, y1: float, percent: bool) -> str:
    parts = []
    for tick in range(TICKS + 1):
        share = tick / TICKS
        x, y = LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        value = y0 + share * (y1 - y0)
        shown = f"{100 * value:.0f} %" if percent else f"{value:.2f}"
        parts += [
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e2e6ee"/>',
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" font-size="11" text-anchor="end" fill="#57606f">{shown}</text>',
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" font-size="11" text-anchor="middle" fill="#57606f">'
            f"{x0 + share * (x1 - x0):g}</text>",
        ]
    return "".join(parts)


def _mark(low: tuple[float, float], high: tuple[float, float]) -> str:
    return (
        f'<line x1="{low[0]:.1f}" x2="{high[0]:.1f}" y1="{low[1]:.1f}" y2="{high[1]:.1f}" stroke="#57606f" '
        'stroke-dasharray="4 3"/>'
    )
