"""The tracker, situation by situation, with exact boxes and seeded noise."""

from collections.abc import Iterable, Sequence
import itertools

import numpy as np
import pytest

from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.messages import Box, TrackState
from custom_components.nemotron_security.vision.tracker import Tracker

LABELS = ("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "cat", "dog")
PERSON, BICYCLE, CAR, TRUCK, CAT, DOG = (
    LABELS.index(name) for name in ("person", "bicycle", "car", "truck", "cat", "dog")
)
FPS = 5.0
START = 1_700_000_000.0

type Row = tuple[Box, float, int]
type Said = tuple[tuple[TrackState, ...], tuple[TrackState, ...]]


def found(*rows: Row) -> Detections:
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int32),
    )


def person(x: float, y: float = 300, score: float = 0.8, height: float = 100) -> Row:
    return Box(x - height / 5, y - height, x + height / 5, y), score, PERSON


def car(x: float, score: float = 0.8, label: int = CAR) -> Row:
    return Box(x - 100, 300, x + 100, 400), score, label


def make(**options: object) -> Tracker:
    return Tracker(LABELS, next_id=itertools.count(1).__next__, **options)  # type: ignore[arg-type]


def follow(frames: Iterable[Sequence[Row]], fps: float = FPS, tracker: Tracker | None = None) -> list[Said]:
    tracker = tracker or make()
    return [tracker.update(found(*rows), START + number / fps) for number, rows in enumerate(frames)]


def ids(said: Iterable[Said]) -> set[int]:
    return {track.track_id for live, _ in said for track in live}


def test_nothing_at_all() -> None:
    assert follow([[], [], []]) == [((), ())] * 3


def test_a_track_tells_what_it_knows() -> None:
    said = follow([[person(100 + 10 * n, score=score)] for n, score in enumerate((0.6, 0.9, 0.7, 0.8))])

    (track,) = said[-1][0]
    assert track.track_id == 1
    assert track.label == "person"
    assert track.confidence == pytest.approx(0.75)
    assert track.score == pytest.approx(0.8)
    assert track.first_seen_at == START
    assert track.last_seen_at == START + 3 / FPS
    assert track.box == pytest.approx(person(130)[0], abs=5)
    assert (track.confirmed, track.moved, track.stationary) == (True, True, False)


@pytest.mark.parametrize(
    ("scores", "confirmed_at"),
    [
        pytest.param([0.9] * 4, 2, id="three good sights"),
        pytest.param([0.9, 0.9], None, id="two are not enough"),
        pytest.param([0.6] * 20, None, id="never good enough"),
        pytest.param([0.95, 0.5, 0.5, 0.5, 0.5], None, id="a single good frame lies"),
        pytest.param([0.5] * 10 + [0.8] * 10, 15, id="the last ten decide"),
        pytest.param([0.9] * 3 + [0.5] * 20, 2, id="never taken back"),
    ],
)
def test_confirmation(scores: list[float], confirmed_at: int | None) -> None:
    said = follow([[person(100 + n, score=score)] for n, score in enumerate(scores)])

    confirmed = [live[0].confirmed for live, _ in said]
    assert confirmed == [confirmed_at is not None and n >= confirmed_at for n in range(len(scores))]


def test_the_cameras_own_threshold() -> None:
    said = follow([[person(100, score=0.6)]] * 3, tracker=make(confidence=0.55))

    assert said[-1][0][0].confirmed


def test_weak_detections_continue_a_track_and_start_none() -> None:
    assert ids(follow([[person(100, score=0.3)]] * 5)) == set()

    said = follow([[person(100, score=0.8 if n < 3 else 0.2)] for n in range(30)])
    assert ids(said) == {1}
    assert said[-1][0][0].last_seen_at == START + 29 / FPS


@pytest.mark.parametrize("score", [0.0, 0.05])
def test_the_weakest_are_ignored(score: float) -> None:
    said = follow([[person(100)]] * 3 + [[person(100, score=score)]] * 3)

    assert said[-1][0][0].last_seen_at == START + 2 / FPS


