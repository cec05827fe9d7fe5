"""A small model hub on 127.0.0.1 that speaks the protocol of the real one, and fails on demand.

    GET  /api/models/<repo>/revision/<rev>          {"sha": commit, "siblings": [{"rfilename": …}, …]}
    GET  /api/models/<repo>/tree/<rev>              [{"path", "size", "oid", "lfs"}, …]
    HEAD, GET  /<repo>/resolve/<rev>/<file>         small files: the content, ETag is git's sha1
                                                    large ones: 302 to another host, X-Linked-Etag is the sha256
    GET  <other host>/<sha256>                      the content, by ranges too, and without anybody's token

    GET  /plain/<file>                              no hub at all: a file on some server, by ranges too

Errors carry X-Error-Code as the real hub's do. `requests` is the log, in order of arrival. The fixture `server` runs
one and turns the environment to it.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest

LARGE = 1000  # bytes; from here on a file is kept apart, as git-lfs does


@dataclass
class Fault:
    """What goes wrong with requests whose path contains `path`.

    status: this answer instead, with `headers`. cut: the connection ends after so many bytes of the content. content:
    other bytes, under the headers of the right ones. slow: seconds before the answer. hold: half way, wait for this.
    without: headers left out. method: for this one only. times: how often; None for always.
    """

    path: str
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    content: bytes | None = None
    slow: float = 0.0
    hold: threading.Event | None = None
    without: tuple[str, ...] = ()
    method: str | None = None
    times: int | None = None


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None = field(compare=False, default=None)
    token: str | None = field(compare=False, default=None)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""


class LoopbackHub:
    """Repositories, each a map from commits to files, and from branches to commits. `url` is its HF_ENDPOINT."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.gated: set[str] = set()
        self.private: dict[str, str] = {}  # repo -> the token that opens it
        self.plain: dict[str, bytes] = {}
        self.xet = False  # whether large files are offered by Xet too, as the public hub does
        self.etags = True  # whether plain files carry one
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        self._main, self._store = self._server(self._main_answer), self._server(self._store_answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._main.server_port}"

    def add(self, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
        """A new commit at the head of a branch. Returns its hash."""
        commit = hashlib.sha1(repr((repo, sorted(files.items()))).encode()).hexdigest()
        self.repos.setdefault(repo, {})[commit] = dict(files)
        self.branches.setdefault(repo, {})[branch] = commit
        return commit

    def fail(self, path: str, **how: object) -> Fault:
        self.faults.append(Fault(path, **how))  # type: ignore[arg-type]
        return self.faults[-1]

    def heal(self) -> None:
        self.faults.clear()

    def seen(self, method: str = "", path: str = "") -> list[Request]:
        return [
            request for request in self.requests if request.method.startswith(method) and path in request.path
        ]

    def address_of(self, content: bytes) -> str:
        """What the path of a large file's bytes ends in."""
        return hashlib.sha256(content).hexdigest()

    def fetched(self, content: bytes) -> list[Request]:
        """The requests for a large file's bytes."""
        return self.seen("GET", self.address_of(content))

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nothing listens at the address for a while."""
        address = self._main.server_address
        self._stop(self._main)
        yield
        self._main = self._server(self._main_answer, address)  # type: ignore[arg-type]

    def stop(self) -> None:
        self._stop(self._main)
        self._stop(self._store)

    def _server(self, answer: object, address: tuple[str, int] = ("127.0.0.1", 0)) -> _Server:
        handler = type("Handler", (_Handler,), {"hub": self, "answer": staticmethod(answer)})
        server = _Server(address, handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server

    @staticmethod
    def _stop(server: _Server) -> None:
        server.shutdown()
        server.server_close()
        server.hang_up()

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault_ in self.faults:
                if fault_.path in path and fault_.method in (None, method) and fault_.times != 0:
                    fault_.times = None if fault_.times is None else fault_.times - 1
                    return fault_
        return None

    def _main_answer(self, path: str, token: str | None) -> Answer:
        if path.startswith("/plain/"):
            return self._plain_answer(path.removeprefix("/plain/"))
        result = re.fullmatch(r"/api/models/(.+?)(?:/(revision|tree)/([^/?]+))?(?:\?.*)?", path)
        where = result or re.fullmatch(r"/(.+?)/(resolve)/([^/]+)/(.+)", path)
        if where is None:
            return _error(404, "NotFound")
        repo, kind, revision = where[1], where[2] or "revision", unquote(where[3] or "main")
        if repo not in self.repos:
            return _error(404, "RepoNotFound")
        if repo in self.private and token != f"Bearer {self.private[repo]}":
            return _error(401, "RepoNotFound")
        if repo in self.gated and kind == "resolve":
            return _error(403, "GatedRepo")
        commit = self.branches[repo].get(revision, revision)
        if commit not in self.repos[repo]:
            return _error(404, "RevisionNotFound")
        files = self.repos[repo][commit]
        if kind == "resolve":
            return self._resolve(files, unquote(where[4]), commit)
        listed = [_described(name, content) for name, content in files.items()]
        if kind == "tree":
            return _json(listed)
        siblings = [{"rfilename": item["path"]} for item in listed]
        return _json(
            {"id": repo, "modelId": repo, "sha": commit, "private": False, "tags": [], "siblings": siblings}
        )

    def _resolve(self, files: dict[str, bytes], name: str, commit: str) -> Answer:
        if name not in files:
            return _error(404, "EntryNotFound", {"X-Repo-Commit": commit})
        content = files[name]
        if len(content) < LARGE:
            return Answer(200, {"ETag": f'"{git_sha1(content)}"', "X-Repo-Commit": commit}, content)
        sha256 = hashlib.sha256(content).hexdigest()
        refresh = f"<{self.url}/api/models/any/xet-read-token/{commit}>"
        return Answer(
            302,
            ({"X-Xet-Hash": sha256, "Link": f'{refresh}; rel="xet-auth"'} if self.xet else {})
            | {
                "Location": f"http://127.0.0.1:{self._store.server_port}/{sha256}",
                "X-Repo-Commit": commit,
                "X-Linked-Etag": f'"{sha256}"',
                "X-Linked-Size": str(len(content)),
            },
        )

    def _plain_answer(self, name: str) -> Answer:
        if name not in self.plain:
            return _error(404, "NotFound")
        content = self.plain[name]
        return Answer(200, {"ETag": f'"{git_sha1(content)}"'} if self.etags else {}, content)

    def _store_answer(self, path: str, token: str | None) -> Answer:
        for commits in self.repos.values():
            for files in commits.values():
                for name, content in files.items():
                    if hashlib.sha256(content).hexdigest() == path.strip("/"):
                        shown = {"Content-Disposition": f'inline; filename="{name.rpartition("/")[2]}";'}
                        return Answer(200, {"ETag": f'"{path.strip("/")}"', **shown}, content)
        return _error(404, "NotFound")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *how: Any) -> None:
        self.connections: list[socket.socket] = []
        super().__init__(*how)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.append(connection)
        return connection, address

    def hang_up(self) -> None:
        """End the connections that clients keep open for their next request."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed, or hung up on


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self, body: bool) -> None:
        token = self.headers.get("Authorization")
        self.hub.requests.append(Request(self.command, self.path, self.headers.get("Range"), token))
        fault = self.hub.fault(self.command, self.path) or Fault("")
        time.sleep(fault.slow)
        if fault.status is not None:
            answer = Answer(fault.status, fault.headers, fault.body)
        else:
            answer = self.answer(self.path, token)  # type: ignore[attr-defined]
        content = answer.body if fault.content is None else fault.content
        status, extra, content = self._ranged(answer, content)
        self.send_response(status)
        headers = {"Content-Length": str(len(content)), **answer.headers, **extra}
        for name, value in headers.items():
            if name not in fault.without:
                self.send_header(name, value)
        self.end_headers()
        if body:
            content, half = content[: fault.cut], len(content) // 2
            self.wfile.write(content[:half])
            if fault.hold is not None:
                fault.hold.wait(5)
            self.wfile.write(content[half:])
        if fault.cut is not None and body:
            self.close_connection = True

    def _ranged(self, answer: Answer, content: bytes) -> tuple[int, dict[str, str], bytes]:
        result = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        condition = self.headers.get("If-Range")
        if answer.status != 200 or not result or condition not in (None, answer.headers.get("ETag")):
            return answer.status, {}, content
        start = int(result[1])
        return 206, {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}, content[start:]


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _described(name: str, content: bytes) -> dict[str, object]:
    described: dict[str, object] = {
        "type": "file",
        "path": name,
        "size": len(content),
        "oid": git_sha1(content),
    }
    if len(content) >= LARGE:
        oid = hashlib.sha256(content).hexdigest()
        described["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
    return described


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})}, b"{}")


def _json(value: object) -> Answer:
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A running hub, the environment that points to it, empty caches, short timeouts and no waits between attempts."""
    import huggingface_hub
    from huggingface_hub import constants, file_download
    from huggingface_hub.utils import _http

    hub = LoopbackHub()
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HOME", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path / "own"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.5)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    monkeypatch.setattr(
        constants, "HF_HUB_DISABLE_TELEMETRY", True
    )  # it asks the public hub about its callers
    hasty = SimpleNamespace(sleep=lambda seconds: None, time=time.time)
    monkeypatch.setattr(file_download, "time", hasty)
    monkeypatch.setattr(_http, "time", hasty)
    monkeypatch.setattr("multimodal.core.hub.errors.RETRY_WAITS_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr("multimodal.core.hub.url.TIMEOUT_S", 0.5)
    huggingface_hub.close_session()
    yield hub
    huggingface_hub.close_session()
    hub.stop()
