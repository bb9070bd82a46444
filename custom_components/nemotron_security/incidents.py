"""Tracks become incidents: stored first, then announced.

`episodes.py` says what happens before a camera. Here every change becomes a job, and one task does the jobs in order:
it stores what changed and only then announces it. While the store fails, jobs wait in memory (detections and pictures
bounded, incidents never dropped) and are tried again with back-off.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
import contextlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
import logging
from typing import Final, Protocol

from .analysis import Case
from .episodes import Episode, Episodes, Turn
from .models import Assessment, Detection, HarmlessPlace, House, Incident, PictureKind, Review, Track, risk_level
from .store import Store, StoreError, StoreProblem
from .vision.messages import FrameTracks, TrackPicture

_LOGGER = logging.getLogger(__name__)

REVIEW_INTERVAL: Final = 1.0
"""Seconds between two looks at what goes on: an incident is announced anew at most this often."""
SAVE_INTERVAL: Final = 3.0
"""Seconds after which the last sight is stored though nothing notable happened: what a crash can cost."""
NOTABLE_SCORE_CHANGE: Final = 5
RETRY_FIRST: Final = 1.0
RETRY_LONGEST: Final = 60.0
"""Seconds between two tries of a failing store."""
STOP_TIME: Final = 5.0
"""Seconds that stopping may take to store what is left."""
WAITING_DETECTIONS: Final = 2000
WAITING_PICTURES: Final = 24
"""What is kept in memory while the store fails; the oldest are dropped first."""
PICTURES_BEFORE_INCIDENT: Final = 8
"""Pictures kept per camera of tracks that are in no incident yet."""
ENDED_REMEMBERED: Final = 4
"""Ended incidents per camera that late pictures still find."""


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
        """Objects were seen."""

    def store_failed(self, error: StoreError) -> None:
        """The store fails; told once until it recovers."""

    def store_recovered(self) -> None:
        """All that waited for the store is stored and announced."""


@dataclass(slots=True, eq=False)
class _Record:
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
        return [t for t in self.episode.tracks.values() if self.stored_tracks.get(t.track_id) is not t]


class _Job(Protocol):
    """Something to be stored, then announced."""

    async def async_store(self, store: Store) -> None: ...

    def announce(self, listener: IncidentListener) -> None: ...


@dataclass(slots=True, eq=False)
class _Recover:
    """Closes what a crash left open."""

    closed: list[Incident] = field(default_factory=list)

    async def async_store(self, store: Store) -> None:
        self.closed = await store.async_close_open_incidents()

    def announce(self, listener: IncidentListener) -> None:
        for incident in self.closed:
            listener.incident_ended(incident)


@dataclass(slots=True, eq=False)
class _LoadPlaces:
    """Reads where a person said that nothing is wrong."""

    use: Callable[[Sequence[HarmlessPlace]], None]
    places: list[HarmlessPlace] = field(default_factory=list)

    async def async_store(self, store: Store) -> None:
        self.places = await store.async_harmless_places()

    def announce(self, listener: IncidentListener) -> None:
        self.use(self.places)


@dataclass(slots=True, eq=False)
class _Start:
    record: _Record

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

    def announce(self, listener: IncidentListener) -> None:
        assert self.record.stored
        listener.incident_started(self.record.stored)


@dataclass(slots=True, eq=False)
class _Save:
    """Stores an incident as it is when its turn comes: one waiting save covers all changes until then."""

    record: _Record
    tell: bool
    assess: bool
    ended: bool = False

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

    def announce(self, listener: IncidentListener) -> None:
        if self.record.stored is None:
            return
        if self.ended:
            listener.incident_ended(self.record.stored)
        elif self.tell:
            listener.incident_updated(self.record.stored)


@dataclass(slots=True, eq=False)
class _Change:
    """A change of a stored incident, which may be over since long; somebody waits until it is done."""

    change: Callable[[Store], Awaitable[Incident]]
    record: _Record | None
    done: asyncio.Future[Incident]
    news: Callable[[Incident], bool]
    incident: Incident | None = None

    async def async_store(self, store: Store) -> None:
        self.incident = await self.change(store)
        if self.record:
            self.record.stored = self.incident

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
class _AddPicture:
    record: _Record
    picture: TrackPicture
    first: bool = False

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

    def announce(self, listener: IncidentListener) -> None:
        if self.first and self.record.stored:
            listener.incident_updated(self.record.stored)


@dataclass(slots=True, eq=False)
class _AddDetections:
    record: _Record | None
    """The incident that goes on, if one does."""
    detections: list[Detection]

    async def async_store(self, store: Store) -> None:
        record = self.record
        if record and record.stored:
            incident_id, members = record.stored.id, record.episode.tracks
            self.detections = [
                replace(detection, incident_id=incident_id) if detection.track_id in members else detection
                for detection in self.detections
            ]
        self.detections = await store.async_add_detections(self.detections)

    def announce(self, listener: IncidentListener) -> None:
        listener.detections_stored(self.detections)


class _Camera:
    """One camera's episodes and their records."""

    def __init__(self, episodes: Episodes) -> None:
        self.episodes = episodes
        self.record: _Record | None = None
        self.ended: deque[_Record] = deque(maxlen=ENDED_REMEMBERED)
        self.early_pictures: dict[int, TrackPicture] = {}

    def records(self) -> Iterable[_Record]:
        """Return the present record and the last ones, the newest first."""
        return (*((self.record,) if self.record else ()), *reversed(self.ended))

    def record_of(self, track_id: int) -> _Record | None:
        return next((record for record in self.records() if track_id in record.episode.tracks), None)

    def keep_early(self, picture: TrackPicture) -> None:
        """Keep the picture of a track that is in no incident, until it is in one."""
        self.early_pictures.pop(picture.track_id, None)
        self.early_pictures[picture.track_id] = picture
        while len(self.early_pictures) > PICTURES_BEFORE_INCIDENT:
            del self.early_pictures[next(iter(self.early_pictures))]


