"""How well a camera is connected: what its source suffered in the last hour."""

from collections import deque

from .models import CameraStatus, ConnectionQuality

HOUR = 3600.0
_FIRST_LOOK = 20.0
"""Seconds of watching before anything is said."""
_FAIR_TROUBLES = 2
_POOR_TROUBLES = 10
_FAIR_SHARE = 0.01
_POOR_SHARE = 0.2
"""So many reconnects and stalls in an hour, and such a share of the time without a picture, is a quality's worst."""


class ConnectionLog:
    """What befell one camera's source within the last hour. Times are seconds of one monotonic clock."""

    def __init__(self, now: float) -> None:
        """Begin to watch."""
        self._began = now
        self._troubles: deque[tuple[float, int, int]] = deque()
        """When, and how many reconnects and stalls there were."""
        self._spans: deque[tuple[float, float]] = deque()
        """From when to when the camera was lost."""
        self._lost_since: float | None = None

    def note_status(self, status: CameraStatus, now: float) -> None:
        """Take a status: `offline` and `error` are time without a picture."""
        lost = status in (CameraStatus.OFFLINE, CameraStatus.ERROR)
        if lost and self._lost_since is None:
            self._lost_since = now
        elif not lost and self._lost_since is not None:
            self._spans.append((self._lost_since, now))
            self._lost_since = None

    def note_troubles(self, reconnects: int, stalls: int, now: float) -> None:
        """Take the counts since the last call."""
        if reconnects or stalls:
            self._troubles.append((now, reconnects, stalls))

    def troubles(self, now: float) -> tuple[int, int]:
        """Return the reconnects and the stalls of the last hour."""
        while self._troubles and self._troubles[0][0] <= now - HOUR:
            self._troubles.popleft()
        return sum(entry[1] for entry in self._troubles), sum(entry[2] for entry in self._troubles)

    def quality(self, now: float) -> ConnectionQuality | None:
        """Judge the last hour; null while there was too little of it.

        A stall that ends in a reconnect is one trouble, not two.
        """
        watched = min(now - self._began, HOUR)
        if watched < _FIRST_LOOK:
            return None
        troubles, share = max(self.troubles(now)), self._lost_time(now) / watched
        if troubles > _POOR_TROUBLES or share > _POOR_SHARE:
            return ConnectionQuality.UNUSABLE
        if troubles > _FAIR_TROUBLES or share > _FAIR_SHARE:
            return ConnectionQuality.POOR
        if troubles or share:
            return ConnectionQuality.FAIR
        return ConnectionQuality.EXCELLENT

    def _lost_time(self, now: float) -> float:
        """Return the seconds without a picture in the last hour."""
        while self._spans and self._spans[0][1] <= now - HOUR:
            self._spans.popleft()
        spans = [*self._spans, *([(self._lost_since, now)] if self._lost_since is not None else [])]
        return sum(end - max(begin, now - HOUR) for begin, end in spans)
