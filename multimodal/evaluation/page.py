"""Reports as one HTML file that needs nothing else: figures, confusions, worst examples, calibration, comparisons."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from multimodal.core.errors import MultimodalError
from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.media.registry import thumbnail
from multimodal.core.media.thumbnail import data_uri, encode_image
from multimodal.evaluation.figure import Figure
from multimodal.evaluation.metrics.classification import BINS, bin_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.evaluation.comparison import Comparison
    from multimodal.evaluation.result import Evaluation, ItemResult

SIDE = 160  # pixels of a thumbnail
PLAYER_S, PLAYER_HZ = 6.0, 16_000
WORST, CONFUSIONS, CHANGED = 12, 12, 12
MATRIX = 20  # classes up to which the whole confusion matrix is drawn

STYLE = """
:root { --paper: #f7f6f3; --card: #fff; --ink: #1d2025; --soft: #5c636e; --line: #e0ddd5; --bar: #2a66c8;
  --good: #1c7c4a; --bad: #b3261e; --warn: #8a5200; --tint: 42, 102, 200; }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --card: #1d2026; --ink: #eceef1; --soft: #a2a9b5;
  --line: #30353d; --bar: #7fb0f8; --good: #6fd39d; --bad: #f2938c; --warn: #f0a94e; --tint: 127, 176, 248; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 28px 20px 60px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 26px; line-height: 1.2; letter-spacing: -.01em; margin: 0 0 6px; }
h2 { font-size: 19px; margin: 34px 0 10px; } h3 { font-size: 15px; margin: 20px 0 8px; }
p { margin: 6px 0; } .soft, figcaption { color: var(--soft); } .small { font-size: 13px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px;
  margin: 14px 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 14px 4px 0; vertical-align: middle; } th { font-weight: 600; color: var(--soft);
  font-size: 13px; } td.n, th.n { text-align: right; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 12px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px; }
figure img { display: block; max-width: 100%; height: 120px; object-fit: contain; margin: 0 auto 8px; }
figure audio { width: 100%; height: 34px; display: block; margin-bottom: 8px; }
figcaption { font-size: 13px; overflow-wrap: anywhere; } figcaption b { color: var(--ink); }
.good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.words { font-weight: 600; overflow-wrap: anywhere; margin-bottom: 6px; }
svg text { fill: var(--soft); font-size: 11px; } svg .axis { stroke: var(--line); } svg .bar { fill: var(--bar); }
svg .ink { stroke: var(--ink); } .matrix td { width: 30px; min-width: 30px; height: 26px; text-align: center;
  padding: 0; border: 1px solid var(--line); font-size: 12px; } .matrix th { font-weight: 400; padding: 0 8px 0 0;
  white-space: nowrap; }
.pair { display: flex; gap: 8px; justify-content: center; } .pair img { height: 96px; width: 48%; }
details summary { cursor: pointer; color: var(--soft); }
"""


def document(title: str, body: str) -> str:
    """A whole page. It fetches nothing and runs no script."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def evaluation_page(results: Sequence[Evaluation], comparisons: Sequence[Comparison] = ()) -> str:
    """The report of one or more evaluations.

    Args:
        results: Of one task.
        comparisons: Of pairs of them.

    Returns:
        HTML.
    """
    names = ", ".join(dict.fromkeys(result.model for result in results))
    first = results[0]
    head = f"<h1>{_text(first.task.capitalize())}: {_text(names)}</h1>"
    head += (
        f'<p class="soft">{_text(first.data)} · {len(first.items)} items · 95 % intervals by bootstrap</p>'
    )
    parts = [head, *map(_section, results)]
    if comparisons:
        parts.append(
            "<h2>Paired comparison</h2>" + "".join(_comparison(pair, results) for pair in comparisons)
        )
    return document(f"{first.task}: {names}", "\n".join(parts))


def _section(result: Evaluation) -> str:
    parts = [
        f"<h2>{_text(result.model)}</h2>",
        f'<div class="card scroll">{_figures(result)}{_notes(result)}</div>',
    ]
    if "confidence" in result.values and "accuracy" in result.values:
        plot = calibration_plot(result.values["confidence"], result.values["accuracy"])
        parts.append(f'<h3>Calibration</h3><div class="card">{plot}</div>')
    parts += [_confusion(result), _worst(result)]
    return "".join(parts)


def _figures(result: Evaluation) -> str:
    rows = [
        f'<tr><td>{_text(name)}</td><td class="n">{figure.value:.4f}</td><td>{_interval(figure)}</td>'
        f"<td>{_bar(figure)}</td></tr>"
        for name, figure in result.figures.items()
    ]
    return f'<table><tr><th>figure</th><th class="n">value</th><th>interval</th><th></th></tr>{"".join(rows)}</table>'


def _interval(figure: Figure) -> str:
    return "no interval" if figure.low is None else f"{figure.low:.4f} – {figure.high:.4f}"


def _bar(figure: Figure, width: int = 220) -> str:
    """The value with its interval on a scale from 0 to 1; nothing for a value beyond it."""
    if not 0 <= figure.value <= 1:
        return ""
    low, high = (
        figure.value if end is None else min(max(end, 0.0), 1.0) for end in (figure.low, figure.high)
    )
    return (
        f'<svg width="{width}" height="16" role="img" aria-label="{figure.value:.3f}">'
        f'<line class="axis" x1="0" x2="{width}" y1="8" y2="8"/>'
        f'<rect class="bar" opacity=".35" x="{low * width:.1f}" y="5" width="{max(1.0, (high - low) * width):.1f}" '
        f'height="6" rx="3"/><circle class="bar" cx="{figure.value * width:.1f}" cy="8" r="4"/></svg>'
    )


def _notes(result: Evaluation) -> str:
    gallery = result.headline.gallery
    lines = (
        []
        if gallery is None
        else [f"{gallery} candidates: figures of other gallery sizes are not comparable"]
    )
    lines += [f"{count} rows excluded: {reason}" for reason, count in result.excluded.items()]
    lines += result.notes
    settings = ", ".join(f"{name} {value}" for name, value in result.settings.items())
    lines.append(f"{settings}; {result.seconds:.1f} s; fingerprint {result.fingerprint[:12]}")
    return "".join(f'<p class="small soft">{_text(line)}</p>' for line in lines)


def calibration_plot(confidence: NDArray[np.float64], correct: NDArray[np.float64]) -> str:
    """A reliability diagram: the accuracy in each bin of confidence against the diagonal, with the bins' sizes below.

    Args:
        confidence: The probability of the predicted class, (n,).
        correct: Whether it was right, (n,).

    Returns:
        SVG with a caption.
    """
    import numpy as np

    side, left, top, sizes = 260, 40, 10, 46
    bins = bin_of(confidence)
    parts = [
        f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" class="axis"/>',
        f'<line class="axis" x1="{left}" y1="{top + side}" x2="{left + side}" y2="{top}"/>',
    ]
    counts = np.bincount(bins, minlength=BINS)
    for number in np.flatnonzero(counts):
        x, width = left + number * side / BINS, side / BINS - 2
        accuracy, mean = correct[bins == number].mean(), confidence[bins == number].mean()
        size = counts[number] / counts.max() * (sizes - 8)
        label = f"confidence {mean:.2f}, accuracy {accuracy:.2f}, {counts[number]} items"
        parts.append(
            f'<rect class="bar" opacity=".75" x="{x + 1:.1f}" y="{top + side - accuracy * side:.1f}" '
            f'width="{width:.1f}" height="{max(1.5, accuracy * side):.1f}"><title>{label}</title></rect>'
            f'<rect class="bar" opacity=".35" x="{x + 1:.1f}" y="{top + side + 22 + sizes - size:.1f}" '
            f'width="{width:.1f}" height="{size:.1f}"><title>{label}</title></rect>'
        )
    for share in (0.0, 0.5, 1.0):
        parts.append(
            f'<text x="{left - 6}" y="{top + side - share * side + 4}" text-anchor="end">{share:g}</text>'
        )
        parts.append(
            f'<text x="{left + share * side}" y="{top + side + 15}" text-anchor="middle">{share:g}</text>'
        )
    height = top + side + 22 + sizes + 4
    return (
        f'<svg width="{left + side + 12}" height="{height}" role="img" aria-label="calibration">{"".join(parts)}</svg>'
        '<p class="small soft">Accuracy in each bin of confidence; on the diagonal, confidence equals accuracy. '
        "Below, the number of items in each bin.</p>"
    )


def _confusion(result: Evaluation) -> str:
    names = list(dict.fromkeys([item.target for item in result.items]))
    if result.task == "classification" and len(names) <= MATRIX:
        return f'<h3>Confusion</h3><div class="card scroll">{_matrix(result, sorted(names))}</div>'
    pairs = result.confusions(CONFUSIONS)
    if not pairs or result.task not in ("classification", "retrieval"):
        return ""
    rows = "".join(
        f'<tr><td>{_text(_short(target))}</td><td>{_text(_short(predicted))}</td><td class="n">{count}</td></tr>'
        for target, predicted, count in pairs
    )
    head = '<tr><th>right</th><th>answered</th><th class="n">items</th></tr>'
    return f'<h3>Most frequent confusions</h3><div class="card scroll"><table>{head}{rows}</table></div>'


def _matrix(result: Evaluation, names: Sequence[str]) -> str:
    counts: dict[tuple[str, str], int] = {}
    for item in result.items:
        counts[item.target, item.predicted] = counts.get((item.target, item.predicted), 0) + 1
    answers = sorted({*names, *(item.predicted for item in result.items)})
    head = "".join(
        f'<th style="writing-mode:vertical-rl;transform:rotate(180deg);padding:6px 0">{_text(name)}</th>'
        for name in answers
    )
    rows = []
    for name in names:
        total = sum(count for (target, _), count in counts.items() if target == name)
        cells = [(answer, counts.get((name, answer), 0)) for answer in answers]
        rows.append(
            f"<tr><th>{_text(name)}</th>"
            + "".join(
                f'<td style="background:rgba(var(--tint),{0.75 * count / total:.2f})">{count or ""}</td>'
                for _, count in cells
            )
            + "</tr>"
        )
    caption = '<p class="small soft">Rows are the right classes, columns the answers.</p>'
    return f'<table class="matrix"><tr><th></th>{head}</tr>{"".join(rows)}</table>{caption}'


def _worst(result: Evaluation) -> str:
    positions = result.worst(WORST)
    if not positions:
        return ""
    cards = "".join(_example(result, row) for row in positions)
    return f'<h3>Worst examples</h3><div class="grid">{cards}</div>'


def _example(result: Evaluation, row: int) -> str:
    item = result.items[row]
    lines = [
        f"right: <b>{_text(_short(item.target))}</b>",
        f"answered: <b>{_text(_short(item.predicted))}</b>",
    ]
    for name, unit in (("rank", "rank {:g}"), ("confidence", "confidence {:.2f}"), ("wer", "WER {:.2f}")):
        if name in result.values:
            lines.append(unit.format(result.values[name][row]))
    return f"<figure>{_media(item)}<figcaption>{'<br>'.join(lines)}</figcaption></figure>"


def _media(item: ItemResult) -> str:
    """The item, and beside it the item that was answered, where those are media."""
    shown = [item.item] if item.item is not None else []
    if item.answer is not None and not isinstance(item.answer, Text):
        shown.append(item.answer)
    parts = [media_html(value) for value in shown] or [f'<div class="words">{_text(_short(item.name))}</div>']
    images = [part for part in parts if part.startswith("<img")]
    if len(images) > 1:
        return f'<div class="pair">{"".join(parts)}</div>'
    return "".join(parts)


def media_html(item: Item, side: int = SIDE) -> str:
    """An item as an element that holds its data: a thumbnail, a player of a few seconds, or words."""
    try:
        if isinstance(item, Text):
            return f'<div class="words">{_text(_short(item.load()))}</div>'
        if isinstance(item, Audio):
            return _player(item)
        if isinstance(item, Image | Video):
            picture = thumbnail(item, side)
            small = encode_image(picture.convert("RGB"), "WEBP", quality=80)
            return f'<img alt="" src="{data_uri("image/webp", small)}">'
    except MultimodalError:
        return '<p class="small soft">unreadable</p>'
    return f'<div class="words">{_text(type(item).__name__)}</div>'


def _player(item: Audio) -> str:
    import io

    import soundfile

    samples = item.load(PLAYER_HZ).samples[: int(PLAYER_S * PLAYER_HZ)]
    file = io.BytesIO()
    soundfile.write(file, samples.clip(-1, 1), PLAYER_HZ, format="FLAC", subtype="PCM_16")
    return f'<audio controls src="{data_uri("audio/flac", file.getvalue())}"></audio>'


def _comparison(pair: Comparison, results: Sequence[Evaluation]) -> str:
    rows = "".join(
        f'<tr><td class="{"bad" if example["change"] == "lost" else "good"}">{example["change"]}</td>'
        f"<td>{_text(_short(example['target']))}</td><td>{_text(_short(example['first']))}</td>"
        f"<td>{_text(_short(example['second']))}</td></tr>"
        for example in pair.examples[:CHANGED]
    )
    head = f"<tr><th></th><th>right</th><th>{_text(pair.first)}</th><th>{_text(pair.second)}</th></tr>"
    table = f'<div class="scroll"><table>{head}{rows}</table></div>' if rows else ""
    title = f"<p><b>{_text(pair.first)} → {_text(pair.second)}</b></p><p>{_text(str(pair))}</p>"
    return f'<div class="card">{title}{table}</div>'


def _short(text: str, length: int = 90) -> str:
    name = text.rpartition("/")[2] if text.startswith(("/", "./")) and " | " not in text else text
    return name if len(name) <= length else name[: length - 1] + "…"


def _text(value: str) -> str:
    return html.escape(value)
