"""What is decided once, when a checkpoint is read, and kept with a saved space: context length, padding, windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError
from multimodal.core.hub.source import CONFIG, PROCESSORS, TOKENIZERS
from multimodal.core.modality import Modality
from multimodal.encoders.hf import preprocessing as processors
from multimodal.encoders.hf.special import CONTEXT
from multimodal.encoders.hf.towers import Tower, cut

if TYPE_CHECKING:
    from torch import Tensor, nn

SAME = 1e-5  # by how much a unit vector may differ for padding to count as harmless
SPARE = 8  # tokens of padding with which that is tried
FRAMES = 16  # of a clip, where neither the model nor its processor says (PE-AV's documentation does so too)
UNBOUNDED = 100_000  # tokenizers that know no limit say 10^30


def files_of(modality: Modality, tower: Tower, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Of a checkpoint's small files, those that an encoder of one modality is made of."""
    names = TOKENIZERS if modality is Modality.TEXT else PROCESSORS + (TOKENIZERS if tower.joint else ())
    return {name: content for name, content in files.items() if name == CONFIG or name in names}


def settings_of(
    modality: Modality, model: nn.Module, tower: Tower, files: Mapping[str, bytes]
) -> dict[str, Any]:
    """JSON values. For texts also "dim", which every other modality shares. Raises CheckpointError."""
    if modality is Modality.TEXT:
        return _of_texts(model, tower, files)
    if tower.joint:
        return _of_joint(modality, processors.joint(files))
    if modality is Modality.IMAGE:
        return {"backend": processors.backend_of(processors.image_processor(files, None))}
    if modality is Modality.AUDIO:
        return {"window_samples": processors.window_samples(processors.feature_extractor(files))}
    processor = processors.frame_processor(processors.pixels_of(tower.takes), files, None)
    return {"n_frames": _n_frames(model.config, processor), "backend": processors.backend_of(processor)}


def _of_joint(modality: Modality, processor: Any) -> dict[str, Any]:
    if modality is Modality.AUDIO:
        return {"window_samples": processors.window_samples(processor.feature_extractor)}
    if modality is Modality.VIDEO:
        chosen = processor.video_processor
        return {"fps": float(chosen.fps), "max_frames": int(chosen.max_frames)}
    return {}


def _n_frames(config: Any, processor: Any) -> int:
    """What the model was built for (X-CLIP), else what its processor takes of a clip, else FRAMES."""
    built_for = getattr(getattr(config, "vision_config", None), "num_frames", None)
    return int(built_for or getattr(processor, "num_frames", None) or FRAMES)


def _of_texts(model: Any, tower: Tower, files: Mapping[str, bytes]) -> dict[str, Any]:
    import torch

    tokenizer = processors.tokenizer(files)
    limit = _context(model, tower, tokenizer)
    length = len(tokenizer(["a"], truncation=True, max_length=limit)["input_ids"][0])
    if length == 0:
        raise CheckpointError("the checkpoint's tokenizer makes no tokens of 'a'; its files are incomplete")
    if tokenizer.pad_token is None:
        raise CheckpointError(
            "the checkpoint's tokenizer has no pad_token; name one in its tokenizer_config.json"
        )

    def padded_by(spare: int) -> Tensor:
        options = {"max_length": min(limit, length + spare), "truncation": True, "padding": "max_length"}
        with torch.inference_mode():
            vectors = tower(model, tokenizer(["a"], return_tensors="pt", **options))
        return vectors / vectors.norm(dim=1, keepdim=True)

    bare, padded = padded_by(0), padded_by(SPARE)
    settings = {"dim": bare.shape[1], "max_length": limit, "padding": "longest", "keep_mask": False}
    if _differ(bare, padded):
        if _differ(padded, padded_by(2 * SPARE)) or "attention_mask" not in tokenizer.model_input_names:
            settings["padding"] = "max_length"
        else:  # more padding does no harm, only none at all does: see HFText
            settings["keep_mask"] = True
    return settings


def _differ(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() > SAME)


def _context(model: Any, tower: Tower, tokenizer: Any) -> int:
    """The number of tokens a text may have: the least of what the class was trained with, the positions the tower
    has, and what the tokenizer says."""
    known = [
        CONTEXT.get(type(model).__name__),
        _trained_length(model),
        _positions(model.config, cut(model, tower.parts)),
    ]
    if tokenizer.model_max_length < UNBOUNDED:
        known.append(tokenizer.model_max_length)
    found = [length for length in known if length]
    if not found:
        raise CheckpointError(
            f"how long a text may be is said neither by the tokenizer (model_max_length) nor by {CONFIG} "
            "(max_position_embeddings); add one of them"
        )
    return min(found)


def _trained_length(model: Any) -> int | None:
    """The `max_length` that the processor of this class gives to texts (SigLIP 2, ALIGN: 64), if it has one."""
    from transformers import PROCESSOR_MAPPING

    processor = PROCESSOR_MAPPING.get(type(model.config), None)
    return (getattr(processor, "text_kwargs", None) or {}).get("max_length")


def _positions(config: Any, net: nn.Module) -> int | None:
    text = getattr(config, "text_config", None) or config
    length = getattr(text, "max_position_embeddings", None)
    if length is None:
        return None
    # RoBERTa and its kin count positions from behind the number of their padding token
    for module in net.modules():
        if hasattr(module, "create_position_ids_from_input_ids"):
            return int(length - module.padding_idx - 1)  # type: ignore[operator]
    return int(length)
