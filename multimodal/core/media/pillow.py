"""Image items as PIL images, for preprocessing by Pillow."""

from __future__ import annotations

import PIL.Image

from multimodal.core.items import Image
from multimodal.core.limits import get_limits
from multimodal.core.media.image import decode_pil


def load_pil(
    item: Image, min_side: int | None = None, *, shortest_edge: int | None = None
) -> PIL.Image.Image:
    """`item.load(min_side)` as a PIL image, without an array in between where the item decodes itself as usual.

    Args:
        item: the image.
        min_side: as for `Image.load`.
        shortest_edge: the length in pixels to which preprocessing resizes the shorter side, keeping the aspect ratio.

    Raises:
        MediaTooLarge: the image would be enlarged beyond the limits; otherwise as `Image.load`.
    """
    if type(item).load is not Image.load:  # a subclass with a decoder of its own
        image = PIL.Image.fromarray(item.load() if min_side is None else item.load(min_side))
    else:
        image = decode_pil(item.source, min_side)
    if shortest_edge is not None:
        get_limits().check_resized(*image.size, shortest_edge, item.uri or "<image>")
    return image
