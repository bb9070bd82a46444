"""What the committed demo model finds of the rendered scenes, through the worker's own pipeline and the incident logic.

Every scene of the catalogue is rendered once (kept in .cache/scenes), read as a video file, looked at 5 times a second
and taken through motion gate, regions, detector, tracker and `episodes.py`, all with the integration's defaults.

A true incident is found when one of ours begins within it (or shortly before: what is far or half hidden may be seen
before the truth counts it); one of ours that begins within no true one is a false alarm. The boxes of confirmed tracks
are compared with the truth of their very frame: with the object of their label that they overlap most.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
import os
from pathlib import Path
import threading

from benchmarks import _report
from custom_components.nemotron_security.const import (
    DEFAULT_CONFIDENCE,
    DEFAULT_FPS,
    DEFAULT_LABELS,
    DEFAULT_MAXIMUM_LENGTH,
    DEFAULT_QUIET_TIME,
)
from custom_components.nemotron_security.episodes import Episode, Episodes, Turn
from custom_components.nemotron_security.vision.messages import (
    Box,
    CameraConfig,
    DetectorConfig,
    FrameTracks,
    Source,
    SourceKind,
)
from custom_components.nemotron_security.vision.pipeline import CameraPipeline, LoadedDetector
from custom_components.nemotron_security.vision.sources import open_source
from custom_components.nemotron_security.vision.watch import follow
from demo.clips import clip
from demo.scenes import SCENES, GroundTruth, IncidentTruth

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = REPOSITORY / "demo" / "detector" / "model"
EARLY = 3.0
"""Seconds that an incident may begin before the truth counts its object."""


@dataclass(slots=True)
class Outcome:
    """What came of one scene: our incidents as (start, end) seconds, and the overlaps of the boxes."""

    truth: GroundTruth
    found: list[tuple[float, float]] = field(default_factory=list)
    overlaps: list[float] = field(default_factory=list)

    @property
    def missed(self) -> list[IncidentTruth]:
        """True incidents that were not found."""
        return [true for true in self.truth.incidents if not any(_matches(true, found) for found in self.found)]

    @property
    def false(self) -> list[tuple[float, float]]:
        """Incidents of ours that were none."""
        return [found for found in self.found if not any(_matches(true, found) for true in self.truth.incidents)]


def _matches(true: IncidentTruth, found: tuple[float, float]) -> bool:
    start, end = found
    return true.start - EARLY <= start <= true.end and end >= true.start


def clips() -> Iterator[tuple[Path, GroundTruth]]:
    """Yield every scene of the catalogue, rendered; one that has changed, or another renderer's, is rendered anew."""
    for name in SCENES:
        path = clip(name)
        yield path, GroundTruth.load(path.with_suffix(".json"))


def watch(path: Path, truth: GroundTruth, loaded: LoadedDetector) -> Outcome:
    """Take one clip through the pipeline."""
    source = Source(kind=SourceKind.FILE, location=str(path), loop=False, realtime=False)
    config = CameraConfig(
        camera_id=truth.name, source=source, fps=DEFAULT_FPS, labels=DEFAULT_LABELS, confidence=DEFAULT_CONFIDENCE
    )
    episodes = Episodes(truth.name, quiet_time=DEFAULT_QUIET_TIME, maximum_length=DEFAULT_MAXIMUM_LENGTH)
    outcome = Outcome(truth)
    with open_source(source, fps=0, stop=threading.Event()) as frames:
        for frame, reports, _ in follow(frames, CameraPipeline(config, count(1)), loaded):
            for tracks in (report for report in reports if isinstance(report, FrameTracks)):
                _note(outcome, (change.episode for change in episodes.see(tracks, frame.captured_at) if _ended(change)))
                outcome.overlaps += overlaps(tracks, truth)
            _note(outcome, (change.episode for change in episodes.tick(frame.captured_at)))
    _note(outcome, (change.episode for change in episodes.end()))
    return outcome


def _ended(change: tuple[Turn, Episode]) -> bool:
    return change[0] is Turn.ENDED


def _note(outcome: Outcome, episodes: Iterator[Episode]) -> None:
    outcome.found += [(episode.started_at.timestamp(), episode.last_seen_at.timestamp()) for episode in episodes]


def overlaps(tracks: FrameTracks, truth: GroundTruth) -> list[float]:
    """Return, for every confirmed track seen in this frame, how well its box fits (0: there is no such object)."""
    index = min(round(tracks.captured_at * truth.fps), len(truth.frames) - 1)
    objects = truth.frames[index].objects
    seen = [track for track in tracks.tracks if track.confirmed and track.last_seen_at == tracks.captured_at]
    return [
        max((iou(track.box, Box(*real.box)) for real in objects if real.label == track.label), default=0.0)
        for track in seen
    ]


def iou(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes."""
    shared = Box(
        max(one.left, other.left), max(one.top, other.top), min(one.right, other.right), min(one.bottom, other.bottom)
    )
    if shared.width <= 0 or shared.height <= 0:
        return 0.0
    return shared.area / (one.area + other.area - shared.area)


def measure() -> _report.Figures:
    """Play all scenes."""
    loaded = LoadedDetector.load(DetectorConfig(model=os.environ.get("MODEL", str(MODEL)), threads=1))
    outcomes = []
    for path, truth in clips():
        outcome = watch(path, truth, loaded)
        outcomes.append(outcome)
        print(_line(outcome), flush=True)
    return _figures(outcomes)


def _line(outcome: Outcome) -> str:
    truth = outcome.truth
    fit = sum(outcome.overlaps) / max(1, len(outcome.overlaps))
    missed = "".join(f" missed {true.start:.1f}-{true.end:.1f} {'+'.join(true.labels)}" for true in outcome.missed)
    false = "".join(f" false {start:.1f}-{end:.1f}" for start, end in outcome.false)
    return f"{truth.name:18} true {len(truth.incidents)} found {len(outcome.found)} iou {fit:.2f}{missed}{false}"


def _figures(outcomes: Sequence[Outcome]) -> _report.Figures:
    true = sum(len(outcome.truth.incidents) for outcome in outcomes)
    found = sum(len(outcome.found) for outcome in outcomes)
    fits = [fit for outcome in outcomes for fit in outcome.overlaps]
    return {
        "recall": 1 - sum(len(outcome.missed) for outcome in outcomes) / true,
        "false_alarms": sum(len(outcome.false) for outcome in outcomes) / max(1, found),
        "mean_iou": sum(fits) / max(1, len(fits)),
        "scenes": len(outcomes),
        "incidents": true,
        "found": found,
    }


if __name__ == "__main__":
    _report.run(measure, __doc__)
