"""The demo as one web page: pictures and sounds inside, no script, nothing fetched from anywhere."""

from __future__ import annotations

import html
import io
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal import __version__
from multimodal.cli.demo.page_style import STYLE
from multimodal.cli.demo.result import PLURALS, Answer, Demo, Verdict, name_of, near
from multimodal.core.items import Audio, Image, Item, Text
from multimodal.core.media.registry import open_as, thumbnail, to_html
from multimodal.core.media.thumbnail import data_uri, encode_image
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import PIL.Image

    from multimodal.cli.demo.generative import Making
    from multimodal.index import Hit

THUMBNAIL_SIDE = 256
WAVE_BARS = 44
PLAYER_RATE_HZ = 16_000
WORD = {Modality.TEXT: "words", Modality.IMAGE: "picture", Modality.AUDIO: "sound", Modality.VIDEO: "video"}
# Stops the page from loading or running anything, whatever a file name or a note may hold.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
FAVICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill-opacity='.9'%3E"
    "%3Ccircle cx='9' cy='9' r='6' fill='%23c2700c'/%3E%3Ccircle cx='16' cy='10' r='6' fill='%232f6fd6'/%3E"
    "%3Ccircle cx='12' cy='16' r='6' fill='%238446c8'/%3E%3C/svg%3E"
)


