"""Character statistics of all training utterances, for the language model of the transcription decoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from multimodal.encoders.starter.parameters import ALPHABET
from multimodal.pipelines.transcription.backends.char_lm import ORDER, SPACE, pack_counts

SELDOM = (
    3  # longer runs seen less often are left out: the file would be twice as large, the figures no better
)


def count(phrases: Iterable[str]) -> dict[tuple[int, ...], int]:
    """How often each run of 1 to ORDER letters occurs, a space before and behind each phrase."""
    counts: Counter[tuple[int, ...]] = Counter()
    for phrase in phrases:
        run = (SPACE, *(1 + ALPHABET.index(item) for item in phrase if item in ALPHABET), SPACE)
        for end in range(1, len(run)):
            for size in range(1, min(ORDER, end + 1) + 1):
                counts[run[end + 1 - size : end + 1]] += 1
    return {run: number for run, number in counts.items() if len(run) < 3 or number >= SELDOM}


def run(work: Path, folder: Path) -> None:
    """Write letters.safetensors into `folder`."""
    phrases = dict.fromkeys(np.load(work / "speech.npz")["texts"].tolist())
    counts = count(phrases)
    save_file(pack_counts(counts), folder / "letters.safetensors")
    size = (folder / "letters.safetensors").stat().st_size
    print(f"{folder / 'letters.safetensors'}: {len(counts):,} runs of letters, {size / 1e3:.0f} kB")
