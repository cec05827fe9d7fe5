"""The report of the demo: one HTML file with its media inside, without scripts or external resources."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal import __version__
from multimodal.cli.demo.data import CONFIDENT, PLURALS, display_name, is_confident, typed_path
from multimodal.cli.demo.page_style import STYLE
from multimodal.core.items import Audio, Image, Item, Text
from multimodal.core.media.registry import open_as, thumbnail, to_html
from multimodal.core.media.thumbnail import data_uri, encode_image
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import PIL.Image

    from multimodal.cli.demo.data import ClassificationResult, Demo, Generated, QueryResult
    from multimodal.index import Hit

THUMBNAIL_SIDE = 256
WAVE_BARS = 44
PLAYER_RATE_HZ = 16_000
# Stops the page from loading or running anything, whatever a file name or a note may hold.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
FAVICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill-opacity='.9'%3E"
    "%3Ccircle cx='9' cy='9' r='6' fill='%23c2700c'/%3E%3Ccircle cx='16' cy='10' r='6' fill='%232f6fd6'/%3E"
    "%3Ccircle cx='12' cy='16' r='6' fill='%238446c8'/%3E%3C/svg%3E"
)


def page(demo: Demo) -> str:
    """The report as HTML."""
    sections = "".join(
        _section(title, "".join(_query_result(result, demo) for result in group))
        for title, group in groupby(demo.queries, key=lambda result: result.query.title)
    )
    classifications = "".join(_classification(result, demo) for result in demo.classifications)
    if classifications:
        sections += _section("Zero-shot classification", f'<div class="pair">{classifications}</div>')
    for title, group in groupby(demo.generated, key=lambda result: result.title):
        articles = "".join(_generated(result, demo) for result in group)
        sections += _section(title, f'<div class="grid">{articles}</div>')
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>multimodal: demo</title>
<link rel="icon" href="{FAVICON}">
<style>{STYLE}</style>
</head>
<body>
<header>
<p class="brand">multimodal {_safe(__version__)}</p>
<h1><span class="text">Text</span>, <span class="image">images</span> and <span class="audio">speech</span> in one
embedding space</h1>
<p class="lead">Each item is encoded as one vector, from its content alone. A query returns the items whose vectors are
nearest, in any modality.</p>
{_facts(demo)}
</header>
<main>
{sections}
</main>
<footer>
{_footer(demo)}
</footer>
</body>
</html>
"""


