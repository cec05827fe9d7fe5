"""Sizes of the starter's towers and numbers of its preprocessing. Imports nothing."""

from __future__ import annotations

DIM = 256  # of the shared embedding space
SIDE = 64  # pixels
N_MELS = 64
VOCABULARY = 10_500
TOKEN_WIDTH = 112
TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS, MAX_TOKENS = 176, 3, 4, 48
AUDIO_WIDTH, AUDIO_LAYERS, AUDIO_HEADS, MAX_FRAMES = 176, 4, 4, 600  # 600 mel frames = 6 s
AUDIO_STRIDE = 4  # mel frames per state: 40 ms
CTC_STEPS = 2  # CTC outputs of the transcription head per state
ALPHABET = " abcdefghijklmnopqrstuvwxyz0123456789'"  # CTC class = 1 + index, class 0 is the blank

RATE_HZ = 16_000
N_FFT = 400  # 25 ms
HOP = 160  # 10 ms
MIN_HZ, MAX_HZ = 60.0, 7600.0  # of the mel bands, on the HTK scale
FLOOR_DB = -80.0  # relative to the loudest band of the clip, as the next two
QUIET_DB = -40.0
SILENCE_DB = -60.0
MARGIN = 10  # frames kept around speech when silence is trimmed
MIN_SAMPLES = RATE_HZ // 10
WINDOW_SAMPLES = (MAX_FRAMES - 1) * HOP  # 5.99 s

# Of a shipped tower: those of the weights that it was trained on from, against the same text tower.
EARLIER_FINGERPRINTS: dict[str, tuple[str, ...]] = {
    "360afb2009d8ffd5286d7dae245e8769226e6f2717b89a4eacbf78265e8248db": (
        "a8db894a8be8b449ff680c81921f68943c7ffcf3c48654a569d6c5b8e77fd6d4",
    ),
    "cc8af013599657397d8ff147540ddcfa39c8f19681610a85b45b72b7fd7449a0": (
        "2d40f330803f83aa8cfd5d4b2df6c2c1c83e710d948470d78884eeb633cfecef",
    ),
}
