"""Whether a detector works: which failures are borne, when there are too many, and when it is trusted again."""

from typing import Final

from .detectors import DetectorError
from .messages import Problem

_PASSING: Final = frozenset({Problem.DETECTOR_UNREACHABLE, Problem.DETECTOR_NOT_READY, Problem.DETECTOR_BAD_ANSWER})
"""Problems of a server that may be over with the next picture."""
_BORNE: Final = _PASSING | {Problem.DETECTOR_BROKEN}
_MOST = 5
"""So many failures in a row are too many;"""
_LONG = 10.0
"""and so are two of them that are so many seconds apart."""
_TRUSTED = 30.0
"""Seconds for which a detector that failed has to work until it counts as working: else one that fails now and then
would be said to work each time it is loaded."""
_POISON = ("CUDA error", "CUDA failure", "cudaError")
"""Words of errors after which no call of CUDA works in the same process."""


class Soundness:
    """What became of a detector's runs; times are monotonic seconds."""

    def __init__(self, *, doubted: bool = False) -> None:
        """Take the detector for sound, or doubt it from the start."""
        self.doubted = doubted
        """Whether it failed at its work, and has not worked for long enough since."""
        self.works = True
        """Whether its last run did not fail."""
        self._failures = 0
        self._error: Exception | None = None
        self._failing_since = self._failed_at = 0.0
        self._working_since: float | None = None

    def succeed(self, at: float) -> None:
        """Note that it worked."""
        self.works, self._failures, self._error = True, 0, None
        if self._working_since is None:
            self._working_since = at
        self.doubted &= at - self._working_since < _TRUSTED

    def fail(self, error: Exception, at: float) -> None:
        """Note that it failed."""
        if not self._failures:
            self._failing_since = at
        self.works, self._working_since = False, None
        self._failures += 1
        self._failed_at, self._error = at, error

    def give_up(self) -> Exception | None:
        """Return why it is given up, once it has failed too often since it worked last; it begins anew then."""
        error = self._error
        passing = not isinstance(error, DetectorError) or error.problem in _BORNE
        few = self._failures < _MOST and (self._failures == 1 or self._failed_at - self._failing_since < _LONG)
        if error is None or (passing and few):
            return None
        self._failures, self._error, self.doubted = 0, None, True
        return error


def may_be_picture(error: Exception) -> bool:
    """Tell whether one picture may be the cause; what says that its server or its model fails would do so with each."""
    return not isinstance(error, DetectorError) or error.problem is Problem.DETECTOR_BROKEN


def is_fatal(error: BaseException) -> bool:
    """Tell whether the whole process is of no use to the detector any more."""
    chain: BaseException | None = error
    while chain is not None:
        if any(words in str(chain) for words in _POISON):
            return True
        chain = chain.__cause__ or chain.__context__
    return False
