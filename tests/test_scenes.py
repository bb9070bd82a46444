"""The rendered scenes and the detector that was trained on their like."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
import pytest

from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.detectors.ncnn import NcnnDetector
from custom_components.nemotron_security.vision.messages import DetectorConfig
from demo.scenes import SCENES, FrameTruth, GroundTruth, ObjectTruth, SceneScript, render, render_script
from demo.scenes.renderer import SceneRenderer
from demo.scenes.script import Actor, Kind, Light, Sky, Stop, Way
from demo.scenes.truth import find_incidents

REPOSITORY = Path(__file__).parent.parent
OWN_MODEL = REPOSITORY / "demo" / "detector" / "model"
COCO_MODEL = REPOSITORY.parent / "shared" / "models" / "yolo11n_320_ncnn_model"
QUIET = 12.0


def _picture(script: SceneScript, time: float) -> tuple[NDArray[np.uint8], FrameTruth]:
    renderer = SceneRenderer(script)
    frame, truth = renderer.frame(round(time * renderer.fps))
    return frame.to_ndarray(format="rgb24").astype(np.uint8), truth


def _best(found: Detections, labels: tuple[str, ...], truth: ObjectTruth) -> float:
    """Return the highest score of the right label on an object."""
    left, top, right, bottom = truth.box
    best = 0.0
    for box, score, number in zip(found.boxes, found.scores, found.classes, strict=True):
        wide = min(right, box[2]) - max(left, box[0])
        tall = min(bottom, box[3]) - max(top, box[1])
        shared = max(0.0, wide) * max(0.0, tall)
        union = (right - left) * (bottom - top) + (box[2] - box[0]) * (box[3] - box[1]) - shared
        if labels[number] == truth.label and shared > 0.5 * union:
            best = max(best, float(score))
    return best


def test_catalogue() -> None:
    assert len(SCENES) >= 24
    harmless = [script for script in SCENES.values() if not any(actor.moves for actor in script.actors)]
    assert 3 * len(harmless) >= len(SCENES)
    kinds = {actor.kind for script in SCENES.values() for actor in script.actors}
    assert kinds == set(Kind)
    assert {script.light.sky for script in SCENES.values()} == set(Sky)
    assert {script.setting for script in SCENES.values()} == {"front_door", "driveway", "garden", "street"}
    assert all(script.name == name for name, script in SCENES.items())


@pytest.mark.parametrize("name", ["front_door", "driveway"])
def test_demo_scenes_loop_well(name: str) -> None:
    renderer = SceneRenderer(SCENES[name], fps=2)
    incidents = find_incidents(truth for _, truth in renderer.frames())
    seconds = SCENES[name].seconds
    assert 30 <= seconds <= 50
    assert 0 < incidents[0].start < 10
    starts = [incident.start for incident in incidents[1:]] + [incidents[0].start + seconds]
    assert all(start - incident.end > QUIET for start, incident in zip(starts, incidents, strict=True))


def test_render_writes_a_stream_that_can_be_joined_each_second(tmp_path: Path) -> None:
    path = tmp_path / "cat_garden.mp4"
    truth = render("cat_garden", path, seconds=4, fps=10)
    with av.open(path) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert (stream.codec.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate or 0) == 10
    assert (frames[0].width, frames[0].height, len(frames)) == (1280, 720, 40)
    assert [index for index, frame in enumerate(frames) if frame.key_frame] == [0, 10, 20, 30]
    assert len(truth.frames) == 40
    assert GroundTruth.load(path.with_suffix(".json")) == truth
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cat_garden.json", "cat_garden.mp4"]


def test_render_gives_the_same_bytes_again(tmp_path: Path) -> None:
    script = replace(SCENES["visitor_rain"], seconds=1)
    render_script(script, tmp_path / "a.mp4", fps=5)
    render_script(script, tmp_path / "b.mp4", fps=5)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_render_of_an_unknown_scene(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        render("no_such_scene", tmp_path / "no.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "time"), [("pedestrians", 9.0), ("prowler_infrared", 11.0), ("cat_garden", 8.5)])
def test_truth_is_where_the_picture_changes(name: str, time: float) -> None:
    """The same frame without those who move differs inside their boxes, and hardly outside but for shadows."""
    script = replace(SCENES[name], noise=0.0)
    still = replace(script, actors=tuple(actor for actor in script.actors if not actor.moves))
    picture, truth = _picture(script, time)
    empty, _ = _picture(still, time)
    changed = np.abs(picture.astype(int) - empty).max(axis=2) > 24
    boxes = [found.box for found in truth.objects if found.active]
    assert boxes
    for left, top, right, bottom in boxes:
        assert changed[top:bottom, left:right].mean() > 0.15
        for strip in (changed[top : top + 3, left:right], changed[bottom - 3 : bottom, left:right]):
            assert strip.any()
        for strip in (changed[top:bottom, left : left + 3], changed[top:bottom, right - 3 : right]):
            assert strip.any()
        changed[max(0, top - 4) : bottom + 4, max(0, left - 4) : right + 4] = False
    assert changed.mean() < 0.004


def test_visible_share_falls_behind_a_car() -> None:
    car = Actor(kind=Kind.CAR, stops=(Stop(0, 0.0, 7.0),), faces=1.57, stays=True, look=3)
    behind = Actor(kind=Kind.PERSON, stops=(Stop(0, 0.0, 9.5),), stays=True, look=4)
    script = SceneScript(name="hidden", description="", setting="street", seconds=2, actors=(car, behind))
    _, together = _picture(script, 1.0)
    _, alone = _picture(replace(script, actors=(behind,)), 1.0)
    hidden = next(found for found in together.objects if found.label == "person")
    assert alone.objects[0].visible == 1.0
    assert 0.05 < hidden.visible < 0.8
    assert hidden.box[3] < alone.objects[0].box[3]
    assert not any(found.active for found in together.objects)


def test_way_is_smooth_and_ends_where_it_should() -> None:
    way = Way(Actor(kind=Kind.PERSON, stops=(Stop(0, 0, 10), Stop(5, 0, 4), Stop(10, 5, 4))), 10)
    assert abs(way.at(0).z - 10) < 0.3
    assert abs(way.at(10).x - 5) < 0.3
    assert np.abs(np.diff(way.heading)).max() < 0.2
    assert way.present(9.9)
    assert not way.present(10.1)


def _frame(time: float, *found: ObjectTruth) -> FrameTruth:
    return FrameTruth(index=int(time), time=time, objects=found)


def _seen(number: int = 1, *, label: str = "person", active: bool = True, visible: float = 1.0) -> ObjectTruth:
    return ObjectTruth(object_id=number, label=label, box=(0, 0, 40, 90), visible=visible, active=active)


def test_incidents_join_over_quiet_times_and_part_after_them() -> None:
    frames = [_frame(t, _seen(1)) for t in range(3)]
    frames += [_frame(t, _seen(2, label="dog")) for t in range(10, 13)]
    frames += [_frame(t, _seen(1)) for t in range(30, 33)]
    first, second = find_incidents(frames)
    assert (first.start, first.end, first.labels, first.object_ids) == (0, 12, ("person", "dog"), (1, 2))
    assert (second.start, second.end, second.labels) == (30, 32, ("person",))


@pytest.mark.parametrize(
    "found",
    [_seen(active=False), _seen(visible=0.2), _seen(label="bird"), replace(_seen(), box=(0, 0, 10, 12))],
    ids=["parked", "hidden", "not watched", "tiny"],
)
def test_what_is_no_incident(found: ObjectTruth) -> None:
    assert find_incidents([_frame(t, found) for t in range(9)]) == ()


@pytest.mark.skipif(not COCO_MODEL.is_dir(), reason="the COCO weights are not beside the checkout")
@pytest.mark.parametrize(
    ("name", "time", "label", "least"),
    [
        ("two_visitors", 14.0, "person", 0.7),
        ("visitor_rain", 12.0, "person", 0.7),
        ("runner_fog", 6.5, "person", 0.7),
        ("delivery_van", 17.0, "person", 0.7),
        ("pedestrians", 12.0, "car", 0.7),
        ("street_traffic", 5.0, "car", 0.7),
    ],
)
def test_real_weights_know_what_was_drawn(name: str, time: float, label: str, least: float) -> None:
    detector = NcnnDetector(DetectorConfig(model=str(COCO_MODEL), threads=1, minimum_score=0.2))
    picture, truth = _picture(SCENES[name], time)
    (found,) = detector.detect([picture])
    scores = [_best(found, detector.labels, shown) for shown in truth.objects if shown.label == label]
    assert max(scores) >= least


@pytest.fixture(scope="module")
def own_detector() -> NcnnDetector:
    return NcnnDetector(DetectorConfig(model=str(OWN_MODEL), threads=1, minimum_score=0.05))


def test_own_model_is_small_and_ours(own_detector: NcnnDetector) -> None:
    assert sum(file.stat().st_size for file in OWN_MODEL.iterdir()) <= 3_000_000
    assert set(own_detector.labels) == {"person", "bicycle", "car", "truck", "dog", "cat"}
    metadata = (OWN_MODEL / "metadata.yaml").read_text(encoding="utf-8")
    assert "license: Apache-2.0" in metadata
    assert "AGPL" not in metadata


@pytest.mark.parametrize(
    ("name", "time", "label"),
    [
        ("front_door", 8.5, "person"),
        ("front_door", 34.8, "dog"),
        ("driveway", 10.0, "car"),
        ("driveway", 15.0, "person"),
        ("prowler_infrared", 11.0, "person"),
        ("pedestrians", 9.0, "car"),
        ("cat_garden", 8.5, "cat"),
    ],
)
def test_own_model_is_sure_of_what_is_there(own_detector: NcnnDetector, name: str, time: float, label: str) -> None:
    picture, truth = _picture(SCENES[name], time)
    (found,) = own_detector.detect([picture])
    scores = [_best(found, own_detector.labels, shown) for shown in truth.objects if shown.label == label]
    assert max(scores) >= 0.7


@pytest.mark.parametrize(
    "name", ["empty_door", "empty_infrared", "empty_rain", "empty_snow", "storm_trees", "lamp_alone"]
)
def test_own_model_sees_nothing_where_nothing_is(own_detector: NcnnDetector, name: str) -> None:
    picture, truth = _picture(replace(SCENES[name], light=SCENES[name].light or Light()), 8.0)
    assert not truth.objects
    (found,) = own_detector.detect([picture])
    assert found.scores.max(initial=0.0) < 0.5
