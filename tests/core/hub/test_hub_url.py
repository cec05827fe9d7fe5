"""Plain files at URLs: once, resumed, compared with their digest, and then without the network."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multimodal.core.errors import DownloadError, InvalidInput, UnknownModel
from multimodal.core.hub import api as hub
from tests.core.hub.loopback_hub import LoopbackHub, Request, server

__all__ = ["server"]  # a fixture

CONTENT = bytes(range(256)) * 20
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def address(server: LoopbackHub) -> str:
    server.plain["ViT B.pt"] = CONTENT
    return f"{server.url}/plain/ViT%20B.pt"


@pytest.fixture(autouse=True)
def the_path_is_not_decoded(server: LoopbackHub) -> None:
    server.plain["ViT%20B.pt"] = server.plain["ViT B.pt"]


def leftovers(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "own").rglob("*") if path.suffix == ".part"]


def test_a_file_comes_once_and_keeps_its_name(server: LoopbackHub, address: str, tmp_path: Path) -> None:
    path = hub.url(address)
    assert path.name == "ViT B.pt"
    assert path.is_relative_to(tmp_path / "own")
    assert path.read_bytes() == CONTENT
    assert hub.url(address) == path
    assert hub.url(address, offline=True) == path
    assert server.requests == [Request("GET", "/plain/ViT%20B.pt")]
    assert leftovers(tmp_path) == []


def test_where_it_is_kept_follows_the_environment(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MULTIMODAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert hub.url(address).is_relative_to(tmp_path / "xdg" / "multimodal" / "files")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert hub.url(address).is_relative_to(tmp_path / "home" / ".cache" / "multimodal" / "files")


@pytest.mark.parametrize("digest", [SHA256, SHA256[:8], SHA256[:12]])
def test_the_digest_may_be_whole_or_a_beginning(address: str, digest: str) -> None:
    assert hub.url(address, sha256=digest).read_bytes() == CONTENT


def test_a_file_of_another_digest_is_not_kept(server: LoopbackHub, address: str, tmp_path: Path) -> None:
    server.fail("/plain/", content=CONTENT[::-1], times=1)
    result = hashlib.sha256(CONTENT[::-1]).hexdigest()
    with pytest.raises(DownloadError) as caught:
        hub.url(address, sha256=SHA256)
    assert str(caught.value) == (
        f"{address} has the sha256 {result}, expected {SHA256}, and was deleted; try again, and if it "
        "persists, the file was changed by its publisher or in transit"
    )
    assert leftovers(tmp_path) == []
    with pytest.raises(DownloadError, match=r"^offline"):
        hub.url(address, sha256=SHA256, offline=True)
    assert hub.url(address, sha256=SHA256).read_bytes() == CONTENT


def test_a_file_fetched_without_a_digest_does_not_pass_for_one_that_was_compared(
    server: LoopbackHub, address: str
) -> None:
    server.fail("/plain/", content=CONTENT[::-1], times=1)
    assert hub.url(address).read_bytes() == CONTENT[::-1]
    assert hub.url(address, sha256=SHA256).read_bytes() == CONTENT


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(server: LoopbackHub, address: str) -> None:
    server.fail("/plain/", cut=2000, times=1)
    assert hub.url(address, sha256=SHA256).read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [None, None, "bytes=2000-"]


def test_the_next_call_goes_on_where_the_last_one_broke_off(
    server: LoopbackHub, address: str, tmp_path: Path
) -> None:
    server.fail("/plain/", cut=500)
    with pytest.raises(DownloadError) as caught:
        hub.url(address)
    assert str(caught.value) == (
        f"{address} could not be fetched: its host cannot be reached or closed the connection (2,000 of 5,120 bytes "
        "arrived); check the network and try again"
    )
    server.heal()
    server.requests.clear()
    assert hub.url(address).read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [None, "bytes=2000-"]
    assert leftovers(tmp_path) == []


def test_half_of_another_version_is_not_gone_on_with(
    server: LoopbackHub, address: str, tmp_path: Path
) -> None:
    server.fail("/plain/", cut=500)
    with pytest.raises(DownloadError):
        hub.url(address)
    server.heal()
    server.plain["ViT%20B.pt"] = CONTENT[::-1]
    server.requests.clear()
    assert hub.url(address).read_bytes() == CONTENT[::-1]
    assert [request.range for request in server.requests] == [None]
    assert leftovers(tmp_path) == []


def test_a_version_that_changes_between_the_two_requests_starts_anew(
    server: LoopbackHub, address: str
) -> None:
    server.fail("/plain/", cut=500)
    with pytest.raises(DownloadError):
        hub.url(address)
    server.heal()
    etag = f'"{hashlib.sha1(b"blob %d" % len(CONTENT) + bytes(1) + CONTENT).hexdigest()}"'
    old = {"status": 200, "headers": {"ETag": etag}, "body": CONTENT}
    server.fail("/plain/", times=1, **old)
    server.plain["ViT%20B.pt"] = CONTENT[::-1]
    assert hub.url(address).read_bytes() == CONTENT[::-1]


def test_without_etags_every_attempt_starts_anew(server: LoopbackHub, address: str) -> None:
    server.etags = False
    server.fail("/plain/", cut=2000, times=1)
    assert hub.url(address).read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [None, None]


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONTENT)), max_size=3), etags=st.booleans())
def test_wherever_it_breaks_off_the_content_is_right_in_the_end(
    server: LoopbackHub, address: str, tmp_path: Path, cuts: list[int], etags: bool
) -> None:
    server.heal()
    server.etags = etags
    for cut in cuts:
        server.fail("/plain/", cut=cut, times=1)
    shutil.rmtree(tmp_path / "own", ignore_errors=True)
    assert hub.url(address, sha256=SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_host_is_retried_and_then_reported(server: LoopbackHub, address: str, status: int) -> None:
    server.fail("/plain/", status=status)
    with pytest.raises(DownloadError) as caught:
        hub.url(address)
    assert str(caught.value) == f"{address} could not be fetched (HTTP {status}); try again later"
    assert len(server.requests) == 4
    server.heal()
    server.fail("/plain/", status=status, times=3)
    assert hub.url(address).read_bytes() == CONTENT


def test_what_is_not_there_or_not_allowed_is_reported_at_once(server: LoopbackHub, address: str) -> None:
    with pytest.raises(UnknownModel) as missing:
        hub.url(server.url + "/plain/other.pt")
    assert str(missing.value) == f"there is no file at {server.url}/plain/other.pt (HTTP 404); check the URL"
    server.fail("/plain/", status=403)
    with pytest.raises(DownloadError) as caught:
        hub.url(address)
    assert str(caught.value) == (
        f"{address} could not be fetched (HTTP 403); check the URL, and whether you have access to it"
    )
    assert len(server.requests) == 2


def test_a_dead_host_and_a_slow_one_are_reported(
    server: LoopbackHub, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        server.down(),
        pytest.raises(DownloadError, match=r"cannot be reached or closed the connection \(.*refused"),
    ):
        hub.url(address)
    monkeypatch.setattr("multimodal.core.hub.url.TIMEOUT_S", 0.05)
    monkeypatch.setattr("multimodal.core.hub.errors.RETRY_LIMIT_S", -1.0)
    server.fail("/plain/", slow=0.2)
    with pytest.raises(DownloadError, match=r"cannot be reached or closed the connection \(.*timed out"):
        hub.url(address)
    server.heal()
    monkeypatch.setattr("multimodal.core.hub.url.TIMEOUT_S", 5.0)
    assert hub.url(address).read_bytes() == CONTENT


@pytest.mark.parametrize("by", ["option", "HF_HUB_OFFLINE"])
def test_offline_asks_nobody(
    server: LoopbackHub, address: str, tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by != "option":
        monkeypatch.setenv(by, "1")
    with pytest.raises(DownloadError) as caught:
        hub.url(address, offline=by == "option")
    assert str(caught.value) == (
        f"offline, and {address} is not in the cache {tmp_path / 'own'}: load it once with the network (without "
        "offline=True and HF_HUB_OFFLINE)"
    )
    assert server.requests == []


@pytest.mark.parametrize("bad", ["file:///etc/passwd", "ftp://host/x", "/a/path", "", "https:///x"])
def test_other_addresses_are_refused(bad: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        hub.url(bad)
    assert str(caught.value) == f"url must be like 'https://host/file', got {bad!r}"


@pytest.mark.parametrize("bad", ["", "abc", "g" * 64, "A" * 64, "0" * 65])
def test_what_is_no_digest_is_refused(address: str, bad: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        hub.url(address, sha256=bad)
    assert str(caught.value) == f"sha256 must be 8 to 64 hex digits in lower case, got {bad!r}"


def test_eight_threads_that_want_one_file_fetch_it_once(server: LoopbackHub, address: str) -> None:
    server.fail("/plain/", slow=0.1)
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: hub.url(address), range(8)))
    assert [path.read_bytes() for path in paths] == [CONTENT]
    assert len(server.requests) == 1


def test_nobody_sees_half_a_file(server: LoopbackHub, address: str, tmp_path: Path) -> None:
    gate = threading.Event()
    server.fail("/plain/", hold=gate)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(hub.url, address)
        while not leftovers(tmp_path):
            pass
        with pytest.raises(DownloadError):
            hub.url(address, offline=True)
        gate.set()
        assert coming.result().read_bytes() == CONTENT


def full(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_reported(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000))
        with pytest.raises(
            DownloadError, match=r"needs 0\.0 MB and only 0\.0 MB are free in .*; free some space, or set"
        ):
            hub.url(address)
    with monkeypatch.context() as patch:
        patch.setattr("multimodal.core.hub.url._copy", full)
        with pytest.raises(DownloadError, match=r"could not be saved: the disk is full \(.*\); make room$"):
            hub.url(address)
    assert hub.url(address).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_to_is_reported(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file, where a folder should be")
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path / "taken"))
    with pytest.raises(
        DownloadError, match=r"is not writable \(.*\); set MULTIMODAL_CACHE to a folder you can"
    ):
        hub.url(address)


def test_progress_is_shown_on_a_terminal_unless_it_is_switched_off(
    server: LoopbackHub, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.url(address)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    show: Callable[[str], str] = lambda digest: hub.url(address, sha256=digest) and capsys.readouterr().err  # noqa: E731
    assert "ViT%20B.pt" in show(SHA256) and "5.1/5.1 kB" in show(SHA256[:20])
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    assert show(SHA256[:10]) == ""
