"""A map is one file that holds everything, tells what was done, and stays small."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile

import multimodal as mm
from multimodal.core.errors import IndexStateError, InvalidInput, MissingExtra
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.storage.schema import Row
from multimodal.views import map_page, plot_map, points, projection
from multimodal.views.points import Points


class Elements(HTMLParser):
    """Counts elements and keeps what stands in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs


def data_of(text: str) -> dict[str, Any]:
    hits = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert hits
    data: dict[str, Any] = json.loads(hits[1])
    return data


def drawn(index: Index, tmp_path: Path, **options: Any) -> tuple[str, dict[str, Any]]:
    plot_map(index, tmp_path / "map.html", **options)
    text = (tmp_path / "map.html").read_text(encoding="utf-8")
    return text, data_of(text)


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.partition(",")[2])


def test_every_item_is_on_the_map_with_its_kind_and_words(index: Index, tmp_path: Path) -> None:
    report = plot_map(index, tmp_path / "map.html")
    data = data_of((tmp_path / "map.html").read_text(encoding="utf-8"))
    assert (report.n_items, report.n_total, report.n_inlined) == (8, 8, 6)
    assert sorted(data["kinds"]) == ["audio", "image", "text"]
    shown = {row["label"]: data["kinds"][kind] for row, kind in zip(data["rows"], data["kind"], strict=True)}
    assert shown["red.png"] == "image" and shown["low.wav"] == "audio" and shown["a red apple"] == "text"
    assert {len(data[name]) for name in ("x", "y", "kind", "rows", "thumb")} == {8}
    assert {row["uri"] for row in data["rows"]} >= {"red.png", "sub/low.wav", "note.txt"}
    assert report.n_bytes == (tmp_path / "map.html").stat().st_size


def test_the_places_are_those_of_the_vectors(index: Index, tmp_path: Path) -> None:
    _, data = drawn(index, tmp_path, method="pca", centre=False)
    vectors = np.stack([row["vector"] for row in index.rows(vectors=True)])
    expected = projection.project(vectors, "pca", 0).positions
    assert np.allclose(data["x"], expected[:, 0], atol=1e-4)
    assert np.allclose(data["y"], 1 - expected[:, 1], atol=1e-4)


def test_images_are_small_jpegs_and_audio_can_be_played(index: Index, tmp_path: Path) -> None:
    _, data = drawn(index, tmp_path)
    by_label = {row["label"]: uri for row, uri in zip(data["rows"], data["thumb"], strict=True)}
    image = PIL.Image.open(io.BytesIO(decoded(by_label["red.png"])))
    assert (image.format, image.size) == ("JPEG", (112, 75))
    assert np.abs(np.asarray(image).astype(int) - (220, 30, 30)).max() < 8
    samples, rate = soundfile.read(io.BytesIO(decoded(by_label["low.wav"])))
    assert (len(samples), rate) == (16_000, 16_000)
    assert by_label["a red apple"] is None


