"""Transcription with the starter's speech tower: CTC beam search over characters, or a choice from a vocabulary.

The beam search is combined with a character language model of the training phrases (`char_lm`).

The tower was trained on phrases of one to two seconds, so audio is split at pauses. Its error rates are in
`assets/starter/README.md`.
"""

from __future__ import annotations

import abc
import functools
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text
from multimodal.core.progress import step
from multimodal.encoders.starter.encoders import StarterAudio
from multimodal.encoders.starter.parameters import ALPHABET, AUDIO_STRIDE, CTC_STEPS, HOP, QUIET_DB, RATE_HZ
from multimodal.encoders.starter.preprocessing import log_mel, trim_silence
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
from multimodal.pipelines.transcription.speech_presence import can_hold_speech

if TYPE_CHECKING:
    from numpy.typing import NDArray

VOCABULARIES_KEPT = 8
LONGEST_S = 5.5  # a window holds six seconds
FRAME = RATE_HZ // 50  # samples
PAUSE_FRAMES, ROOM_FRAMES = 20, 8  # the length of a pause, and the margin kept around phrases
# A bonus per character of a vocabulary's word, since long words score too low by characters alone; and the weight of
# the cosine beside log-probabilities. Tuned on festival and flite rms with an earlier speech tower
EACH_LETTER, NEARNESS = 1.5, 40.0
STEP_S = AUDIO_STRIDE * HOP / RATE_HZ / CTC_STEPS  # 20 ms


class PhraseBackend(abc.ABC):
    """Splits audio at pauses into phrases, for a model that transcribes phrases of a few seconds."""

    model_class: str
    supported_options: ClassVar[frozenset[str]]

    @abc.abstractmethod
    def decode_phrase(self, mel: torch.Tensor, options: TranscriptionOptions) -> list[Word]:
        """Log-mels (frames, 64) of one phrase -> its words, with times in seconds from the start."""

    def transcribe(
        self, source: SampleSource, options: TranscriptionOptions, progress: SecondsProgress
    ) -> TranscriptionOutput:
        words: list[Word] = []
        n_samples, loudest = 0, 0.0
        for start, samples in split_at_quiet(source.blocks(RATE_HZ), RATE_HZ, LONGEST_S):
            n_samples = start + len(samples)
            if not can_hold_speech(samples, RATE_HZ):
                progress(n_samples / RATE_HZ, None)
                continue
            energy = energies(samples)
            loudest = max(loudest, float(energy.max()))
            for first, last in phrases(energy >= max(loudest * 10 ** (QUIET_DB / 10), SILENT**2)):
                mel, lead_s = _trimmed_mel(samples[first * FRAME : last * FRAME])
                for word in self.decode_phrase(mel, options):
                    by_s = (start + first * FRAME) / RATE_HZ + lead_s
                    words.append(Word(round(word.start + by_s, 3), round(word.end + by_s, 3), word.text))
                    step(word.text)
            progress(n_samples / RATE_HZ, None)
        duration_s = n_samples / RATE_HZ
        words = [Word(word.start, min(word.end, duration_s), word.text) for word in words]
        text = " ".join(word.text for word in words)
        return TranscriptionOutput(
            text,
            "en",
            group_words(words) if options.timestamps else (),
            words if options.timestamps == "word" else (),
            duration_s,
        )


