"""The Dockerfile copies what the package is built from, and drops its rights. Building it needs a daemon: CI does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
BUILD, FINAL = re.split(r"^FROM .*\n", TEXT, flags=re.M)[1:]


def test_everything_that_the_package_is_built_from_is_copied_and_not_ignored() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]}
    needed |= set(project["tool"]["setuptools"]["package-dir"].values())
    copied = {name for line in re.findall(r"^COPY (.*)$", BUILD, re.M) for name in line.split()[:-1]}
    kept = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M))
    assert needed <= copied
    assert needed <= kept


def test_the_extras_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r'^ARG EXTRAS="(.*)"$', TEXT, re.M)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_the_image_runs_as_a_user_and_checks_its_health() -> None:
    assert re.search(r"^USER (?!root)\w+$", FINAL, re.M)
    assert "127.0.0.1:7997/health" in FINAL
    assert 'ENTRYPOINT ["multimodal"]' in FINAL
