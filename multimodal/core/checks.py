"""Checks of numbers given by a caller."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

from multimodal.core.errors import InvalidInput

MAX_SEED = 2**63 - 1  # the largest that torch accepts


def whole_number(value: Any, name: str, *, least: int = 1, of: str = "") -> int:
    """The value as an int. Booleans are refused.

    Args:
        value: Any value.
        name: The option, for messages.
        least: The smallest number that is accepted.
        of: The unit, for messages, as " of pixels".

    Raises:
        InvalidInput: The value is not an integer of at least `least`.
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InvalidInput(f"{name} must be a whole number{of} of at least {least}, got {value!r}")
    return number


def positive_number(value: Any, name: str) -> float:
    """The value as a float. Booleans, NaN and infinities are refused.

    Args:
        value: Any value.
        name: The option, for messages.

    Raises:
        InvalidInput: The value is not a finite number above 0.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise InvalidInput(f"{name} must be a number above 0, got {value!r}")
    return float(value)


def seed(value: Any) -> int:
    """The seed as an int. Raises InvalidInput unless it is a whole number that torch accepts."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= MAX_SEED:
        raise InvalidInput(f"seed must be a whole number from 0 to 2^63 - 1, got {value!r}")
    return number
