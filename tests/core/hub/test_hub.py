"""Files of a hub come once, then from the cache; offline means no network at all. The server's log is the judge."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub.utils import enable_progress_bars

from multimodal.core.errors import DownloadError, InvalidInput, MissingExtra, UnknownModel
from multimodal.core.hub import api as hub
from tests.core.hub.loopback_hub import LoopbackHub, Request, server

__all__ = ["server"]  # a fixture

REPO = "org/tiny"
WEIGHTS = bytes(range(256)) * 40
FILES = {"config.json": b'{"a": 1}', "model.safetensors": WEIGHTS, "text/vocab.txt": b"a\nb\n"}
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def commit(server: LoopbackHub) -> str:
    return server.add(REPO, FILES)


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a socket was asked for: {args}")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)


def test_the_first_load_fetches_and_the_second_does_not(server: LoopbackHub, commit: str) -> None:
    path = hub.file(REPO, "model.safetensors")
    assert path.read_bytes() == WEIGHTS
    assert len(server.fetched(WEIGHTS)) == 1
    server.requests.clear()
    assert hub.file(REPO, "model.safetensors") == path
    assert server.requests == [Request("HEAD", f"/{REPO}/resolve/main/model.safetensors")]


def test_a_pinned_file_in_the_cache_takes_no_request(server: LoopbackHub, commit: str) -> None:
    path = hub.file(REPO, "config.json", revision=commit)
    server.requests.clear()
    assert hub.file(REPO, "config.json", revision=commit) == path
    assert path.read_bytes() == FILES["config.json"]
    assert server.requests == []


def test_it_is_huggingface_hubs_own_cache(server: LoopbackHub, commit: str, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    path = hub.file(REPO, "text/vocab.txt")
    hub.snapshot(REPO, patterns=["*"])
    cache = tmp_path / "hub"
    assert try_to_load_from_cache(REPO, "text/vocab.txt", cache_dir=cache) == str(path)
    scanned = scan_cache_dir(cache)
    assert scanned.warnings == []
    (repo,) = scanned.repos
    assert (repo.repo_id, repo.nb_files) == (REPO, len(FILES))
    (revision,) = repo.revisions
    assert (revision.commit_hash, revision.refs) == (commit, {"main"})


def test_what_another_library_fetched_is_used(server: LoopbackHub, commit: str, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(REPO, cache_dir=tmp_path / "hub", endpoint=server.url)
    server.requests.clear()
    assert hub.file(REPO, "config.json", revision=commit) == Path(folder) / "config.json"
    assert hub.snapshot(REPO, patterns=["*.json"], offline=True) == Path(folder)
    assert hub.snapshot(REPO, patterns=["config.json"], revision=commit) == Path(folder)
    assert hub.listing(REPO, offline=True) == sorted(FILES)
    assert server.requests == []


def test_what_another_library_fetched_in_part_is_completed(
    server: LoopbackHub, commit: str, tmp_path: Path
) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download(REPO, "config.json", revision=commit, cache_dir=tmp_path / "hub", endpoint=server.url)
    server.requests.clear()
    folder = hub.snapshot(REPO, patterns=["config.json", "text/vocab.txt"], revision=commit)
    assert (folder / "text" / "vocab.txt").read_bytes() == FILES["text/vocab.txt"]
    assert not server.seen("GET", "config.json")
    folder = hub.snapshot(REPO, patterns=["config.json", "*.safetensors"], revision=commit)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_snapshot_holds_the_files_that_match_and_no_others(server: LoopbackHub, commit: str) -> None:
    folder = hub.snapshot(REPO, patterns=["*.json", "text/"], ignore=["nothing*"])
    assert folder.name == commit
    results = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert results == {"config.json", "text/vocab.txt"}
    assert server.fetched(WEIGHTS) == []
    assert hub.snapshot(REPO, patterns=["*"], ignore=["*/*", "*.json"]) == folder
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_snapshot_fetched_before_takes_one_request_for_a_branch_and_none_for_a_commit(
    server: LoopbackHub, commit: str
) -> None:
    folder = hub.snapshot(REPO, patterns=["*"])
    server.requests.clear()
    assert hub.snapshot(REPO, patterns=["*"]) == folder
    assert server.requests == [Request("GET", f"/api/models/{REPO}/revision/main")]
    server.requests.clear()
    assert hub.snapshot(REPO, patterns=["*"], revision=commit) == folder
    assert hub.listing(REPO, revision=commit) == sorted(FILES)
    assert server.requests == []


def test_a_branch_that_moved_gives_the_new_files_and_a_commit_the_old(
    server: LoopbackHub, commit: str
) -> None:
    old = hub.file(REPO, "config.json")
    server.add(REPO, FILES | {"config.json": b'{"a": 2}'})
    assert hub.file(REPO, "config.json").read_bytes() == b'{"a": 2}'
    assert hub.file(REPO, "config.json", offline=True).read_bytes() == b'{"a": 2}'
    assert hub.file(REPO, "config.json", revision=commit) == old
    assert old.read_bytes() == FILES["config.json"]


def test_an_update_that_fails_leaves_the_old_files_for_offline(server: LoopbackHub, commit: str) -> None:
    hub.snapshot(REPO, patterns=["*"])
    server.add(REPO, FILES | {"config.json": b'{"a": 2}', "model.safetensors": WEIGHTS[::-1]})
    server.fail("model.safetensors", status=403)
    with pytest.raises(DownloadError):
        hub.snapshot(REPO, patterns=["*"])
    folder = hub.snapshot(REPO, patterns=["*"], offline=True)
    assert (folder / "config.json").read_bytes() == FILES["config.json"]


def test_a_tag_and_a_branch_with_a_slash_are_revisions(server: LoopbackHub, commit: str) -> None:
    server.add(REPO, FILES | {"config.json": b"{}"}, branch="refs/pr/1")
    assert hub.file(REPO, "config.json", revision="refs/pr/1").read_bytes() == b"{}"
    assert hub.file(REPO, "config.json", revision="refs/pr/1", offline=True).read_bytes() == b"{}"
    assert hub.file(REPO, "config.json").read_bytes() == FILES["config.json"]


def test_the_listing_names_every_file(server: LoopbackHub, commit: str) -> None:
    assert hub.listing(REPO) == ["config.json", "model.safetensors", "text/vocab.txt"]


@pytest.mark.parametrize("by", ["option", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_takes_no_socket(
    server: LoopbackHub, commit: str, by: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub.snapshot(REPO, patterns=["*.json", "*.safetensors"])
    request.getfixturevalue("no_sockets")
    server.requests.clear()
    if by != "option":
        monkeypatch.setenv(by, "1")
    offline = by == "option"
    assert hub.file(REPO, "config.json", offline=offline) == folder / "config.json"
    assert hub.file(REPO, "config.json", revision=commit, offline=offline) == folder / "config.json"
    assert hub.snapshot(REPO, patterns=["*.json"], offline=offline) == folder
    assert hub.listing(REPO, offline=offline) == ["config.json", "model.safetensors"]
    with pytest.raises(DownloadError):
        hub.file(REPO, "text/vocab.txt", offline=offline)
    with pytest.raises(DownloadError):
        hub.file("org/other", "config.json", offline=offline)
    assert server.requests == []


def test_offline_and_not_in_the_cache_says_which_files_are_missing(
    server: LoopbackHub, commit: str, tmp_path: Path
) -> None:
    hub.listing(REPO)
    hub.file(REPO, "config.json")
    cure = "load it once online (without offline=True and HF_HUB_OFFLINE), or copy that folder from another machine"
    for what, ask in {
        "model.safetensors, text/vocab.txt": lambda: hub.snapshot(REPO, patterns=["*"], offline=True),
        "text/vocab.txt": lambda: hub.file(REPO, "text/vocab.txt", offline=True),
    }.items():
        with pytest.raises(DownloadError) as caught:
            ask()
        assert str(caught.value) == (
            f"offline, and the cache {tmp_path / 'hub'} does not contain {what} of {REPO} (revision 'main'): {cure}"
        )
    with pytest.raises(DownloadError, match=r"does not contain any file of org/other \(revision 'v2'\)"):
        hub.listing("org/other", revision="v2", offline=True)
    with pytest.raises(DownloadError, match=r"does not contain \*\.json, \*\.bin of org/other"):
        hub.snapshot("org/other", patterns=["*.json", "*.bin"], offline=True)


def test_is_offline_reads_the_option_and_the_environment(
    server: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.is_offline(True)
    assert not hub.is_offline(False)
    for value, expected in (("1", True), ("yes", True), ("0", False), ("", False)):
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        assert hub.is_offline(False) is expected
    from huggingface_hub import constants

    monkeypatch.setattr(
        constants, "HF_HUB_OFFLINE", True
    )  # read when it was imported: it refuses from then on
    assert hub.is_offline(False)


def test_without_a_network_the_branch_is_used_as_last_seen_with_a_warning(
    server: LoopbackHub, commit: str
) -> None:
    folder = hub.snapshot(REPO, patterns=["*"])
    expected = r"^using the cached org/tiny, because its revision 'main' could not be looked up: .* reached"
    with server.down():
        for ask, results in (
            (lambda: hub.file(REPO, "config.json"), folder / "config.json"),
            (lambda: hub.snapshot(REPO, patterns=["*.json"]), folder),
            (lambda: hub.listing(REPO), sorted(FILES)),
        ):
            with pytest.warns(UserWarning, match=expected):
                assert ask() == results
        with warnings.catch_warnings(action="error"):
            assert hub.file(REPO, "config.json", revision=commit) == folder / "config.json"
            assert hub.file(REPO, "config.json", offline=True) == folder / "config.json"


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_hub_that_refuses_gets_the_cached_copy_used_with_a_warning(
    server: LoopbackHub, commit: str, status: int
) -> None:
    path = hub.file(REPO, "config.json")
    server.fail(REPO, status=status)
    server.requests.clear()
    with pytest.warns(UserWarning, match=f"HTTP {status}"):
        assert hub.file(REPO, "config.json") == path
    assert len(server.requests) == 1  # whoever has a copy does not wait for another answer


def test_a_cached_copy_does_not_stand_in_for_a_file_or_revision_that_was_removed(
    server: LoopbackHub, commit: str
) -> None:
    hub.snapshot(REPO, patterns=["*"])
    server.add(REPO, {"model.safetensors": WEIGHTS})
    with pytest.raises(UnknownModel, match=r"has no config\.json"):
        hub.file(REPO, "config.json")
    server.branches[REPO].clear()
    with pytest.raises(UnknownModel, match="has no revision 'main'"):
        hub.snapshot(REPO, patterns=["*"])


def test_the_endpoint_is_read_at_each_call_and_a_slash_at_its_end_does_no_harm(
    server: LoopbackHub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
    assert hub.file(REPO, "config.json").read_bytes() == FILES["config.json"]
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    with pytest.raises(
        InvalidInput, match=r"^HF_ENDPOINT must be the URL of a hub, 'https://…', got 'hub\.example'$"
    ):
        hub.file(REPO, "config.json")


def test_the_token_goes_to_the_hub_and_not_to_the_host_of_large_files(
    server: LoopbackHub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.private[REPO] = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert (hub.snapshot(REPO, patterns=["*"]) / "model.safetensors").read_bytes() == WEIGHTS
    at_store = server.fetched(WEIGHTS)
    assert at_store and all(item.token is None for item in at_store)
    others = [request for request in server.requests if request not in at_store]
    assert others and all(other.token == "Bearer hf_secret" for other in others)


def test_a_mirror_that_offers_xet_is_read_the_plain_way(server: LoopbackHub, commit: str) -> None:
    from huggingface_hub import constants

    server.xet = True
    assert hub.file(REPO, "model.safetensors").read_bytes() == WEIGHTS
    assert len(server.fetched(WEIGHTS)) == 1
    assert not server.seen(path="xet-read-token")
    assert constants.HF_HUB_DISABLE_XET is False


@pytest.mark.parametrize("works", [True, False])
def test_the_public_hub_is_read_by_xet_and_the_plain_way_where_that_fails(
    server: LoopbackHub, commit: str, monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    from huggingface_hub import constants, file_download

    def by_xet(*, incomplete_path: Path, **other: object) -> None:
        if not works:
            raise RuntimeError("Task error: CAS Client Error")
        incomplete_path.write_bytes(WEIGHTS)

    server.xet = True
    monkeypatch.setattr("multimodal.core.hub.fetch.PUBLIC_HUB", server.url)
    monkeypatch.setattr(file_download, "xet_get", by_xet)
    monkeypatch.setattr(file_download, "is_xet_available", lambda: not constants.HF_HUB_DISABLE_XET)
    assert hub.file(REPO, "model.safetensors").read_bytes() == WEIGHTS
    assert len(server.fetched(WEIGHTS)) == (0 if works else 1)
    assert constants.HF_HUB_DISABLE_XET is False


def test_eight_threads_that_want_one_file_fetch_it_once(server: LoopbackHub, commit: str) -> None:
    hub.listing(REPO)  # huggingface_hub 1.x makes a client for each thread that is the first
    server.fail(server.address_of(WEIGHTS), slow=0.2)
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: hub.file(REPO, "model.safetensors"), range(8)))
    assert {path.read_bytes() for path in paths} == {WEIGHTS}
    assert len(server.fetched(WEIGHTS)) == 1


def child(code: str) -> subprocess.Popen[str]:
    """Another process that loads from the same server into the same cache."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_OFFLINE")}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"from multimodal.core.hub import api as hub\n{code}"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_two_processes_that_want_one_file_fetch_it_once(server: LoopbackHub, commit: str) -> None:
    gate = threading.Event()
    server.fail(server.address_of(WEIGHTS), hold=gate)
    code = f"print(hub.file({REPO!r}, 'model.safetensors'))"
    first, second = child(code), child(code)
    wait_for(lambda: bool(server.fetched(WEIGHTS)) and len(server.seen("HEAD", "/main/")) == 2)
    gate.set()
    outcomes = [process.communicate(timeout=30) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], outcomes
    paths = {Path(out.strip()) for out, _ in outcomes}
    assert {path.read_bytes() for path in paths} == {WEIGHTS}
    assert len(server.fetched(WEIGHTS)) == 1


