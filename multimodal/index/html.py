"""HTML of hits and reports for notebooks: thumbnails, players, and all foreign text escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.core.errors import MultimodalError
from multimodal.core.media.registry import Excerpt, open_excerpt, to_html

if TYPE_CHECKING:
    from multimodal.index.results import Hit, IngestReport


def hits_html(hits: Sequence[Hit]) -> str:
    """A table with one row for each hit."""
    if not hits:
        return "<p>no hits</p>"
    head = "<tr><th>score</th><th>modality</th><th>item</th><th>uri</th><th>metadata</th></tr>"
    return f"<table>{head}{''.join(map(_row, hits))}</table>"


def report_html(report: IngestReport) -> str:
    """The counts, and a table of the failures."""
    rows = "".join(
        f"<tr><td>{html.escape(failure.uri)}</td><td>{html.escape(failure.stage)}</td>"
        f"<td>{html.escape(failure.reason)}</td></tr>"
        for failure in report.failed
    )
    head = "<tr><th>failed</th><th>stage</th><th>reason</th></tr>"
    return f"<p>{html.escape(str(report))}</p>" + (f"<table>{head}{rows}</table>" if rows else "")


def _row(hit: Hit) -> str:
    metadata = ", ".join(f"{key}: {value}" for key, value in hit.metadata.items())
    location = " · ".join(filter(None, (hit.uri, hit.location)))
    before, after = (f"{hit.score:.3f}", str(hit.modality)), (location, metadata)
    cells = [*map(html.escape, before), _content(hit), *map(html.escape, after)]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _content(hit: Hit) -> str:
    """The item itself, if it is a text or a file on this machine."""
    path = Path(hit.uri) if hit.uri and "\0" not in hit.uri else None
    if path is not None and path.is_file():
        fragment = hit.id.rpartition("#")[2] if "#" in hit.id else ""
        try:
            item = open_excerpt(path, Excerpt(hit.modality, hit.start_s, hit.end_s, fragment))
            if item is not None:
                return to_html(item)
        except MultimodalError as error:  # the file has changed since it was indexed
            return f"<i>{html.escape(str(error))}</i>"
    return html.escape(hit.snippet)
