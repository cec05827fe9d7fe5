"""The toolkit as others install it: sdist, wheel and editable install each carry every room, away from the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PARTS = ("LICENSE", "README.md", "assets", "encoders", "multimodal", "pipelines", "pyproject.toml")
ROOMS_AT_THE_TOP = ("assets", "encoders", "pipelines")

# Run inside an installation, from an empty folder. Prints where everything was found.
PROBE = """
import importlib, importlib.metadata, json, pkgutil, sys
import multimodal
from multimodal.core.paths import assets

for name in multimodal.__all__:
    getattr(multimodal, name)
modules = [module.name for module in pkgutil.walk_packages(multimodal.__path__, "multimodal.")]
for name in modules:
    if name != "multimodal.__main__":
        importlib.import_module(name)
vector = multimodal.load("starter").encode("a red apple")
print(json.dumps({
    "file": multimodal.__file__,
    "encoders": importlib.import_module("multimodal.encoders").__file__,
    "version": multimodal.__version__,
    "metadata": importlib.metadata.version("multimodal"),
    "modules": sorted(modules),
    "assets": sorted(str(path.relative_to(assets())) for path in assets().rglob("*") if path.is_file()),
    "assets_at": str(assets()),
    "vector": [list(vector.shape), str(vector.dtype), float((vector * vector).sum())],
}))
"""

# The same of an installation that is the tree: whether all modules can be imported from it, other tests show.
PROBE_OF_THE_TREE = """
import importlib, json
import multimodal
from multimodal.core.paths import assets
from multimodal.encoders.newcomer import ANSWER

print(json.dumps({
    "file": multimodal.__file__,
    "encoders": importlib.import_module("multimodal.encoders").__file__,
    "assets_at": str(assets()),
    "answer": ANSWER,
}))
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Runs a command that knows nothing of this checkout; shows all it said if it fails."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def copy_of_the_tree(folder: Path) -> Path:
    """What git would hand to a newcomer, links as links."""
    folder.mkdir()
    for name in PARTS:
        source = ROOT / name
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")
            shutil.copytree(source, folder / name, symlinks=True, ignore=unwanted)
        else:
            shutil.copy(source, folder / name)
    return folder


def build(source: Path, kind: str, target: Path) -> Path:
    """Calls the hook of PEP 517 as build frontends do: "sdist" or "wheel"."""
    code = f"import sys, setuptools.build_meta as backend; backend.build_{kind}(sys.argv[1])"
    run(sys.executable, "-c", code, target, cwd=source)
    (built,) = target.iterdir()
    return built


