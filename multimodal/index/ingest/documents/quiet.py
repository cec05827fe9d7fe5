"""Keeps the warnings of parsers off the screen, where they tell a user of an index nothing."""

from __future__ import annotations

import warnings


def ignore_warnings(module: str) -> None:
    """Ignores warnings raised in a module and those below it, from now on.

    `warnings.catch_warnings` restores filters of the whole process, and so must not be used in threads.
    """
    pattern = rf"{module}\b"
    if not any(pattern == getattr(given, "pattern", given) for _, _, _, given, _ in warnings.filters):
        warnings.filterwarnings("ignore", module=pattern)