def test_a_lost_track_is_live_for_a_while_and_then_ends_once() -> None:
    said = follow([[person(100)]] * 5 + [[]] * 30)

    ends = [n for n, (_, ended) in enumerate(said) if ended]
    assert len(ends) == 1
    assert ends[0] == pytest.approx(4 + 3.0 * FPS, abs=1)
    assert said[ends[0]][1][0].track_id == 1
    assert said[ends[0]][0] == ()
    assert all(live for live, _ in said[: ends[0]])


def test_a_single_sight_is_given_up_sooner() -> None:
    said = follow([[person(100)], *[[]] * 30])

    assert next(n for n, (_, ended) in enumerate(said) if ended) <= 1.0 * FPS + 1


def test_who_walks_behind_a_tree_keeps_the_id() -> None:
    said = follow([[] if 20 <= n < 30 else [person(100 + 8 * n)] for n in range(60)])

    assert ids(said) == {1}


def test_crossing_people_keep_their_ids() -> None:
    said = follow([[person(100 + 10 * n), person(900 - 10 * n, y=310)] for n in range(80)])

    assert ids(said) == {1, 2}
    first, second = said[-1][0]
    assert first.box.left > second.box.left


def test_a_switch_needs_more_than_a_crossing_with_occlusion() -> None:
    def frame(n: int) -> list[Row]:
        near, far = person(200 + 6 * n, y=330, height=130), person(680 - 6 * n, height=110)
        return [near] if abs(near[0].left - far[0].left) < 30 else [near, far]

    said = follow([frame(n) for n in range(80)])

    assert ids(said) == {1, 2}
    assert max(said[-1][0], key=lambda track: track.box.left).track_id == 1


def test_a_label_that_flickers_makes_no_second_track() -> None:
    said = follow([[car(300 + 3 * n, label=TRUCK if n % 3 == 1 else CAR)] for n in range(40)])

    assert ids(said) == {1}
    assert {live[0].label for live, _ in said[4:]} == {"car"}


def test_one_object_under_two_labels_is_one_track() -> None:
    said = follow([[car(300), car(302, score=0.6, label=TRUCK)] for _ in range(10)])

    assert ids(said) == {1}


@pytest.mark.parametrize(("one", "other"), [(PERSON, CAR), (PERSON, DOG), (CAR, BICYCLE)])
def test_strangers_never_join(one: int, other: int) -> None:
    said = follow([[(Box(100, 100, 200, 200), 0.9, one if n < 5 else other)] for n in range(10)])

    assert ids(said) == {1, 2}


def test_only_watched_labels_are_told_but_their_doubles_help() -> None:
    tracker = make(watched=("car",))
    said = follow([[car(300, label=TRUCK if n == 4 else CAR), person(800)] for n in range(10)], tracker=tracker)

    assert ids(said) == {1}
    assert said[4][0][0].last_seen_at == START + 4 / FPS


@pytest.mark.parametrize("elsewhere", [False, True])
def test_nothing_takes_over_from_an_unwatched_look_alike_of_long_ago(*, elsewhere: bool) -> None:
    tracker = make(watched=("car",))
    assert not ids(follow([[car(300 + 20 * n, label=TRUCK)] for n in range(5)], tracker=tracker))
    later = START + 3600
    if elsewhere:
        tracker.update(found(), later - 1, looked_at=[(900, 0, 1280, 320)])
    for number in range(3):
        (parked,), _ = tracker.update(found(car(400, score=0.9)), later + number / FPS)
    assert (parked.track_id, parked.first_seen_at, parked.moved) == (2, later, False)


def test_an_unwatched_look_alike_is_remembered_for_a_while() -> None:
    tracker = make(watched=("car",))
    follow([[car(300, label=TRUCK)]] * 2, tracker=tracker)
    for number in range(3):
        live, _ = tracker.update(found(car(300)), START + 20 + number / FPS)
    assert [track.track_id for track in live] == [1]