def _facts(demo: Demo) -> str:
    parameters = sum(encoder["parameters"] for encoder in demo.facts["encoders"].values())
    times = sorted(result.seconds for result in demo.queries)
    median = times[len(times) // 2] if times else 0.0
    facts = [(f"{n:,}", PLURALS.get(modality, f"{modality} items")) for modality, n in demo.counts.items()]
    millions = f"{parameters / 1e6:.1f} M" if parameters >= 1e5 else f"{parameters:,}"
    facts += [
        (f"{demo.indexing_seconds:.1f} s", "indexing time"),
        (f"{1000 * median:.0f} ms", "median query time"),
        (millions, f"parameters of {demo.facts['name']}"),
        (f"{demo.facts['dim']}", "dimensions"),
    ]
    rows = "".join(f"<div><dt>{_safe(name)}</dt><dd>{_safe(value)}</dd></div>" for value, name in facts)
    return f'<dl class="facts">{rows}</dl>'


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{_safe(title)}</h2>\n{content}</section>\n"


def _query(item: Item, demo: Demo) -> str:
    """The input of a search, a classification or a generation."""
    return f"""<div class="query {item.modality}">
<h3>{item.modality}</h3>
{_show(item, display_name(item, demo.gallery))}
{_file_name(item)}
</div>"""


def _query_result(result: QueryResult, demo: Demo) -> str:
    from multimodal.index.results import Hits

    target = result.query.target
    command = f"multimodal search {typed_path(demo.index)} {result.option}" + (
        f" --modality {target}" if target else ""
    )
    own = (
        result.item.modality is target
    )  # the query is indexed, and its own probability leaves little to the others
    mixed = Hits(result.hits).ordered_by == "probability"
    hits = "".join(_hit(hit, demo, likely=not own, mixed=mixed) for hit in result.hits)
    return f"""<article class="question">
{_query(result.item, demo)}
<ol class="hits" aria-label="Hits, the nearest first">{hits}</ol>
<p class="how"><code>{_safe(command)}</code> <span>{1000 * result.seconds:.0f} ms</span></p>
</article>
"""


def _hit(hit: Hit, demo: Demo, *, likely: bool, mixed: bool) -> str:
    """mixed: the hits are of several modalities, and ordered by probability instead of cosine."""
    item = _item_of(hit)
    name = display_name(hit, demo.gallery)
    caption = f'<p class="name" title="{_safe(name)}">{_safe(Path(name).name)}</p>'
    mark = " confident" if is_confident(hit) else ""
    probability = ""
    if likely and hit.probability is not None:
        probability = f'<p class="probability">{hit.probability:.0%} probable</p>'
    score = _bar(hit.score, f"{hit.score:.2f}")
    if mixed:
        score = _bar(hit.probability or 0.0, f"{hit.probability or 0.0:.0%}")
        probability = f'<p class="probability">cosine {hit.score:.2f}</p>'
    return f'<li class="{hit.modality}{mark}">{_show(item, name)}{caption}{score}{probability}</li>'


def _classification(result: ClassificationResult, demo: Demo) -> str:
    rows = "".join(
        f'<li><span class="label">{_safe(label)}</span>{_bar(score, f"{score:.0%}")}</li>'
        for label, score in result.labels
    )
    return f"""<article class="classification">
{_query(result.item, demo)}
<ol class="labels" aria-label="Labels, the most probable first">{rows}</ol>
</article>
"""


def _generated(result: Generated, demo: Demo) -> str:
    """An input, and what was generated from it."""
    if result.image is None:
        output = f"<blockquote>{_safe(result.text or '')}</blockquote>"
    else:
        alt = f"generated from {display_name(result.item, demo.gallery)}"
        output = f'<img class="drawn" src="{_png(result.image)}" alt="{_safe(alt)}">'
    return f"""<article class="generated">
{_query(result.item, demo)}
<div class="made">{output}</div>
<p class="how"><code>{_safe(result.command)}</code> <span>{1000 * result.seconds:.0f} ms</span></p>
</article>
"""


def _png(image: PIL.Image.Image) -> str:
    """A data URI of a small image, lossless."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return data_uri("image/png", file.getvalue())


def _file_name(item: Item) -> str:
    return f'<p class="name">{_safe(Path(item.uri).name)}</p>' if item.uri else ""


def _bar(share: float, shown: str) -> str:
    """A bar and its number; screen readers skip the bar."""
    width = 100 * min(max(share, 0.0), 1.0)
    return f'<p class="score"><span aria-hidden="true"><i style="width:{width:.1f}%"></i></span>{_safe(shown)}</p>'


def _item_of(hit: Hit) -> Item:
    if hit.modality is Modality.TEXT:
        return Text(hit.text or "", uri=hit.uri)
    return open_as(Path(hit.uri or ""), hit.modality)


def _show(item: Item, name: str) -> str:
    """An item as HTML with everything inside."""
    if isinstance(item, Text):
        return f"<blockquote>{_safe(item.load().strip())}</blockquote>"
    label = Path(name).stem.replace("-", " ")
    if isinstance(item, Audio):
        return _player(item, label)
    if isinstance(item, Image):
        small = encode_image(thumbnail(item, THUMBNAIL_SIDE), "WEBP", quality=82)
        return f'<img src="{data_uri("image/webp", small)}" alt="{_safe(label)}">'
    return to_html(item)


def _player(item: Audio, name: str) -> str:
    """A drawing of the sound over the browser's own player, with the sound as FLAC inside."""
    import numpy as np
    import soundfile

    waveform = item.load(PLAYER_RATE_HZ)
    file = io.BytesIO()
    soundfile.write(file, waveform.samples, waveform.rate_hz, format="FLAC", subtype="PCM_16")
    peaks = [float(np.abs(part).max(initial=0)) for part in np.array_split(waveform.samples, WAVE_BARS)]
    loudest = max(peaks) or 1.0
    heights = [max(3.0, 60 * peak / loudest) for peak in peaks]
    bars = "".join(
        f'<rect x="{4 * k}" y="{32 - height / 2:.1f}" width="2.4" height="{height:.1f}" rx="1.2"/>'
        for k, height in enumerate(heights)
    )
    wave = f'<svg viewBox="0 0 {4 * WAVE_BARS} 64" aria-hidden="true" preserveAspectRatio="none">{bars}</svg>'
    source = data_uri("audio/flac", file.getvalue())
    audio = f'<audio controls preload="metadata" aria-label="{_safe(name)}" src="{source}"></audio>'
    return f'<div class="sound">{wave}{audio}</div>'


def _footer(demo: Demo) -> str:
    card: dict[str, Any] = demo.facts["card"] or {}
    facts = [
        ("Space", demo.facts["name"]),
        ("Modalities", ", ".join(demo.facts["modalities"])),
        ("Fingerprint", demo.facts["fingerprint"][:16]),
        ("Licence", card.get("licence")),
        ("Source", card.get("source")),
    ]
    return f"""<h2>Reading the report</h2>
<p>Bars show what orders the hits: the cosine similarity of the query and the hit, from −1 to 1, or, of several
modalities, the calibrated probability that the hit is what the query means. Hits of at least {CONFIDENT:.0%} are
outlined. Percentages of labels are the model's probabilities over the labels given. File names are shown for people;
the model did not read them. All values are as the model computed them.</p>
{_limits(demo)}
<p>With your own files: <code>multimodal index ~/Pictures --index memories.lance</code>, then
<code>multimodal search memories.lance "a sad cat"</code>.</p>
<dl class="small">{_rows(facts)}</dl>
<p class="licences">Images are drawn with Noto Color Emoji (Google, OFL-1.1); clips were spoken by espeak-ng.</p>"""


def _limits(demo: Demo) -> str:
    if demo.facts["name"] != "starter":
        return ""
    return """<p><strong>Scope of the starter:</strong> emoji on many backgrounds, their names, and the names spoken
by a synthesiser. It makes everything run offline at once. It was not trained on photographs, human voices or long
texts. For those, load a larger model by name: <code>multimodal models</code> lists them, and
<code>--space NAME</code> selects one.</p>"""


def _rows(pairs: Iterable[tuple[str, object]]) -> str:
    return "".join(
        f"<div><dt>{_safe(key)}</dt><dd>{_safe(value)}</dd></div>" for key, value in pairs if value
    )


def _safe(value: object) -> str:
    return html.escape(str(value), quote=True)
