"""`multimodal.connect`: the model and the index of a running server give what the space and the index give."""

from __future__ import annotations

import contextlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import multimodal as mm
from multimodal.client.remote import Client
from multimodal.client.transport import Transport
from multimodal.core.errors import IndexStateError, InvalidInput, MediaNotFound, ServerError, UnknownModel
from tests.server.conftest import GALLERY, Api

CAT, PIZZA = GALLERY / "pictures" / "cat-at-home.jpg", GALLERY / "sounds" / "pizza.flac"
CLOSE = 1e-5


@pytest.fixture(scope="module")
def client(server: Api) -> Iterator[Client]:
    with mm.connect(server.url) as client:
        yield client


def test_a_model_encodes_as_the_space_does(client: Client, starter: mm.Space) -> None:
    space = client.space
    assert (space.dim, space.modalities) == (starter.dim, starter.modalities)
    assert space.fingerprint == starter.fingerprint
    tone = {"array": np.sin(np.arange(16_000) / 20).astype(np.float32), "sampling_rate": 16_000}
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    items: list[Any] = ["a red apple", mm.Image(CAT), PIZZA, mm.Audio(tone), pixels]
    assert np.allclose(space.encode(items), starter.encode(items), atol=CLOSE)
    one = space.encode("a red apple")
    assert one.shape == (starter.dim,)
    assert space.encode([]).shape == (0, starter.dim)
    assert np.allclose(space.query_space.encode("a cat"), starter.query_space.encode("a cat"), atol=CLOSE)


def test_a_long_list_goes_in_several_requests(client: Client, starter: mm.Space) -> None:
    texts = [f"apple number {number}" for number in range(600)]
    rows = client.space.encode(texts)
    assert rows.shape == (600, starter.dim)
    assert np.allclose(rows[[0, 599]], starter.encode([texts[0], texts[599]]), atol=CLOSE)


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("a slice of pizza", {"k": 3}),
        (mm.Audio(PIZZA), {"k": 2, "modality": "image"}),
        ([("a cat", 1.0), (mm.Image(CAT), 0.5), ("a dog", -0.7)], {"k": 2, "offset": 1}),
        (None, {"similar_to": str(CAT), "k": 2, "min_probability": 0.1}),
        ("rain", {"text": "rain", "k": 2, "group_by": True}),
    ],
)
def test_a_search_gives_the_hits_of_the_index(
    client: Client, gallery: Path, starter: mm.Space, query: Any, options: dict[str, Any]
) -> None:
    found = client.index.search(query, **options)
    expected = mm.Index.open(gallery, starter).search(query, **options)
    assert [hit.id for hit in found] == [hit.id for hit in expected]
    assert np.allclose([hit.score for hit in found], [hit.score for hit in expected], atol=1e-4)
    assert (found.method, found.note) == (expected.method, expected.note)
    assert isinstance(found[0], mm.Hit)


def test_a_list_of_queries_and_a_vector_are_searched(client: Client, starter: mm.Space) -> None:
    both = client.index.search(["a cat", "pizza"], k=1)
    vector = client.index.search(starter.encode("pizza"), k=1)
    assert [len(hits) for hits in both] == [1, 1]
    assert vector[0].id == both[1][0].id


def test_an_index_is_counted_and_listed(client: Client, gallery: Path, starter: mm.Space) -> None:
    opened = mm.Index.open(gallery, starter)
    assert len(client.index) == len(opened)
    assert client.index.info() == {"name": "gallery", "items": len(opened)}
    listed = list(client.index.rows(modality="image"))
    assert [row["id"] for row in listed] == [row["id"] for row in opened.rows(modality="image")]
    assert (client.models[0], client.indexes) == ("starter", ["gallery"])


def test_pipelines_of_the_server_are_called(client: Client) -> None:
    assert client.caption(CAT) == "cat"
    assert client.caption(PIZZA) == "pizza"
    assert client.transcribe(str(PIZZA))["text"] == "pizza"
    assert client.classify([CAT], ["a dog", "a cat"])[0].label == "a cat"


def test_what_the_server_refuses_is_an_error_of_the_toolkit(client: Client, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="served: starter"):
        client.get_space("stater")
    with pytest.raises(IndexStateError, match="served: gallery"):
        client.get_index("gallary")
    with pytest.raises(InvalidInput, match="k must be at most"):
        client.index.search("x", k=10**6)
    with pytest.raises(MediaNotFound, match="no-such-file"):
        client.space.encode([mm.Image(tmp_path / "no-such-file.png")])
    with pytest.raises(InvalidInput, match="a str is text"):
        client.caption("a cat")
    with pytest.raises(InvalidInput, match="looks like 'http://127"):
        mm.connect("ftp://127.0.0.1")
    with pytest.raises(ServerError, match=r"no answer from http://127\.0\.0\.1:9"):
        mm.connect("127.0.0.1:9")


@contextlib.contextmanager
def scripted(*answers: tuple[int, dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that gives these answers in turn and closes each connection; and the headers it was sent."""
    waiting, seen = list(answers), []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            status, content = waiting.pop(0)
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.send_header("retry-after", "0")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True  # without saying so, as a server does that drops idle connections

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()


def test_a_busy_server_is_asked_again_and_a_dropped_connection_is_opened_again() -> None:
    busy = {"error": {"message": "the models are being loaded", "code": "loading"}}
    with scripted((503, busy), (429, busy), (200, {"x": 1}), (200, {"x": 2})) as (url, seen):
        transport = Transport(url, "secret")
        assert [transport.get("/a"), transport.get("/b")] == [{"x": 1}, {"x": 2}]
        assert {headers["authorization"] for headers in seen} == {"Bearer secret"}
        transport.close()


def test_another_server_than_multimodal_serve_is_recognised() -> None:
    with (
        scripted((404, {"detail": "Not Found"})) as (url, _),
        pytest.raises(ServerError, match="not as multimodal"),
    ):
        Transport(url).get("/v1/models")


def test_a_client_imports_neither_torch_nor_numpy(server: Api) -> None:
    code = (
        "import sys, multimodal as mm\n"
        "hits = mm.connect(sys.argv[1]).index.search('a slice of pizza', k=1)\n"
        "print(hits[0].id, [name for name in ('torch', 'numpy', 'lancedb', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, server.url], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith(" []\n"), done.stdout
