"""Loads a captioning model of transformers: its class, its processor and its weights, strictly checked for fit."""

from __future__ import annotations

from typing import Any

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError
from multimodal.core.hub.source import Source, source_of
from multimodal.encoders.hf import generative
from multimodal.encoders.hf.cards import CARDS
from multimodal.encoders.hf.checkpoint import require_transformers
from multimodal.pipelines.captioning.backends.hf import HFCaptioningBackend
from multimodal.pipelines.captioning.backends.hf_inputs import Inputs

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
    folder = generative.folder_with_templates(source)
    config = generative.read_config(source, folder)
    cls = _generating_class(source, config)
    processor = generative.load_processor(source.name, folder)
    model = generative.load_model(source, cls, config, runtime, folder)
    inputs = Inputs(processor, str(config.model_type), source.name)
    if not inputs.modalities:
        raise CheckpointError(
            f"{source.name!r} has a {type(processor).__name__} without an image processor or, with a chat template, "
            "an audio processor: copy preprocessor_config.json, and chat_template.jinja if it is a chat model, "
            "beside them"
        )
    return HFCaptioningBackend(source.name, model, inputs)


def _generating_class(source: Source, config: Any) -> type:
    """The class of the model. Raises CheckpointError if it generates no text from media."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MULTIMODAL_LM_MAPPING

    kind = str(config.model_type)
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
    chosen: type = mapped[0] if isinstance(mapped, tuple) else mapped
    return chosen
