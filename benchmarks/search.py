"""The ten nearest of 10,000, 200,000 and 1,000,000 vectors: python -m benchmarks.search [--sizes 10000] [--small]

Compares multimodal with LanceDB's flat scan, faiss, usearch, NumPy and txtai, each in a separate process on one core,
with single queries in turn: latency, recall@10 and build time, on clustered vectors and on the starter's vectors of
captions.
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
GRAPH_UP_TO = 200_000  # beyond, usearch's graph and txtai's cells take many minutes to build on one core
WRITTEN_AT_ONCE = 50_000

Find = Callable[["NDArray[np.float32]"], Sequence[int]]


def _rows(folder: Path) -> NDArray[np.float32]:
    return np.load(folder / "base.npy", mmap_mode="r")


def _searcher(folder: Path, find: Find) -> Work:
    """Queries are given by number; the ids of the hits are returned in place of vectors."""
    queries = np.load(folder / "queries.npy")

    def work(numbers: list[int], out: Path) -> Callable[[], Any]:
        nearest_ids = [list(find(queries[number])) for number in numbers]
        return lambda: np.array(nearest_ids, np.int64)

    return work


def numpy_product(folder: Path) -> Work:
    rows = np.array(_rows(folder))

    def find(query: NDArray[np.float32]) -> Sequence[int]:
        scores = rows @ query
        top = np.argpartition(-scores, K)[:K]
        return top[np.argsort(-scores[top])].tolist()

    return _searcher(folder, find)


def faiss_flat(folder: Path) -> Work:
    import faiss

    rows = _rows(folder)
    index = faiss.IndexFlatIP(rows.shape[1])
    for start in range(0, len(rows), WRITTEN_AT_ONCE):
        index.add(np.ascontiguousarray(rows[start : start + WRITTEN_AT_ONCE]))
    return _searcher(folder, lambda query: index.search(query[None], K)[1][0].tolist())


def usearch_exact(folder: Path) -> Work:
    from usearch.index import MetricKind, search

    rows = np.array(_rows(folder))
    return _searcher(
        folder,
        lambda query: (
            search(rows, query[None], K, MetricKind.IP, exact=True, threads=1).keys.ravel().tolist()
        ),
    )


def usearch_graph(folder: Path) -> Work:
    """The defaults: HNSW, in bfloat16 on processors that support it."""
    from usearch.index import Index

    rows = np.array(_rows(folder))
    index = Index(ndim=rows.shape[1], metric="ip")
    index.add(np.arange(len(rows)), rows, threads=1)
    return _searcher(folder, lambda query: index.search(query, K, threads=1).keys.tolist())


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

    return _searcher(folder, find)


def txtai_default(folder: Path) -> Work:
    """The default for given vectors: faiss, with cells beyond 5,000 vectors."""
    from txtai.ann import ANNFactory

    rows = np.array(_rows(folder))
    index = ANNFactory.create({"backend": "faiss", "dimensions": rows.shape[1], "offset": 0})
    index.index(rows)
    return _searcher(folder, lambda query: [number for number, _ in index.search(query[None], K)[0]])


def ours(*, exact: bool) -> Callable[[Path], Work]:
    def set_up(folder: Path) -> Work:
        index = filled(folder / f"multimodal-{'exact' if exact else 'default'}", _rows(folder))
        return _searcher(folder, lambda query: [int(hit.id) for hit in index.search(query, K, exact=exact)])

    return set_up


def filled(where: Path, rows: NDArray[np.float32]) -> Index:
    """An index of given vectors, written as an indexing job writes encoded items, in larger batches."""
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
    """All competitors on a set of vectors: milliseconds per query, recall@10 and build time."""
    truth = nearest(np.load(base, mmap_mode="r"), np.load(queries))
    done: list[Round] = []
    recalls: dict[str, list[float]] = {}
    built: dict[str, float] = {}
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base.parent)))
        (folder / "base.npy").symlink_to(base.absolute())
        (folder / "queries.npy").symlink_to(queries.absolute())
        competitors: dict[str, Competitor] = {}
        for name in only:  # in sequence, so that build times are independent
            started = time.perf_counter()
            competitor = stack.enter_context(Competitor("benchmarks.search", name, 1, folder, folder))
            competitor.ready()
            if competitor.missing is not None:
                print(f"{name}: left out, {competitor.missing} is not installed", file=sys.stderr)
                left_out[name] = competitor.missing
                continue
            competitors[name] = competitor
            built[name] = round(time.perf_counter() - started, 1)
        for competitor in competitors.values():
            competitor.do([0, 1, 2], folder / "warm", keep=False)
        for number, part in enumerate(parted(range(len(truth)), rounds)):
            timings: Round = {}
            for name, competitor in competitors.items():
                out = folder / f"found-{number}"
                timings[name] = competitor.do(part, out, keep=True)
                recalls.setdefault(name, []).append(recall(np.load(out.with_suffix(".npy")), truth[part]))
            done.append(timings)
    table = summary(done, ["numpy"], "core_s")
    for name, figures in table.items():
        figures |= {"ms a query": 1000 / figures["a core second"], "recall@10": float(np.mean(recalls[name])),
                    "imported, read and built, s": built[name]}  # fmt: skip
    return {"summary": table, "left out": left_out,
            "rounds": [{name: timing._asdict() for name, timing in timings.items()} for timings in done]}  # fmt: skip


def nearest(rows: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """The exact nearest rows (queries, K) in float32, block by block, for rows that may not fit in memory."""
    best = np.full((len(queries), K), -np.inf, np.float32)
    where = np.zeros((len(queries), K), np.int64)
    for start in range(0, len(rows), WRITTEN_AT_ONCE):
        scores = queries @ rows[start : start + WRITTEN_AT_ONCE].T
        numbers = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        both, numbers = np.concatenate([best, scores], 1), np.concatenate([where, numbers], 1)
        top = np.argpartition(-both, K - 1, 1)[:, :K]
        best, where = np.take_along_axis(both, top, 1), np.take_along_axis(numbers, top, 1)
    return where


def recall(found_ids: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """The share of the true neighbours that were found."""
    return float(np.mean([len(set(ids) & set(right)) / len(right)
                          for ids, right in zip(found_ids.tolist(), truth.tolist(), strict=True)]))  # fmt: skip


def show(title: str, result: dict[str, Any]) -> None:
    print(f"\n{title}\n\n| | ms per query | vs numpy | recall@10 | peak memory, MB | start and build, s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, figures in sorted(result["summary"].items(), key=lambda pair: -pair[1]["ms a query"]):
        by_numpy = figures["ratios"].get("numpy")
        ratio = "" if by_numpy is None else f"{by_numpy:.2f}×"
        rest = f"{figures['recall@10']:.3f} | {figures['peak_mb']:,.0f} | {figures['imported, read and built, s']:.1f}"
        print(f"| {name} | {figures['ms a query']:.2f} | {ratio} | {rest} |")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = arguments(__doc__ or "", rounds=4)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument(
        "--kinds", nargs="+", choices=["clustered", "starter"], default=["clustered", "starter"]
    )
    parser.add_argument("--only", nargs="+", choices=list(COMPETITORS), default=list(COMPETITORS))
    args = parser.parse_args(argv)
    folder = args.data / ("small" if args.small else "full")
    sizes, n_queries = ([2000], 16) if args.small else (args.sizes, QUERIES)
    for kind in args.kinds:
        for size in sizes:
            base, queries = (
                clustered(folder, size, DIM, n_queries)
                if kind == "clustered"
                else of_starter(folder, size, n_queries)
            )
            only = [
                name for name in args.only if size <= GRAPH_UP_TO or name not in ("usearch, graph", "txtai")
            ]
            result = {"benchmark": "search", "vectors": kind, "n": size, "k": K, "queries": n_queries, "cores": 1,
                     "rates by": "core_s", "hardware": machine.hardware(), "versions": machine.versions(),
                     **measured(base, queries, 2 if args.small else args.rounds, only)}  # fmt: skip
            title = f"search-{kind}-{size}{'-small' * args.small}"
            keep(result, args.results, title)
            print(machine_line(result))
            show(f"search among {size:,} {kind} vectors, one core", result)
            bars = sorted(
                ((name, figures["ms a query"]) for name, figures in result["summary"].items()),
                key=lambda pair: -pair[1],
            )
            label = f"ms per query among {size:,} {kind} vectors, one core"
            draw_bars(dict(bars), label, args.results / f"{title}.png", log=True)
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
