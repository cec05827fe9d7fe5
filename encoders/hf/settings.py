"""Settings determined once from a checkpoint and stored with a saved space: context length, padding, windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError
from multimodal.core.hub.source import CONFIG, PROCESSORS, TOKENIZERS
from multimodal.core.modality import Modality
from multimodal.encoders.hf import preprocessing
from multimodal.encoders.hf.special import CONTEXT
from multimodal.encoders.hf.towers import Tower, extract

if TYPE_CHECKING:
    from torch import Tensor, nn

TOLERANCE = 1e-5  # largest change of a unit vector for which padding counts as harmless
PADDING = 8  # tokens of padding added to test that
FRAMES = 16  # per clip, if neither model nor processor says (as in the documentation of PE-AV)
UNBOUNDED = 100_000  # tokenizers without a limit report 10^30


def files_of(modality: Modality, tower: Tower, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Selects the files that the encoder of one modality needs."""
    names = TOKENIZERS if modality is Modality.TEXT else PROCESSORS + (TOKENIZERS if tower.joint else ())
    return {name: content for name, content in files.items() if name == CONFIG or name in names}


def settings_of(
    modality: Modality, model: nn.Module, tower: Tower, files: Mapping[str, bytes]
) -> dict[str, Any]:
    """The settings of one modality as JSON values; those of text include "dim", which all modalities share.

    Raises:
        CheckpointError: If the tokenizer is unusable or the context length is not stated.
    """
    if modality is Modality.TEXT:
        return _text_settings(model, tower, files)
    if tower.joint:
        return _joint_settings(modality, preprocessing.joint_processor(files))
    if modality is Modality.IMAGE:
        return {"backend": preprocessing.backend_of(preprocessing.image_processor(files, None))}
    if modality is Modality.AUDIO:
        return {"window_samples": preprocessing.window_samples(preprocessing.feature_extractor(files))}
    input_name = preprocessing.video_input_name(tower.input_names)
    processor = preprocessing.frame_processor(input_name, files, None)
    return {"n_frames": _n_frames(model.config, processor), "backend": preprocessing.backend_of(processor)}


def _joint_settings(modality: Modality, processor: Any) -> dict[str, Any]:
    if modality is Modality.AUDIO:
        return {"window_samples": preprocessing.window_samples(processor.feature_extractor)}
    if modality is Modality.VIDEO:
        video_processor = processor.video_processor
        return {"fps": float(video_processor.fps), "max_frames": int(video_processor.max_frames)}
    return {}


def _n_frames(config: Any, processor: Any) -> int:
    """Frames per clip: of the model (X-CLIP), else of its processor, else FRAMES."""
    from_model = getattr(getattr(config, "vision_config", None), "num_frames", None)
    return int(from_model or getattr(processor, "num_frames", None) or FRAMES)


def _text_settings(model: Any, tower: Tower, files: Mapping[str, bytes]) -> dict[str, Any]:
    import torch

    tokenizer = preprocessing.tokenizer(files)
    limit = _context_length(model, tower, tokenizer)
    length = len(tokenizer(["a"], truncation=True, max_length=limit)["input_ids"][0])
    if length == 0:
        raise CheckpointError(
            "the checkpoint's tokenizer returns no tokens for 'a'; its files are incomplete"
        )
    if tokenizer.pad_token is None:
        raise CheckpointError(
            "the checkpoint's tokenizer has no pad_token; name one in its tokenizer_config.json"
        )

    def padded_by(padding: int) -> Tensor:
        options = {"max_length": min(limit, length + padding), "truncation": True, "padding": "max_length"}
        with torch.inference_mode():
            vectors = tower(model, tokenizer(["a"], return_tensors="pt", **options))
        return vectors / vectors.norm(dim=1, keepdim=True)

    bare, padded = padded_by(0), padded_by(PADDING)
    settings = {"dim": bare.shape[1], "max_length": limit, "padding": "longest", "keep_mask": False}
    if _differ(bare, padded):
        if _differ(padded, padded_by(2 * PADDING)) or "attention_mask" not in tokenizer.model_input_names:
            settings["padding"] = "max_length"
        else:  # the amount of padding does not matter, its absence does: see HFText
            settings["keep_mask"] = True
    return settings


def _differ(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() > TOLERANCE)


def _context_length(model: Any, tower: Tower, tokenizer: Any) -> int:
    """The smallest limit in tokens: of training, of the position embeddings, of the tokenizer."""
    candidates = [
        CONTEXT.get(type(model).__name__),
        _trained_length(model),
        _positions(model.config, extract(model, tower.parts)),
    ]
    if tokenizer.model_max_length < UNBOUNDED:
        candidates.append(tokenizer.model_max_length)
    limits = [limit for limit in candidates if limit]
    if not limits:
        raise CheckpointError(
            f"neither the tokenizer (model_max_length) nor {CONFIG} (max_position_embeddings) states the context "
            "length; add one of them"
        )
    return min(limits)


def _trained_length(model: Any) -> int | None:
    """The `max_length` for text of this class's processor (SigLIP 2, ALIGN: 64), if it has one."""
    from transformers import PROCESSOR_MAPPING

    processor = PROCESSOR_MAPPING.get(type(model.config), None)
    return (getattr(processor, "text_kwargs", None) or {}).get("max_length")


def _positions(config: Any, net: nn.Module) -> int | None:
    text_config = getattr(config, "text_config", None) or config
    length = getattr(text_config, "max_position_embeddings", None)
    if length is None:
        return None
    # RoBERTa and derived models number positions from padding_idx + 1
    for module in net.modules():
        if hasattr(module, "create_position_ids_from_input_ids"):
            return int(length - module.padding_idx - 1)  # type: ignore[operator]
    return int(length)
