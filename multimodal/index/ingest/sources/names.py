"""Ids and names: checks, and names as valid Unicode. Searches check ids too, so this module imports no source."""

from __future__ import annotations

import os
from collections.abc import Sequence

from multimodal.core.errors import InvalidInput


def check_ids(ids: Sequence[str] | str) -> list[str]:
    """One id or several -> a list. Raises InvalidInput for an empty list, an empty id, or one that is no str."""
    values: list[object] = [ids] if isinstance(ids, str) else list(ids)
    if not values:
        raise InvalidInput("the list of ids is empty; give at least one")
    checked = []
    for id_ in values:
        if not isinstance(id_, str) or not id_:
            raise InvalidInput(
                f"an id must be a str with at least one character, got {id_!r}; pass a number as str(number)"
            )
        check_unicode(id_, "the id")
        checked.append(id_)
    return checked


def check_unicode(text: str, what: str) -> None:
    """Raises InvalidInput for a name that cannot be stored as text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{what} {printable(text)} is not valid UTF-8, so it cannot be stored; rename it"
        ) from error


def printable(path: object) -> str:
    """A path or text as valid Unicode, for messages: names on disk may hold any bytes."""
    return os.fsencode(str(path)).decode("utf-8", errors="replace")
