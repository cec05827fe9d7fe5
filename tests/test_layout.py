"""Which layer may import which, and what may lie where. The rules are read from the sources with `ast`."""

import ast
import fnmatch
import functools
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

# layer -> the layers it may import besides itself
CORE = {"core"}
MODELS = CORE | {"encoders", "index", "adapt", "evaluation", "auditing", "exporting", "views"}
LAYERS: dict[str, set[str]] = {
    "core": set(),
    "encoders": CORE,
    "index": CORE,
    "adapt": CORE,
    "evaluation": CORE,
    "auditing": CORE | {"evaluation"},
    "exporting": CORE | {"encoders", "index"},
    "views": CORE | {"index"},
    "testing": CORE,
    "client": CORE | {"index", "pipelines"},  # the types of their results
    "pipelines": MODELS,
    "server": MODELS | {"pipelines"},
    "cli": MODELS | {"client", "pipelines", "server"},
}
ENTRY_LAYERS = {"server", "cli"}  # these may also use the public names, `import multimodal`
SIBLINGS = {"encoders": "family", "pipelines": "pipeline"}  # layers whose parts do not import each other
OUTSIDE = {"benchmarks", "recipes", "tests"}  # not installed, so the toolkit must not import them

# The only cycles, of imports inside functions: a small class shows itself by a module that draws it.
LAZY_FACADES: set[tuple[str, ...]] = {
    ("multimodal.core.items", "multimodal.core.media.registry"),
    ("multimodal.core.media.image", "multimodal.core.media.sniff"),
    ("multimodal.views.heatmap", "multimodal.views.png"),
}

TOP_LEVEL = {
    *("assets", "benchmarks", "docs", "encoders", "multimodal", "pipelines", "recipes", "tests"),
    *("CHANGELOG.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", "LICENSE", "README.md"),
    *("CITATION.cff", "Dockerfile", "Makefile", "mkdocs.yml", "pyproject.toml"),
    *(".ci", ".dockerignore", ".git", ".gitattributes", ".github", ".gitignore", ".pre-commit-config.yaml"),
}
MAX_LINES = 500
MAX_FILES = 20  # Python files in one folder

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


@functools.cache
def parsed(text: str) -> ast.Module:
    """Several checks read the same sources."""
    return ast.parse(text)


