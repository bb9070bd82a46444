"""One camera's way from frames to tracks, with a detector that really looks at the pixels."""

from collections.abc import Iterable
from itertools import count
from typing import Any

import av
import numpy as np
import pytest

from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.detectors import DetectorError, Picture
from custom_components.nemotron_security.vision.detectors.coco import COCO
from custom_components.nemotron_security.vision.frames import Frame
from custom_components.nemotron_security.vision.labels import coco_names
from custom_components.nemotron_security.vision.messages import (
    Box,
    CameraConfig,
    DetectorConfig,
    FrameTracks,
    Mask,
    MotionState,
    Point,
    Problem,
    Report,
    Source,
    SourceKind,
    TrackPicture,
    Zone,
)
from custom_components.nemotron_security.vision.motion import NO_MOTION, Motion
from custom_components.nemotron_security.vision.pipeline import CameraPipeline, LoadedDetector, Stages

from .blobs import HEIGHT, SQUARE, WIDTH, BlobDetector, frame, loaded, pixels, walk


def _config(**changes: object) -> CameraConfig:
    return CameraConfig(camera_id="yard", source=Source(kind=SourceKind.STILLS), **changes)  # type: ignore[arg-type]


def _run(frames: Iterable[Frame], pipeline: CameraPipeline, detector: LoadedDetector) -> list[Report]:
    return [report for picture in frames for report in pipeline.step(picture, detector)]


def _of[T: Report](kind: type[T], reports: Iterable[Report]) -> list[T]:
    return [report for report in reports if isinstance(report, kind)]


def test_an_object_is_confirmed_within_half_a_second_of_its_appearance() -> None:
    reports = _run(walk(4.0, start=2.0), CameraPipeline(_config(), count(100)), loaded())
    confirmed = next(report for report in _of(FrameTracks, reports) if any(t.confirmed for t in report.tracks))
    assert confirmed.captured_at - 2.0 <= 0.5
    (track,) = confirmed.tracks
    assert (track.track_id, track.label, track.moved) == (100, "person", True)
    left = 20 + int((confirmed.captured_at - 2.0) * 15) * 6
    assert np.allclose(track.box, (left, 120, left + SQUARE, 120 + SQUARE), atol=12)


def test_motion_begins_with_the_object_and_ends_two_seconds_after_it() -> None:
    reports = _run(walk(8.0, start=2.0, until=4.0), CameraPipeline(_config(), count(1)), loaded())
    began, ended = _of(MotionState, reports)
    assert (began.active, ended.active) == (True, False)
    assert 2.0 <= began.at <= 2.3
    assert 5.5 <= ended.at <= 7.0


def test_a_track_ends_when_the_object_is_gone() -> None:
    reports = _of(FrameTracks, _run(walk(9.0, start=1.0, until=3.0), CameraPipeline(_config(), count(1)), loaded()))
    ended = [report for report in reports if report.ended]
    assert len(ended) == 1
    assert ended[0].ended[0].last_seen_at == pytest.approx(3.0, abs=0.25)
    assert ended[0].captured_at < 7.0
    assert not ended[0].tracks


def test_an_empty_scene_is_looked_at_once_a_minute() -> None:
    detector = BlobDetector()
    looks = []
    pipeline = CameraPipeline(_config(), count(1))
    for picture in walk(150.0, start=999.0, fps=5.0):
        before = detector.looks
        reports = pipeline.step(picture, LoadedDetector(detector, 0.5))
        looks += [picture.captured_at] * (detector.looks - before)
        assert not _of(MotionState, reports)
    assert looks == pytest.approx([0.2, 60.2, 120.2], abs=0.3)
    assert detector.sizes == [[(WIDTH, HEIGHT)]] * 3


def _looks(detector: BlobDetector, frames: Iterable[Frame]) -> tuple[list[float], list[FrameTracks]]:
    """Return when the detector looked, and what was reported."""
    pipeline = CameraPipeline(_config(labels=("person", "car")), count(1))
    reports = _of(FrameTracks, _run(frames, pipeline, LoadedDetector(detector, 0.5)))
    return [report.captured_at for report in reports], reports


def test_a_person_who_stands_still_is_looked_at_every_other_second() -> None:
    looks, reports = _looks(BlobDetector(), (frame(number, 200, fps=3.0) for number in range(1, 100 * 3)))
    assert reports[-1].tracks[0].stationary
    assert not reports[-1].tracks[0].moved
    gaps = np.diff([at for at in looks if at > 20])
    assert 1.9 < min(gaps) <= max(gaps) < 2.5


