"""Writes assets/gallery. Needs fonts-noto-color-emoji, libraqm0 and libespeak-ng1 (Debian); takes seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

from recipes.gallery import audio, images, items
from recipes.starter.data.voices import Espeak

GALLERY = Path(__file__).resolve().parents[2] / "assets" / "gallery"
ROOMS = ("pictures", "sounds", "notes")


def main(gallery: Path = GALLERY) -> None:
    """Replaces the three folders of the gallery; its README stays."""
    for room in ROOMS:
        shutil.rmtree(gallery / room, ignore_errors=True)
        (gallery / room).mkdir(parents=True)
    for scene in items.IMAGES:
        images.write(scene, gallery / "pictures")
    espeak, voices = Espeak(), audio.voices()
    for number, (name, text) in enumerate(items.CLIPS.items()):
        audio.write(espeak, text, voices[number % len(voices)], gallery / "sounds" / f"{name}.flac")
    for name, text in items.NOTES.items():
        (gallery / "notes" / f"{name}.txt").write_text(f"{text}\n", encoding="utf-8")
    for room in ROOMS:
        files = list((gallery / room).iterdir())
        print(f"{room}: {len(files)} files, {sum(file.stat().st_size for file in files):,} bytes")


if __name__ == "__main__":
    main()
