"""The Python of every page of the documentation runs, and prints what stands beside it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from multimodal.cli.main import app
from tests.examples import ROOT, Block, blocks, commands, page_problems, same, unknown

PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def problems() -> dict[str, list[str]]:
    """page -> what is wrong with it. One process for all pages, since importing torch takes longer than most of them;
    not this one, since a page may register families and tasks."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.examples", *map(str, PAGES)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_the_examples_of_a_page_print_what_stands_beside_them(
    page: Path, problems: dict[str, list[str]]
) -> None:
    assert problems[str(page)] == []


def test_every_guide_has_an_example_that_runs_or_a_command_that_is_checked() -> None:
    guides = [page for page in PAGES if page.parent.name == "guides"]
    without = [
        page.stem
        for page in guides
        if not any(block.language in ("python", "bash") for block in blocks(page.read_text(encoding="utf-8")))
    ]
    assert len(guides) >= 13
    assert without == []


SHELL = [
    (page, line, command)
    for page in PAGES
    for block in blocks(page.read_text(encoding="utf-8"))
    if block.language == "bash"
    for line, command in commands(block)
]


@pytest.mark.parametrize(("page", "line", "command"), SHELL, ids=[command for _, _, command in SHELL])
def test_the_commands_of_a_page_exist_with_their_options(page: Path, line: int, command: str) -> None:
    words = shlex.split(command, comments=True)
    reason = unknown_option(words) if words[0] == "multimodal" else unknown(command)
    assert reason is None, f"{page.name}:{line}: {reason}"


def unknown_option(words: list[str]) -> str | None:
    """Why a command line of `multimodal` cannot be right; None if nothing speaks against it."""
    known: Any = typer.main.get_command(app)
    if words[1] == "--server":  # of the root, with its value
        words = [words[0], *words[3:]]
    command = known.commands.get(words[1])
    if command is None:
        return f"there is no command {words[1]!r}"
    if subcommands := getattr(command, "commands", {}):
        if words[2] not in subcommands:
            return f"{words[1]} has no command {words[2]!r}"
        command = subcommands[words[2]]
    options = {option for parameter in command.params for option in parameter.opts}
    wrong = [word for word in words if word.startswith("-") and word not in options]
    return f"{words[1]} has no option {', '.join(wrong)}" if wrong else None


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("multimodal search a.lance x -k 3", None),
        ("multimodal --server http://x search a x", None),
        ("multimodal find a.lance x", "there is no command 'find'"),
        ("multimodal scaling fit a.csv -o b.html", None),
        ("multimodal scaling predict a.csv", "scaling has no command 'predict'"),
        ("multimodal search a.lance x --distance 3", "search has no option --distance"),
    ],
)
def test_a_command_that_cannot_be_right_is_reported(command: str, reason: str | None) -> None:
    assert unknown_option(command.split()) == reason


# --- the reader itself: each check must be able to fail -------------------------------------------

SAMPLE = """# Title

```python
x = 1
```

- in a list:
  ```python
  y = x +
  ```

```text
not code
```
"""


def test_blocks_are_read_with_their_language_and_line() -> None:
    assert blocks(SAMPLE)[:2] == [Block("python", 4, "x = 1\n"), Block("python", 9, "y = x +\n")]
    assert [block.language for block in blocks(SAMPLE)] == ["python", "python", "text"]


def problems_of(text: str, folder: Path) -> list[str]:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page_problems(page, folder)


def test_an_error_in_an_example_is_reported_at_its_line(tmp_path: Path) -> None:
    (problem,) = problems_of(SAMPLE, tmp_path)
    assert 'File "page.md", line 9' in problem
    assert "SyntaxError" in problem


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("print(1 + 1)  # 2", False),
        ("print(1 + 1)  # 3", True),
        ("print(1 + 1)", True),
        ("print('a # b')  # a # b", False),
        ("for n in range(2):\n    print(n)\n# 0\n# 1", False),
        ("for n in range(2):\n    print(n)\n# 0\n# 2", True),
        ("x = 2  # two\nprint(x)  # 2", False),
        ("1 / 0", True),
    ],
)
def test_an_output_that_differs_from_its_comment_is_reported(code: str, wrong: bool, tmp_path: Path) -> None:
    assert bool(problems_of(f"```python\n{code}\n```\n", tmp_path)) is wrong


@pytest.mark.parametrize(
    ("printed", "expected", "equal"),
    [
        ("[[0.68 0.14]]", "[[0.681 0.14]]", True),
        ("[[0.68 0.14]]", "[[0.61 0.14]]", False),
        ("0.91 cat", "0.91 dog", False),
        ("[[1.   0.6 ]\n [0.6  1.  ]]", "[[1.   0.6 ]\n[0.6  1.  ]]", True),
        ("3 added", "4 added", False),
        ("0.5 0.5", "0.5", False),
    ],
)
def test_numbers_have_a_tolerance_and_words_have_none(printed: str, expected: str, equal: bool) -> None:
    assert same(printed, expected) is equal


def test_a_block_with_a_title_becomes_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    text = '```python title="answers_of_a_page.py"\nANSWER = 42\n```\n'
    text += "```python\nimport answers_of_a_page\n\nprint(answers_of_a_page.ANSWER)  # 42\n```\n"
    assert problems_of(text, tmp_path) == []


def test_a_block_that_is_not_run_must_compile(tmp_path: Path) -> None:
    assert problems_of("```py\nfetch(everything)\n```\n", tmp_path) == []
    assert "SyntaxError" in problems_of("```py\nfetch(everything\n```\n", tmp_path)[0]
