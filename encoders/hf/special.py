"""Towers of classes of transformers without the usual `get_…_features` methods, verified against their forward.

PE-Audio, PE-Video and PE-AV (Meta's Perception Encoder): methods such as `get_text_audio_embeds` fail in
transformers 5.23 or do not exist, so the modules are called here as `forward` does. There is a text head for audio,
one for video and one for both, see TEXT_HEADS. Scores are dot products of vectors that are *not* of unit length, so
no scale for cosines is known and these spaces have no head.

BLIP for image-text retrieval: the two projections of its contrastive loss; the matching head is not used.

EmbeddingGemma 2: all modalities go through one language model and are mean-pooled over tokens, as
`sentence-transformers` does with the same class. Prompts, which that adds, are left to the caller.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError, InvalidInput
from multimodal.core.modality import Modality
from multimodal.encoders.hf.towers import Tower, by_methods

if TYPE_CHECKING:
    from torch import Tensor

TEXT_HEADS = ("audio", "video", "audio_video")
"""The modality that text is compared with. "audio_video" is upstream's default."""
TEXT_INPUTS = frozenset({"input_ids", "attention_mask"})
AUDIO_INPUTS = frozenset({"input_values"})
FRAMES = frozenset({"pixel_values_videos", "video_position_ids"})  # of EmbeddingGemma 2: (n, t, patches, …)
VIDEO_INPUTS = frozenset({"pixel_values_videos"})

UNTIED = frozenset({"PeAudioVideoModel"})
"""Classes that transformers 5.23 cannot load with the tied weights of their fusion encoder (it mistakes a buffer of
timm's rotary positions for one). No tower needs the fusion encoder."""


def towers(cls: type, text_head: str | None = None, config: Any = None) -> dict[Modality, Tower]:
    """The towers of a class by modality; empty if no modality shares a space with text.

    Args:
        cls: A model class of transformers.
        text_head: One of TEXT_HEADS, for PE-AV only.
        config: The checkpoint's configuration, if it may lack modalities that its class supports.

    Raises:
        InvalidInput: If `text_head` is unknown, or the class has only one.
    """
    special = SPECIAL.get(cls.__name__)
    if text_head is not None and cls.__name__ != "PeAudioVideoModel":
        raise InvalidInput(
            f"text_head={text_head!r} was given, but {cls.__name__} has a single text head; leave it out"
        )
    if cls.__name__ == "PeAudioVideoModel":
        return _pe_audio_video(text_head)
    if cls.__name__ == "EmbeddingGemma2Model":
        return _gemma(config)
    return by_methods(cls) if special is None else special()


def _submodule(model: Any, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), model)


def _pe_text(head: str) -> Tower:
    def run(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        states = model.text_model(**inputs, output_hidden_states=True, return_dict=True).hidden_states
        return _submodule(model, head)(states[-1][:, 0])

    return Tower(("text_model", head), TEXT_INPUTS, run)


def _pe_tower(encoder: str, head: str, input_names: frozenset[str]) -> Tower:
    def run(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        return _submodule(model, head)(_submodule(model, encoder)(**inputs, return_dict=True).pooler_output)

    return Tower((encoder, head), input_names, run)


def _pe_audio() -> dict[Modality, Tower]:
    return {
        Modality.TEXT: _pe_text("text_audio_head"),
        Modality.AUDIO: _pe_tower("audio_encoder", "audio_head", AUDIO_INPUTS),
    }


def _pe_video() -> dict[Modality, Tower]:
    return {
        Modality.TEXT: _pe_text("text_video_head"),
        Modality.VIDEO: _pe_tower("video_encoder", "video_head", VIDEO_INPUTS),
    }


def _pe_audio_video(text_head: str | None = None) -> dict[Modality, Tower]:
    heads = {
        "audio": "audio_model.text_audio_head",
        "video": "video_model.text_video_head",
        "audio_video": "text_audio_video_head",
    }
    name = text_head or "audio_video"
    if name not in heads:
        raise InvalidInput(f"text_head must be one of {', '.join(map(repr, TEXT_HEADS))}, got {text_head!r}")
    return {
        Modality.TEXT: _pe_text(heads[name]),
        Modality.AUDIO: _pe_tower("audio_model.audio_encoder", "audio_model.audio_head", AUDIO_INPUTS),
        Modality.VIDEO: _pe_tower("video_model.video_encoder", "video_model.video_head", VIDEO_INPUTS),
    }


def _pe_frames() -> dict[Modality, Tower]:
    raise CheckpointError(
        "PeAudioFrameLevelModel returns a vector for every 40 ms of audio, not one per clip; load the 'pe-av-…' "
        "checkpoint of the same size instead"
    )


def _blip_retrieval() -> dict[Modality, Tower]:
    def text(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        return model.text_proj(model.text_encoder(**inputs, return_dict=True).last_hidden_state[:, 0])

    def image(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        return model.vision_proj(model.vision_model(**inputs, return_dict=True).last_hidden_state[:, 0])

    return {
        Modality.TEXT: Tower(("text_encoder", "text_proj"), TEXT_INPUTS, text),
        Modality.IMAGE: Tower(("vision_model", "vision_proj"), frozenset({"pixel_values"}), image),
    }


def _gemma(config: Any) -> dict[Modality, Tower]:
    def run(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        flat = {name: tensor.flatten(0, 1) if name in FRAMES else tensor for name, tensor in inputs.items()}
        states = model(**flat).last_hidden_state
        mask = inputs["attention_mask"][..., None].to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)

    def has(part: str) -> bool:
        return config is None or getattr(config, part) is not None

    vision_parts = ("language_model", "vision_tower", "embed_vision")
    audio_parts = ("language_model", "audio_tower", "embed_audio")
    audio_inputs = TEXT_INPUTS | {"input_features", "input_features_mask"}
    image_inputs = TEXT_INPUTS | {"pixel_values", "image_position_ids"}
    video_inputs = TEXT_INPUTS | FRAMES | {"num_frames_per_video"}
    towers = {Modality.TEXT: Tower(("language_model",), TEXT_INPUTS, run, joint=True)}
    if has("vision_config"):
        towers[Modality.IMAGE] = Tower(vision_parts, image_inputs, run, joint=True)
        towers[Modality.VIDEO] = Tower(vision_parts, video_inputs, run, joint=True)
    if has("audio_config"):
        towers[Modality.AUDIO] = Tower(audio_parts, audio_inputs, run, joint=True)
    return towers


CONTEXT = {"EmbeddingGemma2Model": 8_192}
"""Context lengths in tokens, where config.json and tokenizer allow more than the model supports."""
SPECIAL: dict[str, Callable[..., dict[Modality, Tower]]] = {
    "PeAudioModel": _pe_audio,
    "PeVideoModel": _pe_video,
    "PeAudioFrameLevelModel": _pe_frames,
    "BlipForImageTextRetrieval": _blip_retrieval,
}
