"""What stands still: it is kept while something hides it, keeps its identity, and goes when its place is seen empty."""

from collections.abc import Callable, Sequence

import pytest

from custom_components.nemotron_security.vision.messages import Box, TrackState

from .test_tracker import BICYCLE, CAR, FPS, PERSON, START, TRUCK, Row, follow, found, ids, make, person

PARKED = Box(400, 300, 600, 400)
PARKED_AT = 15.0
"""Seconds after which the car has been at rest for long enough."""


def visible(box: Box, cover: Box | None) -> Box | None:
    """What is left of a box behind another that stands on the same ground; None where it is too little to be known."""
    if cover is None or cover.right <= box.left or cover.left >= box.right:
        return box
    left = Box(box.left, box.top, max(box.left, cover.left), box.bottom)
    right = Box(min(box.right, cover.right), box.top, box.right, box.bottom)
    larger = max(left, right, key=lambda part: part.width)
    return larger if larger.width >= 0.4 * box.width else None


def passing(seconds: float, cover: Callable[[float], Row | None], *, stays: bool = True) -> list[list[Row]]:
    """Frames of a parked car, and of something that comes before it after `PARKED_AT` seconds."""
    frames = []
    for number in range(int(seconds * FPS)):
        at = number / FPS - PARKED_AT
        other = cover(at) if at >= 0 else None
        seen = visible(PARKED, other[0] if other else None)
        rows = [other] if other else []
        if seen is not None and (stays or at < 10):
            rows.append((seen, 0.8, CAR))
        frames.append(rows)
    return frames


def van(left: float) -> Row:
    return Box(left, 250, left + 260, 420), 0.85, TRUCK


def stopping_van(at: float, leaves: float = 180.0) -> Row | None:
    """Drive up from the left in 5 s, stand before the car, leave to the right."""
    left = 370 - 100 * max(0.0, 5 - at) + 120 * max(0.0, at - leaves)
    return van(left) if left < 1280 else None


def of(track_id: int, tracks: Sequence[TrackState]) -> TrackState:
    return next(track for track in tracks if track.track_id == track_id)


def test_a_parked_car_outlasts_a_van_that_stops_before_it_for_minutes() -> None:
    said = follow(passing(230, stopping_van))

    assert ids(said) == {1, 2}
    assert [track.track_id for _, ended in said for track in ended] == [2]
    assert not any(of(1, live).moved for live, _ in said)
    assert all(of(1, live).stationary for live, _ in said[int((PARKED_AT + 1) * FPS) :])
    assert of(1, said[-1][0]).box == pytest.approx(PARKED, abs=10)
    hidden = of(1, said[int((PARKED_AT + 100) * FPS)][0])
    assert hidden.box == pytest.approx(PARKED, abs=10)
    assert hidden.last_seen_at < START + PARKED_AT + 6, "what is not seen is not said to be"


def test_a_parked_car_outlasts_who_stands_before_it() -> None:
    def somebody(at: float) -> Row | None:
        if at > 150:
            return None
        return person(500 if at > 5 else 300 + 40 * at, y=420, height=220)

    frames = [rows[:1] if rows[0][2] == PERSON and rows[0][0].left > 440 else rows for rows in passing(180, somebody)]
    said = follow(frames)

    assert ids(said) == {1, 2}
    assert [track.track_id for _, ended in said for track in ended] == [2]
    assert not any(of(1, live).moved for live, _ in said)
    assert of(1, said[-1][0]).last_seen_at == START + (len(frames) - 1) / FPS


def test_a_car_that_drove_off_behind_a_van_is_gone_once_its_place_is_seen() -> None:
    said = follow(passing(230, stopping_van, stays=False))

    ends = [(number / FPS - PARKED_AT, track.track_id) for number, (_, ended) in enumerate(said) for track in ended]
    assert [track_id for _, track_id in ends] in ([1, 2], [2, 1])
    gone_at = next(at for at, track_id in ends if track_id == 1)
    assert 180 < gone_at < 190


@pytest.mark.parametrize("pause", [0.2, 2.0, 30.0])
def test_a_car_that_drove_off_unnoticed_takes_several_looks_to_be_gone(pause: float) -> None:
    tracker = make()
    for number in range(int(PARKED_AT * FPS)):
        tracker.update(found((PARKED, 0.8, CAR)), START + number / FPS)
    ends: list[int] = []
    for look in range(30):
        _, ended = tracker.update(found(), START + PARKED_AT + pause + look * 0.2)
        assert tracker.in_doubt == (look <= 15)
        ends += [look for _ in ended]
    assert ends == [15], "three seconds of looks"