def fresh_environment(folder: Path) -> Path:
    """A new environment's python. It sees what is installed here, but behind its own site-packages.

    A .pth file adds the folders as they are: the .pth files in them, such as that of an editable install of this very
    project, are not read.
    """
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    own = Path(
        run(python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    ours = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (own / "borrowed.pth").write_text("\n".join(ours))
    return python


def install(python: Path, *what: str | Path) -> None:
    options = ("install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--no-compile")
    run(sys.executable, "-m", "pip", "--python", python, *options, *what, cwd=python.parent)


def probe(python: Path, folder: Path, code: str = PROBE) -> dict[str, Any]:
    result = run(python, "-I", "-W", "error", "-c", code, cwd=folder)
    answer: dict[str, Any] = json.loads(result)
    return answer


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def files_below(folder: Path, *patterns: str) -> list[str]:
    results = {
        str(file.relative_to(folder))
        for pattern in patterns
        for file in folder.glob(pattern)
        if file.is_file()
    }
    return sorted(name for name in results if "__pycache__" not in name)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_the_tree(tmp_path_factory.mktemp("tree") / "multimodal")


@pytest.fixture(scope="module")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tree, "sdist", tmp_path_factory.mktemp("sdist") / "dist")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as an installer that finds no wheel would."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = folder.iterdir()
    return build(unpacked, "wheel", folder / "dist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment that has the wheel."""
    python = fresh_environment(tmp_path_factory.mktemp("installed") / "venv")
    install(python, wheel)
    return python


def test_the_list_of_packages_is_complete() -> None:
    inside = (file for file in (ROOT / "multimodal").rglob("__init__.py"))
    results = {".".join(file.relative_to(ROOT).parent.parts) for file in inside}
    for room in ROOMS_AT_THE_TOP:
        parents = {file.relative_to(ROOT).parent for file in (ROOT / room).rglob("__init__.py")}
        results |= {".".join(("multimodal", *parent.parts)) for parent in parents} | {f"multimodal.{room}"}
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(results)


def test_the_wheel_from_the_sdist_is_the_wheel_from_the_tree(
    tree: Path, wheel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    direct = contents(build(tree, "wheel", tmp_path / "dist"))
    through = contents(wheel)
    assert sorted(through) == sorted(direct)
    assert all(through[name] == direct[name] for name in direct if not name.endswith(("/RECORD", "/WHEEL")))
    with capsys.disabled():
        print(f"\n  {wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")


def test_the_wheel_holds_every_module_and_asset_and_nothing_else(wheel: Path) -> None:
    own = [name for name in contents(wheel) if ".dist-info/" not in name]
    inside = files_below(ROOT / "multimodal", "*.py", "*.pyi", "py.typed")
    for package in (ROOT / "multimodal").iterdir():
        if package.is_dir() and not package.is_symlink():
            inside += [f"{package.name}/{name}" for name in files_below(package, "**/*.py")]
    for room in ("encoders", "pipelines"):
        inside += [f"{room}/{name}" for name in files_below(ROOT / room, "**/*.py")]
    for page in ("server/page", "exporting/page/site"):
        files = files_below(ROOT / "multimodal" / page, "*.html", "*.js", "*.css", "*.svg")
        inside += [f"{page}/{name}" for name in files]
    inside += [f"assets/{name}" for name in files_below(ROOT / "assets", "starter/**/*", "gallery/**/*")]
    assert sorted(own) == sorted(f"multimodal/{name}" for name in inside)


def test_the_wheel_names_its_licence_and_what_it_needs(wheel: Path) -> None:
    files = contents(wheel)
    (metadata,) = (text.decode() for name, text in files.items() if name.endswith(".dist-info/METADATA"))
    (licence,) = (
        text.decode() for name, text in files.items() if name.endswith(".dist-info/licenses/LICENSE")
    )
    assert "Version 2.0, January 2004" in licence
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata
    assert "\nRequires-Dist: torch<2.15,>=2.11\n" in metadata
    assert set(re.findall(r"^Provides-Extra: (\w+)$", metadata, re.MULTILINE)) >= {
        "all",
        "av",
        "heic",
        "hf",
        "openclip",
    }


def test_the_installed_wheel_works_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    result = probe(installed, tmp_path)
    home = installed.parent.parent.resolve()
    for key in ("file", "encoders", "assets_at"):
        assert Path(result[key]).resolve().is_relative_to(home), result[key]
    assert result["version"] == result["metadata"] == PYPROJECT["project"]["version"]
    assert result["assets"] == files_below(ROOT / "assets", "starter/**/*", "gallery/**/*")
    assert {"multimodal.encoders.starter", "multimodal.pipelines.retrieval"} <= set(result["modules"])
    assert result["vector"] == [[256], "float32", pytest.approx(1.0, abs=1e-5)]


def test_the_console_script_and_python_m_are_one(installed: Path, tmp_path: Path) -> None:
    by_script = run(installed.parent / "multimodal", "--help", cwd=tmp_path)
    by_module = run(installed, "-m", "multimodal", "--help", cwd=tmp_path)
    for shown in (by_script, by_module):
        assert {"index", "search", "classify"} <= set(re.findall(r"\w+", shown))


def test_an_editable_install_is_the_tree_itself(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path / "tree")
    python = fresh_environment(tmp_path / "venv")
    install(python, "--editable", tree)
    (tree / "encoders" / "newcomer.py").write_text("ANSWER = 42\n")
    (tmp_path / "elsewhere").mkdir()
    result = probe(python, tmp_path / "elsewhere", PROBE_OF_THE_TREE)
    assert Path(result["file"]) == tree / "multimodal/__init__.py"
    assert Path(result["encoders"]).resolve() == tree / "encoders/__init__.py"
    assert Path(result["assets_at"]).resolve() == tree / "assets"
    assert result["answer"] == 42
