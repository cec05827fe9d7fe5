"""The web page: its files, what it asks the server for, and what it does in headless Chromium (browser.mjs)."""

import gzip
import re
import subprocess
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import multimodal as mm
from multimodal.index.storage import filters
from multimodal.index.storage.table import ItemTable
from multimodal.server.routes.page import FOLDER, page_files
from multimodal.server.web import explore
from multimodal.server.web.facets import facets
from tests.page.conftest import HERE, KEY, Tools, claims
from tests.server.conftest import Api

MAX_BYTES = 50_000  # compressed, as browsers receive it
MAX_FIRST_BYTES = 100_000  # uncompressed
COLOURS = ("red", "green", "blue")


def ids(api: Api, name: str) -> str:
    """The id of a file of the gallery."""
    (hit,) = api.post(
        "/v1/search", {"query": Path(name).stem.replace("-", " "), "k": 1, "modality": "image"}
    ).json()["hits"]
    assert hit["uri"].endswith(name)
    return str(hit["id"])


def test_the_page_as_it_is_served_is_less_than_50_kb() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir() if path.suffix != ".ts"}
    assert set(sizes) == set(page_files())
    assert sum(len(file.compressed) for file in page_files().values()) < MAX_BYTES, sizes


def test_what_the_page_loads_before_anything_is_opened_is_less_than_100_kb() -> None:
    sizes: dict[str, int] = {}
    todo = ["index.html"]
    while todo:
        name = todo.pop()
        content = (FOLDER / name).read_text(encoding="utf-8")
        sizes[name] = len(content.encode())
        found = re.findall(r'(?:src=|href=|^import .* from )"(?:page|\.)/([\w.]+)"', content, re.MULTILINE)
        todo += [other for other in found if other not in sizes]
    assert {"app.js", "dom.js", "style.css", "state.js"} <= set(sizes)
    assert not {"map.js", "detail.js", "upload.js"} & set(sizes)
    assert sum(sizes.values()) < MAX_FIRST_BYTES, sizes


def test_the_page_is_served_with_a_policy_that_forbids_inline_scripts_and_other_hosts(server: Api) -> None:
    reply = server.get("/")
    assert reply.status == 200
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy
    assert "unsafe" not in policy and "http" not in policy
    assert reply.headers["x-content-type-options"] == "nosniff"
    document = reply.body.decode()
    assert (
        "<style" not in document
        and " style=" not in document
        and "//" not in document.replace("<!doctype", "")
    )
    assert document.count("<script") == document.count('<script type="module" src=') == 1


def test_every_file_of_the_page_is_served_compressed_and_revalidated(server: Api) -> None:
    for name, file in page_files().items():
        reply = server.get(f"/page/{name}", accept_encoding="gzip")
        assert gzip.decompress(reply.body) == (FOLDER / name).read_bytes()
        assert server.get(f"/page/{name}", if_none_match=file.tag).status == 304


@pytest.mark.parametrize("name", ["types.d.ts", "..%2Fapp.py", "%2e%2e/app.py", "missing.js"])
def test_nothing_but_the_files_of_the_page_is_served(server: Api, name: str) -> None:
    assert server.get(f"/page/{name}").status == 404


def test_the_page_exchanges_a_key_for_a_cookie(keyed: Api) -> None:
    stranger = Api(keyed.url)
    assert stranger.get("/").status == 200
    assert stranger.get("/page/config").status == 401
    assert stranger.post("/page/key", {"key": "guess"}).status == 401
    cookie = stranger.post("/page/key", {"key": KEY}).headers["set-cookie"]
    assert KEY not in cookie
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie
    assert stranger.get("/page/config", cookie=cookie.partition(";")[0]).status == 200
    assert stranger.get("/page/config", cookie="multimodal-0=wrong").status == 401


def test_items_are_listed_from_any_offset_with_their_number(server: Api) -> None:
    first = server.post("/page/items", {"limit": 20}).json()
    second = server.post("/page/items", {"limit": 10, "offset": 10}).json()
    assert first["total"] > 100
    assert [item["id"] for item in first["data"][10:]] == [item["id"] for item in second["data"]]
    images = server.post("/page/items", {"limit": 5, "modality": ["image"]}).json()
    assert images["total"] == 64
    assert {item["modality"] for item in images["data"]} == {"image"}
    assert server.post("/page/items", {"limit": -1}).error["param"] == "limit"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory, starter: mm.Space) -> mm.Index:
    index = mm.Index.create(tmp_path_factory.mktemp("labelled") / "labelled.lance", starter)
    pairs = [
        (mm.Text(f"{k} {COLOURS[k % 3]} cars"), {"colour": COLOURS[k % 3], "year": 2000 + k % 2})
        for k in range(9)
    ]
    index.add([*pairs, (mm.Text("a flag"), {"colour": "red", "year": True}), mm.Text("a lone text")])
    return index


def counts(content: dict[str, Any], key: str) -> dict[Any, int]:
    (values,) = [group["values"] for group in content["keys"] if group["key"] == key]
    return {repr(value["value"]): value["count"] for value in values}


