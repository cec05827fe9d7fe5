"""`make starter`: generate data, train towers and captioner, export, evaluate, write the card. Every step resumes.

Steps whose output exists are skipped; remove the file, or the whole runs folder, to repeat them. Needs the system
packages that `make help` lists, npm for CLDR, Twemoji and OpenMoji, and some hours on a CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import torch

from multimodal.auditing import audit
from multimodal.core.space import Space
from recipes.starter.captioner import train_captions
from recipes.starter.data import accents, letters, phrases, prepare_sounds, prepare_speech, prepare_world
from recipes.starter.figures import card, evaluate, heard_sounds, photo_backgrounds, plot, read
from recipes.starter.towers import (
    align,
    export,
    joint_finetune,
    restore,
    train_accents,
    train_image,
    train_photographs,
    train_sounds,
    train_speech,
    train_text,
)

HERE = Path(__file__).parent
ASSETS = HERE.parent.parent / "assets" / "starter"
NPM_PACKAGES = (
    "cldr-annotations-full@48.2.0", "cldr-annotations-derived-full@48.2.0", "@twemoji/svg", "openmoji",
)  # fmt: skip


def arguments() -> argparse.Namespace:
    """Command-line options; the default minutes are those of the shipped weights."""
    parser = argparse.ArgumentParser(prog="recipes.starter", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=HERE / "runs", help="folder of data and checkpoints")
    parser.add_argument("--output", type=Path, default=ASSETS, help="folder of the exported space")
    parser.add_argument("--text-minutes", type=float, default=13)
    parser.add_argument("--image-minutes", type=float, default=70)
    parser.add_argument("--speech-minutes", type=float, default=35)
    parser.add_argument("--joint-minutes", type=float, default=75)
    parser.add_argument("--accents-minutes", type=float, default=46)
    parser.add_argument("--photographs-minutes", type=float, default=66)
    parser.add_argument("--sounds-minutes", type=float, default=45)
    parser.add_argument("--caption-minutes", type=float, default=8)
    parser.add_argument(
        "--from-shipped", action="store_true", help="start from the shipped towers instead of from scratch"
    )
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def once(output: Path, step: Callable[[], object]) -> None:
    """Runs a step unless its output exists."""
    if output.exists():
        print(f"{output} exists")
    else:
        print(f"making {output}", flush=True)
        step()


def fetch_npm(folder: Path) -> None:
    """Downloads CLDR's annotations and two emoji sets from the npm registry."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n')
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", *NPM_PACKAGES], cwd=folder, check=True)


def measure(work: Path, output: Path) -> None:
    """Writes figures.json in the work folder and beside the weights."""
    free = {
        f"{title} phrases": (HERE / "data" / f"{title}_phrases.txt").read_text().splitlines()
        for title in ("free", "fresh")
    }
    figures = evaluate.full(output, work, free)
    model = evaluate.Shipped(output, work)
    figures["photographs"] = photo_backgrounds.figures(model, work)
    figures["sounds"] = heard_sounds.figures(model.space, model.names)
    text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    (work / "figures.json").write_text(text)
    (output / "figures.json").write_text(text)


def train_separately(options: argparse.Namespace, work: Path) -> None:
    """Trains the three towers, text first, and aligns the last layers of the other two."""
    once(work / "teacher.npz", lambda: phrases.teach(work))
    once(work / "text.pt", lambda: train_text.run(work, minutes=options.text_minutes))
    once(work / "image.pt", lambda: train_image.run(work, minutes=options.image_minutes))
    once(work / "audio.pt", lambda: train_speech.run(work, minutes=options.speech_minutes))
    once(work / "audio_aligned.pt", lambda: align.run(work))


def main() -> None:
    """Runs all steps in order."""
    options = arguments()
    work, output, npm = options.work, options.output, options.work / "npm"
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    free = (HERE / "data" / "free_phrases.txt").read_text().splitlines()
    once(npm / "node_modules", lambda: fetch_npm(npm))
    once(work / "glyphs.npz", lambda: prepare_world.run(npm / "node_modules", work))
    once(work / "phrases.json", lambda: phrases.gather(work, free))
    once(work / "speech.npz", lambda: prepare_speech.run(work))
    if options.from_shipped:
        once(work / "audio_aligned.pt", lambda: restore.run(work))
    else:
        train_separately(options, work)
    once(work / "image_met.pt", lambda: joint_finetune.run(work, minutes=options.joint_minutes))
    once(work / "accents.npz", lambda: accents.run(work))
    once(work / "audio_accents.pt", lambda: train_accents.run(work, minutes=options.accents_minutes))
    if options.photographs_minutes:
        once(
            work / "image_after.pt", lambda: train_photographs.run(work, minutes=options.photographs_minutes)
        )
        once(work / "image_final.pt", lambda: train_photographs.choose(work))
    if options.sounds_minutes:
        once(work / "sounds.npz", lambda: prepare_sounds.run(work))
        once(work / "audio_after.pt", lambda: train_sounds.run(work, minutes=options.sounds_minutes))
        once(work / "audio_final.pt", lambda: train_sounds.choose(work))
    export.run(work, output)
    letters.run(work, output)
    measure(work, output)
    start = ASSETS / "decoders" if options.from_shipped else None
    train_captions.run(work, output, output / "decoders", minutes=options.caption_minutes, start=start)
    read.run(work, output, output / "decoders")
    audit(Space.from_pretrained(output), full=True).save(output / "audit.json")
    plot.run(work, output)
    card.run(work, output)


if __name__ == "__main__":
    main()
