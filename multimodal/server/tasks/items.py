"""The media that requests about one item hold: uploads, data URIs, and items of an index by their address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.remote.copies import media_path
from multimodal.server.errors import ApiError, invalid

if TYPE_CHECKING:
    from multimodal.server.state import State

SCHEME = "multimodal://item/"


async def item_of(state: State, value: object, param: str, modality: Modality | None = None) -> Item:
    """The item that a string of a request holds or names.

    Args:
        state: Of the server.
        value: A data URI, base64, a URL of an allowed host, or "multimodal://item/{id}" with the id percent-encoded.
        param: The field of the request, for messages.
        modality: The expected modality; None for whatever the content is.

    Returns:
        The item, checked against the ceilings.

    Raises:
        ApiError: 400, 404 or 413 naming the field.
    """
    if isinstance(value, str) and value.startswith(SCHEME):
        return await _stored(state, value, param)
    return (await state.in_media_pool(state.media.string, value, param, modality)).item


async def _stored(state: State, address: str, param: str) -> Item:
    from urllib.parse import unquote

    id_ = unquote(address.removeprefix(SCHEME))

    def find() -> Item:
        for served in state.indexes.values():
            for row in served.index.rows(ids=[id_]):
                return _item_of_row(row, param)
        raise ApiError(404, f"{param}: no item of the index has this id", param=param, code="item_not_found")

    return await state.searches.run(find)


def _item_of_row(row: dict[str, object], param: str) -> Item:
    from multimodal.core.items import Text
    from multimodal.core.media.registry import Excerpt, open_excerpt

    kind = Modality(str(row["modality"]))
    if kind is Modality.TEXT:
        return Text(str(row["text"] or ""))
    path = media_path(str(row["uri"] or ""))
    if path is None or not path.is_absolute() or not path.is_file():
        raise ApiError(404, f"{param}: the file of this item is no longer there", param=param)
    id_ = str(row["id"])
    fragment = id_.rpartition("#")[2] if "#" in id_ else ""
    item = open_excerpt(path, Excerpt(kind, row["start_s"], row["end_s"], fragment))  # type: ignore[arg-type]
    if item is None:
        raise invalid(f"{param}: the item cannot be shown", param)
    return item
