"""Right answers over 307 notes: python -m benchmarks.answers [--space NAME] [--held-out | --fit | --cjk]

The notes and questions in `data/` were written for this benchmark. Of the questions, 297 are answered by one note and
share words with it, 83 (`paraphrase`) are asked in other words, and 150 share words with a note that does not answer
them. Every second line of questions is held out, and read only with `--held-out`; the others are for tuning.
`--fit` fits the coefficients of `pipelines/answering/evidence/coefficients.py` to those and to 465 questions about 80
further notes, for each kind of space among those named, and prints how well they do in cross-validation. `--cjk` asks
small sets of notes in Japanese and Chinese instead.
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
from typing import Any

import numpy as np

import multimodal as mm
from multimodal.pipelines.answering import quoting, retrieval
from multimodal.pipelines.answering.evidence import answerability
from multimodal.pipelines.answering.evidence.answerability import UNCOVERED, Evidence
from multimodal.pipelines.answering.evidence.semantics import semantics_of
from multimodal.pipelines.answering.options import AnsweringOptions
from multimodal.pipelines.answering.options import Question as Asked

DATA = Path(__file__).parent / "data"
MODES = ("vector", "text", "hybrid")
Z_95 = 1.96
Z_90 = 1.645  # of a one-sided bound
RIDGE = 5.0  # of the standardised coefficients
FOLDS, SHUFFLES = 10, 3
ANSWERED = 0.90  # of the plain questions, at least, by the lower bound of their share
CURVE = (0.80, 0.85, 0.90, 0.95, 0.98)  # shares of answered questions at which refusals are shown
BY_KIND = (
    "uncovered",
    "is_semantic",
)  # neither is fitted: the first is set by hand, the second chooses the fit
LEXICAL_LACKS = ("affinity", "affinity_margin")  # for questions and hits that have none


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


def read_notes(*, for_tuning: bool = False) -> dict[str, str]:
    """The notes by id; for_tuning: with those that are for tuning alone."""
    rows = _rows("answers_notes") + (_rows("answers_tuning") if for_tuning else [])
    return {row["id"]: row["text"] for row in rows if "text" in row}


def _rows(name: str) -> list[dict[str, Any]]:
    return list(map(json.loads, (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()))


def read_questions(*, held_out: bool, for_fit: bool = False) -> Questions:
    """The questions for tuning, or those held out. for_fit: with those about the notes that are for tuning alone."""
    rows = _rows("answers_questions")[int(held_out) :: 2]
    if for_fit:
        rows += [row for row in _rows("answers_tuning") if "question" in row]
    questions = [
        Question(
            row["question"], row.get("note"), tuple(row.get("answers", ())), row.get("kind") == "paraphrase"
        )
        for row in rows
    ]
    return Questions(
        [question for question in questions if question.note and not question.is_paraphrase],
        [question for question in questions if question.is_paraphrase],
        [question for question in questions if question.note is None],
    )


def build_index(space: mm.Space, folder: Path, *, for_tuning: bool = False) -> mm.Index:
    """An index of the notes; the metadata of each hold its id."""
    index = mm.Index.create(folder, space)
    notes = read_notes(for_tuning=for_tuning)
    index.add([(mm.Text(text), {"note": note}) for note, text in notes.items()])
    return index


def interval(right: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's interval of a share, of 95 % by default."""
    share, spread = right / total, z**2 / total
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
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


@dataclass(frozen=True)
class Quoted:
    """What an index quotes for a question, also where it would refuse."""

    question: Question
    note: str
    text: str
    evidence: Evidence

    @property
    def has_right_note(self) -> bool:
        return self.note == self.question.note

    @property
    def has_answer(self) -> bool:
        return any(answer in self.text for answer in self.question.answers)

    @property
    def is_answered(self) -> bool:
        """Whether it is not refused."""
        return answerability.relevance(self.evidence) >= answerability.MIN_RELEVANCE


def quote_all(index: mm.Index, questions: Sequence[Question]) -> list[Quoted]:
    """What AnsweringPipeline(index) quotes for each question."""
    quoted = []
    for question in questions:
        sources = retrieval.retrieve(index, Asked(question.text), AnsweringOptions())
        hit, spans, evidence = quoting.choose(question.text, sources)
        text = " ".join(str(hit.text)[start:end] for start, end in spans)
        quoted.append(Quoted(question, str(hit.metadata["note"]), text, evidence))
    return quoted


