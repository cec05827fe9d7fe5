"""Our evaluation metrics against torchmetrics, scikit-learn and jiwer: `python -m benchmarks.equality.metrics`.

Prints what the tests record, and the largest difference of each metric. torchmetrics counts a document of score 0 or
below as not retrieved, so scores are shifted to be positive; its image metrics take features instead of images here.
"""

from __future__ import annotations

import json
import random

import numpy as np

from multimodal.evaluation.figure import Resampling
from multimodal.evaluation.metrics import classification, generated, retrieval, text

WORDS = ("a", "red", "apple", "on", "the", "tree", "and", "two")


def unit(rng: np.random.Generator, n: int, dim: int = 8) -> np.ndarray:
    rows = rng.standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def retrieval_metrics() -> dict[str, object]:
    """Each metric of six queries by torchmetrics, and the largest difference."""
    import torch
    from torchmetrics.functional import retrieval as theirs

    rng = np.random.default_rng(1)
    queries, gallery = unit(rng, 6), unit(rng, 50)
    right = [sorted(rng.choice(50, size=3, replace=False).tolist()) for _ in range(6)]
    ours = retrieval.item_values(retrieval.rank(queries, gallery, right))
    functions = {
        "ndcg@10": (theirs.retrieval_normalized_dcg, 10),
        "map": (theirs.retrieval_average_precision, None),
        "recall@10": (theirs.retrieval_recall, 10),
        "hit@5": (theirs.retrieval_hit_rate, 5),
        "mrr@10": (theirs.retrieval_reciprocal_rank, 10),
    }
    recorded: dict[str, list[float]] = {name: [] for name in functions}
    for row, own in enumerate(right):
        scores, target = torch.from_numpy(queries[row] @ gallery.T) + 2, torch.zeros(50, dtype=torch.bool)
        target[own] = True
        for name, (function, depth) in functions.items():
            recorded[name].append(round(float(function(scores, target, top_k=depth)), 7))
    differences = {name: float(np.abs(ours[name] - values).max()) for name, values in recorded.items()}
    return {"recorded": recorded, "largest difference": differences}


def calibration() -> dict[str, object]:
    """Expected calibration error and balanced accuracy."""
    import torch
    from sklearn.metrics import balanced_accuracy_score
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(2)
    probabilities, truth = rng.dirichlet(np.ones(7), 300), rng.integers(0, 7, 300)
    predicted = probabilities.argmax(1)
    correct = (predicted == truth).astype(float)
    tensors = torch.from_numpy(probabilities), torch.from_numpy(truth)
    theirs = [
        float(multiclass_calibration_error(*tensors, 7, n_bins=15)),
        float(balanced_accuracy_score(truth, predicted)),
    ]
    every = np.ones((1, 300))
    ours = [
        float(classification.calibration_error(probabilities.max(1), correct)(every)[0]),
        float(classification.class_mean(correct, truth)(every)[0]),
    ]
    return {
        "recorded": theirs,
        "largest difference": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
    }


def kernel_distance() -> dict[str, object]:
    """KID on the whole of two sets, as one subset of torchmetrics."""
    import torch
    from torchmetrics.image.kid import poly_kernel, poly_mmd

    rng = np.random.default_rng(3)
    first, second = unit(rng, 40), unit(rng, 30)
    ours = generated.kernel_distance(first, second).value
    a, b = (torch.from_numpy(rows.astype(np.float64)) for rows in (first, second))

    # poly_mmd takes sets of one size: its three sums are computed from kernels of either size here
    def within(rows: torch.Tensor) -> float:
        kernel = poly_kernel(rows, rows, 3, None, 1.0)
        return float((kernel.sum() - kernel.diagonal().sum()) / (len(rows) * (len(rows) - 1)))

    theirs = within(a) + within(b) - 2 * float(poly_kernel(a, b, 3, None, 1.0).mean())
    equal = float(poly_mmd(a[:30], b, 3, None, 1.0))
    own = generated.kernel_distance(first[:30], second).value
    return {"recorded": theirs, "largest difference": max(abs(ours - theirs), abs(own - equal))}


def error_rates(n: int = 300) -> dict[str, object]:
    """Word and character error rates of random sentences, and pooled."""
    import jiwer

    rng = random.Random(4)
    pairs = [
        (" ".join(rng.choices(WORDS, k=rng.randint(1, 9))), " ".join(rng.choices(WORDS, k=rng.randint(0, 9))))
        for _ in range(n)
    ]
    difference = 0.0
    for first, second in pairs:
        wer = text.edits(first.split(), second.split()) / len(first.split())
        cer = text.edits(first, second) / len(first)
        difference = max(difference, abs(wer - jiwer.wer(first, second)), abs(cer - jiwer.cer(first, second)))
    errors = sum(text.edits(first.split(), second.split()) for first, second in pairs)
    pooled = errors / sum(len(first.split()) for first, _ in pairs)
    references, hypotheses = map(list, zip(*pairs, strict=True))
    return {"largest difference": max(difference, abs(pooled - jiwer.wer(references, hypotheses)))}


def bootstrap_seconds() -> float:
    """CPU seconds of 2,000 bootstraps of 1,427 ranks, the least of five."""
    import time

    flags, seconds = np.random.default_rng(6).random(1427) < 0.9, []
    for _ in range(5):
        started = time.process_time()
        Resampling(1427).share(flags)
        seconds.append(time.process_time() - started)
    return round(min(seconds), 4)


def main() -> None:
    print(
        json.dumps(
            {
                "retrieval": retrieval_metrics(),
                "calibration": calibration(),
                "kernel distance": kernel_distance(),
                "error rates": error_rates(),
                "2,000 bootstraps of 1,427 ranks, CPU seconds": bootstrap_seconds(),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
