"""Exported pages: what is written, what is refused, and what they do in headless Chromium (static.mjs)."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import multimodal as mm
from multimodal.core.errors import IndexStateError, InvalidInput
from multimodal.exporting.page.characters import character_table
from multimodal.exporting.page.items import describe, same_nearest, stored
from multimodal.index.search import reference_sample
from tests.cli.conftest import Cli, cli
from tests.page.conftest import DRIVER_S, HERE, Tools
from tests.server.conftest import GALLERY

__all__ = ["cli"]  # a fixture

DRIVER = HERE / "static.mjs"
CLAIMS = re.findall(r'^await claim\("(.+?)",', DRIVER.read_text(encoding="utf-8"), re.MULTILINE)
HOSTILE = "Quartz sphinx judges <img src=x onerror=alert(1)>"
TAG = "<script>alert(1)</script>"
ODD = [
    "日本 apple", "İstanbul ΣΑΣ ὈΔΥΣΣΕΎΣ", "naïve café", "a\u0301b e\u0323\u0301x", "한국어 cat",
    "\u200bapple\u200d ﬁsh", "👩\u200d🍳 cook", "x" * 101 + " " + "x" * 100, "K Å ≠ ;", "\ufeff a\u00adb \u0378c",
    "dog " * 60, "\x01b\tc\nd\x0bf\x85g\u2028h", "ㅎ가각\u302e\u302f", "ψ Ψ \U000e0041 \U00010d50z",
]  # fmt: skip


@pytest.fixture(scope="session")
def index(gallery: Path, starter: mm.Space, tmp_path_factory: pytest.TempPathFactory) -> mm.Index:
    """The gallery without its README, and an item that tries to inject."""
    path = tmp_path_factory.mktemp("static") / "gallery.lance"
    # Not the sample of the gallery as others searched it: with one text for another, probabilities differ by .01.
    shutil.copytree(gallery, path, ignore=shutil.ignore_patterns(reference_sample.FILE))
    opened = mm.Index.open(path, starter)
    opened.delete(str(GALLERY / "README.md"))
    hostile = mm.Text(HOSTILE, uri="javascript:alert(1)")
    opened.add([(hostile, {"name": HOSTILE, TAG: TAG})])
    return opened


@pytest.fixture(scope="session")
def exported(index: mm.Index, starter: mm.Space) -> mm.PageExport:
    return mm.export(starter, index.path.parent / "site", format="page", index=index)


@pytest.fixture(scope="session")
def items(exported: mm.PageExport) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((Path(exported.folder) / "index.json").read_text())["items"]
    return listed


def test_a_page_may_have_some_of_the_towers_of_its_index(
    starter: mm.Space, index: mm.Index, tmp_path: Path
) -> None:
    report = mm.export(starter.select("text"), tmp_path / "site", format="page", index=index, media="none")
    assert report.n_items == len(index)
    assert json.loads((tmp_path / "site" / "index.json").read_text())["towers"] == ["text"]
    weights = sorted(path.name for path in (tmp_path / "site" / "model").glob("*.safetensors"))
    assert weights == ["text.safetensors"]


def test_a_page_holds_the_items_of_its_index_and_no_path_of_this_machine(
    exported: mm.PageExport, index: mm.Index, items: list[dict[str, Any]]
) -> None:
    assert exported.n_items == len(items) == len(index) == 117
    text = (Path(exported.folder) / "index.json").read_text()
    assert str(GALLERY) not in text and "README.md" not in text
    assert next(item["name"] for item in items if item["modality"] == "image") == "airplane-in-the-sky.jpg"
    assert all("thumb" in item and "media" in item for item in items if item["modality"] == "image")
    assert all(len(item["peaks"]) == 48 for item in items if item["modality"] == "audio")
    assert exported.missing == () and exported.vectors == "float16"


def test_searching_by_text_loads_less_than_4_6_mb_and_everything_is_less_than_21_mb(
    exported: mm.PageExport,
) -> None:
    assert exported.n_text_bytes <= 4_600_000
    assert exported.n_bytes <= 21_000_000
    files = sum(path.stat().st_size for path in Path(exported.folder).rglob("*") if path.is_file())
    assert (
        exported.n_bytes < files < exported.n_bytes + 20_000
    )  # the README and the list of files are written last
    assert exported.to_dict()["n_bytes"] == exported.n_bytes and str(exported).endswith(" MB")


def test_every_file_of_the_page_is_listed_for_use_without_a_network(exported: mm.PageExport) -> None:
    folder = Path(exported.folder)
    listed = json.loads((folder / "files.json").read_text())
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {*listed["needed"], *listed["later"]} == files - {"sw.js", "files.json"} | {"./"}
    assert (
        'VERSION = "' in (folder / "sw.js").read_text() and '"VERSION"' not in (folder / "sw.js").read_text()
    )
    policy = re.findall(r'Content-Security-Policy" content="(.+?)"', (folder / "index.html").read_text())
    assert (
        "default-src 'none'; script-src 'self'; style-src 'self'" in policy[0] and "unsafe" not in policy[0]
    )


def test_files_are_linked_or_left_out(starter: mm.Space, tmp_path: Path) -> None:
    shutil.copy(GALLERY / "pictures" / "red-apple.jpg", tmp_path / "a b#1.jpg")
    small = mm.Index.create(tmp_path / "small.lance", starter)
    small.add([tmp_path / "a b#1.jpg", mm.Text("a link", uri="https://example.org/page")])
    page = mm.export(starter, tmp_path / "site", format="page", index=small.path, media="link")
    linked = json.loads((tmp_path / "site" / "index.json").read_text())["items"]
    assert {item["name"]: item.get("media") for item in linked} == {
        "a b#1.jpg": "../a%20b%231.jpg", "page": "https://example.org/page",
    }  # fmt: skip
    assert page.sizes["media"] == 0
    (tmp_path / "a b#1.jpg").unlink()
    again = mm.export(starter, tmp_path / "site", format="page", index=small, media="none", vectors="float32")
    assert [Path(uri).name for uri, _ in again.missing] == ["a b#1.jpg"] and again.vectors == "float32"


def test_what_a_browser_cannot_run_or_search_is_refused(
    starter: mm.Space, index: mm.Index, tmp_path: Path
) -> None:
    from multimodal.testing import fake_space

    def refused(error: type[Exception], match: str, space: mm.Space = starter, **options: Any) -> None:
        with pytest.raises(error, match=match):
            mm.export(space, tmp_path / "site", format="page", **options)
        assert not (tmp_path / "site").exists()

    refused(InvalidInput, "give index=")
    refused(InvalidInput, "runs the towers of the starter", fake_space(), index=index)
    other = mm.Index.create(tmp_path / "other.lance", fake_space())
    refused(IndexStateError, "created with the space", index=other)
    refused(InvalidInput, "media must be one of copy, link, none, got 'move'", index=index, media="move")
    refused(InvalidInput, "vectors must be one of auto", index=index, vectors="int4")
    empty = mm.Index.create(tmp_path / "empty.lance", starter)
    refused(InvalidInput, "has no items", index=empty)
    with pytest.raises(InvalidInput, match="is not an exported page"):
        mm.export(starter, GALLERY, format="page", index=index)


def test_vectors_are_int8_only_where_the_nearest_rows_stay_the_same() -> None:
    rng = np.random.default_rng(0)
    pairs = rng.standard_normal((20, 64)).repeat(2, axis=0) + 0.3 * rng.standard_normal((40, 64))
    alike = 1 + 0.02 * rng.standard_normal((40, 64))
    unit = [
        (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32) for rows in (pairs, alike)
    ]
    rounded = [stored(rows, "int8")[1] for rows in unit]
    scales = [np.frombuffer(content[:160], "<f4") for content in rounded]
    whole = [np.frombuffer(content[160:], np.int8).reshape(40, 64) for content in rounded]
    near = [rows * scale[:, None] for rows, scale in zip(whole, scales, strict=True)]
    assert [same_nearest(*pair) for pair in zip(unit, near, strict=True)] == [True, False]
    assert np.abs(near[0] - unit[0]).max() < 2e-3
    assert [len(stored(unit[0], kind)[1]) for kind in ("int8", "float16", "float32")] == [2720, 5120, 10240]


def test_places_and_names_of_items_are_short() -> None:
    row = {"id": "/a/talk.wav#8", "uri": "/a/talk.wav", "modality": "audio", "text": None, "metadata": {},
           "start_s": 68.0, "end_s": 3675.5, "start_char": None, "end_char": None}  # fmt: skip
    assert describe(row) == {
        "name": "talk.wav",
        "modality": "audio",
        "place": "1:08–1:01:15",
        "start_s": 68.0,
    }
    page = row | {"id": "/a/b.pdf#page=3", "uri": "https://host/b.pdf?x=1", "start_s": None, "end_s": None}
    assert (describe(page)["name"], describe(page)["place"]) == ("b.pdf", "page 3")
    text = row | {"uri": None, "text": "word " * 30, "start_s": None, "start_char": 5, "end_char": 9}
    assert len(describe(text)["name"]) == 60 and describe(text)["place"] == "characters 5–9"


def test_characters_are_those_of_the_tokenizer(starter: mm.Space) -> None:
    table = character_table(tuple(starter.encoders[mm.Modality.TEXT].vocabulary))  # type: ignore[attr-defined]
    folded = {letter: effect for effect, letters in table["folded"].items() for letter in letters}
    assert (folded["É"], folded["!"], folded["≠"]) == ("e", " ! ", " = ")
    assert table["spaces"][:4] == [9, 10, 13, 13] and "a" not in folded


def test_a_page_is_exported_from_the_shell(cli: Cli, starter: mm.Space, tmp_path: Path) -> None:
    index, site = mm.Index.create(tmp_path / "notes.lance", starter), tmp_path / "site"
    index.add(["a note"])
    run = cli(
        "export",
        "starter",
        "-o",
        site,
        "--format",
        "page",
        "--index",
        index.path,
        "--media",
        "none",
        "--json",
    )
    assert run.code == 0 and run.json()["n_items"] == 1 and run.json()["sizes"]["media"] == 0
    assert (site / "engine.js").is_file()
    wrong = cli("export", "starter", "-o", site, "--format", "page")
    assert wrong.code == 1 and "give --index" in wrong.stderr


# --- in the browser -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def browsed(
    tools: Tools,
    exported: mm.PageExport,
    items: list[dict[str, Any]],
    index: mm.Index,
    starter: mm.Space,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, str | None]:
    """What the driver found out, by claim."""
    folder = tmp_path_factory.mktemp("static-browser")
    samples, rate_hz = soundfile.read(GALLERY / "sounds" / "guitar.flac")
    soundfile.write(folder / "microphone.wav", np.concatenate([samples, np.zeros(rate_hz)]), rate_hz)
    expected = folder / "expected.json"
    expected.write_text(json.dumps(_expected(items, index, starter)))
    with _served(Path(exported.folder)) as url:
        given = {
            "url": url,
            "folder": exported.folder,
            "chromium": tools.chromium,
            "expected": str(expected),
            "microphone": str(folder / "microphone.wav"),
            "shots": os.environ.get("PAGE_SHOTS", ""),
        }
        command = [tools.node, str(DRIVER), json.dumps(given)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=DRIVER_S)
    assert run.returncode == 0, run.stderr
    results = [json.loads(line) for line in run.stdout.splitlines()]
    return {result["name"]: result["error"] for result in results}


def _expected(items: list[dict[str, Any]], index: mm.Index, starter: mm.Space) -> dict[str, Any]:
    """What the page must find."""
    rng = np.random.default_rng(0)
    codes = np.delete(np.arange(1, 0x3400), [0x20])
    random = ["".join(map(chr, rng.choice(codes, 8))) + " red" for _ in range(20)]
    names = [Path(item["name"]).stem.replace("-", " ") for item in items if item["modality"] != "text"]
    names = names[::3]
    texts = [*ODD, *random, *names]
    of = {kind: [item for item in items if item["modality"] == kind] for kind in ("image", "audio")}
    images = [item for item in of["image"] if item["name"].endswith("pizza-on-table.jpg")] + of["image"][::20]
    files = {path.name: path for path in GALLERY.rglob("*.*")}

    def media(chosen: list[dict[str, Any]], item_class: type[Any]) -> list[dict[str, Any]]:
        vectors = starter.encode([item_class(files[item["name"]]) for item in chosen])
        return [
            {"name": item["name"], "address": item["media"], "vector": vector.tolist()}
            for item, vector in zip(chosen, vectors, strict=True)
        ]

    found = [hits[0] for hits in index.search(names, k=1)]
    return {
        "texts": [
            {"text": text, "vector": vector.tolist()}
            for text, vector in zip(texts, starter.encode(texts), strict=True)
        ],
        "images": media(images, mm.Image),
        "audio": media(of["audio"][::12], mm.Audio),
        "hits": [
            {
                "text": text,
                "name": Path(hit.uri or "").name,
                "modality": str(hit.modality),
                "score": hit.score,
                "probability": hit.probability,
            }
            for text, hit in zip(names, found, strict=True)
        ],
    }


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


class _served:
    """A plain server of files in a thread."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(_Handler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_types_of_its_scripts_are_right(tools: Tools) -> None:
    compiler, project = HERE / "node_modules" / ".bin" / "tsc", HERE / "tsconfig.static.json"
    run = subprocess.run([compiler, "--project", project], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("name", CLAIMS)
def test_in_the_browser(name: str, browsed: Mapping[str, str | None]) -> None:
    assert browsed[name] is None, browsed[name]
