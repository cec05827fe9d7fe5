"""/v1/search is Index.search, and /v1/items shows what an index holds."""

from __future__ import annotations

import http.client
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import PIL.Image
import pytest

import multimodal as mm
from tests.server.conftest import GALLERY, Api

APPLE = "pictures/red-apple.jpg"


@pytest.fixture(scope="module")
def index(gallery: Path, starter: mm.Space) -> mm.Index:
    return mm.Index.open(gallery, starter)


def same(answer: dict[str, Any], hits: Any) -> None:
    """The same hits in the same order, with the same numbers as far as batches keep them."""
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in hits]
    for given, hit in zip(answer["hits"], hits, strict=True):
        assert given["score"] == pytest.approx(hit.score, abs=1e-5)
        assert given["probability"] == (
            None if hit.probability is None else pytest.approx(hit.probability, abs=2e-4)
        )
    assert (answer["method"], answer["note"]) == (hits.method, hits.note)


def test_every_option_of_a_search_means_the_same_over_http(
    server: Api, index: mm.Index, data_uri: Callable[..., str]
) -> None:
    photo, uri = mm.Image(GALLERY / APPLE), data_uri(APPLE)
    owl = next(row["id"] for row in index.rows() if "owl" in row["id"])
    cases: list[tuple[dict[str, Any], object, dict[str, Any]]] = [
        ({"query": "a sad cat", "k": 3}, "a sad cat", {"k": 3}),
        ({"parts": [{"image": uri}], "modality": "audio"}, photo, {"modality": "audio"}),
        ({"parts": [{"text": "a beach", "weight": 1.0}, {"media": uri, "weight": 0.5}, {"text": "sea", "weight": -0.7}],
          "offset": 2, "k": 5}, [("a beach", 1.0), (photo, 0.5), ("sea", -0.7)], {"offset": 2, "k": 5}),
        ({"parts": [{"id": owl}], "k": 4}, None, {"similar_to": owl, "k": 4}),
        ({"parts": [{"text": "night"}], "near": [owl], "min_probability": 0.5}, "night",
         {"similar_to": [owl], "min_probability": 0.5}),
        ({"text": "cat", "k": 5}, None, {"text": "cat", "k": 5}),
        ({"query": "fish", "mode": "hybrid", "k": 5}, "fish", {"mode": "hybrid", "k": 5}),
        ({"query": "music", "group": True, "exact": True, "deduplicate": True}, "music",
         {"group_by": True, "exact": True, "deduplicate": True}),
        ({"query": "snow", "calibrated": False, "ids": [owl]}, "snow", {"calibrated": False, "ids": [owl]}),
        ({"query": "x", "where": {"place": "Rome"}}, "x", {"where": {"place": "Rome"}}),
        ({"parts": [{"vector": index.space.encode("a bee").tolist()}]}, index.space.encode("a bee"), {}),
    ]  # fmt: skip
    for body, query, options in cases:
        reply = server.post("/v1/search", body)
        assert reply.status == 200, (body, reply.body)
        hits = index.search(query, **options)
        same(reply.json(), hits)


def test_pages_of_a_search_continue_each_other(server: Api) -> None:
    whole = server.post("/v1/search", {"query": "an animal", "k": 12}).json()["hits"]
    pages = [
        server.post("/v1/search", {"query": "an animal", "k": 4, "offset": at}).json()["hits"]
        for at in (0, 4, 8)
    ]
    assert [hit["id"] for hit in whole] == [hit["id"] for page in pages for hit in page]


def test_items_are_listed_in_pages_and_shown(server: Api, index: mm.Index) -> None:
    page = server.get("/v1/items?limit=5&offset=3&modality=image").json()
    rows = index.rows(modality="image")
    assert page["total"] == len(rows)
    assert [row["id"] for row in page["data"]] == [row["id"] for row in rows[3:8]]
    first = page["data"][0]
    shown = server.get(first["links"]["thumb"].replace("/thumb", "")).json()
    assert shown == first
    by_id = server.get(f"/v1/items?ids={quote(json.dumps([first['id']]))}").json()
    assert by_id["data"] == [first]


def test_a_thumbnail_is_small_and_kept_by_the_browser(server: Api) -> None:
    row = next(row for row in server.get("/v1/items?limit=1000").json()["data"] if "lion" in row["id"])
    reply = server.get(row["links"]["thumb"] + "&size=64")

    assert max(PIL.Image.open(io.BytesIO(reply.body)).size) == 64
    assert server.get(row["links"]["thumb"] + "&size=64", if_none_match=reply.headers["etag"]).status == 304
    note = next(row for row in server.get("/v1/items?modality=text").json()["data"])
    assert server.get(note["links"]["thumb"]).status == 404


def test_media_are_served_in_ranges(server: Api) -> None:
    row = next(row for row in server.get("/v1/items?modality=audio").json()["data"] if "cat" in row["id"])
    content = Path(row["uri"]).read_bytes()
    whole = server.get(row["links"]["media"])
    assert (whole.status, whole.headers["content-type"], whole.body) == (200, "audio/flac", content)
    part = server.get(row["links"]["media"], range="bytes=100-199")
    assert (part.status, part.body) == (206, content[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(content)}"
    assert server.get(row["links"]["media"], range=f"bytes={len(content)}-").status == 416
    connection = http.client.HTTPConnection(server.host, server.port)
    connection.request("HEAD", row["links"]["media"])
    assert connection.getresponse().getheader("content-length") == str(len(content))
    connection.close()
