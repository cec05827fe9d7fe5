"""What goes wrong between here and a hub: one clear error each, and a cache that the next call can use."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from multimodal.core.errors import DownloadError, InvalidInput, UnknownModel
from multimodal.core.hub import api as hub
from tests.core.hub.loopback_hub import LoopbackHub, server

__all__ = ["server"]  # a fixture

REPO = "org/tiny"
WEIGHTS = bytes(range(256)) * 40
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
FILES = {"config.json": b'{"a": 1}', "model.safetensors": WEIGHTS}


@pytest.fixture(autouse=True)
def commit(server: LoopbackHub) -> str:
    return server.add(REPO, FILES)


def leftovers(cache: Path) -> list[str]:
    """Whatever a failure may have left: half files, notes, links to nowhere, records of files that do not exist."""
    result = []
    for path in cache.rglob("*"):
        odd = ".no_exist" in path.parts or path.suffix in (".incomplete", ".part", ".unchecked", ".tmp")
        if odd or (path.is_symlink() and not path.exists()):
            result.append(path.relative_to(cache).as_posix())
    return result


def refused(server: LoopbackHub, cache: Path, ask: Callable[[], object], kind: type[Exception]) -> str:
    """The text of the error; and once the server is well, the same call gives the right files."""
    with pytest.raises(kind) as caught:
        ask()
    assert caught.value.__cause__ is not None
    assert leftovers(cache) == []
    with pytest.raises(DownloadError):
        hub.file(REPO, "model.safetensors", offline=True)
    server.heal()
    for name, content in FILES.items():
        assert hub.file(REPO, name).read_bytes() == content
    folder = hub.snapshot(REPO, patterns=["*"])
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert leftovers(cache) == []
    return str(caught.value)


def one_file() -> Path:
    return hub.file(REPO, "model.safetensors")


def all_files() -> Path:
    return hub.snapshot(REPO, patterns=["*"])


def test_an_unknown_repository_revision_or_file_is_named(server: LoopbackHub, tmp_path: Path) -> None:
    cache, at = tmp_path / "hub", server.url
    for ask, expected in (
        (
            lambda: hub.file("org/tinny", "config.json"),
            f"no repository 'org/tinny' at {at} (HTTP 404); check the name",
        ),
        (
            lambda: hub.snapshot("org/tinny", patterns=["*"]),
            f"no repository 'org/tinny' at {at} (HTTP 404); check the name",
        ),
        (
            lambda: hub.listing(REPO, revision="v9"),
            f"org/tiny has no revision 'v9' at {at} (HTTP 404); give a branch, a tag or a whole commit hash",
        ),
        (
            lambda: hub.file(REPO, "config.json", revision="0" * 40),
            f"org/tiny has no revision '{'0' * 40}' at {at} (HTTP 404); give a branch, a tag or a whole commit hash",
        ),
        (
            lambda: hub.file(REPO, "config.jsn"),
            f"org/tiny (revision 'main', {at}) has no config.jsn (HTTP 404); check the name",
        ),
    ):
        assert refused(server, cache, ask, UnknownModel) == expected
        shutil.rmtree(cache)


def test_a_file_that_was_missing_and_is_there_now_is_found(server: LoopbackHub) -> None:
    with pytest.raises(UnknownModel):
        hub.file(REPO, "late.txt")
    server.add(REPO, FILES | {"late.txt": b"here"})
    assert hub.file(REPO, "late.txt").read_bytes() == b"here"


def test_patterns_that_match_nothing_show_what_there_is(server: LoopbackHub) -> None:
    with pytest.raises(UnknownModel) as caught:
        hub.snapshot(REPO, patterns=["*.bin", "*.pt"])
    assert str(caught.value) == (
        f"org/tiny (revision 'main', {server.url}) has no file that matches '*.bin', '*.pt'; it has config.json, "
        "model.safetensors"
    )


@pytest.mark.parametrize("repo", ["", "a b", "a/b/c", "-x", "a--b", "x.git", "../x"])
def test_what_cannot_be_a_repository_is_refused_without_a_request(server: LoopbackHub, repo: str) -> None:
    with pytest.raises(UnknownModel, match=r"is not the name of a repository, which is 'owner/name'"):
        hub.file(repo, "config.json")
    assert server.requests == []


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../../up", "a/../../b", "C:/x", "a\\b"])
def test_a_file_name_that_would_leave_its_folder_is_refused_without_a_request(
    server: LoopbackHub, name: str
) -> None:
    with pytest.raises(
        InvalidInput, match=r"^the name of a file in a repository must be like 'folder/file\.txt'"
    ):
        hub.file(REPO, name)
    assert server.requests == []


@pytest.mark.parametrize("revision", ["", "../x", "/x"])
def test_a_revision_that_would_leave_its_folder_is_refused_without_a_request(
    server: LoopbackHub, revision: str
) -> None:
    with pytest.raises(UnknownModel, match="is not a revision of org/tiny: give a branch, a tag or a commit"):
        hub.file(REPO, "config.json", revision=revision)
    assert server.requests == []


def test_a_hub_that_lists_a_file_outside_is_not_obeyed(server: LoopbackHub, tmp_path: Path) -> None:
    server.add("org/evil", {"../../../evil.txt": b"!"})
    with pytest.raises(InvalidInput, match=r"got '\.\./\.\./\.\./evil\.txt'"):
        hub.snapshot("org/evil", patterns=["*"])
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("ask", [one_file, all_files])
def test_a_gated_repository_says_whose_licence_to_accept(
    server: LoopbackHub, tmp_path: Path, ask: Callable[[], Path]
) -> None:
    server.gated.add(REPO)
    with pytest.raises(DownloadError) as caught:
        ask()
    assert str(caught.value) == (
        f"org/tiny is gated (HTTP 403): accept its licence at {server.url}/org/tiny, then set HF_TOKEN to a token of "
        "that account"
    )
    server.gated.clear()
    refused(server, tmp_path / "hub", lambda: hub.file(REPO, "no"), UnknownModel)


@pytest.mark.parametrize(("ask", "what"), [(one_file, "model.safetensors"), (all_files, "the list of files")])
def test_a_private_repository_says_what_the_token_is_for(
    server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Path], what: str
) -> None:
    server.private[REPO] = "hf_right"
    start = (
        f"{server.url} refused access to {what} of org/tiny (HTTP 401): it is private or does not exist; "
        "check the name, and "
    )
    with pytest.raises(DownloadError) as caught:
        ask()
    assert str(caught.value) == start + "set HF_TOKEN to a token with access to it"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(DownloadError) as caught:
        ask()
    assert str(caught.value) == (start + "use a token (HF_TOKEN, or 'hf auth login') with access to it")
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert ask().exists()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(("ask", "what"), [(one_file, "model.safetensors"), (all_files, "the list of files")])
def test_a_busy_hub_is_retried_and_then_reported(
    server: LoopbackHub, tmp_path: Path, status: int, ask: Callable[[], Path], what: str
) -> None:
    server.fail(REPO, status=status, times=3)
    assert ask().exists()  # at the fourth attempt
    assert len(server.requests) > 4
    shutil.rmtree(tmp_path / "hub")
    server.requests.clear()
    server.fail(REPO, status=status)
    text = refused(server, tmp_path / "hub", ask, DownloadError)
    assert text == (
        f"{server.url} cannot serve {what} of org/tiny now (HTTP {status}, after retries); try again later"
    )


def test_a_busy_host_of_large_files_is_retried_and_then_reported(server: LoopbackHub, tmp_path: Path) -> None:
    server.fail(SHA256, status=503, times=3)
    assert one_file().read_bytes() == WEIGHTS
    shutil.rmtree(tmp_path / "hub")
    server.fail(SHA256, status=503)
    assert "cannot serve model.safetensors of org/tiny now (HTTP 503, after retries)" in refused(
        server, tmp_path / "hub", all_files, DownloadError
    )


def test_why_a_request_of_huggingface_hubs_own_failed_is_reported(
    server: LoopbackHub, tmp_path: Path, commit: str
) -> None:
    server.fail(f"/resolve/{commit}/", method="HEAD", status=503)  # ours, for the branch, went well
    text = refused(server, tmp_path / "hub", one_file, DownloadError)
    assert "cannot serve model.safetensors of org/tiny now (HTTP 503, after retries)" in text


def test_it_gives_up_within_seconds(server: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(waited), sleep=waited.append)
    monkeypatch.setattr("multimodal.core.hub.errors.time", clock)
    monkeypatch.setattr("multimodal.core.hub.errors.RETRY_WAITS_S", (0.5, 1.0, 2.0))
    server.fail(REPO, status=503)
    with pytest.raises(DownloadError):
        one_file()
    assert waited == [0.5, 1.0, 2.0]
    assert len(server.requests) == 4
    monkeypatch.setattr("multimodal.core.hub.errors.RETRY_WAITS_S", (3.0, 6.0, 6.0))
    waited.clear()
    with pytest.raises(DownloadError):
        one_file()
    assert waited == [3.0]  # another 6 s would have been too long


def test_a_disabled_repository_is_reported_as_such(server: LoopbackHub, tmp_path: Path) -> None:
    server.fail(REPO, status=403, headers={"X-Error-Message": "Access to this resource is disabled."})
    text = refused(server, tmp_path / "hub", one_file, DownloadError)
    assert text == f"org/tiny was disabled by {server.url} (HTTP 403); choose another model"


def test_another_refusal_is_shown_as_it_came(server: LoopbackHub, tmp_path: Path) -> None:
    server.fail(REPO, status=451, headers={"X-Error-Message": "Taken down."})
    text = refused(server, tmp_path / "hub", one_file, DownloadError)
    assert text.startswith(f"{server.url} refused to serve model.safetensors of org/tiny (HTTP 451: ")
    assert text.endswith("; check the name and HF_ENDPOINT")


@pytest.mark.parametrize(("ask", "what"), [(one_file, "model.safetensors"), (all_files, "the list of files")])
def test_a_dead_endpoint_is_named(
    server: LoopbackHub, tmp_path: Path, ask: Callable[[], Path], what: str
) -> None:
    with server.down(), pytest.raises(DownloadError) as caught:
        ask()
    text = str(caught.value)
    assert text.startswith(
        f"{what} of org/tiny could not be fetched: {server.url} cannot be reached or closed the connection ("
    )
    assert text.endswith("); check the network and HF_ENDPOINT, or use the cache with offline=True")
    assert ask().exists()


def test_a_name_that_does_not_resolve_is_reported_as_unreachable(
    server: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setenv("HF_ENDPOINT", "http://no-such-host.invalid")
    with pytest.raises(DownloadError, match=r"http://no-such-host\.invalid cannot be reached"):
        one_file()


@pytest.mark.parametrize("path", [REPO, SHA256])
def test_an_endpoint_that_does_not_answer_in_time_is_named(
    server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    from huggingface_hub import constants

    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(constants, name, 0.05)
    monkeypatch.setattr("multimodal.core.hub.errors.RETRY_LIMIT_S", -1.0)
    server.fail(path, slow=0.2)
    with pytest.raises(DownloadError, match=r"cannot be reached or closed the connection \(.*timed out"):
        one_file()
    server.heal()
    for name in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        monkeypatch.setattr(constants, name, 5.0)
    assert one_file().read_bytes() == WEIGHTS
    assert leftovers(tmp_path / "hub") == []


def test_a_transfer_that_breaks_off_is_continued_where_it_stopped(
    server: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    server.fail(SHA256, cut=3500, times=2)
    assert one_file().read_bytes() == WEIGHTS
    assert [item.range for item in server.fetched(WEIGHTS)] == [None, "bytes=3000-", "bytes=6000-"]


@pytest.mark.parametrize("ask", [one_file, all_files])
def test_a_transfer_that_always_breaks_off_is_reported(
    server: LoopbackHub, tmp_path: Path, ask: Callable[[], Path]
) -> None:
    server.fail(SHA256, cut=0)
    text = refused(server, tmp_path / "hub", ask, DownloadError)
    assert text.startswith(
        f"model.safetensors of org/tiny could not be fetched: {server.url} cannot be reached or closed the connection ("
    )


@pytest.mark.parametrize("ask", [one_file, all_files])
def test_content_of_the_wrong_digest_is_not_kept(
    server: LoopbackHub, tmp_path: Path, ask: Callable[[], Path]
) -> None:
    server.fail(SHA256, content=WEIGHTS[:-1] + b"!")
    with pytest.raises(DownloadError) as caught:
        ask()
    assert str(caught.value) == (
        f"model.safetensors of org/tiny does not have the digest that {server.url} announced, and was deleted; "
        "try again, and if it persists, report it to the operator of the hub"
    )
    assert SHA256 not in {path.name for path in (tmp_path / "hub").rglob("*")}
    with pytest.raises(DownloadError, match=r"^offline, .* does not contain model\.safetensors"):
        hub.file(REPO, "model.safetensors", offline=True)
    server.heal()
    assert ask().exists()
    assert one_file().read_bytes() == WEIGHTS
    assert leftovers(tmp_path / "hub") == []


def test_a_small_file_of_the_wrong_digest_is_not_kept_either(server: LoopbackHub) -> None:
    server.fail("config.json", method="GET", content=b'{"a": 2}')
    with pytest.raises(
        DownloadError, match=r"^config\.json of org/tiny does not have the digest that .* announced"
    ):
        hub.file(REPO, "config.json")
    server.heal()
    assert hub.file(REPO, "config.json").read_bytes() == FILES["config.json"]


@pytest.mark.parametrize(
    "etag", [hashlib.sha1(FILES["config.json"]).hexdigest(), "5d41402abc4b2a76b9719d911017c592", "1f-64a"]
)
def test_a_mirror_with_etags_of_its_own_is_served_from(server: LoopbackHub, etag: str) -> None:
    commit = server.branches[REPO]["main"]
    server.fail(
        "config.json", status=200, headers={"ETag": f'"{etag}"', "X-Repo-Commit": commit}, body=b'{"a": 1}'
    )
    assert hub.file(REPO, "config.json").read_bytes() == b'{"a": 1}'


@pytest.mark.parametrize("content", [WEIGHTS[:-100], WEIGHTS + b"more", b""])
def test_content_of_the_wrong_size_is_not_kept(server: LoopbackHub, tmp_path: Path, content: bytes) -> None:
    server.fail(SHA256, content=content)
    text = refused(server, tmp_path / "hub", one_file, DownloadError)
    assert text.startswith(
        f"model.safetensors of org/tiny could not be fetched from {server.url} (Consistency check"
    )


def test_a_server_that_is_no_hub_is_reported_as_such(server: LoopbackHub, tmp_path: Path) -> None:
    page = {"status": 200, "headers": {"Content-Type": "text/html"}, "body": b"<html>Please log in</html>"}
    server.fail("/", **page)
    for ask, what in ((one_file, "model.safetensors"), (all_files, "the list of files")):
        with pytest.raises(DownloadError, match=f"{what}.*org/tiny") as caught:
            ask()
        assert "HF_ENDPOINT" in str(caught.value)
    server.heal()
    server.fail("/api/", status=200, body=b"[1, 2]")
    with pytest.raises(DownloadError, match="check that HF_ENDPOINT is a model hub"):
        all_files()
    server.heal()
    server.fail("/", without=("X-Repo-Commit",))
    with pytest.raises(DownloadError, match=r"sent no commit or no ETag for model\.safetensors of org/tiny"):
        one_file()
    server.heal()
    assert all_files().exists()
    assert leftovers(tmp_path / "hub") == []


def test_a_full_disk_is_reported_before_anything_is_fetched(
    server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=5_000))
    with pytest.raises(DownloadError) as caught:
        hub.file(REPO, "model.safetensors")
    assert str(caught.value) == (
        f"model.safetensors of org/tiny needs 0.0 MB and only 0.0 MB are free in {tmp_path / 'hub'}; free some "
        "space, or set HF_HOME (MULTIMODAL_CACHE for plain URLs) to a folder on a larger disk"
    )
    assert server.fetched(WEIGHTS) == []


def test_a_disk_that_fills_up_on_the_way_is_reported(
    server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import file_download

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(file_download, "http_get", full)
        with pytest.raises(DownloadError) as caught:
            one_file()
    assert str(caught.value) == (
        "model.safetensors of org/tiny could not be saved: the disk is full ([Errno 28] No space left on device); make "
        "room"
    )
    assert leftovers(tmp_path / "hub") == []
    assert one_file().read_bytes() == WEIGHTS


def test_a_cache_that_cannot_be_written_to_is_reported(
    server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file, where a folder should be")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "taken"))
    for ask in (one_file, all_files):
        with pytest.raises(
            DownloadError, match=r"could not be saved: the cache is not writable \(.*\); set HF_HOME"
        ):
            ask()


def test_a_read_only_cache_that_holds_the_files_is_enough(
    server: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = all_files()

    def forbid(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("mkdir", "write_text", "touch", "unlink"):
        monkeypatch.setattr(Path, name, forbid)
    assert all_files() == folder
    assert one_file() == folder / "model.safetensors"
    assert hub.file(REPO, "config.json", offline=True) == folder / "config.json"
