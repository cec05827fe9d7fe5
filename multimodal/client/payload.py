"""Items as JSON that a server takes: texts as they are, media as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput, MediaNotFound
from multimodal.core.items import Audio, Image, Item, Text, as_item
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.index.results import Hit

TYPES = {Modality.IMAGE: "image/*", Modality.AUDIO: "audio/*", Modality.VIDEO: "video/*"}


def content_of(item: Item) -> bytes:
    """The bytes of the file of an image, an audio or a video; what is in memory becomes PNG or WAV, without loss.

    Raises:
        MediaNotFound: The file does not exist.
        InvalidInput: A video in memory.
    """
    source: Any = item.source
    if isinstance(source, bytes):
        return source
    if isinstance(source, Path):
        try:
            return source.read_bytes()
        except OSError as error:
            raise MediaNotFound(f"{source}: {error.strerror}") from error
    buffer = io.BytesIO()
    if isinstance(item, Image):
        import PIL.Image

        PIL.Image.fromarray(item.load()).save(buffer, "PNG")
    elif isinstance(item, Audio):
        import soundfile

        waveform = item.load()
        soundfile.write(buffer, waveform.samples, waveform.rate_hz, format="WAV", subtype="FLOAT")
    else:
        raise InvalidInput(f"a {item.modality} in memory cannot be sent to a server; give its file")
    return buffer.getvalue()


def data_uri(item: Item) -> str:
    """Media as a data URI. The server looks at the content, not at the type."""
    kind = TYPES[item.modality].replace("*", "octet-stream")
    return f"data:{kind};base64,{base64.b64encode(content_of(item)).decode()}"


def as_input(value: object) -> dict[str, str]:
    """An item as an element of `input`: {"text": …} or {"image": data URI}."""
    item = as_item(value)
    return {"text": item.source} if isinstance(item, Text) else {str(item.modality): data_uri(item)}


def as_part(value: object, weight: float = 1.0) -> dict[str, Any]:
    """A part of a search: an item, or a vector (dim,)."""
    if _is_vector(value):
        return {"vector": value.tolist(), "weight": weight}  # type: ignore[attr-defined]
    return as_input(value) | {"weight": weight}


def as_parts(query: object) -> list[dict[str, Any]]:
    """One query as parts: an item, a vector, or a list of (part, weight) pairs."""
    if query is None:
        return []
    pairs = getattr(query, "parts", query)  # of a Query
    if isinstance(pairs, list | tuple) and pairs and all(map(_is_pair, pairs)):
        return [as_part(part, float(weight)) for part, weight in pairs]
    return [as_part(query)]


def is_list_of_queries(query: object) -> bool:
    """Whether a query is a list of them, rather than one with weighted parts."""
    if isinstance(query, list):
        return not all(map(_is_pair, query))
    return _ndim(query) == 2


def vectors_of(encoded: list[str], dim: int) -> NDArray[np.float32]:
    """Vectors (n, dim) from base64 of little-endian float32."""
    import numpy as np

    rows = [np.frombuffer(base64.b64decode(text), "<f4") for text in encoded]
    return np.stack(rows).astype(np.float32) if rows else np.empty((0, dim), np.float32)


def hit(content: Mapping[str, Any]) -> Hit:
    """A hit from its JSON."""
    from multimodal.index.results import Hit

    known = {name: content[name] for name in Hit.__dataclass_fields__ if name in content}
    return Hit(**known | {"modality": Modality(content["modality"])})


def form(
    fields: Mapping[str, object], filename: str, content: bytes, name: str = "file"
) -> tuple[bytes, str]:
    """(a multipart form of fields and one file, its content type). A list is a field that is repeated."""
    boundary = "multimodal-" + base64.b16encode(content[:8] + len(content).to_bytes(8, "big")).decode()
    while boundary.encode() in content:
        boundary += "x"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, given in fields.items()
        for value in (given if isinstance(given, list | tuple) else [given])
        if value is not None
    ]
    safe = "".join(char for char in filename if char.isalnum() or char in "._- ") or "file"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{safe}"\r\n'.encode()
    body = b"".join([*parts, head, b"\r\n", content, f"\r\n--{boundary}--\r\n".encode()])
    return body, f"multipart/form-data; boundary={boundary}"


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[1], int | float)
        and not isinstance(value[1], bool)
        and not (
            _ndim(value[0]) == 1 and isinstance(value[1], int) and value[1] > 1000
        )  # (samples, Hz): an audio
    )


def _is_vector(value: object) -> bool:
    return _ndim(value) == 1 and getattr(getattr(value, "dtype", None), "kind", "") == "f"


def _ndim(value: object) -> int | None:
    ndim = getattr(value, "ndim", None)
    return ndim if isinstance(ndim, int) else None
