"""Deprecated names: each works for one minor version and warns with its replacement."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any


def warn_deprecated(old: str, new: str, *, stacklevel: int = 3) -> None:
    """Issues a DeprecationWarning that names the replacement.

    Args:
        old: The deprecated name, as users write it.
        new: The name to use instead.
        stacklevel: As for `warnings.warn`; 3 is the caller of the function that calls this one.
    """
    warnings.warn(f"{old} is deprecated; use {new}", DeprecationWarning, stacklevel=stacklevel)


def deprecated_property(old: str, new: str) -> Any:
    """A property that warns, and reads or sets the attribute with the new name.

    Args:
        old: The deprecated name, as "Space.runs".
        new: The new name with the same class, as "Space.runtime_info".
    """
    attribute = new.rpartition(".")[2]

    def get(self: Any) -> Any:
        warn_deprecated(old, new)
        return getattr(self, attribute)

    def set_new(self: Any, value: Any) -> None:
        warn_deprecated(old, new)
        setattr(self, attribute, value)

    get.__doc__ = f"Deprecated: use `{new}`."
    return property(get, set_new)


def deprecated_method(old: str, new: str) -> Callable[..., Any]:
    """A method that warns and calls the method with the new name; names as for `deprecated_property`."""
    attribute = new.rpartition(".")[2]

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        warn_deprecated(old, new)
        return getattr(self, attribute)(*args, **kwargs)

    call.__doc__ = f"Deprecated: use `{new}`."
    return call
