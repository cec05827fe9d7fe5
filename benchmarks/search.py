"""The ten nearest of 10,000, 200,000 and 1,000,000 vectors: python -m benchmarks.search [--sizes 10000] [--small]

multimodal beside LanceDB's flat scan, faiss, usearch, NumPy and txtai, each in a process of its own on one core, one
query at a time, the same queries in turn; and how many of the true ten each finds. On vectors in clusters, and on the
starter's own vectors of captions. What was built is told with the seconds it took.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import machine
from benchmarks.harness.benchmark import arguments, keep
from benchmarks.harness.data import clustered, of_starter
from benchmarks.harness.report import draw_bars, machine_line
from benchmarks.harness.rounds import Competitor, Round, parted, summary
from benchmarks.harness.worker import Work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from multimodal.index.index import Index

K = 10
DIM = 512
QUERIES = 120
SIZES = (10_000, 200_000, 1_000_000)
GRAPH_UP_TO = 200_000  # usearch's graph and txtai's cells take many minutes to build beyond on one core
WRITTEN_AT_ONCE = 50_000

Find = Callable[["NDArray[np.float32]"], Sequence[int]]


def _rows(folder: Path) -> NDArray[np.float32]:
    return np.load(folder / "base.npy", mmap_mode="r")


def _asking(folder: Path, find: Find) -> Work:
    """Queries are told by their numbers; the ten found take the place of vectors."""
    queries = np.load(folder / "queries.npy")

    def work(numbers: list[int], out: Path) -> Callable[[], Any]:
        found = [list(find(queries[number])) for number in numbers]
        return lambda: np.array(found, np.int64)

    return work


def numpy_product(folder: Path) -> Work:
    rows = np.array(_rows(folder))

    def find(query: NDArray[np.float32]) -> Sequence[int]:
        scores = rows @ query
        top = np.argpartition(-scores, K)[:K]
        return top[np.argsort(-scores[top])].tolist()

    return _asking(folder, find)


def faiss_flat(folder: Path) -> Work:
    import faiss

    rows = _rows(folder)
    index = faiss.IndexFlatIP(rows.shape[1])
    for start in range(0, len(rows), WRITTEN_AT_ONCE):
        index.add(np.ascontiguousarray(rows[start : start + WRITTEN_AT_ONCE]))
    return _asking(folder, lambda query: index.search(query[None], K)[1][0].tolist())


def usearch_exact(folder: Path) -> Work:
    from usearch.index import MetricKind, search

    rows = np.array(_rows(folder))
    return _asking(
        folder,
        lambda query: (
            search(rows, query[None], K, MetricKind.IP, exact=True, threads=1).keys.ravel().tolist()
        ),
    )


def usearch_graph(folder: Path) -> Work:
    """Its defaults: HNSW, in bfloat16 where the processor has it."""
    from usearch.index import Index

    rows = np.array(_rows(folder))
    index = Index(ndim=rows.shape[1], metric="ip")
    index.add(np.arange(len(rows)), rows, threads=1)
    return _asking(folder, lambda query: index.search(query, K, threads=1).keys.tolist())


def lancedb_flat(folder: Path) -> Work:
    import lancedb
    import pyarrow as pa

    rows = _rows(folder)
    schema = pa.schema(
        [pa.field("id", pa.int64()), pa.field("vector", pa.list_(pa.float32(), rows.shape[1]))]
    )
    table = lancedb.connect(folder / "lancedb").create_table("rows", schema=schema)
    for start in range(0, len(rows), WRITTEN_AT_ONCE):
        part = np.ascontiguousarray(rows[start : start + WRITTEN_AT_ONCE])
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), rows.shape[1])
        table.add(pa.table([pa.array(np.arange(start, start + len(part))), vectors], schema=schema))

    def find(query: NDArray[np.float32]) -> Sequence[int]:
        return (
            table.search(query).distance_type("cosine").limit(K).select(["id"]).to_arrow()["id"].to_pylist()
        )

    return _asking(folder, find)


def txtai_default(folder: Path) -> Work:
    """Its own choice over vectors that it is given: faiss, in cells beyond 5,000."""
    from txtai.ann import ANNFactory

    rows = np.array(_rows(folder))
    index = ANNFactory.create({"backend": "faiss", "dimensions": rows.shape[1], "offset": 0})
    index.index(rows)
    return _asking(folder, lambda query: [number for number, _ in index.search(query[None], K)[0]])


def ours(*, exact: bool) -> Callable[[Path], Work]:
    def set_up(folder: Path) -> Work:
        index = filled(folder / f"multimodal-{'exact' if exact else 'default'}", _rows(folder))
        return _asking(folder, lambda query: [int(hit.id) for hit in index.search(query, K, exact=exact)])

    return set_up


def filled(where: Path, rows: NDArray[np.float32]) -> Index:
    """An index of given vectors, written as a job writes what it has encoded, in larger chunks."""
    from benchmarks.harness.vector_space import vector_space
    from multimodal.index.index import Index
    from multimodal.index.storage.schema import Provenance, Row
    from multimodal.index.storage.table import ItemTable

    index = Index.create(where, vector_space(rows.shape[1]))
    for start in range(0, len(rows), WRITTEN_AT_ONCE):
        part = np.ascontiguousarray(rows[start : start + WRITTEN_AT_ONCE])
        ids = [str(number) for number in range(start, start + len(part))]
        ItemTable.open(index.path).upsert(
            [Row(id_, None, "text", None, {}) for id_ in ids], list(map(Provenance, ids)), part
        )
    index.optimize(approximate=False)
    return index


COMPETITORS: dict[str, Callable[[Path], Work]] = {
    "numpy": numpy_product,
    "faiss Flat": faiss_flat,
    "usearch, exact": usearch_exact,
    "usearch, graph": usearch_graph,
    "LanceDB, flat": lancedb_flat,
    "txtai": txtai_default,
    "multimodal": ours(exact=False),
    "multimodal, exact": ours(exact=True),
}


def measured(base: Path, queries: Path, rounds: int, only: Sequence[str]) -> dict[str, Any]:
    """All competitors over one set of vectors: milliseconds a query, recall@10, what was built and how long it took."""
    truth = nearest(np.load(base, mmap_mode="r"), np.load(queries))
    done: list[Round] = []
    recalls: dict[str, list[float]] = {}
    built: dict[str, float] = {}
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base.parent)))
        (folder / "base.npy").symlink_to(base.absolute())
        (folder / "queries.npy").symlink_to(queries.absolute())
        there: dict[str, Competitor] = {}
        for name in only:  # one after the other, so that the time to build is its own
            started = time.perf_counter()
            one = stack.enter_context(Competitor("benchmarks.search", name, 1, folder, folder))
            one.ready()
            if one.missing is not None:
                print(f"{name}: left out, {one.missing} is not installed", file=sys.stderr)
                left_out[name] = one.missing
                continue
            there[name] = one
            built[name] = round(time.perf_counter() - started, 1)
        for one in there.values():
            one.do([0, 1, 2], folder / "warm", keep=False)
        for number, part in enumerate(parted(range(len(truth)), rounds)):
            this: Round = {}
            for name, one in there.items():
                out = folder / f"found-{number}"
                this[name] = one.do(part, out, keep=True)
                recalls.setdefault(name, []).append(recall(np.load(out.with_suffix(".npy")), truth[part]))
            done.append(this)
    table = summary(done, ["numpy"], "core_s")
    for name, figures in table.items():
        figures |= {"ms a query": 1000 / figures["a core second"], "recall@10": float(np.mean(recalls[name])),
                    "imported, read and built, s": built[name]}  # fmt: skip
    return {"summary": table, "left out": left_out,
            "rounds": [{name: one._asdict() for name, one in each.items()} for each in done]}  # fmt: skip


def nearest(rows: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """(queries, K) by brute force in float32, of rows that may not fit in memory."""
    best = np.full((len(queries), K), -np.inf, np.float32)
    where = np.zeros((len(queries), K), np.int64)
    for start in range(0, len(rows), WRITTEN_AT_ONCE):
        scores = queries @ rows[start : start + WRITTEN_AT_ONCE].T
        numbers = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        both, numbers = np.concatenate([best, scores], 1), np.concatenate([where, numbers], 1)
        top = np.argpartition(-both, K - 1, 1)[:, :K]
        best, where = np.take_along_axis(both, top, 1), np.take_along_axis(numbers, top, 1)
    return where


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """The share of the true ones that were found."""
    return float(np.mean([len(set(one) & set(right)) / len(right)
                          for one, right in zip(found.tolist(), truth.tolist(), strict=True)]))  # fmt: skip


def show(title: str, found: dict[str, Any]) -> None:
    print(f"\n{title}\n\n| | ms a query | by numpy | recall@10 | peak memory, MB | start and build, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, one in sorted(found["summary"].items(), key=lambda pair: -pair[1]["ms a query"]):
        by_numpy = one["ratios"].get("numpy")
        ratio = "" if by_numpy is None else f"{by_numpy:.2f}×"
        rest = f"{one['recall@10']:.3f} | {one['peak_mb']:,.0f} | {one['imported, read and built, s']:.1f}"
        print(f"| {name} | {one['ms a query']:.2f} | {ratio} | {rest} |")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = arguments(__doc__ or "", rounds=4)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument(
        "--kinds", nargs="+", choices=["clustered", "starter"], default=["clustered", "starter"]
    )
    parser.add_argument("--only", nargs="+", choices=list(COMPETITORS), default=list(COMPETITORS))
    asked = parser.parse_args(argv)
    folder = asked.data / ("small" if asked.small else "full")
    sizes, n_queries = ([2000], 16) if asked.small else (asked.sizes, QUERIES)
    for kind in asked.kinds:
        for size in sizes:
            base, queries = (
                clustered(folder, size, DIM, n_queries)
                if kind == "clustered"
                else of_starter(folder, size, n_queries)
            )
            only = [
                name for name in asked.only if size <= GRAPH_UP_TO or name not in ("usearch, graph", "txtai")
            ]
            found = {"benchmark": "search", "vectors": kind, "n": size, "k": K, "queries": n_queries, "cores": 1,
                     "rates by": "core_s", "hardware": machine.hardware(), "versions": machine.versions(),
                     **measured(base, queries, 2 if asked.small else asked.rounds, only)}  # fmt: skip
            title = f"search-{kind}-{size}{'-small' * asked.small}"
            keep(found, asked.results, title)
            print(machine_line(found))
            show(f"search among {size:,} {kind} vectors, one core", found)
            bars = sorted(
                ((name, one["ms a query"]) for name, one in found["summary"].items()),
                key=lambda pair: -pair[1],
            )
            draw_bars(dict(bars), f"ms a query among {size:,} {kind} vectors, one core", asked.results / f"{title}.png",
                      log=True)  # fmt: skip
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
