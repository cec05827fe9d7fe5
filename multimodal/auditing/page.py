"""The report of an audit as one HTML file that needs nothing else."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from multimodal.core.items import Item
from multimodal.evaluation.page import document, media_html

if TYPE_CHECKING:
    from multimodal.auditing.finding import AuditReport, Example, Finding

WIDTH = 300
HEADS = {
    "corruption": "Damage",
    "typographic": "Written words",
    "association": "Associations",
    "inheritance": "Inherited associations",
    "probe": "Order, binding, counting, negation",
    "geometry": "Geometry of the space",
    "groups": "Groups",
    "joint failure": "Shared failures",
    "transfer": "Attacks",
}
QUESTIONS = {
    "corruption": (
        "Each item is damaged and must still find itself among the undamaged ones. The value is the share "
        "that does, over all severities; a low value is bad."
    ),
    "typographic": (
        "Another thing's name is written on an image. The value is how much more often that word wins over "
        "the thing shown than nonsense letters do; a high value is bad."
    ),
    "association": (
        "Are the words of one list nearer to one pole than those of the other? The value d is the "
        "difference in standard deviations: 0 is none, and it cannot exceed about 2."
    ),
    "inheritance": (
        "Do images or recordings lean as their names do in the text tower? The value r is a correlation "
        "over concepts: 0 is none, 1 the same. It mixes meaning with bias, since flowers are liked."
    ),
    "probe": (
        "The right caption of two, or of four for counting, must be the nearest to an image. The value is "
        "the share of trials in which it is; guessing gives 0.50, or 0.25."
    ),
    "geometry": ("Is any item near everything, and do modalities lie apart?"),
    "groups": ("Do the figures differ between the groups of the data by more than chance makes them?"),
    "joint failure": (
        "Where both models are wrong, how often is it the same wrong answer? A high value is bad: one model "
        "is no check of the other."
    ),
    "transfer": (
        "Pixels are changed by at most 4 of 255 levels, so as to mislead this model. The value is the share "
        "of images that still find themselves; a low value is bad."
    ),
}
READING = (
    "● is the measured value with its 95 % interval, □ its control: what undamaged items, random words or "
    "an unrelated model give. A finding is a warning if it is beyond the limit on its card. Limits are "
    "conventions."
)
STYLE = """<style>
.tag { display: inline-block; border-radius: 999px; padding: 1px 10px; font-size: 12px; font-weight: 600;
  border: 1px solid currentColor; margin-right: 8px; }
