"""An index on an object store behaves as one in a folder: against a local server of the protocol of Amazon S3."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import anyio
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from mcp.client import Client

from multimodal.core.errors import IndexBusy, IndexStateError, InvalidInput, MediaNotFound, StorageError
from multimodal.core.remote import files, s3_etags
from multimodal.core.remote.errors import explain
from multimodal.core.remote.path import RemotePath
from multimodal.core.space import Space
from multimodal.index import Index, SearchConfig
from multimodal.index.html import media_html
from multimodal.index.storage.lock import writing
from multimodal.index.storage.remote import cache, lock
from multimodal.server.mcp.stdio import mcp_server
from tests.cli.conftest import Cli, cli
from tests.index import remote_store

__all__ = ["cli"]  # a fixture

Write = Callable[..., Path]
ROOT = Path(__file__).resolve().parent.parent.parent
TEXTS = ["a b", "a a b", "b b c", "c c c", "a c"]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The URL of a server, with a bucket `bucket`."""
    with remote_store.served() as url:
        remote_store.request("PUT", f"{url}/bucket")
        yield url


@pytest.fixture
def remote(
    store: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest
) -> str:
    """The address of an index of this test, with credentials in the environment."""
    for name, value in remote_store.VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", store)
    monkeypatch.setenv("MULTIMODAL_INDEX_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return f"s3://bucket/{request.node.name.replace('[', '-').replace(']', '')}/index.lance"


def contents(index: Index) -> list[tuple[str, bytes]]:
    return sorted((row["id"], row["vector"].tobytes()) for row in index.rows(vectors=True))


def test_an_index_on_a_store_finds_what_a_local_one_finds(
    remote: str, space: Space, tmp_path: Path, image: Write
) -> None:
    image(tmp_path / "files" / "red.png")
    (tmp_path / "files" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    local, index = Index.create(tmp_path / "local.lance", space), Index.create(remote, space)
    for either in (local, index):
        report = either.add(tmp_path / "files")
        either.add(TEXTS, ids=list("vwxyz"))
        assert (report.added, len(report.failed), len(either.failures())) == (1, 1, 1)
    assert contents(index) == contents(local)
    opened = Index.open(remote, space)
    assert opened.search("a b", k=4) == local.search("a b", k=4)
    assert opened.search("a b", k=4).method == local.search("a b", k=4).method
    for either in (local, index):
        image(tmp_path / "files" / "broken.png", (0, 0, 255))
        either.sync(tmp_path / "files")
        either.delete("v")
        either.update("w", {"album": "rome"})
        either.optimize()
        (tmp_path / "files" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    assert not index.failures() and contents(index) == contents(local)
    assert [hit.id for hit in opened.search("a a b", where={"album": "rome"})] == [
        "w"
    ]  # sees what another wrote
    assert not list(tmp_path.glob("s3:*")) and not (tmp_path / "cache" / "s3:").exists()


def test_an_index_on_a_store_is_created_once(remote: str, space: Space) -> None:
    index = Index.create(remote, space)
    with pytest.raises(IndexStateError, match="there is an index at"):
        Index.create(remote, space)
    assert Index.create(remote, space, exist_ok=True).path == index.path == RemotePath(remote)
    assert Index.exists(remote) and not Index.exists(f"{remote}-other")
    with pytest.raises(IndexStateError, match="the path holds no index"):
        Index.open(f"{remote}-other", space)
    with pytest.raises(IndexStateError, match=r"there is 'index\.lance' already"):
        Index.create(remote.rpartition("/")[0], space)


def test_a_second_writer_is_refused_while_the_first_works(remote: str, space: Space) -> None:
    index = Index.create(remote, space)
    path = index.path
    assert isinstance(path, RemotePath)
    other = lock._try_acquire(path)  # as another process does
    assert other is not None
    other.start()
    with pytest.raises(IndexBusy, match=rf"process {os.getpid()} on .*its lock ends 60 s after"):
        Index.open(remote, space).add(["a"], wait=0)
    assert index.search("a") == []  # readers never wait
    other.end()
    assert Index.open(remote, space).add(["a"], wait=0).added == 1
    with writing(path), pytest.raises(IndexStateError, match="by this very thread"):
        index.add(["b"])


def test_the_lock_of_a_killed_writer_ends_by_its_lease_and_not_by_a_clock_here(
    remote: str, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.create(remote, space)
    path = index.path
    assert isinstance(path, RemotePath)
    dead = lock._try_acquire(path)  # never renewed, as if its process was killed
    assert dead is not None
    monkeypatch.setattr(time, "time", lambda: 0.0)  # a clock that is wrong
    assert lock._try_acquire(path) is None
    monkeypatch.setattr(lock, "CLOCK_STEP_S", 1.0 - lock.LEASE_S)  # a second in the place of a minute
    with writing(path, 120):
        assert lock.holder(path)["pid"] == os.getpid()
    dead._renewed_at -= lock.LEASE_S
    monkeypatch.setitem(lock._leases, path.url, dead)
    with pytest.raises(IndexStateError, match=r"the lock of the index at .* was lost"):
        index._table.delete(["a"])


def test_of_writers_that_take_one_turn_one_gets_it(remote: str) -> None:
    path = RemotePath(remote)
    for _ in range(3):
        with ThreadPoolExecutor(6) as pool:
            leases = [lease for lease in pool.map(lock._try_acquire, [path] * 6) if lease is not None]
        assert len(leases) == 1
        leases[0].start()
        leases[0].end()


KILLED = """
import sys, time
from multimodal.index import Index
from multimodal.index.ingest import commit
from tests import plugins
written = commit.write
def write(table, documents):
    result = written(table, documents)
    print(table.count(), flush=True)
    time.sleep(600 if table.count() >= 4 else 0)
    return result
commit.write = write
from multimodal.index import IngestConfig
with plugins.family("plain") as plain:
    Index.create(sys.argv[1], plain.load()).add([f"{n} 1 0 0" for n in range(12)], config=IngestConfig(commit_rows=2))
"""


def test_a_killed_job_resumes_and_loses_and_doubles_nothing(
    remote: str, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, remote]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            next(line for line in process.stdout if int(line) >= 4)
        finally:
            process.send_signal(signal.SIGKILL)
    index = Index.open(remote, space)
    assert 4 <= len(index) < 12
    with pytest.raises(IndexBusy, match=f"process {process.pid} on"):
        index.add(["a"], wait=0)
    monkeypatch.setattr(lock, "CLOCK_STEP_S", -lock.LEASE_S)  # as if the lease was over
    report = index.add([f"{n} 1 0 0" for n in range(12)])
    assert report.added + report.unchanged == 12 and report.unchanged >= 4
    assert len({row["id"] for row in index.rows()}) == len(index) == 12


def test_segments_lie_in_a_local_cache_that_two_processes_share(
    remote: str, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SearchConfig(max_memory_rows=8)
    index = Index.create(remote, space, search_config=config)
    index.add([f"{n} 1 0 0" for n in range(40)])
    (folder,) = (tmp_path / "cache").iterdir()
    assert (folder / "search" / "state.json").is_file()
    expected = index.search("3 1 0 0", k=3, exact=True)
    assert Index.open(remote, space, search_config=config).search("3 1 0 0", k=3, exact=True) == expected
    assert not any("search" in str(file.path) for file in files.list_files(RemotePath(remote)))
    monkeypatch.setenv("MULTIMODAL_INDEX_CACHE_GB", "0")
    Index.create(f"{remote}-2", space)  # removes what was used before
    assert not folder.exists()
    assert index.search("3 1 0 0", k=3, exact=True) == expected
    monkeypatch.setenv("MULTIMODAL_INDEX_CACHE_GB", "much")
    with pytest.raises(InvalidInput, match="MULTIMODAL_INDEX_CACHE_GB must be a number of gigabytes"):
        cache.max_bytes()


def test_credentials_are_written_nowhere(
    remote: str, store: str, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*remote_store.VARIABLES, "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    secret = "s3cr3t-option"
    options = {
        "aws_access_key_id": "k",
        "aws_secret_access_key": secret,
        "aws_endpoint": store,
        "aws_region": "us-east-1",
    }
    index = Index.create(remote, space, storage_options=options)
    index.add(["a", b"broken"])
    written = [files.read(file.path) for file in files.list_files(index.path)]  # type: ignore[arg-type]
    written += [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    shown = [repr(index), repr(index.path), str(index.path)]
    assert written and not any(secret.encode() in content for content in written)
    assert not any(secret in text for text in shown) and secret.encode() not in pickle.dumps(index.path)
    restored = pickle.loads(pickle.dumps(index.path))
    assert restored == index.path and "aws_secret_access_key" not in restored.storage_options
    with pytest.raises(InvalidInput, match="storage_options are for an index on an object store"):
        Index.open(tmp_path / "x", storage_options=options)
    with pytest.raises(InvalidInput, match="got int for 'aws_region'"):
        Index.open(remote, storage_options={"aws_region": 1})  # type: ignore[dict-item]


def test_the_other_commands_run_on_an_index_on_a_store(
    remote: str, space: Space, cli: Cli, tmp_path: Path
) -> None:
    texts = [f"{n} {12 - n} 1 0" for n in range(12)]  # fewer are too few to calibrate
    Index.create(remote, space).add(texts, ids=[f"text {n}" for n in range(12)])
    labels = tmp_path / "labels.csv"
    pairs = [f"{text},text {n},1\n" for n, text in enumerate(texts)]
    labels.write_text("query,id,relevant\n" + "".join(pairs))
    assert cli("calibrate", remote, labels, "--json").json()["n_relevant"] == 12
    assert cli("calibrate", remote, "--reset", "--json").json()["removed"]
    assert cli("ask", remote, "apples between clouds", "--json").code in (0, 4)
    assert cli("map", remote, "-o", "map.html", "--method", "pca", "--json").json()["n_items"] == 12
    assert cli("export-index", remote, "rows.jsonl", "--json").json()["items"] == 12
    assert cli("optimize", remote, "--json").json()["items"] == 12
    assert cli("reindex", remote, "--space", "plain/2", "--json").json()["added"] == 12
    assert len(Index.open(remote.replace("index.lance", "index-plain-2.lance"))) == 12
    assert anyio.run(described, remote)["items_by_modality"] == {"text": 12}
    assert not list(tmp_path.glob("s3:*"))


async def described(path: str) -> dict[str, Any]:
    """What `describe_index` of `multimodal mcp` answers."""
    async with Client(mcp_server([path])) as client:
        return dict((await client.call_tool("describe_index", {})).structured_content)


@pytest.mark.parametrize(
    "address",
    ["http://host/x.lance", "ftp://h/x", "s4://b/x", "s3://", "s3://b//x", "s3://b/../x", "s3:/bucket/x"],
)
def test_other_addresses_are_refused_and_make_no_local_folder(
    remote: str, space: Space, address: str
) -> None:
    for call in (Index.exists, lambda path: Index.create(path, space), Index.open):
        with pytest.raises(InvalidInput, match=r"got the URL|is not an address"):
            call(address)
    with pytest.raises(InvalidInput, match=r"got the URL 's3:/bucket/x'; write .*: 's3://bucket/x'$"):
        Index.create(Path("s3://bucket/x"), space)
    assert not any(":" in path.name for path in Path.cwd().rglob("*"))


def test_a_missing_bucket_and_a_lost_network_are_said_in_one_sentence(
    remote: str, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        StorageError, match=r"^the bucket 'none' does not exist; create it first, or check its name$"
    ):
        Index.create("s3://none/x", space)
    monkeypatch.setattr(files, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"^http://127\.0\.0\.1:9 cannot be reached; check the network"):
        Index.open(remote, space)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "AWS Error ACCESS_DENIED during HeadObject operation",
            "no access to the bucket 'b'; set AWS_ACCESS_KEY_ID",
        ),
        ("inner: Status { status: 403, body: None }", "no access to the bucket"),
        ("AWS Error INVALID_ACCESS_KEY_ID during ListObjectsV2", "no access to the bucket"),
        ("http://169.254.169.254/latest: error sending request", "no access to the bucket"),
        (
            "AWS Error UNKNOWN (HTTP status 301). Looks like the configured region is 'us-east-1' while the bucket is "
            "located in 'eu-west-1'.",
            "the bucket 'b' is in eu-west-1, not in the region that is set; set AWS_REGION=eu-west-1",
        ),
        ("<Code>PermanentRedirect</Code>", "is in another region than the one set; set AWS_REGION"),
        ("curlCode: 6, Could not resolve hostname", "Amazon S3 cannot be reached"),
    ],
)
def test_errors_of_clients_are_told_apart(message: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert said in str(explain(RemotePath("s3://b/x"), OSError(message)))
    assert explain(RemotePath("s3://b/x"), OSError("the table is damaged")) is None


def test_files_on_a_store_are_indexed_synchronised_and_shown(
    remote: str, space: Space, tmp_path: Path, image: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path / "own"))
    folder = RemotePath(f"{remote.rpartition('/')[0]}/files")
    red, note = folder / "a" / "red.png", folder / "note.txt"
    content = image(tmp_path / "red.png").read_bytes()
    for path, data in (
        (red, content),
        (note, b"a b"),
        (folder / ".hidden.png", content),
        (folder / "bad.png", b"?"),
    ):
        files.write(path, data)
    index = Index.create(tmp_path / "index.lance", space)
    report = index.add(folder.url)
    assert (report.added, [failure.uri for failure in report.failed]) == (2, [f"{folder}/bad.png"])
    assert sorted(str(row["uri"]) for row in index.rows()) == [str(red), str(note)]
    assert index.add(folder.url).unchanged == 2 and index.add(folder.url, exclude="*.txt").unchanged == 1
    (hit,) = index.search("1 0 0 0", modality="image")
    assert "<img" in media_html(hit) and len(list((tmp_path / "own" / "media").iterdir())) == 1
    table = tmp_path / "table.csv"
    table.write_text(f"path,year\n{red},2024\n")
    index.add(table)
    assert index.search("a", where={"year": 2024})[0].uri == str(red)
    files.write(folder / "bad.png", content)
    assert index.retry_failed().added == 1 and not index.failures()
    files.delete(note)
    assert index.sync(folder.url).to_dict()["deleted"] == 1 and len(index) == 2
    with pytest.raises(MediaNotFound, match="no such folder or file"):
        index.add(f"{folder}-other")


def test_without_entity_tags_an_object_is_read_again_if_it_was_written_since_or_lately(
    remote: str, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_etags, "is_usable", lambda path: False)
    folder = RemotePath(f"{remote.rpartition('/')[0]}/texts")
    index, reads = Index.create(tmp_path / "index.lance", space), []
    read = files.read
    monkeypatch.setattr(files, "read", lambda path: reads.append(path.name) or read(path))
    for name in ("a.txt", "b.txt"):
        files.write(folder / name, b"1 2 3 4")
    assert index.add(folder.url).added == 2
    # Of the same size, and in the second of the first write, or the next: the time of the store may not tell.
    files.write(folder / "a.txt", b"4 3 2 1")
    report = index.sync(folder.url)
    assert (report.updated, report.unchanged) == (1, 1)
    assert index.search("4 3 2 1", k=1)[0].uri == f"{folder}/a.txt"
    monkeypatch.setattr(files, "SETTLED_NS", 0)  # as if the writes were older
    index.add(folder.url)  # stores the times of the store
    reads.clear()
    assert index.add(folder.url).unchanged == 2 and index.sync(folder.url).unchanged == 2 and not reads


def test_files_of_a_hub_are_indexed_and_synchronised_by_their_hash(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hub(MemoryFileSystem):  # type: ignore[misc]
        protocol = "hf"
        store: ClassVar[dict[str, Any]] = {}
        pseudo_dirs: ClassVar[list[str]] = [""]

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return path.removeprefix("hf://").rstrip("/")

        def _hashed(self, info: dict[str, Any]) -> dict[str, Any]:
            is_file = info["type"] == "file"
            return (
                info | {"blob_id": hashlib.sha1(self.store[info["name"]].getvalue()).hexdigest()}
                if is_file
                else info
            )

        def info(self, path: str, **_: Any) -> dict[str, Any]:
            return self._hashed(super().info(path))

        def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
            return [self._hashed(info) for info in super().ls(path, detail=True)]

    monkeypatch.setitem(_registry, "hf", Hub)
    hub, url = fsspec.filesystem("hf"), "hf://datasets/user/name/texts"
    for name in ("a", "b"):
        hub.pipe(f"{url}/{name}.txt", b"1 2 3 4")
    index = Index.create(tmp_path / "index.lance", space)
    assert index.add(url).added == 2 and index.add(url).unchanged == 2
    hub.pipe(f"{url}/a.txt", b"4 3 2 1")
    hub.rm(f"{url}/b.txt")
    report = index.sync(url)
    assert (report.updated, report.deleted, len(index)) == (1, 1, 1)
    assert index.search("4 3 2 1", k=1)[0].uri == f"{url}/a.txt"
    assert index.add(f"{url}/a.txt").unchanged == 1
    with pytest.raises(MediaNotFound, match="no such folder or file"):
        index.add(f"{url}-other")
    with pytest.raises(InvalidInput, match="an index is kept in a local folder, or on an object store"):
        Index.create(url, space)
