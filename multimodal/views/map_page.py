"""The map as one HTML file: data, pictures, sounds, style and script inside, and nothing fetched from anywhere."""

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
from multimodal.views.points import Points, home, told
from multimodal.views.projection import Flat

NAMES = {"text": "text", "image": "picture", "audio": "sound", "video": "film"}
PLURALS = {"text": "texts", "image": "pictures", "audio": "sounds", "video": "films"}
SCRIPT = DRAWING + CONTROLS
PLACES = 5  # decimals of a coordinate: a hundred-thousandth of the map


def page(points: Points, flat: Flat, uris: Mapping[int, str], how: Sequence[str]) -> str:
    """how: sentences on what was done to the data, for the reader."""
    kinds = points.modalities
    counts = Counter(row.modality for row in points.rows)
    legend = "".join(
        f'<button type="button" aria-pressed="true" data-kind="{_safe(kind)}">'
        f'<span>{_safe(PLURALS.get(kind, kind))}</span><span class="count">{counts[kind]:,}</span></button>'
        for kind in kinds
    )
    title = f"Map of {points.index.name}"
    sub = f"{len(points.rows):,} items in the space {points.space}, by {'UMAP' if flat.method == 'umap' else 'PCA'}"
    explained = "".join(f"<p>{_safe(sentence)}</p>" for sentence in how)
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
<div class="legend" role="group" aria-label="Kinds shown">{legend}</div>
<label><input type="checkbox" id="pictures" {checked}> thumbnails</label>
<div class="find"><input type="search" id="search" placeholder="filter by words or file name" aria-label="Filter">
<span id="found" role="status"></span></div>
</header>
<main>
<canvas id="map" tabindex="0" role="img" aria-label="{_safe(sub)}; the filter lists items by name"></canvas>
<ul id="list" hidden aria-label="Items found"></ul>
<details><summary>How to read this</summary>{explained}</details>
<div class="zoom"><button type="button" id="in" aria-label="Zoom in">+</button>
<button type="button" id="out" aria-label="Zoom out">−</button>
<button type="button" id="fit" aria-label="Show all">⤢</button></div>
<div id="tip" hidden></div>
<noscript><p>The map is drawn by a script in this page; allow it to run.</p></noscript>
</main>
<script type="application/json" id="data">{_json(_data(points, flat, uris))}</script>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _data(points: Points, flat: Flat, uris: Mapping[int, str]) -> dict[str, Any]:
    kinds = list(points.modalities)
    low, high = flat.places.min(axis=0), flat.places.max(axis=0)
    below = home(points.rows)
    return {
        "kinds": kinds,
        "names": NAMES,
        "x": flat.places[:, 0].round(PLACES).tolist(),
        "y": (1 - flat.places[:, 1]).round(PLACES).tolist(),  # a canvas counts downwards
        "middle": [float((low[0] + high[0]) / 2), float(1 - (low[1] + high[1]) / 2)],
        "extent": (high - low).tolist(),
        "kind": [kinds.index(row.modality) for row in points.rows],
        "rows": [told(row, below) for row in points.rows],
        "thumb": [uris.get(number) for number in range(len(points.rows))],
    }


def _json(value: object) -> str:
    """JSON that cannot end the element it stands in, whatever a file name or a note may hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode()  # a file name may be no Unicode


def _policy() -> str:
    """Only the script of this page runs, and nothing is loaded from outside it."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    own = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; img-src data:; media-src data:; {own}"


def _safe(value: object) -> str:
    return html.escape(str(value).encode("utf-8", "replace").decode(), quote=True)
