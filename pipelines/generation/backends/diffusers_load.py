"""A pipeline of diffusers out of a checkpoint: silent, and strict about what is missing.

diffusers and transformers initialise at random whatever a checkpoint lacks and say so in a log. Here that is an error.
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
AT_RANDOM = ("newly initialized", "MISSING")  # how the two say that weights were made up
LONGEST = 300  # characters of somebody else's message


def read(source: DiffusersSource, runtime: Runtime, *, place: bool = True) -> Any:
    """The pipeline, in the runtime's precision, on its device unless told otherwise.

    Raises UnknownModel, DownloadError, MissingExtra, CheckpointError.
    """
    import diffusers

    folder, index = source.fetched()
    with _told_as_ours(source.name), captured_logs() as heard:
        importlib.import_module(
            "diffusers.pipelines.auto_pipeline"
        )  # needed later, and it warns of torch's plans
        try:
            pipe = diffusers.DiffusionPipeline.from_pretrained(
                folder, local_files_only=True, variant=_variant(source, folder), **_dtype(runtime)
            )
        except ImportError as error:
            raise MissingExtra(
                f"{source.name!r} ({short(error)})", package="another package", extra=EXTRA
            ) from error
    made_up = next((one for one in heard if any(word in one for word in AT_RANDOM)), None)
    if made_up is not None:
        raise CheckpointError(
            f"{source.name!r} lacks weights of its {index['_class_name']}, or has them in another shape; it is "
            f"incomplete or of another model ({short(made_up)})"
        )
    _mend(pipe)
    return pipe.to(runtime.torch_device) if place else pipe


def join_prior(pipe: Any, prior: Any) -> Any:
    """A decoder and the prior it needs, as the one pipeline that diffusers has for both.

    Raises CheckpointError if it has none for these two.
    """
    import diffusers
    from diffusers.pipelines import auto_pipeline

    halves = auto_pipeline._AUTO_TEXT2IMAGE_DECODER_PIPELINES_MAPPING
    family = next((key for key, cls in halves.items() if isinstance(pipe, cls)), None)
    whole = None if family is None else auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING[family]
    named = {f"prior_{key}": value for key, value in prior.components.items()}
    try:
        if whole is None:
            raise TypeError(f"diffusers {diffusers.__version__} joins no {type(pipe).__name__} to anything")
        return whole(**pipe.components, **named)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"a {type(prior).__name__} is not the prior of a {type(pipe).__name__}: {short(error)}"
        ) from error


def add_adapter(pipe: Any, name: str, offline: bool) -> None:
    """Gives a pipeline an IP-Adapter, through which it takes CLIP's vectors of pictures beside words.

    name: "<owner>/<name>:<file in it>" or "./file.safetensors". Raises UnknownModel, DownloadError, CheckpointError.
    """
    if name.startswith(FOLDER_PREFIXES):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UnknownModel(f"ip_adapter={name!r} names a file, and there is none")
    else:
        repo, colon, file = name.partition(":")
        if not colon or not file:
            raise UnknownModel(
                f"ip_adapter={name!r} must say which file: 'h94/IP-Adapter:models/ip-adapter_sd15.safetensors', or "
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
            f"ip_adapter={name!r} holds no projection of one vector for each picture ('image_proj.proj.weight'); the "
            "kinds called plus, full and faceid look at more than that: take the plain one"
        )
    if not callable(getattr(pipe, "load_ip_adapter", None)) or not hasattr(pipe, "unet"):
        raise CheckpointError(
            f"a {type(pipe).__name__} takes no IP-Adapter: they are made for Stable Diffusion 1.x, 2.x and XL"
        )
    with _told_as_ours(f"ip_adapter={name}"), captured_logs():
        pipe.load_ip_adapter(halves, subfolder="", weight_name="", image_encoder_folder=None)
        pipe.unet.to(pipe.unet.device, pipe.unet.dtype)


def offload(pipe: Any) -> None:
    """Keeps the parts of a model in the main memory but for the one that runs. Raises InvalidInput, MissingExtra."""
    import torch

    if importlib.util.find_spec("accelerate") is None:
        raise MissingExtra("offload=True", package="accelerate", extra="offload")
    if torch.accelerator.current_accelerator(check_available=True) is None:
        raise InvalidInput(
            "offload=True needs an accelerator to run the parts on, and torch sees none; leave it out"
        )
    pipe.enable_model_cpu_offload()


@contextlib.contextmanager
def captured_logs() -> Iterator[list[str]]:
    """What diffusers and transformers would log and warn of, as a list instead, and no bars of progress."""
    from diffusers.utils import logging as diffusers_logging

    talkers: list[Any] = [diffusers_logging]
    if importlib.util.find_spec("transformers") is not None:  # the starter draws without
        from transformers.utils import logging as transformers_logging

        talkers.append(transformers_logging)
    heard: list[str] = []
    listener = _Listener(heard)
    loggers = [logging.getLogger(one) for one in LIBRARIES]
    before = [(one.handlers, one.level) for one in loggers]
    bars = [one for one in talkers if getattr(one, "is_progress_bar_enabled", lambda: True)()]
    for one in loggers:
        one.handlers = [listener]
        one.setLevel(logging.WARNING)
    for module in bars:
        module.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield heard
    finally:
        for one, (handlers, level) in zip(loggers, before, strict=True):
            one.handlers = handlers
            one.setLevel(level)
        for module in bars:
            module.enable_progress_bar()


class _Listener(logging.Handler):
    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self.heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


def short(error: object) -> str:
    """Somebody else's message, on one line and not endless."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


@contextlib.contextmanager
def _told_as_ours(name: str) -> Iterator[None]:
    try:
        yield
    except (MultimodalError, MemoryError):
        raise
    except Exception as error:  # whatever a stranger's files provoke, told as ours
        raise CheckpointError(
            f"diffusers cannot read {name!r}: {short(error)}; fetch or copy it again, or upgrade diffusers"
        ) from error


def _variant(source: DiffusersSource, folder: Path) -> str | None:
    """The variant, if any part has it: upstream refuses a word that fits none."""
    if source.variant is None:
        return None
    if any(f".{source.variant}." in f"{one.name.replace('-', '.')}" for one in folder.glob("*/*")):
        return source.variant
    raise CheckpointError(f"{source.name!r} has no weights of variant {source.variant!r}; leave variant out")


def _dtype(runtime: Runtime) -> dict[str, Any]:
    """Under the name that this diffusers has for it: it was torch_dtype before."""
    from diffusers.utils import deprecation_utils

    renamed = hasattr(deprecation_utils, "_resolve_dtype")
    return {"dtype" if renamed else "torch_dtype": runtime.dtype}


def _mend(pipe: Any) -> None:
    """AudioLDM 2 steps its GPT-2 by hand, with a method that only the class with a head has; older checkpoints name the
    class without. What it computes is the same: the head is not used."""
    from transformers import GPT2LMHeadModel, GPT2Model

    words = getattr(pipe, "language_model", None)
    if isinstance(words, GPT2Model):
        whole = GPT2LMHeadModel(words.config)
        whole.transformer = words
        pipe.register_modules(language_model=whole.to(words.dtype).eval())
