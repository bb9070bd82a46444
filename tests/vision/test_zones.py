"""Where things stand: zones, entry lines and masks, by geometry alone and through the pipeline."""

from collections.abc import Iterable, Sequence
from itertools import count, pairwise
import math
from typing import Any

from hypothesis import given, strategies as st
import numpy as np
import pytest

from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.messages import (
    Box,
    CameraConfig,
    Direction,
    EntryLine,
    FrameTracks,
    Mask,
    MotionState,
    Point,
    Source,
    SourceKind,
    TrackState,
    Zone,
)
from custom_components.nemotron_security.vision.motion import MotionDetector
from custom_components.nemotron_security.vision.pipeline import CameraPipeline
from custom_components.nemotron_security.vision.zones import LINE_HOLD, ZoneWatch, inside, raster, without_masked

from .blobs import HEIGHT, WIDTH, loaded, walk

SIZE = (1000, 500)
LEFT_HALF = (Point(0.0, 0.0), Point(0.5, 0.0), Point(0.5, 1.0), Point(0.0, 1.0))
LOWER_LEFT = (Point(0.0, 0.5), Point(0.5, 0.5), Point(0.5, 1.0), Point(0.0, 1.0))
# A U: what lies between its arms is outside.
HORSESHOE = (
    *(Point(0.1, 0.1), Point(0.3, 0.1), Point(0.3, 0.7), Point(0.7, 0.7)),
    *(Point(0.7, 0.1), Point(0.9, 0.1), Point(0.9, 0.9), Point(0.1, 0.9)),
)


def is_in(x: float, y: float, polygon: Sequence[Point]) -> bool:
    return bool(inside(np.array([x]), np.array([y]), polygon)[0])


def seen(x: float, y: float = 0.8, *, track_id: int = 1, when: float = 0.0, label: str = "person") -> TrackState:
    """Return a person of 40x100 pixels who stands at a share of the frame."""
    foot_x, foot_y = x * SIZE[0], y * SIZE[1]
    return TrackState(
        track_id=track_id,
        label=label,
        confidence=0.9,
        score=0.9,
        box=Box(foot_x - 20, foot_y - 100, foot_x + 20, foot_y),
        first_seen_at=0.0,
        last_seen_at=when,
        confirmed=True,
        moved=True,
        stationary=False,
    )


class Walk:
    """A camera with zones before which somebody walks, a look every 0.2 s."""

    def __init__(self, *zones: Zone, lines: Iterable[EntryLine] = ()) -> None:
        self.watch = ZoneWatch(zones, tuple(lines))
        self.time = 0.0

    def look(self, *tracks: TrackState) -> tuple[TrackState, ...]:
        """Look at tracks that are seen now."""
        self.time += 0.2
        return self.watch.place([_now(track, self.time) for track in tracks], self.time, SIZE)

    def stand(self, x: float, y: float = 0.8, looks: int = 1, **changes: Any) -> TrackState:
        """Stand for so many looks at one place; returns the last look's track."""
        for _ in range(looks):
            (track,) = self.look(seen(x, y, **changes))
        return track


def _now(track: TrackState, when: float) -> TrackState:
    return TrackState(**{name: getattr(track, name) for name in TrackState.__slots__} | {"last_seen_at": when})


def zone(name: str = "Porch", **changes: Any) -> Zone:
    values: dict[str, Any] = {"name": name, "points": LEFT_HALF, "inertia": 1}
    return Zone(**values | changes)


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [(0.2, 0.5, 1), (0.5, 0.8, 1), (0.8, 0.2, 1), (0.5, 0.3, 0), (0.5, 0.95, 0), (0.05, 0.5, 0)],
)
def test_a_concave_polygon_has_an_outside_between_its_arms(x: float, y: float, expected: int) -> None:
    assert is_in(x, y, HORSESHOE) == expected


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.floats(0.05, 0.45), st.integers(3, 12))
def test_a_regular_polygon_holds_what_is_nearer_than_its_edges(x: float, y: float, radius: float, corners: int) -> None:
    angles = [2 * math.pi * number / corners for number in range(corners)]
    polygon = [Point(0.5 + radius * math.cos(angle), 0.5 + radius * math.sin(angle)) for angle in angles]
    distance = math.hypot(x - 0.5, y - 0.5)
    apothem = radius * math.cos(math.pi / corners)
    if distance < apothem - 1e-9:
        assert is_in(x, y, polygon)
    if distance > radius + 1e-9:
        assert not is_in(x, y, polygon)


