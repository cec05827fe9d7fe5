"""Captions and transcripts by workers equal those of one machine. The workers run in this process."""

from __future__ import annotations

from pathlib import Path

from multimodal.core.paths import assets
from tests.cli.conftest import Cli
from tests.core.local_pool import mapped_here

SOUNDS = assets() / "gallery" / "sounds"


def test_captions_by_workers_equal_those_of_one_machine(cli: Cli, media: Path) -> None:
    here = cli("caption", media, "--text", "a dog", "--json").json()
    with mapped_here():
        assert cli("caption", media, "--text", "a dog", "--json", "--engine", "ray").json() == here
    with mapped_here(kills=lambda named: "red" in named[0]):
        outcome = cli("caption", media, "--json", "--workers", 2)
    assert outcome.code == 3
    assert len(outcome.json()["results"]) == len(here["results"]) - 2
    assert "worker ended" in outcome.json()["failed"][0]["reason"]


def test_transcripts_by_workers_equal_those_of_one_machine(cli: Cli, tmp_path: Path) -> None:
    files = [SOUNDS / "dog.flac", SOUNDS / "fish.flac", tmp_path / "cut.flac"]
    files[2].write_bytes(files[0].read_bytes()[:60])
    here = cli("transcribe", *files, "--json").json()
    with mapped_here():
        there = cli("transcribe", *files, "--json", "--engine", "ray").json()
    assert there == here and len(there["failed"]) == 1