.verdict { font-size: 17px; font-weight: 600; margin: 0 0 4px; }
.finding { display: grid; grid-template-columns: minmax(0, 1fr) 320px; gap: 8px 26px; }
.finding .wide { grid-column: 1 / -1; }
@media (max-width: 760px) { .finding { grid-template-columns: 1fr; } }
.before { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 12px; margin-top: 8px; }
.before figure { padding: 10px; } .before .pair img { height: 104px; width: 48%; }
.summary td:first-child { white-space: nowrap; } ul { margin: 6px 0; padding-left: 20px; }
.summary a { color: inherit; }
</style>"""


def audit_page(report: AuditReport) -> str:
    """The page of a report.

    Args:
        report: The report.

    Returns:
        HTML. It fetches nothing and runs no script.
    """
    n = len(report.warnings)
    verdict = (
        f"{n} of {len(report.findings)} findings are beyond their limits"
        if n
        else "no finding is beyond its limit"
    )
    parts = [
        STYLE,
        f"<h1>Audit of {_text(report.model)}</h1>",
        f'<p class="verdict {"warn" if n else "good"}">{verdict}</p>',
        f'<p class="soft">Tested on {_text(report.data)}; {report.grade} audit, seed {report.seed}. Each value stands '
        "beside its control, with a 95 % interval.</p>",
        f'<p class="small soft">{READING}</p>',
        _contents(report.warnings),
    ]
    for check, head in HEADS.items():
        warnings = [finding for finding in report.warnings if finding.check == check]
        if warnings:
            question = f'<p class="soft">{_text(QUESTIONS[check])}</p>'
            parts.append(f"<h2>{head}</h2>{question}" + "".join(map(_card, warnings)))
    rest = [finding for finding in report.findings if finding.verdict != "warn"]
    if rest:
        parts.append(f'<h2>Within limits, or without one</h2><div class="card scroll">{_table(rest)}</div>')
    parts += [_shared(report), _untested(report.untested)]
    parts.append(
        f'<p class="small soft">fingerprint {report.fingerprint[:16]}; {report.seconds:.0f} s. Groups of words, images '
        "and trials are small: read intervals, not values.</p>"
    )
    return document(f"Audit of {report.model}", "\n".join(parts))


def _contents(warnings: Iterable[Finding]) -> str:
    rows = "".join(
        f'<tr><td><span class="tag warn">warn</span><a href="#{_anchor(finding)}">'
        f"{_text(finding.name)}</a></td><td>{_claim(finding)}</td></tr>"
        for finding in warnings
    )
    return f'<div class="card scroll"><table class="summary">{rows}</table></div>' if rows else ""


def _card(finding: Finding) -> str:
    examples = "".join(map(_example, finding.examples))
    shown = f'<div class="before wide">{examples}</div>' if examples else ""
    details = _details(finding.details)
    cure = f'<p class="small"><b>What to do:</b> {_text(finding.cure)}</p>' if finding.cure else ""
    return (
        f'<div class="card finding" id="{_anchor(finding)}"><div>'
        f'<p><span class="tag {finding.verdict}">{finding.verdict}</span>'
        f"<b>{_text(finding.name)}</b></p><p>{_claim(finding)}.</p>"
        f'<p class="small soft">Warns if {_text(finding.limit)}. n = {finding.n}.</p>{cure}{details}</div>'
        f"<div>{_plot(finding)}</div>{shown}</div>"
    )


def _plot(finding: Finding) -> str:
    """The measured value with its interval above the control, on one scale."""
    low = finding.measured if finding.low is None else finding.low
    high = finding.measured if finding.high is None else finding.high
    ends = [low, high, finding.measured, finding.control_value]
    first, last = min(0.0, *ends), max(1.0 if max(ends) <= 1 else 0.0, *ends)
    scale = (WIDTH - 20) / (last - first)

    def x(value: float) -> float:
        return 10 + (value - first) * scale

    zero = f'<line class="axis" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="6" y2="58"/>'
    return (
        f'<svg width="{WIDTH}" height="78" role="img" aria-label="measured {finding.measured:.2f}, control '
        f'{finding.control_value:.2f}"><line class="axis" x1="10" x2="{WIDTH - 10}" y1="20" y2="20"/>'
        f'<line class="axis" x1="10" x2="{WIDTH - 10}" y1="46" y2="46"/>{zero}'
        f'<rect class="bar" opacity=".35" x="{x(low):.1f}" y="16" width="{max(1.5, x(high) - x(low)):.1f}" height="8" '
        f'rx="4"/><circle class="bar" cx="{x(finding.measured):.1f}" cy="20" r="5"/>'
        f'<rect x="{x(finding.control_value) - 4:.1f}" y="42" width="8" height="8" fill="none" class="ink"/>'
        f'<text x="10" y="72">{first:.2g}</text><text x="{WIDTH - 10}" y="72" text-anchor="end">{last:.2g}</text></svg>'
        f'<p class="small">● measured {_number(finding.measured)}{_interval(finding)}<br>□ control '
        f'{_number(finding.control_value)}: <span class="soft">{_text(finding.control)}</span></p>'
    )


def _interval(finding: Finding) -> str:
    if finding.low is None or finding.high is None:
        return " (no interval)"
    return f" [{_number(finding.low)}, {_number(finding.high)}]"


def _number(value: float) -> str:
    return f"{value:.2f}"


def _example(example: Example) -> str:
    items = [item for item in (example.before, example.after) if item is not None]
    shown = "".join(_media(item) for item in items)
    first, second = ("right", "nearest") if example.before is None else ("before", "after")
    return (
        f'<figure><div class="pair">{shown}</div><figcaption>{first}: <b>{_text(example.answer_before)}</b><br>'
        f"{second}: <b>{_text(example.answer_after)}</b></figcaption></figure>"
    )


def _claim(finding: Finding) -> str:
    """The claim, whose equations are kept on one line."""
    return _text(finding.claim).replace(" = ", "&nbsp;=&nbsp;")


def _anchor(finding: Finding) -> str:
    """The id of a finding's card."""
    return re.sub(r"\W+", "-", finding.name.lower()).strip("-")


def _media(item: Item) -> str:
    return media_html(item, 128)


def _details(details: Mapping[str, Any]) -> str:
    if not details:
        return ""
    rows = "".join(
        f"<tr><td>{_text(str(name))}</td><td>{_text(_value(own))}</td></tr>" for name, own in details.items()
    )
    return f'<details><summary class="small">numbers</summary><table class="small">{rows}</table></details>'


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {own}" for name, own in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _table(findings: Iterable[Finding]) -> str:
    rows = "".join(
        f'<tr><td><span class="tag {"good" if finding.verdict == "fine" else "soft"}">{finding.verdict}</span>'
        f"{_text(finding.name)}</td><td class=n>{_number(finding.measured)}</td><td>{_text(_interval(finding).strip())}"
        f'</td><td class=n>{_number(finding.control_value)}</td><td class="small soft">{_text(finding.claim)}</td></tr>'
        for finding in findings
    )
    head = "<tr><th>finding</th><th class=n>value</th><th>interval</th><th class=n>control</th><th></th></tr>"
    return f'<table class="summary">{head}{rows}</table>'


def _shared(report: AuditReport) -> str:
    """Who shares these failures: what the model is made from, and relatives among the other models."""
    lines = [*report.lineage, *(f"related to {line}" for line in report.shared_by)]
    if not lines:
        lines = [
            "nothing is known of models that this one is made from, and no relative was found among those given"
        ]
    items = "".join(f"<li>{_text(line)}</li>" for line in lines)
    closing = "What is found above is likely to hold for everything built on the same weights."
    return (
        f'<h2>Who shares this</h2><div class="card"><ul>{items}</ul><p class="small soft">{closing}</p></div>'
    )


def _untested(untested: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><td><b>{_text(what)}</b></td><td>{_text(why)}</td></tr>" for what, why in untested.items()
    )
    return f'<h2>Not tested</h2><div class="card scroll"><table>{rows}</table></div>'


def _text(value: str) -> str:
    return html.escape(value)
