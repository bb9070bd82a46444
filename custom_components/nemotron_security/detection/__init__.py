"""Which detector looks: what was chosen, what can run here, and where its model and its packages come from.

The worker's side, which runs it, is `vision/detectors`. Nothing here loads a model, or imports Home Assistant.
"""

from enum import StrEnum


class DetectionFailure[P: StrEnum](Exception):  # noqa: N818  # what happened is seldom a fault of a program's
    """Something that the user wanted could not be done. Each problem is a translation key that names what to do."""

    def __init__(self, problem: P, detail: str = "") -> None:
        """Keep what to tell the user and the words for people who look for the cause."""
        super().__init__(f"{problem}: {detail}" if detail else str(problem))
        self.problem = problem
        self.detail = detail
