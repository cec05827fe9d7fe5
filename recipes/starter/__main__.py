"""`make starter`: make the data, train towers and captioner, export, measure, write the card. Every step resumes.

Steps whose output exists are passed over; remove the file, or all of the runs folder, to do them again. Needs the
system packages that `make help` names, npm for CLDR, Twemoji and OpenMoji, and some hours on a CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch

from recipes.starter.captioner import train_captions
from recipes.starter.data import accents, letters, phrases, prepare_speech, prepare_world
from recipes.starter.figures import card, evaluate, plot, read
from recipes.starter.towers import (
    align,
    export,
    joint_finetune,
    restore,
    train_accents,
    train_image,
    train_speech,
    train_text,
)

HERE = Path(__file__).parent
ASSETS = HERE.parent.parent / "assets" / "starter"
NPM_PACKAGES = (
    "cldr-annotations-full@48.2.0", "cldr-annotations-derived-full@48.2.0", "@twemoji/svg", "openmoji",
)  # fmt: skip


def arguments() -> argparse.Namespace:
    """The command line; the minutes are those of the shipped weights."""
    parser = argparse.ArgumentParser(prog="recipes.starter", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=HERE / "runs", help="where data and checkpoints go")
    parser.add_argument("--output", type=Path, default=ASSETS, help="where the finished space goes")
    parser.add_argument("--text-minutes", type=float, default=13)
    parser.add_argument("--image-minutes", type=float, default=70)
    parser.add_argument("--speech-minutes", type=float, default=35)
    parser.add_argument("--meet-minutes", type=float, default=75)
    parser.add_argument("--accents-minutes", type=float, default=46)
    parser.add_argument("--caption-minutes", type=float, default=8)
    parser.add_argument(
        "--from-shipped", action="store_true", help="go on from the towers that ship, not from nothing"
    )
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def once(output: Path, step: Callable[[], None]) -> None:
    """Run a step unless its output is there."""
    if output.exists():
        print(f"{output} is there")
    else:
        print(f"making {output}", flush=True)
        step()


def fetch_npm(folder: Path) -> None:
    """CLDR's annotations and the two drawing sets, from the npm registry."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n')
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", *NPM_PACKAGES], cwd=folder, check=True)


def measure(work: Path, output: Path) -> None:
    """figures.json in the work folder and beside the weights."""
    free = {
        f"{title} phrases": (HERE / "data" / f"{title}_phrases.txt").read_text().splitlines()
        for title in ("free", "fresh")
    }
    text = json.dumps(evaluate.full(output, work, free), indent=1, ensure_ascii=False) + "\n"
    (work / "figures.json").write_text(text)
    (output / "figures.json").write_text(text)


def train_apart(asked: argparse.Namespace, work: Path) -> None:
    """The three towers, text first, and the last layers of the other two fitted to meet."""
    once(work / "teacher.npz", lambda: phrases.teach(work))
    once(work / "text.pt", lambda: train_text.run(work, minutes=asked.text_minutes))
    once(work / "image.pt", lambda: train_image.run(work, minutes=asked.image_minutes))
    once(work / "audio.pt", lambda: train_speech.run(work, minutes=asked.speech_minutes))
    once(work / "audio_aligned.pt", lambda: align.run(work))


def main() -> None:
    """All steps in order."""
    asked = arguments()
    work, output, npm = asked.work, asked.output, asked.work / "npm"
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(asked.threads)
    free = (HERE / "data" / "free_phrases.txt").read_text().splitlines()
    once(npm / "node_modules", lambda: fetch_npm(npm))
    once(work / "glyphs.npz", lambda: prepare_world.run(npm / "node_modules", work))
    once(work / "phrases.json", lambda: phrases.gather(work, free))
    once(work / "speech.npz", lambda: prepare_speech.run(work))
    if asked.from_shipped:
        once(work / "audio_aligned.pt", lambda: restore.run(work))
    else:
        train_apart(asked, work)
    once(work / "image_met.pt", lambda: joint_finetune.run(work, minutes=asked.meet_minutes))
    once(work / "accents.npz", lambda: accents.run(work))
    once(work / "audio_accents.pt", lambda: train_accents.run(work, minutes=asked.accents_minutes))
    export.run(work, output)
    letters.run(work, output)
    measure(work, output)
    start = ASSETS / "decoders" if asked.from_shipped else None
    train_captions.run(work, output, output / "decoders", minutes=asked.caption_minutes, start=start)
    read.run(work, output, output / "decoders")
    plot.run(work, output)
    card.run(work, output)


if __name__ == "__main__":
    main()
