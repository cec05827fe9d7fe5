"""Classes of transformers that offer vectors of one space in words of their own, each verified against its forward.

PE-Audio, PE-Video and PE-AV (Meta's Perception Encoder) have `get_text_audio_embeds` and the like, which in
transformers 5.23 do not run, or methods that are not part of the class; their parts are called here as `forward`
does. They learned one text head for sounds, one for videos and one for both, see TEXT_HEADS. Their scores are dot
products of vectors that are *not* of length one, so no scale for cosines is known and their spaces have no head.

BLIP's image-text retrieval has two projections (its contrastive loss) beside the matching head, which is not used.

EmbeddingGemma 2 puts every modality through one language model; a vector is the mean over the tokens
(`sentence-transformers` makes it so from the same class, and adds prompts, which are left to the caller here).
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
"""What texts are to be compared with. "audio_video" is upstream's own choice where nothing is said."""
TEXT_INPUTS = frozenset({"input_ids", "attention_mask"})
SOUND_INPUTS = frozenset({"input_values"})
FRAMES = frozenset({"pixel_values_videos", "video_position_ids"})  # of EmbeddingGemma 2: (n, t, patches, …)
VIDEO_INPUTS = frozenset({"pixel_values_videos"})

UNTIED = frozenset({"PeAudioVideoModel"})
"""transformers 5.23 cannot load these with the tied copies that their fusion encoder holds of their parts (it takes a
buffer of timm's rotary positions for one of them). No tower needs the copies."""


def towers(cls: type, text_head: str | None = None, config: Any = None) -> dict[Modality, Tower]:
    """What a class offers, by modality; empty if its vectors share no space with those of texts.

    text_head: one of TEXT_HEADS, for PE-AV only. Raises InvalidInput for another, or for a class without a choice.
    config: of a checkpoint, where one may lack what its class can do.
    """
    own = SPECIAL.get(cls.__name__)
    if text_head is not None and cls.__name__ != "PeAudioVideoModel":
        raise InvalidInput(
            f"text_head={text_head!r} was given, but {cls.__name__} has one way with texts; leave it out"
        )
    if cls.__name__ == "PeAudioVideoModel":
        return _pe_audio_video(text_head)
    if cls.__name__ == "EmbeddingGemma2Model":
        return _gemma(config)
    return by_methods(cls) if own is None else own()


def _at(model: Any, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), model)


def _pe_text(head: str) -> Tower:
    def run(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        states = model.text_model(**inputs, output_hidden_states=True, return_dict=True).hidden_states
        return _at(model, head)(states[-1][:, 0])

    return Tower(("text_model", head), TEXT_INPUTS, run)


def _pe_medium(encoder: str, head: str, takes: frozenset[str]) -> Tower:
    def run(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        return _at(model, head)(_at(model, encoder)(**inputs, return_dict=True).pooler_output)

    return Tower((encoder, head), takes, run)


def _pe_audio() -> dict[Modality, Tower]:
    return {
        Modality.TEXT: _pe_text("text_audio_head"),
        Modality.AUDIO: _pe_medium("audio_encoder", "audio_head", SOUND_INPUTS),
    }


def _pe_video() -> dict[Modality, Tower]:
    return {
        Modality.TEXT: _pe_text("text_video_head"),
        Modality.VIDEO: _pe_medium("video_encoder", "video_head", VIDEO_INPUTS),
    }


def _pe_audio_video(text_head: str | None = None) -> dict[Modality, Tower]:
    heads = {
        "audio": "audio_model.text_audio_head",
        "video": "video_model.text_video_head",
        "audio_video": "text_audio_video_head",
    }
    chosen = text_head or "audio_video"
    if chosen not in heads:
        raise InvalidInput(f"text_head must be one of {', '.join(map(repr, TEXT_HEADS))}, got {text_head!r}")
    return {
        Modality.TEXT: _pe_text(heads[chosen]),
        Modality.AUDIO: _pe_medium("audio_model.audio_encoder", "audio_model.audio_head", SOUND_INPUTS),
        Modality.VIDEO: _pe_medium("video_model.video_encoder", "video_model.video_head", VIDEO_INPUTS),
    }


def _pe_frames() -> dict[Modality, Tower]:
    raise CheckpointError(
        "PeAudioFrameLevelModel gives a vector for every 40 ms of a sound, not one for all of it; load the 'pe-av-…' "
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
        flat = {name: one.flatten(0, 1) if name in FRAMES else one for name, one in inputs.items()}
        states = model(**flat).last_hidden_state
        mask = inputs["attention_mask"][..., None].to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1)

    def has(part: str) -> bool:
        return config is None or getattr(config, part) is not None

    seen = ("language_model", "vision_tower", "embed_vision")
    heard = ("language_model", "audio_tower", "embed_audio")
    sound = TEXT_INPUTS | {"input_features", "input_features_mask"}
    picture = TEXT_INPUTS | {"pixel_values", "image_position_ids"}
    found = {Modality.TEXT: Tower(("language_model",), TEXT_INPUTS, run, joint=True)}
    if has("vision_config"):
        found[Modality.IMAGE] = Tower(seen, picture, run, joint=True)
        found[Modality.VIDEO] = Tower(seen, TEXT_INPUTS | FRAMES | {"num_frames_per_video"}, run, joint=True)
    if has("audio_config"):
        found[Modality.AUDIO] = Tower(heard, sound, run, joint=True)
    return found


CONTEXT = {"EmbeddingGemma2Model": 8_192}
"""Tokens, where config.json and tokenizer allow more than the model was made for."""
SPECIAL: dict[str, Callable[..., dict[Modality, Tower]]] = {
    "PeAudioModel": _pe_audio,
    "PeVideoModel": _pe_video,
    "PeAudioFrameLevelModel": _pe_frames,
    "BlipForImageTextRetrieval": _blip_retrieval,
}
