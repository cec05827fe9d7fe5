"""Whisper run by CTranslate2 (the package faster-whisper): the same model several times as fast, also in 8 bits.

    "faster-whisper/large-v3"        a name that faster-whisper knows, fetched by it
    "faster-whisper/./folder"        a checkpoint converted by ct2-transformers-converter

Its heuristics are those of OpenAI's own program, temperature fallback and conditioning among them, so texts may differ
from those of transformers where these differ.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

from multimodal.core.backends.runtime import Runtime
from multimodal.core.catalog import FOLDER_PREFIXES, close_matches
from multimodal.core.errors import CheckpointError, InvalidInput, MissingExtra, UnknownModel
from multimodal.core.hub import api as hub
from multimodal.pipelines.transcription.audio_stream import is_silent, split_at_quiet
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionOptions,
    TranscriptionOutput,
)
from multimodal.pipelines.transcription.result import Segment, Word

RATE_HZ = 16_000
FILES = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")
NEEDED = ("config.json", "model.bin", "tokenizer.json")
AT_ONCE_S = 600.0  # faster-whisper takes a sound whole: longer ones are given in parts, cut where it is quiet
BEAMS = 5  # as it has by default


class FasterWhisperBackend:
    """A Whisper of faster-whisper."""

    model_class = "Whisper in faster-whisper"
    supported_options: ClassVar[frozenset[str]] = frozenset(
        {"language", "task", "prompt", "beams", "temperature", "condition_on_previous"}
    )

    def __init__(self, name: str, model: Any) -> None:
        self.name, self.model = name, model
        self.languages: list[str] = list(model.supported_languages)

    def transcribe(
        self, source: SampleSource, options: TranscriptionOptions, progress: SecondsProgress
    ) -> TranscriptionOutput:
        language = self._language(options)
        segments: list[Segment] = []
        words: list[Word] = []
        n_samples = 0
        for start, samples in split_at_quiet(source.blocks(RATE_HZ), RATE_HZ, AT_ONCE_S):
            n_samples = start + len(samples)
            if is_silent(samples):
                continue
            by_s, until_s = start / RATE_HZ, n_samples / RATE_HZ
            made, about = self.model.transcribe(samples, **self._asked(options, language))
            language = language or about.language
            for one in made:
                if one.start + by_s >= until_s:
                    break  # what it writes into the silence that fills up the last window
                times = float(one.start) + by_s, min(float(one.end) + by_s, until_s)
                if one.text.strip():
                    segments.append(Segment(*times, one.text.strip(), tuple(one.tokens)))
                words += [
                    Word(float(word.start) + by_s, min(float(word.end) + by_s, until_s), word.word.strip())
                    for word in one.words or ()
                ]
                progress(times[1], None)
        text = " ".join(one.text for one in segments)
        kept = segments if options.timestamps else []
        return TranscriptionOutput(
            text, language, kept, [one for one in words if one.text], n_samples / RATE_HZ
        )

    def _language(self, options: TranscriptionOptions) -> str | None:
        if options.language is None and options.task == "transcribe":
            return None
        if len(self.languages) == 1:
            raise InvalidInput(
                f"{self.name!r} was trained on English alone: leave out language and task, or take a checkpoint of "
                "many languages (those whose names do not end in '.en')"
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

    def _asked(self, options: TranscriptionOptions, language: str | None) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "language": language,
            "task": options.task,
            "beam_size": options.beams or BEAMS,
            "initial_prompt": options.prompt,
            "word_timestamps": options.timestamps == "word",
            "condition_on_previous_text": options.condition_on_previous,
        }
        if options.temperatures is not None:
            asked["temperature"] = list(options.temperatures)
        return asked


def load(rest: str, runtime: Runtime, revision: str | None, offline: bool) -> FasterWhisperBackend:
    """The model at "faster-whisper/<rest>". Raises MissingExtra, UnknownModel, DownloadError, CheckpointError."""
    name = f"faster-whisper/{rest}"
    if importlib.util.find_spec("faster_whisper") is None:
        raise MissingExtra(f"running {name!r}", package="faster-whisper", extra="faster")
    from faster_whisper import WhisperModel  # type: ignore[import-untyped, import-not-found]

    folder = _folder(name, rest, revision, offline)
    lacking = [one for one in NEEDED if not (folder / one).is_file()]
    if lacking:
        raise CheckpointError(
            f"{name!r} has no {', '.join(lacking)}, so it is no checkpoint of CTranslate2; make one with "
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
            raise UnknownModel(f"{name!r} names the folder {str(folder)!r}, and there is none")
        return folder
    repo = rest if "/" in rest else _MODELS.get(rest)
    if repo is None:
        raise UnknownModel(
            f"faster-whisper has no model {rest!r}; {close_matches(rest, _MODELS)}it has {', '.join(_MODELS)}, and "
            "takes 'faster-whisper/<owner>/<repository>' and 'faster-whisper/./folder'"
        )
    return hub.snapshot(repo, patterns=FILES, revision=revision, offline=offline, extra="faster")
