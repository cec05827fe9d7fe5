"""Functions found by their docstrings: python -m benchmarks.code_search [--space NAME]

600 functions of Python's standard library, each without its docstring, whose first line is the query. They are indexed
as source code. Prints the mean reciprocal rank among the first 100 hits, and the share of functions that indexing cuts.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import sysconfig
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import multimodal as mm

N_FUNCTIONS = 600
MIN_LINES, MIN_WORDS = 4, 4  # of a function without its docstring, and of the docstring's first line
DEPTH = 100
SEED = 17


class Function(NamedTuple):
    """A function without its docstring, and the first line of that."""

    code: str
    query: str


def functions() -> list[Function]:
    """The 600 functions, the same for the same version of Python."""
    found: dict[str, Function] = {}
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for function in _functions_of(path.read_text(encoding="utf-8", errors="replace")):
            found.setdefault(function.query, function)
    return random.Random(SEED).sample(list(found.values()), N_FUNCTIONS)


def _functions_of(source: str) -> Iterator[Function]:
    lines = source.split("\n")
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        docstring = ast.get_docstring(node)
        first_line = (docstring or "").strip().split("\n")[0]
        if len(first_line.split()) < MIN_WORDS or len(node.body) < 2:
            continue
        body = node.body[0]
        kept = [
            *lines[node.lineno - 1 : body.lineno - 1],
            *lines[body.end_lineno or body.lineno : node.end_lineno],
        ]
        if len(kept) >= MIN_LINES:
            yield Function(textwrap.dedent("\n".join(kept)), first_line)


def build_index(space: mm.Space, folder: Path, written: list[Function]) -> mm.Index:
    """An index of the functions, each in a file of its own."""
    sources = folder / "sources"
    sources.mkdir()
    for number, function in enumerate(written):
        (sources / f"{number:03}.py").write_text(function.code, encoding="utf-8")
    index = mm.Index.create(folder / "index", space)
    index.add(sources)
    return index


def mean_reciprocal_rank(index: mm.Index, written: list[Function], mode: str) -> float:
    """Of the right file among the first hits, each file counted once; 0 where it is not among them."""
    total = 0.0
    answers = index.search([function.query for function in written], k=DEPTH, mode=mode, group_by=True)
    for number, hits in enumerate(answers):
        names = [Path(str(hit.uri)).stem for hit in hits]
        total += 1 / (names.index(f"{number:03}") + 1) if f"{number:03}" in names else 0.0
    return total / len(written)


def main(argv: list[str]) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.code_search")
    parser.add_argument("--space", default="starter", help="name of the space")
    arguments = parser.parse_args(argv)
    written = functions()
    with tempfile.TemporaryDirectory() as folder:
        index = build_index(mm.load(arguments.space), Path(folder), written)
        cut = len({row["uri"] for row in index.rows() if _is_part(row)})
        print(
            f"{arguments.space}: {len(index)} chunks of {len(written)} functions, {cut / len(written):.1%} cut\n"
        )
        print("| search | MRR | CPU s |\n| --- | ---: | ---: |")
        for mode in ("vector", "text", "hybrid"):
            began = time.process_time()
            rank = mean_reciprocal_rank(index, written, mode)
            print(f"| {mode} | {rank:.3f} | {time.process_time() - began:.1f} |")
    return 0


def _is_part(row: object) -> bool:
    """Whether a row holds a part of a function, judged by its first line."""
    text = str(row["text"]).lstrip()  # type: ignore[index]
    return not text.startswith(("def ", "async def ", "@", "class "))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
