"""One running server for all tests of a process: the starter, and an index of the gallery."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image
import pytest
from filelock import FileLock

import multimodal as mm
from multimodal.server.config import ServerConfig
from multimodal.server.run import Server, bind

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "assets" / "gallery"
READY_S = 60


class Reply(NamedTuple):
    """An answer of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error of an answer in OpenAI's shape."""
        content: dict[str, Any] = json.loads(self.body)["error"]
        assert set(content) == {"message", "type", "param", "code"}
        return content


class Api:
    """A client of a running server that sends what it is given, however wrong."""

    def __init__(self, url: str, app: Any = None, headers: Mapping[str, str] | None = None) -> None:
        self.url, self.app = url, app
        self.host, self.port = url.removeprefix("http://").split(":")[0], int(url.rpartition(":")[2])
        self.headers = dict(headers or {})
        self.server: Any = None  # of this process

    def connections(self) -> list[int]:
        """The ports of the clients that are connected."""
        return [connection.client[1] for connection in list(self.server.server_state.connections)]

    def call(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Reply:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        with contextlib.closing(connection):
            chunked = body is not None and not isinstance(body, bytes)
            connection.request(method, path, body, self.headers | dict(headers or {}), encode_chunked=chunked)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def get(self, path: str, **headers: str) -> Reply:
        return self.call(
            "GET", path, headers={key.replace("_", "-"): value for key, value in headers.items()}
        )

    def post(self, path: str, content: Any, headers: Mapping[str, str] | None = None) -> Reply:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.call("POST", path, body, {"content-type": "application/json"} | dict(headers or {}))


@contextlib.contextmanager
def running(config: ServerConfig, headers: Mapping[str, str] | None = None) -> Iterator[Api]:
    """A server in a thread of this process, until the block ends."""
    server = Server(config)
    with bind(config.host, config.port) as listening:
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        api = Api(f"http://127.0.0.1:{listening.getsockname()[1]}", server.app, headers)
        api.server = server
        try:
            end = time.monotonic() + READY_S
            while not server.started or api.get("/ready").status != 200:
                assert thread.is_alive() and time.monotonic() < end, server.app.state.failure
                time.sleep(0.02)
            yield api
        finally:
            server.should_exit = True
            thread.join(READY_S)
            assert not thread.is_alive()


@pytest.fixture(scope="session")
def starter() -> mm.Space:
    return mm.load("starter")


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory, starter: mm.Space) -> Path:
    """An index of the shipped gallery, made once for all processes of a run. Read it only."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "server"
    folder.mkdir(exist_ok=True)
    path = folder / "gallery.lance"
    with FileLock(folder / "lock"):
        if not (folder / "done").exists():
            mm.Index.create(path, starter, exist_ok=True).add(GALLERY)
            (folder / "done").touch()
    return path


@pytest.fixture(scope="session")
def server(gallery: Path, starter: mm.Space) -> Iterator[Api]:
    """The server that tests share: read-only, without a key, `gallery` and the starter."""
    config = ServerConfig(
        indexes=(gallery,),
        port=0,
        aliases={"text-embedding-3-small": "starter"},
        preloaded={"starter": starter},
    )
    with running(config) as api:
        yield api


@pytest.fixture(scope="session")
def data_uri() -> Callable[..., str]:
    """A data URI of a picture or a sound of the gallery: data_uri("pictures/red-apple.jpg")."""

    def make(name: str) -> str:
        kind = "image/jpeg" if name.startswith("pictures") else "audio/flac"
        return f"data:{kind};base64,{base64.b64encode((GALLERY / name).read_bytes()).decode()}"

    return make


def png(width: int, height: int, colour: tuple[int, int, int] = (200, 30, 40)) -> bytes:
    """The bytes of a picture of one colour."""
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()
