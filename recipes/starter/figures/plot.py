"""Plots loss and held-out recall over time, one panel per tower -> training.png and meeting.png."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIGURES = {
    "training.png": {"text": "text tower", "image": "image tower", "audio": "audio tower"},
    "meeting.png": {
        "meet_image": "joint fine-tuning: image tower",
        "meet_audio": "joint fine-tuning: audio tower",
        "accents": "accents: audio tower",
    },
    "photographs.png": {"photographs": "photograph-like backgrounds: image tower"},
}


def run(work: Path, folder: Path) -> None:
    """Plots the training logs; with --from-shipped there are only those of joint fine-tuning."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for file, titles in FIGURES.items():
        logs = {title: work / f"{name}.log.jsonl" for name, title in titles.items()}
        if not all(log.exists() for log in logs.values()):
            continue
        size = (4.4 * len(logs), 3.8)
        figure, panels = pyplot.subplots(1, len(logs), figsize=size, layout="constrained", squeeze=False)
        for panel, (title, log) in zip(panels[0], logs.items(), strict=True):
            draw(panel, title, [json.loads(line) for line in log.read_text().splitlines()])
        figure.savefig(folder / file, dpi=110)


def draw(panel: Any, title: str, rows: list[dict[str, float]]) -> None:
    """One training: the loss in grey, held-out recall in colour."""
    losses = [row for row in rows if "loss" in row]
    panel.plot(
        [row["seconds"] / 60 for row in losses], [row["loss"] for row in losses], color="0.6", label="loss"
    )
    panel.set(title=title, xlabel="minutes of training", ylabel="loss", yscale="log")
    recalls = [row for row in rows if any("R@" in key for key in row)]
    if recalls:
        right = panel.twinx()
        for key in (key for key in recalls[0] if key not in ("step", "seconds")):
            minutes = [row["seconds"] / 60 for row in recalls]
            right.plot(minutes, [row[key] for row in recalls], marker=".", label=key)
        right.set(ylabel="held-out recall, letters wrong, %", ylim=(0, 100))
        right.legend(fontsize=6, loc="lower right")