def page(demo: Demo) -> str:
    """The whole page, HTML."""
    sections = "".join(
        _section(title, "".join(_answer(answer, demo) for answer in group))
        for title, group in groupby(demo.answers, key=lambda answer: answer.question.title)
    )
    verdicts = "".join(_verdict(verdict, demo) for verdict in demo.verdicts)
    if verdicts:
        sections += _section("Sorted into labels, without training", f'<div class="pair">{verdicts}</div>')
    for title, group in groupby(demo.makings, key=lambda making: making.title):
        made = "".join(_making(making, demo) for making in group)
        sections += _section(title, f'<div class="makings">{made}</div>')
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>multimodal: words, pictures and voices in one space</title>
<link rel="icon" href="{FAVICON}">
<style>{STYLE}</style>
</head>
<body>
<header>
<p class="brand">multimodal {_safe(__version__)}</p>
<h1><span class="text">Words</span>, <span class="image">pictures</span> and <span class="audio">voices</span> in one
space</h1>
<p class="lead">Every item became one vector, by what it means and not by its name. Whatever lies near in that space is
found, whichever kind it is of.</p>
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
    times = sorted(answer.seconds for answer in demo.answers)
    median = times[len(times) // 2] if times else 0.0
    facts = [(f"{n:,}", PLURALS.get(modality, f"{modality} items")) for modality, n in demo.counts.items()]
    millions = f"{parameters / 1e6:.1f} M" if parameters >= 1e5 else f"{parameters:,}"
    facts += [
        (f"{demo.indexing_seconds:.1f} s", "to index them all"),
        (f"{1000 * median:.0f} ms", "to answer a query"),
        (millions, f"parameters in {demo.facts['name']}"),
        (f"{demo.facts['dim']}", "numbers in a vector"),
    ]
    return f'<dl class="facts">{"".join(f"<div><dt>{_safe(b)}</dt><dd>{_safe(a)}</dd></div>" for a, b in facts)}</dl>'


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{_safe(title)}</h2>\n{content}</section>\n"


def _answer(answer: Answer, demo: Demo) -> str:
    wanted = answer.question.wanted
    command = f"multimodal search {near(demo.index)} {answer.option}" + (
        f" --modality {wanted}" if wanted else ""
    )
    hits = "".join(_hit(hit, demo) for hit in answer.hits)
    return f"""<article class="question">
<div class="query {answer.query.modality}">
<h3>{WORD[answer.query.modality]}</h3>
{_show(answer.query, name_of(answer.query, demo.gallery))}
{_file_name(answer.query)}
</div>
<ol class="hits" aria-label="What was found, the nearest first">{hits}</ol>
<p class="how"><code>{_safe(command)}</code> <span>{1000 * answer.seconds:.0f} ms</span></p>
</article>
"""


def _hit(hit: Hit, demo: Demo) -> str:
    item = _item_of(hit)
    name = name_of(hit, demo.gallery)
    caption = f'<p class="name" title="{_safe(name)}">{_safe(Path(name).name)}</p>'
    return (
        f'<li class="{hit.modality}">{_show(item, name)}{caption}{_bar(hit.score, f"{hit.score:.2f}")}</li>'
    )


def _verdict(verdict: Verdict, demo: Demo) -> str:
    rows = "".join(
        f'<li><span class="label">{_safe(label)}</span>{_bar(score, f"{score:.0%}")}</li>'
        for label, score in verdict.labels
    )
    return f"""<article class="verdict">
<div class="query {verdict.query.modality}">
<h3>{WORD[verdict.query.modality]}</h3>
{_show(verdict.query, name_of(verdict.query, demo.gallery))}
{_file_name(verdict.query)}
</div>
<ol class="labels" aria-label="Labels, the most probable first">{rows}</ol>
</article>
"""


def _making(making: Making, demo: Demo) -> str:
    """What was given, and what was made of it."""
    query = making.query
    if making.picture is None:
        made = f"<blockquote>{_safe(making.said or '')}</blockquote>"
    else:
        alt = f"a drawing of {name_of(query, demo.gallery)}"
        made = f'<img class="drawn" src="{_drawing(making.picture)}" alt="{_safe(alt)}">'
    return f"""<article class="making">
<div class="query {query.modality}">
<h3>{WORD[query.modality]}</h3>
{_show(query, name_of(query, demo.gallery))}
{_file_name(query)}
</div>
<div class="made">{made}</div>
<p class="how"><code>{_safe(making.command)}</code> <span>{1000 * making.seconds:.0f} ms</span></p>
</article>
"""


def _drawing(picture: PIL.Image.Image) -> str:
    """A data URI of a small drawing, every pixel as it was made."""
    return data_uri("image/png", encode_image(picture, "PNG"))


def _file_name(query: Item) -> str:
    return f'<p class="name">{_safe(Path(query.uri).name)}</p>' if query.uri else ""


def _bar(share: float, shown: str) -> str:
    """A bar and its number; the bar is for the eye only."""
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
        ("Takes", ", ".join(demo.facts["modalities"])),
        ("Fingerprint", demo.facts["fingerprint"][:16]),
        ("Licence", card.get("licence")),
        ("Source", card.get("source")),
    ]
    return f"""<h2>What to make of this</h2>
<p>The bars show cosines, −1 to 1, between the query and what was found; the percentages are the model's own
probabilities over the labels given. File names are shown for people: no model saw them. The numbers are as they came
out; where a wrong thing stands high, that is what the model thinks.</p>
{_limits(demo)}
<p>Your own files: <code>multimodal index ~/Pictures --index memories.lance</code>, then
<code>multimodal search memories.lance "a sad cat"</code>.</p>
<dl class="small">{_rows(facts)}</dl>
<p class="licences">Pictures are drawn with Noto Color Emoji (Google, OFL-1.1); clips were spoken by espeak-ng.</p>"""


def _limits(demo: Demo) -> str:
    if demo.facts["name"] != "starter":
        return ""
    return """<p><strong>The starter is small and knows a small world:</strong> emoji on many backgrounds, their names,
and those names spoken by a synthesiser. It is there so that everything runs offline at once. It has not seen
photographs, heard a person, or read more than short phrases. For those, load a large model by its name:
<code>multimodal models</code> lists them, <code>--space NAME</code> takes one.</p>"""


def _rows(pairs: Iterable[tuple[str, object]]) -> str:
    return "".join(
        f"<div><dt>{_safe(key)}</dt><dd>{_safe(value)}</dd></div>" for key, value in pairs if value
    )


def _safe(value: object) -> str:
    return html.escape(str(value), quote=True)
