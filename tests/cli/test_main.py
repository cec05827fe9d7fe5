"""What holds for every command: help, exit codes, which stream says what, and a fast start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multimodal import __version__
from multimodal.cli import console
from multimodal.cli.models import info
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "demo",
    "index",
    "search",
    "classify",
    "embed",
    "doctor",
    "models",
    "info",
    "bridge",
    "finetune",
    "map",
    "delete",
    "export-index",
    "reindex",
)
HEAVY = ("torch", "numpy", "PIL", "lancedb", "pyarrow", "soundfile", "torchaudio")
QUICK = (
    ("models", "--json"),
    ("info", "--json"),
    ("info", "toy", "--json"),
    ("doctor", "toy", "--json"),
    ("embed", "--text", "x", "--space", "toy", "--json"),
)


def python(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_command_and_the_exit_codes(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.code == 0
    for command in COMMANDS:
        assert f" {command} " in shown.stdout
    assert "3 done, but some files failed" in shown.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_an_example_that_names_it_and_offers_json(cli: Cli, command: str) -> None:
    shown = cli(command, "--help")
    assert shown.code == 0
    after = shown.stdout.partition("Examples:")[2]
    assert f"multimodal {command}" in after
    assert "--json" in after


def test_no_command_at_all_shows_the_help_and_is_wrong_usage(cli: Cli) -> None:
    shown = cli()
    assert shown.code == 2
    assert "Usage: multimodal" in shown.stdout + shown.stderr


def test_the_version_is_the_packages_own(cli: Cli) -> None:
    assert cli("--version").stdout == f"multimodal {__version__}\n"


def test_the_command_line_starts_without_anything_heavy() -> None:
    code = f"import sys, multimodal.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert python("-c", code).stdout == "[]\n"


def test_python_m_multimodal_is_the_same_program() -> None:
    shown = python("-m", "multimodal", "--version")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, f"multimodal {__version__}\n", "")


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_json_is_all_there_is_on_stdout_and_stderr_is_silent(cli: Cli, arguments: tuple[str, ...]) -> None:
    outcome = cli(*arguments)
    assert outcome.code == 0
    assert isinstance(outcome.json(), dict)
    assert outcome.stderr == ""


def test_an_unknown_command_is_wrong_usage(cli: Cli) -> None:
    outcome = cli("serach")
    assert outcome.code == 2
    assert "No such command 'serach'" in outcome.stderr


def test_ctrl_c_ends_with_130_and_one_word(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "installation", interrupted)
    outcome = cli("info")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (130, "", "stopped\n")


def test_a_signal_in_the_middle_of_work_ends_with_130_and_no_traceback(tmp_path: Path) -> None:
    code = (
        "import time, multimodal.cli.models.info as about; from multimodal.cli.main import main\n"
        "about.installation = lambda: (print('working', flush=True), time.sleep(30))\nmain()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, "info"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "stopped\n")
    assert time.monotonic() - began < 10


def test_an_error_is_one_line_without_a_traceback_unless_requested(cli: Cli) -> None:
    plain = cli("info", "nonesuch")
    assert plain.code == 1
    assert plain.stdout == ""
    assert plain.stderr.startswith("error: no model is called 'nonesuch'")
    assert plain.stderr.count("\n") == 1
    traced = cli("--traceback", "info", "nonesuch")
    assert traced.code == 1
    assert "Traceback" in traced.stderr
    assert "UnknownModel" in traced.stderr


def test_a_reader_that_closes_the_pipe_is_no_error() -> None:
    code = (
        "import os, sys, subprocess\n"
        "reader, writer = os.pipe(); os.close(reader)\n"
        "done = subprocess.run([sys.executable, '-m', 'multimodal', 'models'], stdout=writer, stderr=subprocess.PIPE)\n"
        "sys.stdout.write(f'{done.returncode} {done.stderr.decode()}')"
    )
    assert python("-c", code).stdout == "0 "


def test_what_the_system_refuses_is_reported_with_the_file(cli: Cli, tmp_path: Path) -> None:
    taken = tmp_path / "vectors.npy"
    taken.mkdir()
    outcome = cli("embed", "--text", "a cat", "--space", "toy", "-o", taken)
    assert outcome.code == 2
    assert "is a folder; name a file in it" in " ".join(outcome.stderr.replace("│", " ").split())


def test_names_cannot_command_the_terminal_or_change_the_markup() -> None:
    assert console.printable("a\x1b[2Jb\udce9c\nd") == "a\ufffd[2Jb\ufffdc\nd"
    assert console.verbatim("[bold]x[/]") == r"\[bold]x\[/]"


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, " " * 4), (1.0, "████"), (0.5, "██  "), (0.125, "▌   "), (-2.0, " " * 4), (7.0, "████")],
)
def test_a_bar_is_as_long_as_its_share(share: float, expected: str) -> None:
    assert console.bar(share, width=4) == expected


CTRL_C = """
import os, signal, sys, threading, time
class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)
            try:
                time.sleep(20)
            except KeyboardInterrupt as error:
                if {wrapped}:  # as libraries in C do
                    raise ImportError("cannot import a part of " + name) from error
                raise

sys.meta_path.insert(0, Interrupted())
sys.argv = ["multimodal", *{arguments!r}]
from multimodal.__main__ import main
main()
"""


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("module", "arguments"),
    [("lazy_loader", ["models"]), ("multimodal.cli.interrupt", ["models"]), ("typer", ["models"]),
     ("multimodal.cli.main", ["models"]), ("multimodal.core.space", ["embed", "--text", "x"]),
     ("torch", ["embed", str(ROOT / "assets/gallery/pictures/red-apple.jpg"), "--json"])],
)  # fmt: skip
def test_ctrl_c_at_the_start_leaves_no_traceback(module: str, arguments: list[str], wrapped: bool) -> None:
    done = python("-c", CTRL_C.format(module=module, arguments=arguments, wrapped=wrapped))
    assert (done.returncode, done.stderr) == (130, "stopped\n")
    expected = {"error": {"type": "KeyboardInterrupt", "message": "stopped"}}
    assert (json.loads(done.stdout) == expected) if "--json" in arguments else not done.stdout


LATE = """
import atexit, os, signal, sys, time
import multimodal.cli.models.info as about

def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(20)

class Swallows:
    def __del__(self):
        interrupt()

{when}
sys.argv = ["multimodal", "info", "--json"]
from multimodal.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "when",
    ["atexit.register(interrupt)", "about.installation = lambda: (Swallows() and None, time.sleep(20))"],
    ids=["after the work", "in a finalizer"],
)
def test_ctrl_c_where_it_cannot_be_raised_leaves_no_traceback(when: str) -> None:
    done = python("-c", LATE.format(when=when))
    assert (done.returncode, done.stderr) == (130, "stopped\n")
    assert json.loads(done.stdout)  # the result, or the error
