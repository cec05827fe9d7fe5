"""How hits and reports look in a notebook: small pictures, players, and everything from outside escaped."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.core.errors import MultimodalError
from multimodal.core.items import Image, Video
from multimodal.core.modality import Modality, Waveform
from multimodal.index.ingest.video import picture_of

if TYPE_CHECKING:
    from multimodal.index.results import Hit, IngestReport

THUMBNAIL_SIDE = 128
PLAYER_SECONDS = 15  # a page with ten players stays a page


def hits_html(hits: Sequence[Hit]) -> str:
    """A table with one row for each hit."""
    if not hits:
        return "<p>no hits</p>"
    head = "<tr><th>score</th><th>modality</th><th>item</th><th>uri</th><th>metadata</th></tr>"
    return f"<table>{head}{''.join(map(_row, hits))}</table>"


def report_html(report: IngestReport) -> str:
    """The counts, and a table of what failed."""
    rows = "".join(
        f"<tr><td>{html.escape(one.uri)}</td><td>{html.escape(one.stage)}</td><td>{html.escape(one.reason)}</td></tr>"
        for one in report.failed
    )
    head = "<tr><th>failed</th><th>stage</th><th>reason</th></tr>"
    return f"<p>{html.escape(str(report))}</p>" + (f"<table>{head}{rows}</table>" if rows else "")


def _row(hit: Hit) -> str:
    metadata = ", ".join(f"{key}: {value}" for key, value in hit.metadata.items())
    where = " · ".join(filter(None, (hit.uri, hit.place)))
    cells = [f"{hit.score:.3f}", str(hit.modality), None, where, metadata]
    return (
        "<tr>"
        + "".join(f"<td>{_content(hit) if c is None else html.escape(c)}</td>" for c in cells)
        + "</tr>"
    )


def _content(hit: Hit) -> str:
    """The thing itself, if it is a text or a file on this machine."""
    path = Path(hit.uri) if hit.uri and "\0" not in hit.uri else None
    if hit.text is None and path is not None and path.is_file():
        try:
            if hit.modality is Modality.IMAGE:
                return _thumbnail(path, picture_of(path, hit.start_s, hit.end_s))
            if hit.modality is Modality.AUDIO:
                return _player(path, hit.start_s or 0.0)
            if hit.modality is Modality.VIDEO:
                return Video(path)._repr_html_()
        except MultimodalError as error:  # it has changed since it was indexed: say so in its place
            return f"<i>{html.escape(str(error))}</i>"
    return html.escape(hit.snippet)


def _thumbnail(path: Path, image: Image) -> str:
    import PIL.Image

    picture = PIL.Image.fromarray(image.load())
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(path.name)}" src="data:image/png;base64,{data}">'


def _player(path: Path, start_s: float) -> str:
    """Some seconds of a sound from a time on; no more of the file is read than that."""
    import numpy as np

    from multimodal.core.media.audio import player_html, stream_audio

    pieces, rate_hz, at = [], 1, 0
    for block in stream_audio(path):
        rate_hz = block.rate_hz
        first, last = round(start_s * rate_hz), round((start_s + PLAYER_SECONDS) * rate_hz)
        pieces.append(block.samples[max(0, first - at) : max(0, last - at)])
        at += len(block.samples)
        if at >= last:
            break
    return player_html(Waveform(np.concatenate(pieces), rate_hz))
