"""The report of a fine-tuning: what was gained, what was forgotten, and the curve between."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from multimodal.adapt.finetuning.judge import Figure
from multimodal.adapt.finetuning.plot import line_plot
from multimodal.core.errors import InvalidInput


@dataclass(frozen=True)
class CurvePoint:
    """One point of the curve over the interpolation weight.

    Attributes:
        weight: 0 is the space before training, 1 the trained weights.
        validation: On the validation pairs, which choose the weight.
        new: On the held-out pairs.
        old: On the reference pairs; None without any.
    """

    weight: float
    validation: Figure
    new: Figure
    old: Figure | None


@dataclass(frozen=True)
class FinetuneReport:
    """What a fine-tuning gained and lost.

    Attributes:
        method: "lora", "dora", "probe", "full" or "last".
        modalities: The modalities that were trained.
        metric: What the figures measure.
        gain: Change on the held-out pairs of the new data, after - before.
        forgetting: Change on the reference pairs, after - before; None without a reference.
        before: On the held-out pairs, before.
        after: On the held-out pairs, after.
        reference_before: On the reference pairs, before.
        reference_after: On the reference pairs, after.
        reference: Where the reference pairs come from.
        weight: The interpolation weight that was chosen; 0 keeps the space as it was.
        curve: Figures at each weight that was tried.
        n_train: Pairs that were trained on.
        n_validation: Pairs that chose the step and the weight.
        n_replay: Pairs that were replayed.
        n_parameters: Parameters that trained.
        size_kb: Size of the adapter's folder in kB; None if nothing was written.
        losses: Training loss of each step.
        validation: (step, validation loss) of each evaluation.
        best_step: The step whose weights were kept.
        stopped: Why training ended early; None if it did not.
        seconds: Wall time.
        base: Fingerprint of the space before.
        fingerprint: Fingerprint of the space after.
        settings: The options of the run.
        notes: Further findings, such as leaks and files that could not be read.
        is_loss: Whether the figures are losses (of a decoder) rather than shares. A gain is then a decrease.
    """

    method: str
    modalities: tuple[str, ...]
    metric: str
    gain: Figure
    forgetting: Figure | None
    before: Figure
    after: Figure
    reference_before: Figure | None
    reference_after: Figure | None
    reference: str
    weight: float
    curve: tuple[CurvePoint, ...]
    n_train: int
    n_validation: int
    n_replay: int
    n_parameters: int
    size_kb: float | None
    losses: tuple[float, ...]
    validation: tuple[tuple[int, float], ...]
    best_step: int
    stopped: str | None
    seconds: float
    base: str
    fingerprint: str
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_loss: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Converts the report to plain values.

        Returns:
            JSON values.
        """
        return asdict(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report.

        Args:
            path: A file that ends in .html or .json.

        Raises:
            InvalidInput: For another ending.
        """
        target = Path(path).expanduser()
        if target.suffix == ".json":
            text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        elif target.suffix in (".html", ".htm"):
            text = page(self)
        else:
            raise InvalidInput(f"a report is written as .html or .json, got {str(path)!r}")
        target.write_text(text, encoding="utf-8")

    def __str__(self) -> str:
        forgot = "no reference" if self.forgetting is None else f"reference {_change(self, self.forgetting)}"
        before, after = (
            f"{f.value:.3f}" if self.is_loss else f"{f.value:.1%}" for f in (self.before, self.after)
        )
        return (
            f"{' and '.join(self.modalities)} by {self.method}: held-out {before} -> {after} "
            f"({_change(self, self.gain)}), {forgot}, interpolation {self.weight:g}"
        )

    def _repr_html_(self) -> str:
        return body(self)


def _change(report: FinetuneReport, figure: Figure) -> str:
    if report.is_loss:
        return f"gain {figure.value:+.3f}, {figure.low:+.3f} to {figure.high:+.3f}"
    return f"{100 * figure.value:+.1f} points, {100 * figure.low:+.1f} to {100 * figure.high:+.1f}"


def _shown(report: FinetuneReport, figure: Figure) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f}–{figure.high:.3f})" if report.is_loss else figure.percent


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1c2330; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .3rem .9rem; border-bottom: 1px solid #d8dde6; text-align: right; }
td:first-child, th:first-child { text-align: left; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; }
.up { color: #17692f; } .down { color: #a52323; }
code { font-size: .9em; }
"""


def page(report: FinetuneReport) -> str:
    """The report as an HTML page that needs no other file."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Fine-tuning</title><style>{STYLE}</style>'
        f"</head><body><h1>Fine-tuning</h1>{body(report)}</body></html>\n"
    )


def body(report: FinetuneReport) -> str:
    """The content of the page."""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.notes)
    settings = ", ".join(f"{key} {value}" for key, value in report.settings.items() if value is not None)
    size = "" if report.size_kb is None else f", {report.size_kb:,.0f} kB"
    return (
        f"<p>{html.escape(str(report))}</p>{_table(report)}"
        f'<div class="plots">{_curve_plot(report)}{_loss_plot(report)}</div>'
        f"<p>{html.escape(report.metric)}. Intervals are 95 %. Trained on {report.n_train:,} pairs, "
        f"{report.n_validation:,} for validation, {report.n_replay:,} replayed; "
        f"{report.n_parameters:,} parameters{size}; "
        f"{report.seconds:.0f} s. Reference: {html.escape(report.reference)}.</p>"
        f"<ul>{notes}</ul><p>Settings: {html.escape(settings)}.</p>"
        f"<p>Base <code>{report.base[:16]}</code>, result <code>{report.fingerprint[:16]}</code>.</p>"
    )


def _table(report: FinetuneReport) -> str:
    rows = [("held-out part of the new data", report.before, report.after, report.gain)]
    if report.reference_before and report.reference_after and report.forgetting:
        rows.append(("reference", report.reference_before, report.reference_after, report.forgetting))
    cells = "".join(
        f"<tr><td>{name}</td><td>{before.n:,}</td><td>{_shown(report, before)}</td><td>{_shown(report, after)}</td>"
        f'<td class="{_class(change)}">{_change(report, change)}</td></tr>'
        for name, before, after, change in rows
    )
    return (
        "<table><tr><th></th><th>pairs</th><th>before</th><th>after</th><th>change</th></tr>"
        + cells
        + "</table>"
    )


def _class(change: Figure) -> str:
    return "down" if change.high < 0 else "up" if change.low > 0 else ""


def _curve_plot(report: FinetuneReport) -> str:
    points = report.curve
    series: list[tuple[str, Sequence[tuple[float, float, float, float]]]] = [
        ("held-out", [(p.weight, p.new.value, p.new.low, p.new.high) for p in points])
    ]
    old = [(p.weight, p.old.value, p.old.low, p.old.high) for p in points if p.old is not None]
    if old:
        series.append(("reference", old))
    return line_plot(
        "figures over the interpolation weight", series, mark=report.weight, percent=not report.is_loss
    )


def _loss_plot(report: FinetuneReport) -> str:
    losses = [(float(step + 1), loss, loss, loss) for step, loss in enumerate(report.losses)]
    validation = [(float(step), loss, loss, loss) for step, loss in report.validation]
    series = [
        (name, points)
        for name, points in (("training, with replay", losses), ("validation", validation))
        if points
    ]
    return line_plot("loss over steps", series, mark=float(report.best_step), percent=False)
