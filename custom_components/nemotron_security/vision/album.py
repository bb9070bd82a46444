"""The one thread that makes JPEGs, so that neither the sources nor the detector wait for them."""

from collections.abc import Callable
import logging
import queue
import threading

_LOGGER = logging.getLogger(__name__)

_LIMIT = 64


class Album:
    """Runs short jobs in their order; a full queue refuses more."""

    def __init__(self) -> None:
        """Start the thread."""
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue(_LIMIT)
        threading.Thread(target=self._run, name="album", daemon=True).start()

    def do(self, job: Callable[[], None]) -> bool:
        """Run this job soon; False if there is no room for it."""
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except Exception:
                _LOGGER.exception("A picture could not be made")
