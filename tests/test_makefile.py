"""The Makefile on a bare machine, and the rule of the tests that there is no network."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


class Checkout:
    """A folder with the Makefile, and stubs for Python and pip that write down how they were called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        self.pip = self.script("stub/pip", 'echo "$@" >> pip.log\n')
        self.installed_python = self.script("stub/installed-python", 'echo "$@" >> python.log\n')
        self.python = self.script(
            "stub/python",
            '[ "$2 $3" = "venv --clear" ] || exit 0\n'
            f'rm -rf "$4"; mkdir -p "$4/bin"; cp {self.installed_python} "$4/bin/python"\n',
        )

    def script(self, name: str, body: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n" + body)
        path.chmod(0o755)
        return path

    def make(self, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
        return make(self.folder, f"PYTHON={self.python}", f"PIP={self.pip}", *arguments, path=path)

    def log(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


def make(folder: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    # MAKEFLAGS: these tests are themselves run by make.
    environment = {
        k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON")
    }
    executable = shutil.which("make")
    assert executable
    if path is not None:
        environment["PATH"] = path
    command = [executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_make_alone_describes_every_target() -> None:
    phony = re.search(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    shown = make(ROOT)
    assert shown.returncode == 0, shown.stderr
    described = re.findall(r"^  make ([\w-]+) {2,}\S", shown.stdout, re.MULTILINE)
    assert sorted(described) == sorted(phony[1].split())


def test_ci_runs_make_test() -> None:
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert run.read_text().rstrip().endswith("\nmake test")


def test_the_demo_installs_what_it_needs_once(checkout: Checkout) -> None:
    for _ in range(2):
        result = checkout.make("demo")
        assert result.returncode == 0, result.stderr
    assert checkout.log("pip.log") == ["install --editable ."]
    assert checkout.log("python.log")[-2:] == ["-m multimodal demo"] * 2


def test_the_tools_come_on_top_and_neither_installs_the_other_again(checkout: Checkout) -> None:
    for target in ("demo", "venv", "demo", "venv"):
        assert checkout.make(target).returncode == 0
    assert checkout.log("pip.log") == ["install --editable .", "install --editable .[dev,all]"]


def test_lint_and_types_come_before_the_tests(checkout: Checkout) -> None:
    assert checkout.make("test").returncode == 0
    tools = [line.split()[1] for line in checkout.log("python.log") if line.startswith("-m ")]
    assert tools == ["ruff", "ruff", "mypy", "pytest"]


def test_a_changed_pyproject_is_installed_again(checkout: Checkout) -> None:
    assert checkout.make("demo").returncode == 0
    stamp = (checkout.folder / ".venv/.installed-runtime").stat().st_mtime
    os.utime(checkout.folder / "pyproject.toml", (stamp + 10, stamp + 10))
    assert checkout.make("demo").returncode == 0
    assert checkout.log("pip.log") == ["install --editable ."] * 2


def test_an_installation_that_failed_is_tried_again(checkout: Checkout) -> None:
    assert checkout.make("PIP=false", "demo").returncode != 0
    assert checkout.make("demo").returncode == 0
    assert checkout.log("pip.log") == ["install --editable ."]


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout) -> None:
    (checkout.folder / ".venv/bin").mkdir(parents=True)
    (checkout.folder / ".venv/bin/python").symlink_to("/nonexistent/python3")
    assert checkout.make("demo").returncode == 0
    assert checkout.log("pip.log") == ["install --editable ."]


def test_an_old_python_is_named_with_the_cure(checkout: Checkout) -> None:
    old = checkout.script("python3.10", 'if [ "$1" = -V ]; then echo "Python 3.10.13"; else exit 1; fi\n')
    result = checkout.make(f"PYTHON={old}", "demo")
    assert result.returncode != 0
    assert f"needs Python 3.11 or newer; {old} is Python 3.10.13. Name another: make PYTHON=" in result.stderr


def test_a_missing_python_is_named_with_the_cure(checkout: Checkout) -> None:
    result = checkout.make("PYTHON=python3.99", "demo")
    assert result.returncode != 0
    assert "there is no python3.99 here. Name yours: make PYTHON=" in result.stderr


def test_a_debian_python_without_venv_gets_the_name_of_the_package(checkout: Checkout) -> None:
    debian = checkout.script("python3", 'case "$2" in *ensurepip*) exit 1;; esac\n')
    result = checkout.make(f"PYTHON={debian}", "demo")
    assert result.returncode != 0
    assert "sudo apt-get install python3-venv" in result.stderr
    assert not (checkout.folder / ".venv").exists()


def test_the_starter_recipe_names_the_commands_it_misses(checkout: Checkout) -> None:
    there = ("espeak-ng", "flite", "rsvg-convert", "node")
    for name in there:
        checkout.script(f"bin/{name}", "")
    for name in ("cp", "mkdir", "rm", "touch"):
        results = shutil.which(name)
        assert results
        (checkout.folder / "bin" / name).symlink_to(results)
    result = checkout.make("starter", path=str(checkout.folder / "bin"))
    assert result.returncode != 0
    assert "needs these commands, which are not here: festival npm." in result.stderr
    assert "sudo apt-get install fonts-noto-color-emoji" in result.stderr
    assert "-m recipes.starter" not in checkout.log("python.log")

    for name in ("festival", "npm"):
        checkout.script(f"bin/{name}", "")
    result = checkout.make("starter", path=str(checkout.folder / "bin"))
    assert result.returncode == 0, result.stderr
    assert checkout.log("python.log")[-1] == "-m recipes.starter"


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80)])
def test_no_test_reaches_a_distant_address(address: tuple[str, int]) -> None:
    with (
        socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as connection,
        pytest.raises(RuntimeError, match="a test reached for the network"),
    ):
        connection.connect(address)


def test_no_test_asks_for_a_distant_name() -> None:
    with pytest.raises(
        RuntimeError, match=r"a test reached for the network \(socket.getaddrinfo: 'example.org'\)"
    ):
        socket.create_connection(("example.org", 443), timeout=1)


def test_a_test_may_talk_to_this_machine() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()[:2], timeout=5) as client,
    ):
        client.sendall(b"hello")
        peer, _ = server.accept()
        with peer:
            assert peer.recv(5) == b"hello"
