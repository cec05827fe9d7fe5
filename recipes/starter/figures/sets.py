"""The held-out pictures of the model card as data for `multimodal evaluate`, and the card's lines from it.

    python -m recipes.starter.figures.sets --work RUNS --output SETS
    multimodal evaluate starter SETS/ground.csv --task retrieval

Each set has a picture of every concept, as a PNG of the size that the tower sees, and its name. `--clips N` adds N of
the names spoken by flite's kal16, which takes flite. `--space onnx/./exported` gives the lines of an exported space.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import PIL.Image
import soundfile

import multimodal as mm
from recipes.starter.data import voices
from recipes.starter.data.concepts import read
from recipes.starter.figures import judges

KINDS = ("clean", "ground", "both")


def write(folder: Path, name: str, column: str, rows: list[tuple[str, str]]) -> Path:
    """A table of (file, name) beside the files."""
    file = folder / f"{name}.csv"
    with file.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([(column, "text"), *rows])
    return file


def pictures(work: Path, folder: Path, kind: str) -> Path:
    """Every concept once, as in the model card."""
    names = [concept.name for concept in read(work / "world.jsonl")]
    (folder / kind).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (name, pixels) in enumerate(zip(names, judges.images(work, kind), strict=True)):
        file = f"{kind}/{number:04d}.png"
        PIL.Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(folder / file)
        rows.append((file, name))
    return write(folder, kind, "image", rows)


def clips(work: Path, folder: Path, count: int, voice: str = "kal16") -> Path:
    """Evenly spaced names, spoken by flite, among all names."""
    (folder / voice).mkdir(parents=True, exist_ok=True)
    rows = []
    world = read(work / "world.jsonl")
    spoken = set(range(0, len(world), max(1, len(world) // count)))
    for number in sorted(spoken)[:count]:
        concept = world[number]
        samples, rate_hz = voices.flite(concept.name, voice)
        soundfile.write(folder / voice / f"{number:04d}.flac", samples, rate_hz)
        rows.append((f"{voice}/{number:04d}.flac", concept.name))
    rows += [
        ("", concept.name) for number, concept in enumerate(world) if number not in spoken
    ]  # the gallery has every name
    return write(folder, voice, "audio", rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.starter.figures.sets", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="the folder with glyphs.npz and world.jsonl")
    parser.add_argument("--output", type=Path, required=True, help="the folder of the sets")
    parser.add_argument("--clips", type=int, default=0, help="names spoken by flite")
    parser.add_argument("--space", default="starter", help="another space, such as onnx/./exported")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    figures = {}
    for kind in KINDS:
        result = mm.evaluate(args.space, pictures(args.work, args.output, kind), "retrieval")
        figures[f"name to picture, {kind}"] = str(result.figures["hit@1"])
    if args.clips:
        file = clips(args.work, args.output, args.clips)
        result = mm.evaluate(args.space, file, "retrieval", query="audio")
        figures["speech to name, flite kal16"] = str(result.figures["hit@1"])
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
