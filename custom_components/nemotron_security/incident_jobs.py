"""What is to be stored and then announced: each change of an incident as a job, and the queue of the jobs."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
import time
from typing import Final, Protocol, override

from .episodes import Episode
from .models import Assessment, Detection, HarmlessPlace, Incident, PictureKind, Track
from .store import Store, StoreError
from .vision.messages import TrackPicture

WAITING_DETECTIONS: Final = 2000
WAITING_PICTURES: Final = 24
"""What is kept in memory while the store fails; the oldest are dropped first."""
DETECTIONS_TOLD_WITHIN: Final = 3.0
"""Seconds that detections may wait for the store and still be told: what a live view shows is of now."""


class IncidentListener(Protocol):
    """Whoever announces. Called on the event loop, after the fact was stored; must not block."""

    def incident_started(self, incident: Incident) -> None:
        """An incident began."""

    def incident_updated(self, incident: Incident) -> None:
        """Something notable changed; it may have ended before."""

    def incident_ended(self, incident: Incident) -> None:
        """It is over."""

    def incident_annotated(self, incident: Incident) -> None:
        """A verdict came so late that it is no news."""

    def detections_stored(self, detections: Sequence[Detection]) -> None:
        """Objects were seen, a moment ago; those that waited long for the store are not told of."""

    def store_failed(self, error: StoreError) -> None:
        """The store fails; told once until it recovers."""

    def store_recovered(self) -> None:
        """All that waited for the store is stored and announced."""


@dataclass(slots=True, eq=False)
class Record:
    """An episode and what the store and the listeners know of it."""

    episode: Episode
    assessment: Assessment
    """The rules' last verdict."""
    reviewed_at: float
    """Time of the clock of episodes; likewise `saved_at`."""
    saved_at: float
    stored: Incident | None = None
    stored_tracks: dict[int, Track] = field(default_factory=dict)
    told: tuple[int, ...] = ()
    """Its extent when it was announced last."""
    pictured_tracks: set[int] = field(default_factory=set)
    """Those whose first view is stored."""

    @property
    def extent(self) -> tuple[int, ...]:
        """How many tracks, labels and zones take part; none of them ever gets fewer."""
        return len(self.episode.tracks), len(self.episode.labels), len(self.episode.zones)

    def changed_tracks(self) -> list[Track]:
        """Return those that the store does not know as they are."""
        return [t for t in self.episode.tracks.values() if self.stored_tracks.get(t.track_id) is not t]


class Job(Protocol):
    """Something to be stored, then announced."""

    async def async_store(self, store: Store) -> None:
        """Store it; raises StoreError when it has to be tried again, and nothing of it was kept."""

    def announce(self, listener: IncidentListener) -> None:
        """Tell of what was stored."""


@dataclass(slots=True, eq=False)
class Recover(Job):
    """Closes what a crash left open."""

    closed: list[Incident] = field(default_factory=list)

    @override
    async def async_store(self, store: Store) -> None:
        self.closed = await store.async_close_open_incidents()

    @override
    def announce(self, listener: IncidentListener) -> None:
        for incident in self.closed:
            listener.incident_ended(incident)


@dataclass(slots=True, eq=False)
class LoadPlaces(Job):
    """Reads where a person said that nothing is wrong."""

    use: Callable[[Sequence[HarmlessPlace]], None]
    places: list[HarmlessPlace] = field(default_factory=list)

    @override
    async def async_store(self, store: Store) -> None:
        self.places = await store.async_harmless_places()

    @override
    def announce(self, listener: IncidentListener) -> None:
        self.use(self.places)


@dataclass(slots=True, eq=False)
class Start(Job):
    """Stores a new incident."""

    record: Record

    @override
    async def async_store(self, store: Store) -> None:
        record, episode = self.record, self.record.episode
        tracks = list(episode.tracks.values())
        record.stored = await store.async_start_incident(
            episode.camera_id,
            tracks,
            started_at=episode.started_at,
            assessment=record.assessment,
            trigger=episode.trigger,
        )
        record.stored_tracks = {track.track_id: track for track in tracks}

    @override
    def announce(self, listener: IncidentListener) -> None:
        assert self.record.stored
        listener.incident_started(self.record.stored)


@dataclass(slots=True, eq=False)
class Save(Job):
    """Stores an incident as it is when its turn comes: one waiting save covers all changes until then."""

    record: Record
    tell: bool
    assess: bool
    ended: bool = False

    @override
    async def async_store(self, store: Store) -> None:
        record, episode = self.record, self.record.episode
        if record.stored is None:  # its start was refused for good
            return
        self.ended = episode.ended_at is not None
        tracks = record.changed_tracks()
        incident = replace(
            record.stored,
            last_seen_at=episode.last_seen_at,
            ended_at=episode.ended_at,
            labels=episode.labels,
            zones=episode.zones,
            object_count=len(episode.tracks),
        )
        record.stored = await store.async_save_incident(incident, tracks)
        record.stored_tracks.update((track.track_id, track) for track in tracks)
        if self.assess:
            record.stored = await store.async_assess(incident.id, record.assessment)

    @override
    def announce(self, listener: IncidentListener) -> None:
        if self.record.stored is None:
            return
        if self.ended:
            listener.incident_ended(self.record.stored)
        elif self.tell:
            listener.incident_updated(self.record.stored)


