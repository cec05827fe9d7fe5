"""The figures of the study as PNG: law, IsoFLOP curves, equal compute, and metrics with and without a jump."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from multimodal.adapt.scaling import ScalingLaw, fit

Rows = Sequence[dict[str, Any]]
DPI = 80
LABELLED = 7  # sizes named in the legend, of many


def draw(rows: Rows, results: dict[str, Any], folder: Path) -> None:
    """Writes law.png and emergence.png."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    law = fit(rows, resamples=0)
    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.2), width_ratios=(1, 1, 1.25), layout="constrained")
    _losses(axes[0], rows, law)
    _isoflop(axes[1], law)
    _equal_compute(axes[2], results["equal_compute"])
    _save(figure, folder / "law.png")
    figure, axes = pyplot.subplots(1, 3, figsize=(13.5, 3.6), layout="constrained")
    _metrics(axes, rows)
    _save(figure, folder / "emergence.png")


def _save(figure: Any, path: Path) -> None:
    """Writes a figure in 64 colours, a third of the size."""
    from matplotlib import pyplot
    from PIL import Image

    figure.savefig(path, dpi=DPI)
    pyplot.close(figure)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


def _losses(axes: Any, rows: Rows, law: ScalingLaw) -> None:
    from matplotlib import colormaps

    sizes = sorted({row["N"] for row in rows})
    data = np.geomspace(min(row["D"] for row in rows), max(row["D"] for row in rows), 50)
    named = {sizes[round(place)] for place in np.linspace(0, len(sizes) - 1, min(LABELLED, len(sizes)))}
    for number, size in enumerate(sizes):
        colour = colormaps["viridis"](number / max(1, len(sizes) - 1) * 0.9)
        own = [row for row in rows if row["N"] == size]
        axes.plot(data, law.predict(size, data), color=colour, lw=0.8)
        axes.plot([row["D"] for row in own], [row["loss"] for row in own], "o", ms=3, color=colour,
                  label=f"{size:,}" if size in named else None)  # fmt: skip
    axes.set(xscale="log", xlabel="characters D", ylabel="loss, nats a character",
             title="Runs (points) and fitted law (lines)")  # fmt: skip
    axes.legend(title="parameters N", fontsize=7, title_fontsize=8)


def _isoflop(axes: Any, law: ScalingLaw) -> None:
    for curve in law.isoflop():
        sizes, losses = zip(*curve.points, strict=True)
        (line,) = axes.plot(sizes, losses, "o-", ms=4, lw=1, label=f"{curve.C:.1e}")
        if curve.is_interior:
            axes.plot(curve.N, curve.loss, "*", ms=12, color=line.get_color())
    axes.set(
        xscale="log", xlabel="parameters N", ylabel="loss", title="Equal compute; star: interior minimum"
    )
    axes.legend(title="FLOPs", fontsize=7, title_fontsize=8)


def _equal_compute(axes: Any, pairs: list[dict[str, Any]]) -> None:
    ticks = []
    for place, pair in enumerate(pairs):
        for side, name in enumerate(("smaller", "larger")):
            losses, at = pair[name]["losses"], 3 * place + side
            axes.plot([at] * len(losses), losses, "o", ms=5, color=("tab:green", "tab:red")[side])
            ticks.append((at, f"{pair[name]['N'] / 1e3:.0f} k, {pair[name]['D'] / 1e6:.1f} M"))
        top = max(pair["larger"]["losses"] + pair["smaller"]["losses"])
        label = f"{pair['difference']:+.3f}\n{pair['low']:+.3f} to\n{pair['high']:+.3f}"
        axes.annotate(label, (3 * place + 0.5, top), ha="center", va="bottom", fontsize=7,
                      xytext=(0, 4), textcoords="offset points")  # fmt: skip
    axes.set(
        title="Equal compute: small model on more data (left)\nagainst large model on less (right)",
        ylabel="loss",
    )
    axes.margins(0.08, 0.3)
    if ticks:
        axes.set_xticks([at for at, _ in ticks], [label for _, label in ticks], fontsize=7, rotation=60)


def _metrics(axes: Any, rows: Rows) -> None:
    losses = np.array([row["loss"] for row in rows])
    axes[0].plot(losses, [row["exact_10"] for row in rows], ".", color="tab:orange")
    axes[0].set(title="Exact match of 10 characters", ylabel="share exactly right")
    axes[1].plot(losses, [row["accuracy"] for row in rows], ".", label="characters right")
    axes[1].plot(losses, [1 - row["edit_distance"] for row in rows], ".", label="1 - edit distance of 10")
    axes[1].set(title="Smooth metrics of the same runs")
    axes[1].legend(fontsize=8)
    for k, marker in ((5, "."), (10, "x")):
        axes[2].plot(
            losses, [max(row[f"exact_{k}"], 1e-6) for row in rows], marker, ms=4, ls="", label=f"exact {k}"
        )
    axes[2].set(yscale="log", ylim=(5e-6, 0.2), title="Exact match on a logarithmic axis: no jump")
    axes[2].legend(fontsize=8)
    for axis in axes:
        axis.set_xlabel("loss (falls to the right)")
        axis.invert_xaxis()
