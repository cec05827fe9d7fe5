"""Few-shot classification with the starter, on sets it was not trained for: python -m benchmarks.few_shot

Compares `multimodal.adapt.few_shot` with zero-shot classification, the nearest class mean and logistic regression, on
the same vectors and the same draws: k examples of each class to learn from, 40 others of each class to judge. Also
measures calibration, the coverage of candidates at reject=0.1, how well unknown classes are recognised, and the CPU
time of a fit, with the encoding of the labels' words. Figures are means over the seeds, with their standard error.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.harness import few_shot_data
from benchmarks.harness.few_shot_data import LabelledSet
from multimodal.adapt.fewshot import discriminant
from multimodal.adapt.fewshot.api import few_shot
from multimodal.core.catalog import load
from multimodal.core.classification.prompts import encode_labels
from multimodal.core.encoder import Encoder
from multimodal.core.items import Audio, Image, Item
from multimodal.core.modality import Modality
from multimodal.core.space import Space

HERE = Path(__file__).parent
SHOTS = (1, 2, 4, 8, 16)
POOL, JUDGED = 16, 40  # of each class
REJECT = 0.1
BINS = 10
Figures = dict[str, list[float]]


class StoredVectors(Encoder):
    """Vectors that were computed before: an item names its row in its uri."""

    def __init__(self, modality: Modality, rows: NDArray[np.float32]) -> None:
        self.modality, self.rows, self.dim = modality, rows, rows.shape[1]  # type: ignore[misc]

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        return {"rows": torch.from_numpy(self.rows[[int(item.uri or 0) for item in items]])}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["rows"]

    def config(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        return {"rows": torch.from_numpy(self.rows)}


class Judge:
    """One set, encoded once, and the figures of each draw."""

    def __init__(self, data: LabelledSet, starter: Space) -> None:
        self.data = data
        self.modality = data.items[0].modality
        self.vectors = starter.encode(data.items, batch_size=64)
        encoders = [StoredVectors(self.modality, self.vectors), starter.encoders[Modality.TEXT]]
        self.space = Space(encoders, starter.logit_scales, name=data.name)
        self.words = encode_labels(starter, data.labels, None, self.modality)
        blank: Any = np.zeros((1, 1, 3), np.uint8)
        silence = {"array": np.zeros(8, np.float32), "sampling_rate": few_shot_data.RATE_HZ}
        self.items: list[Item] = [
            Image(blank, uri=str(row)) if self.modality is Modality.IMAGE else Audio(silence, uri=str(row))
            for row in range(len(self.vectors))
        ]

    def draw(self, k: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(rows to learn from, rows to judge); more examples include those of fewer."""
        rng, learned, judged = np.random.default_rng(seed), [], []
        for label in range(len(self.data.labels)):
            rows = rng.permutation(np.flatnonzero(self.data.classes == label))
            learned.append(rows[:k])
            judged.append(rows[POOL : POOL + JUDGED])
        return np.concatenate(learned), np.concatenate(judged)

    def measure(self, k: int, seed: int, figures: Figures) -> None:
        """Appends the figures of one draw."""
        learned, judged = self.draw(k, seed)
        vectors, classes = self.vectors[learned], self.data.classes[learned]
        queries, right = self.vectors[judged], self.data.classes[judged]
        n = len(self.data.labels)

        def add(name: str, value: float) -> None:
            figures.setdefault(name, []).append(value)

        def accuracy(scores: NDArray[Any]) -> float:
            return 100 * float((scores.argmax(axis=1) == right).mean())

        add("zero-shot", accuracy(queries @ self.words.T))
        mean = discriminant.nearest_mean(vectors, classes, n)
        add("nearest mean", accuracy(mean.scores(queries)))
        started = time.process_time()
        logistic = mean if k == 1 else discriminant.logistic(vectors, classes, n, seed)
        add("seconds, logistic regression", time.process_time() - started)
        add("logistic regression", accuracy(logistic.scores(queries)))
        examples = [(self.items[row], self.data.labels[self.data.classes[row]]) for row in learned]
        started = time.process_time()
        classify = few_shot(self.space, examples, self.data.labels, reject=REJECT if k >= 4 else None)
        add("seconds, few_shot", time.process_time() - started)
        probabilities = classify.probabilities(queries, str(self.modality))
        add("few_shot", accuracy(probabilities))
        add("weight of the words", classify.report.text_weight)
        add("calibration error", calibration_error(probabilities, right))
        rejection = classify.rule.rejection
        if rejection is not None:
            candidates = probabilities >= rejection.least_probability
            add("coverage", 100 * float(candidates[np.arange(len(right)), right].mean()))
            add("candidates", float(candidates.sum(axis=1).mean()))
        add("AUROC of unknown classes", self.unknown(learned, judged))

    def unknown(self, learned: NDArray[np.int64], judged: NDArray[np.int64]) -> float:
        """How well the cosine to the nearest example separates classes that were taught from the other half."""
        half = len(self.data.labels) // 2
        taught = learned[self.data.classes[learned] < half]
        nearest = (self.vectors[judged] @ self.vectors[taught].T).max(axis=1)
        known = self.data.classes[judged] < half
        order = nearest.argsort().argsort()
        count = int(known.sum())
        above = order[known].sum() - count * (count - 1) / 2
        return float(above / (count * (len(judged) - count)))


