"""`multimodal --server URL`: commands that ask a running server."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import multimodal as mm
from multimodal.cli.main import app
from multimodal.cli.root import single_app
from tests.server.conftest import GALLERY, Api

CAT = GALLERY / "pictures" / "cat-at-home.jpg"
ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object, **environment: str) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"} | environment).invoke(
        app, list(map(str, arguments))
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_search_gives_the_hits_of_the_index(server: Api, gallery: Path, starter: mm.Space) -> None:
    code, stdout, _ = run(
        "--server", server.url, "search", "gallery", "a cat", "--image", CAT, "--not", "a dog", "-k", 3, "--json"
    )  # fmt: skip
    query = [(mm.Text("a cat"), 1.0), (mm.Image(CAT), 1.0), (mm.Text("a dog"), -0.7)]
    expected = mm.Index.open(gallery, starter).search(query, k=3)
    assert code == 0
    assert [hit["id"] for hit in json.loads(stdout)["hits"]] == [hit.id for hit in expected]
    code, stdout, _ = run("search", gallery, "a slice of pizza", MULTIMODAL_SERVER=server.url)
    assert (code, "pizza" in stdout) == (0, True)


def test_files_are_encoded_and_classified_by_the_server(server: Api, starter: mm.Space) -> None:
    _, stdout, _ = run("--server", server.url, "embed", CAT, "--text", "a cat", "--json")
    answer = json.loads(stdout)
    assert (answer["space"], answer["fingerprint"]) == ("starter", starter.fingerprint)
    assert answer["results"][1]["vector"] == pytest.approx(starter.encode("a cat").tolist(), abs=1e-5)
    _, stdout, _ = run("--server", server.url, "classify", CAT, "--labels", "a dog,a cat", "--json")
    assert json.loads(stdout)["results"][0]["labels"][0]["label"] == "a cat"


def test_captions_and_transcripts_are_those_of_the_pipelines(
    server: Api, starter: mm.Space, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(CAT.read_bytes()[:300])
    code, stdout, _ = run("--server", server.url, "caption", CAT, broken, "--json")
    answer = json.loads(stdout)
    expected = mm.pipeline("captioning", model=starter)(mm.Image(CAT))
    assert (code, answer["model"]) == (3, "starter")
    (row,) = answer["results"]
    assert (row["text"], row["complete"], row["n_tokens"]) == (expected.text, True, expected.n_tokens)
    assert row["score"] == pytest.approx(expected.score, abs=1e-4)
    assert "broken.jpg" in answer["failed"][0]["input"]

    talk = GALLERY / "sounds" / "pizza.flac"
    heard = mm.pipeline("transcription", model=starter)(talk)
    code, stdout, _ = run("--server", server.url, "transcribe", talk, "--json")
    (row,) = json.loads(stdout)["results"]
    assert (row["text"], len(row["segments"])) == (heard.text, len(heard.segments))
    code, stdout, _ = run("--server", server.url, "transcribe", talk, "--srt")
    assert stdout == heard.to_srt()


def test_a_question_is_answered_by_the_index_of_the_server(
    server: Api, gallery: Path, starter: mm.Space
) -> None:
    words = "Where were the lost keys last time?"
    code, stdout, _ = run("--server", server.url, "ask", "gallery", words, "-k", 2, "--json")
    index = mm.Index.open(gallery, starter)
    expected = mm.pipeline("answering", index=index)(words, k=2).to_dict()
    answer = json.loads(stdout)
    assert code == 0
    for name in ("text", "verified", "model", "question"):
        assert answer[name] == expected[name]
    assert [hit["id"] for hit in answer["hits"]] == [hit["id"] for hit in expected["hits"]]
    code, stdout, stderr = run("--server", server.url, "ask", gallery, "Which horse won in Lisbon?")
    assert (code, "no answer" in stderr) == (4, True)
    code, stdout, _ = run("--server", server.url, "ask", gallery, words)
    assert "lost-keys.txt" in stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("index", ".", "--index", "x.lance"), 2, "index runs on this machine"),
        (("search", "gallery", "x", "--device", "cpu:0"), 2, "--device is for a model on this machine"),
        (("search", "gallery", "x", "--space", "starter"), 2, "the server has chosen the model"),
        (("caption", CAT, "--beams", "3"), 2, "--beams is for a model on this machine"),
        (("ask", "gallery", "x", "--stream"), 2, "--stream is for a model on this machine"),
        (("caption", CAT, "--model", "stater"), 1, "did you mean 'starter'"),
        (("search", "photos", "x"), 1, "no index is called 'photos'"),
        (("embed", "--text", "x", "--space", "stater"), 1, "did you mean 'starter'"),
    ],
)
def test_what_a_server_cannot_do_is_refused(
    server: Api, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = run("--server", server.url, *arguments)
    assert result[0] == code
    assert message in " ".join(result[2].replace("│", " ").split())


def test_a_variable_of_the_environment_is_for_the_commands_that_can_use_it(server: Api) -> None:
    assert run("models", "--json", MULTIMODAL_SERVER="http://127.0.0.1:9")[0] == 0
    code, _, stderr = run("search", "gallery", "x", MULTIMODAL_SERVER="http://127.0.0.1:9")
    assert (code, "no answer from http://127.0.0.1:9" in stderr) == (1, True)


def test_only_the_command_that_runs_is_imported() -> None:
    assert single_app(["search", "x.lance", "a cat"]) is not None
    assert single_app(["--server", "u", "index", "."]) is None
    assert single_app(["--server", "u", "--help"]) is None
    assert single_app(["--server", "search", "embed", "--text", "x"]) is not None


def test_a_search_by_a_server_takes_little_cpu_and_no_torch(server: Api) -> None:
    command = [
        sys.executable,
        "-X",
        "importtime",
        "-m",
        "multimodal",
        "--server",
        server.url,
        "search",
        "gallery",
        "a cat",
        "--json",
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["hits"]) == 10
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "multimodal.client.remote" in imported
    assert not {"torch", "numpy", "pydantic", "rich", "multimodal.core.media.registry"} & imported
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_s < 1.5  # 0.17 s on a quiet machine; importing torch alone takes longer than this
