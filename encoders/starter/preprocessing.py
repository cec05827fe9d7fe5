"""What the starter's towers see: 64-pixel squares, 64 log-mel bands, word pieces. The recipe trains on the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from multimodal.encoders.starter.networks import MAX_FRAMES, N_MELS, SIDE

RATE_HZ = 16_000
N_FFT = 400  # 25 ms
HOP = 160  # 10 ms
FLOOR_DB = -80.0  # below a clip's own loudest band
QUIET_DB = -40.0
SILENCE_DB = -60.0
MARGIN = 10  # frames
MIN_SAMPLES = RATE_HZ // 10
WINDOW_SAMPLES = (MAX_FRAMES - 1) * HOP  # 5.99 s


@lru_cache(maxsize=1)
def mel_bank() -> Tensor:
    """Triangular filters (N_FFT // 2 + 1, N_MELS), 60 Hz to 7.6 kHz, HTK scale."""
    from torchaudio.functional import melscale_fbanks

    return melscale_fbanks(N_FFT // 2 + 1, 60.0, 7600.0, N_MELS, RATE_HZ)


@lru_cache(maxsize=1)
def window() -> Tensor:
    """Hann, N_FFT samples."""
    return torch.hann_window(N_FFT)


def log_mel(samples: np.ndarray) -> Tensor:
    """float32 (n,) at RATE_HZ -> (frames, N_MELS) in [-1, 1]: decibels below the clip's loudest band.

    Relative to the clip's own peak, so loudness does not matter; one frame each 10 ms.
    """
    if len(samples) < MIN_SAMPLES:
        samples = np.pad(samples, (0, MIN_SAMPLES - len(samples)))
    spectrum = torch.stft(torch.from_numpy(samples), N_FFT, HOP, window=window(), return_complex=True)
    power = (spectrum.real.square() + spectrum.imag.square()).T @ mel_bank()
    decibels = 10 * power.clamp(min=1e-12).log10()
    return ((decibels - decibels.max()).clamp(min=FLOOR_DB) - FLOOR_DB) / (-FLOOR_DB / 2) - 1


def picture(rgb: np.ndarray) -> Tensor:
    """uint8 (h, w, 3) -> uint8 (3, SIDE, SIDE): longest edge to SIDE, the rest filled with the border's mean colour."""
    height, width = rgb.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = Image.fromarray(rgb)
    if small.size != size:
        # reducing_gap shrinks big pictures by whole factors first: same result within a level, several times faster
        small = small.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    pixels = np.asarray(small)
    if size != (SIDE, SIDE):
        border = (
            np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            .mean(0)
            .round()
            .astype(np.uint8)
        )
        canvas = np.broadcast_to(border, (SIDE, SIDE, 3)).copy()
        top, left = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
        canvas[top : top + size[1], left : left + size[0]] = pixels
        pixels = canvas
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


class Tokenizer:
    """Lower-cased word pieces, longest match first (Wu et al. 2016), over a given vocabulary; piece 0 is unknown."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        from tokenizers import Tokenizer as Pieces
        from tokenizers.models import WordPiece
        from tokenizers.normalizers import BertNormalizer
        from tokenizers.pre_tokenizers import BertPreTokenizer

        table = {piece: number for number, piece in enumerate(vocabulary)}
        self.pieces = Pieces(WordPiece(table, unk_token=vocabulary[0], max_input_chars_per_word=100))
        self.pieces.normalizer = BertNormalizer(lowercase=True)
        self.pieces.pre_tokenizer = BertPreTokenizer()

    def __call__(self, texts: list[str]) -> list[list[int]]:
        """Piece ids of each text; never empty (a text without a known piece is the unknown piece)."""
        return [found.ids or [0] for found in self.pieces.encode_batch(texts, add_special_tokens=False)]


def windows(length: int, most: int) -> list[tuple[int, int]]:
    """Cut `length` into the fewest equal (start, stop) spans of at most `most`."""
    count = max(1, -(-length // most))
    return [(length * k // count, length * (k + 1) // count) for k in range(count)]


def pad(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token rows -> (n, longest) int64 padded with 0, and their lengths (n,)."""
    lengths = torch.tensor([len(row) for row in rows])
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = torch.tensor(row)
    return tokens, lengths


def speech_windows(samples: np.ndarray) -> list[Tensor]:
    """float32 (n,) at RATE_HZ -> log-mels of equal windows of at most 6 s, each without the silence at its ends.

    Windows QUIET_DB below the loudest are left out: their relative log-mels would be amplified noise.
    """
    spans = windows(len(samples), WINDOW_SAMPLES)
    energy = np.array([np.square(samples[start:stop]).mean() for start, stop in spans])
    loud = energy >= energy.max() * 10 ** (QUIET_DB / 10)
    return [
        trim(log_mel(samples[start:stop])) for (start, stop), kept in zip(spans, loud, strict=True) if kept
    ]


def trim(mel: Tensor) -> Tensor:
    """Cut frames at both ends in which every band lies SILENCE_DB below the loudest, but for MARGIN frames."""
    sounding = (mel.amax(dim=1) > SILENCE_DB / (-FLOOR_DB / 2) + 1).nonzero()[:, 0]
    first, last = int(sounding[0]), int(sounding[-1])
    return mel[max(0, first - MARGIN) : last + MARGIN + 1]
