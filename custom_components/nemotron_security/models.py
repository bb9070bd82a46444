"""The words of the domain: frozen dataclasses, replaced whole, never mutated. Imports nothing of Home Assistant.

Times are aware datetimes in UTC; scores of risk are 0..100; confidences are 0..1; boxes are pixels of their frame.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from .vision.messages import ANIMALS, PERSONS, VEHICLES, Box, CameraStatus, Problem, iou

__all__ = [
    "ANIMALS",
    "PERSONS",
    "VEHICLES",
    "WHOLE_SCENE",
    "Assessment",
    "Backlog",
    "Box",
    "CameraFigures",
    "CameraHealth",
    "CameraStatus",
    "CameraView",
    "ConnectionQuality",
    "Detection",
    "Evidence",
    "Feedback",
    "Floor",
    "GpuStats",
    "HarmlessPlace",
    "House",
    "Incident",
    "IncidentFilter",
    "Judgement",
    "Opening",
    "Picture",
    "PictureKind",
    "PipelineFigures",
    "Problem",
    "Review",
    "RiskLevel",
    "Topic",
    "Track",
    "Visit",
    "Way",
    "count_of",
    "iou",
    "risk_level",
]


def count_of(counts: Mapping[str, int], labels: frozenset[str]) -> int:
    """Add up the counts of the labels of a group."""
    return sum(count for label, count in counts.items() if label in labels)


class RiskLevel(StrEnum):
    """How serious an incident is, in words."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


MEDIUM_RISK = 30
HIGH_RISK = 60
CRITICAL_RISK = 85


def risk_level(score: int | None) -> RiskLevel | None:
    """Derive the level from a score of 0..100; the only place that does. Null stays null."""
    if score is None:
        return None
    if score < MEDIUM_RISK:
        return RiskLevel.LOW
    if score < HIGH_RISK:
        return RiskLevel.MEDIUM
    if score < CRITICAL_RISK:
        return RiskLevel.HIGH
    return RiskLevel.CRITICAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One object over time, as an incident keeps it."""

    track_id: int
    """The worker's id, unique over cameras and restarts."""
    label: str
    confidence: float
    first_seen_at: datetime
    last_seen_at: datetime
    box: Box
    """Where it was seen last."""
    frame_width: int
    frame_height: int
    stationary: bool = False
    zones: tuple[str, ...] = ()
    """Names of the zones that it has been in and of the entry lines that it crossed, the first one first."""

    @property
    def dwell(self) -> float:
        """Seconds from first to last sight."""
        return (self.last_seen_at - self.first_seen_at).total_seconds()


class Floor(StrEnum):
    """Facts of the house that set a lowest score, which no model may argue away; the user may switch each off."""

    INTRUDER = "intruder"
    FORCED_ENTRY = "forced_entry"
    ALARM_TRIGGERED = "alarm_triggered"

    @property
    def lowest(self) -> int:
        """The lowest score while it holds."""
        return 60 if self is Floor.INTRUDER else 85

    @property
    def words(self) -> str:
        """What is told of it in a reasoning."""
        match self:
            case Floor.INTRUDER:
                return "a person while nobody should be there"
            case Floor.FORCED_ENTRY:
                return "a door or window was opened while the alarm was armed"
            case Floor.ALARM_TRIGGERED:
                return "the alarm is triggered"


