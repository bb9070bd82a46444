"""Keeps calls from a server that fails, until it may be well again."""

from collections.abc import Callable
from enum import StrEnum
import random
from typing import Final

LONGEST_WISH: Final = 3600.0
"""Seconds that a server may ask us to stay away."""
JITTER: Final = 0.25
"""Share by which chance lengthens a pause, so that many who wait do not come back at once."""


class BreakerState(StrEnum):
    """Whether the server is called."""

    CLOSED = "closed"
    """It is."""
    OPEN = "open"
    """It failed, or asked for a pause, and is left alone."""
    HALF_OPEN = "half_open"
    """The pause is over: one call at a time tries whether it is well."""


class Breaker:
    """Opens after some failures in a row. Each trial that fails makes the next pause twice as long."""

    def __init__(
        self,
        *,
        failures: int,
        first_pause: float,
        longest_pause: float,
        on_change: Callable[[BreakerState], None],
    ) -> None:
        """Begin closed.

        Args:
            failures: as many in a row open it.
            first_pause: seconds for which it stays open at first.
            longest_pause: seconds for which it stays open at most, unless the server asks for more.
            on_change: is told every new state.
        """
        self._failures = failures
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._on_change = on_change
        self._failed = 0
        self._opened = 0
        self._until = 0.0
        self.state = BreakerState.CLOSED

    @property
    def failing(self) -> bool:
        """Whether the server failed so often in a row that it counts as away."""
        return self._failed >= self._failures

    def pause(self, now: float) -> float:
        """Return for how many more seconds no call may be made. The monotonic `now` is in seconds, here as below."""
        if self.state is BreakerState.OPEN and now >= self._until:
            self._turn(BreakerState.HALF_OPEN)
        return self._until - now if self.state is BreakerState.OPEN else 0.0

    def answered(self) -> None:
        """Take note that the server answered, whatever it said."""
        self._failed = self._opened = 0
        self._turn(BreakerState.CLOSED)

    def failed(self, now: float, *, wish: float | None = None) -> None:
        """Take note that the server failed; `wish` is for how many seconds it asked to be left alone."""
        self._failed += 1
        wished = min(wish or 0.0, LONGEST_WISH)
        if self.state is not BreakerState.OPEN:
            if wish is None and self.state is BreakerState.CLOSED and not self.failing:
                return
            # Never shorter than our own: a server may wish for no pause at all and fail for hours.
            self._open(now, max(wished, self._next_pause()))
        elif wished:
            self._open(now, wished)

    def _next_pause(self) -> float:
        pause = min(self._first_pause * 2.0**self._opened, self._longest_pause)
        if pause < self._longest_pause:  # else the power would overflow after a week
            self._opened += 1
        return pause

    def _open(self, now: float, pause: float) -> None:
        self._until = max(self._until, now + pause * random.uniform(1, 1 + JITTER))  # noqa: S311
        self._turn(BreakerState.OPEN)

    def _turn(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            self._on_change(state)
