"""Values of options without pydantic where they need no check.

Newer typers build a pydantic adapter for each option of a command, given or not. Importing pydantic takes 0.1 s of CPU,
about as long as all the rest of a search that a server answers. Most options are not given, and most of the others are
texts: these keep typer's rules here. Any other value goes to typer itself, so that its messages are the same.
"""

from __future__ import annotations

import os
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_NOT_PLAIN = object()


class PlainCoercion:
    """Takes the place of typer's coercion of one parameter until a value needs it."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value of a parameter: as typer converts it."""
        plain = _plain(value, param)
        if plain is not _NOT_PLAIN:
            return plain
        param._runtime_param = None  # typer makes its own, and keeps it
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def use_plain_values(parameters: Iterable[Any]) -> None:
    """Lets the parameters of a command do without pydantic. Other versions of typer are left as they are."""
    for parameter in parameters:
        if getattr(parameter, "_runtime_param", _NOT_PLAIN) is None and hasattr(parameter, "type_descriptor"):
            parameter._runtime_param = PlainCoercion()


def _plain(value: Any, param: Any) -> Any:
    """The value, if it is clear; else _NOT_PLAIN."""
    is_list = param.multiple or param.nargs == -1
    if value is None:
        return () if is_list else None
    kind, info = param.type_descriptor.annotation, param.type_descriptor.parameter_info
    if info.parser is not None:
        return _NOT_PLAIN if is_list else _parsed(value, info.parser)
    if is_list:
        is_texts = typing.get_args(kind) == (str,) and all(type(element) is str for element in value)
        return list(value) if is_texts else _NOT_PLAIN
    if kind in (str, bool) and type(value) is kind:
        return value
    if typing.get_origin(kind) is typing.Literal and value in typing.get_args(kind):
        return value
    if kind is Path and isinstance(value, str | Path):
        return _plain_path(Path(value), info)
    if kind is int and type(value) in (int, str):
        return _plain_number(value, info)
    return _NOT_PLAIN


def _parsed(value: Any, parser: Callable[[Any], Any]) -> Any:
    """What the parser of the option makes of the value; typer reports the errors of a parser."""
    try:
        return parser(value)
    except Exception:
        return _NOT_PLAIN


def _plain_path(path: Path, info: Any) -> Any:
    """A path that nothing is asked of but to be readable, if it exists."""
    is_checked = info.exists or info.resolve_path or info.allow_dash or info.path_type or info.writable
    if is_checked or not (info.file_okay and info.dir_okay):
        return _NOT_PLAIN
    return path if not path.exists() or os.access(path, os.R_OK) else _NOT_PLAIN


def _plain_number(value: int | str, info: Any) -> Any:
    """A whole number within its bounds."""
    if isinstance(value, str) and not (value.isascii() and value.isdecimal()):
        return _NOT_PLAIN
    number = int(value)
    is_within = (info.min is None or number >= info.min) and (info.max is None or number <= info.max)
    return number if is_within else _NOT_PLAIN