class Feedback(StrEnum):
    """What a person says of the verdict."""

    FALSE_ALARM = "false_alarm"
    """It was harmless and needed no announcement."""
    SERIOUS = "serious"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """What the database keeps and `new_event` announces: one or more tracks on one camera."""

    id: int
    camera_id: str
    started_at: datetime
    last_seen_at: datetime
    ended_at: datetime | None = None
    labels: tuple[str, ...] = ()
    """What took part, the first seen first, each once."""
    object_count: int = 0
    """Tracks that took part."""
    zones: tuple[str, ...] = ()
    """Zones and entry lines that any of them has been in or crossed, each once."""
    trigger: str | None = None
    """What in the house opened it, in people's words: a doorbell's name; null when the camera saw something first."""
    rules_score: int | None = None
    """What the rules said last; kept whatever a model says."""
    risk_score: int | None = None
    """The valid verdict: the model's if there is one, else the rules'."""
    analyzer: str | None = None
    """Who gave `risk_score`: `rules`, `nemotron`, ..."""
    floor: Floor | None = None
    """The floor that held when the rules judged last."""
    peak_score: int | None = None
    """The highest score that anybody ever gave."""
    title: str = ""
    summary: str = ""
    reasoning: str | None = None
    picture_id: int | None = None
    """The best picture so far."""
    reviewed_at: datetime | None = None
    """When a person marked it as seen; null while nobody did."""
    feedback: Feedback | None = None
    note: str | None = None
    """What a person says of it."""

    @property
    def risk_level(self) -> RiskLevel | None:
        """The level of `risk_score`."""
        return risk_level(self.risk_score)


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What a person makes of an incident; takes the place of what was said before."""

    reviewed: bool
    feedback: Feedback | None
    note: str | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentFilter:
    """Which incidents are wanted: those that meet every condition given. A null condition is none."""

    camera_ids: frozenset[str] | None = None
    """On one of these; an empty set matches nothing, likewise of `labels`."""
    labels: frozenset[str] | None = None
    """At least one of these took part."""
    zones: frozenset[str] | None = None
    """Something that took part was in one of these zones, or crossed one of these entry lines."""
    minimum_risk: int | None = None
    """`risk_score` at least; an incident that nobody has judged never matches, likewise of `maximum_risk`."""
    maximum_risk: int | None = None
    minimum_peak: int | None = None
    """`peak_score` at least."""
    since: datetime | None = None
    """It still went on then or later, whenever something of it was seen last."""
    until: datetime | None = None
    """It began before then."""
    text: str | None = None
    """Each word occurs in title, summary, reasoning, note, trigger, zones or labels: in any order and case, also within
    a word."""
    reviewed: bool | None = None
    feedback: Feedback | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """One object in one frame."""

    id: int
    """Its row; 0 before it is stored."""
    incident_id: int | None
    track_id: int
    camera_id: str
    object_type: str
    confidence: float
    detected_at: datetime
    box: Box
    frame_width: int
    frame_height: int
    zones: tuple[str, ...] = ()
    """Names of the zones that it was in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a track went through the picture."""

    first: Detection
    """Where it was first seen."""
    closest: Detection
    """Where it was largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What an analyzer says of an incident."""

    analyzer: str
    risk_score: int
    title: str
    summary: str
    reasoning: str | None
    created_at: datetime
    confidence: float | None = None
    category: str | None = None
    recommended_action: str | None = None
    evidence: tuple[str, ...] = ()
    shown: tuple[int | None, ...] = ()
    """Ids of the pictures that a model was shown, in order: the first is what the evidence calls Picture 1. Null stands
    for one that is not stored."""
    model: str | None = None
    floor: Floor | None = None
    """Of the rules: the highest floor that held."""

    def raised_to(self, floor: Floor | None) -> Assessment:
        """Return the same, not below a floor, with a word of it."""
        if floor is None or self.risk_score >= floor.lowest:
            return self
        reasoning = raised_reasoning(self.reasoning, self.risk_score, floor)
        return replace(self, risk_score=floor.lowest, reasoning=reasoning)


def raised_reasoning(reasoning: str | None, score: int, floor: Floor) -> str:
    """Return a reasoning with the word that a floor raised its score."""
    words = f"Raised from {score} to {floor.lowest}: {floor.words}."
    return f"{reasoning} {words}" if reasoning else words


@dataclass(frozen=True, slots=True, kw_only=True)
class HarmlessPlace:
    """Where something stood that a person called harmless: a scarecrow, a coat on a hook, the neighbour's car."""

    camera_id: str
    label: str
    box: Box
    """In shares of the frame's width and height, so that another resolution is the same place."""
    created_at: datetime
    incident_id: int | None
    """Of the review that said so; null once that incident is deleted."""


WHOLE_SCENE = 0
"""Stands for a track's id where a picture shows no single object."""