def answer_table(index: mm.Index, questions: Questions) -> list[tuple[str, str]]:
    """(measure, share with interval) of extractive answers. Chunk and sentences are judged also if it refuses."""
    rows = []
    quoted = {kind: quote_all(index, group) for kind, group in vars(questions).items()}
    for name in ("plain", "paraphrases"):
        answers = quoted[name]
        rows.append((f"right note first, {name}", shown(answer.has_right_note for answer in answers)))
        rows.append((f"answer in the two sentences, {name}", shown(answer.has_answer for answer in answers)))
        rows.append((f"answered, {name}", shown(answer.is_answered for answer in answers)))
    rows.append(("refused, unanswerable", shown(not answer.is_answered for answer in quoted["unanswerable"])))
    plain, unanswerable = (
        np.array([answerability.relevance(answer.evidence) for answer in quoted[name]])
        for name in ("plain", "unanswerable")
    )
    return rows + [
        (f"refused where {share} of the plain are answered", text)
        for share, text in curve(plain, unanswerable)
    ]


def curve(plain: np.ndarray, unanswerable: np.ndarray) -> list[tuple[str, str]]:
    """(share of the plain questions that is answered, share of the unanswerable that is refused), for thresholds.

    Args:
        plain: The relevance (n,) of the quotes for each plain question.
        unanswerable: That for each unanswerable question, (m,).
    """
    ordered = np.sort(plain)[::-1]
    thresholds = [ordered[math.ceil(share * len(ordered)) - 1] for share in CURVE]
    return [
        (f"{share:.2f}", shown((unanswerable < threshold).tolist()))
        for share, threshold in zip(CURVE, thresholds, strict=True)
    ]


# --- fitting ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Examples:
    """Questions to which is fitted.

    evidence: (n, features). penalties: (n,) logits that are set by hand. is_right: (n,) whether the quotes answer.
    kinds: (n,) of the questions. is_semantic: the kind of the space.
    """

    evidence: np.ndarray
    penalties: np.ndarray
    is_right: np.ndarray
    kinds: np.ndarray
    is_semantic: bool

    @property
    def features(self) -> list[str]:
        """The fields of `Evidence` that are fitted."""
        left_out = BY_KIND if self.is_semantic else (*BY_KIND, *LEXICAL_LACKS)
        return [name for name in Evidence._fields if name not in left_out]

    def kept(self) -> np.ndarray:
        """The columns of `evidence` that are fitted."""
        return self.evidence[:, [Evidence._fields.index(name) for name in self.features]]


def gather_examples(index: mm.Index, questions: Questions) -> Examples:
    """What the extractive answers of an index go by."""
    by_kind = {kind: quote_all(index, group) for kind, group in vars(questions).items()}
    quoted = [answer for answers in by_kind.values() for answer in answers]
    return Examples(
        np.array([answer.evidence for answer in quoted], float),
        np.array([UNCOVERED * answer.evidence.uncovered for answer in quoted]),
        np.array([answer.has_right_note and answer.has_answer for answer in quoted], float),
        np.array([kind for kind, answers in by_kind.items() for _ in answers]),
        semantics_of(index.space).is_semantic,
    )


def fit(evidence: np.ndarray, is_right: np.ndarray) -> np.ndarray:
    """The intercept and the coefficients (1 + features,) of a logistic regression with a ridge penalty."""
    mean, deviation = evidence.mean(0), evidence.std(0) + 1e-9
    inputs = np.c_[np.ones(len(evidence)), (evidence - mean) / deviation]
    penalty = RIDGE * np.diag([1e-6, *np.ones(evidence.shape[1])])
    weights = np.zeros(inputs.shape[1])
    for _ in range(30):  # Newton's method
        p = 1 / (1 + np.exp(-inputs @ weights))
        curvature = (inputs * (p * (1 - p))[:, None]).T @ inputs + penalty
        weights += np.linalg.solve(curvature, inputs.T @ (is_right - p) - penalty @ weights)
    scaled = weights[1:] / deviation
    return np.r_[weights[0] - scaled @ mean, scaled]


def cross_validate(parts: Sequence[Examples]) -> list[np.ndarray]:
    """The logits of the questions of each part (n,), by coefficients that were fitted without those questions."""
    n = len(parts[0].is_right)
    evidence = [part.kept() for part in parts]
    out = [part.penalties.copy() for part in parts]
    for shuffle in range(SHUFFLES):
        fold = np.random.RandomState(shuffle).permutation(n) % FOLDS
        for number in range(FOLDS):
            kept = fold != number
            coefficients = fit(
                np.concatenate([rows[kept] for rows in evidence]),
                np.concatenate([part.is_right[kept] for part in parts]),
            )
            for logits, rows in zip(out, evidence, strict=True):
                logits[~kept] += (coefficients[0] + rows[~kept] @ coefficients[1:]) / SHUFFLES
    return out


def choose_threshold(plain: np.ndarray) -> float:
    """The highest threshold that answers enough questions: the lower bound of their share is at least ANSWERED.

    Args:
        plain: The logits (n,) of plain questions in cross-validation.
    """
    ordered = np.sort(plain)[::-1]
    n = len(ordered)
    answered = next((count for count in range(1, n + 1) if interval(count, n, Z_90)[0] >= ANSWERED), n)
    return float(ordered[answered - 1])


