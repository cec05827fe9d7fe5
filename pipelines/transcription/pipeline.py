"""Transcription: what is said in a sound, and when, by Whisper, by any other speech model, or by the starter.

"starter"                    the letters that the shipped model hears; for trying things offline
"hf/<owner>/<name>"          a speech model of transformers: Whisper, CTC (Wav2Vec2, HuBERT, …), others
"./folder", a Path           a checkpoint of transformers, or a saved space of the starter
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from multimodal.core.backends.runtime import Precision, Runtime
from multimodal.core.catalog import FOLDER_PREFIXES, close_matches, load
from multimodal.core.errors import EncoderError, InvalidInput, UnknownModel
from multimodal.core.modality import Modality
from multimodal.core.pipeline import Pipeline, one_or_many
from multimodal.core.space import Space
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionBackend,
    TranscriptionOptions,
)
from multimodal.pipelines.transcription.result import Segment, Transcription, Word

__all__ = ["Segment", "Transcription", "TranscriptionPipeline", "Word"]

LOADED_WITH = ("device", "precision", "offline", "revision")
ROOM = "precision='bfloat16'"
KNOWN = (
    "starter",
    *(f"hf/openai/whisper-{size}" for size in ("tiny", "base", "small", "medium", "large-v3", "large-v3-turbo")),
    *(f"hf/openai/whisper-{size}.en" for size in ("tiny", "base", "small", "medium")),
    "hf/distil-whisper/distil-large-v3.5", "hf/facebook/wav2vec2-base-960h", "hf/facebook/hubert-large-ls960-ft",
    "hf/facebook/s2t-small-librispeech-asr", "hf/UsefulSensors/moonshine-tiny",
)  # fmt: skip


class TranscriptionPipeline(Pipeline):
    """`transcribe("talk.mp3").text`, `.segments`, `.to_srt()`. Make one with `from_pretrained`."""

    task = "transcription"

    def __init__(self, reader: TranscriptionBackend, name: str) -> None:
        self.backend, self.name = reader, name

    @classmethod
    def from_pretrained(
        cls,
        model: str | os.PathLike[str] | Space = "starter",
        *,
        device: str = "auto",
        precision: Precision = "float32",
        offline: bool = False,
        revision: str | None = None,
        **unknown: Any,
    ) -> Self:
        """The pipeline on a model; for the names see the top of this module.

        device, precision: see `core.runtime.Runtime`. offline: take nothing from the network. revision: a branch, tag
        or commit of the hub. Raises UnknownModel, DownloadError, CheckpointError for a model that writes down no
        speech, MissingExtra.
        """
        if unknown:
            first = next(iter(unknown))
            raise InvalidInput(
                f"a transcription pipeline is loaded without {first!r}; {close_matches(first, LOADED_WITH)}it takes "
                f"{', '.join(LOADED_WITH)}"
            )
        runtime = Runtime(device, precision)
        if isinstance(model, Space):
            return cls(_starter(model), model.address or model.name)
        name = os.fspath(model)
        if isinstance(model, os.PathLike) and not name.startswith(FOLDER_PREFIXES):
            name = f"./{name}"
        if name.startswith(FOLDER_PREFIXES) or name in (".", ".."):
            folder = Path(name).expanduser()
            if _is_space(folder):
                return cls(_starter(load(folder, device=device, precision=precision)), name)
            return cls(_transformers(name, name, runtime, None, offline), name)
        family, _, rest = name.partition("/")
        if family == "hf":
            return cls(_transformers(name, rest, runtime, revision, offline), name)
        if family == "faster-whisper" and rest:
            return cls(_faster(rest, runtime, revision, offline), name)
        if name == "starter":
            return cls(_starter(load(name, device=device, precision=precision)), name)
        hint = close_matches(name, KNOWN) or close_matches(name, [one.rpartition("/")[2] for one in KNOWN])
        raise UnknownModel(
            f"no speech model is called {name!r}; {hint}write 'starter', 'hf/<owner>/<name>' as in {KNOWN[1]!r}, "
            "'faster-whisper/<name>', or a folder as './my-whisper'"
        )

    def __call__(
        self,
        inputs: Any,
        *,
        timestamps: str | None = "segment",
        language: str | None = None,
        task: str = "transcribe",
        prompt: str | None = None,
        beams: int | None = None,
        temperature: float | Sequence[float] | None = None,
        condition_on_previous: bool = False,
        batch_size: int = 1,
        vad: bool = False,
        vocabulary: Sequence[str] | None = None,
        seed: int = 0,
        progress: SecondsProgress | None = None,
    ) -> Any:
        """Writes down one sound -> Transcription; a list of sounds -> a list of them, in order.

        inputs: a path (str or Path), the bytes of a file, {"array", "sampling_rate"}, Audio, or Video with a sound
        track. Files are read in blocks: memory does not grow with their length. A sound in which nothing is heard gives
        an empty text.
        timestamps: "segment"; "word" for `.words` too; None for text alone.
        language: a name or code ("english", "en"); heard in the first window if left out (Whisper). task: "translate"
        writes English whatever is spoken (Whisper of many languages).
        prompt: words as they may occur, for spelling and style (Whisper).
        beams: of the search; 1 takes the likeliest at each step. Left out, as the model was published; 16 for the
        starter.
        temperature: 0 is exact; several, as (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), write a window again, more freely each
        time, while it repeats itself or is unlikely, and leave out what is no speech (Whisper). Left out, each window
        is written once, as transformers does. seed: of that sampling.
        condition_on_previous: show each window what was written before: steadier names, but errors spread (Whisper).
        batch_size: windows at a time. With more than 1, Whisper's windows are independent and overlap: faster on a GPU,
        a little worse at the seams.
        vad: find speech first (silero-vad) and leave out the rest; needs the extra `vad`.
        vocabulary: only these may be said, and the likeliest is taken (starter).
        progress: called with the seconds done and the seconds in all (None while unknown).
        Raises InvalidInput for nonsense or an option the model does not take, MediaError for a file that is no sound,
        MissingExtra, EncoderError where memory does not suffice, saying what to turn down.
        """
        from multimodal.pipelines.transcription.audio_stream import as_audio_stream

        if isinstance(vocabulary, str):
            raise InvalidInput(
                f"vocabulary must be a list of names such as ['cat', 'dog'], got {vocabulary!r}"
            )
        options = TranscriptionOptions(
            timestamps, language, task, prompt, beams,
            tuple(temperature) if isinstance(temperature, list | tuple) else temperature,  # type: ignore[arg-type]
            condition_on_previous, batch_size, None if vocabulary is None else tuple(vocabulary), seed,
        )  # fmt: skip
        self._check(options)
        values, alone = one_or_many(inputs)
        sounds = [as_audio_stream(value) for value in values]
        found = [self._transcribed(sound, options, vad, progress or _unheard) for sound in sounds]
        return found[0] if alone else found

    def _check(self, options: TranscriptionOptions) -> None:
        refused = sorted(options.given() - self.backend.supported_options - {"timestamps"})
        if refused:
            takes = ", ".join(sorted(self.backend.supported_options)) or "none of these options"
            raise InvalidInput(
                f"{self.name!r} is {_an(self.backend.what)}, which takes no {', '.join(refused)}; it takes {takes}"
            )

    def _transcribed(
        self, sound: SampleSource, options: TranscriptionOptions, vad: bool, progress: SecondsProgress
    ) -> Transcription:
        from multimodal.pipelines.transcription.vad import transcribe_speech

        with self._room(options):
            if vad:
                reading = transcribe_speech(self.backend, sound, options, progress)
            else:
                reading = self.backend.transcribe(sound, options, progress)
        return Transcription(
            reading.text,
            reading.language,
            tuple(reading.segments),
            tuple(reading.words),
            reading.duration_s,
            self.name,
        )

    @contextlib.contextmanager
    def _room(self, options: TranscriptionOptions) -> Iterator[None]:
        """Says what to turn down where memory does not suffice."""
        import torch

        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            full = isinstance(error, torch.OutOfMemoryError | MemoryError)
            if not full and "can't allocate" not in str(error) and "out of memory" not in str(error):
                raise
            asked = {"batch_size": options.batch_size, "beams": options.beams or 1}
            knobs = [f"{name}={value // 2}" for name, value in asked.items() if value > 1]
            raise EncoderError(
                f"{self.name!r} ran out of memory: try {', '.join([*knobs, ROOM])}, or a smaller model"
            ) from error


def _unheard(done_s: float, total_s: float | None) -> None:
    """SecondsProgress that nobody asked for."""


def _an(what: str) -> str:
    """With its article, unless it has one."""
    return what if what.startswith("the ") else f"{'an' if what[0] in 'AEIOU' else 'a'} {what}"


def _is_space(folder: Path) -> bool:
    """Whether a folder holds a saved space: a checkpoint of transformers has a config.json as well."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "encoders" in found