def test_a_parked_car_is_looked_at_more_and_more_seldom() -> None:
    detector = BlobDetector(label="car")
    looks, reports = _looks(detector, (frame(number, 200, fps=1.5) for number in range(1, 700 * 3 // 2)))
    assert {track.track_id for report in reports for track in report.tracks} == {1}
    assert reports[-1].tracks[0].stationary
    gaps = np.diff([at for at in looks if at > 15])
    assert gaps[0] < 5
    assert max(gaps) < 31
    assert np.median(gaps[-10:]) == pytest.approx(30, abs=1)
    whole = [at for at, sizes in zip(looks, detector.sizes, strict=True) if (WIDTH, HEIGHT) in sizes]
    assert len(whole) == 3
    assert np.diff(whole) == pytest.approx([300, 300], abs=31), "now and then the whole frame as well"
    assert detector.sizes[looks.index(whole[1])] == [(WIDTH, HEIGHT), (320, 320)], "and what is there closely"


def test_motion_before_a_parked_car_has_it_looked_at_at_once() -> None:
    def pictures() -> Iterable[Frame]:
        for number in range(1, 36 * 5):
            moving = 320 + 6 * (number - 25 * 5) if 25 * 5 < number < 40 * 5 else None
            yield _in_front_of_a_car(number, moving)

    looks, reports = _looks(BlobDetector(label="car"), pictures())
    assert {track.track_id for report in reports for track in report.tracks} == {1}
    assert not any(track.moved for report in reports for track in report.tracks)
    gaps = np.diff([at for at in looks if 26 < at < 35])
    assert max(gaps) < 0.5


def test_what_came_unnoticed_is_found() -> None:
    """A square that appears so slowly that nothing moves, as in the dark or behind a broken stream."""

    def pictures() -> Iterable[Frame]:
        for number in range(1, 170 * 5):
            picture = pixels(number, None)
            picture[120:180, 200:260] += np.uint8(max(0, min(140, (number - 50) // 4)))
            yield Frame(av.VideoFrame.from_ndarray(picture, "rgb24"), number / 5, number)

    pipeline = CameraPipeline(_config(), count(1))
    reports = _run(pictures(), pipeline, loaded())
    assert not _of(MotionState, reports)
    found = [report.captured_at for report in _of(FrameTracks, reports) if report.tracks]
    shows_at = (50 + 4 * 118) / 5
    assert shows_at - 2 < found[0] < shows_at + 61
    (track,) = _of(FrameTracks, reports)[-1].tracks
    assert track.confirmed
    assert not track.moved


def test_more_regions_where_there_is_time() -> None:
    moving = Motion(tuple(Box(x, y, x + 0.02, y + 0.05) for x in (0.02, 0.9) for y in (0.05, 0.85)), 0.01)
    detector = loaded()
    pipeline = CameraPipeline(_config(), count(1))
    empty = Frame(av.VideoFrame.from_ndarray(pixels(1, None, size=(2560, 1440)), "rgb24"), 1.0, 1)
    pipeline.look(empty, NO_MOTION, detector)
    prepared = pipeline.prepare(empty, moving, detector)
    assert [picture.shape for picture in prepared.pictures] == [(320, 320, 3)] * 2
    prepared = pipeline.prepare(empty, moving, detector, limit=4)
    assert [picture.shape for picture in prepared.pictures] == [(320, 320, 3)] * 4


class _EverySquare(BlobDetector):
    """Finds every bright square whose rows or columns no other one has in part."""

    def _detect_one(self, picture: Picture) -> Detections:
        bright = picture[:, :, 1] > 180
        boxes = [
            (left, top, right, bottom)
            for left, right in _spans(bright.any(axis=0))
            for top, bottom in _spans(bright.any(axis=1))
            if bright[top:bottom, left:right].any()
        ]
        if not boxes:
            return Detections.none()
        scores, classes = np.full(len(boxes), 0.9, np.float32), np.zeros(len(boxes), np.int32)
        return Detections(np.array(boxes, np.float32), scores, classes)


def _spans(marked: Any) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False])).astype(np.int8))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("waving", [True, False])
def test_tracks_that_are_looked_at_in_turn_are_not_missed(*, waving: bool) -> None:
    """More than a look shows: who waves is followed, and what stands still is seen by and by, not at every frame."""
    picture = pixels(1, None, size=(1920, 1080))
    corners = [(100, 100), (1700, 100), (100, 900), (1700, 900)]
    for left, top in corners:
        picture[top : top + SQUARE, left : left + SQUARE] = 220
    here = [Box(left / 1920, top / 1080, (left + 60) / 1920, (top + 60) / 1080) for left, top in corners]
    motion = Motion(tuple(here), 0.01) if waving else NO_MOTION
    pipeline, detector = CameraPipeline(_config(), count(1)), LoadedDetector(_EverySquare(), 0.5)
    sizes: list[int] = []
    for number in range(300):
        at = number / 5
        shown = Frame(av.VideoFrame.from_ndarray(picture, "rgb24"), at, number)
        if waving or number < 60 or pipeline._is_look_due(at):
            prepared = pipeline.prepare(shown, motion, detector)
            sizes.append(len(prepared.pictures))
            (look,) = pipeline.complete(prepared, detector.detector.detect(prepared.pictures))
            assert [track.track_id for track in look.tracks.tracks] == [1, 2, 3, 4]
            assert not look.tracks.ended
            assert all(at - track.last_seen_at <= 3 for track in look.tracks.tracks)
    assert max(sizes) <= 2
    assert waving or len(sizes) < 60 + 2 * 48 / 2 + 10, "each place every other second"


def test_what_was_prepared_before_the_tracks_were_given_up_is_dropped() -> None:
    pipeline, detector = CameraPipeline(_config(), count(1)), loaded()
    picture = frame(1, 200)
    prepared = pipeline.prepare(picture, NO_MOTION, detector)
    pipeline.clear()
    assert pipeline.complete(prepared, detector.detector.detect(prepared.pictures)) == ()
    assert pipeline.latest is None


def _in_front_of_a_car(number: int, moving: int | None) -> Frame:
    """A wide bright car, longer than the detector's smallest region, and a small dark thing in front of it."""
    picture = np.random.default_rng(number).integers(60, 66, (720, 1280, 3), dtype=np.uint8)
    picture[260:460, 370:830] = 220
    if moving is not None:
        picture[340:380, moving : moving + 40] = 20
    return Frame(av.VideoFrame.from_ndarray(picture, "rgb24"), number / 5, number)


def test_what_moves_in_front_of_a_parked_car_does_not_move_it() -> None:
    frames = [_in_front_of_a_car(number, None) for number in range(1, 65)]
    frames += [_in_front_of_a_car(number, 560 + 6 * (number - 65)) for number in range(65, 80)]
    reports = _of(FrameTracks, _run(frames, CameraPipeline(_config(), count(1)), loaded()))
    assert reports[-1].captured_at > 15.5, "what moves is looked at"
    assert {track.track_id for report in reports for track in report.tracks} == {1}
    assert reports[-1].tracks[0].stationary
    assert not reports[-1].tracks[0].moved


def _brighter(number: int, left: int) -> Frame:
    picture = pixels(number, left)
    picture[picture < 100] += 60
    return Frame(av.VideoFrame.from_ndarray(picture, "rgb24"), number / 5, number)


@pytest.mark.parametrize("shift", [15, 25])
def test_nothing_moved_where_light_and_focus_changed(shift: int) -> None:
    frames = [frame(number, 200, fps=5.0) for number in range(1, 65)]
    frames += [_brighter(number, 200 + shift) for number in range(65, 110)]
    reports = _of(FrameTracks, _run(frames, CameraPipeline(_config(), count(1)), loaded()))
    (track,) = reports[-1].tracks
    assert track.box.left == pytest.approx(200 + shift, abs=2)
    assert (track.track_id, track.moved, track.stationary) == (1, False, True)


def _set_back(frames: Iterable[Frame], seconds: float) -> list[Frame]:
    return [
        Frame(av.VideoFrame.from_ndarray(picture.rgb(), "rgb24"), picture.captured_at - seconds, picture.frame_id)
        for picture in frames
    ]


def test_what_stands_still_after_the_clock_was_set_back() -> None:
    pipeline, detector = CameraPipeline(_config(), count(1)), loaded()
    _run([frame(number, 200, fps=5.0) for number in range(1, 75)], pipeline, detector)
    later = [frame(number, 200, fps=5.0) for number in range(75, 160)]
    reports = _of(FrameTracks, _run(_set_back(later, 3600), pipeline, detector))
    assert [track.track_id for track in reports[0].ended] == [1]
    assert reports[0].ended[0].stationary
    looks = [report.captured_at for report in reports[1:]]
    assert looks[0] < 75 / 5 - 3600 + 0.5
    assert max(np.diff(looks)) < 2.5
    (track,) = reports[-1].tracks
    assert (track.track_id, track.moved, track.stationary) == (2, False, True)


@pytest.mark.parametrize("seconds", [1.5, 3600])
def test_motion_and_tracks_end_after_the_clock_was_set_back(seconds: float) -> None:
    pipeline, detector = CameraPipeline(_config(), count(1)), loaded()
    before = _run(walk(4.0), pipeline, detector)
    reports = _run(_set_back([frame(number, None) for number in range(61, 121)], seconds), pipeline, detector)
    assert [state.active for state in _of(MotionState, before + reports)] == [True, False]
    assert [track.track_id for report in _of(FrameTracks, reports) for track in report.ended] == [1]
    assert not _of(FrameTracks, reports)[-1].tracks


def test_a_clock_that_is_corrected_by_a_little_ends_no_track() -> None:
    pipeline, detector = CameraPipeline(_config(), count(1)), loaded()
    _run(walk(3.0), pipeline, detector)
    later = [frame(number, 20 + (number - 15) * 6) for number in range(46, 75)]
    reports = _of(FrameTracks, _run(_set_back(later, 0.5), pipeline, detector))
    assert {track.track_id for report in reports for track in (*report.tracks, *report.ended)} == {1}


def test_fewer_frames_are_looked_at_than_come() -> None:
    pipeline, fast = CameraPipeline(_config(fps=3.0), count(1)), loaded()
    due = [picture.captured_at for picture in walk(6.0, start=99.0) if pipeline.notice(picture).due]
    assert len(due) == pytest.approx(18, abs=1)
    reports = _of(FrameTracks, _run(walk(4.0, start=1.0), CameraPipeline(_config(fps=3.0), count(1)), fast))
    gaps = np.diff([report.captured_at for report in reports if report.tracks])
    assert gaps[0] < 0.25, "a new object is looked at twice as often"
    assert np.median(gaps[-4:]) == pytest.approx(1 / 3, abs=0.07)


def test_without_detection_nothing_is_reported() -> None:
    assert not _run(walk(4.0), CameraPipeline(_config(detect=False), count(1)), loaded())


def test_switching_detection_off_ends_motion_and_tracks() -> None:
    pipeline, detector = CameraPipeline(_config(), count(1)), loaded()
    _run(walk(2.0), pipeline, detector)
    pipeline.config = _config(detect=False)
    (report,) = pipeline.notice(frame(40, 300)).reports
    assert isinstance(report, MotionState)
    assert not report.active
    (look,) = pipeline.clear()
    assert look.news
    assert not look.tracks.tracks
    assert [track.track_id for track in look.tracks.ended] == [1]
    assert pipeline.clear() == ()


def test_only_watched_labels_count() -> None:
    reports = _of(FrameTracks, _run(walk(3.0), CameraPipeline(_config(labels=("car",)), count(1)), loaded()))
    assert reports
    assert not any(report.tracks for report in reports)


@pytest.mark.parametrize(
    ("names", "labels"),
    [(("Person", "Car"), ("person",)), (("HUMAN", "vehicle"), ("person",)), (("dog", "Traffic_Light"), ("dog",))],
)
def test_what_a_model_calls_otherwise_counts(names: tuple[str, ...], labels: tuple[str, ...]) -> None:
    known = loaded()
    known.detector.labels = names
    everywhere = (Point(0, 0), Point(1, 0), Point(1, 1), Point(0, 1))
    zone = Zone(name="porch", points=everywhere, labels=labels)
    mask = Mask(points=everywhere, motion=False, objects=True, labels=("car", "traffic light"))
    config = _config(labels=labels, zones=(zone,), masks=(mask,))
    reports = _of(FrameTracks, _run(walk(3.0), CameraPipeline(config, count(1)), known))
    tracks = [track for report in reports for track in report.tracks]
    assert {track.label for track in tracks if track.confirmed} == set(labels)
    assert "porch" in tracks[-1].zones
    assert known.labels == coco_names(names)
    known.detector.labels = (*names, "Garden_Gnome")
    assert known.labels == (*coco_names(names), "garden gnome"), "a server's may become more"


def test_names_of_coco_are_their_own() -> None:
    assert coco_names(COCO) == COCO


def test_an_unsure_detection_is_never_confirmed() -> None:
    pipeline = CameraPipeline(_config(confidence=0.8), count(1))
    reports = _run(walk(4.0), pipeline, loaded(score=0.6))
    assert any(report.tracks for report in _of(FrameTracks, reports))
    assert not any(track.confirmed for report in _of(FrameTracks, reports) for track in report.tracks)
    assert not _of(TrackPicture, reports)


@pytest.mark.parametrize("change", ["size", "labels"])
def test_what_makes_old_tracks_void_ends_them(change: str) -> None:
    pipeline, detector = CameraPipeline(_config(), count(1)), loaded()
    _run(walk(2.0), pipeline, detector)
    if change == "labels":
        pipeline.config = _config(labels=("person", "car"))
    size = (320, 240) if change == "size" else (640, 360)
    reports = [
        report
        for number in range(31, 50)
        for report in pipeline.step(frame(number, number * 3, size=size), detector)
        if isinstance(report, FrameTracks)
    ]
    assert [track.track_id for track in reports[0].ended] == [1]
    assert (reports[-1].width, reports[-1].height) == size
    assert [track.track_id for track in reports[-1].tracks] == [2]


def test_news_is_what_must_not_be_lost() -> None:
    pipeline, detector = CameraPipeline(_config(), count(1)), loaded()
    news: list[tuple[bool, bool]] = []
    for picture in walk(9.0, start=1.0, until=4.0):
        glance = pipeline.notice(picture)
        if glance.motion is None:
            continue
        before = {(track.track_id, track.confirmed) for track in pipeline.latest.tracks} if pipeline.latest else set()
        for look in pipeline.look(picture, glance.motion, detector):
            after = {(track.track_id, track.confirmed) for track in look.tracks.tracks}
            news.append((look.news, bool(after - before or look.tracks.ended)))
    assert all(told == expected for told, expected in news)
    assert 2 <= sum(told for told, _ in news) <= 4


def test_a_track_is_pictured_at_its_confirmation_and_when_it_looks_better() -> None:
    empty = [frame(number, None) for number in range(1, 15)]
    # It comes in from the left border, cut off at first.
    frames = empty + [frame(number, -50 + (number - 15) * 5) for number in range(15, 75)]
    reports = _run(frames, CameraPipeline(_config(), count(1)), loaded())
    confirmed_at = next(
        report.captured_at for report in _of(FrameTracks, reports) if any(track.confirmed for track in report.tracks)
    )
    pictures = _of(TrackPicture, reports)
    assert pictures[0].captured_at == confirmed_at
    assert 2 <= len(pictures) <= 4
    assert min(np.diff([picture.captured_at for picture in pictures])) >= 0.2
    assert pictures[-1].box.width > pictures[0].box.width
    assert all(picture.data.startswith(b"\xff\xd8") for picture in pictures)


def test_the_stages_of_a_step_are_timed() -> None:
    stages = Stages()
    _run(walk(2.0), CameraPipeline(_config(), count(1), stages), loaded())
    assert {"grey", "motion", "regions", "convert", "detect", "tracker", "pictures"} == stages.seconds.keys()
    assert all(seconds > 0 for seconds in stages.seconds.values())


def test_an_unknown_plug_in_is_refused() -> None:
    with pytest.raises(DetectorError) as error:
        LoadedDetector.load(DetectorConfig(plugin="crystal_ball"))
    assert error.value.problem is Problem.DETECTOR_NOT_INSTALLED


def test_who_asks_for_it_is_looked_for_where_nothing_moves() -> None:
    """Somebody stands still, faint, before the camera starts; the doorbell rings at two seconds."""
    detector = BlobDetector(score=0.3)  # too unsure to begin a track
    pipeline = CameraPipeline(_config(), count(1))
    looks = []
    for number in range(1, 10 * 15):
        if number == 30:
            pipeline.look_until, detector.score = 2.0 + 4.0, 0.9
        before = detector.looks
        pipeline.step(frame(number, 200), LoadedDetector(detector, 0.5))
        looks.append(detector.looks - before)
    assert sum(looks[1:29]) == 0
    assert sum(looks[29:90]) >= 4 * 5 - 1
    assert pipeline.latest
    assert pipeline.latest.tracks[0].confirmed