class _Jobs:
    """What waits for the store, in order."""

    def __init__(self) -> None:
        self._waiting: deque[_Job] = deque()
        self.added = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def first(self) -> _Job:
        """Take the oldest job."""
        return self._waiting.popleft()

    @property
    def only_pictures(self) -> bool:
        """Whether nothing but pictures waits."""
        return all(isinstance(job, _AddPicture) for job in self._waiting)

    def put_back(self, job: _Job) -> bool:
        """Put a job back that could not be done; return whether another may be tried.

        A picture goes to the end: a disk that takes no files may take rows still, and no alarm waits for a picture.
        """
        if isinstance(job, _AddPicture):
            self._waiting.append(job)
            self._drop_surplus()
            return not self.only_pictures
        if isinstance(job, _Save) and (newer := self._waiting_save(job.record)):
            self._waiting.remove(newer)  # else both would tell of the same end
            job.tell |= newer.tell
            job.assess |= newer.assess
        self._waiting.appendleft(job)
        self._drop_surplus()
        return False

    def add(self, job: _Job) -> None:
        """Add a job; a save joins one that waits for the same incident."""
        if isinstance(job, _Save) and (waiting := self._waiting_save(job.record)):
            waiting.tell |= job.tell
            waiting.assess |= job.assess
            return
        self._waiting.append(job)
        self._drop_surplus()
        self.added.set()

    def _waiting_save(self, record: _Record) -> _Save | None:
        saves = (job for job in self._waiting if isinstance(job, _Save) and job.record is record)
        return next(saves, None)

    def _drop_surplus(self) -> None:
        pictures = [job for job in self._waiting if isinstance(job, _AddPicture)]
        for picture in pictures[: max(0, len(pictures) - WAITING_PICTURES)]:
            self._waiting.remove(picture)
        sights = [job for job in self._waiting if isinstance(job, _AddDetections)]
        surplus = sum(len(job.detections) for job in sights) - WAITING_DETECTIONS
        for sight in sights:
            if surplus <= 0:
                break
            self._waiting.remove(sight)
            surplus -= len(sight.detections)


