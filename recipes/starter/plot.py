"""Loss and held-out recall over the hours, one panel a tower -> training.png."""

from __future__ import annotations

import json
from pathlib import Path


def run(work: Path, file: Path) -> None:
    """Draw the logs that the three trainings wrote."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for panel, tower in zip(panels, ("text", "image", "audio"), strict=True):
        rows = [json.loads(line) for line in (work / f"{tower}.log.jsonl").read_text().splitlines()]
        losses = [row for row in rows if "loss" in row]
        panel.plot(
            [row["seconds"] / 60 for row in losses],
            [row["loss"] for row in losses],
            color="0.6",
            label="loss",
        )
        panel.set(title=f"{tower} tower", xlabel="minutes of training", ylabel="loss", yscale="log")
        recalls = [row for row in rows if any("R@" in key for key in row)]
        if recalls:
            right = panel.twinx()
            for key in (key for key in recalls[0] if key not in ("step", "seconds")):
                right.plot(
                    [row["seconds"] / 60 for row in recalls],
                    [row[key] for row in recalls],
                    marker=".",
                    label=key,
                )
            right.set(ylabel="held-out recall, %", ylim=(0, 100))
            right.legend(fontsize=7, loc="center right")
    figure.savefig(file, dpi=110)
