"""Tests of what opens, joins, keeps going, ends and splits an incident: pure logic, times given."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given, strategies as st

from custom_components.nemotron_security.episodes import Change, Episode, Episodes, Turn
from custom_components.nemotron_security.vision.messages import Box, FrameTracks, TrackState

START = 1_780_000_000.0
"""Unix time at which these stories begin."""
QUIET = 10.0
LONGEST = 60.0


def seen(track_id: int = 1, at: float = 0, *, since: float = 0, label: str = "person", **changes: Any) -> TrackState:
    """Make a track that is seen `at` seconds after the start, first `since`."""
    values: dict[str, Any] = {
        "track_id": track_id,
        "label": label,
        "confidence": 0.9,
        "score": 0.85,
        "box": Box(10, 20, 110, 220),
        "first_seen_at": START + since,
        "last_seen_at": START + at,
        "confirmed": True,
        "moved": True,
        "stationary": False,
    }
    return TrackState(**values | changes)


def frame(at: float, *tracks: TrackState, ended: Iterable[TrackState] = (), camera_id: str = "door") -> FrameTracks:
    return FrameTracks(
        camera_id=camera_id,
        frame_id=int(at * 1000),
        captured_at=START + at,
        width=1280,
        height=720,
        tracks=tracks,
        ended=tuple(ended),
    )


class Story:
    """A camera before which things happen; keeps what changed."""

    def __init__(self) -> None:
        self.camera = Episodes("door", quiet_time=QUIET, maximum_length=LONGEST)
        self.changes: list[Change] = []

    def at(self, time: float, *tracks: TrackState, now: float | None = None, **kwargs: Any) -> None:
        self.changes += self.camera.see(frame(time, *tracks, **kwargs), time if now is None else now)

    def silence(self, now: float) -> None:
        self.changes += self.camera.tick(now)

    def walk(self, begin: int, end: int, track_id: int = 1, **changes: Any) -> None:
        for time in range(begin, end):
            self.at(time, seen(track_id, time, since=begin, **changes))

    @property
    def turns(self) -> list[Turn]:
        return [change.turn for change in self.changes]

    @property
    def episodes(self) -> list[Episode]:
        return [change.episode for change in self.changes if change.turn is Turn.OPENED]

    def seconds(self, number: int = 0) -> tuple[float, float | None]:
        """Return when an episode began and ended, in seconds after the start."""
        episode = self.episodes[number]
        ended = episode.ended_at.timestamp() - START if episode.ended_at else None
        return episode.started_at.timestamp() - START, ended


def test_only_what_is_confirmed_and_moved_opens() -> None:
    story = Story()
    story.at(0, seen(1, confirmed=False), seen(2, moved=False), seen(3, label="car", stationary=True))
    assert not story.changes
    story.at(1, seen(4, 1))
    assert story.turns == [Turn.OPENED]
    assert list(story.episodes[0].tracks) == [4]


def test_begins_with_the_first_sight() -> None:
    story = Story()
    story.at(2, seen(1, 2, since=1.5))
    assert story.seconds() == (1.5, None)


def test_what_rested_for_an_hour_begins_when_it_moves() -> None:
    story = Story()
    story.at(3600, seen(1, 3600, since=0, label="car"))
    assert story.seconds() == (3600, None)


def test_overlapping_and_following_tracks_join() -> None:
    story = Story()
    story.at(0, seen(1))
    story.at(1, seen(1, 1), seen(2, 1, since=1, label="dog"))
    story.at(9, seen(3, 9, since=8.5))
    assert story.turns == [Turn.OPENED]
    assert list(story.episodes[0].tracks) == [1, 2, 3]
    assert story.episodes[0].labels == ("person", "dog")


def test_ends_with_the_last_sight_when_frames_go_on() -> None:
    story = Story()
    story.walk(0, 5)
    for time in range(5, 14):
        story.at(time)
    assert story.turns == [Turn.OPENED]
    story.at(14)
    assert story.turns == [Turn.OPENED, Turn.ENDED]
    assert story.seconds() == (0, 4)


def test_ends_when_no_frame_comes_any_more() -> None:
    story = Story()
    story.walk(0, 5)
    story.silence(13.9)
    assert story.turns == [Turn.OPENED]
    story.silence(14)
    assert story.turns == [Turn.OPENED, Turn.ENDED]
    assert story.seconds() == (0, 4)
    story.silence(100)
    assert len(story.turns) == 2


def test_who_comes_after_the_quiet_time_opens_the_next_even_without_a_tick() -> None:
    story = Story()
    story.at(0, seen(1))
    story.at(10.5, seen(2, 10.5, since=10.5))
    assert story.turns == [Turn.OPENED, Turn.ENDED, Turn.OPENED]


def test_hidden_track_does_not_count_as_seen() -> None:
    story = Story()
    story.at(0, seen(1))
    for time in range(1, 11):
        story.at(time, seen(1, 0))
    assert story.turns == [Turn.OPENED, Turn.ENDED]
    assert story.seconds() == (0, 0)


def test_last_words_of_an_ended_track_are_kept() -> None:
    story = Story()
    story.at(0, seen(1))
    story.at(1, ended=[seen(1, 0.8, confidence=0.95)])
    assert story.episodes[0].tracks[1].confidence == 0.95
    assert story.episodes[0].last_seen_at.timestamp() == START + 0.8


def test_car_that_parks_lets_it_end_and_opens_no_other() -> None:
    story = Story()
    story.walk(0, 10, label="car")
    for time in range(10, 120):
        story.at(time, seen(1, time, label="car", stationary=True))
    assert story.turns == [Turn.OPENED, Turn.ENDED]
    assert story.seconds() == (0, 10)
    assert story.episodes[0].tracks[1].dwell == 10
    story.at(121, seen(1, 121, label="car"))
    assert story.turns[-1] is Turn.OPENED


def test_person_who_stands_still_keeps_it_open() -> None:
    story = Story()
    story.walk(0, 5)
    story.walk(5, 55, stationary=True)
    assert story.turns == [Turn.OPENED]


def test_parked_car_does_not_join_the_incident_of_a_person() -> None:
    story = Story()
    parked = [seen(1, time, label="car", stationary=True) for time in range(3)]
    for time, car in enumerate(parked):
        story.at(time, car, seen(2, time))
    assert list(story.episodes[0].tracks) == [2]


def test_split_at_maximum_length_goes_on_with_who_moves() -> None:
    story = Story()
    story.walk(0, 150)
    assert story.turns == [Turn.OPENED, Turn.ENDED, Turn.OPENED, Turn.ENDED, Turn.OPENED]
    assert story.seconds(0) == (0, 60)
    assert story.seconds(1) == (60, 120)
    assert list(story.episodes[1].tracks) == [1]


def test_what_passes_for_a_person_and_never_moves_makes_no_chain() -> None:
    story = Story()
    story.walk(0, 3)
    story.walk(3, 1000, stationary=True)
    assert story.turns == [Turn.OPENED, Turn.ENDED]
    assert story.seconds() == (0, 60)
    story.walk(1000, 1002)
    assert story.turns == [Turn.OPENED, Turn.ENDED, Turn.OPENED]


def test_clock_that_jumps_back_neither_splits_nor_stalls() -> None:
    story = Story()
    story.walk(0, 5)
    for second in range(5, 20):
        behind = second - 3600
        story.at(behind, seen(1, behind), now=second)
    assert story.turns == [Turn.OPENED]
    for second in range(20, 31):
        story.at(second - 3600, now=second)
    assert story.turns == [Turn.OPENED, Turn.ENDED]
    began, ended = story.seconds()
    assert ended is not None
    assert ended >= began


def test_after_a_clock_that_jumped_back_the_next_has_the_new_time() -> None:
    story = Story()
    story.walk(0, 5)
    story.silence(15)
    story.at(-3600, seen(2, -3600, since=-3600), now=20)
    assert story.seconds(1) == (-3600, None)


def test_clock_that_jumps_ahead_does_not_end_what_goes_on() -> None:
    story = Story()
    story.camera.maximum_length = 100_000
    story.walk(0, 5)
    story.at(3600, seen(1, 3600), now=6)
    assert story.turns == [Turn.OPENED]


def test_worker_that_starts_again_continues_the_incident() -> None:
    story = Story()
    story.walk(0, 5)
    story.silence(9)
    story.at(11, seen(77, 11, since=11))
    assert story.turns == [Turn.OPENED]
    assert list(story.episodes[0].tracks) == [1, 77]


def test_end_of_a_camera_is_the_end_of_its_incident() -> None:
    story = Story()
    assert story.camera.end() == []
    story.walk(0, 3)
    story.changes += story.camera.end()
    assert story.turns == [Turn.OPENED, Turn.ENDED]
    assert story.seconds() == (0, 2)


def test_detections_of_a_track_once_a_second() -> None:
    story = Story()
    chosen = 0
    for step in range(50):
        shot = frame(step / 10, seen(1, step / 10))
        story.camera.see(shot, step / 10)
        chosen += len(story.camera.detections(shot))
    assert chosen == 5


def test_detections_of_a_camera_five_a_second_and_fairly() -> None:
    story = Story()
    chosen: list[int] = []
    for second in range(10):
        shot = frame(second, *(seen(track_id, second) for track_id in range(20)))
        story.camera.see(shot, second)
        chosen += [detection.track_id for detection in story.camera.detections(shot)]
    assert len(chosen) == 50
    assert all(chosen.count(track_id) in (2, 3) for track_id in range(20))


def test_detections_only_of_what_is_confirmed_and_in_sight() -> None:
    story = Story()
    shot = frame(5, seen(1, 5, confirmed=False), seen(2, 4), seen(3, 5))
    story.camera.see(shot, 5)
    (detection,) = story.camera.detections(shot)
    assert detection.track_id == 3
    assert (detection.object_type, detection.confidence, detection.box) == ("person", 0.85, Box(10, 20, 110, 220))
    assert (detection.frame_width, detection.frame_height, detection.id) == (1280, 720, 0)


def test_parked_car_is_a_detection_once_a_minute() -> None:
    story = Story()
    chosen = 0
    for second in range(180):
        shot = frame(second, seen(1, second, label="car", moved=False, stationary=True))
        story.camera.see(shot, second)
        chosen += len(story.camera.detections(shot))
    assert chosen == 3


STEPS = st.lists(
    st.tuples(
        st.floats(-100, 100),  # what the clock says later
        st.floats(0, 20),  # what really passes
        st.lists(
            st.tuples(
                st.integers(1, 5), st.sampled_from(["person", "car"]), st.booleans(), st.booleans(), st.floats(0, 5)
            ),
            max_size=4,
            unique_by=lambda item: item[0],
        ),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_episodes_are_sound(steps: list[tuple[float, float, list[Any]]]) -> None:
    story = Story()
    clock = now = 0.0
    for later, passed, tracks in steps:
        clock, now = clock + later, now + passed
        story.silence(now)
        states = [
            seen(track_id, clock - hidden, since=clock - hidden - 1, label=label, moved=moved, stationary=still)
            for track_id, label, moved, still, hidden in tracks
        ]
        story.at(clock, *states, now=now)
    story.changes += story.camera.end()
    # Every episode opens once, then ends once, and only then the next opens.
    assert story.turns == [Turn.OPENED, Turn.ENDED] * len(story.episodes)
    for episode in story.episodes:
        assert episode.tracks
        assert episode.ended_at is not None
        assert episode.started_at <= episode.ended_at == episode.last_seen_at
        assert all(track.dwell >= 0 for track in episode.tracks.values())
