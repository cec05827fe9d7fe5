"""Servers as processes of their own: start, signals, crashes, and several processes on one index."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import multimodal as mm
from multimodal.server.config import ServerConfig
from tests.server.conftest import GALLERY, ROOT, Api, png, running

START_S = 120


@contextlib.contextmanager
def process(*arguments: object) -> Iterator[tuple[Api, subprocess.Popen[str]]]:
    """`multimodal serve`, ready. Killed after the block if it still runs."""
    command = [sys.executable, "-m", "multimodal", "serve", "--port", "0", "--json", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as started:
        try:
            assert started.stdout is not None
            api = Api(json.loads(started.stdout.readline())["url"])
            assert api.get("/health").status == 200  # also while the models are loaded
            end = time.monotonic() + START_S
            while (reply := api.get("/ready")).status != 200:
                assert reply.status == 503 and reply.error["code"] == "loading"
                assert started.poll() is None and time.monotonic() < end
                time.sleep(0.05)
            yield api, started
        finally:
            started.kill()
            started.communicate()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, starter: mm.Space) -> Path:
    """An index with one text, to write to."""
    index = mm.Index.create(tmp_path_factory.mktemp("written") / "notes.lance", starter)
    index.add(["the first note"], ids=["first"])
    return index.path


def test_a_kill_loses_nothing_that_was_accepted_and_two_servers_read_one_index(
    written: Path, starter: mm.Space
) -> None:
    accepted: list[str] = []
    config = ServerConfig(indexes=(written,), port=0, preloaded={"starter": starter})
    with process(written, "--write") as (writer, started), running(config) as reader:
        mm.Index.open(written, starter).add(["written by another process"], ids=["other"])
        for api in (writer, reader):
            hits = api.post("/v1/search", {"query": "written by another process", "k": 1}).json()["hits"]
            assert [hit["id"] for hit in hits] == ["other"]

        def write(number: int) -> None:
            with contextlib.suppress(OSError, ValueError):  # what the kill cuts off
                note = {"text": f"note number {number}", "id": f"note-{number}"}
                if writer.post("/v1/items", {"items": [note]}).status == 200:
                    accepted.append(f"note-{number}")
                if len(accepted) >= 6:
                    os.kill(started.pid, signal.SIGKILL)

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            list(pool.map(write, range(40)))
        assert started.wait(START_S) == -signal.SIGKILL
        assert len(accepted) >= 6
        assert {row["id"] for row in mm.Index.open(written, starter).rows()} >= {"first", "other", *accepted}
        found = reader.post("/v1/search", {"query": "note number 0", "ids": accepted}).json()["hits"]
        assert {hit["id"] for hit in found} <= set(accepted) and found


def test_sigterm_finishes_what_was_accepted_and_exits_with_0() -> None:
    with process("--alias", "text-embedding-3-small=starter") as (api, started):
        statuses: list[int] = []
        body = {
            "input": [f"text number {n} " + "of some length " * 5 for n in range(64)],
            "model": "text-embedding-3-small",
        }

        def post() -> None:
            with contextlib.suppress(OSError):
                statuses.append(api.post("/v1/embeddings", body).status)

        clients = [threading.Thread(target=post) for _ in range(6)]
        for client in clients:
            client.start()
        while b'multimodal_batch_items_count{modality="text"} 1.0' in api.get("/metrics").body:
            time.sleep(0.02)  # until they are being computed; the first batch was the warm-up
        started.send_signal(signal.SIGTERM)
        for client in clients:
            client.join()
        assert started.wait(START_S) == 0
        assert statuses and set(statuses) <= {200, 503}
        assert 200 in statuses


def test_a_server_that_cannot_load_its_model_says_so_and_exits_with_1() -> None:
    command = [sys.executable, "-m", "multimodal", "serve", "--port", "0", "--space", "./no-such-folder"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=START_S)
    assert ran.returncode == 1
    assert "no-such-folder" in ran.stderr


# --- uploads, in this process -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory, starter: mm.Space) -> Iterator[Api]:
    index = mm.Index.create(tmp_path_factory.mktemp("writable") / "album.lance", starter)
    with running(
        ServerConfig(indexes=(index.path,), port=0, write=True, preloaded={"starter": starter})
    ) as api:
        yield api


def form(**files: bytes) -> tuple[bytes, dict[str, str]]:
    """A form with files, by name, and metadata."""
    parts = [b'--x\r\ncontent-disposition: form-data; name="metadata"\r\n\r\n{"album": "tests"}\r\n']
    for name, content in files.items():
        disposition = f'form-data; name="files"; filename="{name}"'
        parts.append(f"--x\r\ncontent-disposition: {disposition}\r\n\r\n".encode() + content + b"\r\n")
    return b"".join([*parts, b"--x--\r\n"]), {"content-type": "multipart/form-data; boundary=x"}


def test_files_are_uploaded_found_shown_and_deleted(writable: Api) -> None:
    lion = (GALLERY / "pictures/lion-at-dusk.jpg").read_bytes()
    names = {
        "../../a lion.jpg": lion, "note.txt": b"a note about dinner", "broken.png": png(64, 64)[:70], "empty.jpg": b"",
        "page.svg": b"<svg/>", "table.csv": b"path\n/etc/passwd\n", "files.zip": b"PK\x03\x04" + bytes(60),
        "program.exe": b"MZ" + bytes(60),
    }  # fmt: skip
    body, headers = form(**names)
    report = writable.call("POST", "/v1/items", body, headers).json()
    assert report["added"] == 2
    assert {failure["name"] for failure in report["failed"]} == set(names) - {"../../a lion.jpg", "note.txt"}
    hits = writable.post(
        "/v1/search", {"query": "a lion", "where": {"album": "tests"}, "modality": "image"}
    ).json()["hits"]
    (lion_hit,) = hits
    assert lion_hit["metadata"]["name"] == "../../a lion.jpg"
    path = Path(lion_hit["uri"])
    assert path.parent.name == "album-uploads" and path.name.endswith("-a_lion.jpg")
    assert writable.get(lion_hit["links"]["media"]).body == lion
    assert writable.get(lion_hit["links"]["thumb"]).headers["content-type"] == "image/jpeg"
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".jpg", ".txt"]  # nothing of what failed
    again = writable.call("POST", "/v1/items", body, headers).json()
    assert (again["added"], again["unchanged"]) == (0, 2)
    assert writable.call("DELETE", lion_hit["links"]["media"].replace("/media", "")).json() == {"deleted": 1}
    assert not path.exists()
    assert writable.get(lion_hit["links"]["media"]).status == 404


def test_texts_are_added_with_their_ids_and_metadata(writable: Api) -> None:
    items = [{"text": "an old photograph", "id": "photo", "metadata": {"year": 1950}}, {"text": "a new one"}]
    report = writable.post("/v1/items", {"items": items, "metadata": {"box": 3}}).json()
    assert report["added"] == 2 and report["ids"][0] == "photo"
    assert writable.get("/v1/items/photo").json()["metadata"] == {"box": 3, "year": 1950}
    assert writable.post("/v1/items/delete", {"ids": report["ids"]}).json() == {"deleted": 2}
    for wrong in ({"items": []}, {"items": [{"text": ""}]}, {"items": [{}]}, {"items": [{"text": "a", "media": "b"}]},
                  {"items": [{"text": "a", "metadata": {"x": [1]}}]}):  # fmt: skip
        assert writable.post("/v1/items", wrong).status == 400
    assert writable.call("POST", "/v1/items", b"a=b", {"content-type": "text/plain"}).status == 415
