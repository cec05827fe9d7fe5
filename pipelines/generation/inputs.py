"""Turns the arguments of a generation call into requests: prompts, vectors and images paired up, each with its seed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.checks import seed as check_seed
from multimodal.core.errors import InvalidInput, SpaceMismatch
from multimodal.core.items import Image, as_item
from multimodal.core.space import Space
from multimodal.core.vectors import unit_rows
from multimodal.pipelines.generation.options import GenerationBackend, GenerationRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPPOSITE = -0.9999  # below this cosine the great circle is determined by rounding errors
NEAR = 1e-3  # radians
SEEDS = 2**32  # random seeds are below this: short enough to type


def build_requests(
    backend: GenerationBackend,
    inputs: Any,
    *,
    image: Any,
    vector: Any,
    space: Space | None,
    seed: Any,
    n: int,
) -> tuple[list[GenerationRequest], bool]:
    """(n requests for each input in order, whether a single input was given).

    Raises InvalidInput, SpaceMismatch for a space that the model does not take vectors of, MediaError.
    """
    prompts, vectors, is_single = _prompts_and_vectors(backend, inputs, vector, space)
    images, is_single_image = _images(image)
    rows = _pair({"inputs": prompts, "vectors": vectors, "images": images})
    starts = _seeds(seed, len(rows), n)
    requests = [
        GenerationRequest(prompt, check_seed(start + place), row, image)
        for (prompt, row, image), start in zip(rows, starts, strict=True)
        for place in range(n)
    ]
    return requests, is_single and is_single_image


def _prompts_and_vectors(
    backend: GenerationBackend, inputs: Any, vector: Any, space: Space | None
) -> tuple[list[Any] | None, list[Any] | None, bool]:
    """(prompts, vectors, whether a single input was given)."""
    rows, is_single_vector = _vectors(vector)
    if inputs is None:
        if space is not None:
            raise InvalidInput(
                "space= encodes inputs that are no prompts, and there is no input; leave it out"
            )
        return None, rows, is_single_vector
    is_single = not isinstance(inputs, list | tuple)
    values = [inputs] if is_single else list(inputs)
    if not values:
        raise InvalidInput("the list of inputs is empty; give at least one")
    is_prompt = [isinstance(value, str) for value in values]
    if all(is_prompt):
        if space is not None:
            raise InvalidInput(
                "space= encodes inputs that are no prompts: write Text('…') to generate from the vector of a text"
            )
        empty = next((position for position, value in enumerate(values) if not value.strip()), None)
        if empty is not None:
            where = "" if is_single else f" (number {empty} of the list)"
            raise InvalidInput(f"the prompt{where} is empty: describe what to generate")
        return values, rows, is_single and is_single_vector
    if any(is_prompt) or rows is not None:
        raise InvalidInput("give either prompts, or items with space=, or vectors: these were mixed")
    return None, _encode(backend, values, space or backend.space), is_single


def _encode(backend: GenerationBackend, values: Sequence[Any], space: Space | None) -> list[Any]:
    items = [as_item(value) for value in values]
    if backend.dim is None or space is None:
        raise InvalidInput(
            f"an input of {items[0].modality} is not a prompt: give a str; to generate from its vector give space=…, "
            f"the CLIP model that {backend.name!r} was trained with; to start from an image give image=…"
        )
    if space.dim != backend.dim:
        raise SpaceMismatch(
            f"the space {space.name!r} has vectors of dimension {space.dim}, and {backend.name!r} takes vectors of "
            f"dimension {backend.dim}, of the CLIP model it was trained with: load that model"
        )
    return list(space.encode(items))


def example_vector(
    backend: GenerationBackend, examples: Sequence[Any], vector: Any, space: Space | None
) -> NDArray[Any]:
    """The mean direction (dim,) of examples. Raises InvalidInput for a model that takes no vector beside a prompt."""
    import numpy as np

    if isinstance(examples, str) or vector is not None:
        raise InvalidInput("examples= is a list of items, and stands for vector=: give one of the two")
    if backend.space is not None or not {"prompt", "vector"} <= set(backend.supported_options):
        raise InvalidInput(
            f"{backend.name!r} does not take examples beside a prompt: Stable Diffusion with ip_adapter=… does; "
            "from the starter, draw between a prompt and an example with interpolate(prompt, example)"
        )
    return unit_rows(np.mean(_encode(backend, list(examples), space), axis=0), int(backend.dim or 0))[0]


def _vectors(vector: Any) -> tuple[list[NDArray[Any]] | None, bool]:
    """(float32 rows, whether a single vector was given). Raises InvalidInput for anything but vectors."""
    if vector is None:
        return None, True
    import numpy as np

    rows = np.asarray(vector)
    if rows.dtype.kind != "f" or rows.ndim not in (1, 2) or not rows.size:
        raise InvalidInput(
            f"vector must be floats of shape (dim,) or (n, dim), got {rows.dtype} of shape {rows.shape}"
        )
    if not np.isfinite(rows).all() or not np.abs(rows).sum(axis=-1).all():
        raise InvalidInput("vector must be finite and not all zeros")
    return list(np.atleast_2d(rows).astype(np.float32)), rows.ndim == 1


def interpolate(space: Space, first: Any, last: Any, count: int) -> NDArray[Any]:
    """Unit vectors (count, dim) from one input to another, at equal angles on the great circle between their vectors.

    Raises InvalidInput for fewer than 2, or for opposite vectors.
    """
    import numpy as np

    if count < 2:
        raise InvalidInput(f"n must be at least 2, got {count}")
    ends = [
        unit_rows(end, space.dim)[0] if isinstance(end, np.ndarray) else space.encode([as_item(end)])[0]
        for end in (first, last)
    ]
    cosine = float(np.clip(ends[0] @ ends[1], -1, 1))
    if cosine < OPPOSITE:
        raise InvalidInput(
            "the two vectors are opposite, so no path between them is the shortest; choose other ends"
        )
    fraction = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    angle = float(np.arccos(cosine))
    if angle < NEAR:  # a straight line, within the precision of float32
        return unit_rows((1 - fraction) * ends[0] + fraction * ends[1], space.dim)
    return unit_rows(np.sin((1 - fraction) * angle) * ends[0] + np.sin(fraction * angle) * ends[1], space.dim)


def _images(image: Any) -> tuple[list[Any] | None, bool]:
    """(RGB images, whether a single one was given)."""
    if image is None:
        return None, True
    from multimodal.core.media.pillow import load_pil

    is_single = not isinstance(image, list | tuple)
    values = [image] if is_single else list(image)
    if not values:
        raise InvalidInput("the list of images is empty; give at least one")
    items = [value if isinstance(value, Image) else Image(value) for value in values]
    return [load_pil(item) for item in items], is_single


def _pair(lists: dict[str, list[Any] | None]) -> list[tuple[Any, ...]]:
    """Rows of corresponding elements; a single element is repeated. Raises InvalidInput for mismatched lengths."""
    counts = {name: len(values) for name, values in lists.items() if values is not None}
    if not counts:
        raise InvalidInput("nothing to generate from: give a prompt, an image or a vector")
    if lists["vectors"] is not None and lists["images"] is not None:
        raise InvalidInput("give either an image to start from or a vector, not both")
    count = max(counts.values())
    if any(size not in (1, count) for size in counts.values()):
        listed = ", ".join(f"{size} {name}" for name, size in counts.items())
        raise InvalidInput(f"{listed} do not pair up: give as many of each, or one for all")
    spread = [
        [None] * count if values is None else values * count if len(values) == 1 else values
        for values in lists.values()
    ]
    return list(zip(*spread, strict=True))


def _seeds(seed: Any, count: int, n: int) -> list[int]:
    """The first seed of each of `count` inputs with n outputs each."""
    if isinstance(seed, list | tuple):
        if len(seed) != count:
            raise InvalidInput(
                f"{len(seed)} seeds given for {count} inputs: give one for each, or a single one"
            )
        return [check_seed(value) for value in seed]
    first = secrets.randbelow(SEEDS) if seed is None else check_seed(seed)
    return [check_seed(first + place * n) for place in range(count)]


def batches(requests: Sequence[GenerationRequest], size: int) -> Iterator[list[GenerationRequest]]:
    """Batches of at most `size` requests in order, each with images of one size only."""
    batch: list[GenerationRequest] = []
    for request in requests:
        is_other_size = (
            batch
            and request.image is not None
            and batch[0].image is not None
            and request.image.size != batch[0].image.size
        )
        if len(batch) == size or is_other_size:
            yield batch
            batch = []
        batch.append(request)
    yield batch