class PictureKind(StrEnum):
    """Which moment a picture shows."""

    FIRST = "first"
    """The first view of a track."""
    BEST = "best"
    """The best view of a track since, if it is a better one; also an earlier one that a model was shown."""
    LAST = "last"
    """What the camera saw when a model was asked: perhaps after the track had gone. The box is where it was last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A stored JPEG; a row owns the file."""

    id: int
    incident_id: int
    track_id: int
    kind: PictureKind
    captured_at: datetime
    box: Box
    score: float
    width: int
    height: int
    size: int
    """Bytes of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is stored that an incident is judged by."""

    tracks: tuple[Track, ...]
    """Its own, the first seen first."""
    ways: Mapping[int, Way]
    """By the ids of the tracks of which more than one sight is stored."""
    pictures: list[Picture]
    """Its own, the best first."""
    earlier: list[Incident]
    """Those before it on cameras nearby, the newest first; likewise `reviewed`."""
    reviewed: list[Incident]
    """Those with something in common on which somebody said something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraHealth:
    """Whether a camera is seen: the payload of `camera_status`."""

    camera_id: str
    status: CameraStatus = CameraStatus.UNKNOWN
    last_seen_at: datetime | None = None
    problem: Problem | None = None
    detail: str = ""


class ConnectionQuality(StrEnum):
    """How well a camera was connected in the last hour."""

    EXCELLENT = "excellent"
    FAIR = "fair"
    POOR = "poor"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraFigures:
    """How much of a camera is looked at: the payload of `camera_stats`. What is not known is null."""

    camera_id: str
    fps: float | None
    """Frames a second that were looked at for motion."""
    inference_fps: float | None
    """Frames a second that went through the detector."""
    skipped: int
    """Frames since the start that were due for the detector and never looked at: it was busy with newer ones."""
    quality: ConnectionQuality | None
    reconnects: int
    stalls: int
    """Within the last hour."""
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineFigures:
    """How the whole does: the figures of `pipeline_status`. What is not known is null."""

    inference_fps: float | None = None
    """Frames of all cameras a second that went through the detector; null when there is no detector."""
    inference_ms_p50: float | None = None
    inference_ms_p95: float | None = None
    """Percentiles of the detector's time for one frame in the last minute, in milliseconds; null when none ran."""
    skipped: int = 0
    worker_memory: int | None = None
    """Bytes that the worker holds in memory."""
    worker_restarts: int = 0
    """Since the start; the first start is none."""
    waiting: int | None = None
    """Incidents that wait for a model; null without one."""
    oldest_waiting: float | None = None
    """Seconds since the oldest of them was due; null when none waits."""
    breaker: str | None = None
    """State of the circuit breaker before the model: `closed`, `half_open`, `open`; null without a model."""
    storage_used: int | None = None
    """Bytes of the database and its pictures."""
    disk_free: int | None = None
    """Bytes left where they lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuStats:
    """One reading of a GPU: the payload of `gpu_stats`. What could not be read is null."""

    gpu_id: str
    name: str
    gpu_utilization: float | None
    memory_used: int
    memory_total: int
    temperature: float | None
    inference_fps: float | None
    recorded_at: datetime


class CameraView(StrEnum):
    """What a camera looks at: who may be there without a reason differs."""

    PRIVATE = "private"
    """A garden, a yard, a room: strangers have no business there."""
    ENTRANCE = "entrance"
    """A front door or a drive: visitors and couriers come there."""
    PUBLIC = "public"
    """A street or a pavement: anybody may be there."""


class Topic(StrEnum):
    """What a model may be told besides the incident itself; the user chooses."""

    PEOPLE = "people"
    ALARM = "alarm"
    OPENINGS = "openings"
    CALENDARS = "calendars"
    HISTORY = "history"
    FEEDBACK = "feedback"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A door, a window or a lock."""

    name: str
    open: bool | None
    """Open, or not locked; null for a lock that is jammed."""
    lock: bool = False
    area_id: str | None = None
    changed_at: datetime | None = None
    """When it was last seen to open or close; null when that was not lately."""


LONGEST_VISIT = timedelta(hours=12)
"""What a calendar says to last longer names no hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """An event of a calendar that the user picked."""

    title: str
    begin: datetime
    end: datetime
    all_day: bool = False

    @property
    def names_hour(self) -> bool:
        """Whether it says when somebody comes: a day or a week with guests does not."""
        return not self.all_day and self.end - self.begin <= LONGEST_VISIT


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What the house knows at one moment. Unknown is null, never a guess."""

    at: datetime
    """Local time, aware."""
    sun_up: bool | None = None
    anyone_home: bool | None = None
    """Whether any person is at home; null when Home Assistant tracks none or knows none."""
    people_home: tuple[str, ...] = ()
    people_arrived: tuple[str, ...] = ()
    """Those of them who came home in the last minutes."""
    alarm: str | None = None
    """State of the alarm panel: `disarmed`, `armed_home`, `armed_away`, `armed_night`, `triggered`, ..."""
    alarm_changed_at: datetime | None = None
    """When it got that state; null when that was not lately."""
    forced_entry: bool = False
    """Whether a door or window was seen to open while the alarm was armed away, on vacation or for the night, and the
    alarm has not been disarmed since."""
    openings: tuple[Opening, ...] = ()
    visits: tuple[Visit, ...] = ()
    """That are expected now or soon, or have just been."""

    @property
    def doors_open(self) -> tuple[str, ...]:
        """Names of doors, windows and locks that are open."""
        return tuple(opening.name for opening in self.openings if opening.open)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is to be asked of an analyzer about an incident."""

    incident: Incident
    house: House | None
    """What the house knew when the incident began or ended; null when that is not known any more."""
    tries: int = 0
    """How often it failed by what was asked or answered, not by the server being away."""
    problem: str | None = None
    """What went wrong last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The incidents that wait for an analyzer."""

    waiting: int
    oldest_due_at: datetime | None
    """When the one that waits longest was, or will be, due; null when none waits."""
