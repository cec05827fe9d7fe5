"""Who may import whom, and what may stand where. Rules are read from the sources with `ast`, not by importing."""

import ast
import fnmatch
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import multimodal

ROOT = Path(__file__).resolve().parent.parent

# room -> the rooms it may import besides itself: core <- encoders, index, adapt <- pipelines <- web, server, cli;
# views, which draws, stands on the index.
GROUND = {"core"}
MODELS = GROUND | {"encoders", "index", "adapt", "views"}
ROOMS = {
    "core": set(),
    "encoders": GROUND,
    "index": GROUND,
    "adapt": GROUND,
    "views": GROUND | {"index"},
    "pipelines": MODELS,
    "web": MODELS | {"pipelines"},
    "server": MODELS | {"pipelines", "web"},
    "cli": MODELS | {"pipelines", "web", "server"},
}
WAYS_IN = {"web", "server", "cli"}  # these may also use the public face, `import multimodal`
APART = {"encoders": "family", "pipelines": "pipeline"}  # rooms whose public modules do not know each other
OUTSIDE = {"benchmarks", "recipes", "tests"}  # what the toolkit must not lean on

TOP_LEVEL = {
    *("assets", "benchmarks", "docs", "encoders", "multimodal", "pipelines", "recipes", "tests"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", "LICENSE", "README.md"),
    *("CITATION.cff", "Dockerfile", "Makefile", "mkdocs.yml", "pyproject.toml"),
    *(".ci", ".dockerignore", ".git", ".gitattributes", ".github", ".gitignore", ".pre-commit-config.yaml"),
}
MAX_LINES = 500

# What `import multimodal` must leave alone: each costs tens of milliseconds to seconds.
HEAVY = {
    "torch",
    "torchaudio",
    "numpy",
    "PIL",
    "lancedb",
    "pyarrow",
    "soundfile",
    "tokenizers",
    "transformers",
}
HEAVY |= {"open_clip", "diffusers", "huggingface_hub", "typer", "rich", "av", "pillow_heif"}


def sources(root: Path) -> Iterator[tuple[str, Path]]:
    """(module name, file) for each Python file of the toolkit, each once, under its one name."""
    for top, prefix in (("multimodal", ""), ("encoders", "multimodal."), ("pipelines", "multimodal.")):
        for file in sorted((root / top).rglob("*.py")):
            if not any(parent.is_symlink() for parent in file.relative_to(root).parents):
                parts = [*file.relative_to(root).with_suffix("").parts]
                yield prefix + ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imports(file: Path) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """(line, level, names) of each import statement, nested and type-checking ones too.

    For `from a import b, c` the names are a.b and a.c, since only the file system knows which are modules.
    """
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield node.lineno, 0, tuple(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.level, tuple(f"{node.module}.{alias.name}" for alias in node.names)


def forbidden(module: str, imported: str) -> str | None:
    """Why `module` may not import `imported`; None if it may."""
    here, there = module.split("."), imported.split(".")
    if there[0] in ("encoders", "pipelines"):
        return f"imports bare {there[0]!r}: write multimodal.{there[0]}"
    if there[0] in OUTSIDE:
        return f"imports {there[0]!r}, which is not installed with the toolkit"
    if there[0] != "multimodal" or len(here) == 1 or here[1] == "__main__":
        return None
    room = here[1]
    if len(there) == 1 or there[1] not in ROOMS:
        return None if room in WAYS_IN else "imports the public face: name the module that defines it"
    if there[1] != room:
        return None if there[1] in ROOMS[room] else f"imports {there[1]!r} from room {room!r}"
    if room not in APART or len(here) < 3 or len(there) < 3 or here[2] == there[2]:
        return None
    if there[2].startswith("_") and first_word(there[2]) == first_word(
        here[2]
    ):  # starter.py has _starter_nets.py
        return None
    return f"a {APART[room]} imports its sibling {there[2]!r}: what they share belongs in multimodal.core"


def first_word(name: str) -> str:
    return name.lstrip("_").partition("_")[0]


def violations(root: Path) -> list[str]:
    """Every breach of the import rules, as "file:line: what"."""
    found = []
    for module, file in sources(root):
        where = file.relative_to(root)
        room = module.split(".")[1] if "." in module else "__main__"
        if room not in ROOMS and room != "__main__":
            found.append(f"{where}:1: {room!r} is not a room: {', '.join(ROOMS)}")
            continue
        for line, level, names in imports(file):
            if level:
                found.append(f"{where}:{line}: relative import: write multimodal.…")
                continue
            reasons = dict.fromkeys(forbidden(module, name) for name in names)
            found += [f"{where}:{line}: {reason}" for reason in reasons if reason]
    for top in sorted(OUTSIDE):
        for file in sorted((root / top).rglob("*.py")):
            for line, level, names in imports(file):
                bare = {name.split(".")[0] for name in names} & {"encoders", "pipelines"}
                if bare and not level:
                    found.append(
                        f"{file.relative_to(root)}:{line}: imports bare {min(bare)!r}: write multimodal.…"
                    )
    return found


def too_long(root: Path) -> list[str]:
    """Modules over the limit; tests may be as long as what they test asks for."""
    files = [file for _, file in sources(root)]
    files += [file for top in ("benchmarks", "recipes") for file in sorted((root / top).rglob("*.py"))]
    counts = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    return [
        f"{file.relative_to(root)}: {n} lines, at most {MAX_LINES}"
        for file, n in counts.items()
        if n > MAX_LINES
    ]


def strangers(root: Path) -> list[str]:
    """Entries at the top that are neither part of the layout nor ignored by git."""
    lines = (root / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = [line.strip("/") for line in lines if line and not line.startswith("#")]
    names = {path.name for path in root.iterdir()} - TOP_LEVEL
    return sorted(name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in ignored))


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a new interpreter that sees the checkout."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def stub_names() -> dict[str, str | None]:
    """public name -> the module that multimodal/__init__.pyi takes it from (None: declared there)."""
    names: dict[str, str | None] = {}
    for node in ast.parse((ROOT / "multimodal/__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            prefix = "multimodal." if node.level else ""
            origin = f"{prefix}{node.module or ''}".rstrip(
                "."
            )  # `from . import adapt` is of multimodal itself
            names |= {alias.asname or alias.name: origin for alias in node.names}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = None
    return names


def families() -> list[str]:
    """The public modules of encoders/."""
    return sorted(
        file.stem for file in (ROOT / "encoders").glob("[!_]*") if file.suffix == ".py" or file.is_dir()
    )


# --- the project ---------------------------------------------------------------------------------


def test_every_room_imports_only_what_stands_below_it() -> None:
    assert violations(ROOT) == []


def test_every_room_was_looked_at() -> None:
    modules = {module for module, _ in sources(ROOT)}
    expected = {"multimodal", "multimodal.core.space", "multimodal.encoders.starter", "multimodal.pipelines"}
    assert expected <= modules
    assert len(modules) == len(list(sources(ROOT)))


def test_modules_stay_short() -> None:
    assert too_long(ROOT) == []


def test_nothing_else_stands_at_the_top() -> None:
    assert strangers(ROOT) == []


@pytest.mark.parametrize("room", ["assets", "encoders", "pipelines"])
def test_the_rooms_at_the_top_are_links_inside(room: str) -> None:
    link = ROOT / "multimodal" / room
    assert link.is_symlink()
    assert link.readlink() == Path("..") / room


@pytest.mark.parametrize("room", ["encoders", "pipelines"])
def test_a_bare_room_refuses_to_be_imported(room: str, tmp_path: Path) -> None:
    result = run(f"import {room}", tmp_path)
    assert result.returncode != 0
    assert "ImportError" in result.stderr
    assert f"multimodal.{room}" in result.stderr


def test_importing_multimodal_imports_nothing_heavy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = """
import json, sys, time
before, start = set(sys.modules), time.perf_counter()
import multimodal
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted({name.partition(".")[0] for name in set(sys.modules) - before})]))
"""
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr
    seconds, loaded = json.loads(result.stdout)
    assert "multimodal" in loaded
    assert HEAVY & set(loaded) == set()
    with capsys.disabled():
        print(f"\n  import multimodal: {seconds * 1000:.0f} ms")


@pytest.mark.parametrize("family", families())
def test_a_family_is_cheap_to_look_at(family: str, tmp_path: Path) -> None:
    """Listing the cards of every family must not cost the import of every library."""
    code = f"import sys, multimodal.encoders.{family} as family; print(len(family.CARDS), *sys.modules)"
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr
    cards, *loaded = result.stdout.split()
    assert int(cards) > 0 or family == "bridged"  # which is made from others, and has no name to list
    assert {"torch", "transformers", "open_clip", "sentence_transformers", "diffusers"} & set(loaded) == set()


def test_listing_the_cards_of_all_families_imports_no_model_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = """
import json, sys, time
start = time.perf_counter()
import multimodal
cards = len(multimodal.cards())
print(json.dumps([time.perf_counter() - start, cards, sorted({name.partition(".")[0] for name in sys.modules})]))
"""
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr
    seconds, cards, loaded = json.loads(result.stdout)
    assert cards > 50
    assert {"torch", "numpy", "transformers", "open_clip", "sentence_transformers", "diffusers"} & set(
        loaded
    ) == set()
    with capsys.disabled():
        print(f"\n  multimodal.cards(): {cards} cards in {seconds * 1000:.0f} ms")


def test_the_public_names_are_those_of_the_stub() -> None:
    names = stub_names()
    assert len(names) > 10
    assert sorted(multimodal.__all__) == sorted(set(names) - {"__version__"})
    assert set(multimodal.__all__) <= set(dir(multimodal))


def test_each_public_name_is_the_thing_the_stub_says() -> None:
    for name, origin in stub_names().items():
        value = getattr(multimodal, name)
        if origin is not None:
            assert value is getattr(importlib.import_module(origin), name), name


def test_a_name_that_is_not_public_is_refused() -> None:
    with pytest.raises(AttributeError, match="torch"):
        multimodal.torch  # noqa: B018


# --- the checks themselves: each must be able to fail --------------------------------------------

CLEAN = {
    "multimodal/__init__.py": "import lazy_loader\n",
    "multimodal/__main__.py": "from multimodal.cli.main import main\n",
    "multimodal/core/space.py": "from multimodal.core.items import Text\nfrom multimodal.core import types\n",
    "multimodal/index/storage/table.py": "import lancedb\nfrom multimodal.core import errors\n",
    "multimodal/cli/main.py": "import multimodal\nimport multimodal.index.storage.table\nfrom multimodal import load\n",
    "encoders/__init__.py": "",
    "encoders/alpha.py": "from multimodal.core.encoder import Encoder\nfrom multimodal.encoders import _alpha_nets\n",
    "encoders/_alpha_nets.py": "from multimodal.encoders._alpha_words import x\n",
    "pipelines/tell.py": "from multimodal.index import Index\nfrom multimodal.encoders.alpha import load\n",
    "tests/test_it.py": "import multimodal.encoders\n",
}
BROKEN = [
    (
        "multimodal/core/space.py",
        "from multimodal.encoders.alpha import X",
        "imports 'encoders' from room 'core'",
    ),
    ("multimodal/core/space.py", "from multimodal import encoders", "imports 'encoders' from room 'core'"),
    ("multimodal/core/space.py", "def f():\n    import multimodal.index", "imports 'index' from room 'core'"),
    (
        "multimodal/core/space.py",
        "if TYPE_CHECKING:\n    import multimodal.cli",
        "imports 'cli' from room 'core'",
    ),
    ("multimodal/core/space.py", "from multimodal import load", "imports the public face"),
    ("multimodal/core/space.py", "import multimodal", "imports the public face"),
    (
        "multimodal/core/space.py",
        "from recipes.starter import data",
        "imports 'recipes', which is not installed",
    ),
    ("multimodal/core/space.py", "from . import types", "relative import"),
    ("multimodal/index/storage/table.py", "import multimodal.adapt", "imports 'adapt' from room 'index'"),
    (
        "multimodal/index/storage/table.py",
        "import multimodal.pipelines.tell",
        "imports 'pipelines' from room 'index'",
    ),
    ("multimodal/server/app.py", "import multimodal.cli.main", "imports 'cli' from room 'server'"),
    ("multimodal/cellar/wine.py", "", "'cellar' is not a room"),
    ("encoders/alpha.py", "from multimodal.encoders.beta import X", "a family imports its sibling 'beta'"),
    ("encoders/alpha.py", "from multimodal.encoders import beta", "a family imports its sibling 'beta'"),
    (
        "encoders/alpha.py",
        "from multimodal.encoders import _beta_nets",
        "a family imports its sibling '_beta_nets'",
    ),
    ("encoders/_alpha_nets.py", "import multimodal.encoders.alpha", "a family imports its sibling 'alpha'"),
    ("encoders/alpha.py", "import encoders.beta", "imports bare 'encoders'"),
    ("pipelines/tell.py", "import multimodal.pipelines.draw", "a pipeline imports its sibling 'draw'"),
    ("pipelines/tell.py", "from pipelines import draw", "imports bare 'pipelines'"),
    ("tests/test_it.py", "import encoders", "imports bare 'encoders'"),
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small project that keeps every rule."""
    for name, text in CLEAN.items():
        write(tmp_path / name, text)
    write(tmp_path / ".gitignore", "# tools\n.venv/\n/demo/\n*.lance/\n")
    for room in ("encoders", "pipelines"):
        (tmp_path / "multimodal" / room).symlink_to(Path("..") / room)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_tree_that_keeps_the_rules_passes(tree: Path) -> None:
    assert violations(tree) == []
    assert too_long(tree) == []
    assert strangers(tree) == []


@pytest.mark.parametrize(("name", "line", "reason"), BROKEN)
def test_a_breach_is_found_and_said_where(tree: Path, name: str, line: str, reason: str) -> None:
    write(tree / name, f"{CLEAN.get(name, '')}{line}\n")
    (found,) = violations(tree)
    assert found.startswith(f"{name}:")
    assert reason in found


def test_the_links_are_not_followed_a_second_time(tree: Path) -> None:
    names = [module for module, _ in sources(tree)]
    assert names.count("multimodal.encoders.alpha") == 1
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", ["pipelines/tell.py", "multimodal/core/space.py", "recipes/long.py"])
def test_a_long_module_is_found(tree: Path, name: str) -> None:
    write(tree / name, "x = 1\n" * MAX_LINES)
    assert too_long(tree) == []
    write(tree / name, "x = 1\n" * (MAX_LINES + 1))
    assert too_long(tree) == [f"{name}: 501 lines, at most 500"]


def test_a_stranger_at_the_top_is_found_and_what_git_ignores_is_not(tree: Path) -> None:
    for name in (".venv", "demo", "memories.lance", "notes"):
        (tree / name).mkdir()
    assert strangers(tree) == ["notes"]
