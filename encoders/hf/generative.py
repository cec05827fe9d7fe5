"""Generating models of transformers: how one is read from a checkpoint, and what decoding needs to know of it.

Used by the pipelines whose models write text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError, MissingExtra
from multimodal.core.hub import api as hub
from multimodal.core.hub.source import CONFIG, Source
from multimodal.encoders.hf.checkpoint import quiet, short

GENERATION = "generation_config.json"
MORE_FILES = (
    GENERATION,
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/*",
    "tekken.json",
)
MAX_NAMED = 3  # tensors that an error message lists


def folder_with_templates(source: Source) -> Path:
    """The folder of a checkpoint with its small files and chat templates, downloaded if need be."""
    folder = source.settings()
    if source.folder is not None:
        return folder
    return hub.snapshot(
        source.repo, patterns=(CONFIG, *MORE_FILES), revision=folder.name, offline=source.offline
    )


def read_config(source: Source, folder: Path) -> Any:
    """The configuration of a checkpoint. Raises CheckpointError."""
    import transformers

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
    return config


def load_processor(name: str, folder: Path) -> Any:
    """The processor of a checkpoint; an image processor and a tokenizer together where it has no processor.

    Raises MissingExtra, CheckpointError.
    """
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


def load_model(source: Source, cls: Any, config: Any, runtime: Runtime, folder: Path) -> Any:
    """A generating model with its weights, which must be complete, and its generation settings.

    Raises MissingExtra, CheckpointError.
    """
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
    if (folder / GENERATION).is_file():
        from transformers import GenerationConfig

        with quiet():
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model.eval().requires_grad_(False).to(runtime.torch_device)


def end_tokens(model: Any) -> set[int]:
    """The ids of the tokens that end a sequence."""
    ids: set[int] = set()
    text = model.config.get_text_config(decoder=True)
    for value in (
        model.generation_config.eos_token_id,
        text.eos_token_id,
        getattr(text, "sep_token_id", None),
    ):
        ids |= {value} if isinstance(value, int) else set(value or ())
    return ids


def is_encoder_decoder(config: Any) -> bool:
    """Whether the input is read by an encoder."""
    text = config.get_text_config()
    return bool(getattr(config, "is_encoder_decoder", False) or getattr(text, "is_encoder_decoder", False))


def context_length(config: Any) -> int | None:
    """The context length of the language model in tokens; None where its positions are relative."""
    text = config.get_text_config(decoder=True)
    for key in ("max_position_embeddings", "n_positions", "max_target_positions"):
        if isinstance(length := getattr(text, key, None), int):
            return length
    return None
