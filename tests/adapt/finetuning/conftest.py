"""A small data set of drawn shapes, and one training that several tests look at."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

import multimodal as mm
from multimodal.adapt import FinetuneReport, finetune
from tests.encoders.hf import hf_cases

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (40, 70, 220), "yellow": (235, 210, 40),
           "black": (20, 20, 20), "purple": (130, 50, 160)}  # fmt: skip
SHAPES: dict[str, Callable[..., None]] = {
    "circle": lambda draw, fill: draw.ellipse((14, 14, 50, 50), fill=fill),
    "square": lambda draw, fill: draw.rectangle((14, 14, 50, 50), fill=fill),
    "triangle": lambda draw, fill: draw.polygon([(32, 10), (54, 54), (10, 54)], fill=fill),
    "bar": lambda draw, fill: draw.rectangle((6, 26, 58, 38), fill=fill),
}
QUICK: dict[str, Any] = {"steps": 2, "batch_size": 8, "replay": None, "reference": None}


def shape(colour: str, name: str) -> Image.Image:
    """A picture of a shape on white."""
    picture = Image.new("RGB", (64, 64), "white")
    SHAPES[name](ImageDraw.Draw(picture), COLOURS[colour])
    return picture


@pytest.fixture(scope="session")
def pairs_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures with their texts."""
    folder = tmp_path_factory.mktemp("shapes")
    rows = []
    for colour in COLOURS:
        for name in SHAPES:
            shape(colour, name).save(folder / f"{colour}-{name}.png")
            rows.append((f"{colour}-{name}.png", f"a {colour} {name}"))
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "text"), *rows])
    return folder / "pairs.csv"


@pytest.fixture(scope="session")
def starter() -> mm.Space:
    return mm.load("starter")


@pytest.fixture(scope="session")
def tiny() -> mm.Space:
    """A CLIP of two layers."""
    return hf_cases.case("clip").space


@pytest.fixture(scope="session")
def tuned(
    starter: mm.Space, pairs_csv: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[mm.Space, FinetuneReport, Path]:
    """The starter after six steps on the shapes, its report, and the folder of its adapter."""
    out = tmp_path_factory.mktemp("tuned") / "mine"
    options: dict[str, Any] = {
        "steps": 6,
        "batch_size": 8,
        "learning_rate": 2e-3,
        "eval_every": 3,
        "replay": None,
    }
    space, report = finetune(starter, pairs_csv, interpolate=0.5, out=out, **options)
    return space, report, out
