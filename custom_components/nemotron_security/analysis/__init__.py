"""An incident goes in, an assessment comes out: what every analyzer takes, gives and raises."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from ..models import Assessment, House, Track

__all__ = ["AnalysisError", "AnalysisProblem", "Analyzer", "Case", "KeyFrame"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The facts of an incident that an analyzer judges by."""

    camera_id: str
    camera_name: str
    """The name that people gave the camera."""
    started_at: datetime
    tracks: tuple[Track, ...]
    """Who and what took part, the first seen first."""
    house: House
    note: str | None = None
    """What the owner says of this camera: what is usual there, what matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFrame:
    """A picture of the incident: the whole frame, without drawings."""

    track_id: int
    captured_at: datetime
    jpeg: bytes = field(repr=False)


class AnalysisProblem(StrEnum):
    """Why an analyzer gave no assessment."""

    UNREACHABLE = "unreachable"
    """No connection, or no answer in time."""
    UNAUTHORIZED = "unauthorized"
    """The server refuses the API key."""
    MODEL_NOT_FOUND = "model_not_found"
    RATE_LIMITED = "rate_limited"
    BAD_ANSWER = "bad_answer"
    """The server answered, but not with an assessment."""
    BAD_REQUEST = "bad_request"
    """The server refuses what was asked: a picture for a model without eyes, too long a prompt."""
    SERVER_ERROR = "server_error"


class AnalysisError(Exception):
    """An analyzer gave no assessment. Its text is free of secrets."""

    def __init__(self, kind: AnalysisProblem, detail: str = "", *, retry_after: float | None = None) -> None:
        """Keep what went wrong; `retry_after` is the server's wish in seconds."""
        super().__init__(f"{kind}: {detail}" if detail else str(kind))
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after

    @property
    def temporary(self) -> bool:
        """Whether asking again may help without anybody changing the set-up."""
        return self.kind not in {
            AnalysisProblem.UNAUTHORIZED,
            AnalysisProblem.MODEL_NOT_FOUND,
            AnalysisProblem.BAD_REQUEST,
        }


class Analyzer(Protocol):
    """Whoever judges incidents."""

    @property
    def name(self) -> str:
        """What `Assessment.analyzer` says."""

    async def async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        """Judge an incident.

        Raises:
            AnalysisError: no assessment could be had.
        """
