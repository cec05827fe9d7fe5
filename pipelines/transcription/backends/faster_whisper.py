"""Whisper on CTranslate2 (the package faster-whisper): several times as fast, also in 8 bits.

    "faster-whisper/large-v3"        a model name of faster-whisper
    "faster-whisper/./folder"        a checkpoint converted with ct2-transformers-converter

Its heuristics (temperature fallback, conditioning) are those of OpenAI's implementation, so texts may differ from those
of transformers.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

from multimodal.core.backends.fork import ForkGuard
from multimodal.core.backends.runtime import Runtime
from multimodal.core.catalog import FOLDER_PREFIXES, close_matches
from multimodal.core.errors import CheckpointError, InvalidInput, MissingExtra, UnknownModel
from multimodal.core.hub import api as hub
from multimodal.core.progress import step
from multimodal.pipelines.transcription.audio_stream import split_at_quiet
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionOptions,
    TranscriptionOutput,
)
from multimodal.pipelines.transcription.result import Segment, Word
from multimodal.pipelines.transcription.speech_presence import can_hold_speech

RATE_HZ = 16_000
FILES = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")
NEEDED = ("config.json", "model.bin", "tokenizer.json")
AT_ONCE_S = 600.0  # faster-whisper holds its input in memory: longer audio is split where it is quiet
BEAMS = 5  # its default


class FasterWhisperBackend:
    """A Whisper model of faster-whisper."""

    model_class = "Whisper in faster-whisper"
    supported_options: ClassVar[frozenset[str]] = frozenset(
        {"language", "task", "prompt", "beams", "temperature", "condition_on_previous"}
    )

    def __init__(self, name: str, model: Any) -> None:
        self.name, self.model = name, model
        self._fork_guard = ForkGuard()
        self.languages: list[str] = list(model.supported_languages)

    def transcribe(
        self, source: SampleSource, options: TranscriptionOptions, progress: SecondsProgress
    ) -> TranscriptionOutput:
        self._fork_guard.check(self.name)
        language = self._language(options)
        segments: list[Segment] = []
        words: list[Word] = []
        n_samples = 0
        for start, samples in split_at_quiet(source.blocks(RATE_HZ), RATE_HZ, AT_ONCE_S):
            n_samples = start + len(samples)
            if not can_hold_speech(samples, RATE_HZ):
                continue
            by_s, until_s = start / RATE_HZ, n_samples / RATE_HZ
            results, info = self.model.transcribe(samples, **self._arguments(options, language))
            language = language or info.language
            for result in results:
                if result.start + by_s >= until_s:
                    break  # hallucinated in the padding of the last window
                times = float(result.start) + by_s, min(float(result.end) + by_s, until_s)
                if result.text.strip():
                    segments.append(Segment(*times, result.text.strip(), tuple(result.tokens)))
                    step(result.text.strip())
                words += [
                    Word(float(word.start) + by_s, min(float(word.end) + by_s, until_s), word.word.strip())
                    for word in result.words or ()
                ]
                progress(times[1], None)
        text = " ".join(segment.text for segment in segments)
        kept = segments if options.timestamps else []
        return TranscriptionOutput(
            text, language, kept, [word for word in words if word.text], n_samples / RATE_HZ
        )

    def _language(self, options: TranscriptionOptions) -> str | None:
        if options.language is None and options.task == "transcribe":
            return None
        if len(self.languages) == 1:
            raise InvalidInput(
                f"{self.name!r} was trained on English only: leave out language and task, or use a multilingual "
                "checkpoint (a name that does not end in '.en')"
            )
        if options.language is None:
            return None
        code = options.language.strip().lower()
        if code not in self.languages:
            raise InvalidInput(
                f"{self.name!r} knows no language {options.language!r}; {close_matches(code, self.languages)}it takes "
                f"codes: {', '.join(sorted(self.languages))}"
            )
        return code

    def _arguments(self, options: TranscriptionOptions, language: str | None) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "language": language,
            "task": options.task,
            "beam_size": options.beams or BEAMS,
            "initial_prompt": options.prompt,
            "word_timestamps": options.timestamps == "word",
            "condition_on_previous_text": options.condition_on_previous,
        }
        if options.temperatures is not None:
            arguments["temperature"] = list(options.temperatures)
        return arguments


def load(rest: str, runtime: Runtime, revision: str | None, offline: bool) -> FasterWhisperBackend:
    """The model at "faster-whisper/<rest>". Raises MissingExtra, UnknownModel, DownloadError, CheckpointError."""
    name = f"faster-whisper/{rest}"
    if importlib.util.find_spec("faster_whisper") is None:
        raise MissingExtra(f"running {name!r}", package="faster-whisper", extra="faster")
    from faster_whisper import WhisperModel  # type: ignore[import-untyped, import-not-found]

    folder = _folder(name, rest, revision, offline)
    lacking = [name for name in NEEDED if not (folder / name).is_file()]
    if lacking:
        raise CheckpointError(
            f"{name!r} has no {', '.join(lacking)}, so it is not a CTranslate2 checkpoint; make one with "
            "ct2-transformers-converter --model FOLDER --output_dir NEW --copy_files tokenizer.json "
            "preprocessor_config.json"
        )
    precision = "auto" if runtime.precision == "auto" else runtime.precision
    try:
        model = WhisperModel(str(folder), device=runtime.torch_device.type, compute_type=precision)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{name!r} cannot be loaded by CTranslate2 ({error})") from error
    return FasterWhisperBackend(name, model)


def _folder(name: str, rest: str, revision: str | None, offline: bool) -> Path:
    from faster_whisper.utils import _MODELS  # type: ignore[import-untyped, import-not-found]

    if rest.startswith(FOLDER_PREFIXES) or rest in (".", ".."):
        folder = Path(rest).expanduser()
        if not folder.is_dir():
            raise UnknownModel(f"{name!r} names the folder {str(folder)!r}, which does not exist")
        return folder
    repo = rest if "/" in rest else _MODELS.get(rest)
    if repo is None:
        raise UnknownModel(
            f"faster-whisper has no model {rest!r}; {close_matches(rest, _MODELS)}it has {', '.join(_MODELS)}, and "
            "takes 'faster-whisper/<owner>/<repository>' and 'faster-whisper/./folder'"
        )
    return hub.snapshot(repo, patterns=FILES, revision=revision, offline=offline, extra="faster")
