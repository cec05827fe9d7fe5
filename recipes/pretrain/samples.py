"""Samples of any source, streamed in an order that depends on the seed alone.

A sample is raw (paths, bytes, or a function that draws it) until it is needed, so that skipping samples on resume and
leaving samples to other processes costs no decoding.
"""

from __future__ import annotations

import glob
import random
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from multimodal.core.items import Audio, Image, Text

IMAGES, SOUNDS, TEXTS = (
    (".png", ".jpg", ".jpeg", ".webp", ".bmp"),
    (".wav", ".flac", ".mp3", ".ogg"),
    (".txt",),
)

Part = Callable[[], Image | Audio | Text]


@dataclass(frozen=True)
class Sample:
    """What belongs together: a function for each modality that gives its item."""

    key: str
    parts: dict[str, Part]

    @property
    def place(self) -> float:
        """A number in [0, 1) that depends on the key alone: it chooses what is held out and which pairs are used."""
        return zlib.crc32(self.key.encode()) / 2**32


class Source(Protocol):
    """Where samples come from."""

    def epoch(self, seed: int) -> Iterator[Sample]:
        """Every sample once, in an order that the seed determines."""
        ...


class Folder:
    """Files under a folder; files of one stem are one sample: a.jpg, a.txt, a.wav."""

    def __init__(self, root: Path) -> None:
        files: dict[str, dict[str, Path]] = {}
        for path in sorted(root.rglob("*")):
            modality = modality_of(path.suffix)
            if modality and path.is_file():
                files.setdefault(str(path.relative_to(root).with_suffix("")), {})[modality] = path
        if not files:
            raise FileNotFoundError(f"no images, sounds or .txt files under {root}")
        self.files = files

    def epoch(self, seed: int) -> Iterator[Sample]:
        keys = sorted(self.files)
        random.Random(seed).shuffle(keys)
        for key in keys:
            yield Sample(
                key, {modality: _of_path(path, modality) for modality, path in self.files[key].items()}
            )


class Shards:
    """WebDataset archives (.tar) read from start to end: files of one stem are one sample.

    The order of the shards is shuffled, and samples within a buffer.
    """

    def __init__(self, pattern: str, buffer: int) -> None:
        self.paths, self.buffer = sorted(glob.glob(pattern)), buffer  # noqa: PTH207 -- the pattern may be absolute
        if not self.paths:
            raise FileNotFoundError(f"no archive matches {pattern!r}")

    def epoch(self, seed: int) -> Iterator[Sample]:
        rng, waiting = random.Random(seed), []
        paths = list(self.paths)
        rng.shuffle(paths)
        for path in paths:
            for sample in self.read(path):
                waiting.append(sample)
                if len(waiting) >= self.buffer:
                    place = rng.randrange(len(waiting))
                    waiting[place], waiting[-1] = waiting[-1], waiting[place]
                    yield waiting.pop()
        rng.shuffle(waiting)
        yield from waiting

    @staticmethod
    def read(path: str) -> Iterator[Sample]:
        """The samples of one archive, in its order."""
        key, parts = "", dict[str, Part]()
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")  # WebDataset: the key ends at the first dot
                modality = modality_of(f".{suffix}")
                if not member.isfile() or modality is None:
                    continue
                if f"{folder}/{stem}" != key:
                    if parts:
                        yield Sample(f"{path}:{key}", parts)
                    key, parts = f"{folder}/{stem}", {}
                content = archive.extractfile(member)
                assert content is not None
                parts[modality] = _of_bytes(content.read(), modality)
        if parts:
            yield Sample(f"{path}:{key}", parts)


def modality_of(suffix: str) -> str | None:
    """The modality of a file name's ending; None for others."""
    endings = {"image": IMAGES, "audio": SOUNDS, "text": TEXTS}
    return next((name for name, known in endings.items() if suffix.lower() in known), None)


def _of_path(path: Path, modality: str) -> Part:
    if modality == "text":
        return lambda: Text(path.read_text(encoding="utf-8").strip())
    return lambda: Image(path) if modality == "image" else Audio(path)


def _of_bytes(content: bytes, modality: str) -> Part:
    if modality == "text":
        return lambda: Text(content.decode("utf-8").strip())
    return lambda: Image(content) if modality == "image" else Audio(content)


Keep = Callable[[Sample], bool]


def batches(source: Source, size: int, seed: int, keep: Keep, start: int = 0) -> Iterator[list[Sample]]:
    """Batches without end, epoch after epoch; samples left over at the end of an epoch open the next batch.

    Args:
        source: Where samples come from.
        size: Samples of a batch.
        seed: Of the order.
        keep: Whether a sample takes part.
        start: Batches to skip without decoding them, on resume.

    Raises:
        ValueError: If no sample of an epoch takes part.
    """
    batch: list[Sample] = []
    number = epoch = 0
    while True:
        n_kept = 0
        for sample in source.epoch(seed + 1_000_003 * epoch):
            if not keep(sample):
                continue
            n_kept += 1
            batch.append(sample)
            if len(batch) == size:
                if number >= start:
                    yield batch
                batch, number = [], number + 1
        if not n_kept:
            raise ValueError(
                "no sample has the modalities of this stage: look at the source and at the share"
            )
        epoch += 1
