"""Inputs of requests: strings and objects of several clients' shapes become checked items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.modality import Modality
from multimodal.server.errors import invalid
from multimodal.server.media import Checked, too_many
from multimodal.server.spaces import Role, ServedSpace
from multimodal.server.state import State

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MEDIA_KEYS = {"image": Modality.IMAGE, "audio": Modality.AUDIO, "video": Modality.VIDEO}
ENVELOPES = ("url", "data", "bytes")  # of media inside an object
DATA_PREFIX = "data:"
MIN_FUSED_LENGTH = 1e-3
MAX_INLINE, INLINE_CHARS = 2, 200_000  # media that are checked in the event loop: some 0.1 ms each
TOKENS_CURE = (
    "input holds token ids, and this server takes text: with LangChain, use "
    "OpenAIEmbeddings(check_embedding_ctx_length=False)"
)


async def check_inputs(
    state: State,
    values: Any,
    param: str,
    *,
    modality: Modality | None = None,
    names: Sequence[str] | None = None,
) -> list[Checked]:
    """Checks a list of inputs: strings, and objects with one of text, image, audio and video.

    Args:
        state: Of the server.
        values: The inputs, of mixed modalities too.
        param: The field of the request, for messages.
        modality: What a string is, if not text.
        names: The name of each input in messages. Default: `param[0]`, `param[1]`, …

    Returns:
        Items and costs, in the given order.

    Raises:
        ApiError: 400 or 413 naming the input.
    """
    if not isinstance(values, list) or not values:
        raise invalid(f"{param} is empty; give at least one text, image or audio", param)
    ceilings = state.config.ceilings
    if len(values) > ceilings.texts:
        raise too_many(len(values), ceilings.texts, "elements", param)
    names = names or [f"{param}[{place}]" for place in range(len(values))]
    is_text = modality is None or modality is Modality.TEXT
    if is_text and all(isinstance(value, str) for value in values):
        return [_plain_text(state, value, name) for value, name in zip(values, names, strict=True)]
    sources = [_source(value, modality, name) for value, name in zip(values, names, strict=True)]
    n_media = sum(kind is not Modality.TEXT for kind, _ in sources)
    if n_media > ceilings.media:
        raise too_many(n_media, ceilings.media, "images, audio and videos", param)

    def check() -> list[Checked]:
        return [
            state.media.text(value, name) if kind is Modality.TEXT else state.media.string(value, name, kind)
            for (kind, value), name in zip(sources, names, strict=True)
        ]

    if n_media <= MAX_INLINE and all(_is_small(value) for _, value in sources):
        with state.media_limits():
            return check()  # reading a header is cheaper than a thread
    return await state.in_media_pool(check)


def _is_small(value: object) -> bool:
    return not isinstance(value, str) or (len(value) < INLINE_CHARS and value[:4].lower() != "http")


def _plain_text(state: State, value: str, name: str) -> Checked:
    if value.startswith(DATA_PREFIX) and ";base64," in value[:200]:
        raise invalid(
            f'{name} is a data URI: send it as {{"image": …}} or {{"audio": …}}, or set modality, so that it is not '
            "embedded as text",
            name,
        )
    return state.media.text(value, name)


def _source(value: object, modality: Modality | None, param: str) -> tuple[Modality, Any]:
    """The modality of an input, and its text, data URI, base64 or URL."""
    if isinstance(value, str):
        return modality or Modality.TEXT, value
    if not isinstance(value, dict):
        raise invalid(f"{param} must be a string or an object with text, image, audio or video", param)
    given = {key: part for key, part in value.items() if part is not None and key in ("text", *MEDIA_KEYS)}
    if len(given) != 1:
        raise invalid(f"{param} must have exactly one of text, image, audio and video", param)
    key, part = next(iter(given.items()))
    if isinstance(part, dict):  # {"image": {"url": …}}
        part = next((part[name] for name in ENVELOPES if part.get(name) is not None), None)
    return MEDIA_KEYS.get(key, Modality.TEXT), part


def refuse_tokens(values: object, param: str) -> None:
    """Raises ApiError (400) with the cure for token ids, which LangChain sends by default."""
    first = values[0] if isinstance(values, list) and values else None
    if isinstance(first, int | float) or (isinstance(first, list) and all(isinstance(n, int) for n in first)):
        raise invalid(TOKENS_CURE, param, "token_ids")


def content_parts(content: object, param: str) -> list[Any]:
    """The parts of a chat message, or of Cohere's and Voyage's `content`, as inputs of `check_inputs`."""
    parts = content if isinstance(content, list) else [content]
    if not parts:
        raise invalid(f"{param} is empty; give at least one part", param)
    return [_content_part(part, param) for part in parts]


def _content_part(part: Any, param: str) -> Any:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise invalid(f"{param} must hold strings, or parts with a type", param)
    kind = part.get("type")
    if kind in ("text", "input_text"):
        return {"text": part.get("text")}
    for modality, kinds in (
        ("image", ("image_url", "image_base64", "input_image", "image")),
        ("audio", ("input_audio", "audio_url", "audio_base64", "audio")),
        ("video", ("video_url", "video_base64", "video")),
    ):
        if kind in kinds:
            value = next((part[key] for key in kinds if part.get(key) is not None), None)
            return {modality: value}
    raise invalid(
        f"{param} has a part of type {str(kind)[:40]!r}; known are text, image_url, input_audio and video_url",
        param,
    )


async def encode_fused(
    state: State, model: ServedSpace, groups: Sequence[Sequence[Any]], param: str, role: Role
) -> tuple[NDArray[np.float32], list[Checked]]:
    """One vector for each group of parts: the mean direction of their unit vectors.

    Args:
        state: Of the server.
        model: Encodes the parts.
        groups: Lists of inputs, as `check_inputs` takes them.
        param: The field of the request, for messages.
        role: Whether they are documents or queries.

    Returns:
        float32 (n, dim), rows of length one; and all items with their costs.
    """
    import numpy as np

    parts = [part for group in groups for part in group]
    names = [f"{param}[{place}]" for place, group in enumerate(groups) for _ in group]
    checked = await check_inputs(state, parts, param, names=names)
    rows = await model.encode(checked, role, names.__getitem__)
    ends = np.cumsum([len(group) for group in groups]).tolist()
    means = np.stack(
        [rows[end - len(group) : end].mean(axis=0) for group, end in zip(groups, ends, strict=True)]
    )
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    if (lengths < MIN_FUSED_LENGTH).any():
        place = int(lengths.argmin())
        raise invalid(f"the parts of {param}[{place}] cancel out; send them one by one", f"{param}[{place}]")
    return np.asarray(means / lengths, np.float32), checked


def count_tokens(checked: Sequence[Checked]) -> int:
    """About how many tokens the texts have; the exact number depends on the model."""
    return sum(element.cost for element in checked if element.item.modality is Modality.TEXT)


def count_pixels(checked: Sequence[Checked]) -> int:
    """The pixels of the images."""
    return sum(element.cost for element in checked if element.item.modality is Modality.IMAGE)