def print_fit(spaces: Sequence[str], parts: Sequence[Examples], n_development: int) -> None:
    """For each kind of space: what coefficients and threshold do in cross-validation, and both as source code.

    Args:
        spaces: Names of the spaces.
        parts: Their examples, the plain questions of the benchmark itself first.
        n_development: The number of those, by which the threshold is chosen.
    """
    for name, is_semantic in (("LEXICAL", False), ("SEMANTIC", True)):
        chosen = [number for number, part in enumerate(parts) if part.is_semantic is is_semantic]
        if not chosen:
            continue
        own = [parts[number] for number in chosen]
        validated = cross_validate(own)
        plain = [logits[part.kinds == "plain"] for logits, part in zip(validated, own, strict=True)]
        threshold = choose_threshold(np.concatenate([logits[:n_development] for logits in plain]))
        for number, logits, part in zip(chosen, validated, own, strict=True):
            print_validated(spaces[number], logits, part, threshold)
        coefficients = fit(
            np.concatenate([part.kept() for part in own]), np.concatenate([part.is_right for part in own])
        )
        fitted = zip(own[0].features, coefficients[1:].tolist(), strict=True)
        values = {feature: round(value, 3) for feature, value in fitted}
        print(f"{name} = Fit({coefficients[0]:.3f}, {threshold:.3f}, {values})\n")


def print_validated(space: str, logits: np.ndarray, part: Examples, threshold: float) -> None:
    """How well the questions of a space are answered and refused in cross-validation."""
    by_kind = {kind: logits[part.kinds == kind] for kind in vars(Questions([], [], []))}
    answered = {kind: shown((values >= threshold).tolist()) for kind, values in by_kind.items()}
    right, wrong = logits[part.is_right == 1], logits[part.is_right == 0]
    area = (right[:, None] > wrong).mean()
    refused = shown((by_kind["unanswerable"] < threshold).tolist())
    print(f"{space}: area under the curve {area:.3f}; answered: plain {answered['plain']}, paraphrases "
          f"{answered['paraphrases']}; refused: {refused}")  # fmt: skip
    for share, text in curve(by_kind["plain"], by_kind["unanswerable"]):
        print(f"  refused where {share} of the plain are answered: {text}")


# --- Japanese and Chinese ---------------------------------------------------------------------------


def print_cjk(space: mm.Space, folder: Path) -> None:
    """Right answers and refusals over the notes in Japanese and Chinese."""
    rows = list(map(json.loads, (DATA / "answers_cjk.jsonl").read_text(encoding="utf-8").splitlines()))
    index = mm.Index.create(folder, space)
    index.add([(mm.Text(row["text"]), {"note": row["id"]}) for row in rows if "text" in row])
    ask = mm.AnsweringPipeline(index)
    for language in ("ja", "zh"):
        asked = [row for row in rows if row.get("note", "").startswith(language)]
        answers = [ask(row["question"]) for row in asked]
        right = [row["answers"][0] in answer.text for row, answer in zip(asked, answers, strict=True)]
        refused = [ask(row["question"]).refused for row in rows if row.get("language") == language]
        print(
            f"{language}: answered correctly {sum(right)} of {len(right)}, refused {sum(refused)} of {len(refused)}"
        )


def main(argv: list[str]) -> int:
    """Prints the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.answers")
    parser.add_argument("--space", action="append", help="name of a space; --fit takes several (starter)")
    parser.add_argument("--held-out", action="store_true", help="the questions that were not used for tuning")
    parser.add_argument("--fit", action="store_true", help="fit the coefficients to the questions for tuning")
    parser.add_argument("--cjk", action="store_true", help="notes in Japanese and Chinese")
    arguments = parser.parse_args(argv)
    names = arguments.space or ["starter"]
    if arguments.fit and arguments.held_out:
        parser.error("--fit reads the questions for tuning, so leave out --held-out")
    questions = read_questions(held_out=arguments.held_out)
    half = "held out" if arguments.held_out else "for tuning"
    with tempfile.TemporaryDirectory() as folder:
        if arguments.cjk:
            print_cjk(mm.load(names[0]), Path(folder) / "cjk")
            return 0
        if arguments.fit:
            questions = read_questions(held_out=False, for_fit=True)
            indexes = [
                build_index(mm.load(name), Path(folder) / str(at), for_tuning=True)
                for at, name in enumerate(names)
            ]
            n_development = len(read_questions(held_out=False).plain)
            print_fit(names, [gather_examples(index, questions) for index in indexes], n_development)
            return 0
        index = build_index(mm.load(names[0]), Path(folder) / "notes")
        print(f"{names[0]}, questions {half}: {len(questions.plain)} plain, "
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
