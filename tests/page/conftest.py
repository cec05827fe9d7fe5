"""A server with two indexes for the page: the gallery with albums and a recording, and a small one to add files to."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

import multimodal as mm
from multimodal.server.config import ServerConfig
from tests.server.conftest import GALLERY, Api, gallery, running, starter

__all__ = ["gallery", "starter"]

HERE = Path(__file__).resolve().parent
DRIVER = HERE / "browser.mjs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
KEY = "a key of the page"
DRIVER_S, NPM_S = 900, 300


def claims() -> list[str]:
    """The names of the claims in the driver; those of a loop with each of its values."""
    text = DRIVER.read_text(encoding="utf-8")
    names = re.findall(r'^ *await claim\(["`](.+?)["`],', text, re.MULTILINE)
    kinds = re.findall(r'"([\w ]+)": (?:WIDE|\{ \.\.\.(?:WIDE|PHONE), colorScheme)', text)
    return [
        name.replace("${name}", kind) for name in names for kind in (kinds if "${name}" in name else [""])
    ]


class Tools(NamedTuple):
    """Where Node.js and Chromium are."""

    node: str
    chromium: str


def _has_packages() -> bool:
    """Whether the packages of package.json are installed; installs them if they are not."""
    wanted = json.loads((HERE / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    installed = {
        name: json.loads(path.read_text(encoding="utf-8"))["version"]
        for name in wanted
        if (path := HERE / "node_modules" / name / "package.json").is_file()
    }
    if installed == wanted:
        return True
    if (npm := shutil.which("npm")) is None:
        return False
    quiet = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    try:
        return subprocess.run([npm, "install", *quiet], cwd=HERE, timeout=NPM_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Node.js, Chromium and the npm packages: skips where they are missing, and fails where CI is true."""
    node = shutil.which("node")
    chromium = next(filter(None, map(shutil.which, BROWSERS)), None)
    missing = [
        name
        for name, there in (
            ("node", node),
            ("chromium", chromium),
            ("the npm packages of tests/page, which npm could not install", _has_packages()),
        )
        if not there
    ]
    if missing:
        reason = f"the page is tested in a browser, and this machine lacks {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Tools(str(node), str(chromium))


@pytest.fixture(scope="session")
def indexes(gallery: Path, starter: mm.Space, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two indexes: `trip`, with an album for each item, and `inbox`."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(gallery, folder / "trip.lance")
    trip = mm.Index.open(folder / "trip.lance", starter)
    for album in ("notes", "pictures", "sounds"):
        trip.update([str(path) for path in (GALLERY / album).iterdir()], {"album": album})
    trip.delete(str(GALLERY / "README.md"))
    assert (len(trip), trip.failures()) == (116, ())
    clips = [soundfile.read(path)[0] for path in sorted((GALLERY / "sounds").glob("*.flac"))[:14]]
    pause = np.zeros(8_000)
    soundfile.write(
        folder / "tour.wav", np.concatenate([part for clip in clips for part in (clip, pause)]), 16_000
    )
    trip.add([(folder / "tour.wav", {"album": "tour"})])
    inbox = mm.Index.create(folder / "inbox.lance", starter)
    inbox.add([mm.Text("a letter"), mm.Text("a bill")])
    return folder / "trip.lance", folder / "inbox.lance"


@pytest.fixture(scope="session")
def server(indexes: tuple[Path, Path], starter: mm.Space) -> Iterator[Api]:
    """A server of both indexes that accepts files."""
    with running(ServerConfig(indexes=indexes, port=0, write=True, preloaded={"starter": starter})) as api:
        yield api


@pytest.fixture(scope="session")
def keyed(indexes: tuple[Path, Path], starter: mm.Space) -> Iterator[Api]:
    """A server with a key; the client has it."""
    config = ServerConfig(indexes=indexes[:1], port=0, api_keys=(KEY,), preloaded={"starter": starter})
    with running(config, {"x-api-key": KEY}) as api:
        yield api


@pytest.fixture(scope="session")
def browser(
    tools: Tools, server: Api, keyed: Api, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, dict[str, Any]]:
    """What the driver found out, by claim."""
    folder = tmp_path_factory.mktemp("browser")
    samples, rate_hz = soundfile.read(GALLERY / "sounds" / "guitar.flac")
    soundfile.write(folder / "microphone.wav", np.concatenate([samples, np.zeros(rate_hz)]), rate_hz)
    (folder / "broken.jpg").write_bytes((GALLERY / "pictures" / "red-apple.jpg").read_bytes()[:200])
    (folder / "broken.txt").write_text("neither an image nor audio")
    shutil.copy(GALLERY / "pictures" / "red-apple.jpg", folder)
    shutil.copy(GALLERY / "sounds" / "guitar.flac", folder)
    given = {
        "url": server.url,
        "keyed": keyed.url,
        "key": KEY,
        "chromium": tools.chromium,
        "microphone": str(folder / "microphone.wav"),
        "files": {path.name: str(path) for path in folder.iterdir()},
        "shots": os.environ.get("PAGE_SHOTS", ""),
    }
    command = [tools.node, str(DRIVER), json.dumps(given), os.environ.get("PAGE_CLAIM", "")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=DRIVER_S)
    assert run.returncode == 0, run.stderr
    results = [json.loads(line) for line in run.stdout.splitlines()]
    return {result["name"]: result for result in results}
