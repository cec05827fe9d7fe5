"""What a call of the generation pipeline gives, as requests: words, vectors and pictures paired up, each with its
seed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput, SpaceMismatch
from multimodal.core.items import Image, as_item
from multimodal.core.space import Space
from multimodal.core.vectors import unit_rows
from multimodal.pipelines.generation.options import GenerationBackend, GenerationRequest, check_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPPOSITE = -0.9999  # a cosine below leaves the direction between to rounding
NEAR = 1e-3  # radians
SEEDS = 2**32  # a seed drawn by chance is below: short enough to be typed


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
    """(n requests for each input, in order; whether one input was given alone).

    Raises InvalidInput, SpaceMismatch for a space the maker does not draw from, MediaError.
    """
    prompts, vectors, alone = _words_and_vectors(backend, inputs, vector, space)
    pictures, alone_picture = _pictures(image)
    rows = _paired({"inputs": prompts, "vectors": vectors, "images": pictures})
    starts = _seeds(seed, len(rows), n)
    requests = [
        GenerationRequest(prompt, check_seed(start + place), row, picture)
        for (prompt, row, picture), start in zip(rows, starts, strict=True)
        for place in range(n)
    ]
    return requests, alone and alone_picture


def _words_and_vectors(
    backend: GenerationBackend, inputs: Any, vector: Any, space: Space | None
) -> tuple[list[Any] | None, list[Any] | None, bool]:
    """(prompts, vectors, whether one was given alone)."""
    rows, alone_vector = _vectors(vector)
    if inputs is None:
        if space is not None:
            raise InvalidInput(
                "space= is for an input that is no prompt, and there is no input; leave it out"
            )
        return None, rows, alone_vector
    alone = not isinstance(inputs, list | tuple)
    values = [inputs] if alone else list(inputs)
    if not values:
        raise InvalidInput("the list of inputs is empty; give at least one")
    words = [isinstance(one, str) for one in values]
    if all(words):
        if space is not None:
            raise InvalidInput(
                "space= is for an input that is no prompt: write Text('…') to draw from the vector of words"
            )
        empty = next((place for place, one in enumerate(values) if not one.strip()), None)
        if empty is not None:
            where = "" if alone else f" (number {empty} of the list)"
            raise InvalidInput(f"the prompt{where} is empty: say what to make")
        return values, rows, alone and alone_vector
    if any(words) or rows is not None:
        raise InvalidInput("give either prompts, or items with space=, or vectors: these were mixed")
    return None, _encoded(backend, values, space or backend.space), alone


def _encoded(backend: GenerationBackend, values: Sequence[Any], space: Space | None) -> list[Any]:
    items = [as_item(one) for one in values]
    if backend.dim is None or space is None:
        raise InvalidInput(
            f"an input of {items[0].modality} is no prompt: give a str; to draw from its vector space=…, a CLIP that "
            f"{backend.name!r} was trained with; to redraw a picture image=…"
        )
    if space.dim != backend.dim:
        raise SpaceMismatch(
            f"the space {space.name!r} has vectors of {space.dim} numbers, and {backend.name!r} draws from vectors of "
            f"{backend.dim}, of the CLIP it was trained with: load that one"
        )
    return list(space.encode(items))


def _vectors(vector: Any) -> tuple[list[NDArray[Any]] | None, bool]:
    """(float32 rows, whether one was given alone). Raises InvalidInput for what is no vector."""
    if vector is None:
        return None, True
    import numpy as np

    rows = np.asarray(vector)
    if rows.dtype.kind != "f" or rows.ndim not in (1, 2) or not rows.size:
        raise InvalidInput(
            f"vector must be floats of shape (dim,) or (n, dim), got {rows.dtype} of shape {rows.shape}"
        )
    if not np.isfinite(rows).all() or not np.abs(rows).sum(axis=-1).all():
        raise InvalidInput("vector must be finite and not all zeros: check what it was made of")
    return list(np.atleast_2d(rows).astype(np.float32)), rows.ndim == 1


def interpolate(space: Space, first: Any, last: Any, count: int) -> NDArray[Any]:
    """(count, dim) unit rows from one thing to another, evenly along the great circle of their vectors.

    Raises InvalidInput for fewer than 2, or vectors so opposite that there is no one way between them.
    """
    import numpy as np

    if count < 2:
        raise InvalidInput(f"n must be at least 2, the two ends, got {count}")
    ends = [
        unit_rows(one, space.dim)[0] if isinstance(one, np.ndarray) else space.encode([as_item(one)])[0]
        for one in (first, last)
    ]
    cosine = float(np.clip(ends[0] @ ends[1], -1, 1))
    if cosine < OPPOSITE:
        raise InvalidInput("the two vectors are opposite, so that no way between them is the shortest")
    share = np.linspace(0, 1, count, dtype=np.float32)[:, None]
    angle = float(np.arccos(cosine))
    if angle < NEAR:  # where the circle is a straight line, as exactly as float32 can tell
        return unit_rows((1 - share) * ends[0] + share * ends[1], space.dim)
    return unit_rows(np.sin((1 - share) * angle) * ends[0] + np.sin(share * angle) * ends[1], space.dim)


def _pictures(image: Any) -> tuple[list[Any] | None, bool]:
    """(RGB pictures, whether one was given alone)."""
    if image is None:
        return None, True
    import PIL.Image

    alone = not isinstance(image, list | tuple)
    values = [image] if alone else list(image)
    if not values:
        raise InvalidInput("the list of images is empty; give at least one")
    items = [one if isinstance(one, Image) else Image(one) for one in values]
    return [PIL.Image.fromarray(one.load()) for one in items], alone


def _paired(lists: dict[str, list[Any] | None]) -> list[tuple[Any, ...]]:
    """Rows of what goes together; a list of one goes with all. Raises InvalidInput for lengths that do not match."""
    given = {name: len(one) for name, one in lists.items() if one is not None}
    if not given:
        raise InvalidInput("nothing to make something of: give words, an image or a vector")
    if lists["vectors"] is not None and lists["images"] is not None:
        raise InvalidInput("give either an image to begin with or a vector to draw from, not both")
    count = max(given.values())
    if any(one not in (1, count) for one in given.values()):
        told = ", ".join(f"{n} {name}" for name, n in given.items())
        raise InvalidInput(f"{told} do not pair up: give as many of each, or one for all")
    spread = [
        [None] * count if one is None else one * count if len(one) == 1 else one for one in lists.values()
    ]
    return list(zip(*spread, strict=True))


def _seeds(seed: Any, count: int, n: int) -> list[int]:
    """The first seed of each of `count` inputs, which make n things each."""
    if isinstance(seed, list | tuple):
        if len(seed) != count:
            raise InvalidInput(
                f"{len(seed)} seeds given for {count} inputs: give one for each, or a single one"
            )
        return [check_seed(one) for one in seed]
    first = secrets.randbelow(SEEDS) if seed is None else check_seed(seed)
    return [check_seed(first + place * n) for place in range(count)]


def batches(requests: Sequence[GenerationRequest], size: int) -> Iterator[list[GenerationRequest]]:
    """In order, at most `size` at a time, and pictures of one size only."""
    batch: list[GenerationRequest] = []
    for one in requests:
        other = (
            batch
            and one.image is not None
            and batch[0].image is not None
            and one.image.size != batch[0].image.size
        )
        if len(batch) == size or other:
            yield batch
            batch = []
        batch.append(one)
    yield batch
