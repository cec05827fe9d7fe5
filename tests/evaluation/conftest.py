"""A small labelled set of pictures, and results on it, shared by the tests."""

import csv
from pathlib import Path
from typing import Any

import pytest

import multimodal as mm

PICTURES = Path(__file__).resolve().parents[2] / "assets" / "gallery" / "pictures"


def picture_rows() -> list[dict[str, str]]:
    """One row per picture of the gallery, with its file name as the label."""
    return [{"image": str(file), "label": file.stem.replace("-", " ")} for file in sorted(PICTURES.iterdir())]


@pytest.fixture(scope="session")
def starter() -> mm.Space:
    return mm.load("starter")


@pytest.fixture(scope="session")
def pictures_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("evaluation") / "pictures.csv"
    rows = picture_rows()
    with file.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["image", "label"])
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.fixture(scope="session")
def retrieval(starter: mm.Space, pictures_csv: Path) -> mm.Evaluation:
    return mm.evaluate(starter, pictures_csv, "retrieval")


@pytest.fixture(scope="session")
def classification(starter: mm.Space, pictures_csv: Path) -> mm.Evaluation:
    return mm.evaluate(starter, pictures_csv, "classification")


@pytest.fixture
def two_columns() -> list[dict[str, Any]]:
    """Rows of texts and images for a fake space."""
    return [{"text": f"text {row}", "image": b"image"} for row in range(40)]
