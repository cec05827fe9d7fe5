"""How well the starter writes down speech it never heard: `python -m recipes.starter.read --work RUNS`.

Names of the emoji world by held-out voices (espeak0 to 2) and synthesisers never trained on (flite's kal16 and rms,
festival). Open: no list of what may be said, though what follows what was counted in the phrases of the training, the
names among them, and the readings are weighed by their vectors; "letters alone" is without both. Closed: the likeliest
of all names, by its letters and its vector.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from multimodal.core.space import Space
from multimodal.core.types import Modality
from multimodal.encoders._starter_nets import ALPHABET
from multimodal.encoders.starter import StarterAudio
from multimodal.pipelines._transcription_beams import beam_search
from multimodal.pipelines._transcription_starter import StarterReader, letters
from recipes.starter import judges
from recipes.starter.__main__ import ASSETS, HERE

VOICES = {
    "unseen voices": ("espeak0", "espeak1", "espeak2"),
    "flite kal16": ("kal16",),
    "flite rms": ("rms",),
    "festival": ("festival",),
}


def distance(one: str, other: str) -> int:
    """How many letters to insert, take out or replace (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for place, letter in enumerate(one, 1):
        before, row[0] = row[0], place
        for at, second in enumerate(other, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (letter != second))
    return row[-1]


def figures(
    reader: StarterReader, work: Path, speakers: tuple[str, ...], every: int, beams: int
) -> dict[str, float]:
    """Percent of letters wrong, open; percent of names right, closed; seconds a clip."""
    data = judges.clips(work)
    names = list(dict.fromkeys(data["texts"].tolist()))
    readings = [letters(name) for name in names]
    rows = [row for who in speakers for row in np.flatnonzero(data["speakers"] == who)[::every]]
    wrong, wrong_alone, right, n_letters, seconds = 0, 0, 0, 0, 0.0
    for row in rows:
        mel = (
            torch.from_numpy(data["mels"][data["starts"][row] : data["starts"][row + 1]]).float() / 127.5 - 1
        )
        said = letters(str(data["texts"][row]))
        spoken = "".join(ALPHABET[one - 1] for one in said)
        began = time.perf_counter()
        logs = reader.logs(mel)
        read = " ".join(word.text for word in reader.words(mel, logs, beams))
        seconds += time.perf_counter() - began
        alone = "".join(ALPHABET[one - 1] for one in beam_search(logs, beams)[0][0]).strip()
        wrong, wrong_alone = wrong + distance(spoken, read), wrong_alone + distance(spoken, alone)
        n_letters += len(said)
        right += readings[int(reader.scores(mel, logs, names).argmax())] == said
    return {
        "clips": len(rows),
        "open CER": round(100 * wrong / n_letters, 1),
        "open CER, letters alone": round(100 * wrong_alone / n_letters, 1),
        "closed": round(100 * right / len(rows), 1),
        "ms a clip": round(1000 * seconds / len(rows), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.starter.read", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=HERE / "runs", help="where speech_judge.npz is")
    parser.add_argument("--model", type=Path, default=ASSETS, help="the space to measure")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th clip")
    parser.add_argument("--beams", type=int, default=None)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    space = Space.from_pretrained(asked.model)
    encoder = space.encoders[Modality.AUDIO]
    if not isinstance(encoder, StarterAudio):
        raise SystemExit(f"{asked.model} holds no ear of the starter")
    reader = StarterReader(encoder, space.encoders[Modality.TEXT])
    for title, speakers in VOICES.items():
        found = figures(reader, asked.work, speakers, asked.every, asked.beams or StarterReader.beams)
        print(json.dumps({title: found}), flush=True)


if __name__ == "__main__":
    main()
