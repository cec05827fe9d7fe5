"""Labels in words as vectors: the mean over the prompts of each label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from multimodal.core.items import Text
from multimodal.core.modality import Modality
from multimodal.core.vectors import unit_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.space import Space

SLOT = "{}"
DEFAULT_TEMPLATES: dict[Modality, tuple[str, ...]] = {
    Modality.TEXT: ("{}", "this is about {}"),
    Modality.IMAGE: ("{}", "a picture of {}", "a photo of a {}"),
    Modality.AUDIO: ("{}", "the sound of {}"),
    Modality.VIDEO: ("{}", "a video of {}"),
}


def encode_labels(
    space: Space, labels: Sequence[str], templates: Sequence[str] | None, modality: Modality
) -> NDArray[np.float32]:
    """Labels in words -> unit vectors (labels, dim): of each, the mean over its prompts, one per template.

    Args:
        space: Encodes the prompts.
        labels: Words.
        templates: Sentences with "{}" for the label. Default: DEFAULT_TEMPLATES of the modality.
        modality: Of the inputs that will be classified.
    """
    sentences = templates or DEFAULT_TEMPLATES[modality]
    prompts = [Text(sentence.replace(SLOT, label)) for label in labels for sentence in sentences]
    vectors = space.encode(prompts).reshape(len(labels), len(sentences), space.dim)
    return unit_rows(vectors.mean(axis=1), space.dim)
