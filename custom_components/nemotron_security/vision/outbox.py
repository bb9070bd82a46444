"""The worker's outgoing messages: a bounded queue and the one thread that writes them."""

from collections import deque
import logging
import os
import sys
import threading
from typing import BinaryIO, override

from . import wire
from .messages import LogLine, Report
from .redact import redact

_SOFT_LIMIT = 2 * 1024 * 1024
"""Bytes waiting above which what may be lost is lost."""
_HARD_LIMIT = 32 * 1024 * 1024
"""Bytes waiting above which whoever has more to say waits too."""


class Outbox:
    """Takes reports from any thread and writes them in their order.

    A parent that does not read costs a bounded amount of memory: droppable reports are dropped first; for the others
    `put` blocks, until there is room or the outbox is closed.
    """

    def __init__(self, stream: BinaryIO, *, soft_limit: int = _SOFT_LIMIT, hard_limit: int = _HARD_LIMIT) -> None:
        """Write to `stream` (unbuffered or flushed here) from now on."""
        self._stream = stream
        self._soft_limit = soft_limit
        self._hard_limit = hard_limit
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, report: Report, *, droppable: bool = False) -> bool:
        """Queue a report; False if it was dropped."""
        wired = wire.encode(report)
        with self._changed:
            if droppable and self._size > self._soft_limit:
                return False
            self._changed.wait_for(lambda: self._closed or self._size <= self._hard_limit)
            if self._closed:
                return False
            self._waiting.append(wired)
            self._size += len(wired)
            self._changed.notify_all()
        return True

    def close(self, timeout: float) -> None:
        """Take nothing more and give what waits `timeout` seconds to leave."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        try:
            while (wired := self._next()) is not None:
                self._write(wired)
        except OSError:  # the parent is gone; whoever reads its commands notices
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.popleft() if self._waiting else None

    def _write(self, wired: bytes) -> None:
        rest = memoryview(wired)
        while rest:
            rest = rest[self._stream.write(rest) :]
        self._stream.flush()
        with self._changed:
            self._size -= len(wired)
            self._changed.notify_all()


class LogForwarder(logging.Handler):
    """Sends log records to the parent, without the secrets that they may hold."""

    def __init__(self, outbox: Outbox) -> None:
        """Send to this outbox."""
        super().__init__()
        self._outbox = outbox

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = LogLine(level=record.levelno, logger=record.name, message=redact(self.format(record)))
            self._outbox.put(line, droppable=True)
        except Exception:  # noqa: BLE001  # what logging itself does with a record that cannot be formatted
            self.handleError(record)


def claim_stdout() -> BinaryIO:
    """Keep stdout for messages alone: whatever else is printed, by C libraries too, goes to stderr."""
    sys.stdout.flush()
    reports = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return reports