def test_a_process_killed_while_it_fetches_leaves_a_usable_cache(
    server: LoopbackHub, commit: str, tmp_path: Path
) -> None:
    gate = threading.Event()
    server.fail(server.address_of(WEIGHTS), hold=gate)
    process = child(f"hub.file({REPO!r}, 'model.safetensors')")
    wait_for(lambda: bool(server.fetched(WEIGHTS)))
    process.kill()
    process.communicate(timeout=30)
    gate.set()
    server.heal()
    with pytest.raises(DownloadError):
        hub.file(REPO, "model.safetensors", offline=True)
    assert hub.file(REPO, "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_left_unchecked_by_a_process_that_died_is_checked_by_the_next(
    server: LoopbackHub, commit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: object) -> None:
        raise KeyboardInterrupt

    server.fail(server.address_of(WEIGHTS), content=WEIGHTS[::-1], times=1)
    for name in ("model.safetensors", "config.json"):
        with monkeypatch.context() as patch:
            patch.setattr("multimodal.core.hub.fetch._verify", die)
            with pytest.raises(KeyboardInterrupt):
                hub.file(REPO, name, revision=commit)
    with pytest.raises(DownloadError, match=r"^offline"):
        hub.listing(REPO, revision=commit, offline=True)  # nothing unchecked counts as being there
    with pytest.raises(DownloadError, match=r"does not have the digest that .* announced"):
        hub.file(REPO, "model.safetensors", revision=commit, offline=True)
    config = hub.file(REPO, "config.json", revision=commit, offline=True)  # which was as announced
    assert config.read_bytes() == FILES["config.json"]
    assert hub.file(REPO, "model.safetensors", revision=commit).read_bytes() == WEIGHTS


def wait_for(condition: object, seconds: float = 20) -> None:
    import time

    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def test_progress_is_shown_on_a_terminal_and_nowhere_else(
    server: LoopbackHub, commit: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    enable_progress_bars()  # another test of this process may have switched them off
    hub.file(REPO, "model.safetensors")
    assert capsys.readouterr().err == ""
    other = server.add(REPO, FILES | {"model.safetensors": WEIGHTS * 2})
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    hub.file(REPO, "model.safetensors", revision=other)
    assert "model.safetensors: 100%" in capsys.readouterr().err


def test_without_huggingface_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra) as caught:
        hub.file(REPO, "config.json", extra="openclip")
    assert str(caught.value) == (
        "loading 'org/tiny' from a model hub needs huggingface_hub: pip install 'multimodal[openclip]'"
    )
