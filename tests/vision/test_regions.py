"""Where the detector looks, and one list of what several looks found."""

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, strategies as st
import numpy as np
import pytest

from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.messages import Box
from custom_components.nemotron_security.vision.regions import Region, Turns, find_cut, merge_detections, select_regions

FRAME = (1280, 720)
MODEL = (320, 320)
WHOLE = Region(0, 0, 1280, 720)


def found(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    return Detections(
        np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[4] for row in rows], np.float32),
        np.array([row[5] for row in rows], np.int32),
    )


def holds(region: Region, box: Box) -> bool:
    return (
        region.left <= box.left and region.top <= box.top and region.right >= box.right and region.bottom >= box.bottom
    )


def test_nothing_to_look_at() -> None:
    assert select_regions((), (), FRAME, MODEL) == []
    assert select_regions((Box(5, 5, 5, 9),), (Box(2000, 0, 2100, 50),), FRAME, MODEL) == []


def test_a_small_thing_gets_a_region_of_the_models_size() -> None:
    box = Box(600, 300, 615, 330)
    (region,) = select_regions((box,), (), FRAME, MODEL)

    assert (region.width, region.height) == MODEL
    assert holds(region, box)


def test_a_region_at_a_corner_stays_inside() -> None:
    (region,) = select_regions((Box(1270, 700, 1300, 730),), (), FRAME, MODEL)

    assert region == Region(960, 400, 1280, 720)


def test_a_region_is_the_same_while_little_moves() -> None:
    regions = {tuple(select_regions((Box(600 + x, 300, 640 + x, 400),), (), FRAME, MODEL)) for x in range(12)}

    assert len(regions) <= 2


def look(
    motion: Sequence[Box],
    tracks: Sequence[Box] = (),
    frame: tuple[int, int] = FRAME,
    model: tuple[int, int] = MODEL,
    *,
    limit: int = 2,
    turns: Turns | None = None,
) -> list[Region]:
    regions = select_regions(motion, tracks, frame, model, tracks)
    return (turns or Turns(frame)).choose(regions, tracks, tracks, limit)


def test_the_whole_frame_where_crops_gain_nothing() -> None:
    assert look([Box(100, 50, 900, 700)]) == [WHOLE], "it fills the frame"
    assert look([Box(0, 0, 30, 60), Box(610, 0, 640, 60)], frame=(640, 360)) == [Region(0, 0, 640, 360)]
    assert look([Box(1, 1, 9, 9)], frame=(400, 300)) == [Region(0, 0, 400, 300)], "hardly larger than the model"


CORNERS = [Box(10, 10, 28, 50), Box(1850, 10, 1868, 50), Box(10, 1000, 28, 1040), Box(1850, 1000, 1868, 1040)]


def looked_at(turns: Turns, motion: list[Box], tracks: list[Box], looks: int, *, limit: int = 2) -> list[list[bool]]:
    """Return for each look which boxes, of motion and then of tracks, a region of the model's size showed."""
    shown = []
    for number in range(looks):
        regions = look(motion, tracks, (1920, 1080), limit=limit, turns=turns)
        assert len(regions) <= limit
        assert all((region.width, region.height) == MODEL for region in regions)
        turns.note(regions, 1000 + number / 5)
        shown.append([any(holds(region, box) for region in regions) for box in (*motion, *tracks)])
    return shown


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_what_moves_in_too_many_places_is_looked_at_in_turn(limit: int) -> None:
    """A flag and a tree that move all day hide nobody."""
    shown = looked_at(Turns((1920, 1080)), CORNERS, [], 12, limit=limit)
    assert min(sum(column) for column in zip(*shown, strict=True)) >= 12 // -(-4 // limit)


def test_what_is_followed_is_looked_at_more_often_and_the_rest_is_not_forgotten() -> None:
    shown = looked_at(Turns((1920, 1080)), CORNERS[:2], CORNERS[2:], 100)
    *moving, first, second = [[bool(seen) for seen in column] for column in zip(*shown, strict=True)]
    assert min(sum(first), sum(second)) > 75
    for column in moving:
        looks = [number for number, seen in enumerate(column) if seen]
        assert len(looks) >= 5
        assert max(later - earlier for earlier, later in pairwise(looks)) <= 20, "four seconds"


def test_a_low_panorama_is_looked_at_in_parts() -> None:
    assert look([Box(900, 100, 918, 140)], frame=(3840, 300)) == [Region(736, 0, 1056, 300)]
    assert look([Box(140, 900, 158, 940)], frame=(300, 3840)) == [Region(0, 768, 300, 1088)]


def test_neighbours_share_a_region_and_strangers_do_not() -> None:
    near, far = Box(100, 300, 140, 400), Box(1100, 300, 1140, 400)

    assert len(select_regions((near, Box(200, 310, 240, 410)), (), FRAME, MODEL)) == 1
    assert len(select_regions((near,), (far,), FRAME, MODEL)) == 2


