"""The captions of similar examples as a prompt for a decoder that reads a vector and no other context.

Next words are a mixture of the decoder's and of those that continue the captions of the nearest examples, as in a
nearest-neighbour language model (Khandelwal et al. 2020, arXiv:1911.00172). The share of the examples grows with the
cosine to the nearest: an input unlike all of them is captioned as without examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from multimodal.core.errors import InvalidInput
from multimodal.pipelines.captioning.backends.networks import END, LONGEST

if TYPE_CHECKING:
    from torch import Tensor

    from multimodal.core.backends.decoding import NextLogProbs

NEIGHBOURS, TEMPERATURE = 16, 0.03
# Cosines to the nearest example: of other things by the artist of the examples .49 (median), of the same things .83
LEAST, FULL = 0.6, 1.0
LARGEST_SHARE = 0.6  # more takes over captions of examples for other things as well


class NearestCaptions:
    """Examples of a captioner.

    Args:
        vectors: Unit vectors (m, dim) of the examples.
        tokens: The token ids of their captions, each with the end token.
    """

    def __init__(self, vectors: Tensor, tokens: Sequence[Sequence[int]]) -> None:
        self.vectors, self.tokens = vectors, [list(row) for row in tokens]

    def mixed(self, next_log_probs: NextLogProbs, queries: Tensor) -> NextLogProbs:
        """The model's next-token log-probabilities for unit vectors (n, dim), mixed with those of the examples."""
        import torch

        cosines, nearest = (queries @ self.vectors.T).topk(min(NEIGHBOURS, len(self.vectors)), dim=1)
        weights = torch.softmax(cosines / TEMPERATURE, dim=1).tolist()
        shares = (LARGEST_SHARE * ((cosines[:, 0] - LEAST) / (FULL - LEAST)).clamp(0, 1)).tolist()
        neighbours = nearest.tolist()

        def mixture(owners: Tensor, tokens: Tensor) -> Tensor:
            log_probs = next_log_probs(owners, tokens).float().cpu()
            for row, (owner, prefix) in enumerate(zip(owners.tolist(), tokens.tolist(), strict=True)):
                continued: dict[int, float] = {}
                if shares[owner] > 0:
                    for example, weight in zip(neighbours[owner], weights[owner], strict=True):
                        caption = self.tokens[example]
                        if len(caption) > len(prefix) and caption[: len(prefix)] == prefix:
                            token = caption[len(prefix)]
                            continued[token] = continued.get(token, 0.0) + weight
                if continued:
                    probabilities = log_probs[row].exp() * (1 - shares[owner])
                    for token, weight in continued.items():
                        probabilities[token] += shares[owner] * weight / sum(continued.values())
                    log_probs[row] = probabilities.log()
            return log_probs

        return mixture


def caption_tokens(caption: str, ids: Mapping[str, int], number: int) -> list[int]:
    """The token ids of an example's caption, with the end token. number: of the example, for messages.

    Raises:
        InvalidInput: For a word that the captioner does not know, or a caption that is too long for it.
    """
    words = caption.lower().split()
    unknown = next((word for word in words if word not in ids), None)
    if unknown is not None:
        raise InvalidInput(
            f"the caption of example {number} has the word {unknown!r}, which is not among the {len(ids):,} words of "
            "the captioner; use others, or caption with a model with a chat template ('hf/…')"
        )
    if len(words) >= LONGEST:
        raise InvalidInput(
            f"the caption of example {number} has {len(words)} words, and the captioner writes at most {LONGEST - 1}"
        )
    return [*(ids[word] for word in words), END]