def calibration_error(probabilities: NDArray[np.float64], right: NDArray[np.int64]) -> float:
    """Expected calibration error over bins of equal width."""
    confidence, hits = probabilities.max(axis=1), probabilities.argmax(axis=1) == right
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        abs(confidence[bins == b].mean() - hits[bins == b].mean()) * (bins == b).mean()
        for b in range(BINS)
        if (bins == b).any()
    ]
    return float(np.sum(gaps))


def run(work: Path, seeds: int, shots: Sequence[int], only: Sequence[str] = ()) -> dict[str, Any]:
    """The figures of every set: {set: {k: {figure: (mean, standard error)}}}."""
    starter = load("starter", device="cpu")
    results: dict[str, Any] = {}
    for data in few_shot_data.available(work, only):
        judge = Judge(data, starter)
        results[data.name] = {}
        for k in shots:
            figures: Figures = {}
            for seed in range(seeds):
                judge.measure(k, seed, figures)
            results[data.name][str(k)] = {
                name: (float(np.mean(values)), float(np.std(values, ddof=min(1, seeds - 1)) / seeds**0.5))
                for name, values in figures.items()
            }
            print(f"{data.name}, k = {k}: {table_row(results[data.name][str(k)])}", flush=True)
    return results


COLUMNS = ("zero-shot", "nearest mean", "logistic regression", "few_shot")
DETAILS = ("calibration error", "coverage", "candidates", "AUROC of unknown classes", "seconds, few_shot")


def table_row(figures: Mapping[str, tuple[float, float]]) -> str:
    """One line of the table."""
    best = max(round(figures[name][0], 1) for name in COLUMNS)
    cells = []
    for name in COLUMNS:
        mean, error = figures[name]
        text = f"{mean:.1f} ± {error:.1f}"
        cells.append(f"**{text}**" if round(mean, 1) == best else text)
    for name in DETAILS:
        cells.append(f"{figures[name][0]:.2f}" if name in figures else "–")
    return " | ".join(cells)


def main(argv: Sequence[str] | None = None) -> None:
    """Prints a Markdown table and writes the figures as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=HERE.parent / "recipes" / "starter" / "runs",
                        help="the work folder of recipes/starter, for the set 'new artist'")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="one seed, k = 1 and 4")
    parser.add_argument("--only", help="names of sets, separated by commas")
    parser.add_argument("--output", type=Path, help="where the figures are written as JSON")
    args = parser.parse_args(argv)
    only = args.only.split(",") if args.only else ()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # logistic regression that did not converge
    results = run(args.work, 1 if args.small else args.seeds, (1, 4) if args.small else SHOTS, only)
    if args.output is not None:
        args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print("| set | k |", " | ".join(COLUMNS + DETAILS), "|")
    print("|---|--:|", "--:|" * len(COLUMNS + DETAILS), sep="")
    for name, by_k in results.items():
        for k, figures in by_k.items():
            print(f"| {name} | {k} | {table_row(figures)} |")


if __name__ == "__main__":
    main()
