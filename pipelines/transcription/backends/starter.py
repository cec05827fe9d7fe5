"""The starter's own ear: the letters its speech tower reads, by beam search, or the likeliest of some words.

In the search, letters are also judged by what follows what in the phrases of its training (`_transcription_letters`).

It was trained on phrases of a second or two, so a sound is cut at its pauses. What it reads well and what not stands in
`assets/starter/README.md`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text
from multimodal.encoders.starter.encoders import StarterAudio
from multimodal.encoders.starter.networks import ALPHABET, AUDIO_STRIDE, CTC_STEPS
from multimodal.encoders.starter.preprocessing import HOP, QUIET_DB, RATE_HZ, log_mel, trim_silence
from multimodal.pipelines.transcription.audio_stream import SILENT, split_at_quiet
from multimodal.pipelines.transcription.backends.char_lm import SPACE, shipped_char_lm
from multimodal.pipelines.transcription.ctc_decoding import align, beam_search, forward_scores, greedy
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionOptions,
    TranscriptionOutput,
)
from multimodal.pipelines.transcription.result import Word
from multimodal.pipelines.transcription.segmentation import group_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOCABULARIES_KEPT = 8
LONGEST_S = 5.5  # a window holds six seconds
FRAME = RATE_HZ // 50  # samples
PAUSE_FRAMES, ROOM_FRAMES = 20, 8  # what parts phrases, and what is left of it around them
# How much a cosine weighs beside a log-probability, and what a letter of a vocabulary's word earns, since long words
# lose more than they should by letters alone. Found on festival and flite rms, with an earlier speech tower
EACH_LETTER, NEARNESS = 1.5, 40.0
STEP_S = AUDIO_STRIDE * HOP / RATE_HZ / CTC_STEPS  # 20 ms


class StarterBackend:
    """CharacterLM of English."""

    model_class = "the starter's speech tower"
    supported_options: ClassVar[frozenset[str]] = frozenset({"beams", "vocabulary"})
    beams: ClassVar[int] = 64

    def __init__(self, encoder: StarterAudio, texts: Encoder | None = None) -> None:
        self.encoder, self.texts = encoder, texts
        self._vectors = functools.lru_cache(maxsize=VOCABULARIES_KEPT)(self._encoded)

    def transcribe(
        self, source: SampleSource, options: TranscriptionOptions, progress: SecondsProgress
    ) -> TranscriptionOutput:
        words: list[Word] = []
        n_samples, loudest = 0, 0.0
        for start, samples in split_at_quiet(source.blocks(RATE_HZ), RATE_HZ, LONGEST_S):
            n_samples = start + len(samples)
            energy = energies(samples)
            loudest = max(loudest, float(energy.max()))
            for first, last in phrases(energy >= max(loudest * 10 ** (QUIET_DB / 10), SILENT**2)):
                mel, lead_s = _trimmed(samples[first * FRAME : last * FRAME])
                for word in self._said(mel, options):
                    by_s = (start + first * FRAME) / RATE_HZ + lead_s
                    words.append(Word(round(word.start + by_s, 3), round(word.end + by_s, 3), word.text))
            progress(n_samples / RATE_HZ, None)
        duration_s = n_samples / RATE_HZ
        words = [Word(one.start, min(one.end, duration_s), one.text) for one in words]
        text = " ".join(word.text for word in words)
        return TranscriptionOutput(
            text,
            "en",
            group_words(words) if options.timestamps else (),
            words if options.timestamps == "word" else (),
            duration_s,
        )

    def logs(self, mel: torch.Tensor) -> NDArray[np.float32]:
        """Log-mels (frames, 64) -> log-probabilities (steps, classes) of the letters, 20 ms a step."""
        net, device = self.encoder.net, self.encoder.device
        with torch.inference_mode():
            states, _ = net.states(mel[None].to(device), torch.tensor([len(mel)], device=device))
            found: NDArray[np.float32] = net.characters(states)[0].cpu().numpy()
        return found

    def _said(self, mel: torch.Tensor, options: TranscriptionOptions) -> list[Word]:
        logs = self.logs(mel)
        if options.vocabulary is None:
            return self.words(mel, logs, options.beams or self.beams)
        scores = self.scores(mel, logs, options.vocabulary)
        if not np.isfinite(scores).any():
            return []  # too short for any of them
        reading = character_ids(options.vocabulary[int(scores.argmax())])
        return _words(reading, align(logs, reading))

    def words(self, mel: torch.Tensor, logs: NDArray[np.float32], beams: int) -> list[Word]:
        """What log-mels, with their log-probabilities, read as; times in seconds from the first step.

        One beam is the likeliest path, by the letters heard alone. Of more, the best reading is the one whose letters,
        spelling and vector fit best: a reading is a text, and lies in one space with the sound.
        """
        if beams == 1:
            path = greedy(logs)
            return _words([one for one, _, _ in path], [(first, last) for _, first, last in path])
        found = beam_search(logs, beams, shipped_char_lm())
        texts = [" ".join("".join(ALPHABET[one - 1] for one in reading).split()) for reading, _ in found]
        scores = np.array([score for _, score in found])
        if self.texts is not None and (written := [text for text in texts if text]):
            near = dict(zip(written, self._encoded(tuple(written)) @ self._vector(mel), strict=True))
            scores += NEARNESS * np.array([near.get(text, 0.0) for text in texts])
        reading = found[int(scores.argmax())][0]
        return _words(reading, align(logs, reading))

    def scores(
        self, mel: torch.Tensor, logs: NDArray[np.float32], vocabulary: Sequence[str]
    ) -> NDArray[np.float64]:
        """How well each of some words fits: by its letters, and by how near its vector is to that of the sound."""
        readings = [character_ids(one) for one in vocabulary]
        found = forward_scores(logs, readings) + EACH_LETTER * np.array([len(one) for one in readings])
        if self.texts is not None:
            found += NEARNESS * (self._vectors(tuple(vocabulary)) @ self._vector(mel))
        return found

    def _vector(self, mel: torch.Tensor) -> NDArray[np.float32]:
        """(256,) of log-mels: a unit vector of the space."""
        device = self.encoder.device
        with torch.inference_mode():
            length = torch.tensor([len(mel)], device=device)
            found: NDArray[np.float32] = (
                self.encoder.net(mel[None].to(device), length)[0].float().cpu().numpy()
            )
        return found

    def _encoded(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        """(n, 256): their unit vectors."""
        return self.texts.encode([Text(one) for one in texts], batch_size=64)  # type: ignore[union-attr]


def character_ids(text: str) -> list[int]:
    """The classes of a text's letters. Raises InvalidInput if it has none that the starter can write."""
    found = [1 + ALPHABET.index(one) for one in " ".join(text.lower().split()) if one in ALPHABET]
    if not any(one != SPACE for one in found):
        raise InvalidInput(f"the starter writes {ALPHABET.strip()!r} alone, and none of it is in {text!r}")
    return found


