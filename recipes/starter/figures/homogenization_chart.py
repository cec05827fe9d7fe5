"""Draws the failures shared with the starter: shares with intervals, and pictures with a common wrong answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from multimodal.auditing.checks.common import Subject
from multimodal.auditing.checks.corruption import damaged_images
from multimodal.auditing.checks.joint import Answers

OWN = "starter"
CHILD, OTHER = "#c2410c", "#0f766e"
SHOWN = 5  # pictures
PANELS = {
    "same wrong answer": "same wrong answer, % of the items\nthat both get wrong",
    "ratio at matched accuracy": "joint failures, times independence,\nat matched accuracy",
}


def draw(figures: dict[str, Any], answers: Answers, subject: Subject, file: Path) -> None:
    """Writes the chart.

    Args:
        figures: Of `homogenization.measure`.
        answers: Of all models.
        subject: The starter, with the pictures.
        file: A PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    models = figures["models"]
    order = sorted(models, key=lambda name: (not models[name]["shares the base"], -shares(models, name)[0]))
    rows = shown_items(answers, [name for name in order if models[name]["shares the base"]])
    page = pyplot.figure(figsize=(9, 5.8), layout="constrained")
    upper, lower = page.subfigures(2, 1, height_ratios=(1.3, 1))
    panels = upper.subplots(1, 2, sharey=True)
    for panel, (key, title) in zip(panels, PANELS.items(), strict=True):
        factor = 100 if key == "same wrong answer" else 1
        for place, name in enumerate(order):
            value, low, high = (factor * end for end in models[name][key])
            colour = CHILD if models[name]["shares the base"] else OTHER
            panel.plot([low, high], [place, place], color=colour, linewidth=2)
            panel.plot(value, place, "o", color=colour, markersize=6)
        panel.set(xlabel=title, yticks=range(len(order)), yticklabels=order)
        panel.axvline(0 if factor == 100 else 1, color="0.7", linewidth=1)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(axis="x", color="0.92")
        panel.set_axisbelow(True)
    panels[0].invert_yaxis()
    panels[0].set_xlim(-2, 102)
    for label in panels[0].get_yticklabels():
        label.set_color(CHILD if models[label.get_text()]["shares the base"] else OTHER)
    corner = {"ha": "right", "va": "center", "transform": panels[0].transAxes, "fontweight": "bold"}
    panels[0].text(0.99, 0.4, "built on the starter", color=CHILD, **corner)
    panels[0].text(0.99, 0.13, "no base in common", color=OTHER, **corner)
    examples(lower, rows, answers, subject, models)
    page.savefig(file, dpi=110)
    pyplot.close(page)


def shares(models: dict[str, Any], name: str) -> tuple[float, float, float]:
    """The share of the same wrong answer with its interval."""
    value, low, high = models[name]["same wrong answer"]
    return float(value), float(low), float(high)


def shown_items(answers: Answers, children: list[str]) -> list[int]:
    """Items of different pictures and kinds of damage on which most children give the starter's wrong answer."""
    own = answers.given[OWN]
    agree = np.sum([answers.given[name] == own for name in children], axis=0)
    agree = np.where(answers.wrong(OWN) & [" 3" in str(kind) for kind in answers.strata], agree, -1)
    rows: list[int] = []
    for row in np.argsort(-agree, kind="stable").tolist():
        seen = {(answers.units[other], str(answers.strata[other])[:-2]) for other in rows}
        unit, kind = answers.units[row], str(answers.strata[row])[:-2]
        if all(unit != other and kind != damage for other, damage in seen):
            rows.append(row)
        if len(rows) == SHOWN:
            break
    return rows


def examples(page: Any, rows: list[int], answers: Answers, subject: Subject, models: dict[str, Any]) -> None:
    """Damaged pictures, each with the starter's wrong answer and those of the models without a common base."""
    children = [name for name in models if models[name]["shares the base"]]
    page.suptitle("Damaged pictures, and what they are taken for", fontsize=10)
    for panel, row in zip(page.subplots(1, len(rows)), rows, strict=True):
        kind, _, severity = str(answers.strata[row]).rpartition(" ")
        place = int(answers.units[row].removeprefix("image "))
        panel.imshow(damaged_images(subject, kind, int(severity))[place])
        panel.set_title(f"{answers.targets[row]} ({kind})", fontsize=8)
        panel.axis("off")
        wrong = answers.given[OWN][row]
        agreeing = sum(answers.given[name][row] == wrong for name in children)
        others = dict.fromkeys(str(answers.given[name][row]) for name in models if name not in children)
        below = {"ha": "center", "va": "top", "fontsize": 8, "transform": panel.transAxes}
        panel.text(
            0.5,
            -0.05,
            f"starter and {agreeing} of {len(children)}\nbuilt on it: {wrong}",
            color=CHILD,
            **below,
        )
        panel.text(0.5, -0.33, "others: " + ",\n".join(others), color=OTHER, **below)
