"""Right answers over 307 notes: python -m benchmarks.answers [--space NAME] [--held-out]

The notes and questions in `data/` were written for this benchmark. Of the questions, 297 are answered by one note and
share words with it, 83 (`paraphrase`) are asked in other words, and 150 share words with a note that does not answer
them. Every second line of questions is held out, and read only with `--held-out`; the others are for tuning.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import multimodal as mm

DATA = Path(__file__).parent / "data"
MODES = ("vector", "text", "hybrid")
Z_95 = 1.96


@dataclass(frozen=True)
class Question:
    """A question. note: the id of the note that answers it, None if none does. answers: parts of the note, any of which
    is right."""

    text: str
    note: str | None
    answers: tuple[str, ...]
    is_paraphrase: bool


@dataclass(frozen=True)
class Questions:
    """One half of the questions, by kind."""

    plain: list[Question]
    paraphrases: list[Question]
    unanswerable: list[Question]


def read_notes() -> dict[str, str]:
    """The notes by id."""
    rows = map(json.loads, (DATA / "answers_notes.jsonl").read_text(encoding="utf-8").splitlines())
    return {row["id"]: row["text"] for row in rows}


def read_questions(*, held_out: bool) -> Questions:
    """The questions for tuning, or those held out."""
    lines = (DATA / "answers_questions.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [
        Question(
            row["question"], row.get("note"), tuple(row.get("answers", ())), row.get("kind") == "paraphrase"
        )
        for row in map(json.loads, lines)
    ]
    half = questions[int(held_out) :: 2]
    return Questions(
        [question for question in half if question.note and not question.is_paraphrase],
        [question for question in half if question.is_paraphrase],
        [question for question in half if question.note is None],
    )


def build_index(space: mm.Space, folder: Path) -> mm.Index:
    """An index of the notes; the metadata of each hold its id."""
    index = mm.Index.create(folder, space)
    index.add([(mm.Text(text), {"note": note}) for note, text in read_notes().items()])
    return index


def interval(right: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, spread = right / total, Z_95**2 / total
    middle = share + spread / 2
    half = Z_95 * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def shown(outcomes: Iterable[bool]) -> str:
    """A share with its interval, as .93 (.88–.96)."""
    values = list(outcomes)
    low, high = interval(sum(values), len(values))
    return f"{sum(values) / len(values):.3f} ({low:.2f}–{high:.2f})"


def right_first(index: mm.Index, questions: Sequence[Question], mode: str, **options: object) -> list[bool]:
    """Whether the right note is first, for each question."""
    answers = index.search([question.text for question in questions], k=1, mode=mode, **options)
    return [
        bool(hits) and hits[0].metadata["note"] == question.note
        for hits, question in zip(answers, questions, strict=True)
    ]


def search_table(index: mm.Index, questions: Questions) -> list[tuple[str, str, str, float]]:
    """(mode, right first of plain questions, of paraphrases, CPU seconds) for each mode."""
    rows = []
    for mode in MODES:
        began = time.process_time()
        plain = right_first(index, questions.plain, mode)
        paraphrases = right_first(index, questions.paraphrases, mode)
        rows.append((mode, shown(plain), shown(paraphrases), time.process_time() - began))
    return rows


def answer_table(index: mm.Index, questions: Questions) -> list[tuple[str, str]]:
    """(measure, share with interval) of extractive answers. Chunk and sentences are judged also if it refuses."""
    ask = mm.AnsweringPipeline(index)
    quoting = mm.AnsweringPipeline(index, min_relevance=0.0)
    rows = []
    for name, kind in (("plain", questions.plain), ("paraphrases", questions.paraphrases)):
        quoted = [(question, quoting(question.text)) for question in kind]
        rows.append((f"right note first, {name}", shown(
            bool(answer.citations) and answer.citations[0].hit.metadata["note"] == question.note
            for question, answer in quoted
        )))  # fmt: skip
        rows.append((f"answer in the two sentences, {name}", shown(
            any(right in answer.text for right in question.answers) for question, answer in quoted
        )))  # fmt: skip
        rows.append((f"answered, {name}", shown(not ask(question.text).refused for question in kind)))
    refused = [ask(question.text).refused for question in questions.unanswerable]
    rows.append(("refused, unanswerable", shown(refused)))
    return rows


def main(argv: list[str]) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.answers")
    parser.add_argument("--space", default="starter", help="name of the space")
    parser.add_argument("--held-out", action="store_true", help="the questions that were not used for tuning")
    arguments = parser.parse_args(argv)
    questions = read_questions(held_out=arguments.held_out)
    half = "held out" if arguments.held_out else "for tuning"
    with tempfile.TemporaryDirectory() as folder:
        index = build_index(mm.load(arguments.space), Path(folder) / "notes")
        print(f"{arguments.space}, questions {half}: {len(questions.plain)} plain, "
              f"{len(questions.paraphrases)} paraphrases, {len(questions.unanswerable)} unanswerable\n")  # fmt: skip
        print("| search | right note first, plain | paraphrases | CPU s |\n| --- | ---: | ---: | ---: |")
        for mode, plain, paraphrases, seconds in search_table(index, questions):
            print(f"| {mode} | {plain} | {paraphrases} | {seconds:.1f} |")
        print("\n| extractive answers | share |\n| --- | ---: |")
        for measure, share in answer_table(index, questions):
            print(f"| {measure} | {share} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