class Incidents:
    """Turns what the worker reports into stored and announced incidents."""

    def __init__(
        self,
        store: Store,
        *,
        rules: Callable[[Case], Assessment],
        house: Callable[[], House],
        listener: IncidentListener,
        quiet_time: float,
        maximum_length: float,
        camera_name: Callable[[str], str] = str,
        note: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        """Prepare; nothing runs before `async_start`.

        Args:
            store: where everything goes first.
            rules: gives the provisional assessment, at once.
            house: gives what the house knows now.
            listener: is told what was stored.
            quiet_time: seconds without a sight after which an incident ends.
            maximum_length: seconds after which an incident is split.
            camera_name: gives the name of a camera by its id.
            note: gives what the owner says of a camera by its id.
        """
        self._store = store
        self._rules = rules
        self._house = house
        self._listener = listener
        self._quiet_time = quiet_time
        self._maximum_length = maximum_length
        self._camera_name = camera_name
        self._note = note
        self._cameras: dict[str, _Camera] = {}
        self._opening_zones: dict[str, frozenset[str]] = {}
        self._harmless: dict[str, tuple[HarmlessPlace, ...]] = {}
        self._jobs = _Jobs()
        self._tasks: list[asyncio.Task[None]] = []
        self._failing = False
        self._storing = False
        self._stop_asked = asyncio.Event()

    async def async_start(self) -> None:
        """Begin. What a crash left open is closed with its last sight and announced as ended, before anything else."""
        self._jobs.add(_Recover())
        self._jobs.add(_LoadPlaces(self._use_places))
        self._tasks = [
            asyncio.create_task(self._async_work(), name="nemotron_security incidents"),
            asyncio.create_task(self._async_tick(), name="nemotron_security incidents' timer"),
        ]

    async def async_stop(self) -> None:
        """End what goes on with its last sight, store it if the store lets us, and stop."""
        for camera_id in list(self._cameras):
            self.camera_removed(camera_id)
        self._stop_asked.set()
        self._jobs.added.set()
        if not self._tasks:
            return
        worker, timer = self._tasks
        timer.cancel()
        await asyncio.wait([worker], timeout=STOP_TIME)
        worker.cancel()
        await asyncio.gather(worker, timer, return_exceptions=True)
        self._tasks = []
        self._give_up_rest()

    def set_options(self, *, quiet_time: float, maximum_length: float) -> None:
        """Change the times, also for what goes on."""
        self._quiet_time, self._maximum_length = quiet_time, maximum_length
        for camera in self._cameras.values():
            camera.episodes.quiet_time, camera.episodes.maximum_length = quiet_time, maximum_length

    def set_opening_zones(self, camera_id: str, names: frozenset[str]) -> None:
        """Let only what is in one of these zones, or crosses one of these lines, open a camera's incidents.

        Empty for the whole picture.
        """
        self._opening_zones[camera_id] = names
        if camera := self._cameras.get(camera_id):
            camera.episodes.opening_zones = names

    def handle_tracks(self, frame: FrameTracks) -> None:
        """Take the tracks of one frame."""
        camera = self._camera(frame.camera_id)
        for turn, episode in camera.episodes.see(frame, _now()):
            self._take_turn(camera, turn, episode)
        self._review(camera)
        self._add_early_pictures(camera)
        if detections := camera.episodes.detections(frame):
            self._jobs.add(_AddDetections(camera.record, detections))
        for track in frame.ended:
            camera.early_pictures.pop(track.track_id, None)

    def open(self, camera_id: str, trigger: str) -> bool:
        """Open an incident because of something outside the camera; returns False if one goes on there already.

        Args:
            camera_id: where it is to be looked.
            trigger: what it was, in people's words.
        """
        camera = self._camera(camera_id)
        turns = camera.episodes.open(trigger, datetime.now(UTC), _now())
        for turn, episode in turns:
            self._take_turn(camera, turn, episode)
        return bool(turns)

    def handle_scene(self, picture: TrackPicture) -> None:
        """Take what the camera showed when its incident was opened from outside."""
        camera = self._camera(picture.camera_id)
        if camera.record:
            self._jobs.add(_AddPicture(camera.record, picture))

    def handle_picture(self, picture: TrackPicture) -> None:
        """Take the best view of a track so far."""
        camera = self._camera(picture.camera_id)
        if record := camera.record_of(picture.track_id):
            self._jobs.add(_AddPicture(record, picture))
        else:
            camera.keep_early(picture)

    def camera_lost(self, camera_id: str) -> None:
        """Forget the camera's live tracks; its incident goes on for the quiet time, so that new tracks join it."""
        if camera := self._cameras.get(camera_id):
            camera.episodes.lose_tracks()
            camera.early_pictures.clear()

    def camera_removed(self, camera_id: str) -> None:
        """End the camera's incident and forget the camera."""
        if camera := self._cameras.pop(camera_id, None):
            for turn, episode in camera.episodes.end():
                self._take_turn(camera, turn, episode)

    async def async_apply(
        self, incident_id: int, assessment: Assessment, *, news: Callable[[Incident], bool] = lambda _: True
    ) -> Incident:
        """Store and announce an analyst's verdict, after all that came before it.

        Args:
            incident_id: the incident that was judged.
            assessment: the verdict.
            news: says of the incident as it is stored then, whether the verdict comes in time to be told as an update,
                not only to those who show the incident.

        Returns:
            The incident with its verdict.

        Raises:
            LookupError: the incident is no more.
            StoreError: stopped before the store took it. A store that fails is waited for.
        """
        return await self._async_change(
            incident_id, lambda store: store.async_assess(incident_id, assessment), news=news
        )

    async def async_review(self, incident_id: int, review: Review) -> Incident:
        """Store and announce what a person makes of an incident; returns and raises as `async_apply` does."""
        incident = await self._async_change(
            incident_id, lambda store: store.async_review(incident_id, review), news=lambda _: True
        )
        self.reload_harmless_places()
        return incident

    def reload_harmless_places(self) -> None:
        """Take note that somebody else changed them in the store."""
        self._jobs.add(_LoadPlaces(self._use_places))

    def _use_places(self, places: Sequence[HarmlessPlace]) -> None:
        self._harmless = {
            camera_id: tuple(place for place in places if place.camera_id == camera_id)
            for camera_id in {place.camera_id for place in places}
        }
        for camera_id, camera in self._cameras.items():
            camera.episodes.harmless = self._harmless.get(camera_id, ())

    async def _async_change(
        self, incident_id: int, change: Callable[[Store], Awaitable[Incident]], *, news: Callable[[Incident], bool]
    ) -> Incident:
        if self._stop_asked.is_set():
            raise _stopped()
        done: asyncio.Future[Incident] = asyncio.get_running_loop().create_future()
        record = next((record for record in self._records() if _is_stored_as(record, incident_id)), None)
        self._jobs.add(_Change(change, record, done, news))
        return await done

    def _records(self) -> Iterable[_Record]:
        return (record for camera in self._cameras.values() for record in camera.records())

    def _camera(self, camera_id: str) -> _Camera:
        if camera_id not in self._cameras:
            episodes = Episodes(camera_id, quiet_time=self._quiet_time, maximum_length=self._maximum_length)
            episodes.opening_zones = self._opening_zones.get(camera_id, frozenset())
            episodes.harmless = self._harmless.get(camera_id, ())
            self._cameras[camera_id] = _Camera(episodes)
        return self._cameras[camera_id]

    def _case(self, episode: Episode) -> Case:
        return Case(
            camera_id=episode.camera_id,
            camera_name=self._camera_name(episode.camera_id),
            started_at=episode.started_at,
            tracks=tuple(episode.tracks.values()),
            trigger=episode.trigger,
            house=self._house(),
            note=self._note(episode.camera_id),
        )

    def _take_turn(self, camera: _Camera, turn: Turn, episode: Episode) -> None:
        if turn is Turn.OPENED:
            time = camera.episodes.clock.elapsed
            camera.record = record = _Record(episode, self._rules(self._case(episode)), time, time)
            record.told = record.extent
            self._jobs.add(_Start(record))
        elif ended := camera.record:
            camera.record = None
            camera.ended.append(ended)
            # The rules have the last word: their summary tells the whole stay. Should they fail, it ends all the same.
            self._jobs.add(_Save(ended, tell=True, assess=True))
            ended.assessment = self._rules(self._case(episode))

    def _review(self, camera: _Camera) -> None:
        """Look whether what goes on changed notably; at most once a second."""
        record, time = camera.record, camera.episodes.clock.elapsed
        if record is None or time - record.reviewed_at < REVIEW_INTERVAL:
            return
        record.reviewed_at = time
        assess = self._judge_again(record)
        grew = record.extent != record.told
        if not (assess or grew) and time - record.saved_at < SAVE_INTERVAL:
            return
        record.saved_at, record.told = time, record.extent
        self._jobs.add(_Save(record, tell=assess or grew, assess=assess))

    def _judge_again(self, record: _Record) -> bool:
        """Let the rules judge; return whether their verdict changed notably."""
        before, after = record.assessment, self._rules(self._case(record.episode))
        difference = abs(after.risk_score - before.risk_score)
        if difference < NOTABLE_SCORE_CHANGE and risk_level(after.risk_score) is risk_level(before.risk_score):
            return False
        record.assessment = after
        return True

    def _add_early_pictures(self, camera: _Camera) -> None:
        for track_id, picture in list(camera.early_pictures.items()):
            if record := camera.record_of(track_id):
                self._jobs.add(_AddPicture(record, picture))
                del camera.early_pictures[track_id]

    async def _async_tick(self) -> None:
        """End what got quiet also when no frame comes any more."""
        while True:
            await asyncio.sleep(1)
            for camera in self._cameras.values():
                self._tick(camera)

    def _tick(self, camera: _Camera) -> None:
        try:
            for turn, episode in camera.episodes.tick(_now()):
                self._take_turn(camera, turn, episode)
        except Exception:
            # Without the timer, incidents would stay open for ever.
            _LOGGER.exception("The timer of camera %s failed", camera.episodes.camera_id)

    async def _async_work(self) -> None:
        delay = RETRY_FIRST
        while not (self._stop_asked.is_set() and not self._jobs):
            self._jobs.added.clear()
            if await self._async_do_jobs():
                delay = RETRY_FIRST
                if not self._stop_asked.is_set():
                    await self._jobs.added.wait()
                continue
            if self._stop_asked.is_set():
                return
            await self._async_wait(delay)
            delay = min(delay * 2, RETRY_LONGEST)

    async def _async_wait(self, delay: float) -> None:
        """Wait for the next try; stopping cuts it short, and so does what pictures need not hold up."""
        interruption = self._jobs.added if self._jobs.only_pictures else self._stop_asked
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(interruption.wait(), delay)

    @property
    def busy(self) -> bool:
        """Whether something is not stored and announced yet."""
        return self._storing or bool(self._jobs)

    async def _async_do_jobs(self) -> bool:
        """Do what waits; return whether the store took it all."""
        self._storing = True
        try:
            return await self._async_store_all()
        finally:
            self._storing = False

    async def _async_store_all(self) -> bool:
        while self._jobs:
            job = self._jobs.first()
            try:
                await job.async_store(self._store)
            except StoreError as err:
                self._note_failure(err)
                if not self._jobs.put_back(job):
                    return False
            except Exception as err:  # noqa: BLE001
                self._drop(job, err)
            else:
                self._tell(job.announce)
        self._note_recovery()
        return True

    def _drop(self, job: _Job, err: Exception) -> None:
        """Give up what the store refuses for good: it must not hold up what comes after it."""
        if isinstance(job, _Change):
            job.fail(err)
        elif isinstance(err, LookupError):
            _LOGGER.debug("Dropped what belongs to a deleted incident: %s", err)
        else:
            _LOGGER.error("Cannot store %s; it is dropped", type(job).__name__.strip("_"), exc_info=err)

    def _tell(self, announce: Callable[[IncidentListener], None]) -> None:
        try:
            announce(self._listener)
        except Exception:
            _LOGGER.exception("A listener failed")

    def _note_failure(self, err: StoreError) -> None:
        if not self._failing:
            self._failing = True
            self._tell(lambda listener: listener.store_failed(err))

    def _note_recovery(self) -> None:
        if self._failing:
            self._failing = False
            self._tell(lambda listener: listener.store_recovered())

    def _give_up_rest(self) -> None:
        if self._jobs:
            _LOGGER.warning("Stopped before the store took all: %s changes are lost", len(self._jobs))
        while self._jobs:
            job = self._jobs.first()
            if isinstance(job, _Change):
                job.fail(_stopped())


def _stopped() -> StoreError:
    return StoreError(StoreProblem.UNREACHABLE, "stopped")


def _is_stored_as(record: _Record, incident_id: int) -> bool:
    return record.stored is not None and record.stored.id == incident_id


def _now() -> float:
    return asyncio.get_running_loop().time()