@dataclass(slots=True, eq=False)
class Change(Job):
    """A change of a stored incident, which may be over since long; somebody waits until it is done."""

    change: Callable[[Store], Awaitable[Incident]]
    record: Record | None
    done: asyncio.Future[Incident]
    news: Callable[[Incident], bool]
    incident: Incident | None = None

    @override
    async def async_store(self, store: Store) -> None:
        self.incident = await self.change(store)
        if self.record:
            self.record.stored = self.incident

    @override
    def announce(self, listener: IncidentListener) -> None:
        assert self.incident
        if not self.done.done():
            self.done.set_result(self.incident)
        if self.news(self.incident):
            listener.incident_updated(self.incident)
        else:
            listener.incident_annotated(self.incident)

    def fail(self, err: Exception) -> None:
        """Tell who waits that it was not done."""
        if not self.done.done():
            self.done.set_exception(err)


@dataclass(slots=True, eq=False)
class AddPicture(Job):
    """Stores a view of a track, or of the whole scene."""

    record: Record
    picture: TrackPicture
    first: bool = False

    @override
    async def async_store(self, store: Store) -> None:
        record, picture = self.record, self.picture
        if record.stored is None:
            return
        self.first = record.stored.picture_id is None
        _, record.stored = await store.async_add_picture(
            record.stored.id,
            track_id=picture.track_id,
            kind=PictureKind.BEST if picture.track_id in record.pictured_tracks else PictureKind.FIRST,
            captured_at=datetime.fromtimestamp(picture.captured_at, UTC),
            box=picture.box,
            score=picture.score,
            width=picture.width,
            height=picture.height,
            jpeg=picture.data,
        )
        record.pictured_tracks.add(picture.track_id)

    @override
    def announce(self, listener: IncidentListener) -> None:
        if self.first and self.record.stored:
            listener.incident_updated(self.record.stored)


@dataclass(slots=True, eq=False)
class AddDetections(Job):
    """Stores what was seen in one frame."""

    record: Record | None
    """The incident that goes on, if one does."""
    detections: list[Detection]
    queued_at: float = field(default_factory=time.monotonic)

    @override
    async def async_store(self, store: Store) -> None:
        record = self.record
        if record and record.stored:
            incident_id, members = record.stored.id, record.episode.tracks
            self.detections = [
                replace(detection, incident_id=incident_id) if detection.track_id in members else detection
                for detection in self.detections
            ]
        self.detections = await store.async_add_detections(self.detections)

    @override
    def announce(self, listener: IncidentListener) -> None:
        # Else all that waited for a store that failed would come at once, and push what else was said out of memory.
        if time.monotonic() - self.queued_at <= DETECTIONS_TOLD_WITHIN:
            listener.detections_stored(self.detections)


class Jobs:
    """What waits for the store, in order."""

    def __init__(self) -> None:
        self._waiting: deque[Job] = deque()
        self.added = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def first(self) -> Job:
        """Take the oldest job."""
        return self._waiting.popleft()

    @property
    def only_pictures(self) -> bool:
        """Whether nothing but pictures waits."""
        return all(isinstance(job, AddPicture) for job in self._waiting)

    def put_back(self, job: Job) -> bool:
        """Put a job back that could not be done; return whether another may be tried.

        A picture goes to the end: a disk that takes no files may take rows still, and no alarm waits for a picture.
        """
        if isinstance(job, AddPicture):
            self._waiting.append(job)
            self._drop_surplus()
            return not self.only_pictures
        if isinstance(job, Save) and (newer := self._waiting_save(job.record)):
            self._waiting.remove(newer)  # else both would tell of the same end
            job.tell |= newer.tell
            job.assess |= newer.assess
        self._waiting.appendleft(job)
        self._drop_surplus()
        return False

    def add(self, job: Job) -> None:
        """Add a job; a save joins one that waits for the same incident."""
        if isinstance(job, Save) and (waiting := self._waiting_save(job.record)):
            waiting.tell |= job.tell
            waiting.assess |= job.assess
            return
        self._waiting.append(job)
        self._drop_surplus()
        self.added.set()

    def _waiting_save(self, record: Record) -> Save | None:
        saves = (job for job in self._waiting if isinstance(job, Save) and job.record is record)
        return next(saves, None)

    def _drop_surplus(self) -> None:
        pictures = [job for job in self._waiting if isinstance(job, AddPicture)]
        for picture in pictures[: max(0, len(pictures) - WAITING_PICTURES)]:
            self._waiting.remove(picture)
        sights = [job for job in self._waiting if isinstance(job, AddDetections)]
        surplus = sum(len(job.detections) for job in sights) - WAITING_DETECTIONS
        for sight in sights:
            if surplus <= 0:
                break
            self._waiting.remove(sight)
            surplus -= len(sight.detections)
