"""With every socket to a network forbidden, the model that ships inside loads, encodes, indexes and finds."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import multimodal as mm
from multimodal.core.paths import assets

ROOT = Path(__file__).resolve().parents[3]
IMAGES = assets() / "gallery" / "pictures"
NETWORKS = (socket.AF_INET, socket.AF_INET6)


class _Forbidden(socket.socket):
    """Pairs of sockets inside this process, with which an event loop wakes itself, are no network."""

    def __init__(self, family: int = -1, *rest: int, **more: int) -> None:
        if family in (-1, *NETWORKS):
            raise AssertionError(f"a socket of family {family} was asked for")
        super().__init__(family, *rest, **more)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"the network was asked for: {args}")

    monkeypatch.setattr(socket, "socket", _Forbidden)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)


def test_the_fence_holds(no_network: None) -> None:
    import http.client
    import urllib.request

    with pytest.raises(AssertionError, match="was asked for"):
        http.client.HTTPConnection("127.0.0.1", 9, timeout=1).connect()
    with pytest.raises(AssertionError, match="was asked for"):
        urllib.request.urlopen("http://localhost:9", timeout=1)
    with pytest.raises(AssertionError, match="was asked for"):
        socket.socket()


def test_the_starter_loads_encodes_indexes_and_finds(no_network: None, tmp_path: Path) -> None:
    space = mm.load("starter")
    images = sorted(IMAGES.glob("*-apple.*"))
    sound = mm.Audio(assets() / "gallery" / "sounds" / "red-apple.flac")
    vectors = space.encode(["a red apple", mm.Image(images[0]), sound])
    assert vectors.shape == (3, space.dim)
    assert np.isfinite(vectors).all()
    index = mm.Index.create(tmp_path / "memories.lance", space)
    assert index.add([mm.Image(path) for path in images]).added == len(images)
    assert index.search("a red apple", k=1)[0].modality == "image"
    assert mm.Index.open(tmp_path / "memories.lance").search(sound, k=1)
    classify = mm.pipeline("zero-shot-classification", model="starter")
    assert classify("a dog", labels=["dog", "pizza"]).label == "dog"


def test_a_fresh_process_without_any_setting_asks_for_no_network() -> None:
    """From the first import on, which another test of this process may have done already."""
    code = """
import sys
def fence(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        if event != "socket.connect" or isinstance(args[1], tuple):
            raise SystemExit(f"the network was asked for: {event} {args}")
sys.addaudithook(fence)
import multimodal as mm
print(mm.load("starter").encode("a red apple").shape)
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, run.stdout) == (0, "(256,)\n"), run.stderr