def test_neighbours_share_no_place_and_leave_none_out() -> None:
    """Polygons that meet at an edge: each place is in exactly one of them, those on the edge too."""
    right_half = (Point(0.5, 0.0), Point(1.0, 0.0), Point(1.0, 1.0), Point(0.5, 1.0))
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(0, 1, 0.125), np.arange(0, 1, 0.125)))
    assert (inside(x, y, LEFT_HALF) ^ inside(x, y, right_half)).all()


def test_a_raster_has_the_polygons_area() -> None:
    found = raster([HORSESHOE, LOWER_LEFT], (200, 300))
    assert found is not None
    expected = 0.8 * 0.8 - 0.4 * 0.6  # the horseshoe
    both = 0.2 * 0.2 + 0.4 * 0.2 - 0.2 * 0.0  # its left arm below the middle, and its base left of it: shared
    assert found.mean() == pytest.approx(expected + 0.25 - both, abs=0.03)
    assert raster([], (200, 300)) is None


# --- zones ------------------------------------------------------------------------------------------------------------


def test_who_stands_in_a_zone_is_in_it_and_was_there_afterwards() -> None:
    walk = Walk(zone(), zone("Street", points=HORSESHOE))
    assert walk.stand(0.2).zones == ("Porch", "Street")
    track = walk.stand(0.95)
    assert (track.zones, track.visited) == ((), ("Porch", "Street"))


def test_it_is_the_feet_that_count() -> None:
    walk = Walk(zone(points=LOWER_LEFT))
    assert walk.stand(0.2, 0.45).zones == ()  # feet above the zone
    assert walk.stand(0.2, 0.55).zones == ("Porch",)  # head and body above it


def test_who_is_cut_off_by_the_border_stands_on_it() -> None:
    assert Walk(zone()).stand(0.2, 1.2).zones == ("Porch",)
    assert Walk(zone()).stand(-0.1, 0.8).zones == ("Porch",)


def test_inertia_counts_looks_inside_and_outside() -> None:
    walk = Walk(zone(inertia=3))
    assert [walk.stand(0.2).zones for _ in range(4)] == [(), (), ("Porch",), ("Porch",)]
    assert [walk.stand(0.9).zones for _ in range(4)] == [("Porch",), ("Porch",), (), ()]


def test_a_trembling_box_on_the_edge_neither_comes_nor_goes() -> None:
    walk = Walk(zone(inertia=3))
    assert not any(walk.stand(0.49 if number % 2 else 0.51).zones for number in range(40))
    walk.stand(0.2, looks=3)
    assert all(walk.stand(0.49 if number % 2 else 0.51).zones for number in range(40))


def test_dwell_is_the_time_since_it_came_in() -> None:
    walk = Walk(zone(dwell=2.0))
    assert walk.stand(0.2, looks=9).visited == ()
    assert walk.stand(0.2, looks=3).visited == ("Porch",)
    walk.stand(0.9, looks=2)
    assert walk.stand(0.2, looks=9).zones == ()  # it counts anew


def test_dwell_goes_on_while_it_is_hidden() -> None:
    walk = Walk(zone(dwell=2.0))
    walk.stand(0.2, looks=2)
    before = seen(0.2, when=walk.time)
    (track,) = walk.watch.place([before], walk.time + 5, SIZE)
    assert track.zones == ("Porch",)


def test_a_zone_is_for_its_labels() -> None:
    walk = Walk(zone(labels=("person", "dog")), zone("Drive", labels=("car",)))
    tracks = walk.look(seen(0.2), seen(0.3, track_id=2, label="car"), seen(0.3, track_id=3, label="cat"))
    assert [track.zones for track in tracks] == [("Porch",), ("Drive",), ()]


