"""Synthesisers: espeak-ng for training; flite's kal16 and rms and festival for evaluation only.

Two more of flite's voices are used late in training (`flite`). espeak-ng is called through its C library (about 1 ms
per utterance; starting the program takes 8 ms).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import random
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000
TRAIN_ACCENTS = ("en", "en-us", "en-gb-x-rp", "en-gb-scotland", "en-us-nyc", "en-029", "en-gb-x-gbclan")
JUDGE_ACCENTS = ("en", "en-us")
# Never spoken with in training, in any accent.
HELD_OUT_VARIANTS = (
    "m4", "m7", "f2", "f5", "klatt3", "Annie", "Andy", "Gene", "steph2", "travis", "belinda", "Michael",
)  # fmt: skip
TRAIN_VARIANTS = (
    "m1", "m2", "m3", "m5", "m6", "m8", "f1", "f3", "f4", "klatt", "klatt2", "klatt4", "klatt5", "klatt6",
    "Alex", "Alicia", "Andrea", "Denis", "Diogo", "Gene2", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario",
    "Mike", "Mr serious", "Nguyen", "RicishayMax", "RicishayMax2", "RicishayMax3", "Storm", "Tweaky", "UniRobot",
    "adam", "anika", "announcer", "antonio", "aunty", "benjamin", "boris", "caleb", "david", "ed", "edward",
    "edward2", "grandma", "grandpa", "gustave", "iven", "iven2", "iven3", "iven4", "john", "kaukovalta", "linda",
    "marcelo", "max", "miguel", "norbert", "pablo", "paul", "pedro", "quincy", "rob", "robert", "robosoft",
    "robosoft3", "robosoft5", "robosoft7", "sandro", "shelby", "steph", "steph3", "victor", "whisper", "zac",
)  # fmt: skip
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER


@dataclass(frozen=True)
class Voice:
    """An espeak voice: accent, variant, words a minute, pitch and pitch range in 0..100."""

    accent: str
    variant: str
    rate: int = 165
    pitch: int = 50
    pitch_range: int = 50


class Espeak:
    """espeak-ng in this process; one at a time, not thread-safe."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise OSError("libespeak-ng is missing: install Debian's libespeak-ng1")
        self.library = ctypes.CDLL(name)
        self.rate_hz = self.library.espeak_Initialize(2, 0, None, 0)  # 2: synchronous, samples by callback
        self.chunks: list[np.ndarray] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self.callback = kind(self.collect)  # kept: the library holds only a pointer
        self.library.espeak_SetSynthCallback(self.callback)
        self.current = ""

    def collect(self, samples: object, count: int, events: object) -> int:
        """Called by the library with each piece of sound; 0 asks it to go on."""
        if samples and count > 0:
            self.chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: Voice) -> np.ndarray:
        """float32 (n,) in [-1, 1] at `self.rate_hz` (22 050)."""
        name = f"{voice.accent}+{voice.variant}"
        if name != self.current:
            if self.library.espeak_SetVoiceByName(name.encode()) != 0:
                raise ValueError(f"espeak-ng has no voice {name!r}")
            self.current = name
        for parameter, value in ((RATE, voice.rate), (PITCH, voice.pitch), (RANGE, voice.pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.chunks = []
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, 1, 0, 1, None, None)
        self.library.espeak_Synchronize()
        if not self.chunks:
            return np.zeros(0, np.float32)
        return np.concatenate(self.chunks).astype(np.float32) / 32768


def training_voice(rng: random.Random) -> Voice:
    """A random voice, never a held-out variant."""
    return Voice(
        rng.choice(TRAIN_ACCENTS), rng.choice(TRAIN_VARIANTS),
        rng.randint(115, 230), rng.randint(15, 85), rng.randint(20, 80),
    )  # fmt: skip


def held_out_voices() -> list[Voice]:
    """The twelve variants in two accents that no training clip uses."""
    return [Voice(accent, variant) for variant in HELD_OUT_VARIANTS for accent in JUDGE_ACCENTS]


def flite(text: str, voice: str) -> tuple[np.ndarray, int]:
    """(samples, rate) spoken by CMU flite; voices kal16, rms (slt, awb: see `flite`)."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run(
            ["flite", "-voice", voice, "-t", text, "-o", file.name], check=True, capture_output=True
        )
        samples, rate_hz = soundfile.read(file.name, dtype="float32")
    return samples, rate_hz


def festival(texts: list[str], folder: Path, speaker: str) -> list[tuple[np.ndarray, int]]:
    """Each text spoken by a diphone voice of festival, kal or ked: one process for all, for it is slow to start."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["(Parameter.set 'Audio_Method 'none)", f"(voice_{speaker}_diphone)"]
    for number, text in enumerate(texts):
        safe = text.replace("\\", " ").replace('"', " ")
        lines.append(f'(utt.save.wave (utt.synth (Utterance Text "{safe}")) "{folder}/{number}.wav" \'riff)')
    script = folder / "say.scm"
    script.write_text("\n".join(lines))
    subprocess.run(["festival", "-b", str(script)], check=True, capture_output=True)
    return [soundfile.read(folder / f"{number}.wav", dtype="float32") for number in range(len(texts))]
