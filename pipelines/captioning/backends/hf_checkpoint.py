"""A captioner of transformers out of a checkpoint: its class, its processor, its weights, and whether they fit."""

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
NAMED = 3  # tensors that an error names
OTHER_USES = (
    ("Whisper", "it transcribes: multimodal.pipeline('transcription', model=…)"),
    ("Wav2Vec2", "it transcribes: multimodal.pipeline('transcription', model=…)"),
    ("CLIP", "it gives vectors: multimodal.load(…)"),
    ("Siglip", "it gives vectors: multimodal.load(…)"),
    ("Clap", "it gives vectors: multimodal.load(…)"),
)


def load_backend(rest: str, runtime: Runtime, *, offline: bool, revision: str | None) -> HFCaptioningBackend:
    """The captioner `hf/<rest>`, an id of the hub or a folder ("./folder").

    Raises UnknownModel, DownloadError, CheckpointError for a checkpoint that does not write about pictures or sounds
    or whose tensors do not fit, MissingExtra.
    """
    require_transformers()
    source = source_of(rest, revision=revision, offline=offline, with_code=False, cards=CARDS)
    folder = _folder(source)
    config, cls = _described(source, folder)
    processor = _processor(source.name, folder)
    model = _filled(source, cls, config, runtime)
    if (folder / GENERATION).is_file():
        from transformers import GenerationConfig

        with quiet():
            model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    inputs = Inputs(processor, str(config.model_type), source.name)
    if not inputs.modalities:
        raise CheckpointError(
            f"{source.name!r} has a {type(processor).__name__} without a part for pictures or, with a chat template, "
            "for sounds: copy preprocessor_config.json, and chat_template.jinja if it is a chat model, beside them"
        )
    return HFCaptioningBackend(source.name, model.to(runtime.torch_device), inputs)


def _folder(source: Source) -> Path:
    folder = source.settings()
    if source.folder is not None:
        return folder
    found = hub.snapshot(
        source.repo, patterns=(CONFIG, *MORE_FILES), revision=folder.name, offline=source.offline
    )
    return found


def _described(source: Source, folder: Path) -> tuple[Any, type]:
    """Its configuration, and the class that writes. Raises CheckpointError if there is none."""
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
    except Exception as error:  # whatever a stranger's file provokes in transformers, told as ours
        raise CheckpointError(
            f"{source.name!r}: transformers cannot read its {CONFIG} ({short(error)}); fetch or copy it again, or "
            "upgrade transformers"
        ) from error
    if type(config) not in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        named = (getattr(config, "architectures", None) or [kind])[0]
        use = next((words for start, words in OTHER_USES if named.startswith(start)), "")
        raise CheckpointError(
            f"{source.name!r} is a {named}, which does not write about pictures, sounds or videos"
            + (f"; {use}" if use else "; captioners are BLIP, GIT, Florence-2, LLaVA, Qwen-VL and their like")
        )
    found = MODEL_FOR_MULTIMODAL_LM_MAPPING[type(config)]
    return config, found[0] if isinstance(found, tuple) else found


def _processor(name: str, folder: Path) -> Any:
    import transformers

    try:
        with quiet():
            found = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
            if hasattr(found, "tokenizer"):
                return found
            return _Pair(
                transformers.AutoImageProcessor.from_pretrained(folder, local_files_only=True),
                transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True),
            )
    except ImportError as error:
        lacking = re.search(r"ackage `([\w-]+)`|requires the (\S+) library", str(error))
        package = (lacking[1] or lacking[2]) if lacking else (error.name or "another package")
        raise MissingExtra(f"the processor of {name!r}", package=package, extra="hf") from error
    except Exception as error:  # whatever a stranger's files provoke in transformers, told as ours
        raise CheckpointError(
            f"no processor can be made of the files of {name!r}: {short(error)}; fetch or copy them again"
        ) from error


class _Pair:
    """An image processor and a tokenizer that no class of transformers joins (vision-encoder-decoder)."""

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        self.image_processor, self.tokenizer = image_processor, tokenizer

    def __call__(self, images: Any, text: Any = None, **options: Any) -> Any:
        if text is not None:
            raise ValueError("it was trained to caption without a prompt; leave it out")
        return self.image_processor(images, return_tensors="pt")


def _filled(source: Source, cls: Any, config: Any, runtime: Runtime) -> Any:
    with quiet():
        try:
            model, told = cls.from_pretrained(
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
    missing = sorted(told["missing_keys"])
    if missing:
        raise CheckpointError(
            f"the tensors of {source.name!r} do not fit a {cls.__name__} as its {CONFIG} describes it ({len(missing)} "
            f"missing: {', '.join(missing[:NAMED])}{', …' if len(missing) > NAMED else ''}); the checkpoint is "
            "incomplete or of another model"
        )
    return model.eval().requires_grad_(False)
