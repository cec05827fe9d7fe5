"""Transcription: audio to text with timestamps, by Whisper, by other speech models, or by the starter.

The names that `from_pretrained` accepts:

| Name | Model |
|--|--|
| `"starter"` | the speech tower that ships with the package, for phrases of a few English words; works offline |
| `"starter-omni"` | the starter's network for several tasks, whose decoder writes the words |
| `"hf/<owner>/<name>"` | a speech model of transformers: Whisper, CTC (Wav2Vec2, HuBERT, …), Moonshine and others |
| `"faster-whisper/<name>"` | Whisper run by CTranslate2 |
| `"./folder"`, a `Path` | a checkpoint of transformers, or a saved space with the starter's encoders |
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Self

from multimodal.core.backends.runtime import Precision, Runtime
from multimodal.core.catalog import close_matches, load, parse_model_name
from multimodal.core.errors import EncoderError, InvalidInput, UnknownModel
from multimodal.core.modality import Modality
from multimodal.core.pipeline import Pipeline, one_or_many
from multimodal.core.progress import UpdateBar, check_progress, progress_bar
from multimodal.core.serialization import is_saved_space
from multimodal.core.space import Space
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionBackend,
    TranscriptionOptions,
)
from multimodal.pipelines.transcription.result import Segment, Transcription, Word, within

__all__ = ["Segment", "Transcription", "TranscriptionPipeline", "Word"]

LOWER_PRECISION = "precision='bfloat16'"
KNOWN = (
    "starter",
    *(f"hf/openai/whisper-{size}" for size in ("tiny", "base", "small", "medium", "large-v3", "large-v3-turbo")),
    *(f"hf/openai/whisper-{size}.en" for size in ("tiny", "base", "small", "medium")),
    "hf/distil-whisper/distil-large-v3.5", "hf/facebook/wav2vec2-base-960h", "hf/facebook/hubert-large-ls960-ft",
    "hf/facebook/s2t-small-librispeech-asr", "hf/UsefulSensors/moonshine-tiny",
    "starter-omni",
)  # fmt: skip


class TranscriptionPipeline(Pipeline):
    """Speech to text.

    >>> transcribe = TranscriptionPipeline.from_pretrained("hf/openai/whisper-tiny")     # doctest: +SKIP
    >>> transcribe("talk.mp3").to_srt()                                                  # doctest: +SKIP

    Attributes:
        backend: The model that transcribes.
        name: The name that it was loaded by.
    """

    task = "transcription"

    def __init__(self, backend: TranscriptionBackend, name: str) -> None:
        self.backend, self.name = backend, name

    @classmethod
    def from_pretrained(  # type: ignore[override]  # each task has options of its own
        cls,
        model: str | os.PathLike[str] | Space = "starter",
        *,
        device: str = "auto",
        precision: Precision = "float32",
        offline: bool = False,
        revision: str | None = None,
    ) -> Self:
        """Loads a speech model.

        Args:
            model: "starter", "starter-omni", "hf/<owner>/<name>", "faster-whisper/<name>", a folder, or a space with
                the starter's audio encoder.
            device: As torch names devices; "auto" is the accelerator if there is one.
            precision: The number format of the weights, see `Runtime`.
            offline: Makes no network requests.
            revision: A branch, tag or commit on the Hub.

        Returns:
            The pipeline, ready to call.

        Raises:
            UnknownModel: No model of that name; close matches are suggested.
            CheckpointError: The checkpoint is damaged, or its model transcribes no speech.
            DownloadError: The download failed.
            MissingExtra: A package is not installed.
        """
        runtime = Runtime(device, precision)
        if isinstance(model, Space):
            return cls(_starter(model), model.address or model.name)
        family, rest, folder = parse_model_name(model)
        name = f"{family}/{rest}" if family and rest else family or rest
        if not family and folder is not None:
            if is_saved_space(folder):
                return cls(_starter(load(folder, device=device, precision=precision)), name)
            return cls(_transformers(name, name, runtime, None, offline), name)
        if family == "hf":
            return cls(_transformers(name, rest, runtime, revision, offline), name)
        if family == "faster-whisper" and rest:
            return cls(_faster(rest, runtime, revision, offline), name)
        if name == "starter":
            return cls(_starter(load(name, device=device, precision=precision)), name)
        if name == "starter-omni":
            return cls(_omni(runtime), name)
        hint = close_matches(name, KNOWN) or close_matches(
            name, [known.rpartition("/")[2] for known in KNOWN]
        )
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
        progress: bool | SecondsProgress | None = None,
    ) -> Any:
        """Transcribes one audio, or a list of them.

        Files are read in blocks: memory does not grow with their length.

        Args:
            inputs: A path (str or `Path`), the bytes of a file, {"array", "sampling_rate"}, `Audio`, or a `Video` with
                an audio track; or a list of these. Text has no transcription, so here, and only here, a str is a path.
            timestamps: "segment"; "word" for `Transcription.words` too; None for text alone.
            language: A name or code ("english", "en"). Detected in the first window by default. Whisper only.
            task: "transcribe", or "translate" for English text from any language. Multilingual Whisper only.
            prompt: Text with the spelling and style to follow, such as names. Whisper only.
            beams: The beam width; 1 is greedy decoding. Default: as the model was published; 64 for the starter.
            temperature: 0 is greedy or beam decoding. Several, such as (0.0, 0.2, 0.4, 0.6, 0.8, 1.0), repeat a window
                at the next temperature while it is repetitive or improbable, and drop windows without speech. Default:
                each window is decoded once. Whisper only.
            condition_on_previous: Gives each window the text of the windows before: names stay consistent, but errors
                can propagate. Whisper only.
            batch_size: Windows per batch. Above 1, Whisper decodes overlapping windows independently: faster on a GPU,
                slightly worse at the boundaries.
            vad: Transcribes only the speech that silero-vad detects, and pauses of up to 5 s in it; segments and words
                begin and end in speech. Needs the extra `vad`.
            vocabulary: The only phrases that can be said; the most probable is returned. Starter only.
            seed: Of sampling at temperatures above 0.
            progress: True for a progress bar, or a function to call with the seconds done and the seconds in all
                (None while unknown) of the current audio.

        Returns:
            A `Transcription`, or a list of them in the order of the inputs. Silence gives an empty text. Times are in
            seconds.

        Raises:
            InvalidInput: An invalid option, or one that the model does not support.
            UnsupportedModality: An input that is neither audio nor a video with an audio track.
            MediaError: A file that cannot be decoded.
            MissingExtra: A package is not installed.
            EncoderError: Out of memory; the message says what to lower.
        """
        from multimodal.pipelines.transcription.audio_stream import as_audio_stream

        check_progress(progress)
        if isinstance(vocabulary, str):
            raise InvalidInput(
                f"vocabulary must be a list of names such as ['cat', 'dog'], got {vocabulary!r}"
            )
        options = TranscriptionOptions(
            timestamps, language, task, prompt, beams,
            tuple(temperature) if isinstance(temperature, list | tuple) else temperature,  # type: ignore[arg-type]
            condition_on_previous, batch_size, None if vocabulary is None else tuple(vocabulary), seed,
        )  # fmt: skip
        self._check_supported(options)
        values, is_single = one_or_many(inputs)
        streams = [as_audio_stream(value) for value in values]
        if progress is True:
            with progress_bar("transcribing", len(streams)) as update:
                results = []
                for position, stream in enumerate(streams):
                    results.append(self._transcribe(stream, options, vad, _item_progress(update, position)))
                    update(position + 1)
        else:
            report = progress if callable(progress) else _no_progress
            results = [self._transcribe(stream, options, vad, report) for stream in streams]
        return results[0] if is_single else results

    def _check_supported(self, options: TranscriptionOptions) -> None:
        refused = sorted(options.specified() - self.backend.supported_options - {"timestamps"})
        if refused:
            supported = ", ".join(sorted(self.backend.supported_options)) or "none of these options"
            raise InvalidInput(
                f"{self.name!r} is {_with_article(self.backend.model_class)}, which takes no {', '.join(refused)}; "
                f"it takes {supported}"
            )

    def _transcribe(
        self, source: SampleSource, options: TranscriptionOptions, vad: bool, progress: SecondsProgress
    ) -> Transcription:
        from multimodal.pipelines.transcription.vad import transcribe_speech

        with self._explain_out_of_memory(options):
            if vad:
                output = transcribe_speech(self.backend, source, options, progress)
            else:
                output = self.backend.transcribe(source, options, progress)
        return Transcription(
            output.text,
            output.language,
            tuple(within(segment, output.duration_s) for segment in output.segments),
            tuple(within(word, output.duration_s) for word in output.words),
            output.duration_s,
            self.name,
        )

    @contextlib.contextmanager
    def _explain_out_of_memory(self, options: TranscriptionOptions) -> Iterator[None]:
        """Turns out-of-memory errors into an EncoderError that says which options to lower."""
        import torch

        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            is_known_type = isinstance(error, torch.OutOfMemoryError | MemoryError)
            if not is_known_type and "can't allocate" not in str(error) and "out of memory" not in str(error):
                raise
            sizes = {"batch_size": options.batch_size, "beams": options.beams or 1}
            cures = [f"{name}={value // 2}" for name, value in sizes.items() if value > 1]
            raise EncoderError(
                f"{self.name!r} ran out of memory: try {', '.join([*cures, LOWER_PRECISION])}, or a smaller model"
            ) from error


def _no_progress(done_s: float, total_s: float | None) -> None:
    """Reports nothing."""


def _item_progress(update: UpdateBar, position: int) -> SecondsProgress:
    """Moves a bar of items by the part of item `position` that is done, where its length is known."""

    def report(done_s: float, total_s: float | None) -> None:
        if total_s:
            update(position + min(done_s / total_s, 1.0))

    return report


def _with_article(noun: str) -> str:
    """The noun with an indefinite article, unless it has an article."""
    return noun if noun.startswith("the ") else f"{'an' if noun[0] in 'AEIOU' else 'a'} {noun}"


def _starter(space: Space) -> TranscriptionBackend:
    from multimodal.encoders.starter.encoders import StarterAudio
    from multimodal.pipelines.transcription.backends.starter import StarterBackend

    encoder = space.encoders.get(Modality.AUDIO)
    if not isinstance(encoder, StarterAudio):
        lacks = (
            "has no audio encoder"
            if encoder is None
            else "has an audio encoder that was not trained to recognise letters"
        )
        raise UnknownModel(
            f"the space {space.name!r} {lacks}: transcription takes 'starter', or a speech model such as {KNOWN[1]!r}"
        )
    return StarterBackend(encoder, space.encoders.get(Modality.TEXT))


def _omni(runtime: Runtime) -> TranscriptionBackend:
    from multimodal.pipelines.transcription.backends.omni import OmniBackend

    return OmniBackend.load(runtime)


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
    backends: dict[str, Any] = {"whisper": WhisperBackend, "ctc": CtcBackend, "seq2seq": Seq2SeqBackend}
    backend: TranscriptionBackend = backends[checkpoint.kind](checkpoint)
    return backend


def _faster(rest: str, runtime: Runtime, revision: str | None, offline: bool) -> TranscriptionBackend:
    from multimodal.pipelines.transcription.backends.faster_whisper import load as load_faster

    return load_faster(rest, runtime, revision, offline)
