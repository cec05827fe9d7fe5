"""A speech model of transformers out of a folder or a repository of the hub: what it is, its weights and its words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError, MissingExtra
from multimodal.core.hub import api as hub
from multimodal.core.hub.source import Source
from multimodal.encoders.hf.checkpoint import quiet, require_transformers, short

__all__ = ["SpeechCheckpoint", "quiet", "read"]

HEARS = ("input_features", "input_values")
SMALL_FILES = ("*.json", "*.txt", "*.model")
NAMED = 3


@dataclass(frozen=True)
class SpeechCheckpoint:
    """name: as it was asked for. what: its class, for messages. kind: "whisper", "ctc" or "seq2seq"."""

    name: str
    model_class: str
    kind: str
    model: Any
    extractor: Any
    tokenizer: Any


def read(source: Source, runtime: Runtime) -> SpeechCheckpoint:
    """The model, ready to run. What it is, is told from its small files; weights are fetched only if it can be used.

    Raises UnknownModel, DownloadError, MissingExtra, CheckpointError for what writes down no speech or does not fit.
    """
    require_transformers()
    written = source.config()
    folder = _small_files(source)
    config, cls, kind = _describe(source.name, written, folder)
    extractor, tokenizer = _processors(source.name, folder, cls)
    model = _filled(source, cls, config, folder, runtime)
    return SpeechCheckpoint(source.name, cls.__name__, kind, model, extractor, tokenizer)


def _small_files(source: Source) -> Path:
    folder = source.settings()
    if source.folder is None:
        at: dict[str, Any] = {"revision": folder.name, "offline": source.offline}
        return hub.snapshot(source.repo, patterns=SMALL_FILES, ignore=("*.index.json", "*/*"), **at)
    return folder


def _describe(name: str, written: dict[str, Any], folder: Path) -> tuple[Any, Any, str]:
    """(config, class, kind). Raises CheckpointError for a model that writes down no speech, saying what it is."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    with _told_as_ours(name, "its config.json"):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    ctc = set(auto.MODEL_FOR_CTC_MAPPING_NAMES.values())
    speech = set(auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES.values())
    named = list(config.architectures or [])
    if not named:  # by its type: a reader of letters before one that generates, since few are both
        named = [
            one
            for table in (auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES, auto.MODEL_FOR_CTC_MAPPING_NAMES)
            if (one := table.get(config.model_type))
        ]
    what = named[0] if named else f"model of type {written['model_type']!r}"
    cls = getattr(transformers, what, None) if named else None
    hears = isinstance(cls, type) and getattr(cls, "main_input_name", None) in HEARS
    if hears and issubclass(cls, transformers.WhisperForConditionalGeneration):  # type: ignore[arg-type]
        return config, cls, "whisper"
    if hears and (what in ctc or what.endswith("ForCTC")):
        return config, cls, "ctc"
    if what in speech or (hears and cls.can_generate()):  # type: ignore[union-attr]
        return config, cls, "seq2seq"
    raise CheckpointError(
        f"{name!r} is a {what}, which writes down no speech: take a Whisper, or a checkpoint made for CTC or for "
        "speech to text, such as 'hf/openai/whisper-tiny' or 'hf/facebook/wav2vec2-base-960h'"
    )


def _processors(name: str, folder: Path, cls: Any) -> tuple[Any, Any]:
    import transformers

    with _told_as_ours(name, "its feature extractor or tokenizer"):
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return extractor, tokenizer


def _filled(source: Source, cls: Any, config: Any, folder: Path, runtime: Runtime) -> Any:
    import transformers

    with _told_as_ours(source.name, "its weights"):
        model, told = cls.from_pretrained(
            None,
            config=config,
            state_dict=source.tensors(),
            dtype=runtime.dtype,
            output_loading_info=True,
        )
        if model.can_generate() and (folder / "generation_config.json").is_file():
            model.generation_config = transformers.GenerationConfig.from_pretrained(
                folder, local_files_only=True
            )
    learned = {name for name, one in model.state_dict().items() if one.is_floating_point()}
    missing = sorted(set(told["missing_keys"]) & learned)
    wrong = [one for one, *_ in told["mismatched_keys"]]
    if missing or wrong:
        shown = ", ".join((missing + wrong)[:NAMED])
        raise CheckpointError(
            f"the tensors of {source.name!r} do not fit a {cls.__name__} as its config.json describes it "
            f"({len(missing)} missing, {len(wrong)} of another shape: {shown}); the checkpoint is incomplete or of "
            "another model"
        )
    return model.eval().requires_grad_(False).to(runtime.torch_device)


@contextlib.contextmanager
def _told_as_ours(name: str, what: str) -> Iterator[None]:
    """Whatever a stranger's file provokes in transformers, as a CheckpointError. Silent otherwise."""
    try:
        with quiet():
            yield
    except ImportError as error:
        package = getattr(error, "name", None) or "sentencepiece"
        raise MissingExtra(f"{name!r} ({short(error)})", package=package, extra="hf") from error
    except (CheckpointError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(
            f"{name!r}: transformers cannot read {what} ({short(error)}); fetch or copy it again, or upgrade "
            "transformers"
        ) from error
