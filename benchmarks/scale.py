"""What an index costs at 10^6 to 10^9 items: python -m benchmarks.scale [--items 1000000] [--json]

Measures the cost of one item, on this machine and on one core: encoding, writing, looking up, preparing and searching.
The table multiplies them. Nothing larger than --items is run; a column beyond that is an extrapolation. Prices and the
rate of a GPU are arguments.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import machine
from benchmarks.harness.benchmark import arguments, keep
from benchmarks.harness.data import photos
from benchmarks.harness.vector_space import vector_space

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from multimodal.index import Index

ITEMS, DIM = 1_000_000, 512
SIZES = (10**6, 10**7, 10**8, 10**9)
TENTH = 10
COMMIT_ROWS, LOOKUP_IDS = 2048, 1000
COMMITS, QUERIES, IMAGES, K = 5, 30, 32, 10
PER_CLUSTER, NOISE = 200, 0.6  # as in harness.data.clustered
GPU_ITEMS_PER_S = 2440.0  # ViT-L/14 at 224 pixels: 162 GFLOP an image, at half of 790 TFLOP/s


def core_ms(work: Callable[[], Any]) -> float:
    """CPU time of a call in ms."""
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def batches(n: int, dim: int, size: int) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Ids like those of files, and clustered unit vectors (size, dim), which are never all in memory."""
    rng = np.random.default_rng(n)
    centres = rng.standard_normal((max(1, n // PER_CLUSTER), dim), dtype=np.float32)
    for start in range(0, n, size):
        count = min(size, n - start)
        rows = centres[rng.integers(0, len(centres), count)]
        rows += NOISE * rng.standard_normal((count, dim), dtype=np.float32)
        yield [file_name(number) for number in range(start, start + count)], _unit(rows)


def file_name(number: int) -> str:
    return f"/pictures/{number // 1000:06}/{number:09}.jpg"


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write(index: Index, ids: list[str], vectors: NDArray[np.float32]) -> None:
    """Appends new rows as an indexing job does."""
    from multimodal.index.storage.schema import Provenance, Row
    from multimodal.index.storage.table import ItemTable

    rows = [Row(id_, id_, "text", None, {}) for id_ in ids]
    provenances = [Provenance(id_, None, f"{hash(id_) % 2**64:032x}", 1000, 1) for id_ in ids]
    ItemTable.open(index.path).upsert(rows, provenances, vectors, are_new=True)


def costs_of_index(folder: Path, n: int, dim: int) -> dict[str, float]:
    """What one item costs an index of n vectors: CPU time, bytes, and the time of a query."""
    from multimodal.index import Index, SearchConfig
    from multimodal.index.storage.table import TABLE_NAME, ItemTable

    index = Index.create(folder / "index", vector_space(dim), search_config=SearchConfig(threads=1))
    written, costs, queries = 0.0, {}, _queries(n, dim)
    for number, (ids, vectors) in enumerate(batches(n, dim, n // TENTH)):
        if (
            number == 1
        ):  # a tenth is written: the difference to all is the cost of the rows, without that of a query
            index._searcher.prepare()
            costs["query among a tenth, ms"] = timed_queries(index, queries)[0]
        written += core_ms(partial(write, index, ids, vectors))
    table = ItemTable.open(index.path)
    table.compact()
    costs["write, us"] = 1000 * written / n
    costs["table, bytes"] = folder_bytes(index.path / f"{TABLE_NAME}.lance") / n
    costs["B-tree, us"] = 1000 * core_ms(table.index_ids) / n
    costs |= costs_of_commits(index, table, n, dim)
    costs["prepare, us"] = 1000 * core_ms(index._searcher.prepare) / n
    costs["search folder, bytes"] = folder_bytes(index.path / "search") / n
    costs["query, ms"], exact = timed_queries(index, queries)
    before = folder_bytes(index.path)
    costs["vector index, us"] = 1000 * core_ms(lambda: index.optimize(approximate=True)) / n
    costs["vector index, bytes"] = (folder_bytes(index.path) - before) / n
    costs["approximate query, ms"], approximate = timed_queries(index, queries)
    same = [len(set(some) & set(others)) / K for some, others in zip(exact, approximate, strict=True)]
    costs["approximate recall@10"] = float(np.mean(same))
    return costs


def costs_of_commits(index: Index, table: Any, n: int, dim: int) -> dict[str, float]:
    """The CPU time of a commit of 2,048 rows, and of looking up 1,000 ids, neighbours and in random order, in ms."""
    at = [n * part // COMMITS for part in range(COMMITS)]
    known = [[file_name(start + number) for number in range(LOOKUP_IDS)] for start in at]
    unknown = [[f"{file_name(start)}/{number}" for number in range(LOOKUP_IDS)] for start in at]
    rng = np.random.default_rng(0)
    vectors = [_unit(rng.standard_normal((COMMIT_ROWS, dim), dtype=np.float32)) for _ in at]
    commits = [[f"/new/{number}/{row:05}.jpg" for row in range(COMMIT_ROWS)] for number in range(COMMITS)]
    return {
        "look up 1,000 known, ms": min(core_ms(partial(table.documents, ids)) for ids in known),
        "look up 1,000 new, ms": min(core_ms(partial(table.documents, ids)) for ids in unknown),
        "commit 2,048 rows, ms": min(
            core_ms(partial(write, index, ids, some))
            for ids, some in zip(commits, vectors, strict=True)
        ),
        "look up 1,000 known in random order, ms": _random_lookup(table, rng.permutation(n).tolist()),
    }  # fmt: skip


def _random_lookup(table: Any, numbers: list[int]) -> float:
    """The CPU time of looking up 1,000 documents in this order, as many at a time as a job does, in ms."""
    from multimodal.index.storage.table import SCATTERED_IDS_PER_STATEMENT

    ids = [file_name(number) for number in numbers[:SCATTERED_IDS_PER_STATEMENT]]
    table.documents(ids[:LOOKUP_IDS])  # shows the table that neighbours are far apart
    return LOOKUP_IDS * core_ms(partial(table.documents, ids)) / len(ids)


def _queries(n: int, dim: int) -> NDArray[np.float32]:
    """Vectors near some of the first rows."""
    _, first = next(batches(n, dim, n // TENTH))
    rng = np.random.default_rng(1)
    near = first[rng.integers(0, len(first), QUERIES)]
    return _unit(near + rng.standard_normal(near.shape, dtype=np.float32) * np.float32(0.3 / math.sqrt(dim)))


def timed_queries(index: Index, queries: NDArray[np.float32]) -> tuple[float, list[list[str]]]:
    """The least CPU time of a query in ms, and the ids of the hits."""
    found: list[list[str]] = []

    def search(query: NDArray[np.float32]) -> None:
        found.append([hit.id for hit in index.search(query, K)])

    times = [core_ms(partial(search, query)) for query in queries]
    return min(times[3:]), found  # other load only adds; the first queries read what later ones use


def costs_of_images(folder: Path, space_name: str, small: bool) -> dict[str, float]:
    """CPU time of decoding a JPEG, and of encoding it, in ms."""
    import PIL.Image

    import multimodal as mm

    paths = photos(folder, IMAGES, small=small)
    space = mm.load(space_name)
    items = [mm.Image(path) for path in paths]
    space.encode(items[:4])

    def decode() -> None:
        for path in paths:
            PIL.Image.open(path).convert("RGB").resize((224, 224))

    decoded = core_ms(decode) / len(paths)
    return {"decode, ms": decoded, "encode, ms": core_ms(lambda: space.encode(items)) / len(paths)}


def query_costs(costs: dict[str, float], n: int) -> tuple[float, float]:
    """The cost of a query by binary codes in ms: for itself, and for each item."""
    per_item = max(0.0, (costs["query, ms"] - costs["query among a tenth, ms"]) / (n - n // TENTH))
    return costs["query, ms"] - per_item * n, per_item


def plan(costs: dict[str, float], args: Any) -> dict[str, list[float]]:
    """The figures of the table: one row per quantity, with a value for each of SIZES."""
    millions = [size / 1e6 for size in SIZES]
    hours = [size / 3600e3 for size in SIZES]  # of a cost in ms per item
    bytes_of = ("table, bytes", "search folder, bytes", "vector index, bytes")
    fixed, per_item = query_costs(costs, args.items)
    rows = {
        "table, GB": [size * costs["table, bytes"] / 1e9 for size in SIZES],
        "search folder, GB": [size * costs["search folder, bytes"] / 1e9 for size in SIZES],
        "codes that a query reads, GB": [size * 32 / 1e9 for size in SIZES],
        "vector index, GB": [size * costs["vector index, bytes"] / 1e9 for size in SIZES],
        "write and prepare, core hours": [
            size * (costs["write, us"] + costs["B-tree, us"] + costs["prepare, us"]) / 3600e6 for size in SIZES
        ],
        "look up all again, core hours": [hour * costs["look up 1,000 known, ms"] / LOOKUP_IDS for hour in hours],
        "query by codes, one core, ms": [fixed + per_item * size for size in SIZES],
        "vector index, core hours": [size * costs["vector index, us"] / 3600e6 for size in SIZES],
        "encode on CPUs, core hours": [hour * costs["encode, ms"] for hour in hours],
        "encode on CPUs, $": [hour * costs["encode, ms"] * args.core_hour for hour in hours],
        "encode on GPUs, GPU hours": [size / args.gpu_rate / 3600 for size in SIZES],
        "encode on GPUs, with decoding, $": [
            size / args.gpu_rate / 3600 * args.gpu_hour + hour * costs["decode, ms"] * args.core_hour
            for size, hour in zip(SIZES, hours, strict=True)
        ],
        "storage, $ a month": [
            million * sum(costs[name] for name in bytes_of) / 1000 * args.gb_month for million in millions
        ],
    }  # fmt: skip
    return {name: [float(f"{value:.3g}") for value in values] for name, values in rows.items()}


def show(costs: dict[str, float], table: dict[str, list[float]], items: int) -> None:
    fixed, per_item = query_costs(costs, items)
    print(f"Measured at {items:,} items, one core:\n\n| one item, query or commit | |\n| --- | ---: |")
    for name, value in costs.items():
        print(f"| {name} | {value:,.3g} |")
    print("\n| | " + " | ".join(f"10^{round(math.log10(size))}" for size in SIZES) + " |")
    print("| --- |" + " ---: |" * len(SIZES))
    for name, values in table.items():
        print(f"| {name} | " + " | ".join(f"{value:,.4g}" for value in values) + " |")
    if per_item > 0:
        equal = (costs["approximate query, ms"] - fixed) / per_item
        print(
            f"\nOn one core, the vector index is faster than codes from about {equal / 1e6:,.1f} million items."
        )


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument(
        "--items", type=int, default=ITEMS, help="rows of the measured index (default: %(default)s)"
    )
    parser.add_argument("--dim", type=int, default=DIM, help="dimensions of a vector (default: %(default)s)")
    parser.add_argument(
        "--space", default="starter", help="model that encodes the images (default: %(default)s)"
    )
    parser.add_argument("--core-hour", type=float, default=0.05, help="price of a core for an hour, $")
    parser.add_argument("--gpu-hour", type=float, default=4.0, help="price of a GPU for an hour, $")
    parser.add_argument(
        "--gpu-rate", type=float, default=GPU_ITEMS_PER_S, help="images per second of the GPU"
    )
    parser.add_argument(
        "--gb-month", type=float, default=0.023, help="price of a GB of storage for a month, $"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args(argv)
    if args.small:
        args.items, args.dim = 30_000, 32
    with tempfile.TemporaryDirectory() as folder:
        costs = costs_of_index(Path(folder), args.items, args.dim)
    costs |= costs_of_images(args.data / ("small" if args.small else "full"), args.space, args.small)
    result = {
        "benchmark": "scale", "items": args.items, "dim": args.dim, "costs": costs, "sizes": list(SIZES),
        "table": plan(costs, args), "hardware": machine.hardware(), "versions": machine.versions(),
    }  # fmt: skip
    keep(result, args.results, f"scale{'-small' * args.small}")
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        show(costs, result["table"], args.items)
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
