"""One index of a few notes for all tests of answering, encoded by the starter."""

from __future__ import annotations

from pathlib import Path

import pytest

import multimodal
from multimodal.core.space import Space
from multimodal.index import Index

NOTES = {
    "tower": "The old water tower stands behind the station. It stands 47 metres high. It was painted green in 1987.",
    "keys": "The spare key of the shed hangs behind the blue door. Ask Margarete Holm if it is missing.",
    "soup": "For the onion soup, fry six onions slowly for forty minutes. Add stock, and serve with toasted bread.",
    "boiler": "The boiler was serviced on 3 March. The pressure must stay below 2 bar, because the valve leaks.",
    "minutes": "Present were Ines, Tom and Yusuf. Yusuf will order the new projector before Friday.",
    "tides": "High water at the harbour comes fifty minutes later every day.",
}


@pytest.fixture(scope="session")
def space() -> Space:
    return multimodal.load("starter")


@pytest.fixture(scope="session")
def index(space: Space, tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("notes")
    for name, text in NOTES.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
    made = Index.create(tmp_path_factory.mktemp("index") / "notes.lance", space)
    made.add(folder)
    return made


@pytest.fixture(scope="session")
def notes(index: Index) -> dict[str, Path]:
    """The file of each note."""
    return {Path(row["uri"]).stem: Path(row["uri"]) for row in index.rows()}