def test_a_parked_car_never_moved_and_is_stationary() -> None:
    random = np.random.default_rng(1)
    frames = [[car(300 + random.normal(0, 2))] for _ in range(200)]
    said = follow(frames)

    assert ids(said) == {1}
    assert not any(live[0].moved for live, _ in said)
    assert not said[int(9 * FPS)][0][0].stationary
    assert said[int(12 * FPS)][0][0].stationary


def test_who_walks_past_a_parked_car_does_not_move_it() -> None:
    tracker = make()
    for number in range(60):
        passer = person(100 + 8 * number, y=420)
        cut = Box(max(200.0, passer[0].right), 300, 400, 400) if passer[0].left < 220 < passer[0].right else car(300)[0]
        live, _ = tracker.update(found((cut, 0.8, CAR), passer), START + number / FPS, motion=[passer[0]])
        parked = next(track for track in live if track.label == "car")
        assert not parked.moved


def test_a_car_that_stops_comes_to_rest_and_leaves_again() -> None:
    xs = [100 + 20 * min(n, 20) + 20 * max(0, n - 100) for n in range(110)]
    said = follow([[car(x)] for x in xs])

    assert said[10][0][0].moved
    assert not said[20][0][0].stationary
    assert said[95][0][0].stationary
    assert not said[-1][0][0].stationary
    assert ids(said) == {1}


def test_light_over_what_stands_there_since_long_moves_nothing() -> None:
    tracker = make()
    parked = car(400)
    follow([[parked]] * 15, tracker=tracker)
    for number in range(15, 30):
        live, _ = tracker.update(found(parked), START + number / FPS, motion=[parked[0]])
    assert not live[0].moved


def test_a_jolt_of_the_camera_moves_no_parked_car() -> None:
    tracker = make()
    follow([[car(300)]] * 60, tracker=tracker)
    looks = [(60, True), (61, False), (62, False), (74, False), (84, False)]  # the last ones as at what stands still
    for number, unsteady in looks:
        (parked,), _ = tracker.update(found(car(360)), START + number / FPS, unsteady=unsteady)
        assert parked.stationary
    assert not parked.moved

    (parked,), _ = tracker.update(found(car(400)), START + 90 / FPS)
    assert parked.moved
    assert not parked.stationary


def test_who_walks_through_a_change_of_light_moved() -> None:
    tracker = make()
    for number in range(30):
        (walker,), _ = tracker.update(found(person(100 + 5 * number)), START + number / FPS, unsteady=number == 5)
    assert walker.moved


def test_who_appears_in_motion_moved() -> None:
    tracker = make()
    waving = person(400)
    for number in range(4):
        live, _ = tracker.update(found(waving), START + number / FPS, motion=[Box(385, 205, 425, 300)])

    assert live[0].moved


@pytest.mark.parametrize("label", ["bicycle", "car", "truck"])
def test_a_parked_vehicle_that_headlights_reveal_has_not_moved(label: str) -> None:
    tracker = make()
    parked = car(400, label=LABELS.index(label))
    for number in range(8):
        (track,), _ = tracker.update(found(parked), START + number / FPS, motion=[parked[0]])
    assert track.confirmed
    assert not track.moved


def test_a_car_that_arrives_out_of_the_dark_moved() -> None:
    tracker = make()
    for number in range(4):
        arriving = car(400 + 15 * number)
        (track,), _ = tracker.update(found(arriving), START + number / FPS, motion=[arriving[0]])
    assert track.moved


@pytest.mark.parametrize("fps", [0.5, 1.0, 2.0, 10.0, 25.0])
def test_a_walker_at_any_frame_rate(fps: float) -> None:
    speed = 60.0  # pixels a second, at 100 pixels of height
    said = follow([[person(100 + speed * n / fps)] for n in range(30)], fps=fps)

    assert ids(said) == {1}


