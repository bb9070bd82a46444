"""The one thread that makes JPEGs, so that neither the sources nor the detector wait for them."""

from collections.abc import Callable
from contextlib import suppress
import logging
import queue
import threading

_LOGGER = logging.getLogger(__name__)

_LIMIT = 64


class Album:
    """Runs short jobs in their order; a full queue refuses more."""

    def __init__(self) -> None:
        """Start the thread."""
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(_LIMIT)
        self._thread = threading.Thread(target=self._run, name="album", daemon=True)
        self._thread.start()

    def do(self, job: Callable[[], None]) -> bool:
        """Run this job soon; False if there is no room for it."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def stop(self, timeout: float) -> None:
        """Do what is queued, at most `timeout` seconds long, and end the thread."""
        with suppress(queue.Full):
            self._jobs.put(None, timeout=timeout)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                _LOGGER.exception("A picture could not be made")
