"""Whether the first hit of an exported page is that of its index, in headless Chromium.

    python -m benchmarks.exports.static_page --dims 128

The page of the gallery is searched with the names of its items, every word that the starter's captioner knows, and all
images and recordings of the gallery. `make test-page` installs what npm has to.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import multimodal as mm
from benchmarks.page import BROWSERS, GALLERY, ROOT
from multimodal.core.paths import assets

SCRIPT = ROOT / "tests" / "page" / "first_hits.mjs"
WORDS = assets() / "starter" / "decoders" / "caption.json"
KINDS = {"image": mm.Image, "audio": mm.Audio}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def queries(items: list[dict[str, Any]], n_texts: int | None) -> list[dict[str, str]]:
    """What the page is searched with: {text}, or {address, kind, name} of an item."""
    media = [item for item in items if item["modality"] in KINDS]
    words = json.loads(WORDS.read_text(encoding="utf-8"))["words"]
    names = [Path(item["name"]).stem.replace("-", " ") for item in media]
    texts = list(dict.fromkeys([*names, *filter(None, words)]))[:n_texts]
    files = ({"address": item["media"], "kind": item["modality"], "name": item["name"]} for item in media)
    return [*({"text": text} for text in texts), *files]


def first_hits(folder: Path, asked: list[dict[str, str]]) -> list[tuple[int, float, float]]:
    """The row, score and milliseconds of the page's first hit for each query."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chromium = next(filter(None, map(shutil.which, BROWSERS)), "chromium")
    given = {"url": f"http://127.0.0.1:{server.server_port}/", "chromium": chromium}
    try:
        run = subprocess.run(["node", SCRIPT, json.dumps(given)], input=json.dumps(asked), text=True,
                             stdout=subprocess.PIPE, check=True)  # fmt: skip
    finally:
        server.shutdown()
    hits: list[tuple[int, float, float]] = json.loads(run.stdout)
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, help="only the first numbers of each vector")
    parser.add_argument("--texts", type=int, help="at most so many texts")
    parser.add_argument("--vectors", default="auto", help="how the page stores vectors")
    arguments = parser.parse_args()
    space = mm.load("starter", dims=arguments.dims)
    with tempfile.TemporaryDirectory() as scratch:
        index = mm.Index.create(Path(scratch) / "gallery.lance", space)
        index.add([path for path in sorted(GALLERY.rglob("*.*")) if path.name != "README.md"])
        folder = Path(scratch) / "site"
        mm.export(space, folder, format="page", index=index, vectors=arguments.vectors)
        items = json.loads((folder / "index.json").read_text(encoding="utf-8"))["items"]
        asked = queries(items, arguments.texts)
        found = first_hits(folder, asked)
        files = {path.name: path for path in GALLERY.rglob("*.*")}
        values = [
            query["text"] if "text" in query else KINDS[query["kind"]](files[query["name"]])
            for query in asked
        ]
        expected = [hits[0] for hits in index.search(values, k=1)]
    for kind in ("text", *KINDS):
        chosen = [number for number, query in enumerate(asked) if query.get("kind", "text") == kind]
        differing = [
            (asked[number], items[found[number][0]]["name"], Path(expected[number].uri or "").name)
            for number in chosen
            if items[found[number][0]]["name"] != Path(expected[number].uri or "").name
        ]
        distance = max(abs(found[number][1] - expected[number].score) for number in chosen)
        ms = sorted(found[number][2] for number in chosen)
        print(f"{kind}: {len(chosen) - len(differing)} of {len(chosen)} first hits are the same, scores within "
              f"{distance:.1e}, median {ms[len(ms) // 2]:.0f} ms")  # fmt: skip
        for query, of_page, of_index in differing:
            print(f"  {query}: {of_page} on the page, {of_index} in the index")


if __name__ == "__main__":
    main()
