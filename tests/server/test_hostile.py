"""Hostile requests and their answers. None of them costs the server more than it costs the client."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import gzip
import http.server
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import multimodal as mm
from multimodal.core.errors import InvalidInput
from multimodal.server.config import Batching, Ceilings, ServerConfig
from multimodal.server.errors import ApiError
from multimodal.server.urls import Fetcher, is_public
from tests.server.conftest import Api, png, running

KEY = "a-long-and-secret-key"


def uri(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def bomb() -> bytes:
    """144 megapixels in a few kilobytes."""
    buffer = io.BytesIO()
    PIL.Image.new("1", (12_000, 12_000)).save(buffer, "PNG")
    return buffer.getvalue()


EMBED, SEARCH, RERANK = "/v1/embeddings", "/v1/search", "/v1/rerank"
CASES: dict[str, tuple[str, Any, int, str | None]] = {
    # name: path, body, status, field at fault
    "the address of the cloud's metadata": (
        EMBED,
        {"input": {"image": "http://169.254.169.254/x"}},
        400,
        "input",
    ),
    "a decimal address": (EMBED, {"input": [{"image": "http://2130706433/"}]}, 400, "input[0]"),
    "an address mapped to IPv6": (
        EMBED,
        {"input": [{"image": "http://[::ffff:127.0.0.1]/"}]},
        400,
        "input[0]",
    ),
    "a file URL": (EMBED, {"input": [{"image": "file:///etc/passwd"}]}, 400, "input[0]"),
    "a path": (EMBED, {"input": [{"image": "/etc/passwd"}]}, 400, "input[0]"),
    "a path of base64 letters": (EMBED, {"input": [{"image": "/etc/pas"}]}, 400, "input[0]"),
    "a bomb of pixels": (EMBED, {"input": [{"image": uri(bomb())}]}, 413, "input[0]"),
    "a long text": (EMBED, {"input": ["a" * 1_000_000]}, 400, "input[0]"),
    "deep nesting": (EMBED, b"[" * 100_000, 400, None),
    "deep nesting inside": (EMBED, b'{"input":' + b"[" * 900 + b"]" * 900 + b"}", 400, "input[0]"),
    "a lone surrogate": (EMBED, b'{"input": "\\ud800"}', 400, None),
    "bytes that are not UTF-8": (EMBED, b'{"input": "\xff\xfe"}', 400, None),
    "many texts": (EMBED, {"input": ["a"] * 100_000}, 413, "input"),
    "many images": (EMBED, {"input": [{"image": uri(png(1, 1))}] * 65}, 413, "input"),
    "negative dimensions": (EMBED, {"input": "a", "dimensions": -1}, 400, "dimensions"),
    "huge dimensions": (EMBED, {"input": "a", "dimensions": 10**9}, 400, "dimensions"),
    "no number": (SEARCH, b'{"parts": [{"text": "a", "weight": NaN}]}', 400, None),
    "infinity": (SEARCH, b'{"parts": [{"text": "a", "weight": 1e999}]}', 400, None),
    "a zero weight": (SEARCH, {"parts": [{"text": "a", "weight": 0}]}, 400, "parts[0].weight"),
    "a huge k": (SEARCH, {"query": "a", "k": 10**9}, 400, "k"),
    "a huge offset": (SEARCH, {"query": "a", "offset": 10**12}, 400, "offset"),
    "a negative k": (SEARCH, {"query": "a", "k": -1}, 400, "k"),
    "many parts": (SEARCH, {"parts": [{"text": "a"}] * 17}, 400, "parts"),
    "nothing to search for": (SEARCH, {}, 400, None),
    "a probability above one": (SEARCH, {"query": "a", "min_probability": 2}, 400, "min_probability"),
    "a filter of another type": (SEARCH, {"query": "a", "where": {"x": {"y": {"z": 1}}}}, 400, None),
    "an id that is no item": (SEARCH, {"similar_to": "../../etc/passwd"}, 400, None),
    "an unknown index": (SEARCH, {"query": "a", "index": "../x"}, 404, "index"),
    "an empty list": (EMBED, {"input": []}, 400, "input"),
    "an empty text": (EMBED, {"input": ["a", "  "]}, 400, "input[1]"),
    "no input": (EMBED, {}, 400, "input"),
    "a number": (EMBED, {"input": 7}, 400, "input"),
    "a damaged image": (EMBED, {"input": [{"image": uri(png(64, 64)[:60])}, "a"]}, 400, "input[0]"),
    "text as an image": (EMBED, {"input": [{"image": uri(b"hello, hello, hello")}]}, 400, "input[0]"),
    "an image as audio": (EMBED, {"input": [{"audio": uri(png(8, 8))}]}, 400, "input[0]"),
    "a script as an image": (EMBED, {"input": [{"image": uri(b"<svg onload=alert(1)/>")}]}, 400, "input[0]"),
    "an empty image": (EMBED, {"input": [{"image": "data:image/png;base64,"}]}, 400, "input[0]"),
    "two things in one": (EMBED, {"input": [{"image": "x", "text": "y"}]}, 400, "input[0]"),
    "many labels": ("/classify", {"input": "a", "labels": [str(n) for n in range(3000)]}, 413, "labels"),
    "no documents": (RERANK, {"query": "a", "documents": []}, 400, "documents"),
    "a list as the body": (EMBED, [1, 2], 400, None),
    "an unknown model": (EMBED, {"input": "a", "model": "../../etc"}, 404, "model"),
    "no path": ("/v1/nothing", {}, 404, None),
    "a change of a read-only server": ("/v1/items", {"items": [{"text": "a"}]}, 403, None),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_body_is_refused_and_the_field_is_named(server: Api, name: str) -> None:
    path, body, status, param = CASES[name]
    reply = server.post(path, body)
    assert (reply.status, reply.error["param"]) == (status, param), reply.body
    assert "etc/passwd: no such" not in reply.body.decode() and "Traceback" not in reply.body.decode()
    assert reply.headers["x-content-type-options"] == "nosniff" and reply.headers["x-request-id"]


def test_null_is_absent_and_unknown_keys_are_ignored(server: Api) -> None:
    body = {
        "input": "a",
        "dimensions": None,
        "modality": None,
        "encoding_format": None,
        "later_invention": {"x": [1]},
    }
    assert server.post(EMBED, body).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-encoding": "gzip"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example:80"}, 421),
        ({"host": "localhost"}, 200),
    ],
)
def test_a_page_of_another_site_gets_nowhere(server: Api, headers: dict[str, str], status: int) -> None:
    content = b'{"input": "a"}'
    body = gzip.compress(content) if "content-encoding" in headers else content
    assert server.post(EMBED, body, headers).status == status


def test_a_page_of_the_server_itself_may_post(server: Api) -> None:
    assert server.post(EMBED, {"input": "a"}, {"origin": server.url}).status == 200
    assert server.call("OPTIONS", EMBED, headers={"origin": "https://evil.example"}).status == 403


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "TRACE"])
def test_another_method_is_refused_with_those_there_are(server: Api, method: str) -> None:
    reply = server.call(method, EMBED, b"{}", {"content-type": "application/json"})
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "%2Fetc%2Fpasswd", "x%00y", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "a" * 5000]
)
@pytest.mark.parametrize("part", ["", "/thumb", "/media"])
def test_only_ids_of_the_index_are_shown(server: Api, path: str, part: str) -> None:
    assert server.get(f"/v1/items/{path}{part}").status == 404


def test_an_item_cannot_name_a_file_that_holds_no_media(tmp_path: Path, starter: mm.Space) -> None:
    index = mm.Index.create(tmp_path / "odd.lance", starter)
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0\n")
    svg = tmp_path / "page.svg"
    svg.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    odd = {
        "passwd": secret,
        "svg": svg,
        "relative": "secret",
        "folder": tmp_path,
        "gone": tmp_path / "gone.png",
    }
    index.add(
        [mm.Image(png(8, 8, (9, n, 9)), uri=str(path)) for n, path in enumerate(odd.values())], ids=list(odd)
    )
    config = ServerConfig(indexes=(index.path,), port=0, preloaded={"starter": starter})
    with running(config) as api:
        for name in odd:
            for part in ("media", "thumb"):
                reply = api.get(f"/v1/items/{name}/{part}")
                assert reply.status == 404
                assert b"root:x" not in reply.body and str(tmp_path).encode() not in reply.body


# --- a server with low ceilings and a key -------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(starter: mm.Space) -> Iterator[Api]:
    ceilings = Ceilings(body_bytes=1 << 20, header_s=0.4, body_s=0.4, read_s=0.2, connections=40)
    config = ServerConfig(
        port=0, spaces=("starter",), api_keys=(KEY, "another"), ceilings=ceilings, preloaded={"starter": starter},
        batching=Batching(capacity=8), cors=("https://friend.example",),
    )  # fmt: skip
    with running(config, {"authorization": f"Bearer {KEY}"}) as api:
        yield api


def test_every_endpoint_but_the_public_ones_needs_a_key(strict: Api) -> None:
    anonymous = Api(strict.url)
    for path in ("/v1/models", "/metrics", "/api/tags", "/v1/items", "/v1/items/x/media"):
        reply = anonymous.get(path)
        assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    for headers in ({"authorization": f"Bearer {KEY}x"}, {"x-api-key": ""}, {"authorization": f"Basic {KEY}"},
                    {"authorization": "Bearer"}, {"x-api-key": KEY[:-1]}):  # fmt: skip
        assert Api(strict.url, headers=headers).get("/v1/models").status == 401
    for headers in ({"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}, {"x-api-key": "another"}):
        assert Api(strict.url, headers=headers).get("/v1/models").status == 200
    assert anonymous.get("/health").status == anonymous.get("/ready").status == 200


def test_an_open_address_needs_a_key_or_a_spelt_out_refusal() -> None:
    with pytest.raises(InvalidInput, match="give --api-key, or --no-auth"):
        ServerConfig(host="0.0.0.0")
    assert ServerConfig(host="0.0.0.0", no_auth=True).no_auth


def test_pages_of_an_allowed_origin_may_ask(strict: Api) -> None:
    friend = {"origin": "https://friend.example", "access-control-request-method": "POST"}
    assert strict.call("OPTIONS", EMBED, headers=friend).status == 204
    reply = strict.post(EMBED, {"input": "a"}, friend)
    assert reply.headers["access-control-allow-origin"] == "https://friend.example"


def test_a_body_is_refused_by_its_announced_size_and_while_it_arrives(strict: Api) -> None:
    with raw(strict) as connection:
        connection.sendall(head("content-length: 60000000"))
        assert b" 413 " in connection.recv(100)
    with raw(strict) as connection:
        connection.sendall(head("transfer-encoding: chunked"))
        with contextlib.suppress(OSError):  # it is closed while we send
            for _ in range(64):
                connection.sendall(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b" 413 " in connection.recv(100)


def test_slow_clients_lose_their_connections_and_lock_nobody_out(strict: Api) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(raw(strict)) for _ in range(60)]  # more than it allows
        for connection in slow:
            with contextlib.suppress(OSError):  # closed already, to make room
                connection.sendall(b"GET / HTTP/1.1\r\nhost: loc")
        start = time.perf_counter()
        assert strict.get("/health").status == 200
        assert time.perf_counter() - start < 2  # 100 ms on a quiet machine
        body = stack.enter_context(raw(strict))
        body.sendall(head("content-length: 1000") + b'{"input": ')
        assert b" 408 " in body.recv(100)
        for connection in slow:
            with contextlib.suppress(ConnectionError):
                assert connection.recv(100) == b""


def test_a_client_that_does_not_read_its_responses_is_closed(strict: Api) -> None:
    request = b"GET /page/app.js HTTP/1.1\r\nhost: localhost\r\n\r\n"
    total = 12 << 20  # more than the buffers of both sockets
    n = total // len(strict.get("/page/app.js").body)
    with raw(strict) as idle, raw(strict) as reading:
        idle.sendall(request * n)
        reading.sendall(request * n)
        n_read = 0
        while n_read < total:
            part = reading.recv(1 << 20)
            assert part
            n_read += len(part)
        end = time.monotonic() + 30
        while idle.getsockname()[1] in strict.connections():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert reading.getsockname()[1] in strict.connections()


def test_endless_headers_are_cut_off(strict: Api) -> None:
    with raw(strict) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000)
        with contextlib.suppress(ConnectionResetError):
            assert b" 431 " in connection.recv(100)


def test_an_overload_gets_429_and_when_to_come_back(strict: Api) -> None:
    body = {"input": [f"text number {n}" for n in range(64)]}

    def post(_: int) -> tuple[int, str | None]:
        reply = strict.post(EMBED, body)
        return reply.status, reply.headers.get("retry-after")

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        outcomes = list(pool.map(post, range(48)))
    assert {status for status, _ in outcomes} == {200, 429}
    assert all(retry == "1" for status, retry in outcomes if status == 429)


@contextlib.contextmanager
def raw(api: Api) -> Iterator[socket.socket]:
    with socket.create_connection((api.host, api.port), timeout=20) as connection:
        yield connection


def head(line: str) -> bytes:
    lines = (f"POST {EMBED} HTTP/1.1", "host: localhost", f"authorization: Bearer {KEY}",
             "content-type: application/json", line)  # fmt: skip
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# --- URLs ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def website() -> Iterator[int]:
    """A web server: /ok answers, /there redirects to ?to=…, /zip is compressed, /big is large."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/there?"):
                self.send_response(302)
                self.send_header("location", self.path.partition("=")[2])
                self.end_headers()
                return
            self.send_response(200)
            if self.path == "/zip":
                self.send_header("content-encoding", "gzip")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(b"x" * (200_000 if self.path == "/big" else 10))

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as website:
        thread = threading.Thread(target=website.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield website.server_address[1]
        website.shutdown()
        thread.join()


def fetcher(port: int, *addresses: str) -> Fetcher:
    """Allows the host `media.example`, which resolves to these addresses, one after another; 127.0.0.1 stands for a
    public one."""
    given: Callable[[], str] = iter([*addresses, *["127.0.0.1"] * 9]).__next__
    return Fetcher(("media.example",), 100_000, lambda host, _: [given()], lambda address: address == "127.0.0.1",
                   {"http": port})  # fmt: skip


def test_a_url_of_an_allowed_host_is_fetched(website: int) -> None:
    assert fetcher(website).fetch("http://media.example/ok", "input") == b"x" * 10
    assert fetcher(website).fetch("http://media.example/there?to=/ok", "input") == b"x" * 10


@pytest.mark.parametrize(
    ("url", "addresses", "status"),
    [
        ("http://other.example/ok", (), 400),
        ("http://media.example:22/", (), 400),
        ("http://user@media.example/ok", (), 400),
        ("ftp://media.example/ok", (), 400),
        ("http://media.example/ok", ("10.0.0.1",), 400),
        ("http://media.example/there?to=http://127.0.0.1/ok", (), 400),
        (
            "http://media.example/there?to=http://media.example/ok",
            ("127.0.0.1", "169.254.169.254"),
            400,
        ),  # rebinding
        ("http://media.example/there?to=file:///etc/passwd", (), 400),
        ("http://media.example/there?to=/there?to=/there?to=/there?to=/ok", (), 400),
        ("http://media.example/zip", (), 400),
        ("http://media.example/big", (), 413),
    ],
)
def test_every_hop_of_a_url_is_checked(
    website: int, url: str, addresses: tuple[str, ...], status: int
) -> None:
    with pytest.raises(ApiError) as caught:
        fetcher(website, *addresses).fetch(url, "input[0]")
    assert (caught.value.status, caught.value.param) == (status, "input[0]")


def test_only_addresses_of_the_internet_are_public() -> None:
    inner = (
        "127.0.0.1 0.0.0.0 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 100.64.0.1 ::1 :: fe80::1%eth0 fc00::1 "
        "::ffff:127.0.0.1 2002:7f00:1:: 64:ff9b::7f00:1 224.0.0.1 255.255.255.255 nonsense"
    )
    assert [address for address in inner.split() if is_public(address)] == []
    assert is_public("93.184.216.34") and is_public("2606:2800:220:1:248:1893:25c8:1946")


def test_a_url_is_refused_unless_its_host_was_allowed(server: Api) -> None:
    reply = server.post(EMBED, {"input": [{"image": "https://example.com/x.png"}]})
    assert "allow the host with --allow-urls" in json.loads(reply.body)["error"]["message"]


def test_random_requests_after_the_schema_never_break_the_server(server: Api) -> None:
    pytest.importorskip("schemathesis", reason="the extra clients is not installed")
    from tests.server.fuzz import run

    slow = ("/v1/images/generations", "/v1/images/edits", "/v1/images/variations", "/page/draw", "/page/map")
    statuses = run(server.url, 40, skip=("/mcp", *slow))
    assert statuses[200] and statuses[400]