BOXES = st.lists(
    st.builds(
        lambda x, y, w, h: Box(x, y, x + w, y + h),
        st.floats(0, 1200),
        st.floats(0, 650),
        st.floats(1, 500),
        st.floats(1, 400),
    ),
    min_size=1,
    max_size=8,
)


@given(motion=BOXES, tracks=BOXES, limit=st.integers(1, 3))
def test_every_box_is_looked_at_in_few_regions_inside_the_frame(
    motion: list[Box], tracks: list[Box], limit: int
) -> None:
    inside = [Box(box.left, box.top, min(box.right, FRAME[0]), min(box.bottom, FRAME[1])) for box in (*motion, *tracks)]
    every = select_regions(motion, tracks, FRAME, MODEL)
    assert all(any(holds(region, box) for region in every) for box in inside)
    turns, unseen = Turns(FRAME), inside
    for number in range(1, 200):
        regions = look(motion, tracks, limit=limit, turns=turns)
        turns.note(regions, number)
        assert 1 <= len(regions) <= limit
        for region in regions:
            assert 0 <= region.left < region.right <= FRAME[0]
            assert 0 <= region.top < region.bottom <= FRAME[1]
            assert region.width >= MODEL[0]
            assert region.height >= MODEL[1]
        assert find_cut(regions, tracks, FRAME) == []
        unseen = [box for box in unseen if not any(holds(region, box) for region in regions)]
        if not unseen:
            break
    assert not unseen


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        pytest.param(Box(350, 100, 450, 200), True, id="across a border"),
        pytest.param(Box(0, 0, 1280, 720), True, id="around the region"),
        pytest.param(Box(100, 100, 200, 200), False, id="held"),
        pytest.param(Box(-50, 100, 200, 200), False, id="held but for what lies outside the frame"),
        pytest.param(Box(500, 100, 600, 200), False, id="elsewhere"),
        pytest.param(Box(400, 100, 600, 200), False, id="next to it"),
        pytest.param(Box(-90, 100, -50, 200), False, id="outside the frame"),
        pytest.param(Box(700, 450, 850, 550), False, id="held by another region"),
    ],
)
def test_what_a_region_cuts_through(box: Box, *, cut: bool) -> None:
    regions = [Region(0, 0, 400, 400), Region(440, 400, 760, 720), Region(640, 400, 1280, 720)]

    assert find_cut(regions, [box], FRAME) == ([box] if cut else [])


@given(motion=BOXES, still=BOXES)
def test_nothing_is_cut_that_was_asked_for(motion: list[Box], still: list[Box]) -> None:
    assert find_cut(select_regions(motion, (), FRAME, MODEL, still), still, FRAME) == []


def test_merging_nothing() -> None:
    assert len(merge_detections([], FRAME)) == 0
    assert len(merge_detections([(WHOLE, Detections.none())], FRAME)) == 0


def test_one_region_is_left_as_it_is() -> None:
    detections = found((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 10, 0.8, 0))

    assert len(merge_detections([(WHOLE, detections)], FRAME)) == 2


def test_an_object_in_two_regions_counts_once_with_its_better_score() -> None:
    left, right = Region(0, 0, 640, 720), Region(400, 0, 1040, 720)
    merged = merge_detections(
        [(left, found((450, 100, 550, 300, 0.6, 0))), (right, found((452, 98, 551, 302, 0.8, 0)))], FRAME
    )

    assert merged.scores.tolist() == [pytest.approx(0.8)]


def test_a_part_cut_off_by_a_border_gives_way_to_the_whole() -> None:
    left, right = Region(0, 0, 500, 720), Region(400, 0, 1040, 720)
    part, whole = found((450, 100, 499, 300, 0.9, 0)), found((450, 100, 560, 300, 0.7, 0))
    merged = merge_detections([(left, part), (right, whole)], FRAME)

    assert merged.boxes.tolist() == [[450, 100, 560, 300]]


def test_the_frames_own_border_cuts_nothing_off() -> None:
    left, right = Region(0, 0, 500, 720), Region(400, 0, 1280, 720)
    small, large = found((0, 100, 60, 300, 0.9, 0)), found((0, 50, 480, 400, 0.7, 0))
    merged = merge_detections([(left, small), (left, large), (right, Detections.none())], FRAME)

    assert len(merged) == 2


def test_different_classes_and_neighbours_stay() -> None:
    left, right = Region(0, 0, 640, 720), Region(400, 0, 1040, 720)
    merged = merge_detections(
        [
            (left, found((450, 100, 550, 300, 0.9, 0))),
            (right, found((450, 100, 550, 300, 0.9, 1), (500, 100, 600, 300, 0.9, 0))),
        ],
        FRAME,
    )

    assert len(merged) == 3
