"""Evaluates transcription by the starter: `python -m recipes.starter.figures.read --work RUNS`.

Names of the concepts by held-out voices (espeak0 to 2) and speakers that were not used in training (flite's kal16 and
rms, festival's kal and ked). Open: an unrestricted vocabulary, with a character language model estimated on the
training phrases, which include the names, and with hypotheses scored by their vectors; "letters alone" uses neither
and takes the most likely character of each step. Closed: the most likely of all names, by its characters and its
vector.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.starter.encoders import StarterAudio
from multimodal.pipelines.transcription.backends.starter import StarterBackend, character_ids
from recipes.starter.data.spelling import distance, letters_only, spelled
from recipes.starter.figures import evaluate, judges

HERE = Path(__file__).parents[1]
ASSETS = HERE.parent.parent / "assets" / "starter"
FILE = "transcription_figures.json"


def figures(reader: StarterBackend, work: Path, speakers: tuple[str, ...], every: int) -> dict[str, float]:
    """Percent of letters wrong, open; percent of names right, closed; milliseconds a clip, open."""
    data = judges.clips(work)
    names = list(dict.fromkeys(data["texts"].tolist()))
    rows = [row for who in speakers for row in np.flatnonzero(data["speakers"] == who)[::every]]
    wrong, wrong_alone, right, n_letters, seconds = 0, 0, 0, 0, 0.0
    for row in rows:
        mel = torch.from_numpy(data["mels"][data["starts"][row] : data["starts"][row + 1]]).float()
        mel, name = mel / 127.5 - 1, str(data["texts"][row])
        said = letters_only(name)
        began = time.perf_counter()
        logs = reader.logs(mel)
        read = " ".join(word.text for word in reader.words(mel, logs, reader.beams))
        seconds += time.perf_counter() - began
        alone = spelled(torch.from_numpy(logs).argmax(-1)).strip()
        wrong, wrong_alone = wrong + distance(said, read), wrong_alone + distance(said, alone)
        n_letters += len(said)
        right += character_ids(names[int(reader.scores(mel, logs, names).argmax())]) == character_ids(name)
    return {
        "clips": len(rows),
        "open CER": round(100 * wrong / n_letters, 1),
        "open CER, letters alone": round(100 * wrong_alone / n_letters, 1),
        "closed": round(100 * right / len(rows), 1),
        "ms a clip": round(1000 * seconds / len(rows), 1),
    }


def run(work: Path, space: Path, folder: Path, every: int = 1, only: str | None = None) -> None:
    """Measure what `export` wrote; each kind of voice as it is done into transcription_figures.json in `folder`."""
    opened = Space.from_pretrained(space)
    encoder = opened.encoders[Modality.AUDIO]
    if not isinstance(encoder, StarterAudio):
        raise SystemExit(f"{space} holds no ear of the starter")
    reader, file = StarterBackend(encoder, opened.encoders[Modality.TEXT]), folder / FILE
    result = json.loads(file.read_text()) if file.exists() else {}
    if result.get("encoder") != encoder.fingerprint:
        result = {"encoder": encoder.fingerprint}
    for title, speakers in evaluate.SPEAKERS.items():
        if only in (None, title):
            result[title] = figures(reader, work, speakers, every)
            file.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps({title: result[title]}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.starter.figures.read", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=HERE / "runs", help="where speech_judge.npz is")
    parser.add_argument("--space", type=Path, default=ASSETS, help="the space to measure")
    parser.add_argument("--output", type=Path, default=ASSETS / "decoders", help=f"where {FILE} goes")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th clip")
    parser.add_argument("--only", choices=list(evaluate.SPEAKERS), help="one kind of voice")
    args = parser.parse_args()
    torch.set_num_threads(1)
    run(args.work, args.space, args.output, args.every, args.only)


if __name__ == "__main__":
    main()
