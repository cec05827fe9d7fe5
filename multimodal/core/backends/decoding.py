"""Autoregressive decoding: greedy, nucleus sampling and beam search, over any function that gives next-token
log-probabilities.

Beam search maximises the mean log-probability of a sequence, its end token included: the sum alone favours short
sequences (Wu et al. 2016 normalise by length for the same reason).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from multimodal.core.progress import step

NextLogProbs = Callable[[Tensor, Tensor], Tensor]
"""(owners (m,), tokens (m, t)) -> log-probabilities (m, vocabulary) of the next token. Row k continues a sequence of
input `owners[k]`."""


@dataclass(frozen=True)
class DecodedSequence:
    """One decoded sequence.

    Attributes:
        tokens: The token ids without the end token.
        mean_log_prob: The mean log-probability of the tokens and, if there is one, the end token.
        ended: Whether the model produced the end token; False if the length limit cut the sequence.
    """

    tokens: list[int]
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
    """Samples if `temperature` is above 0, else searches with beams; see `sample_tokens` and `beam_search`."""
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
    """Decodes one token at a time for each of `count` inputs: greedily, or by sampling if `temperature` is above 0.

    Args:
        next_log_probs: The model.
        count: The number of inputs.
        max_length: The most tokens, the end token included.
        end: The end token.
        temperature: Of the sampling; 0 is greedy.
        top_p: The probability mass that is sampled from (Holtzman et al. 2020).
        generator: On the CPU, so that a seed gives the same tokens on every device.
    """
    tokens = torch.zeros(count, 0, dtype=torch.int64)
    total, lengths = torch.zeros(count, dtype=torch.float64), torch.full((count,), max_length)
    ended = torch.zeros(count, dtype=torch.bool)
    for position in range(max_length):
        step()
        active = (~ended).nonzero()[:, 0]
        log_probs = next_log_probs(active, tokens[active]).float().cpu()
        if temperature > 0:
            probabilities = top_p_filter(torch.softmax(log_probs.double() / temperature, dim=-1), top_p)
            chosen = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        else:
            chosen = log_probs.argmax(dim=-1)
        total[active] += log_probs.gather(1, chosen[:, None])[:, 0].double()
        column = torch.full((count, 1), end)
        column[active, 0] = chosen
        tokens = torch.cat([tokens, column], dim=1)
        stopped = active[chosen == end]
        ended[stopped], lengths[stopped] = True, position + 1
        if bool(ended.all()):
            break
    means = (total / lengths).tolist()
    rows = zip(tokens.tolist(), lengths.tolist(), means, ended.tolist(), strict=True)
    return [
        DecodedSequence(row[: length - 1] if complete else row[:length], mean, complete)
        for row, length, mean, complete in rows
    ]


def top_p_filter(probabilities: Tensor, top_p: float) -> Tensor:
    """(n, vocabulary), with all but the fewest most probable tokens that together reach `top_p` set to 0."""
    if top_p >= 1:
        return probabilities
    ranked, places = probabilities.sort(dim=-1, descending=True)
    ranked = ranked.masked_fill(ranked.cumsum(-1) - ranked >= top_p, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, places, ranked)


def beam_search(
    next_log_probs: NextLogProbs, count: int, *, beams: int, max_length: int, end: int
) -> list[DecodedSequence]:
    """The best sequence for each of `count` inputs among those that stay within the `beams` most probable prefixes.

    One beam is greedy decoding. The search stops when no prefix can overtake the best finished sequence. If
    `max_length` stops it, an unfinished prefix that scores above every finished sequence is returned, cut off.

    Args:
        next_log_probs: The model.
        count: The number of inputs.
        beams: The beam width.
        max_length: The most tokens, the end token included.
        end: The end token.
    """
    if beams == 1:
        return sample_tokens(next_log_probs, count, max_length=max_length, end=end)
    tokens = torch.zeros(count, 1, 0, dtype=torch.int64)
    totals = torch.zeros(count, 1, dtype=torch.float64)
    best: list[DecodedSequence | None] = [None] * count
    for position in range(max_length):
        step()
        owners = torch.arange(count).repeat_interleave(tokens.shape[1])
        log_probs = next_log_probs(owners, tokens.flatten(0, 1)).float().cpu().double()
        extended = totals[:, :, None] + log_probs.view(count, tokens.shape[1], -1)
        _keep_best_finished(best, tokens, extended[:, :, end], position + 1)
        extended[:, :, end] = -torch.inf
        width = extended.shape[2]
        totals, places = extended.flatten(1).topk(min(beams, extended[0].numel()), dim=1)
        parents = (places // width)[:, :, None].expand(-1, -1, position)
        tokens = torch.cat([tokens.gather(1, parents), (places % width)[:, :, None]], dim=2)
        # Upper bounds: at best every further token has probability 1, and the sequence has the greatest length
        bounds = (totals[:, 0] / max_length).tolist()
        if all(
            leader is not None and leader.mean_log_prob >= bound
            for leader, bound in zip(best, bounds, strict=True)
        ):
            break
    leading = zip(best, tokens[:, 0].tolist(), totals[:, 0].tolist(), strict=True)
    pairs = [(finished, DecodedSequence(row, total / len(row), False)) for finished, row, total in leading]
    return [
        cut if finished is None or cut.mean_log_prob > finished.mean_log_prob else finished
        for finished, cut in pairs
    ]


def _keep_best_finished(
    best: list[DecodedSequence | None], tokens: Tensor, totals: Tensor, length: int
) -> None:
    """Replaces the best finished sequence of each input where one that ends at this step scores higher."""
    tops, places = totals.max(dim=1)
    for row, (top, place) in enumerate(zip(tops.tolist(), places.tolist(), strict=True)):
        leader = best[row]
        if math.isfinite(top) and (leader is None or top / length > leader.mean_log_prob):
            best[row] = DecodedSequence(tokens[row, place].tolist(), top / length, True)
