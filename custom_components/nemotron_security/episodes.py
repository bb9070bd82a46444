"""What happens before one camera: tracks open an incident, join it, keep it going and let it end.

Pure logic without a clock, a task or a store of its own: the caller brings the frames and the time.

The rules:
    - A track counts once it is confirmed and has moved. One that came to rest counts no longer, unless it is a person.
    - The first track that counts opens an incident; every further one that counts joins it.
    - Where the owner chose zones or entry lines for that, only a track that is in one opens it, and only one that has
      been in one joins it: who passes on the pavement neither opens nor prolongs what happens in the garden.
    - What stands where a person called something of its kind harmless does not count, until it leaves that place.
    - It ends when nothing that counts was seen for the quiet time; its end is the last sight.
    - It is split at its maximum length: it ends, and the tracks that still move open the next. What rests at a split,
      a person too, must move again to count: a coat on a hook that passes for a person makes one incident, no chain.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
import math
from typing import Final, NamedTuple

from .models import ANIMALS, PERSONS, VEHICLES, Detection, HarmlessPlace, Track, iou
from .vision.messages import FrameTracks, TrackState

DETECTION_INTERVAL: Final = 1.0
"""Seconds between two detections of a track."""
STILL_DETECTION_INTERVAL: Final = 60.0
"""Likewise of an object that rests: it brings no news."""
DETECTIONS_PER_SECOND: Final = 5
"""Of one camera, whatever the number of its tracks."""
HARMLESS_OVERLAP: Final = 0.4
"""Intersection over union with a harmless place from which on an object stands there: boxes of still things tremble."""
HARMLESS_LIVING_OVERLAP: Final = 0.6
"""Likewise of what passes for a person or an animal: one that really lives must not be missed for standing nearby."""
IN_SIGHT: Final = 1.0
"""Seconds for which a track that is hidden still counts as present enough to open an incident."""


class EpisodeClock:
    """Seconds of a camera's own time: it follows the frames, runs on between them and never goes back.

    The frames' times are the machine's clock (or a file's own time), which may be set back by any amount: such a step
    counts as no time at all.
    """

    def __init__(self) -> None:
        """Begin at 0."""
        self.elapsed = 0.0
        self._captured_at: float | None = None
        self._followed_at: float | None = None

    def follow(self, captured_at: float, now: float) -> float:
        """Take a frame's time and the monotonic `now`; return the seconds so far."""
        if self._captured_at is not None:
            self.elapsed += max(0.0, captured_at - self._captured_at)
        else:
            self.elapsed = self.read(now)
        self._captured_at, self._followed_at = captured_at, now
        return self.elapsed

    def read(self, now: float) -> float:
        """Return the seconds so far at the monotonic `now`, counting on since the last frame or, without, this call."""
        if self._followed_at is None:
            self._followed_at = now
        return self.elapsed + max(0.0, now - self._followed_at)


@dataclass(slots=True, eq=False)
class Episode:
    """An incident while the camera makes it. Mutable, and its camera's own: others only read it."""

    camera_id: str
    started_at: datetime
    last_seen_at: datetime
    opened: float
    """Time of the clock at which it began."""
    seen: float
    """Time of the clock at which something that counts was seen last."""
    ended_at: datetime | None = None
    trigger: str | None = None
    """What in the house opened it, before the camera saw anything."""
    tracks: dict[int, Track] = field(default_factory=dict)
    """All that took part, by id, in the order in which they joined."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What took part, the first seen first, each once."""
        return tuple(dict.fromkeys(track.label for track in self._in_order()))

    @property
    def zones(self) -> tuple[str, ...]:
        """Where they have been, each zone and entry line once."""
        return tuple(dict.fromkeys(zone for track in self._in_order() for zone in track.zones))

    def _in_order(self) -> list[Track]:
        return sorted(self.tracks.values(), key=lambda track: track.first_seen_at)


class Turn(StrEnum):
    """What became of an episode."""

    OPENED = "opened"
    ENDED = "ended"


class Change(NamedTuple):
    """One turn of one episode."""

    turn: Turn
    episode: Episode


class Episodes:
    """One camera's incidents. `episode` is the one that goes on, if there is one."""

    def __init__(self, camera_id: str, *, quiet_time: float, maximum_length: float) -> None:
        """Begin with nothing seen; both times are seconds."""
        self.camera_id = camera_id
        self.quiet_time = quiet_time
        self.maximum_length = maximum_length
        self.opening_zones: frozenset[str] = frozenset()
        """Names of the zones and entry lines that can open an incident; empty for the whole picture."""
        self._harmless: tuple[HarmlessPlace, ...] = ()
        self.episode: Episode | None = None
        self.clock = EpisodeClock()
        self._settled: set[int] = set()
        self._strays: dict[int, bool] = {}
        """Of each live track, whether it was seen elsewhere than at a harmless place."""
        self._last_end: datetime | None = None
        self._pace = DetectionPace()

    def set_harmless(self, places: tuple[HarmlessPlace, ...]) -> None:
        """Take note where something of a kind is no news; what lives now is judged by where it stands now."""
        if places != self._harmless:
            self._harmless = places
            self._strays.clear()

    def see(self, frame: FrameTracks, now: float) -> list[Change]:
        """Take one frame's tracks at the monotonic `now`; return what changed, in order."""
        time = self.clock.follow(frame.captured_at, now)
        self._settled.intersection_update(track.track_id for track in frame.tracks if track.stationary)
        self._strays = {track.track_id: self._strayed(track, frame) for track in frame.tracks}
        changes = [*self._end_if_quiet(frame, time), *self._split_if_long(frame, time)]
        if self.episode is None:
            changes += self._open(frame, time)
        self._gather(frame, time)
        return changes

    def open(self, trigger: str, at: datetime, now: float) -> list[Change]:
        """Open an incident though nothing was seen: something in the house says that somebody is there.

        It ends like every other one, when nothing that counts was seen for the quiet time. One that goes on is kept.
        """
        if self.episode is not None:
            return []
        time = self.clock.read(now)
        self.episode = Episode(self.camera_id, at, at, opened=time, seen=time, trigger=trigger)
        return [Change(Turn.OPENED, self.episode)]

    def tick(self, now: float) -> list[Change]:
        """Let time pass without a frame; return what changed."""
        episode = self.episode
        if episode and self.clock.read(now) - episode.seen >= self.quiet_time:
            return [self._finish(episode)]
        return []

    def end(self) -> list[Change]:
        """End what goes on at its last sight: the camera goes away."""
        return [self._finish(self.episode)] if self.episode else []

    def detections(self, frame: FrameTracks) -> list[Detection]:
        """Return the sights in this frame, just given to `see`, that are worth a row: at a bounded rate."""
        chosen = self._pace.choose(frame, self.clock.elapsed, self._counts)
        return [_detection(track, frame) for track in chosen]

    def _counts(self, track: TrackState) -> bool:
        """Whether the track joins an incident and keeps it going."""
        if not track.confirmed or not track.moved or track.track_id in self._settled:
            return False
        if not self._strays.get(track.track_id, True):
            return False
        if self.opening_zones and self.opening_zones.isdisjoint(track.visited):
            return False
        return track.label == "person" or not track.stationary

    def _strayed(self, track: TrackState, frame: FrameTracks) -> bool:
        if not self._harmless or self._strays.get(track.track_id, False):
            return True
        here = track.box.in_shares(frame.width, frame.height)
        overlap = HARMLESS_LIVING_OVERLAP if track.label in PERSONS | ANIMALS else HARMLESS_OVERLAP
        return not any(
            _kind(place.label) == _kind(track.label) and iou(here, place.box) >= overlap for place in self._harmless
        )

    def _opens(self, track: TrackState) -> bool:
        """Whether the track also opens one."""
        return self._counts(track) and not (self.opening_zones and self.opening_zones.isdisjoint(track.zones))

    def _end_if_quiet(self, frame: FrameTracks, time: float) -> list[Change]:
        episode = self.episode
        if episode is None:
            return []
        counting = [track for track in frame.tracks if self._counts(track)]
        members = [track for track in counting if track.track_id in episode.tracks]
        episode.seen = max([episode.seen, *(time - _hidden_for(track, frame) for track in members)])
        # Without a member the silence lasts until a newcomer is seen: who comes after the quiet time opens the next.
        newcomers = [] if members else counting
        until = max((time - _hidden_for(track, frame) for track in newcomers), default=time)
        return [self._finish(episode)] if until - episode.seen >= self.quiet_time else []

    def _split_if_long(self, frame: FrameTracks, time: float) -> list[Change]:
        episode = self.episode
        if episode is None or time - episode.opened < self.maximum_length:
            return []
        self._note_last_sights(episode, frame)
        self._settled.update(track.track_id for track in frame.tracks if track.stationary)
        return [self._finish(episode)]

    def _open(self, frame: FrameTracks, time: float) -> list[Change]:
        openers = [t for t in frame.tracks if self._opens(t) and _hidden_for(t, frame) < IN_SIGHT]
        if not openers:
            return []
        captured_at = _datetime(frame.captured_at)
        begin = min(captured_at, *(_datetime(track.first_seen_at) for track in openers))
        # What rested for hours before it moved did not begin then; after a split, the new begins where the old ended.
        if (captured_at - begin).total_seconds() > self.quiet_time:
            begin = captured_at
        if self._last_end and begin < self._last_end <= captured_at:
            begin = self._last_end
        self.episode = Episode(self.camera_id, begin, captured_at, opened=time, seen=time)
        self._gather(frame, time)
        return [Change(Turn.OPENED, self.episode)]

    def _gather(self, frame: FrameTracks, time: float) -> None:
        """Let what counts join the episode, and note the last sights of all that took part."""
        episode = self.episode
        if episode is None:
            return
        for track in frame.tracks:
            if self._counts(track):
                episode.tracks.setdefault(track.track_id, _track(track, frame))
                episode.seen = max(episode.seen, time - _hidden_for(track, frame))
        self._note_last_sights(episode, frame)

    def _note_last_sights(self, episode: Episode, frame: FrameTracks) -> None:
        for track in (*frame.tracks, *frame.ended):
            known = episode.tracks.get(track.track_id)
            # What came to rest is noted once; how long it then rests is not the incident's.
            if known is None or (known.stationary and not self._counts(track)):
                continue
            episode.tracks[track.track_id] = _track(track, frame)
            episode.last_seen_at = max(episode.last_seen_at, _datetime(min(track.last_seen_at, frame.captured_at)))

    def _finish(self, episode: Episode) -> Change:
        episode.ended_at = episode.last_seen_at
        self.episode, self._last_end = None, episode.ended_at
        return Change(Turn.ENDED, episode)


class DetectionPace:
    """Chooses the sights that are worth a row: the longest unheard tracks first, each track and the camera bounded."""

    def __init__(self) -> None:
        """Begin with nothing chosen."""
        self._chosen_at: dict[int, float] = {}
        self._recent: deque[float] = deque(maxlen=DETECTIONS_PER_SECOND)

    def choose(self, frame: FrameTracks, time: float, counts: Callable[[TrackState], bool]) -> list[TrackState]:
        """Return the confirmed tracks of this frame whose sight is due at the time `time`."""
        live = {track.track_id for track in frame.tracks}
        self._chosen_at = {track_id: at for track_id, at in self._chosen_at.items() if track_id in live}
        waiting = [track for track in frame.tracks if track.confirmed and not _hidden_for(track, frame)]
        waiting = [track for track in waiting if self._due(track, time, counts)]
        waiting.sort(key=lambda track: self._chosen_at.get(track.track_id, -math.inf))
        return [track for track in waiting if self._take(track, time)]

    def _due(self, track: TrackState, time: float, counts: Callable[[TrackState], bool]) -> bool:
        interval = DETECTION_INTERVAL if counts(track) else STILL_DETECTION_INTERVAL
        return time - self._chosen_at.get(track.track_id, -math.inf) >= interval

    def _take(self, track: TrackState, time: float) -> bool:
        if len(self._recent) == self._recent.maxlen and time - self._recent[0] < 1.0:
            return False
        self._recent.append(time)
        self._chosen_at[track.track_id] = time
        return True


def _kind(label: str) -> str:
    """Return what a label stands for: detectors take a van for a car now and for a truck then."""
    return "vehicle" if label in VEHICLES else "animal" if label in ANIMALS else label


def _hidden_for(track: TrackState, frame: FrameTracks) -> float:
    """Return the seconds since the track was really seen."""
    return max(0.0, frame.captured_at - track.last_seen_at)


def _datetime(timestamp: float) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _track(track: TrackState, frame: FrameTracks) -> Track:
    first_seen_at = _datetime(track.first_seen_at)
    return Track(
        track_id=track.track_id,
        label=track.label,
        confidence=track.confidence,
        first_seen_at=first_seen_at,
        # The clock may have been set back since the first sight.
        last_seen_at=max(first_seen_at, _datetime(track.last_seen_at)),
        box=track.box,
        frame_width=frame.width,
        frame_height=frame.height,
        stationary=track.stationary,
        zones=track.visited,
    )


def _detection(track: TrackState, frame: FrameTracks) -> Detection:
    return Detection(
        id=0,
        incident_id=None,
        track_id=track.track_id,
        camera_id=frame.camera_id,
        object_type=track.label,
        confidence=track.score,
        detected_at=_datetime(frame.captured_at),
        box=track.box,
        frame_width=frame.width,
        frame_height=frame.height,
        zones=track.zones,
    )