def test_frames_at_irregular_times() -> None:
    random = np.random.default_rng(3)
    at, tracker, seen = START, make(), set()
    for _ in range(100):
        at += random.uniform(0.03, 1.2)
        live, _ = tracker.update(found(person(100 + 50 * (at - START))), at)
        seen |= {track.track_id for track in live}

    assert seen == {1}


def test_the_same_time_twice_and_time_that_runs_back() -> None:
    tracker = make()
    for at in (START, START, START - 5, START + 1):
        live, ended = tracker.update(found(person(100)), at)

    assert [track.track_id for track in live] == [1]
    assert ended == ()


def test_who_was_not_looked_at_is_not_missing() -> None:
    tracker = make()
    for number in range(5):
        tracker.update(found(person(100), person(900)), START + number / FPS)
    for number in range(5, 60):
        live, ended = tracker.update(found(person(100)), START + number / FPS, looked_at=[(0, 0, 320, 320)])
        assert ended == ()
    assert {track.track_id for track in live} == {1, 2}

    ended_ids = [
        track.track_id
        for number in range(60, 64)
        for track in tracker.update(found(person(100)), START + number / FPS)[1]
    ]
    assert ended_ids == [2]


def test_a_long_pause_alone_ends_nothing() -> None:
    tracker = make()
    for number in range(5):
        tracker.update(found(person(100)), START + number / FPS)
    live, ended = tracker.update(found(person(104)), START + 60)

    assert [track.track_id for track in live] == [1]
    assert ended == ()


def test_a_stranger_elsewhere_is_a_new_track() -> None:
    said = follow([[person(100)]] * 5 + [[person(900)]] * 5)

    assert ids(said) == {1, 2}


def test_jitter_and_missed_detections_of_a_crowd() -> None:
    random = np.random.default_rng(9)
    frames: list[list[Row]] = []
    for n in range(200):
        rows = [person(100 + 110 * i + 40 * np.sin(n / 15 + i) + random.normal(0, 2)) for i in range(10)]
        frames.append([row for row in rows if random.random() > 0.1])

    assert ids(follow(frames)) == set(range(1, 11))


def test_ids_are_shared_between_cameras() -> None:
    counter = itertools.count(7)
    first, second = (Tracker(LABELS, next_id=counter.__next__) for _ in range(2))
    one, _ = first.update(found(person(100)), START)
    two, _ = second.update(found(person(100)), START)

    assert [one[0].track_id, two[0].track_id] == [7, 8]


def test_clearing_ends_every_track() -> None:
    tracker = make()
    tracker.update(found(person(100), car(600)), START)

    assert {track.track_id for track in tracker.clear()} == {1, 2}
    assert tracker.clear() == ()
    assert tracker.update(found(), START + 1) == ((), ())


def test_boxes_without_area_do_no_harm() -> None:
    row = (Box(50, 50, 50, 50), 0.9, PERSON)
    said = follow([[row, person(300)]] * 10)

    assert all(np.isfinite(track.box).all() for live, _ in said for track in live)


def test_of_two_boxes_around_one_car_the_known_track_keeps_the_better_one() -> None:
    """A car that turns is found in two halves for a moment, then as a whole that is more like the new half."""
    frames: list[list[Row]] = [[(Box(1000, 200, 1200, 280), 0.8, CAR)] for _ in range(6)]
    frames.append([(Box(1000, 200, 1200, 280), 0.6, CAR), (Box(880, 200, 1000, 280), 0.7, CAR)])
    frames += [[(Box(900, 200, 1100, 280), 0.85, CAR)] for _ in range(10)]
    said = follow(frames)
    confirmed = [{track.track_id for track in live if track.confirmed} for live, _ in said]
    assert set().union(*confirmed) == {1}
    (last,) = said[-1][0]
    assert last.track_id == 1
    assert last.box == pytest.approx(frames[-1][0][0], abs=8)


def test_a_new_object_that_leaps_is_still_one() -> None:
    """What is dearer for being new must not become impossible: alone, it is the same object all the same."""
    assert ids(follow([[person(100 + 40 * n)] for n in range(5)])) == {1}
