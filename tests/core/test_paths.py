"""A URL given where a local folder is written is refused, and makes no folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from multimodal import testing
from multimodal.core.errors import InvalidInput
from multimodal.core.paths import local_path
from multimodal.index import Index

STORES = ["s3://bucket/x", "gs://b/x", "az://b/x", "S3://b"]  # an index may lie there, and nothing else
URLS = ["hdfs://h:1/x", "https://h/x", "file:///x", "memory://x"]


def save(path: str | Path) -> None:
    testing.fake_space().save_pretrained(path)


@pytest.mark.parametrize("url", [*URLS, *map(Path, URLS), *map(Path, STORES)])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: Index.create(path, testing.fake_space()),
        lambda path: Index.open(path),
        Index.exists,
        save,
    ],
)
def test_a_url_is_refused_and_leaves_no_local_folder(
    url: str | Path, write: Callable[[str | Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput) as caught:
        write(url)
    assert "kept in a local folder" in str(caught.value) and f"got the URL {os.fspath(url)!r}" in str(
        caught.value
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", STORES)
def test_only_an_index_is_kept_on_an_object_store(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match="a saved space is kept in a local folder, got the URL"):
        save(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["a:b", "C:/indexes/x", "s3:", "x/s3:/y", "2024-01-01T10:00"])
def test_a_local_path_with_a_colon_is_kept(path: str) -> None:
    assert local_path(path, "an index") == Path(path).absolute()
    assert local_path(Path(path), "an index") == Path(path).absolute()


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/i.lance", "an index") == tmp_path / "i.lance"
