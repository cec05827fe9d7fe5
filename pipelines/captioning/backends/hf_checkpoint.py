"""Loads a captioning model of transformers: its class, its processor and its weights, strictly checked for fit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError, MissingExtra
from multimodal.core.hub import api as hub
from multimodal.core.hub.source import CONFIG, Source, source_of
from multimodal.encoders.hf.cards import CARDS
from multimodal.encoders.hf.checkpoint import quiet, require_transformers, short
from multimodal.pipelines.captioning.backends.hf import HFCaptioningBackend
from multimodal.pipelines.captioning.backends.hf_inputs import Inputs

GENERATION = "generation_config.json"
MORE_FILES = (
    GENERATION,
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/*",
    "tekken.json",
)
MAX_NAMED = 3  # tensors that an error message lists
OTHER_USES = (
    ("Whisper", "it transcribes: multimodal.pipeline('transcription', model=…)"),
    ("Wav2Vec2", "it transcribes: multimodal.pipeline('transcription', model=…)"),
    ("CLIP", "it encodes items as vectors: multimodal.load(…)"),
    ("Siglip", "it encodes items as vectors: multimodal.load(…)"),
    ("Clap", "it encodes items as vectors: multimodal.load(…)"),
)


def load_backend(rest: str, runtime: Runtime, *, offline: bool, revision: str | None) -> HFCaptioningBackend:
    """Loads `hf/<rest>`, where rest is the id of a model on the Hub or a folder ("./folder").

    Raises UnknownModel, DownloadError, MissingExtra, and CheckpointError for a model that generates no text from images
    or audio, or whose tensors do not fit.
    """
    require_transformers()
    source = source_of(rest, revision=revision, offline=offline, with_code=False, cards=CARDS)
    folder = _folder(source)
    config, cls = _config_and_class(source, folder)
    processor = _processor(source.name, folder)
    model = _load_model(source, cls, config, runtime)
    if (folder / GENERATION).is_file():
        from transformers import GenerationConfig

        with quiet():
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    inputs = Inputs(processor, str(config.model_type), source.name)
    if not inputs.modalities:
        raise CheckpointError(
            f"{source.name!r} has a {type(processor).__name__} without an image processor or, with a chat template, "
            "an audio processor: copy preprocessor_config.json, and chat_template.jinja if it is a chat model, "
            "beside them"
        )
    return HFCaptioningBackend(source.name, model.to(runtime.torch_device), inputs)


def _folder(source: Source) -> Path:
    folder = source.settings()
    if source.folder is not None:
        return folder
    return hub.snapshot(
        source.repo, patterns=(CONFIG, *MORE_FILES), revision=folder.name, offline=source.offline
    )


def _config_and_class(source: Source, folder: Path) -> tuple[Any, type]:
    """The configuration and the generating class. Raises CheckpointError if there is none."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING

    kind = source.config()["model_type"]
    if kind not in transformers.CONFIG_MAPPING:
        raise CheckpointError(
            f"{source.name!r} is of type {kind!r}, which transformers {transformers.__version__} does not know; "
            "upgrade transformers"
        )
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # a damaged file can raise anything in transformers
        raise CheckpointError(
            f"{source.name!r}: transformers cannot read its {CONFIG} ({short(error)}); fetch or copy it again, or "
            "upgrade transformers"
        ) from error
    if type(config) not in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        named = (getattr(config, "architectures", None) or [kind])[0]
        use = next((cure for prefix, cure in OTHER_USES if named.startswith(prefix)), "")
        raise CheckpointError(
            f"{source.name!r} is a {named}, which generates no text from images, audio or video"
            + (
                f"; {use}"
                if use
                else "; captioning models are BLIP, GIT, Florence-2, LLaVA, Qwen-VL and similar"
            )
        )
    mapped = MODEL_FOR_MULTIMODAL_LM_MAPPING[type(config)]
    return config, mapped[0] if isinstance(mapped, tuple) else mapped


def _processor(name: str, folder: Path) -> Any:
    import transformers

    try:
        with quiet():
            processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
            if hasattr(processor, "tokenizer"):
                return processor
            return _ImageProcessorAndTokenizer(
                transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True),
                transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True),
            )
    except ImportError as error:
        match = re.search(r"ackage `([\w-]+)`|requires the (\S+) library", str(error))
        package = (match[1] or match[2]) if match else (error.name or "another package")
        raise MissingExtra(f"the processor of {name!r}", package=package, extra="hf") from error
    except Exception as error:  # damaged files can raise anything in transformers
        raise CheckpointError(
            f"the processor of {name!r} cannot be loaded: {short(error)}; fetch or copy its files again"
        ) from error


class _ImageProcessorAndTokenizer:
    """The processor of vision-encoder-decoder models, for which transformers has no class."""

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        self.image_processor, self.tokenizer = image_processor, tokenizer

    def __call__(self, images: Any, text: Any = None, **options: Any) -> Any:
        if text is not None:
            raise ValueError("it was trained to caption without a prompt; leave it out")
        return self.image_processor(images, return_tensors="pt")


def _load_model(source: Source, cls: Any, config: Any, runtime: Runtime) -> Any:
    with quiet():
        try:
            model, report = cls.from_pretrained(
                None,
                config=config,
                state_dict=source.tensors(),
                dtype=runtime.dtype,
                output_loading_info=True,
            )
        except ImportError as error:
            raise MissingExtra(f"{source.name!r} ({short(error)})", package="timm", extra="hf") from error
        except RuntimeError as error:
            raise CheckpointError(
                f"the tensors of {source.name!r} do not fit a {cls.__name__} as its {CONFIG} describes it: "
                f"{short(error)}"
            ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"the tensors of {source.name!r} do not fit a {cls.__name__} as its {CONFIG} describes it ({len(missing)} "
            f"missing: {', '.join(missing[:MAX_NAMED])}{', …' if len(missing) > MAX_NAMED else ''}); the checkpoint is "
            "incomplete or of another model"
        )
    return model.eval().requires_grad_(False)
