"""What a model does on test text, by metrics that are smooth in the loss and by metrics that are all or nothing.

A greedy continuation is right over k characters exactly if, with the true characters before each, each of the k is the
most likely: so the share of exact continuations is counted without generating any. The edit distance needs them.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from recipes.scaling.model import CONTEXT, CharacterModel

EXACT = (1, 3, 5, 10)  # characters that must all be right
CONTINUED = 10  # characters of a continuation whose edit distance is taken
N_CONTINUED = 1_000
N_JUDGED = 100_000  # characters


def edit_distance(first: list[int], second: list[int]) -> int:
    """Insertions, deletions and substitutions that turn one sequence into the other (Levenshtein 1966)."""
    above = list(range(len(second) + 1))
    for row, left in enumerate(first, 1):
        current = [row]
        for column, right in enumerate(second, 1):
            current.append(min(above[column] + 1, current[-1] + 1, above[column - 1] + (left != right)))
        above = current
    return above[-1]


@torch.inference_mode()
def judge(model: CharacterModel, text: NDArray[np.uint8]) -> dict[str, float]:
    """Figures on test text (m,) uint8.

    Returns:
        loss: Mean negative log-likelihood of a character in nats.
        accuracy: Share of characters that are the most likely one.
        exact_1, exact_3, …: Share of greedy continuations that are right in each of the next k characters.
        edit_distance: Of greedy continuations of 10 characters from the truth, per character.
    """
    model.eval()
    windows = torch.from_numpy(text[: N_JUDGED + CONTEXT]).unfold(0, CONTEXT + 1, 1).long()
    logits = torch.cat([model(rows[:, :-1]).float() for rows in windows.split(8192)])
    is_right = logits.argmax(-1) == windows[:, -1]
    figures = {
        "loss": F.cross_entropy(logits, windows[:, -1]).item(),
        "accuracy": is_right.float().mean().item(),
    }
    for k in EXACT:
        figures[f"exact_{k}"] = is_right.unfold(0, k, 1).all(-1).float().mean().item()
    starts = torch.arange(min(N_CONTINUED, (len(windows) - CONTINUED) // CONTINUED)) * CONTINUED
    written = windows[starts, :-1]
    for _ in range(CONTINUED):
        written = torch.cat([written, model(written[:, -CONTEXT:]).argmax(-1, keepdim=True)], 1)
    truth = torch.from_numpy(text).long().unfold(0, CONTINUED, 1)[starts + CONTEXT].tolist()
    distances = [
        edit_distance(made, true) for made, true in zip(written[:, CONTEXT:].tolist(), truth, strict=True)
    ]
    return figures | {"edit_distance": float(np.mean(distances)) / CONTINUED}
