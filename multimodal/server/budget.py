"""Budget: a bound on the sum of what all requests hold at once, such as bytes of bodies."""

from __future__ import annotations

from multimodal.server.errors import ApiError


class Budget:
    """A number that all holders share. Used by one event loop only.

    Args:
        total: The most that may be held at once.
        what: The unit, for messages.
    """

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what = total, what
        self.held = 0

    def share(self) -> Share:
        """A share that holds nothing yet; release it in the end."""
        return Share(self)


class Share:
    """What one holder holds."""

    __slots__ = ("_budget", "amount")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.amount = 0

    def grow_to(self, amount: int) -> None:
        """Holds at least this much.

        Raises:
            ApiError: 429 if the budget does not have that much left. A single holder may exceed it.
        """
        budget, more = self._budget, amount - self.amount
        if more <= 0:
            return
        if budget.held + more > budget.total and budget.held > self.amount:
            raise ApiError(429, f"requests in flight hold {budget.held:,} {budget.what}; try again in a second",
                           code="overloaded")  # fmt: skip
        budget.held += more
        self.amount = amount

    def release(self) -> None:
        """Gives the share back."""
        self._budget.held -= self.amount
        self.amount = 0
