"""The one thread that makes JPEGs, so that neither the sources nor the detector wait for them."""

from collections import deque
from collections.abc import Callable
import logging
import threading

_LOGGER = logging.getLogger(__name__)

_LIMIT = 16
"""Jobs of one camera that may wait; each may hold a frame."""


class Album:
    """Runs short jobs: each camera's in their order, the cameras in turn; a camera with too many is refused more."""

    def __init__(self) -> None:
        """Start the thread."""
        self._changed = threading.Condition()
        self._jobs: dict[str, deque[Callable[[], None]]] = {}
        """By camera; whose turn it is stands first."""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="album", daemon=True)
        self._thread.start()

    def do(self, camera_id: str, job: Callable[[], None]) -> bool:
        """Run this job soon; False if there is no room for it."""
        with self._changed:
            if self._stopped or len(self._jobs.get(camera_id, ())) >= _LIMIT:
                return False
            self._jobs.setdefault(camera_id, deque()).append(job)
            self._changed.notify()
        return True

    def stop(self, timeout: float) -> None:
        """Do what is queued, at most `timeout` seconds long, and end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception:
                _LOGGER.exception("A picture could not be made")

    def _next(self) -> Callable[[], None] | None:
        """Wait for a job; None when there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._stopped)
            if not self._jobs:
                return None
            camera_id = next(iter(self._jobs))
            jobs = self._jobs.pop(camera_id)
            job = jobs.popleft()
            if jobs:
                self._jobs[camera_id] = jobs
        return job
