"""Transcription: word and character error rates, pooled over the clips, as written and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.evaluation.data import Table
from multimodal.evaluation.encoding import Runner, describe
from multimodal.evaluation.figure import ratio
from multimodal.evaluation.metrics.text import edits, normalize
from multimodal.evaluation.result import ItemResult
from multimodal.evaluation.tasks.outcome import Options, Outcome, identity, item_key


def run(model: Any, table: Table, options: Options, runner: Runner) -> Outcome:
    """WER and CER of normalised text, and of the text as written (`wer_raw`, `cer_raw`).

    A clip whose reference is empty, as written or after normalising, has no error rate: it is excluded and counted.
    """
    import numpy as np

    outcome = Outcome()
    modality = Modality.AUDIO if Modality.AUDIO in table.modalities else Modality.VIDEO
    rows = []
    for row in table.rows:
        if modality not in row.items:
            outcome.excluded["no audio"] += 1
        elif Modality.TEXT not in row.items or not normalize(str(row.items[Modality.TEXT].load())):
            outcome.excluded["empty reference"] += 1
        else:
            rows.append(row)
    if not rows:
        raise InvalidInput(
            f"{table.name}: no row has audio and a transcript; found {dict(outcome.excluded)}, expected the columns "
            "audio and text"
        )
    clips = [row.items[modality] for row in rows]

    def work(part: Sequence[Item]) -> list[Any]:
        return [answer.text for answer in model(list(part), **options.call)]

    answers, failures = runner.results(f"transcription:{identity(model)[1]}:{options.call}", clips, work)
    outcome.excluded["unreadable"] += len(failures)
    counts: list[tuple[int, ...]] = []
    for position, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        if position in failures:
            continue
        reference = str(row.items[Modality.TEXT].load()).strip()
        clip = clips[position]
        key = item_key(clip, reference)
        outcome.items.append(ItemResult(key, describe(clip), reference, answer.strip(), row.group, clip))
        counts.append(_counts(reference, answer.strip()))
    if not counts:
        raise InvalidInput(f"{table.name}: no clip could be read; the first: {failures[min(failures)]}")
    columns = np.array(counts, dtype=np.float64).T
    for name, errors, lengths in zip(
        ("wer", "cer", "wer_raw", "cer_raw"), columns[::2], columns[1::2], strict=True
    ):
        outcome.values[name] = errors / lengths
        outcome.values[f"{name} length"] = lengths
        outcome.statistics[name] = ratio(errors, lengths)
    outcome.settings = {"pooled": True, "normalised": "lower case, no punctuation"}
    return outcome


def _counts(reference: str, answer: str) -> tuple[int, ...]:
    """Errors and length, by words and by characters, of normalised text and of the text as written."""
    counts: list[int] = []
    for first, second in ((normalize(reference), normalize(answer)), (reference, answer)):
        words = first.split()
        counts += [edits(words, second.split()), len(words), edits(first, second), len(first)]
    return tuple(counts)
