"""Each tutorial runs, and gives the outputs that were committed with it."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from tests.examples import same

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
MAX_BYTES = 150_000


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def outputs(cell: Any) -> tuple[str, list[str]]:
    """(what a cell printed and returned as text, the kinds of images it showed)."""
    texts, images = [], []
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        images += [kind for kind in data if kind.startswith("image/")]
        plain = "" if images else data.get("text/plain", "")
        texts.append(output.get("text", "") or plain)
    return "\n".join(texts).strip(), images


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Config]:
    """For a kernel over Unix sockets that sees the checkout and leaves nothing in the user's folders."""
    folder = tmp_path_factory.mktemp("jupyter")
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as short:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "run"))
        # A socket's path is limited to about 100 characters
        yield Config({"KernelManager": {"transport": "ipc", "ip": f"{short}/kernel"}})


@pytest.fixture(scope="module")
def executed(config: Config) -> dict[Path, list[Any]]:
    """path -> the cells of a tutorial, executed. All in one kernel, since importing torch takes longer than they do;
    each begins with no name defined."""
    together = read(TUTORIALS[0])
    together.cells = []
    for path in TUTORIALS:
        together.cells += [nbformat.v4.new_code_cell("%reset -f"), *read(path).cells]
    where = {"metadata": {"path": str(TUTORIALS[0].parent)}}
    NotebookClient(together, kernel_name="python3", timeout=120, resources=where, config=config).execute()
    cells = iter(together.cells)
    return {path: list(itertools.islice(cells, 1, 1 + len(read(path).cells))) for path in TUTORIALS}


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_gives_the_outputs_committed_with_it(path: Path, executed: dict[Path, list[Any]]) -> None:
    for before, after in zip(read(path).cells, executed[path], strict=True):
        (expected, images), (printed, shown) = outputs(before), outputs(after)
        assert same(printed, expected), f"{before.source}\nprints\n{printed}\nand not\n{expected}"
        assert shown == images, before.source


def test_there_are_three_tutorials_and_they_are_small() -> None:
    assert [path.stem for path in TUTORIALS] == [
        "bring-your-own-encoder",
        "compare-two-models",
        "search-a-folder",
    ]
    assert [path.name for path in TUTORIALS if path.stat().st_size > MAX_BYTES] == []


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_committed_tutorial_is_executed_and_says_nothing_of_the_machine(path: Path) -> None:
    notebook = read(path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert any(outputs(cell)[1] for cell in code), "no image in it"
    text = json.dumps([outputs(cell)[0] for cell in code])
    assert str(ROOT) not in text
    assert str(Path.home()) not in text