def imports(file: Path) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """(line, level, names) of each import statement, nested and type-checking ones too.

    For `from a import b, c` the names are a.b and a.c, since only the file system knows which are modules.
    """
    for node in ast.walk(parsed(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield node.lineno, 0, tuple(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.level, tuple(f"{node.module}.{alias.name}" for alias in node.names)


def forbidden(module: str, imported: str, modules: dict[str, Path]) -> str | None:
    """Why `module` may not import `imported`; None if it may."""
    here, there = module.split("."), imported.split(".")
    if there[0] in ("encoders", "pipelines"):
        return f"imports bare {there[0]!r}: write multimodal.{there[0]}"
    if there[0] in OUTSIDE:
        return f"imports {there[0]!r}, which is not installed with the toolkit"
    if there[0] != "multimodal" or len(here) == 1 or here[1] == "__main__":
        return None
    layer = here[1]
    if len(there) == 1 or there[1] not in LAYERS:
        return None if layer in ENTRY_LAYERS else "imports the public names: name the module that defines it"
    if there[1] != layer and there[1] not in LAYERS[layer]:
        return f"imports {there[1]!r} from layer {layer!r}"
    if there[1] == layer in SIBLINGS and len(here) > 2 and len(there) > 2 and here[2] != there[2]:
        return f"a {SIBLINGS[layer]} imports its sibling {there[2]!r}: what they share belongs in multimodal.core"
    return foreign_private(here, there, modules)


def foreign_private(here: list[str], there: list[str], modules: dict[str, Path]) -> str | None:
    """Why an import of a private module or name is refused: it belongs to another package. None if it is allowed."""
    private = next(
        (place for place, name in enumerate(there) if name.startswith("_") and name[1:2] != "_"), None
    )
    if private is None:
        return None
    owner = there[:private]
    file = modules.get(".".join(owner))
    if file is not None and file.name != "__init__.py":
        owner = owner[:-1]  # a name in a module is private to the package of the module
    if here[: len(owner)] == owner and len(owner) > 1:
        return None
    return f"imports {there[private]!r}, which is private to {'.'.join(owner)}"


def violations(root: Path) -> list[str]:
    """Every breach of the import rules, as "file:line: what"."""
    breaches = []
    modules = dict(sources(root))
    for module, file in modules.items():
        where = file.relative_to(root)
        layer = module.split(".")[1] if "." in module else "__main__"
        if layer not in LAYERS and layer != "__main__":
            breaches.append(f"{where}:1: {layer!r} is not a layer: {', '.join(LAYERS)}")
            continue
        for line, level, names in imports(file):
            if level:
                breaches.append(f"{where}:{line}: relative import: write multimodal.…")
                continue
            reasons = dict.fromkeys(forbidden(module, name, modules) for name in names)
            breaches += [f"{where}:{line}: {reason}" for reason in reasons if reason]
    for top in sorted(OUTSIDE):
        for file in sorted((root / top).rglob("*.py")):
            for line, level, names in imports(file):
                bare = {name.split(".")[0] for name in names} & {"encoders", "pipelines"}
                if bare and not level:
                    breaches.append(
                        f"{file.relative_to(root)}:{line}: imports bare {min(bare)!r}: write multimodal.…"
                    )
    return breaches


def runtime_imports(node: ast.AST, *, lazy: bool) -> Iterator[str]:
    """The names that code imports when it runs; `lazy`: those in functions too. TYPE_CHECKING blocks never run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not lazy:
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from runtime_imports(child, lazy=lazy)


def cycles(root: Path, *, lazy: bool) -> set[tuple[str, ...]]:
    """Groups of modules that import each other, directly or through others, each sorted by name."""
    modules = dict(sources(root))
    graph: dict[str, set[str]] = {}
    for module, file in modules.items():
        graph[module] = set()
        for name in runtime_imports(parsed(file.read_text(encoding="utf-8")), lazy=lazy):
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if name not in ("", "multimodal", module):
                graph[module].add(name)
    reachable = {module: closure(graph, module) for module in graph}
    groups = {
        tuple(sorted({other for other in reach if module in reachable[other]}))
        for module, reach in reachable.items()
        if module in reach
    }
    return groups


def closure(graph: dict[str, set[str]], start: str) -> set[str]:
    """The modules that can be reached from one by at least one import."""
    reached: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += graph[module]
    return reached


def too_full(root: Path) -> list[str]:
    """Folders with more Python files than the limit."""
    counts: dict[Path, int] = {}
    for top in ("multimodal", "encoders", "pipelines", "tests", "recipes", "benchmarks"):
        for file in (root / top).rglob("*.py"):
            if not any(parent.is_symlink() for parent in file.relative_to(root).parents):
                folder = file.parent.relative_to(root)
                counts[folder] = counts.get(folder, 0) + 1
    return [
        f"{folder}: {n} Python files, at most {MAX_FILES}"
        for folder, n in sorted(counts.items())
        if n > MAX_FILES
    ]


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


def unexpected(root: Path) -> list[str]:
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


def test_every_layer_imports_only_what_lies_below_it() -> None:
    assert violations(ROOT) == []


def test_every_layer_is_checked() -> None:
    modules = {module for module, _ in sources(ROOT)}
    expected = {"multimodal", "multimodal.core.space", "multimodal.encoders.starter", "multimodal.pipelines"}
    assert expected <= modules
    assert len(modules) == len(list(sources(ROOT)))


def test_no_modules_import_each_other() -> None:
    assert cycles(ROOT, lazy=False) == set()
    assert len(LAZY_FACADES) <= 3
    assert cycles(ROOT, lazy=True) <= LAZY_FACADES


def test_folders_stay_small() -> None:
    assert too_full(ROOT) == []


def test_modules_stay_short() -> None:
    assert too_long(ROOT) == []


def test_nothing_else_lies_at_the_top() -> None:
    assert unexpected(ROOT) == []


@pytest.mark.parametrize("folder", ["assets", "encoders", "pipelines"])
def test_the_folders_at_the_top_are_links_inside_the_package(folder: str) -> None:
    link = ROOT / "multimodal" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..") / folder


@pytest.mark.parametrize("folder", ["encoders", "pipelines"])
def test_a_bare_folder_refuses_to_be_imported(folder: str, tmp_path: Path) -> None:
    result = run(f"import {folder}", tmp_path)
    assert result.returncode != 0
    assert "ImportError" in result.stderr
    assert f"multimodal.{folder}" in result.stderr


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
    assert int(cards) > 0 or family in ("bridged", "onnx")  # made from others: no name to list
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


def test_each_public_name_is_the_item_the_stub_says() -> None:
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
    "encoders/alpha/__init__.py": "from multimodal.core.encoder import Encoder\n"
    "from multimodal.encoders.alpha._words import x\n",
    "encoders/alpha/networks.py": "import multimodal.encoders.alpha._words\n"
    "from multimodal.encoders.alpha._words import _private\n",
    "encoders/alpha/_words.py": "",
    "pipelines/tell.py": "from multimodal.index import Index\nfrom multimodal.encoders.alpha import load\n",
    "tests/test_it.py": "import multimodal.encoders\n",
}
BROKEN = [
    (
        "multimodal/core/space.py",
        "from multimodal.encoders.alpha import X",
        "imports 'encoders' from layer 'core'",
    ),
    ("multimodal/core/space.py", "from multimodal import encoders", "imports 'encoders' from layer 'core'"),
    (
        "multimodal/core/space.py",
        "def f():\n    import multimodal.index",
        "imports 'index' from layer 'core'",
    ),
    (
        "multimodal/core/space.py",
        "if TYPE_CHECKING:\n    import multimodal.cli",
        "imports 'cli' from layer 'core'",
    ),
    ("multimodal/core/space.py", "from multimodal import load", "imports the public names"),
    ("multimodal/core/space.py", "import multimodal", "imports the public names"),
    (
        "multimodal/core/space.py",
        "from recipes.starter import data",
        "imports 'recipes', which is not installed",
    ),
    ("multimodal/core/space.py", "from . import types", "relative import"),
    ("multimodal/index/storage/table.py", "import multimodal.adapt", "imports 'adapt' from layer 'index'"),
    (
        "multimodal/index/storage/table.py",
        "import multimodal.pipelines.tell",
        "imports 'pipelines' from layer 'index'",
    ),
    ("multimodal/server/app.py", "import multimodal.cli.main", "imports 'cli' from layer 'server'"),
    ("multimodal/other/thing.py", "", "'other' is not a layer"),
    (
        "encoders/alpha/__init__.py",
        "from multimodal.encoders.beta import X",
        "a family imports its sibling 'beta'",
    ),
    (
        "encoders/alpha/__init__.py",
        "from multimodal.encoders import beta",
        "a family imports its sibling 'beta'",
    ),
    (
        "encoders/alpha/__init__.py",
        "from multimodal.encoders._shared import x",
        "a family imports its sibling '_shared'",
    ),
    ("encoders/alpha/networks.py", "import multimodal.encoders.beta", "a family imports its sibling 'beta'"),
    (
        "pipelines/tell.py",
        "from multimodal.encoders.alpha import _words",
        "private to multimodal.encoders.alpha",
    ),
    ("pipelines/tell.py", "from multimodal.core.space import _cosines", "private to multimodal.core"),
    ("pipelines/tell.py", "import multimodal.encoders.alpha._words", "private to multimodal.encoders.alpha"),
    ("encoders/alpha/__init__.py", "import encoders.beta", "imports bare 'encoders'"),
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
    for folder in ("encoders", "pipelines"):
        (tmp_path / "multimodal" / folder).symlink_to(Path("..") / folder)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_tree_that_keeps_the_rules_passes(tree: Path) -> None:
    assert violations(tree) == []
    assert too_long(tree) == []
    assert unexpected(tree) == []
    assert too_full(tree) == []
    assert cycles(tree, lazy=True) == set()


@pytest.mark.parametrize(("name", "line", "reason"), BROKEN)
def test_a_breach_is_reported_with_its_place(tree: Path, name: str, line: str, reason: str) -> None:
    write(tree / name, f"{CLEAN.get(name, '')}{line}\n")
    (breach,) = violations(tree)
    assert breach.startswith(f"{name}:")
    assert reason in breach


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


def test_an_unexpected_entry_at_the_top_is_reported_and_what_git_ignores_is_not(tree: Path) -> None:
    for name in (".venv", "demo", "memories.lance", "notes"):
        (tree / name).mkdir()
    assert unexpected(tree) == ["notes"]


def test_a_full_folder_is_reported(tree: Path) -> None:
    for number in range(MAX_FILES):
        write(tree / "recipes" / "many" / f"m{number}.py", "")
    assert too_full(tree) == []
    write(tree / "recipes" / "many" / "last.py", "")
    assert too_full(tree) == ["recipes/many: 21 Python files, at most 20"]


def test_a_cycle_is_reported_and_one_in_functions_or_types_is_distinguished(tree: Path) -> None:
    names = [f"multimodal.core.{name}" for name in ("a", "b", "c")]
    write(tree / "multimodal/core/a.py", "from multimodal.core import b\n")
    write(tree / "multimodal/core/b.py", "import multimodal.core.c\n")
    write(tree / "multimodal/core/c.py", "if TYPE_CHECKING:\n    from multimodal.core.a import X\n")
    assert cycles(tree, lazy=True) == set()
    write(tree / "multimodal/core/c.py", "def f():\n    from multimodal.core.a import X\n")
    assert cycles(tree, lazy=False) == set()
    assert cycles(tree, lazy=True) == {tuple(names)}
    write(tree / "multimodal/core/c.py", "from multimodal.core.a import X\n")
    assert cycles(tree, lazy=False) == {tuple(names)}