def test_the_page_fetches_nothing_and_runs_only_its_own_script(index: Index, tmp_path: Path) -> None:
    text, _ = drawn(index, tmp_path)
    assert "http:" not in text and "https:" not in text and "@import" not in text
    links = [value for name, value in Elements(text).attributes if name in ("src", "href")]
    assert links == ["data:,"]
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert policy and script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy[1] == (
        "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    assert not [name for name, _ in Elements(text).attributes if name.startswith("on")]


def test_what_stands_in_names_and_texts_stays_text(space: Space, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "<b>&.lance", space)
    hostile = "</script><img src=x onerror=alert(1)>\u2028 &"
    index.add([(hostile, {"</b>": "<i>"}), "plain words"], ids=["<x>", "y"])
    text, data = drawn(index, tmp_path)
    assert {row["text"] for row in data["rows"]} == {hostile, "plain words"}
    assert text.count("</script>") == 2
    assert "<img" not in text and "<b>&.lance" not in text
    assert "Map of &lt;b&gt;&amp;.lance" in text


def test_ten_thousand_points_are_no_more_elements_than_two(tmp_path: Path) -> None:
    def of(n: int) -> str:
        rng = np.random.default_rng(0)
        kinds = ["text", "image", "audio"]
        rows = tuple(Row(str(k), f"/a/{k}.x", kinds[k % 3], None, {}) for k in range(n))
        some = Points(tmp_path / "big.lance", "toy", rows, rng.standard_normal((n, 4)).astype(np.float32), n)
        return map_page.page(some, projection.project(some.vectors, "pca", 0), {}, ["how"])

    large, small = of(10_000), of(3)
    assert len(Elements(large).names) == len(Elements(small).names) < 60
    assert len(data_of(large)["x"]) == 10_000
    assert len(large) < 2_000_000


def test_the_page_tells_what_was_done(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "umap" else find(name))
    text, _ = drawn(index, tmp_path)
    assert "8 items in the space toy, by PCA" in text
    assert "The mean of each modality was subtracted first" in text
    assert "PCA is used: umap-learn is not installed (pip install &#x27;multimodal[map]&#x27;)" in text
    text, _ = drawn(index, tmp_path, centre=False)
    assert "mean of each modality" not in text
    assert "That each modality forms its own island is the modality gap" in text


def test_what_does_not_fit_is_named_only_and_counted(index: Index, tmp_path: Path) -> None:
    whole = plot_map(index, tmp_path / "map.html")
    none = plot_map(index, tmp_path / "map.html", max_bytes=0)
    assert (none.n_inlined, none.n_left_out) == (0, 6)
    assert none.notes[-1] == "6 files are not embedded: the page holds 0 MB of media at most"
    some = plot_map(index, tmp_path / "map.html", max_bytes=4000)
    assert 0 < some.n_inlined < 6 and some.n_inlined + some.n_left_out == 6
    assert none.n_bytes < some.n_bytes < none.n_bytes + 4000 + 500 < whole.n_bytes
    data = data_of((tmp_path / "map.html").read_text(encoding="utf-8"))
    assert sum(len(uri) for uri in data["thumb"] if uri) <= 4000


def test_files_that_are_gone_or_broken_since_are_named_only(
    index: Index, media: Path, tmp_path: Path
) -> None:
    (media / "red.png").unlink()
    (media / "blue.png").write_bytes(b"no picture any more")
    report = plot_map(index, tmp_path / "map.html")
    assert (report.n_items, report.n_inlined, report.n_missing) == (8, 4, 2)
    assert report.notes[-1] == "2 files are not embedded: they do not exist any more, or cannot be read"


def test_a_large_index_is_shown_evenly(index: Index, tmp_path: Path) -> None:
    report = plot_map(index, tmp_path / "map.html", limit=4)
    data = data_of((tmp_path / "map.html").read_text(encoding="utf-8"))
    assert (report.n_items, report.n_total) == (4, 8)
    assert "4 of 8 items are shown, sampled evenly" in report.notes
    every = [points.label(row) for row in points.read_points(index, 100).rows]
    assert [row["label"] for row in data["rows"]] == [every[k] for k in (0, 2, 5, 7)]


def test_no_model_is_loaded_for_a_map(index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Index, "open", lambda *given: pytest.fail("the index was opened with its model"))
    assert plot_map(str(index.path), tmp_path / "map.html").n_items == 8


def test_the_same_seed_gives_the_same_file(index: Index, tmp_path: Path) -> None:
    plot_map(index, tmp_path / "a.html")
    plot_map(index, tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_png_shows_every_kind_in_its_colour(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    from multimodal.views import png

    monkeypatch.setattr(png, "MAX_THUMBNAILS", 0)
    report = plot_map(index, tmp_path / "map.PNG")
    with PIL.Image.open(tmp_path / "map.PNG") as opened:
        assert (opened.format, opened.size) == ("PNG", (1600, 1200))
        pixels = np.asarray(opened.convert("RGB")).reshape(-1, 3).astype(int)
    assert report.n_bytes == (tmp_path / "map.PNG").stat().st_size
    for kind in ("text", "image", "audio"):
        colour = np.array([int(png.COLOURS[kind][k : k + 2], 16) for k in (1, 3, 5)])
        mixed = 0.8 * colour + 0.2 * 255  # marks are a little see-through, on white
        assert (np.abs(pixels - mixed).max(axis=1) <= 3).sum() > 20, kind


def test_a_png_of_few_images_shows_them(index: Index, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot_map(index, tmp_path / "map.png")
    pixels = np.asarray(PIL.Image.open(tmp_path / "map.png").convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((220, 30, 30), (30, 200, 40), (20, 40, 210)):
        assert (np.abs(pixels - colour).max(axis=1) < 12).sum() > 1000


def test_a_png_without_matplotlib_says_what_to_install(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        MissingExtra, match=r"^a map as \.png needs matplotlib: pip install 'multimodal\[map\]'$"
    ):
        plot_map(index, tmp_path / "map.png")


def refuses(text: str):  # type: ignore[no-untyped-def]
    return pytest.raises(InvalidInput, match=f"^{re.escape(text)}$")


def test_an_index_of_nothing_or_of_one_item_is_refused(space: Space, tmp_path: Path) -> None:
    path = tmp_path / "few.lance"
    index = Index.create(path, space)
    cure = f"and a map needs at least 2 items; add some with: multimodal index FOLDER --index {path}"
    with refuses(f"the index at {str(path)!r} is empty, {cure}"):
        plot_map(index, tmp_path / "map.html")
    index.add(["a red apple"])
    with refuses(f"the index at {str(path)!r} holds one item, {cure}"):
        plot_map(index, tmp_path / "map.html")
    index.add(["the blue sea"])
    assert plot_map(index, tmp_path / "map.html").n_items == 2


def test_outputs_that_cannot_be_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    nowhere = tmp_path / "none.lance"
    with refuses("a map is written as .html or .png, got 'map.svg'"):
        plot_map(nowhere, "map.svg")
    with refuses(f"cannot write the map: the folder {tmp_path / 'no'} does not exist"):
        plot_map(nowhere, tmp_path / "no" / "map.html")
    (tmp_path / "x.html").mkdir()
    with refuses(f"cannot write the map: {tmp_path / 'x.html'} is a folder"):
        plot_map(nowhere, tmp_path / "x.html")
    with refuses("limit must be a whole number of at least 2, got 1"):
        plot_map(nowhere, tmp_path / "map.html", limit=1)
    with refuses("max_bytes must be a whole number of at least 0, got -1"):
        plot_map(nowhere, tmp_path / "map.html", max_bytes=-1)
    with pytest.raises(IndexStateError, match=r"^no index at .*none\.lance': the folder does not exist"):
        plot_map(nowhere, tmp_path / "map.html")


def test_the_report_is_plain_values(index: Index, tmp_path: Path) -> None:
    report = plot_map(index, tmp_path / "map.html")
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()
    assert mm.plot_map is plot_map