def _starter(space: Space) -> TranscriptionBackend:
    from multimodal.encoders.starter.encoders import StarterAudio
    from multimodal.pipelines.transcription.backends.starter import StarterBackend

    encoder = space.encoders.get(Modality.AUDIO)
    if not isinstance(encoder, StarterAudio):
        heard = (
            "has no encoder of sound" if encoder is None else "hears, but was not trained to write letters"
        )
        raise UnknownModel(
            f"the space {space.name!r} {heard}: transcription takes 'starter', or a speech model such as {KNOWN[1]!r}"
        )
    return StarterBackend(encoder, space.encoders.get(Modality.TEXT))


def _transformers(
    name: str, rest: str, runtime: Runtime, revision: str | None, offline: bool
) -> TranscriptionBackend:
    from multimodal.core.hub.source import source_of
    from multimodal.encoders.hf.cards import CARDS
    from multimodal.pipelines.transcription.backends import checkpoint as checkpoints
    from multimodal.pipelines.transcription.backends.ctc import CtcBackend
    from multimodal.pipelines.transcription.backends.seq2seq import Seq2SeqBackend
    from multimodal.pipelines.transcription.backends.whisper import WhisperBackend

    source = source_of(rest, revision=revision, offline=offline, with_code=False, cards=CARDS)
    checkpoint = checkpoints.read(replace(source, name=name), runtime)
    readers: dict[str, Any] = {"whisper": WhisperBackend, "ctc": CtcBackend, "seq2seq": Seq2SeqBackend}
    reader: TranscriptionBackend = readers[checkpoint.kind](checkpoint)
    return reader


def _faster(rest: str, runtime: Runtime, revision: str | None, offline: bool) -> TranscriptionBackend:
    from multimodal.pipelines.transcription.backends.faster_whisper import load as load_faster

    return load_faster(rest, runtime, revision, offline)
