"""Writes rows of an index to a .parquet, .jsonl or .npy file, batch by batch. Files appear complete or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from multimodal.core.errors import InvalidInput
from multimodal.index.results import Rows

SUFFIXES = (".parquet", ".jsonl", ".npy")


def check(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """The file to write. Raises InvalidInput if it cannot be written."""
    target = Path(path).expanduser().absolute()
    if target.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"an index is exported as {', '.join(SUFFIXES)}, got {os.fspath(path)!r}")
    if not target.parent.is_dir():
        raise InvalidInput(f"cannot write {str(target)!r}: the folder {str(target.parent)!r} does not exist")
    existing = [str(file) for file in files_of(target) if file.exists()]
    if existing and not overwrite:
        raise InvalidInput(
            f"{', '.join(existing)} already exists: choose another name, or replace it with overwrite=True"
        )
    return target


def files_of(target: Path) -> list[Path]:
    """The files that an export to `target` writes: a .npy file has its rows beside it."""
    return [target, target.with_suffix(".jsonl")] if target.suffix.lower() == ".npy" else [target]


def write(target: Path, rows: Rows) -> int:
    """Writes rows to a checked file; returns their number."""
    suffix = target.suffix.lower()
    if suffix == ".npy":
        return _write_npy(target, rows)
    return _write_parquet(target, rows) if suffix == ".parquet" else _write_jsonl(target, rows)


def _write_parquet(target: Path, rows: Rows) -> int:
    import pyarrow.parquet as pq

    n = 0
    with _replacing(target) as file:
        batches = rows.arrow_batches()
        first = next(batches)
        with pq.ParquetWriter(file, first.schema) as writer:
            writer.write_table(first)
            n += first.num_rows
            for batch in batches:
                writer.write_table(batch)
                n += batch.num_rows
    return n


def _write_jsonl(target: Path, rows: Rows) -> int:
    n = 0
    with _replacing(target) as file:
        for row in rows:
            n += 1
            vector = {"vector": row["vector"].tolist()} if "vector" in row else {}
            file.write(_line(row | vector))
    return n


def _write_npy(target: Path, rows: Rows) -> int:
    import numpy as np

    n, dim = 0, rows.dim or 0
    with _replacing(target) as file, _replacing(files_of(target)[1]) as lines:
        _write_header(file, (0, dim))
        for row in rows:
            n += 1
            file.write(np.ascontiguousarray(row.pop("vector"), np.float32).tobytes())
            lines.write(_line(row))
        file.seek(0)
        _write_header(file, (n, dim))  # numpy pads headers, so that the number of rows may grow in place
    return n


def _write_header(file: IO[bytes], shape: tuple[int, int]) -> None:
    import numpy as np

    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of `target` when the block ends, and is removed if it raises."""
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with new.open("wb") as file:
            yield file
        new.replace(target)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
