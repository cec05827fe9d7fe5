"""Synthesises the gallery's clips with espeak-ng, in voices that were not used to train the starter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from recipes.starter.data.voices import RATE_HZ, Espeak, Voice, held_out_voices

PEAK = 0.8
PAUSE_SECONDS = 0.12


def write(espeak: Espeak, text: str, voice: Voice, path: Path) -> None:
    """Speaks `text` into a FLAC file: mono, 16 kHz, a short pause on both sides.

    FLAC and not Ogg: an Ogg stream carries a random number, and this recipe shall give the same bytes again.
    """
    spoken = torch.from_numpy(espeak.say(text, voice))
    samples = torchaudio.functional.resample(spoken, espeak.rate_hz, RATE_HZ).numpy()
    pause = np.zeros(round(PAUSE_SECONDS * RATE_HZ), np.float32)
    loud = np.flatnonzero(
        np.abs(samples) > 0.01 * np.abs(samples).max()
    )  # espeak leaves a silence of its own
    samples = samples[loud[0] : loud[-1] + 1] * (PEAK / np.abs(samples).max())
    soundfile.write(path, np.concatenate([pause, samples, pause]), RATE_HZ, format="FLAC", subtype="PCM_16")


def voices() -> list[Voice]:
    """The held-out voices, in an order where neighbours differ most: one accent first, then the other."""
    return sorted(held_out_voices(), key=lambda voice: voice.accent)