def test_tracks_do_not_mix_and_are_forgotten() -> None:
    walk = Walk(zone(inertia=2))
    walk.look(seen(0.2), seen(0.9, track_id=2))
    first, second = walk.look(seen(0.2), seen(0.9, track_id=2))
    assert (first.zones, second.zones) == (("Porch",), ())
    assert walk.watch.recall([seen(0.9)])[0].visited == ("Porch",)
    walk.look(seen(0.9, track_id=2))
    assert walk.watch.recall([seen(0.9)])[0].visited == ()


# --- entry lines ------------------------------------------------------------------------------------------------------

GATE = EntryLine(name="Gate", start=Point(0.5, 0.5), end=Point(0.5, 1.0))
"""Downward: who looks along it has the picture's left side to the right."""


@pytest.mark.parametrize(
    ("direction", "places", "expected"),
    [
        (Direction.BOTH, (0.7, 0.6, 0.4, 0.3), ("Gate",)),
        (Direction.BOTH, (0.3, 0.4, 0.6, 0.7), ("Gate",)),
        (Direction.TO_RIGHT, (0.7, 0.6, 0.4, 0.3), ("Gate",)),
        (Direction.TO_RIGHT, (0.3, 0.4, 0.6, 0.7), ()),
        (Direction.TO_LEFT, (0.7, 0.6, 0.4, 0.3), ()),
        (Direction.TO_LEFT, (0.3, 0.4, 0.6, 0.7), ("Gate",)),
    ],
)
def test_a_line_is_crossed_the_way_that_counts(
    direction: Direction, places: tuple[float, ...], expected: tuple[str, ...]
) -> None:
    walk = Walk(lines=[EntryLine(name="Gate", start=GATE.start, end=GATE.end, direction=direction)])
    assert [walk.stand(x) for x in places][-1].visited == expected


def test_a_crossing_is_told_for_a_moment() -> None:
    walk = Walk(lines=[GATE])
    walk.stand(0.3)
    assert walk.stand(0.7).zones == ("Gate",)
    later = walk.stand(0.7, looks=math.ceil(LINE_HOLD / 0.2) + 1)
    assert (later.zones, later.visited) == ((), ("Gate",))


def test_who_goes_round_the_end_of_a_line_does_not_cross_it() -> None:
    walk = Walk(lines=[GATE])
    assert [walk.stand(x, y).visited for x, y in ((0.3, 0.8), (0.35, 0.4), (0.65, 0.4), (0.7, 0.8))][-1] == ()


def test_who_trembles_on_a_line_does_not_cross_it() -> None:
    walk = Walk(lines=[GATE])
    walk.stand(0.3)
    assert not any(walk.stand(0.495 if number % 2 else 0.505).visited for number in range(40))
    assert walk.stand(0.3).visited == ()


def test_slow_crossing_counts_though_no_single_step_is_large() -> None:
    walk = Walk(lines=[GATE])
    tracks = [walk.stand(0.3 + 0.005 * number) for number in range(80)]
    crossed = [bool(before.visited) != bool(after.visited) for before, after in pairwise(tracks)]
    assert crossed.count(True) == 1


def test_who_is_first_seen_beyond_the_line_has_not_crossed_it() -> None:
    assert Walk(lines=[GATE]).stand(0.7, looks=5).visited == ()


# --- masks ------------------------------------------------------------------------------------------------------------


def _found(*places: tuple[float, float, int]) -> Detections:
    boxes = [[x * SIZE[0] - 20, y * SIZE[1] - 100, x * SIZE[0] + 20, y * SIZE[1]] for x, y, _ in places]
    classes = [kind for _, _, kind in places]
    return Detections(np.array(boxes, np.float32), np.full(len(places), 0.9, np.float32), np.array(classes, np.int32))


def test_what_stands_in_a_mask_for_objects_is_dropped() -> None:
    found = _found((0.2, 0.8, 0), (0.9, 0.8, 0), (0.2, 0.8, 1))
    labels = ("person", "car")
    everything = Mask(points=LEFT_HALF, objects=True)
    cars = Mask(points=LEFT_HALF, objects=True, labels=("car",))
    motion_only = Mask(points=LEFT_HALF)
    kept = [
        [round(float(box[0] + 20) / SIZE[0], 1) for box in without_masked(found, [mask], labels, SIZE).boxes]
        for mask in (everything, cars, motion_only)
    ]
    assert kept == [[0.9], [0.2, 0.9], [0.2, 0.9, 0.2]]


