"""Feature extraction: items of any modality to vectors of the space."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from multimodal.core.pipeline import Pipeline
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FeatureExtractionPipeline(Pipeline):
    """Encodes items: `extract("a red apple")` -> its vector.

    Args:
        space: The space whose encoders are used.
    """

    task = "feature-extraction"

    def __init__(self, space: Space) -> None:
        self.space = space

    def __call__(
        self, inputs: Any, *, batch_size: int = 32, progress: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Encodes one item or a list of items.

        Args:
            inputs: Anything `as_item` takes (a str is text), or a list of such, of mixed modalities too.
            batch_size: Items per forward pass.
            progress: Called after each batch with the number of items it held.

        Returns:
            float32 rows of length one: (dim,) for one item, (n, dim) for a list.

        Raises:
            InvalidInput: For an empty list or a value that is no item.
            UnsupportedModality: For an item the space has no encoder for.
            MediaError: For media that cannot be read or decoded.
        """
        return self.space.encode(inputs, batch_size=batch_size, progress=progress)
