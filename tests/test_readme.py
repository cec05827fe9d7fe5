"""What README.md prints is what happens: its Python runs as printed, its commands exist, its files are there."""

import re
import shlex
from pathlib import Path

import pytest

import multimodal
from multimodal.core.catalog import families
from tests.cli.conftest import Cli, cli
from tests.examples import blocks, commands, page_problems, unknown

__all__ = ["cli"]  # a fixture

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader sits who types what the README prints, one example after the other."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "assets").symlink_to(ROOT / "assets")
    return folder


@pytest.fixture
def at_the_desk(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, as the current one and as the home folder."""
    monkeypatch.chdir(desk)
    monkeypatch.setenv("HOME", str(desk))
    return desk


def shell_commands() -> list[tuple[int, str]]:
    result = blocks(README.read_text(encoding="utf-8")) if README.exists() else []
    return [
        command
        for block in result
        if block.language in ("bash", "sh", "console")
        for command in commands(block)
    ]


def test_the_python_prints_what_stands_beside_it(at_the_desk: Path) -> None:
    examples = [block for block in blocks(README.read_text(encoding="utf-8")) if block.language == "python"]
    assert len(examples) >= 5
    assert page_problems(README, at_the_desk) == []


def test_the_two_commands_of_a_newcomer_are_there() -> None:
    printed = " ; ".join(command for _, command in shell_commands())
    assert "make demo" in printed
    assert "make test" in printed


@pytest.mark.parametrize(("line", "command"), shell_commands())
def test_the_commands_work_as_printed(at_the_desk: Path, cli: Cli, line: int, command: str) -> None:
    """In this process: test_packaging.py and test_main.py start the program as a shell does."""
    program, *arguments = shlex.split(command, comments=True)
    if program == "multimodal":
        outcome = cli(*arguments)
        assert outcome.code == 0, f"{command}\n{outcome.stdout}\n{outcome.stderr}"
    else:
        reason = unknown(command)
        assert reason is None, f"README.md:{line}: {reason}"


def test_the_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    local = [target for target in targets if not target.startswith(("http://", "https://", "mailto:"))]
    assert [target for target in local if not (ROOT / target).exists()] == []


# --- the reader itself: each must be able to fail ------------------------------------------------

SAMPLE = """# Title

```python
x = 1
```

- in a list:
  ```python
  y = x +
  ```

```bash
# not a command
$ make demo   # tables
multimodal search memories.lance \\
    "a sad cat"
```

```text
not code
```
"""


def test_commands_are_read_without_prompt_and_comment() -> None:
    assert commands(blocks(SAMPLE)[2]) == [
        (14, "make demo   # tables"),
        (15, 'multimodal search memories.lance     "a sad cat"'),
    ]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("make demo", None),
        ("make PYTHON=python3.12 test  # another Python", None),
        ("make supper", "the Makefile has no target supper"),
        ("pip install -e '.[heic,av]'", None),
        ("pip install 'multimodal[heic,ham]'", "pyproject.toml has no extra ham"),
        ("git clone https://example.org/multimodal && cd multimodal", None),
        ("cd multimodal && make supper", "the Makefile has no target supper"),
        ("multimedia search x", "'multimedia' is not a command a newcomer has"),
    ],
)
def test_a_command_that_cannot_be_right_is_reported(command: str, reason: str | None) -> None:
    problem = unknown(command)
    assert problem == reason if reason is None else reason in (problem or "")


# --- names ---------------------------------------------------------------------------------------


def card_rows(markdown: str) -> list[list[str]]:
    """The cells of the table whose head is `name | takes | dim | licence`."""
    table = re.search(r"^\| name \| takes \| dim \| licence \|\n\|[-:| ]+\|\n((?:\|.*\n)+)", markdown, re.M)
    lines = table[1].splitlines() if table else []
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_names_says_what_the_cards_say() -> None:
    known = {card.name: card for card in multimodal.cards()}
    rows = card_rows(README.read_text(encoding="utf-8"))
    assert len(rows) >= 8
    for name, takes, dim, licence in rows:
        card = known[name.strip("`")]
        assert takes == ", ".join(card.modalities)
        assert int(dim) == card.dim
        assert licence.removesuffix(", non-commercial") == card.licence
        assert card.commercial or "commercial" in licence


def test_every_family_is_in_the_table_of_names() -> None:
    text = README.read_text(encoding="utf-8")
    named = {
        word
        for cell in re.findall(r"^\| (`.*?) \|", text, re.M)
        for word in re.findall(r"`([a-z0-9-]+)", cell)
    }
    hidden = {"bridged"}  # loaded from saved spaces only
    assert set(families()) - hidden <= named
