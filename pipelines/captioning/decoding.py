"""Words out of a model that tells how likely each next one is: the likeliest each time, drawn at random, or by beams.

What is maximised is the mean log-probability of a caption's words, its end among them: the sum alone would favour short
captions (Wu et al. 2016 divide by the length too).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NextLogProbs = Callable[[Tensor, Tensor], Tensor]
"""(owners (m,), words (m, t)) -> log-probabilities (m, vocabulary) of the word after them. Row k is a beginning of a
caption of input `owners[k]`."""


@dataclass(frozen=True)
class DecodedSequence:
    """words: without the end. mean_log_prob: of the words and the end. ended: whether it came to its end by itself."""

    words: list[int]
    mean_log_prob: float
    ended: bool


def decode(
    next_log_probs: NextLogProbs,
    count: int,
    *,
    beams: int,
    max_length: int,
    end: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[DecodedSequence]:
    """By beams, or drawn at random if temperature is above 0; for the rest see `beam_search` and `walk`."""
    if temperature > 0:
        return sample_tokens(
            next_log_probs,
            count,
            max_length=max_length,
            end=end,
            temperature=temperature,
            top_p=top_p,
            generator=generator,
        )
    return beam_search(next_log_probs, count, beams=beams, max_length=max_length, end=end)


def sample_tokens(
    next_log_probs: NextLogProbs,
    count: int,
    *,
    max_length: int,
    end: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[DecodedSequence]:
    """One word at a time for each of `count` inputs: the likeliest, or drawn if temperature is above 0.

    most: words, the end among them. top_p: of what is drawn from, the likeliest that make up this share (Holtzman et
    al. 2020). generator: on the CPU, so that a seed gives the same words on every device.
    """
    words = torch.zeros(count, 0, dtype=torch.int64)
    total, lengths = torch.zeros(count, dtype=torch.float64), torch.full((count,), max_length)
    ended = torch.zeros(count, dtype=torch.bool)
    for step in range(max_length):
        rows = (~ended).nonzero()[:, 0]
        logs = next_log_probs(rows, words[rows]).float().cpu()
        if temperature > 0:
            chances = top_p_filter(torch.softmax(logs.double() / temperature, dim=-1), top_p)
            chosen = torch.multinomial(chances, 1, generator=generator)[:, 0]
        else:
            chosen = logs.argmax(dim=-1)
        total[rows] += logs.gather(1, chosen[:, None])[:, 0].double()
        column = torch.full((count, 1), end)
        column[rows, 0] = chosen
        words = torch.cat([words, column], dim=1)
        stopped = rows[chosen == end]
        ended[stopped], lengths[stopped] = True, step + 1
        if bool(ended.all()):
            break
    found = []
    for row, length, whole in zip(words.tolist(), lengths.tolist(), ended.tolist(), strict=True):
        found.append(row[: length - 1] if whole else row[:length])
    means = (total / lengths).tolist()
    return [
        DecodedSequence(row, mean, whole)
        for row, mean, whole in zip(found, means, ended.tolist(), strict=True)
    ]


def top_p_filter(chances: Tensor, share: float) -> Tensor:
    """(n, vocabulary) with all but the likeliest set to 0: the fewest that together reach `share`."""
    if share >= 1:
        return chances
    ranked, places = chances.sort(dim=-1, descending=True)
    ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= share, 0.0)
    return torch.zeros_like(chances).scatter(-1, places, ranked)


def beam_search(
    next_log_probs: NextLogProbs, count: int, *, beams: int, max_length: int, end: int
) -> list[DecodedSequence]:
    """The best caption of each of `count` inputs among those that stay within the `beams` likeliest beginnings.

    One beam is `walk`. most: words, the end among them. Goes on until no beginning can overtake the best that ended;
    where `most` stops it, a beginning that is likelier than all that ended stays one, cut off.
    """
    if beams == 1:
        return sample_tokens(next_log_probs, count, max_length=max_length, end=end)
    words = torch.zeros(count, 1, 0, dtype=torch.int64)
    totals = torch.zeros(count, 1, dtype=torch.float64)
    best: list[DecodedSequence | None] = [None] * count
    for step in range(max_length):
        owners = torch.arange(count).repeat_interleave(words.shape[1])
        logs = next_log_probs(owners, words.flatten(0, 1)).float().cpu().double()
        grown = totals[:, :, None] + logs.view(count, words.shape[1], -1)
        _keep_ended(best, words, grown[:, :, end], step + 1)
        grown[:, :, end] = -torch.inf
        width = grown.shape[2]
        totals, places = grown.flatten(1).topk(min(beams, grown[0].numel()), dim=1)
        parents = (places // width)[:, :, None].expand(-1, -1, step)
        words = torch.cat([words.gather(1, parents), (places % width)[:, :, None]], dim=2)
        # The least a total can fall is not at all, and the more words the less a fall weighs
        hopes = (totals[:, 0] / max_length).tolist()
        if all(one is not None and one.mean_log_prob >= hope for one, hope in zip(best, hopes, strict=True)):
            break
    tops = zip(best, words[:, 0].tolist(), totals[:, 0].tolist(), strict=True)
    cut = [(one, DecodedSequence(row, total / len(row), False)) for one, row, total in tops]
    return [rest if one is None or rest.mean_log_prob > one.mean_log_prob else one for one, rest in cut]


def _keep_ended(best: list[DecodedSequence | None], words: Tensor, totals: Tensor, length: int) -> None:
    """Of the captions that end here, the best of each input, where it is better than the best so far."""
    tops, places = totals.max(dim=1)
    for row, (top, place) in enumerate(zip(tops.tolist(), places.tolist(), strict=True)):
        so_far = best[row]
        if math.isfinite(top) and (so_far is None or top / length > so_far.mean_log_prob):
            best[row] = DecodedSequence(words[row, place].tolist(), top / length, True)
