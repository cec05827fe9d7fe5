"""Bindings to CMU flite, the second synthesiser for training, at any tempo and pitch.

Two voices are used in training (slt, a woman from the United States; awb, a man from Scotland). Its kal16 and rms are
for evaluation only, as is festival, whose kal is the same speaker as kal16. The C library takes about 15 ms per
utterance; starting the program takes 22 ms each time.
"""

from __future__ import annotations

import ctypes
import random
from dataclasses import dataclass

import numpy as np

SPEAKERS = ("slt", "awb")
USUAL_HZ = {"slt": 175.0, "awb": 120.0}
STRETCHES, PITCHES, SPREADS = (0.72, 1.4), (0.72, 1.5), (6.0, 34.0)  # in training
# Settings that judge while training: none lies within the ranges above.
FRESH = ((0.66, 1.6), (1.5, 0.68))  # stretch and pitch


@dataclass(frozen=True)
class Way:
    """A speaker, how long against usual each sound lasts, the mean pitch and how far it moves, in Hz."""

    speaker: str
    stretch: float = 1.0
    pitch_hz: float = 120.0
    spread_hz: float = 15.0


def training_way(rng: random.Random) -> Way:
    """Any speaker, tempo and pitch of training."""
    speaker = rng.choice(SPEAKERS)
    pitch_hz = USUAL_HZ[speaker] * rng.uniform(*PITCHES)
    return Way(speaker, rng.uniform(*STRETCHES), pitch_hz, rng.uniform(*SPREADS))


def fresh_ways() -> list[Way]:
    """The ways of speaking that are not trained on."""
    return [Way(who, stretch, pitch * USUAL_HZ[who]) for who in SPEAKERS for stretch, pitch in FRESH]


class Sound(ctypes.Structure):
    """flite's cst_wave."""

    _fields_ = (
        ("type", ctypes.c_char_p),
        ("rate_hz", ctypes.c_int),
        ("count", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class Speaker(ctypes.Structure):
    """The beginning of flite's cst_voice."""

    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))


class Flite:
    """The library and its two speakers; not thread-safe."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
            for part in ("usenglish", "cmulex"):
                ctypes.CDLL(f"libflite_{part}.so.1", mode=ctypes.RTLD_GLOBAL)
            self.library.flite_init()
            self.speakers = {name: self.speaker(name) for name in SPEAKERS}
        except OSError as error:
            raise OSError(f"flite's library is missing ({error}): install Debian's libflite1") from error
        self.library.flite_text_to_wave.restype = ctypes.POINTER(Sound)
        self.library.flite_text_to_wave.argtypes = [ctypes.c_char_p, ctypes.POINTER(Speaker)]
        self.library.feat_set_float.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]
        self.library.delete_wave.argtypes = [ctypes.POINTER(Sound)]

    @staticmethod
    def speaker(name: str) -> object:
        """A pointer to the voice, loaded."""
        register = getattr(ctypes.CDLL(f"libflite_cmu_us_{name}.so.1"), f"register_cmu_us_{name}")
        register.restype, register.argtypes = ctypes.POINTER(Speaker), [ctypes.c_char_p]
        return register(None)

    def say(self, text: str, way: Way) -> tuple[np.ndarray, int]:
        """float32 (n,) in [-1, 1], and its rate."""
        voice = self.speakers[way.speaker]
        settings = {
            b"duration_stretch": way.stretch,
            b"int_f0_target_mean": way.pitch_hz,
            b"int_f0_target_stddev": way.spread_hz,
        }
        for name, value in settings.items():
            self.library.feat_set_float(voice.contents.features, name, value)  # type: ignore[attr-defined]
        sound = self.library.flite_text_to_wave(text.encode(), voice)
        said = sound.contents
        samples = np.ctypeslib.as_array(said.samples, (said.count,)).astype(np.float32) / 32768
        rate_hz = int(said.rate_hz)
        self.library.delete_wave(sound)
        return samples, rate_hz
