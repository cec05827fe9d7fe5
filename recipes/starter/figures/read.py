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
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import multimodal as mm
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.starter.encoders import StarterAudio
from multimodal.encoders.starter.parameters import ALPHABET
from multimodal.pipelines.transcription.backends.starter import StarterBackend, character_ids
from recipes.starter.data.spelling import letters_only, spelled
from recipes.starter.figures import evaluate, evaluation_rows, judges

HERE = Path(__file__).parents[1]
ASSETS = HERE.parent.parent / "assets" / "starter"
FILE = "transcription_figures.json"


Reading = Callable[
    [torch.Tensor, Any], str
]  # log-mels (frames, 64), their character log-probabilities -> text


def figures(reader: StarterBackend, work: Path, speakers: tuple[str, ...], every: int) -> dict[str, float]:
    """Percent of letters wrong, open; percent of names right, closed; milliseconds a clip, open."""
    texts = judges.clips(work)["texts"].tolist()
    names, spoken = list(dict.fromkeys(texts)), []
    for speaker in speakers:
        rows = np.flatnonzero(judges.clips(work)["speakers"] == speaker)[::every]
        clips = evaluation_rows.clips(work, speaker, every)
        spoken += [(clip, texts[row]) for (clip, _), row in zip(clips, rows, strict=True)]
    letters = evaluation_rows.paired(
        audio=[clip for clip, _ in spoken], text=[letters_only(name) for _, name in spoken]
    )
    closed = evaluation_rows.paired(
        audio=[clip for clip, _ in spoken], text=[written(name) for _, name in spoken]
    )

    def alone(mel: torch.Tensor, logs: Any) -> str:
        return spelled(torch.from_numpy(logs).argmax(-1))

    def unrestricted(mel: torch.Tensor, logs: Any) -> str:
        return " ".join(word.text for word in reader.words(mel, logs, reader.beams))

    def among_names(mel: torch.Tensor, logs: Any) -> str:
        return written(names[int(reader.scores(mel, logs, names).argmax())])

    began = time.perf_counter()
    read = transcribed(reader, letters, unrestricted)
    seconds = time.perf_counter() - began
    return {
        "clips": len(spoken),
        "open CER": percent(read.figures["cer_raw"].value),
        "open CER, letters alone": percent(transcribed(reader, letters, alone).figures["cer_raw"].value),
        "closed": percent(float((transcribed(reader, closed, among_names).values["cer_raw"] == 0).mean())),
        "ms a clip": round(1000 * seconds / len(spoken), 1),
    }


def transcribed(reader: StarterBackend, rows: list[evaluation_rows.Row], reading: Reading) -> mm.Evaluation:
    """The error rates of one way of reading."""

    def transcribe(clips: list[Any]) -> list[SimpleNamespace]:
        mels = map(evaluation_rows.mel_of, clips)
        return [SimpleNamespace(text=reading(mel, reader.logs(mel))) for mel in mels]

    return mm.evaluate(transcribe, rows, "transcription")


def written(name: str) -> str:
    """A name in the characters that the reader writes."""
    return "".join(ALPHABET[label - 1] for label in character_ids(name))


def percent(share: float) -> float:
    return round(100 * share, 1)


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
