"""Converts `modality=` and `where=` to one SQL condition; all values are quoted, so that none can alter it.

    where={"album": "x"}                        equal
    where={"album": ["x", "y"]}                 any of these
    where={"year": {">=": 2000, "<": 2010}}     a range of numbers, or of text by code point (so ISO dates sort)
    where={"album": "x", "year": 2001}          all of these

A str equals only a str, a number only a number (1 equals 1.0), True and False only themselves; None matches a key that
is missing or None. A range matches no value of another type.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from multimodal.core.errors import InvalidInput
from multimodal.core.modality import Modality
from multimodal.index.results import Metadata, Scalar

RANGES = (">", ">=", "<", "<=")
MAX_INT = 2**53  # beyond it, a JSON number (a double) is no longer exact
# Modality of the rows that a video is split into -> what follows "#" in their ids.
VIDEO_PARTS = {"image": "frame", "audio": "sound", "text": "words"}
KINDS = "str, int, float, bool or None"


class HasModalities(Protocol):
    """A space, or what stands for one: says which modalities there are."""

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """All of them."""

    def encoder_for(self, modality: Modality | str) -> object:
        """Raises UnsupportedModality for any other."""


def condition(
    space: HasModalities, modality: str | Iterable[str] | None = None, where: Mapping[str, Any] | None = None
) -> str | None:
    """The condition for a table, or None if every row matches.

    Raises InvalidInput for an invalid modality or `where`, UnsupportedModality for a modality that the space, and
    therefore the index, does not have.
    """
    names, on_parts = modalities(space, modality)
    conditions = [] if names is None else [is_in("modality", names, "modality")]
    return both(both(conditions[0] if conditions else None, on_parts), matching(where))


def both(first: str | None, second: str | None) -> str | None:
    """The condition that two conditions hold, each of which may be None."""
    return " AND ".join(f"({condition})" for condition in (first, second) if condition is not None) or None


def modalities(
    space: HasModalities, modality: str | Iterable[str] | None
) -> tuple[tuple[str, ...] | None, str | None]:
    """The modalities of rows, or None for all, and a condition on these rows, or None.

    "video" selects all rows of videos: whole videos, or the frames, windows of sound and subtitles that a video is
    indexed as, whose own modalities are image, audio and text. Raises InvalidInput, UnsupportedModality.
    """
    if modality is None:
        return None, None
    names = [modality] if isinstance(modality, str) else list(modality)
    if not names:
        raise InvalidInput(_empty("modality"))
    own = dict.fromkeys(str(_modality(name, space)) for name in names)
    parts = [name for name in VIDEO_PARTS if name in map(str, space.modalities) and name not in own]
    if str(Modality.VIDEO) not in own or not parts:
        return tuple(name for name in own if name in map(str, space.modalities)), None
    selected = tuple(name for name in (*own, *parts) if name in map(str, space.modalities))
    of_videos = " OR ".join(f"id LIKE '%#{VIDEO_PARTS[name]}=%'" for name in parts)
    listed = [name for name in own if name in selected]
    conditions = [of_videos] if not listed else [f"({is_in('modality', listed, 'modality')})", of_videos]
    return selected, " OR ".join(conditions)


def matching(where: Mapping[str, Any] | None) -> str | None:
    """The condition on metadata, or None if every row matches. Raises InvalidInput."""
    if where is None:
        return None
    if not isinstance(where, Mapping):
        raise InvalidInput(f"where must be a mapping such as {{'album': 'x'}}, got {type(where).__name__}")
    conditions = [_matches(_key(key), expected) for key, expected in where.items()]
    return " AND ".join(f"({condition})" for condition in conditions) or None


def has_key(key: str) -> str:
    """The condition that the metadata have a key, whatever its value."""
    return f"{_raw(_key(key))} IS NOT NULL"


def is_in(column: str, values: Sequence[str], what: str) -> str:
    """`column IN (…)`. Raises InvalidInput if there are no values."""
    if not values:
        raise InvalidInput(_empty(what))
    return f"{column} IN ({', '.join(map(_quoted, values))})"


def _empty(what: str) -> str:
    return f"the list for {what} is empty, so nothing could match; leave it out to match all"


def between(column: str, first: str, last: str) -> str:
    """The condition that a text is in a range, ends included, in the order of code points."""
    return f"{column} >= {_quoted(first)} AND {column} <= {_quoted(last)}"


def begins_with(column: str, start: str) -> str:
    """The condition that `column` begins with a text, case-sensitively."""
    return f"starts_with({column}, {_quoted(start)})"


def check_metadata(metadata: object) -> Metadata:
    """Metadata as stored: a new dict of str -> str, int, float, bool or None; numpy scalars become plain ones.

    Raises InvalidInput for anything else, naming the key and the cure.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidInput(
            f"metadata must be a mapping such as {{'album': 'x'}}, got {type(metadata).__name__}"
        )
    return {_key(key): _scalar(value, f"metadata {key!r}") for key, value in metadata.items()}


