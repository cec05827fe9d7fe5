"""Tokens of the starter's text tower, without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Tokenizer:
    """Lower-casing WordPiece tokenizer (Wu et al. 2016) over a given vocabulary; token 0 is unknown."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        from tokenizers import Tokenizer as FastTokenizer
        from tokenizers.models import WordPiece
        from tokenizers.normalizers import BertNormalizer
        from tokenizers.pre_tokenizers import BertPreTokenizer

        ids = {token: token_id for token_id, token in enumerate(vocabulary)}
        self.backend = FastTokenizer(WordPiece(ids, unk_token=vocabulary[0], max_input_chars_per_word=100))
        self.backend.normalizer = BertNormalizer(lowercase=True)
        self.backend.pre_tokenizer = BertPreTokenizer()

    def __call__(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text; a text without tokens becomes the unknown token."""
        return [
            encoding.ids or [0] for encoding in self.backend.encode_batch(texts, add_special_tokens=False)
        ]


def token_arrays(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token rows -> (tokens (n, longest) int64 padded with 0, lengths (n,) int64)."""
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.zeros((len(rows), int(lengths.max())), np.int64)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row
    return tokens, lengths
