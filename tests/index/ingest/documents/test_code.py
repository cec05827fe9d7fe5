"""Source code is cut at functions and classes, and each part names its symbol and its lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.index import Index
from multimodal.index.ingest.documents.code import read_code
from multimodal.index.ingest.documents.part import ReadOptions

PYTHON = '''"""Module."""
import os

# about the function
@cache
def first(x):
    return "\\d"


class Parser:
    """Reads."""

    def next(self):
        return 1

    async def later(self):
        def inner(): ...
'''
TYPESCRIPT = """export class Box<T> { get(): T { return this.x } }
export const twice = (x: number) => { return 2 * x }
function plain() {}
interface Shape { side: number }
"""
SAMPLES = {
    "a.py": (PYTHON, {"first": (4, 7), "Parser": (10, 17)}),
    "a.ts": (TYPESCRIPT, {"Box": (1, 1), "twice": (2, 2), "plain": (3, 3), "Shape": (4, 4)}),
    "a.js": ("class A { m() {} }\nfunction f() {}\n", {"A": (1, 1), "f": (2, 2)}),
    "a.go": ("package a\n\n// F does.\nfunc (p *P) F() {}\ntype P struct{}\n", {"F": (3, 4), "P": (5, 5)}),
    "a.rs": ("struct P;\nimpl P { fn f(&self) {} }\nfn h() {}\n", {"P": (1, 2), "h": (3, 3)}),
    "a.java": ("package p;\nclass C { int m() { return 1; } }\n", {"C": (2, 2)}),
    "a.c": ("#include <x.h>\nint *main(int argc) { return 0; }\nstruct s { int x; };\n", {"main": (2, 2), "s": (3, 3)}),
    "a.cpp": ("template <class T>\nT add(T a) { return a; }\nclass C {};\n", {"add": (1, 2), "C": (3, 3)}),
    "a.cs": ("class C { void M() {} }\n", {"C": (1, 1)}),
    "a.rb": ("def f\nend\nclass C\nend\n", {"f": (1, 2), "C": (3, 4)}),
    "a.php": ("<?php\nfunction f() {}\nclass C {}\n", {"f": (2, 2), "C": (3, 3)}),
    "a.sh": ("foo() {\n echo hi\n}\nfoo\n", {"foo": (1, 3)}),
    "a.kt": ("fun f() {}\nclass C\n", {"f": (1, 1), "C": (2, 2)}),
    "a.swift": ("func f() {}\nclass C {}\n", {"f": (1, 1), "C": (2, 2)}),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_a_definition_is_a_part_with_its_comments_symbol_and_lines(name: str) -> None:
    source, expected = SAMPLES[name]
    spans: dict[str, tuple[int, int]] = {}
    for part in read_code(source.encode(), name, ReadOptions()):
        first, last = map(int, str(part.locator["lines"]).split("-"))
        symbol = str(part.locator.get("symbol", ""))
        before = spans.get(symbol, (first, last))
        spans[symbol] = (min(before[0], first), max(before[1], last))
    assert {symbol: spans.get(symbol) for symbol in expected} == expected


def test_language_symbol_and_lines_are_metadata_of_the_hit(index: Index, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(PYTHON)
    index.add(tmp_path / "a.py", metadata={"project": "x"})
    (hit,) = index.search("c", where={"symbol": "first"})
    assert hit.metadata == {
        "project": "x", "symbol": "first", "start_line": 4, "end_line": 7, "language": "python"
    }  # fmt: skip
    assert hit.location == "lines 4 to 7, first"
    assert hit.text == '# about the function\n@cache\ndef first(x):\n    return "\\d"'


def test_a_class_longer_than_a_passage_is_cut_at_its_methods() -> None:
    parts = read_code(PYTHON.encode(), "a.py", ReadOptions(passage_chars=48, code_chars=48))
    assert [(part.locator.get("symbol"), part.locator["lines"]) for part in parts] == [
        (None, "1-2"), ("first", "4-6"), ("first", "7-7"), ("Parser", "10-11"), ("Parser.next", "13-14"),
        ("Parser.later", "16-16"), ("Parser.later.inner", "17-17"),
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["print 'python 2'\nexec code\n", "def f(:\n", "(" * 5000])
def test_python_that_does_not_parse_is_cut_between_lines(content: str) -> None:
    parts = list(read_code(content.encode(), "a.py", ReadOptions()))
    assert parts[0].text == content.rstrip("\n") and "symbol" not in parts[0].locator


def test_typescript_and_a_transport_stream_share_a_suffix(index: Index, tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_text(TYPESCRIPT)
    assert index.add(tmp_path / "a.ts").added == 1
    (tmp_path / "b.ts").write_bytes(b"G" + bytes(187) + b"G" + bytes(187) + b"G" + bytes(187))
    (failure,) = index.add(tmp_path / "b.ts").failed
    assert "video" in failure.reason or "PyAV" in failure.reason or "container" in failure.reason


def test_source_files_without_a_line_are_skipped_in_folders(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "__init__.py").write_bytes(b"")
    (folder / "blank.py").write_bytes(b"\n\n")
    (folder / "a.py").write_text("x = 1\n")
    report = index.add(folder)
    assert (report.added, report.skipped, report.failed) == (1, {"empty .py": 2}, ())


LINES = st.lists(
    st.sampled_from(
        ["def f():", "class C:", "    def m(self):", "        x = 1", "    y = 2", "", "# c", "@d", "z"]
    ),
    max_size=40,
)


@given(lines=LINES, size=st.integers(10, 200), suffix=st.sampled_from([".py", ".js", ".rb"]))
def test_every_line_is_in_exactly_one_part_in_order(lines: list[str], size: int, suffix: str) -> None:
    parts = read_code(
        "\n".join(lines).encode() or b"\n", f"a{suffix}", ReadOptions(passage_chars=size, code_chars=size)
    )
    covered: list[int] = []
    for part in parts:
        first, last = map(int, str(part.locator["lines"]).split("-"))
        assert part.text == "\n".join(lines[first - 1 : last])
        covered += range(first, last + 1)
    assert covered == sorted(set(covered))
    assert {n for n, line in enumerate(lines, start=1) if line.strip()} <= set(covered)
