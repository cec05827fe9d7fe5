"""What an index takes and finds with each format of vectors: python -m benchmarks.vector_formats [--rows 100000]

The starter's vectors of distinct captions, and of other captions as queries, one at a time on one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = ("float32", "int8", "pca128-int8", "pca64-int8", "bits")
K = 10
WRITTEN_AT_ONCE = 20_000


def measure(name: str, rows: np.ndarray, queries: np.ndarray, folder: Path) -> dict[str, Any]:
    """Bytes of the table and of the files that are searched, recall@10 against float32, and CPU ms a query."""
    from benchmarks.harness.vector_space import vector_space
    from multimodal.index import Index
    from multimodal.index.storage.schema import Provenance, Row
    from multimodal.index.storage.table import ItemTable

    index = Index.create(folder, vector_space(rows.shape[1]), vectors=name)
    for start in range(0, len(rows), WRITTEN_AT_ONCE):
        part = rows[start : start + WRITTEN_AT_ONCE]
        ids = [str(number) for number in range(start, start + len(part))]
        ItemTable.open(index.path).upsert(
            [Row(id_, None, "text", None, {}) for id_ in ids], list(map(Provenance, ids)), part
        )
    index.optimize()
    index.search(queries[0], K, calibrated=False)
    begin, kept = time.process_time(), []
    found = [[int(hit.id) for hit in index.search(query, K, calibrated=False)] for query in queries]
    seconds = time.process_time() - begin
    for query, ids_found in zip(queries, found, strict=True):
        nearest = np.argsort(-(rows @ query))[:K]
        kept.append(len(set(nearest.tolist()) & set(ids_found)) / K)
    stats = index.stats()
    return {
        "format": name,
        "bytes a vector": stats.stored_bytes,
        "table MB": round(_size(folder / "items.lance") / 1e6, 1),
        "search MB": round(_size(folder / "search") / 1e6, 1),
        "recall@10": round(float(np.mean(kept)), 4),
        "stats().recall": stats.recall,
        "CPU ms a query": round(1000 * seconds / len(queries), 2),
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(argv: list[str]) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--data", type=Path, default=Path("benchmarks/data/formats"))
    args = parser.parse_args(argv)
    from benchmarks.harness.data import of_starter

    base, queries = (np.load(path) for path in of_starter(args.data, args.rows, args.queries))
    results = []
    for name in FORMATS:
        with tempfile.TemporaryDirectory() as scratch:
            results.append(measure(name, base, queries, Path(scratch) / "index"))
            shutil.rmtree(scratch, ignore_errors=True)
        print(json.dumps(results[-1]), flush=True)
    return results


if __name__ == "__main__":
    main(sys.argv[1:])