def test_a_look_in_vain_or_two_end_nothing() -> None:
    tracker = make()
    for number in range(int(PARKED_AT * FPS)):
        tracker.update(found((PARKED, 0.8, CAR)), START + number / FPS)
    at = START + PARKED_AT
    for _ in range(10):
        for look in range(3):
            _, ended = tracker.update(found(), at := at + 30.0)
            assert not ended
            assert tracker.in_doubt, look
        (parked,), _ = tracker.update(found((PARKED, 0.8, CAR)), at := at + 30.0)
        assert not tracker.in_doubt
        assert (parked.track_id, parked.moved, parked.stationary) == (1, False, True)


@pytest.mark.parametrize("speed", [60.0, 150.0, 400.0])
@pytest.mark.parametrize("known", [True, False])
def test_who_drives_past_a_parked_car_does_not_take_its_identity(speed: float, *, known: bool) -> None:
    """Another car of the same size: while it is right before the parked one, one box is found for both."""

    def other(at: float) -> Row | None:
        left = (-200 if known else 150) + speed * at
        return (Box(left, 305, left + 200, 405), 0.8, CAR) if left < 1280 else None

    said = follow(passing(PARKED_AT + 1600 / speed + 10, other))

    assert ids(said) == {1, 2}
    assert [track.track_id for _, ended in said for track in ended] == [2]
    assert not any(of(1, live).moved for live, _ in said)
    boxes = [of(1, live).box for live, _ in said]
    assert all(PARKED.left < (box.left + box.right) / 2 < PARKED.right for box in boxes)
    assert of(1, said[-1][0]).last_seen_at > START + len(said) / FPS - 1


def test_a_hidden_car_takes_over_no_other_that_stops_next_to_it() -> None:
    frames = passing(150, stopping_van)
    for rows in frames[int(100 * FPS) :]:
        rows.append((Box(700, 300, 900, 400), 0.8, CAR))
    said = follow(frames)

    assert {track.track_id for track in said[-1][0]} == {1, 2, 3}
    assert of(1, said[-1][0]).box == pytest.approx(PARKED, abs=10)


def test_what_was_only_seen_in_something_else_is_not_kept_by_it() -> None:
    tracker = make()
    bicycle: Row = (Box(420, 320, 500, 395), 0.6, BICYCLE)
    for number in range(int(PARKED_AT * FPS)):
        tracker.update(found((PARKED, 0.8, CAR), bicycle), START + number / FPS)
    ended: list[int] = []
    for number in range(int(PARKED_AT * FPS), int(PARKED_AT * FPS) + 40):
        _, over = tracker.update(found((PARKED, 0.8, CAR)), START + number / FPS)
        ended += [track.track_id for track in over]
    assert ended == [2]


def test_who_rested_is_not_believed_behind_a_van_for_ever() -> None:
    tracker = make()
    bench = person(500, y=400, height=100)
    ended: list[float] = []
    for number in range(int(100 * FPS)):
        at = number / FPS - PARKED_AT
        rows = [van(370)] if at > 0 else [bench]
        _, over = tracker.update(found(*rows), START + number / FPS)
        ended += [at for track in over if track.track_id == 1]
    assert len(ended) == 1
    assert 30 <= ended[0] < 40


@pytest.mark.parametrize("seconds", [5.0, 60.0])
def test_motion_of_what_nobody_knows_hides_for_a_while(seconds: float) -> None:
    tracker = make()
    over: list[TrackState] = []
    for number in range(int((PARKED_AT + seconds + 10) * FPS)):
        at = number / FPS - PARKED_AT
        hidden = 0 <= at < seconds
        _, ended = tracker.update(
            found() if hidden else found((PARKED, 0.8, CAR)),
            START + number / FPS,
            motion=[Box(350, 250, 650, 450)] if hidden else [],
        )
        over += ended
    assert len(over) == (seconds > 20)


def test_when_what_is_there_came_to_rest() -> None:
    tracker = make()
    assert tracker.settled_at < 0
    for number in range(100):
        tracker.update(found((PARKED, 0.8, CAR), person(700 + 5 * min(number, 20))), START + number / FPS)
    assert tracker.settled_at == pytest.approx(START + 20 / FPS, abs=1.0)
