"""`multimodal index`: reports, sync, retries, dry runs and interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from multimodal.cli.indexes import index_output
from multimodal.index import Index, Progress
from multimodal.index.storage import lock
from tests import plugins
from tests.cli.conftest import Cli


def test_index_reports_what_it_did_and_what_the_index_holds(cli: Cli, media: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.lance"
    outcome = cli("index", media, "--index", path, "--space", "toy")
    assert outcome.code == 0
    assert outcome.stdout.startswith(f"5 added, 0 updated, 0 failed; {path} now holds 5 (")
    assert outcome.stderr == ""


def test_index_as_json_has_counts_failures_and_the_space(cli: Cli, media: Path, tmp_path: Path) -> None:
    report = cli("index", media, "--index", tmp_path / "new.lance", "--space", "toy", "--json").json()
    assert report.pop("seconds") >= 0
    assert len(report.pop("fingerprint")) == 64
    assert report == {
        "index": str(tmp_path / "new.lance"), "space": "toy", "added": 5, "updated": 0, "failed": [], "total": 5,
        "unchanged": 0, "moved": 0, "deleted": 0, "duplicates": 0, "skipped": {}, "known": 0,
    }  # fmt: skip


def test_indexing_again_takes_what_changed_and_needs_no_space(cli: Cli, media: Path, index: Path) -> None:
    (media / "note.txt").write_text("a green pear\n", encoding="utf-8")
    report = cli("index", media / "red.png", media / "note.txt", "--index", index, "--json").json()
    assert (report["added"], report["updated"], report["unchanged"], report["total"]) == (0, 1, 1, 5)


def test_a_second_run_does_nothing_and_says_so(cli: Cli, media: Path, index: Path) -> None:
    outcome = cli("index", media, "--index", index)
    assert outcome.code == 0
    assert outcome.stdout.startswith(f"0 added, 0 updated, 5 unchanged, 0 failed; {index} now holds 5 (")


def test_sync_takes_out_what_is_gone_and_follows_what_moved(cli: Cli, media: Path, index: Path) -> None:
    (media / "red.png").unlink()
    (media / "green.png").rename(media / "leaf.png")
    report = cli("index", media, "--index", index, "--sync", "--json").json()
    assert {key: report[key] for key in ("added", "updated", "unchanged", "moved", "deleted", "total")} == {
        "added": 0, "updated": 0, "unchanged": 3, "moved": 1, "deleted": 1, "total": 4,
    }  # fmt: skip


def test_what_failed_is_listed_and_tried_again(cli: Cli, media: Path, index: Path) -> None:
    (media / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    outcome = cli("index", media, "--index", index)
    assert outcome.code == 3
    assert f"error: {media}/bad.png: starts like an image but its header is broken" in outcome.stderr
    assert (
        f"note: list the failures with --failures, retry them with --retry-failed (--index {index})"
        in outcome.stderr
    )
    listed = cli("index", "--index", index, "--failures", "--json").json()["failures"]
    assert [(item["uri"], item["stage"]) for item in listed] == [(f"{media}/bad.png", "decode")]
    assert "starts like an image" in cli("index", "--index", index, "--failures").stdout.replace("\n", "")
    assert cli("index", "--index", index, "--retry-failed", "--strict").code == 3
    again = cli("index", media, "--index", index)
    assert again.code == 0 and again.stderr == "note: 1 known failure, unchanged; --failures lists it\n"
    assert cli("index", media, "--index", index, "--strict").code == 3
    (media / "bad.png").write_bytes((media / "red.png").read_bytes())
    report = cli("index", "--index", index, "--retry-failed", "--json").json()
    assert (report["added"], report["failed"], report["total"]) == (1, [], 6)
    assert cli("index", "--index", index, "--failures").stderr == ("note: no failures are recorded\n")


def test_patterns_select_files_and_files_of_no_known_kind_are_noted(
    cli: Cli, media: Path, tmp_path: Path
) -> None:
    for name in ("Thumbs.db", "a.exe", "b.exe"):
        (media / name).write_bytes(b"\0\1\2\3")
    path = tmp_path / "new.lance"
    outcome = cli(
        "index", media, "--index", path, "--space", "toy", "--exclude", "*.png", "--exclude", "*.txt"
    )
    assert outcome.code == 0 and ", 3 skipped, 0 failed; " in outcome.stdout
    assert outcome.stderr == "note: 3 files of no known kind were skipped: 2 .exe, 1 .db\n"
    report = cli("index", media, "--index", path, "--include", "*.png", "--pages", "image", "--json").json()
    assert report["added"] > 0 and report["skipped"] == {}


def test_a_dry_run_counts_and_estimates_and_writes_nothing(cli: Cli, media: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.lance"
    output = cli("index", media, "--index", path, "--space", "toy", "--dry-run", "--json").json()
    assert output["counts"] == {"audio": 1, "image": 3, "text": 1}
    assert output["n_bytes"] == sum(path.stat().st_size for path in media.iterdir())
    assert (output["unchanged"], output["failed"], output["sampled"]) == (0, 0, 5) and output["seconds"] > 0
    shown = cli("index", media, "--index", path, "--space", "toy", "--dry-run").stdout
    assert ["image", "3"] in [line.split() for line in shown.splitlines()]
    assert shown.rstrip().endswith("measured on 5; nothing was written")
    assert not path.exists()


def test_a_dry_run_over_an_index_leaves_out_what_is_there(cli: Cli, media: Path, index: Path) -> None:
    (media / "new.txt").write_text("more words", encoding="utf-8")
    output = cli("index", media, "--index", index, "--dry-run", "--json").json()
    assert (output["counts"], output["unchanged"]) == ({"text": 1}, 5)
    assert len(Index.open(index)) == 5


def test_a_dry_run_of_sync_counts_what_it_would_move_and_delete(cli: Cli, media: Path, index: Path) -> None:
    (media / "red.png").unlink()
    (media / "green.png").rename(media / "leaf.png")
    (media / "new.txt").write_text("more words", encoding="utf-8")
    output = cli("index", media, "--index", index, "--sync", "--dry-run", "--json").json()
    report = {key: output[key] for key in ("counts", "unchanged", "moved", "deleted", "failed")}
    assert report == {"counts": {"text": 1}, "unchanged": 3, "moved": 1, "deleted": 1, "failed": 0}
    shown = cli("index", media, "--index", index, "--sync", "--dry-run").stdout
    assert "3 already indexed; 1 moved; 1 to delete; nothing was written" in shown
    assert len(Index.open(index)) == 5
    done = cli("index", media, "--index", index, "--sync", "--json").json()
    assert (done["added"], done["unchanged"], done["moved"], done["deleted"]) == (1, 3, 1, 1)


def test_a_dry_run_of_sync_refuses_an_empty_folder_as_sync_does(cli: Cli, media: Path, index: Path) -> None:
    for file in media.iterdir():
        file.unlink()
    for arguments in (["--sync", "--dry-run"], ["--sync"]):
        outcome = cli("index", media, "--index", index, *arguments)
        assert outcome.code == 1 and "no file found, but the index holds 5 from there" in outcome.stderr


def test_a_dry_run_of_sync_counts_the_rows_that_left_a_table(cli: Cli, tmp_path: Path) -> None:
    table, path = tmp_path / "t.csv", tmp_path / "new.lance"
    table.write_text("text,id\none,1\ntwo,2\nthree,3\n", encoding="utf-8")
    cli("index", table, "--index", path, "--space", "toy", "--column", "id=id")
    table.write_text("text,id\none,1\nfour,4\n", encoding="utf-8")
    arguments = ("index", table, "--index", path, "--column", "id=id", "--sync", "--json")
    assert cli(*arguments, "--dry-run").json()["deleted"] == cli(*arguments).json()["deleted"] == 2


def test_patterns_and_tables_are_taken(cli: Cli, media: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.lance"
    report = cli("index", str(media / "*.png"), "--index", path, "--space", "toy", "--json").json()
    assert report["added"] == 3
    (media / "list.csv").write_text("what,year\nred.png,2001\ntone.wav,2002\n", encoding="utf-8")
    report = cli("index", media / "list.csv", "--index", path, "--column", "path=what", "--json").json()
    assert (report["added"], report["updated"], report["total"]) == (1, 1, 4)
    result = cli("search", path, "x", "--where", "year=2001", "--json").json()["hits"]
    assert [Path(hit["uri"]).name for hit in result] == ["red.png"]


def test_a_delimiter_and_an_encoding_may_be_named(cli: Cli, tmp_path: Path) -> None:
    path, table = tmp_path / "new.lance", tmp_path / "x.csv"
    table.write_bytes("text\tn, m\nthé, noir\t1\n".encode("cp850"))
    options = ("--index", path, "--space", "toy", "--encoding", "cp850")
    for delimiter in ("tab", "\\t", "\t"):
        outcome = cli("index", table, *options, "--delimiter", delimiter, "--dry-run", "--json")
        assert outcome.json()["counts"] == {"text": 1}
    assert cli("index", table, *options, "--delimiter", "tab", "--json").json()["added"] == 1
    assert cli("search", path, "x", "--json").json()["hits"][0]["text"] == "thé, noir"
    refused = cli("index", table, *options, "--delimiter", "||")
    assert refused.code == 1 and "delimiter must be one character" in refused.stderr


def test_an_assumed_encoding_is_noted_in_terms_of_the_command_line(cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "x.csv"
    table.write_bytes("text\nthé\n".encode("latin-1"))
    outcome = cli("index", table, "--index", tmp_path / "new.lance", "--space", "toy")
    assert outcome.code == 0
    assert (
        "read as Latin-1 (Windows-1252); if letters are wrong, name the encoding with --encoding cp1251"
        in " ".join(outcome.stderr.split())
    )


def test_duplicates_are_left_out_if_asked(cli: Cli, media: Path, index: Path) -> None:
    (media / "again.png").write_bytes((media / "red.png").read_bytes())
    report = cli("index", media, "--index", index, "--dedupe", "--json").json()
    assert (report["added"], report["duplicates"], report["total"]) == (0, 1, 5)


@pytest.mark.parametrize(("arguments", "message"), [
    (["--sync", "--retry-failed", "x"], "--sync and --retry-failed exclude each other; give one"),
    (["--sync", "--failures", "--dry-run"], "--sync and --failures and --dry-run exclude each other; give one"),
    (["--retry-failed", "x"], "takes no paths: the failures are recorded in the index"),
    (["--failures", "x"], "takes no paths: the failures are recorded in the index"),
    ([], "name at least one folder or file"),
    (["--sync"], "name at least one folder or file"),
    (["x", "--column", "path"], "'path' is not ROLE=NAME, such as path=file"),
])  # fmt: skip
def test_flags_that_do_not_go_together_are_wrong_usage(
    cli: Cli, index: Path, arguments: list[str], message: str
) -> None:
    outcome = cli("index", "--index", index, *arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.stderr.replace("│", " ").split())


def test_nothing_failed_where_there_is_no_index(cli: Cli, tmp_path: Path) -> None:
    for flag in ("--failures", "--retry-failed"):
        outcome = cli("index", "--index", tmp_path / "none", flag)
        assert outcome.code == 1
        assert outcome.stderr == f"error: no index at '{tmp_path}/none', so no failures are recorded\n"


def test_another_writer_is_named_and_waited_for_or_not(cli: Cli, media: Path, index: Path) -> None:
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.writing(index):
            held.set()
            free.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    busy = f"the index at '{index}' is being written by process {os.getpid()} on "
    outcome = cli("index", media, "--index", index, "--no-wait")
    assert outcome.code == 1 and outcome.stderr.startswith(f"error: {busy}")
    threading.Timer(0.3, free.set).start()
    outcome = cli("index", media, "--index", index)
    thread.join()
    assert outcome.code == 0 and outcome.stderr.startswith(f"note: {busy}")


def test_a_rate_a_time_to_go_and_failures_are_shown() -> None:
    assert index_output.rest(Progress(100, 10, 5000, 2, 10.0, 24.5)) == "24.5/s · 3 min 20 s left · 2 failed"
    assert index_output.rest(Progress(100, 10, None, 0, 10.0, 1234.5)) == "1,234.5/s"
    assert [index_output.duration(s) for s in (0.4, 59, 200, 7500)] == [
        "0 s",
        "59 s",
        "3 min 20 s",
        "2 h 5 min",
    ]


def test_ctrl_c_says_how_to_go_on(media: Path, tmp_path: Path) -> None:
    for number in range(300):
        (media / f"{number}.txt").write_text(f"word {number}", encoding="utf-8")
    code = (
        "import os, time\n"
        f"{plugins.registration('toy')}"
        f"import {plugins.TOY}\n"
        "from multimodal.core.encoder import Encoder\n"
        "import functools\n"
        "from multimodal.index import Index, IngestConfig\n"
        "Index.add = functools.partialmethod(Index.add, config=IngestConfig(commit_rows=8))\n"
        "def slow(method):\n"
        "    def prepare(self, items):\n"
        "        os.write(2, b'working\\n')\n"
        "        time.sleep(0.02 * len(items))\n"
        "        return method(self, items)\n"
        "    return prepare\n"
        "for kind in Encoder.__subclasses__() + [k for c in Encoder.__subclasses__() for k in c.__subclasses__()]:\n"
        "    if 'prepare' in vars(kind): kind.prepare = slow(kind.prepare)\n"
        "from multimodal.cli.main import main\n"
        "main()\n"
    )
    path = tmp_path / "new.lance"
    command = [
        sys.executable,
        "-c",
        code,
        "index",
        str(media),
        "--index",
        str(path),
        "--space",
        "toy",
        "--batch-size",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for _ in range(20):
        while "working" not in process.stderr.readline():
            assert process.poll() is None
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == "", err[-600:]
    kept = len(Index.open(path))
    assert f"stopped: {path} holds the {kept:,} rows written so far; repeat the command to resume" in err
    assert 0 < kept < 305


@pytest.mark.parametrize("own", [None, "7"])
def test_kernels_that_onednn_keeps_are_few_unless_said_otherwise(
    cli: Cli, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, own or "")
    if own is None:
        monkeypatch.delenv(name)
    cli("index", media, "--index", tmp_path / "new.lance", "--space", "toy")
    assert os.environ[name] == (own or "128")


def test_an_index_with_compressed_vectors_is_made_and_described(
    cli: Cli, media: Path, tmp_path: Path
) -> None:
    arguments = ("index", media / "red.png", "--index", tmp_path / "i", "--space", "toy")
    assert cli(*arguments, "--vectors", "int8").code == 0
    facts = cli("info", tmp_path / "i", "--json").json()
    assert (facts["vectors"], facts["vector_bytes"], facts["items"]) == ("int8", facts["dim"], 1)
    refused = cli(*arguments, "--vectors", "bits")
    assert (refused.code, "stores vectors as int8, got --vectors bits" in refused.stderr) == (1, True)