def _scene(number: int, bright: slice | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    picture = np.random.default_rng(number).integers(60, 66, (90, 160), dtype=np.uint8)
    if bright is not None:
        picture[30:60, bright] = 200
    return picture


def test_nothing_moves_in_a_mask_for_motion_and_the_rest_is_seen_as_before() -> None:
    detector = MotionDetector()
    detector.ignore((LEFT_HALF,))
    for number in range(20):
        assert not detector.update(_scene(number, None), number * 0.2).active
    for number in range(20, 30):  # a tree in the left half
        assert not detector.update(_scene(number, slice(10, 30) if number % 2 else slice(40, 60)), number * 0.2).active
    motion = detector.update(_scene(30, slice(120, 140)), 6.0)
    assert motion.boxes
    assert all(box.left > 0.6 for box in motion.boxes)


def test_a_light_that_flashes_in_a_mask_is_no_change_of_light() -> None:
    detector = MotionDetector()
    detector.ignore(((Point(0.0, 0.0), Point(0.7, 0.0), Point(0.7, 1.0), Point(0.0, 1.0)),))
    for number in range(10):
        detector.update(_scene(number, None), number * 0.2)
    flash = _scene(11, None)
    flash[:, :100] = 250
    motion = detector.update(flash, 2.2)
    assert not motion.light_change
    assert not motion.active


# --- through the pipeline ---------------------------------------------------------------------------------------------


def _pipeline(**changes: Any) -> CameraPipeline:
    return CameraPipeline(CameraConfig(camera_id="yard", source=Source(kind=SourceKind.STILLS), **changes), count(1))


def _tracks(pipeline: CameraPipeline, seconds: float = 6.0) -> list[FrameTracks]:
    detector = loaded()
    reports = [report for frame in walk(seconds) for report in pipeline.step(frame, detector)]
    return [report for report in reports if isinstance(report, FrameTracks)]


def test_a_walk_through_two_zones_and_a_line() -> None:
    middle = Zone(name="Middle", points=(Point(0.3, 0), Point(0.6, 0), Point(0.6, 1), Point(0.3, 1)), inertia=2)
    line = EntryLine(name="Line", start=Point(0.75, 0.0), end=Point(0.75, 1.0))
    reports = _tracks(_pipeline(zones=(zone("Start", points=LEFT_HALF), middle), lines=(line,)))
    told = [track.zones for report in reports for track in report.tracks]
    assert ("Start",) in told
    assert ("Start", "Middle") in told
    last = [track for report in reports for track in (*report.tracks, *report.ended)][-1]
    assert last.visited == ("Start", "Middle", "Line")


def test_a_masked_walk_is_neither_motion_nor_object() -> None:
    strip = (Point(0, 120 / HEIGHT - 0.1), Point(1, 120 / HEIGHT - 0.1), Point(1, 0.65), Point(0, 0.65))
    pipeline = _pipeline(masks=(Mask(points=strip, motion=True, objects=True),))
    detector = loaded()
    reports = [report for frame in walk(6.0) for report in pipeline.step(frame, detector)]
    assert not [report for report in reports if isinstance(report, MotionState)]
    assert not any(report.tracks for report in reports if isinstance(report, FrameTracks))


def test_zones_that_change_while_somebody_is_there_count_at_once() -> None:
    pipeline = _pipeline(zones=(zone("Old", points=LEFT_HALF),))
    detector = loaded()
    told: list[tuple[str, ...]] = []
    for number, frame in enumerate(walk(4.0)):
        if number == 30:
            everywhere = (Point(0, 0), Point(1, 0), Point(1, 1), Point(0, 1))
            pipeline.config = CameraConfig(
                camera_id="yard", source=pipeline.config.source, zones=(zone("New", points=everywhere),)
            )
        for report in pipeline.step(frame, detector):
            if isinstance(report, FrameTracks):
                told += [track.zones for track in report.tracks]
    assert ("Old",) in told
    assert told[-1] == ("New",)
    assert WIDTH == 640  # the walk stays in the picture for as long as this takes