class StarterBackend(PhraseBackend):
    """English transcription with the starter's audio encoder and, if given, its text encoder."""

    model_class = "the starter's speech tower"
    supported_options: ClassVar[frozenset[str]] = frozenset({"beams", "vocabulary"})
    beams: ClassVar[int] = 64

    def __init__(self, encoder: StarterAudio, texts: Encoder | None = None) -> None:
        self.encoder, self.texts = encoder, texts
        self._vectors = functools.lru_cache(maxsize=VOCABULARIES_KEPT)(self._encoded)

    def logs(self, mel: torch.Tensor) -> NDArray[np.float32]:
        """Log-mels (frames, 64) -> character log-probabilities (steps, classes), 20 ms per step."""
        net, device = self.encoder.net, self.encoder.device
        with torch.inference_mode():
            states, _ = net.states(mel[None].to(device), torch.tensor([len(mel)], device=device))
            log_probabilities: NDArray[np.float32] = net.characters(states)[0].cpu().numpy()
        return log_probabilities

    def decode_phrase(self, mel: torch.Tensor, options: TranscriptionOptions) -> list[Word]:
        logs = self.logs(mel)
        if options.vocabulary is None:
            return self.words(mel, logs, options.beams or self.beams)
        scores = self.scores(mel, logs, options.vocabulary)
        if not np.isfinite(scores).any():
            return []  # too short for any of them
        reading = character_ids(options.vocabulary[int(scores.argmax())])
        return _words(reading, align(logs, reading))

    def words(self, mel: torch.Tensor, logs: NDArray[np.float32], beams: int) -> list[Word]:
        """The words of log-mels and their log-probabilities, with times in seconds from the first step.

        With one beam, the most probable path. With more, candidates are scored by the sum of character, language model
        and embedding scores; the last is the cosine of the candidate's text vector with the audio vector. Where the
        most probable path has no letter, as for most sounds that are not speech, there are no words.
        """
        path = greedy(logs)
        if beams == 1 or not path:
            return _words([label for label, _, _ in path], [(first, last) for _, first, last in path])
        readings = beam_search(logs, beams, shipped_char_lm())
        texts = [
            " ".join("".join(ALPHABET[label - 1] for label in reading).split()) for reading, _ in readings
        ]
        scores = np.array([score for _, score in readings])
        if self.texts is not None and (written := [text for text in texts if text]):
            near = dict(zip(written, self._encoded(tuple(written)) @ self._vector(mel), strict=True))
            scores += NEARNESS * np.array([near.get(text, 0.0) for text in texts])
        reading = readings[int(scores.argmax())][0]
        return _words(reading, align(logs, reading))

    def scores(
        self, mel: torch.Tensor, logs: NDArray[np.float32], vocabulary: Sequence[str]
    ) -> NDArray[np.float64]:
        """The score (n,) of each word of a vocabulary: by its characters, and by its cosine with the audio."""
        readings = [character_ids(word) for word in vocabulary]
        scores = forward_scores(logs, readings) + EACH_LETTER * np.array([len(word) for word in readings])
        if self.texts is not None:
            scores += NEARNESS * (self._vectors(tuple(vocabulary)) @ self._vector(mel))
        return scores

    def _vector(self, mel: torch.Tensor) -> NDArray[np.float32]:
        """The unit vector (256,) of log-mels."""
        device = self.encoder.device
        with torch.inference_mode():
            length = torch.tensor([len(mel)], device=device)
            vector: NDArray[np.float32] = (
                self.encoder.net(mel[None].to(device), length)[0].float().cpu().numpy()
            )
        return vector

    def _encoded(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        """The unit vectors (n, 256) of texts."""
        return self.texts.encode([Text(text) for text in texts], batch_size=64)  # type: ignore[union-attr]


def character_ids(text: str) -> list[int]:
    """The classes of a text's characters. Raises InvalidInput if none of them is in the starter's alphabet."""
    ids = [
        1 + ALPHABET.index(character) for character in " ".join(text.lower().split()) if character in ALPHABET
    ]
    if not any(label != SPACE for label in ids):
        raise InvalidInput(
            f"{text!r} contains none of the characters that the starter can write: {ALPHABET.strip()!r}"
        )
    return ids


def energies(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean square of each frame of 20 ms; the last may be shorter."""
    filled = np.pad(samples, (0, -len(samples) % FRAME))
    energy: NDArray[np.float32] = np.square(filled).reshape(-1, FRAME).mean(axis=1)
    return energy


def phrases(loud: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Splits at pauses: whether each frame is loud -> (first frame, one past the last) of phrases, with a margin."""
    spans: list[tuple[int, int]] = []
    for at in loud.nonzero()[0].tolist():
        if spans and at - spans[-1][1] < PAUSE_FRAMES:
            spans[-1] = (spans[-1][0], at + 1)
        else:
            spans.append((at, at + 1))
    return [(max(0, first - ROOM_FRAMES), min(len(loud), last + ROOM_FRAMES)) for first, last in spans]


def _trimmed_mel(samples: NDArray[np.float32]) -> tuple[torch.Tensor, float]:
    """Log-mels without the silence at both ends, and the seconds that were cut at the start."""
    mel = log_mel(samples)
    kept = trim_silence(mel)
    loud_end = torch.cat([mel, mel.amax().expand(1, mel.shape[1])])  # so that only the start is cut
    behind = trim_silence(loud_end)
    return kept, (len(mel) + 1 - len(behind)) * HOP / RATE_HZ


def word_times(text: str, logs: NDArray[np.float32]) -> list[Word]:
    """The words of a text, with the times of its most probable path through CTC log-probabilities (steps, classes).

    A text that is too long for the steps is spread evenly.
    """
    reading = [1 + ALPHABET.index(character) for character in text]
    if not reading:
        return []
    n_doubled = sum(a == b for a, b in itertools.pairwise(reading))
    if len(reading) + n_doubled <= len(logs):
        return _words(reading, align(logs, reading))
    edges = np.linspace(0, len(logs), len(reading) + 1).astype(int).tolist()
    return _words(reading, list(itertools.pairwise(edges)))


def _words(reading: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[Word]:
    words: list[Word] = []
    text, first, last = "", 0, 0
    for label, (start, end) in [*zip(reading, spans, strict=True), (SPACE, (0, 0))]:
        if label == SPACE:
            if text:
                words.append(Word(first * STEP_S, last * STEP_S, text))
            text = ""
            continue
        first = first if text else start
        text, last = text + ALPHABET[label - 1], end
    return words