def test_counts_of_a_filter_are_those_of_the_items_that_meet_the_others(labelled: mm.Index) -> None:
    everything = facets(labelled)
    assert (everything["total"], everything["matching"]) == (11, 11)
    assert counts(everything, "colour") == {"'red'": 4, "'green'": 3, "'blue'": 3}
    assert counts(everything, "year") == {"2000": 5, "2001": 4, "True": 1}
    red = facets(labelled, "text", {"colour": ["red"]})
    assert red["matching"] == 4
    assert counts(red, "colour") == {"'red'": 4, "'green'": 3, "'blue'": 3}
    assert counts(red, "year") == {"2000": 2, "2001": 1, "True": 1}
    assert red["modalities"] == {"text": 4}


@pytest.mark.parametrize(
    "where",
    [
        {"colour": "red"},
        {"colour": ["red", "blue", "green"], "year": 2000.0},
        {"year": {">=": 2000, "<": 2001}},
        {"year": True},
        {"year": [1, None]},
        {"colour": {">": "blue"}},
        {"colour": {">": 3}},
        {"colour": None},
        {"other": None},
        {"other": "x"},
    ],
)
def test_filters_are_counted_as_a_search_applies_them(labelled: mm.Index, where: dict[str, Any]) -> None:
    table = ItemTable.open(labelled.path)
    for modality in (None, "text", ["image"], "video"):
        expected = table.count(filters.condition(labelled.space, modality, where))
        assert facets(labelled, modality, where)["matching"] == expected


def test_counts_follow_a_change_of_the_index(tmp_path: Path, starter: mm.Space) -> None:
    index = mm.Index.create(tmp_path / "changing.lance", starter)
    index.add([(mm.Text("a"), {"colour": "red"})])
    assert counts(facets(index), "colour") == {"'red'": 1}
    index.add([(mm.Text("b"), {"colour": "red"})])
    assert counts(facets(index), "colour") == {"'red'": 2}


def test_the_counts_of_modalities_are_those_of_the_index(server: Api) -> None:
    content = server.post("/page/facets", {"modality": "image"}).json()
    assert content["matching"] == content["modalities"]["image"] == 64
    assert content["modalities"]["text"] == 24
    assert counts(content, "album") == {"'pictures'": 64}


def test_neighbours_are_the_windows_of_the_same_recording_in_order(indexes: tuple[Path, Path]) -> None:
    index = mm.Index.open(indexes[0])
    windows = [row for row in index.rows(where={"album": "tour"}) if row["start_s"] is not None]
    windows.sort(key=lambda row: row["start_s"])
    assert len(windows) > 2
    kind, rows = explore.neighbours(index, windows[1]["id"])
    assert kind == "document"
    assert [row.id for row in rows] == [row["id"] for row in windows][:10]
    assert explore.neighbours(index, "missing") == ("document", [])


def test_neighbours_of_a_file_are_those_next_to_it_in_time(server: Api) -> None:
    item = ids(server, "red-apple.jpg")
    content = server.post("/page/neighbours", {"id": item}).json()
    assert content["kind"] in ("time", "folder")
    assert item in [other["id"] for other in content["items"]]
    assert len(content["items"]) > 8


def test_audio_has_a_drawing_of_its_waveform_and_images_have_none(server: Api) -> None:
    (hit,) = server.post("/v1/search", {"query": "a guitar", "k": 1, "modality": "audio"}).json()["hits"]
    reply = server.get(f"/page/wave?id={urllib.parse.quote(hit['id'])}")
    assert reply.headers["content-type"] == "image/svg+xml"
    assert reply.body.count(b"<rect") == explore.WAVE_BARS
    assert "sandbox" in reply.headers["content-security-policy"]
    image = urllib.parse.quote(ids(server, "red-apple.jpg"))
    assert server.get(f"/page/wave?id={image}").status == 404
    assert server.get("/page/wave?id=/etc/passwd").status == 404


def test_a_map_places_every_item(server: Api) -> None:
    content = server.get("/page/map").json()
    assert (
        content["total"] == len(content["points"]) == server.post("/page/items", {"limit": 1}).json()["total"]
    )
    assert all(0 <= point["x"] <= 1 and 0 <= point["y"] <= 1 for point in content["points"])


def test_an_item_is_captioned_from_its_vector(server: Api) -> None:
    content = server.post("/page/caption", {"id": ids(server, "red-apple.jpg")}).json()
    assert "apple" in content["text"]
    assert server.post("/page/caption", {"id": "missing"}).status == 404


# --- in the browser -------------------------------------------------------------------------------------


def test_the_types_of_the_scripts_are_right(tools: Tools) -> None:
    compiler = HERE / "node_modules" / ".bin" / "tsc"
    run = subprocess.run([compiler, "--project", HERE], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("name", claims())
def test_in_the_browser(name: str, browser: Mapping[str, dict[str, Any]]) -> None:
    assert browser[name]["error"] is None, browser[name]["error"]
