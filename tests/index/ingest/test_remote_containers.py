"""Tables and archives on an object store are read like those on a disk: the same ids, vectors, failures and counts."""

from __future__ import annotations

import contextlib
import io
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import fsspec
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("lance")  # the extra `ray`

from multimodal.core.errors import InvalidInput, MediaNotFound
from multimodal.core.remote import files, s3_etags
from multimodal.core.remote.fsspec_files import FsspecRanges
from multimodal.core.remote.opened import open_binary
from multimodal.core.remote.path import RemotePath
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.storage.failures import FailureLog
from tests.index.engines.test_driver import simulated
from tests.index.test_object_store import remote, store

__all__ = ["remote", "store"]  # fixtures

NAMES = ["rows.csv", "rows.tsv", "rows.jsonl", "rows.parquet", "rows.arrow", "samples.tar", "files.zip"]
TAR = {"1.png": b"", "1.txt": b"a red one", "2.png": b"\x89PNG\r\n\x1a\n broken", "3.txt": b"3 2 1 1"}


def write_csv(root: Path, *more: str) -> None:
    lines = ["path,year", "images/red.png,2024", "images/none.png,2025", '"images/red.png,2026', *more]
    (root / "rows.csv").write_text("".join(f"{line}\n" for line in lines))


def write_tar(root: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(root / "samples.tar", "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a container of each kind, some with a row or member that cannot be read."""
    root = tmp_path_factory.mktemp("containers") / "src"
    (root / "images").mkdir(parents=True)
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        PIL.Image.new("RGB", (8, 6), colour).save(root / "images" / f"{name}.png")
    red = (root / "images" / "red.png").read_bytes()
    write_csv(root, "images/blue.png,2027")
    (root / "rows.tsv").write_text("id\ttext\nx\t1 2 3 4\ny\t2 2 3 4\n")
    (root / "rows.jsonl").write_text('{"text": "4 3 2 1"}\n{broken\n{"text": "1 1 2 2", "year": 2020}\n')
    table = pa.table({"text": ["1 0 0 2", "2 0 0 1"], "year": [1, 2]})
    pq.write_table(table, root / "rows.parquet")
    with pa.OSFile(str(root / "rows.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    write_tar(root, TAR | {"1.png": red})
    with zipfile.ZipFile(root / "files.zip", "w") as archive:
        archive.writestr("in/a.txt", "1 2 1 2")
        archive.writestr("b.png", red)
        archive.writestr("c.png", b"\x89PNG\r\n\x1a\n broken")
    mail = EmailMessage()
    mail["Subject"] = "3 3"
    mail.set_content("1 3 3 1")
    mail.add_attachment(red, "image", "png", filename="red.png")
    (root / "mail.eml").write_bytes(mail.as_bytes())
    return root


def upload(root: Path, base: str) -> None:
    for path in root.rglob("*"):
        if path.is_file():
            put(f"{base}/{path.relative_to(root)}", path.read_bytes())


def put(url: str, content: bytes) -> None:
    if url.startswith("memory://"):
        fsspec.filesystem("memory").pipe(url, content)
    else:
        files.write(RemotePath(url), content)


def contents(index: Index, base: str) -> list[tuple[Any, ...]]:
    """Rows with their vectors, and failures, without the place of the source."""
    rows = [
        (row["id"], row["uri"], sorted(row["metadata"].items()), row["vector"].tobytes())
        for row in index.rows(vectors=True)
    ]
    failures = [
        (failure.key, failure.stage, failure.container or "", failure.reason.partition("check the")[0])
        for failure in FailureLog(index.path)
    ]
    return sorted(
        tuple(value.replace(base, "") if isinstance(value, str) else value for value in values)
        for values in [*rows, *failures]
    )


def counts(report: Any) -> dict[str, Any]:
    return report.to_dict() | {"failed": len(report.failed), "known": len(report.known)}


@pytest.mark.parametrize(("scheme", "engine"), [("s3", None), ("memory", None), ("s3", "ray")])
def test_containers_on_a_store_give_the_rows_and_failures_of_local_ones(
    remote: str, space: Space, sources: Path, tmp_path: Path, scheme: str, engine: Any
) -> None:
    root, base = shutil.copytree(sources, tmp_path / "src"), f"{remote.rpartition('/')[0]}/src"
    base = base.replace("s3://", f"{scheme}://")
    upload(root, base)
    local, index = (Index.create(tmp_path / f"{name}.lance", "plain") for name in ("local", "index"))
    mine = [RemotePath(f"{base}/{name}") for name in NAMES]
    with simulated() if engine else contextlib.nullcontext():
        for _ in range(2):
            expected = local.add([root / name for name in NAMES])
            assert counts(index.add(mine, engine=engine)) == counts(expected)
            assert contents(index, base) == contents(local, str(root))
        assert expected.unchanged == len({provenance.source for _, provenance in local._table.provenances()})
    assert {failure.key.removeprefix(base) for failure in FailureLog(index.path)} >= {
        "/rows.csv#row=3",
        "/rows.jsonl#row=2",
        "/samples.tar#2.png",
    }


def test_a_sync_a_retry_and_a_reindex_of_containers_on_a_store_do_what_local_ones_do(
    remote: str, space: Space, sources: Path, tmp_path: Path
) -> None:
    root, base = shutil.copytree(sources, tmp_path / "src"), f"{remote.rpartition('/')[0]}/src"
    upload(root, base)
    local, index = (Index.create(tmp_path / f"{name}.lance", space) for name in ("local", "index"))
    pairs: list[tuple[Index, Any]] = [(local, root), (index, RemotePath(base))]

    def both(call: Any) -> dict[str, Any]:
        first, second = (counts(call(*pair)) for pair in pairs)
        assert second == first and contents(index, base) == contents(local, str(root))
        return first

    containers = ["rows.csv", "samples.tar"]
    both(lambda index, root: index.sync(root))  # zip archives and attachments below the folder
    both(lambda index, root: index.sync([root / name for name in containers]))
    (root / "images" / "none.png").write_bytes((root / "images" / "blue.png").read_bytes())
    put(f"{base}/images/none.png", (root / "images" / "none.png").read_bytes())
    assert both(lambda index, root: index.retry_failed())["added"] == 1  # the row whose file is there now
    (root / "rows.csv").write_text("path,year\nimages/red.png,2024\n")
    write_tar(root, {"1.png": (root / "images" / "red.png").read_bytes()})
    for name in containers:
        put(f"{base}/{name}", (root / name).read_bytes())
    changed = both(lambda index, root: index.sync([root / name for name in containers]))
    assert changed["deleted"] == 3  # two rows, and a text of the archive
    (root / "files.zip").unlink()
    files.delete(RemotePath(f"{base}/files.zip"))
    assert both(lambda index, root: index.sync(root))["deleted"] == 2  # the members of the archive
    again = [old.reindex(tmp_path / f"again-{old.path.stem}.lance", space) for old, _ in pairs]
    assert counts(again[0]) == counts(again[1]) and not again[1].failed
    with pytest.raises(InvalidInput, match="sync takes folders, tables and archives, got a file"):
        index.sync(f"{base}/images/red.png")


@pytest.fixture
def memory() -> Iterator[str]:
    """The URL of an empty folder in memory."""
    filesystem = fsspec.filesystem("memory")
    yield "memory://bucket/folder"
    filesystem.rm("/bucket", recursive=True)


def test_patterns_name_files_on_a_store(
    memory: str, index: Index, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("rows.tsv", "rows.jsonl"):
        put(f"{memory}/shards/{name}", (sources / name).read_bytes())
    assert index.add(f"{memory}/shards/*.tsv").added == 2
    assert index.add(f"{memory}/**/rows.*").unchanged == 2
    with pytest.raises(MediaNotFound, match="nothing matches this pattern"):
        index.add(f"{memory}/*.tar")
    with pytest.raises(InvalidInput, match="several documents, which have their own ids"):
        index.add(f"{memory}/shards/rows.tsv", ids="x")


def test_a_table_on_a_store_names_files_beside_it_and_none_of_this_machine(
    memory: str, index: Index, sources: Path
) -> None:
    put(f"{memory}/images/red.png", (sources / "images" / "red.png").read_bytes())
    put(
        f"{memory}/tables/rows.csv",
        f"path\n../images/red.png\n{sources}/images/red.png\n../../../x\n".encode(),
    )
    report = index.add(f"{memory}/tables/rows.csv")
    assert [row["id"] for row in index.rows()] == [f"{memory}/images/red.png"]
    assert len(report.failed) == 2 and all(
        "leads out of memory://" in failure.reason for failure in report.failed
    )


def test_a_file_on_a_store_is_requested_in_blocks(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content, requests = bytes(range(256)) * 200, []
    put(f"{memory}/x.bin", content)
    read_at = FsspecRanges.read_at
    monkeypatch.setattr(
        FsspecRanges, "read_at", lambda file, n, at: requests.append(n) or read_at(file, n, at)
    )
    with open_binary(RemotePath(f"{memory}/x.bin"), 4096) as file:
        assert b"".join(iter(lambda: file.read(1000), b"")) == content
        assert max(requests) == 4096 and sum(requests) == len(content)
        assert file.seek(-3, io.SEEK_END) == len(content) - 3 and file.read() == content[-3:]
    with pytest.raises(FileNotFoundError):
        open_binary(RemotePath(f"{memory}/none.bin")).read()


def test_objects_of_s3_are_told_apart_by_their_entity_tags(
    remote: str, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, reads = RemotePath(f"{remote.rpartition('/')[0]}/texts"), []
    read = files.read
    monkeypatch.setattr(files, "read", lambda path: reads.append(path.name) or read(path))
    for name in ("a.txt", "b.txt"):
        files.write(folder / name, b"1 2 3 4")
    assert index.add(folder.url).added == 2
    assert files.list_sources(folder) == [files.stat_source(folder / name) for name in ("a.txt", "b.txt")]
    reads.clear()
    files.write(folder / "a.txt", b"4 3 2 1")  # of the same size, in the same second
    files.write(folder / "b.txt", b"1 2 3 4")  # written, and not changed
    report = index.sync(folder.url)
    assert (report.updated, report.unchanged, reads) == (1, 1, ["a.txt"])
    assert files.stat_source(folder / "none.txt") is None and not files.list_sources(folder / "none")
    monkeypatch.setattr(s3_etags, "is_usable", lambda path: False)  # as without boto3
    assert index.sync(folder.url).unchanged == 2
