"""Runs the Python blocks of Markdown pages and compares what they print with the comments beside them.

The blocks of a page share one namespace, as for a reader who types them one after the other. A comment at the end of a
statement that prints, or on the lines directly below it, is its expected output. Numbers with a decimal point may
differ by TOLERANCE, since another machine rounds differently; everything else must be equal, apart from white space.
A block with `title="name.py"` is written to that file instead. ```py marks a block that needs more than is here:
it must compile, and is not run.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import shlex
import sys
import tempfile
import tokenize
import tomllib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = set(
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
)
# Named in examples and not run: they change the machine, or fetch. `make` and `pip` have their words checked.
KNOWN_TOOLS = {"apt-get", "cd", "git", "make", "pip", "sudo"}
TOLERANCE = 0.011
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d*")
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?P<info>[^\n]*)\n(?P<text>.*?)^(?P=indent)```", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A fenced code block. line: of the first line of its text, counted from 1."""

    language: str
    line: int
    text: str
    title: str | None = None


def blocks(markdown: str) -> list[Block]:
    """The fenced code blocks, in order; a block inside a list may be indented."""
    result = []
    for match in FENCE.finditer(markdown):
        line = markdown.count("\n", 0, match.start("text")) + 1
        text = re.sub(f"^{match['indent']}", "", match["text"], flags=re.M)
        title = re.search(r'title="([^"]+)"', match["info"])
        result.append(Block(match["language"].lower(), line, text, title and title[1]))
    return result


def commands(block: Block) -> list[tuple[int, str]]:
    """(line, command) for each command of a shell block: prompts and comments taken off, continuations joined."""
    result: list[tuple[int, str]] = []
    joined, start = "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        start = start if joined else number
        joined += line.removesuffix("\\")
        if not line.endswith("\\"):
            command = joined.strip().removeprefix("$ ")
            if shlex.split(command, comments=True):
                result.append((start, command))
            joined = ""
    return result


def make_targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z]+):", makefile, re.M))


def unknown(command: str) -> str | None:
    """Why a command that is not run cannot be right; None if nothing speaks against it."""
    for part in command.split("&&"):
        words = [word for word in shlex.split(part, comments=True) if "=" not in word]
        if words[0] not in KNOWN_TOOLS:
            return (
                f"{words[0]!r} is not a command a newcomer has: {', '.join(sorted(KNOWN_TOOLS))}, multimodal"
            )
        if words[0] == "make":
            wrong = set(words[1:]) - make_targets((ROOT / "Makefile").read_text(encoding="utf-8"))
            if wrong:
                return f"the Makefile has no target {', '.join(sorted(wrong))}"
        if words[0] == "pip":
            named = {
                extra
                for word in words
                for list_ in re.findall(r"\[(.*?)\]", word)
                for extra in list_.split(",")
            }
            if named - EXTRAS:
                return f"pyproject.toml has no extra {', '.join(sorted(named - EXTRAS))}"
    return None


def page_problems(page: Path, folder: Path) -> list[str]:
    """Runs a page in `folder` -> what is wrong with it, as "name:line: what"; stops at the first exception."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    problems: list[str] = []
    for block in blocks(page.read_text(encoding="utf-8")):
        try:
            if block.language == "python" and block.title:
                (folder / block.title).write_text(block.text, encoding="utf-8")
            elif block.language == "python":
                problems += [f"{page.name}:{line}: {text}" for line, text in run(block, page.name, namespace)]
            elif block.language == "py":
                compile(padded(block), page.name, "exec")
        except Exception:
            return [*problems, f"{page.name}:{block.line}: {traceback.format_exc()}"]
    return problems


def run(block: Block, name: str, namespace: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Runs the statements of a block, and yields (line, what) for each whose output is not the one beside it."""
    source = padded(block)
    comments = comments_of(source)
    for statement in ast.parse(source, name).body:
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile(ast.Module([statement], []), name, "exec"), namespace)
        printed = output.getvalue().strip()
        if printed:
            expected = expected_output(comments, statement.end_lineno or statement.lineno)
            if not same(printed, expected):
                yield statement.lineno, f"prints\n{printed}\nbut beside it stands\n{expected or 'nothing'}"


def padded(block: Block) -> str:
    """The text of a block, each line at the line that it has in its page, so that a traceback points there."""
    return "\n" * (block.line - 1) + block.text


def comments_of(source: str) -> dict[int, tuple[str, bool]]:
    """line -> (comment without its mark, whether it has the line for itself)."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: (token.string[1:].strip(), not token.line[: token.start[1]].strip())
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def expected_output(comments: dict[int, tuple[str, bool]], line: int) -> str:
    """The comment at the end of a statement's last line, or the lines of comments directly below it."""
    if line in comments:
        return comments[line][0]
    lines = []
    while comments.get(line + 1, ("", False))[1]:
        line += 1
        lines.append(comments[line][0])
    return "\n".join(lines)


def same(printed: str, expected: str) -> bool:
    """Whether two outputs are equal, apart from white space and the tolerance of numbers."""
    texts = [" ".join(NUMBER.sub("#", text).split()).replace("[ ", "[") for text in (printed, expected)]
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (printed, expected)]
    if texts[0] != texts[1]:
        return False
    return all(abs(a - b) <= TOLERANCE for a, b in zip(*numbers, strict=True))


def main(pages: list[str]) -> None:
    """Runs each page in a folder of its own that has the gallery, and prints {page: problems} as JSON."""
    problems = {}
    for page in pages:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            Path("assets").symlink_to(ROOT / "assets")
            sys.path.insert(0, folder)
            problems[page] = page_problems(Path(page), Path(folder))
            sys.path.remove(folder)
    print(json.dumps(problems))


if __name__ == "__main__":
    main(sys.argv[1:])
