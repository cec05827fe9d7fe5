"""The site builds strictly, and its pages fetch nothing from another host."""

from __future__ import annotations

import html.parser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FETCHED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}


class Fetched(html.parser.HTMLParser):
    """The addresses that a browser requests when it opens a page, without those behind links."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        key = "href" if tag == "link" and values.get("rel") != "canonical" else FETCHED.get(tag, "")
        if address := values.get(key):
            self.addresses.append(address)


def is_elsewhere(address: str) -> bool:
    return re.match(r"(https?:)?//", address) is not None


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(root), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    result = build(ROOT, folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_the_pages_fetch_nothing_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    elsewhere = []
    for page in pages:
        fetched = Fetched()
        fetched.feed(page.read_text(encoding="utf-8"))
        elsewhere += [
            f"{page.relative_to(site)}: {address}" for address in filter(is_elsewhere, fetched.addresses)
        ]
    for sheet in site.rglob("*.css"):
        urls = re.findall(r"url\(['\"]?([^'\")]+)", sheet.read_text(encoding="utf-8"))
        elsewhere += [f"{sheet.relative_to(site)}: {address}" for address in filter(is_elsewhere, urls)]
    assert elsewhere == []


def test_the_reference_renders_docstrings_and_the_command_line(site: Path) -> None:
    spaces = (site / "reference" / "spaces" / "index.html").read_text(encoding="utf-8")
    assert 'id="multimodal.Space.encode"' in spaces
    commands = (site / "reference" / "command-line" / "index.html").read_text(encoding="utf-8")
    assert "--min-probability" in commands


def test_tutorials_and_the_model_card_have_their_images(site: Path) -> None:
    for page in ("model-card", "tutorials/search-a-folder"):
        fetched = Fetched()
        fetched.feed((site / page / "index.html").read_text(encoding="utf-8"))
        images = [address for address in fetched.addresses if address.endswith(".png")]
        assert images
        assert all((site / page / address).exists() for address in images)


def test_a_broken_link_and_an_undocumented_name_fail_the_build(tmp_path: Path) -> None:
    """Without plugins: rendering the reference takes most of a build, and finds neither."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "mkdocs.yml").write_text("INHERIT: all.yml\nplugins: []\n", encoding="utf-8")
    (tmp_path / "all.yml").symlink_to(ROOT / "mkdocs.yml")
    for name in (
        "assets",
        "multimodal",
        "encoders",
        "pipelines",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
    ):
        (tmp_path / name).symlink_to(ROOT / name)
    for name, old, new in (
        ("quickstart.md", "guides/encode.md", "guides/decode.md"),
        ("reference/spaces.md", "::: multimodal.load\n", ""),
    ):
        page = tmp_path / "docs" / name
        text = page.read_text(encoding="utf-8")
        assert old in text
        page.write_text(text.replace(old, new), encoding="utf-8")
    result = build(tmp_path, tmp_path / "site")
    assert result.returncode != 0
    assert "guides/decode.md" in result.stderr
    assert "public names without a place in docs/reference: load" in result.stderr
