"""The map as one HTML file that contains its data, media, style and script, and makes no network requests."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from multimodal.views.map_controls import CONTROLS
from multimodal.views.map_script import DRAWING
from multimodal.views.map_style import STYLE
from multimodal.views.points import Points, common_folder, describe
from multimodal.views.projection import PlaneProjection

NAMES = {"text": "text", "image": "image", "audio": "audio", "video": "video"}
PLURALS = {"text": "texts", "image": "images", "audio": "audio", "video": "videos"}
SCRIPT = DRAWING + CONTROLS
DECIMALS = 5  # of a coordinate, 0 to 1


def page(points: Points, plane: PlaneProjection, uris: Mapping[int, str], explanation: Sequence[str]) -> str:
    """The page. uris: data URIs by row number. explanation: sentences on how the map was made."""
    counts = Counter(row.modality for row in points.rows)
    legend = "".join(
        f'<button type="button" aria-pressed="true" data-kind="{_safe(modality)}">'
        f'<span>{_safe(PLURALS.get(modality, modality))}</span><span class="count">{counts[modality]:,}</span></button>'
        for modality in points.modalities
    )
    title = f"Map of {points.index.name}"
    sub = f"{len(points.rows):,} items in the space {points.space}, by {'UMAP' if plane.method == 'umap' else 'PCA'}"
    explained = "".join(f"<p>{_safe(sentence)}</p>" for sentence in explanation)
    checked = "checked" if uris else "disabled"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_policy()}">
<title>{_safe(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header>
<div class="title"><h1>{_safe(title)}</h1><p class="sub">{_safe(sub)}</p></div>
<div class="legend" role="group" aria-label="Modalities shown">{legend}</div>
<label><input type="checkbox" id="thumbnails" {checked}> thumbnails</label>
<div class="find"><input type="search" id="search" placeholder="filter by text or file name" aria-label="Filter">
<span id="found" role="status"></span></div>
</header>
<main>
<canvas id="map" tabindex="0" role="img" aria-label="{_safe(sub)}; the filter lists items by name"></canvas>
<ul id="list" hidden aria-label="Matching items"></ul>
<details><summary>How to read this</summary>{explained}</details>
<div class="zoom"><button type="button" id="in" aria-label="Zoom in">+</button>
<button type="button" id="out" aria-label="Zoom out">−</button>
<button type="button" id="fit" aria-label="Show all">⤢</button></div>
<div id="tip" hidden></div>
<noscript><p>The map is drawn by a script in this page; enable JavaScript to see it.</p></noscript>
</main>
<script type="application/json" id="data">{_json(_data(points, plane, uris))}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _data(points: Points, plane: PlaneProjection, uris: Mapping[int, str]) -> dict[str, Any]:
    modalities = list(points.modalities)
    low, high = plane.positions.min(axis=0), plane.positions.max(axis=0)
    folder = common_folder(points.rows)
    return {
        "kinds": modalities,
        "names": NAMES,
        "x": plane.positions[:, 0].round(DECIMALS).tolist(),
        "y": (1 - plane.positions[:, 1]).round(DECIMALS).tolist(),  # the y axis of a canvas points down
        "middle": [float((low[0] + high[0]) / 2), float(1 - (low[1] + high[1]) / 2)],
        "extent": (high - low).tolist(),
        "kind": [modalities.index(row.modality) for row in points.rows],
        "rows": [describe(row, folder) for row in points.rows],
        "thumb": [uris.get(number) for number in range(len(points.rows))],
    }


def _json(value: object) -> str:
    """JSON that cannot close its HTML element, whatever a file name or a text contains."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode()  # a file name may be invalid Unicode


def _policy() -> str:
    """Content security policy: only this page's script runs, and nothing is loaded from elsewhere."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    own = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; img-src data:; media-src data:; {own}"


def _safe(value: object) -> str:
    return html.escape(str(value).encode("utf-8", "replace").decode(), quote=True)
