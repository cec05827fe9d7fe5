"""Loading of diffusers pipelines, without log output and strict about missing weights.

diffusers and transformers initialise missing weights at random and only log it. Here that is an error.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.catalog import FOLDER_PREFIXES
from multimodal.core.errors import CheckpointError, InvalidInput, MissingExtra, MultimodalError, UnknownModel
from multimodal.core.hub import api as hub
from multimodal.pipelines.generation.backends.diffusers_checkpoint import EXTRA, DiffusersSource

LIBRARIES = ("diffusers", "transformers")
AT_RANDOM = ("newly initialized", "MISSING")  # how the two log randomly initialised weights
LONGEST = 300  # characters of an upstream message


def read(source: DiffusersSource, runtime: Runtime, *, place: bool = True) -> Any:
    """Loads the pipeline in the runtime's precision, and on its device unless `place` is False.

    Raises UnknownModel, DownloadError, MissingExtra, CheckpointError.
    """
    import diffusers

    folder, index = source.fetched()
    with _as_checkpoint_error(source.name), captured_logs() as messages:
        importlib.import_module("diffusers.pipelines.auto_pipeline")  # needed later, and warns when imported
        try:
            pipe = diffusers.DiffusionPipeline.from_pretrained(
                folder, local_files_only=True, variant=_variant(source, folder), **_dtype(runtime)
            )
        except ImportError as error:
            raise MissingExtra(
                f"{source.name!r} ({short(error)})", package="another package", extra=EXTRA
            ) from error
    initialised = next((message for message in messages if any(word in message for word in AT_RANDOM)), None)
    if initialised is not None:
        raise CheckpointError(
            f"{source.name!r} lacks weights of its {index['_class_name']}, or has them in another shape; it is "
            f"incomplete or of another model ({short(initialised)})"
        )
    _add_language_model_head(pipe)
    return pipe.to(runtime.torch_device) if place else pipe


def join_prior(pipe: Any, prior: Any) -> Any:
    """Combines a decoder and its prior into the diffusers pipeline for both.

    Raises CheckpointError if diffusers has no combined pipeline for them.
    """
    import diffusers
    from diffusers.pipelines import auto_pipeline

    halves = auto_pipeline._AUTO_TEXT2IMAGE_DECODER_PIPELINES_MAPPING
    family = next((key for key, cls in halves.items() if isinstance(pipe, cls)), None)
    whole = None if family is None else auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING[family]
    named = {f"prior_{key}": value for key, value in prior.components.items()}
    try:
        if whole is None:
            raise TypeError(
                f"diffusers {diffusers.__version__} has no combined pipeline for {type(pipe).__name__}"
            )
        return whole(**pipe.components, **named)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"a {type(prior).__name__} is not the prior of a {type(pipe).__name__}: {short(error)}"
        ) from error


def add_adapter(pipe: Any, name: str, offline: bool) -> None:
    """Adds an IP-Adapter to a pipeline, so that it takes CLIP image vectors beside a prompt.

    name: "<owner>/<name>:<file in it>" or "./file.safetensors". Raises UnknownModel, DownloadError, CheckpointError.
    """
    if name.startswith(FOLDER_PREFIXES):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UnknownModel(f"ip_adapter={name!r}: the file does not exist")
    else:
        repo, colon, file = name.partition(":")
        if not colon or not file:
            raise UnknownModel(
                f"ip_adapter={name!r} names no file: write 'h94/IP-Adapter:models/ip-adapter_sd15.safetensors' or "
                "'./file.safetensors'"
            )
        path = hub.file(repo, file, offline=offline, extra=EXTRA)
    tensors = hub.load_tensors(path)
    halves: dict[str, dict[str, Any]] = {"image_proj": {}, "ip_adapter": {}}
    for key, value in tensors.items():
        half, _, rest = key.partition(".")
        if half in halves:
            halves[half][rest] = value
    if not all(halves.values()) or "proj.weight" not in halves["image_proj"]:
        raise CheckpointError(
            f"ip_adapter={name!r} has no projection from a single image vector ('image_proj.proj.weight'); the "
            "variants plus, full and faceid need more than one vector: use the plain variant"
        )
    if not callable(getattr(pipe, "load_ip_adapter", None)) or not hasattr(pipe, "unet"):
        raise CheckpointError(
            f"a {type(pipe).__name__} takes no IP-Adapter: these exist for Stable Diffusion 1.x, 2.x and XL"
        )
    with _as_checkpoint_error(f"ip_adapter={name}"), captured_logs():
        pipe.load_ip_adapter(halves, subfolder="", weight_name="", image_encoder_folder=None)
        pipe.unet.to(pipe.unet.device, pipe.unet.dtype)


def offload(pipe: Any) -> None:
    """Keeps all components but the running one in main memory. Raises InvalidInput, MissingExtra."""
    import torch

    if importlib.util.find_spec("accelerate") is None:
        raise MissingExtra("offload=True", package="accelerate", extra="offload")
    if torch.accelerator.current_accelerator(check_available=True) is None:
        raise InvalidInput("offload=True needs an accelerator, and torch finds none; leave it out")
    pipe.enable_model_cpu_offload()


@contextlib.contextmanager
def captured_logs() -> Iterator[list[str]]:
    """Collects log messages of diffusers and transformers in a list, and disables their warnings and progress bars."""
    from diffusers.utils import logging as diffusers_logging

    modules: list[Any] = [diffusers_logging]
    if importlib.util.find_spec("transformers") is not None:  # optional for the starter
        from transformers.utils import logging as transformers_logging

        modules.append(transformers_logging)
    messages: list[str] = []
    collector = _LogCollector(messages)
    loggers = [logging.getLogger(logger) for logger in LIBRARIES]
    before = [(logger.handlers, logger.level) for logger in loggers]
    bars = [logger for logger in modules if getattr(logger, "is_progress_bar_enabled", lambda: True)()]
    for logger in loggers:
        logger.handlers = [collector]
        logger.setLevel(logging.WARNING)
    for module in bars:
        module.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield messages
    finally:
        for logger, (handlers, level) in zip(loggers, before, strict=True):
            logger.handlers = handlers
            logger.setLevel(level)
        for module in bars:
            module.enable_progress_bar()


class _LogCollector(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__()
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def short(error: object) -> str:
    """An upstream message on one line, truncated."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


