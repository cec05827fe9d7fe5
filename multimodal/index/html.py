"""HTML of hits and reports for notebooks: thumbnails, players, and all foreign text escaped."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.core.errors import MultimodalError
from multimodal.core.media.registry import Excerpt, open_excerpt, to_html
from multimodal.core.remote.copies import media_path

if TYPE_CHECKING:
    from multimodal.index.results import Hit, Hits, IngestReport, SortKey

TITLES = {"score": "score", "probability": "probability", "fused_score": "fused score"}
CONFIDENT = 0.87  # probability from which a hit is outlined, see search/score_calibration.py
TEXT_CHARS = 600
# Stops the page from loading or running anything, whatever a file name or a text may hold.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1120px; margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; margin: 0; overflow-wrap: anywhere; }
ol { list-style: none; padding: 0; display: grid; gap: 20px; }
ol { grid-template-columns: repeat(auto-fill, minmax(220px, 1fr)); }
li { border: 1px solid #8884; border-radius: 12px; padding: 12px; display: flex; flex-direction: column; }
li.confident { outline: 3px solid #2f6fd6; }
li > div { flex: 1; display: flex; flex-direction: column; justify-content: center; }
li p { margin: 8px 0 0; font-size: 13px; }
img { width: 100%; max-height: 220px; object-fit: contain; }
audio, video { width: 100%; }
blockquote { margin: 0; overflow-wrap: anywhere; }
.name { overflow-wrap: anywhere; }
meter { width: 60%; }
"""


def hits_html(hits: Hits) -> str:
    """A table with one row for each hit; the first column is the number that orders them."""
    if not hits:
        return "<p>no hits</p>"
    key = hits.ordered_by
    head = f"<tr><th>{TITLES[key]}</th><th>modality</th><th>item</th><th>uri</th><th>metadata</th></tr>"
    return f"<table>{head}{''.join(_row(hit, key) for hit in hits)}</table>"


def hits_page(hits: Hits, title: str) -> str:
    """A page of its own that shows the hits with thumbnails and players, and loads and runs nothing."""
    key = hits.ordered_by
    pairs = zip(hits, hits.shares(), strict=True)
    cards = "".join(_card(hit, key, share) for hit, share in pairs) or "<p>no hits</p>"
    note = f"<p>{html.escape(hits.note)}</p>" if hits.note else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{html.escape(title or "Search")}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{html.escape(title or "Search")}</h1>
<p>{len(hits)} hits, ordered by {TITLES[key]}</p>{note}
<ol>{cards}</ol>
</body>
</html>
"""


def report_html(report: IngestReport) -> str:
    """The counts, and a table of the failures."""
    rows = "".join(
        f"<tr><td>{html.escape(failure.uri)}</td><td>{html.escape(failure.stage)}</td>"
        f"<td>{html.escape(failure.reason)}</td></tr>"
        for failure in report.failed
    )
    head = "<tr><th>failed</th><th>stage</th><th>reason</th></tr>"
    return f"<p>{html.escape(str(report))}</p>" + (f"<table>{head}{rows}</table>" if rows else "")


def _row(hit: Hit, key: SortKey) -> str:
    before = (_number(hit, key), str(hit.document_modality))
    after = (" · ".join(filter(None, (hit.uri, hit.location))), _metadata(hit))
    cells = [*map(html.escape, before), media_html(hit), *map(html.escape, after)]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _card(hit: Hit, key: SortKey, share: float) -> str:
    confident = " class=confident" if hit.probability is not None and hit.probability >= CONFIDENT else ""
    name = Path(hit.uri).name if hit.uri else "" if hit.text else hit.id
    lines = [hit.document_modality, name, hit.location, _metadata(hit)]
    about = html.escape(" · ".join(filter(None, map(str, lines))))
    bar = f'<meter min="0" max="1" value="{share:.4f}"></meter> {_number(hit, key)}'
    content = (
        media_html(hit)
        if hit.text is None
        else f"<blockquote>{html.escape(hit.text[:TEXT_CHARS])}</blockquote>"
    )
    title = html.escape(hit.uri or hit.id)
    return f'<li{confident}><div>{content}</div><p class="name" title="{title}">{about}</p><p>{bar}</p></li>'


def _number(hit: Hit, key: SortKey) -> str:
    value = getattr(hit, key)
    return (
        f"{value:.0%}" if key == "probability" else f"{value:.4f}" if key == "fused_score" else f"{value:.3f}"
    )


def _metadata(hit: Hit) -> str:
    return ", ".join(f"{key}: {value}" for key, value in hit.metadata.items())


def media_html(hit: Hit) -> str:
    """The item itself, if it is a text, a file on this machine, or an object of a store."""
    path = media_path(hit.uri)
    if path is not None and path.is_file():
        fragment = hit.id.rpartition("#")[2] if "#" in hit.id else ""
        try:
            item = open_excerpt(path, Excerpt(hit.modality, hit.start_s, hit.end_s, fragment))
            if item is not None:
                return to_html(item)
        except MultimodalError as error:  # the file has changed since it was indexed
            return f"<i>{html.escape(str(error))}</i>"
    return html.escape(hit.snippet)
