"""Tracks become incidents: stored first, then announced.

`episodes.py` says what happens before a camera. Here every change becomes a job, and one task does the jobs in order:
it stores what changed and only then announces it. While the store fails, jobs wait in memory (detections and pictures
bounded, incidents never dropped) and are tried again with back-off.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
import contextlib
from datetime import UTC, datetime
import logging
from typing import Final

from .analysis import Case
from .episodes import Episode, Episodes, Turn
from .incident_jobs import (
    AddDetections,
    AddPicture,
    Change,
    IncidentListener,
    Job,
    Jobs,
    LoadPlaces,
    Record,
    Recover,
    Save,
    Start,
)
from .models import Assessment, HarmlessPlace, House, Incident, Review, risk_level
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
PICTURES_BEFORE_INCIDENT: Final = 8
"""Pictures kept per camera of tracks that are in no incident yet."""
ENDED_REMEMBERED: Final = 4
"""Ended incidents per camera that late pictures still find."""


class _Camera:
    """One camera's episodes and their records."""

    def __init__(self, episodes: Episodes) -> None:
        self.episodes = episodes
        self.record: Record | None = None
        self.ended: deque[Record] = deque(maxlen=ENDED_REMEMBERED)
        self.early_pictures: dict[int, TrackPicture] = {}

    def records(self) -> Iterable[Record]:
        """Return the present record and the last ones, the newest first."""
        return (*((self.record,) if self.record else ()), *reversed(self.ended))

    def record_of(self, track_id: int) -> Record | None:
        return next((record for record in self.records() if track_id in record.episode.tracks), None)

    def keep_early(self, picture: TrackPicture) -> None:
        """Keep the picture of a track that is in no incident, until it is in one."""
        self.early_pictures.pop(picture.track_id, None)
        self.early_pictures[picture.track_id] = picture
        while len(self.early_pictures) > PICTURES_BEFORE_INCIDENT:
            del self.early_pictures[next(iter(self.early_pictures))]


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
        self._jobs = Jobs()
        self._tasks: list[asyncio.Task[None]] = []
        self._failing = False
        self._storing = False
        self._stop_asked = asyncio.Event()

    async def async_start(self) -> None:
        """Begin. What a crash left open is closed with its last sight and announced as ended, before anything else."""
        self._jobs.add(Recover())
        self._jobs.add(LoadPlaces(self._use_places))
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
            self._jobs.add(AddDetections(camera.record, detections))
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
            self._jobs.add(AddPicture(camera.record, picture))

    def handle_picture(self, picture: TrackPicture) -> None:
        """Take the best view of a track so far."""
        camera = self._camera(picture.camera_id)
        if record := camera.record_of(picture.track_id):
            self._jobs.add(AddPicture(record, picture))
        else:
            camera.keep_early(picture)

    def camera_lost(self, camera_id: str) -> None:
        """Let the camera's incident go on for the quiet time, so that tracks which come back, and new ones, join it."""
        if camera := self._cameras.get(camera_id):
            camera.early_pictures.clear()

    def camera_removed(self, camera_id: str) -> None:
        """End the camera's incident and forget the camera."""
        self._opening_zones.pop(camera_id, None)
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
        self._jobs.add(LoadPlaces(self._use_places))

    def _use_places(self, places: Sequence[HarmlessPlace]) -> None:
        self._harmless = {
            camera_id: tuple(place for place in places if place.camera_id == camera_id)
            for camera_id in {place.camera_id for place in places}
        }
        for camera_id, camera in self._cameras.items():
            camera.episodes.set_harmless(self._harmless.get(camera_id, ()))

    async def _async_change(
        self, incident_id: int, change: Callable[[Store], Awaitable[Incident]], *, news: Callable[[Incident], bool]
    ) -> Incident:
        if self._stop_asked.is_set():
            raise _stopped()
        done: asyncio.Future[Incident] = asyncio.get_running_loop().create_future()
        record = next((record for record in self._records() if _is_stored_as(record, incident_id)), None)
        self._jobs.add(Change(change, record, done, news))
        return await done

    def _records(self) -> Iterable[Record]:
        return (record for camera in self._cameras.values() for record in camera.records())

    def _camera(self, camera_id: str) -> _Camera:
        if camera_id not in self._cameras:
            episodes = Episodes(camera_id, quiet_time=self._quiet_time, maximum_length=self._maximum_length)
            episodes.opening_zones = self._opening_zones.get(camera_id, frozenset())
            episodes.set_harmless(self._harmless.get(camera_id, ()))
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
            camera.record = record = Record(episode, self._rules(self._case(episode)), time, time)
            record.told = record.extent
            self._jobs.add(Start(record))
        elif ended := camera.record:
            camera.record = None
            camera.ended.append(ended)
            # The rules have the last word: their summary tells the whole stay. Should they fail, it ends all the same.
            self._jobs.add(Save(ended, tell=True, assess=True))
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
        self._jobs.add(Save(record, tell=assess or grew, assess=assess))

    def _judge_again(self, record: Record) -> bool:
        """Let the rules judge; return whether their verdict changed notably."""
        before, after = record.assessment, self._rules(self._case(record.episode))
        difference = abs(after.risk_score - before.risk_score)
        same = after.floor is before.floor and risk_level(after.risk_score) is risk_level(before.risk_score)
        if same and difference < NOTABLE_SCORE_CHANGE:
            return False
        record.assessment = after
        return True

    def _add_early_pictures(self, camera: _Camera) -> None:
        for track_id, picture in list(camera.early_pictures.items()):
            if record := camera.record_of(track_id):
                self._jobs.add(AddPicture(record, picture))
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

    def _drop(self, job: Job, err: Exception) -> None:
        """Give up what the store refuses for good: it must not hold up what comes after it."""
        if isinstance(job, Change):
            job.fail(err)
        elif isinstance(err, LookupError):
            _LOGGER.debug("Dropped what belongs to a deleted incident: %s", err)
        else:
            _LOGGER.error("Cannot store %s; it is dropped", type(job).__name__, exc_info=err)

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
            if isinstance(job, Change):
                job.fail(_stopped())


def _stopped() -> StoreError:
    return StoreError(StoreProblem.UNREACHABLE, "stopped")


def _is_stored_as(record: Record, incident_id: int) -> bool:
    return record.stored is not None and record.stored.id == incident_id


def _now() -> float:
    return asyncio.get_running_loop().time()
