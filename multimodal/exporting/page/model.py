"""The towers of a page: the starter's weights as safetensors, and its vocabulary."""

from __future__ import annotations

import json
from typing import cast

from multimodal.core.derived.truncation import TruncatedEncoder
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.starter.encoders import StarterText
from multimodal.exporting.page.characters import UNKNOWN, character_table

FAMILY = "starter"


def check_space(space: Space) -> None:
    """Raises InvalidInput if a browser cannot run a tower of the space."""
    other = {str(encoder.family) for encoder in space.encoders.values()} - {FAMILY}
    if other:
        raise InvalidInput(
            f"format='page' runs the towers of the starter and of spaces fine-tuned from it, got {space.name!r} with "
            f"towers of {', '.join(map(repr, sorted(other)))}; use format='onnx', or a page of the server "
            "(multimodal serve)"
        )


def tower_files(encoder: Encoder) -> dict[str, bytes]:
    """The files of a tower by name. That of a truncated space is whole: the page cuts its vectors."""
    from safetensors.torch import save

    if isinstance(encoder, TruncatedEncoder):
        encoder = encoder.inner
    tensors = {name: tensor.cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    if encoder.modality == Modality.AUDIO:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("read.")}
    files = {f"model/{encoder.modality}.safetensors": save(tensors)}
    if encoder.modality == Modality.TEXT:
        files["model/vocabulary.json"] = _vocabulary(cast("StarterText", encoder))
    return files


def _vocabulary(encoder: StarterText) -> bytes:
    content = {
        "tokens": "\n".join(encoder.vocabulary),
        "unknown": UNKNOWN,
        "characters": character_table(tuple(encoder.vocabulary)),
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
