"""An incident goes in, an assessment comes out: what every analyzer takes, gives and raises."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol, Self

from ..models import Assessment, CameraView, Feedback, Floor, House, Incident, Topic, Track, Way

__all__ = [
    "AnalysisError",
    "AnalysisProblem",
    "Analyzer",
    "Brief",
    "Capabilities",
    "Case",
    "Earlier",
    "KeyFrame",
    "PastFeedback",
    "Place",
    "SchemaRefusedError",
    "TooLongError",
    "TooManyPicturesError",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the house something is."""

    area_id: str | None = None
    area: str = ""
    """Its name."""
    floor_id: str | None = None
    floor: str = ""


NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An incident before this one."""

    incident: Incident
    camera_name: str
    here: bool
    """On the same camera; else on one nearby."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastFeedback:
    """What people said of similar incidents: the same mark and the same words on one camera, so many times."""

    feedback: Feedback
    note: str
    times: int
    camera_name: str | None = None
    """Of another camera, if it was there; who is known at the back door may be a stranger at the front door."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The facts of an incident that an analyzer judges by."""

    camera_id: str
    camera_name: str
    """The name that people gave the camera."""
    started_at: datetime
    tracks: tuple[Track, ...]
    """Who and what took part, the first seen first; nothing as long as only a trigger is known."""
    house: House
    trigger: str | None = None
    """What in the house opened the incident; null when the camera saw something first."""
    note: str | None = None
    """What the owner says of this camera: what is usual there, what matters."""
    view: CameraView | None = None
    """What the camera looks at; null when the owner does not say."""
    place: Place = NOWHERE
    ways: Mapping[int, Way] = field(default_factory=dict)
    """By the ids of the tracks of which more than one sight is stored."""
    earlier: tuple[Earlier, ...] = ()
    """The last incidents here and nearby, the newest first."""
    feedback: tuple[PastFeedback, ...] = ()
    """What was said of similar ones, the most similar first."""
    topics: frozenset[Topic] = frozenset(Topic)
    """What a model may be told."""
    floors: frozenset[Floor] = frozenset(Floor)
    """The lowest scores that hold."""
    more_tracks: int = 0
    """How many took part besides the tracks, which a model is not told of one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFrame:
    """A picture of the incident: the whole frame, without drawings."""

    track_id: int
    captured_at: datetime
    jpeg: bytes = field(repr=False)
    width: int = 0
    height: int = 0
    """Pixels; 0 when nobody measured them."""
    moment: str = ""
    """Why it was chosen: `first sight`, `closest`, `last view`, `scene change`, or nothing of these."""
    picture_id: int | None = None
    """Its row in the store, which may keep it in a larger size; null when there is none."""


@dataclass(frozen=True, slots=True)
class Brief:
    """All that an analyzer is given of an incident."""

    case: Case
    pictures: list[KeyFrame]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a model was seen to do when it was tried; what was not seen is taken for missing."""

    schema: bool = False
    """Its server holds an answer to a JSON schema."""
    images: bool = False
    """It sees pictures."""
    context_length: int | None = None
    """Tokens of a question and its answer together, if the server tells."""

    @classmethod
    def from_data(cls, data: Mapping[str, Any] | None) -> Self:
        """Restore what `as_data` gave."""
        return cls(**data) if data else cls()

    def as_data(self) -> dict[str, Any]:
        """Return what JSON can keep."""
        return asdict(self)


class AnalysisProblem(StrEnum):
    """Why an analyzer gave no assessment."""

    UNREACHABLE = "unreachable"
    """No connection, or one that broke off."""
    NO_ANSWER = "no_answer"
    """Connected, but no whole answer in time."""
    UNAUTHORIZED = "unauthorized"
    """The server refuses the API key."""
    NO_CREDIT = "no_credit"
    """What was paid for is used up."""
    MODEL_NOT_FOUND = "model_not_found"
    INCOMPATIBLE = "incompatible"
    """The server refuses whatever it is asked."""
    RATE_LIMITED = "rate_limited"
    BAD_ANSWER = "bad_answer"
    """The server answered, but not with an assessment."""
    BAD_REQUEST = "bad_request"
    """The server refuses what was asked, as a picture for a model without eyes."""
    TOO_LONG = "too_long"
    """The server refuses what was asked because the model's context does not hold it."""
    SERVER_ERROR = "server_error"
    BUSY = "busy"
    """The server, or a proxy before it, cannot answer now: it is overloaded, or loads the model still."""


class AnalysisError(Exception):
    """An analyzer gave no assessment. Its text is free of secrets."""

    def __init__(self, kind: AnalysisProblem, detail: str = "", *, retry_after: float | None = None) -> None:
        """Keep what went wrong; `retry_after` is the server's wish in seconds."""
        super().__init__(f"{kind}: {detail}" if detail else str(kind))
        self.kind = kind
        self.detail = detail
        self.retry_after = retry_after


class TooLongError(AnalysisError):
    """What was asked does not fit into the model's context."""

    def __init__(self, detail: str = "", *, tokens: int | None = None, context_length: int | None = None) -> None:
        """Keep how many tokens the question had and how many there may be, as far as the server tells."""
        super().__init__(AnalysisProblem.TOO_LONG, detail)
        self.tokens = tokens
        self.context_length = context_length


class SchemaRefusedError(AnalysisError):
    """The server does not take the JSON schema of the answer."""

    def __init__(self, detail: str = "") -> None:
        """Keep what the server says."""
        super().__init__(AnalysisProblem.BAD_REQUEST, detail)


class TooManyPicturesError(AnalysisError):
    """The server takes fewer pictures at once."""

    def __init__(self, detail: str = "", *, most: int) -> None:
        """Keep how many it takes."""
        super().__init__(AnalysisProblem.BAD_REQUEST, detail)
        self.most = most


class Analyzer(Protocol):
    """Whoever judges incidents."""

    @property
    def name(self) -> str:
        """What `Assessment.analyzer` says."""

    @property
    def sees(self) -> bool:
        """Whether it looks at pictures now."""

    async def async_assess(self, case: Case, pictures: Sequence[KeyFrame]) -> Assessment:
        """Judge an incident.

        Raises:
            AnalysisError: no assessment could be had.
        """
