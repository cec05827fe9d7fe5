"""Samples -> tensors, by the preprocessing of the starter family, so that a trained tower can be saved as a space."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.encoders.starter import preprocessing
from multimodal.encoders.starter.parameters import MAX_TOKENS, RATE_HZ, SIDE
from multimodal.encoders.starter.tokenizer import Tokenizer
from recipes.pretrain.samples import Sample

UNKNOWN, MASK = 0, 1  # tokens
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-&/"

Inputs = tuple[Tensor, ...]  # (pixels,), (tokens, lengths) or (mels, lengths)


def make_vocabulary(samples: Iterable[Sample], size: int) -> list[str]:
    """Frequent words, and characters for all others.

    Args:
        samples: Those with a text are read.
        size: Largest number of tokens.

    Returns:
        A WordPiece vocabulary whose first two tokens are the unknown one and the mask.
    """
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normalise, cut = BertNormalizer(lowercase=True), BertPreTokenizer()
    counts: Counter[str] = Counter()
    for sample in samples:
        if "text" in sample.parts:
            text = normalise.normalize_str(str(sample.parts["text"]().load()))
            counts.update(word for word, _ in cut.pre_tokenize_str(text))
    basis = ["[UNK]", "[MASK]", *CHARACTERS, *(f"##{character}" for character in CHARACTERS)]
    words = [word for word, _ in counts.most_common() if len(word) > 1]
    return list(dict.fromkeys(itertools.chain(basis, words)))[: max(size, len(basis))]


class Collate:
    """Decodes one modality of some samples."""

    def __init__(self, vocabulary: list[str], side: int, *, cache: bool = False) -> None:
        self.vocabulary, self.side = vocabulary, side
        self.cache: dict[str, Tensor] | None = {} if cache else None
        self.tokenize = Tokenizer(vocabulary)

    def texts(self, samples: Sequence[Sample]) -> list[str]:
        """The texts as they stand."""
        return [str(sample.parts["text"]().load()) for sample in samples]

    def __call__(self, samples: Sequence[Sample], modality: str) -> Inputs:
        """Tensors of one modality: pixels (n, 3, side, side) uint8; tokens (n, t) and lengths (n,); or log-mels
        (n, frames, N_MELS) and lengths (n,), of the first window of a longer clip."""
        if modality == "text":
            rows = [row[:MAX_TOKENS] for row in self.tokenize(self.texts(samples))]
            return preprocessing.pad_tokens(rows)
        if modality == "image":
            return (torch.stack([self.pixels(sample) for sample in samples]),)
        items = [sample.parts[modality]() for sample in samples]
        mels = [
            preprocessing.speech_windows(item.load(rate_hz=RATE_HZ).samples)[0]  # type: ignore[call-arg, union-attr]
            for item in items
        ]
        lengths = torch.tensor([len(mel) for mel in mels])
        return torch.nn.utils.rnn.pad_sequence(mels, batch_first=True), lengths

    def pixels(self, sample: Sample) -> Tensor:
        """(3, side, side) uint8."""
        if self.cache is not None and sample.key in self.cache:
            return self.cache[sample.key]
        pixels = preprocessing.resize_to_square(sample.parts["image"]().load())  # type: ignore[arg-type]
        if self.side != SIDE:
            size = (self.side, self.side)
            small = F.interpolate(pixels[None].float(), size=size, mode="bilinear", antialias=True)[0]
            pixels = small.round().clamp(0, 255).to(torch.uint8)
        if self.cache is not None:
            self.cache[sample.key] = pixels
        return pixels