def energies(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean square of each frame of 20 ms; the last may be shorter."""
    filled = np.pad(samples, (0, -len(samples) % FRAME))
    found: NDArray[np.float32] = np.square(filled).reshape(-1, FRAME).mean(axis=1)
    return found


def phrases(loud: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Whether each frame is loud -> (first frame, one past the last) of what is said between pauses, with some room."""
    found: list[tuple[int, int]] = []
    for at in loud.nonzero()[0].tolist():
        if found and at - found[-1][1] < PAUSE_FRAMES:
            found[-1] = (found[-1][0], at + 1)
        else:
            found.append((at, at + 1))
    return [(max(0, first - ROOM_FRAMES), min(len(loud), last + ROOM_FRAMES)) for first, last in found]


def _trimmed(samples: NDArray[np.float32]) -> tuple[torch.Tensor, float]:
    """Log-mels without the silence at both ends, and how many seconds were cut in front."""
    mel = log_mel(samples)
    kept = trim_silence(mel)
    behind = trim_silence(
        torch.cat([mel, mel.amax().expand(1, mel.shape[1])])
    )  # a loud end: only the front is cut
    return kept, (len(mel) + 1 - len(behind)) * HOP / RATE_HZ


def _words(reading: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[Word]:
    found: list[Word] = []
    text, first, last = "", 0, 0
    for one, (start, end) in [*zip(reading, spans, strict=True), (SPACE, (0, 0))]:
        if one == SPACE:
            if text:
                found.append(Word(first * STEP_S, last * STEP_S, text))
            text = ""
            continue
        first = first if text else start
        text, last = text + ALPHABET[one - 1], end
    return found