def _modality(name: object, space: HasModalities) -> Modality:
    try:
        modality = Modality(name)  # type: ignore[arg-type]
    except ValueError:
        raise InvalidInput(f"{name!r} is no modality; use one of {', '.join(space.modalities)}") from None
    if modality is not Modality.VIDEO or not {Modality.IMAGE, Modality.AUDIO} & set(space.modalities):
        space.encoder_for(modality)  # a video is indexed as frames and sound where no encoder takes it whole
    return modality


def _key(key: object) -> str:
    if not isinstance(key, str) or not key:
        raise InvalidInput(f"a metadata key must be a str with at least one character, got {key!r}")
    return _unicode(key, "a metadata key")


def _scalar(value: object, what: str) -> Scalar:
    import numpy as np

    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or isinstance(plain, bool):
        return plain
    if isinstance(plain, str):
        return _unicode(str(plain), what)
    if isinstance(plain, int):
        if abs(plain) > MAX_INT:
            raise InvalidInput(
                f"{what} is {plain}, beyond 2**53, where numbers are no longer exact; store str({plain})"
            )
        return int(plain)
    if isinstance(plain, float):
        if not math.isfinite(plain):
            raise InvalidInput(
                f"{what} is {plain}, which is not a finite number; use None for a value that is not known"
            )
        return float(plain)
    raise InvalidInput(
        f"{what} is of type {type(value).__name__}; it must be {KINDS}: "
        "write a date as .isoformat(), anything else as json.dumps(...)"
    )


def _unicode(text: str, what: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{what} holds a lone surrogate at position {error.start}, which is not valid Unicode"
        ) from error
    return text


def _matches(key: str, expected: object) -> str:
    what = f"where[{key!r}]"
    if isinstance(expected, Mapping):
        return _in_range(key, expected, what)
    if isinstance(expected, list | tuple | set | frozenset):
        if not expected:
            raise InvalidInput(
                f"{what} is an empty list, so nothing could match; leave the key out to match all"
            )
        return " OR ".join(f"({_equals(key, _scalar(value, what))})" for value in expected)
    return _equals(key, _scalar(expected, what))


def _in_range(key: str, limits: Mapping[Any, Any], what: str) -> str:
    unknown = [sign for sign in limits if sign not in RANGES]
    if unknown or not limits:
        raise InvalidInput(f"{what} must be a range such as {{'>=': 2000, '<': 2010}} with {' '.join(RANGES)}; "
                           f"got {sorted(map(str, limits))}")  # fmt: skip
    conditions = []
    for sign, limit in limits.items():
        plain = _scalar(limit, what)
        if plain is None or isinstance(plain, bool):
            raise InvalidInput(f"{what}: a range needs a number or a text, got {plain!r}")
        conditions.append(_compare(key, sign, plain))
    return " AND ".join(f"({condition})" for condition in conditions)


def _equals(key: str, value: Scalar) -> str:
    if value is None:
        return f"{_raw(key)} IS NULL OR {_raw(key)} = 'null'"
    if isinstance(value, bool):
        return f"{_raw(key)} = '{str(value).lower()}'"
    return _compare(key, "=", value)


def _compare(key: str, sign: str, value: str | int | float) -> str:
    # json_get_string converts numbers to text, and TRY_CAST fails on the quotes of a text: types are kept apart.
    if isinstance(value, str):
        return f"{_raw(key)} LIKE '\"%' AND json_get_string(metadata, {_quoted(key)}) {sign} {_quoted(value)}"
    return f"TRY_CAST({_raw(key)} AS DOUBLE) {sign} CAST('{float(value)!r}' AS DOUBLE)"


def _raw(key: str) -> str:
    """The value of a key as JSON; a str keeps its quotes."""
    return f"json_extract(metadata, {_quoted('$.' + json.dumps(key, ensure_ascii=False))})"


def _quoted(text: str) -> str:
    """An SQL literal. In standard SQL the quote is the only special character, and is escaped by doubling it."""
    return "'" + text.replace("'", "''") + "'"