@contextlib.contextmanager
def _as_checkpoint_error(name: str) -> Iterator[None]:
    try:
        yield
    except (MultimodalError, MemoryError):
        raise
    except Exception as error:  # damaged files raise errors of many types
        raise CheckpointError(
            f"diffusers cannot read {name!r}: {short(error)}; fetch or copy it again, or upgrade diffusers"
        ) from error


def _variant(source: DiffusersSource, folder: Path) -> str | None:
    """The variant, if any component has it. Raises CheckpointError otherwise, where upstream gives an obscure error."""
    if source.variant is None:
        return None
    if any(f".{source.variant}." in path.name.replace("-", ".") for path in folder.glob("*/*")):
        return source.variant
    raise CheckpointError(f"{source.name!r} has no weights of variant {source.variant!r}; leave variant out")


def _dtype(runtime: Runtime) -> dict[str, Any]:
    """The dtype argument under the name that the installed diffusers uses; it was `torch_dtype` before."""
    from diffusers.utils import deprecation_utils

    renamed = hasattr(deprecation_utils, "_resolve_dtype")
    return {"dtype" if renamed else "torch_dtype": runtime.dtype}


def _add_language_model_head(pipe: Any) -> None:
    """Replaces the `GPT2Model` of older AudioLDM 2 checkpoints by a `GPT2LMHeadModel` with the same weights.

    The pipeline calls a method that only the class with a head has. Its output is the same: the head is not used.
    """
    from transformers import GPT2LMHeadModel, GPT2Model

    body = getattr(pipe, "language_model", None)
    if isinstance(body, GPT2Model):
        language_model = GPT2LMHeadModel(body.config)
        language_model.transformer = body
        pipe.register_modules(language_model=language_model.to(body.dtype).eval())
