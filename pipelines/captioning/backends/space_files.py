"""The files of a captioning decoder: caption.safetensors, and caption.json with the space it was trained for."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CorruptSpace
from multimodal.core.paths import local_path
from multimodal.core.space import Space

if TYPE_CHECKING:
    import torch

WEIGHTS, METADATA = "caption.safetensors", "caption.json"
FORMAT = 1
CURE = "train one with 'python -m recipes.starter.captioner.train_captions', or copy the folder again"


def write_decoder(
    tensors: Mapping[str, torch.Tensor], words: Sequence[str], space: Space, folder: str | os.PathLike[str]
) -> None:
    """Writes both files, the tensors in half precision."""
    from safetensors.torch import save_file

    target = local_path(folder, "a captioning decoder")
    target.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.half().contiguous() for name, tensor in tensors.items()}, target / WEIGHTS)
    encoders = {str(modality): encoder.fingerprint for modality, encoder in space.encoders.items()}
    about = {"format": FORMAT, "encoders": encoders, "words": list(words)}
    (target / METADATA).write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def read_decoder(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(metadata, tensors). Raises CorruptSpace."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CorruptSpace(f"no captioning decoder can be read from {folder} ({error}); {CURE}") from error
    if not isinstance(metadata, dict) or not {"format", "encoders", "words"} <= set(metadata):
        raise CorruptSpace(f"{folder / METADATA} does not describe a captioning decoder; {CURE}")
    if metadata["format"] > FORMAT:
        raise CorruptSpace(
            f"{folder / METADATA} has format {metadata['format']}, this version reads up to {FORMAT}: upgrade "
            "multimodal"
        )
    return metadata, tensors
