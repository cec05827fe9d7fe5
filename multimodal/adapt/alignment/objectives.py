"""Losses of alignment, as functions of the log-probabilities of sequences.

    SFT     -log p(chosen), per token
    DPO     -log sigmoid(β · ((log p(chosen) - log p(rejected)) - the same of the reference))   (Rafailov et al. 2023)
    GRPO    -advantage · log p(sample), with the advantage in standard deviations of the samples of one input, and the
            divergence from the reference (Shao et al. 2024; one update per sample, so that no ratio is clipped)

DPO alone lowers the probability of both sides as long as the rejected falls faster, and a small decoder forgets how to
write. The likelihood of the chosen side is therefore added (Pang et al. 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def totals(log_probs: Tensor, counted: Tensor) -> Tensor:
    """(n,): the log-probability of each sequence."""
    return (log_probs * counted).sum(dim=1)


def token_loss(log_probs: Tensor, counted: Tensor) -> Tensor:
    """The mean negative log-probability of the tokens that count."""
    return -(log_probs * counted).sum() / counted.sum()


def dpo_loss(
    chosen: Tensor, rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> Tensor:
    """The mean DPO loss of sequence log-probabilities (n,)."""
    margin = (chosen - rejected) - (reference_chosen - reference_rejected)
    return -F.logsigmoid(beta * margin).mean()


def advantages(rewards: Tensor) -> Tensor:
    """(inputs, samples) rewards -> how many standard deviations each sample is better than those of its input."""
    deviations = rewards.std(dim=1, keepdim=True)
    return torch.asarray((rewards - rewards.mean(dim=1, keepdim=True)) / (deviations + 1e-4))


def grpo_loss(
    log_probs: Tensor, counted: Tensor, reference: Tensor, advantage: Tensor, divergence: float
) -> Tensor:
    """The loss of samples (n, t) with advantages (n,); reference: the log-probabilities of the tokens before.

    The divergence is estimated per token by exp(d) - d - 1 with d = reference - log_probs, which is never negative.
    """
    # The ratio to a copy of itself is 1; its gradient is that of the log-probability
    ratio = (log_probs - log_probs.detach()).exp()
    difference = reference - log_probs
    penalty = difference.exp() - difference - 1
    per_token = -(advantage[:, None] * ratio) + divergence * penalty
    lengths = counted.sum(dim=1)
    return ((per_token * counted).sum(dim=1) / lengths).mean()
