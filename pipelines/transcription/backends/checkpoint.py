"""Speech recognition checkpoints of transformers, from a folder or a Hub repository: class, weights and tokenizer."""

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

AUDIO_INPUTS = ("input_features", "input_values")
SMALL_FILES = ("*.json", "*.txt", "*.model")
NAMED = 3


@dataclass(frozen=True)
class SpeechCheckpoint:
    """A loaded model. name: as given. model_class: for messages. kind: "whisper", "ctc" or "seq2seq"."""

    name: str
    model_class: str
    kind: str
    model: Any
    extractor: Any
    tokenizer: Any


def read(source: Source, runtime: Runtime) -> SpeechCheckpoint:
    """Loads a model. Its type is read from its configuration, before any weights are fetched.

    Raises UnknownModel, DownloadError, MissingExtra; CheckpointError for a model of another task or mismatched weights.
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
    """(config, class, kind). Raises CheckpointError for a model that is not for speech recognition."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    with _as_checkpoint_error(name, "its config.json"):
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    ctc = set(auto.MODEL_FOR_CTC_MAPPING_NAMES.values())
    speech = set(auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES.values())
    class_names = list(config.architectures or [])
    if not class_names:  # by model type; seq2seq classes come first
        class_names = [
            class_name
            for table in (auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES, auto.MODEL_FOR_CTC_MAPPING_NAMES)
            if (class_name := table.get(config.model_type))
        ]
    what = class_names[0] if class_names else f"model of type {written['model_type']!r}"
    cls = getattr(transformers, what, None) if class_names else None
    takes_audio = isinstance(cls, type) and getattr(cls, "main_input_name", None) in AUDIO_INPUTS
    if takes_audio and issubclass(cls, transformers.WhisperForConditionalGeneration):  # type: ignore[arg-type]
        return config, cls, "whisper"
    if takes_audio and (what in ctc or what.endswith("ForCTC")):
        return config, cls, "ctc"
    if what in speech or (takes_audio and cls.can_generate()):  # type: ignore[union-attr]
        return config, cls, "seq2seq"
    raise CheckpointError(
        f"{name!r} is a {what}, which does not transcribe speech: use a Whisper, CTC or speech-to-text checkpoint, "
        "such as 'hf/openai/whisper-tiny' or 'hf/facebook/wav2vec2-base-960h'"
    )


def _processors(name: str, folder: Path, cls: Any) -> tuple[Any, Any]:
    import transformers

    with _as_checkpoint_error(name, "its feature extractor or tokenizer"):
        extractor = transformers.AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return extractor, tokenizer


def _filled(source: Source, cls: Any, config: Any, folder: Path, runtime: Runtime) -> Any:
    import transformers

    with _as_checkpoint_error(source.name, "its weights"):
        model, loading_info = cls.from_pretrained(
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
    floating = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    missing = sorted(set(loading_info["missing_keys"]) & floating)
    mismatched = [key for key, *_ in loading_info["mismatched_keys"]]
    if missing or mismatched:
        shown = ", ".join((missing + mismatched)[:NAMED])
        raise CheckpointError(
            f"the tensors of {source.name!r} do not match a {cls.__name__} as described by its config.json "
            f"({len(missing)} missing, {len(mismatched)} of another shape: {shown}); the checkpoint is incomplete or "
            "of another model"
        )
    return model.eval().requires_grad_(False).to(runtime.torch_device)


@contextlib.contextmanager
def _as_checkpoint_error(name: str, what: str) -> Iterator[None]:
    """Raises CheckpointError for any error of transformers while it reads a file, and silences its log."""
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
