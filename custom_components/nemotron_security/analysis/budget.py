"""Counts the calls to the model of the last hour, whoever made them, so that they keep within what the user allows.

Every question counts, whatever becomes of it: each about an incident, each that repeats one with less or without
pictures, those of a trial of the model, and those of users' automations through our AI Task entity, which ask the same
server with the same key. The last are never held up; and they count for at most half of what is allowed, so that an
automation that asks without end delays the verdicts on incidents, but does not stop them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
import contextlib
from datetime import UTC, datetime, timedelta
import time
from typing import Any, Final

HOUR: Final = 3600.0
MOST_KEPT: Final = 4000
"""Calls of one kind that outlast a restart; the option allows no more an hour."""


class Clock:
    """The machine's time."""

    def now(self) -> datetime:
        """Return the time of the day, aware."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()


class Budget:
    """The calls of the last hour."""

    def __init__(self, clock: Clock = Clock(), *, on_call: Callable[[], None] = lambda: None) -> None:  # noqa: B008
        """Begin without calls; `on_call` is told when there was one, so that somebody keeps the count."""
        self._clock = clock
        self._on_call = on_call
        self._ours: deque[float] = deque(maxlen=MOST_KEPT)
        """Times of the monotonic clock, which nobody sets back; likewise of the users'."""
        self._users: deque[float] = deque(maxlen=MOST_KEPT)
        self._kept_until: datetime | None = None

    def note(self, *, for_user: bool = False) -> float:
        """Count a call that begins now; returns its time, by which it can be taken back."""
        called_at = self._clock.monotonic()
        (self._users if for_user else self._ours).append(called_at)
        self._on_call()
        return called_at

    def take_back(self, called_at: float) -> None:
        """Count a call of ours no more, for it was not made."""
        with contextlib.suppress(ValueError):  # it is forgotten already
            self._ours.remove(called_at)

    def spent(self) -> int:
        """Return how many calls there were in the last hour."""
        self._forget_old()
        return len(self._ours) + len(self._users)

    def pause(self, most: int) -> float:
        """Return for how many seconds no call about an incident may begin, if so many an hour are allowed."""
        self._forget_old()
        users = list(self._users)[-(most // 2) :] if most // 2 else []
        counted = sorted([*self._ours, *users])
        if len(counted) < most:
            return 0.0
        # The half may be filled by others meanwhile; then it is looked at again.
        return max(0.0, counted[-most] + HOUR - self._clock.monotonic())

    def as_data(self) -> dict[str, Any]:
        """Return what JSON can keep."""
        self._forget_old()
        now = self._clock.now()
        return {
            "until": now.isoformat(),
            "ours": [self._time_of(call, now) for call in self._ours],
            "users": [self._time_of(call, now) for call in self._users],
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take what `as_data` gave before a restart; what is not understood is left out."""
        try:
            self._kept_until = datetime.fromisoformat(data["until"])
            for calls, times in ((self._ours, data["ours"]), (self._users, data["users"])):
                self._add(calls, [datetime.fromtimestamp(at, UTC) for at in times])
        except KeyError, TypeError, ValueError, OverflowError:
            self._kept_until = None

    def add_verdicts(self, times: Sequence[datetime]) -> None:
        """Count calls that led to these verdicts, as far as they came after what was kept: a crash lost the rest."""
        after = self._kept_until
        self._add(self._ours, [at for at in times if after is None or at > after])

    def _add(self, calls: deque[float], times: Iterable[datetime]) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        ages = [(now - at).total_seconds() for at in times]
        added = sorted([*calls, *(monotonic - age for age in ages if 0 <= age < HOUR)])
        calls.clear()
        calls.extend(added)

    def _time_of(self, call: float, now: datetime) -> float:
        return (now - timedelta(seconds=self._clock.monotonic() - call)).timestamp()

    def _forget_old(self) -> None:
        over = self._clock.monotonic() - HOUR
        for calls in (self._ours, self._users):
            while calls and calls[0] <= over:
                calls.popleft()
