"""Paths of the items of an index, for answers."""

from __future__ import annotations

from urllib.parse import quote


def item_path(item_id: str, part: str = "", index: str | None = None) -> str:
    """The path of an item, or of its "thumb" or "media". Ids may hold slashes, which are escaped."""
    path = f"/v1/items/{quote(item_id, safe='')}" + (f"/{part}" if part else "")
    return path if index is None else f"{path}?index={quote(index, safe='')}"
