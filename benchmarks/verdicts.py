"""How well verdicts tell threats from their harmless look-alikes, for the rules and for a model of yours.

The table of `benchmarks/situations.py` says what each rendered scene means in a state of the house. What the worker's
pipeline sees of the scenes is the same each time, so it is recorded once, in `benchmarks/scene_tracks.json`, and made
anew when a scene or the detector changes (or with FRESH=1). The score of a situation is the highest of its incidents'.

An alarm is a score of 60 or more. `recall` is the share of threats that are alarms, `false_alarms` the share of
look-alikes that are, `auroc` how often a threat scores above a look-alike. With a model's server in NEMOTRON_URL (and
NEMOTRON_MODEL, NEMOTRON_KEY) the model judges the same with the pictures, and its verdicts are held by the floors as in
a running system: `model_...`. What it did not answer counts with the rules' score, as there, and in `model_failed`.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
import hashlib
from itertools import count
import json
import os
from pathlib import Path
import threading
from typing import Any, Final, NamedTuple, Self

from aiohttp import ClientSession

from benchmarks import _report
from benchmarks.scenes import MODEL, REPOSITORY
from benchmarks.situations import CAMERAS, SITUATIONS, STATES, Situation
from custom_components.nemotron_security.analysis import AnalysisError, Case, KeyFrame, rules
from custom_components.nemotron_security.analysis.chat import ChatModel, ChatServer
from custom_components.nemotron_security.analysis.keyframes import candidates, choose
from custom_components.nemotron_security.analysis.nemotron import NemotronAnalyzer
from custom_components.nemotron_security.analysis.probe import async_offered, async_probe_offered
from custom_components.nemotron_security.const import (
    DEFAULT_CONFIDENCE,
    DEFAULT_FPS,
    DEFAULT_KEY_FRAMES,
    DEFAULT_LABELS,
    DEFAULT_MAXIMUM_LENGTH,
    DEFAULT_QUIET_TIME,
)
from custom_components.nemotron_security.episodes import Episode, Episodes
from custom_components.nemotron_security.models import HIGH_RISK, Box, Picture, PictureKind, Track
from custom_components.nemotron_security.vision.messages import (
    CameraConfig,
    DetectorConfig,
    FrameTracks,
    Source,
    SourceKind,
    TrackPicture,
)
from custom_components.nemotron_security.vision.pipeline import CameraPipeline, LoadedDetector
from custom_components.nemotron_security.vision.sources import open_source
from custom_components.nemotron_security.vision.watch import follow
from demo.clips import clip, clip_path
from demo.scenes import SCENES

RECORD: Final = REPOSITORY / "benchmarks" / "scene_tracks.json"
PICTURES: Final = REPOSITORY / ".cache" / "verdicts"
PICTURES_LIST: Final = "pictures.json"
AT_ONCE: Final = 4
"""Questions that a model is asked at the same time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One incident of a scene as the pipeline saw it; times are those of the video."""

    tracks: tuple[Track, ...]

    def case(self, situation: Situation) -> Case:
        """Return the incident as if it had ended just now in this state of the house."""
        house = STATES[situation.state]
        begin, end = min(t.first_seen_at for t in self.tracks), max(t.last_seen_at for t in self.tracks)
        shift = house.at.astimezone(UTC) - end
        camera = CAMERAS[SCENES[situation.scene].setting]
        moved = (
            replace(track, first_seen_at=track.first_seen_at + shift, last_seen_at=track.last_seen_at + shift)
            for track in self.tracks
        )
        return Case(
            camera_id=situation.scene,
            camera_name=camera.name,
            started_at=begin + shift,
            tracks=tuple(moved),
            house=house,
            note=camera.note,
            view=camera.view,
        )

    def plain(self) -> list[dict[str, Any]]:
        """Return what JSON can hold."""
        times = ("first_seen_at", "last_seen_at")
        return [
            asdict(track)
            | {name: round(getattr(track, name).timestamp(), 3) for name in times}
            | {"box": [round(side) for side in track.box], "confidence": round(track.confidence, 3)}
            for track in self.tracks
        ]

    @classmethod
    def of(cls, tracks: Sequence[dict[str, Any]]) -> Self:
        """Read what `plain` returned."""
        times = ("first_seen_at", "last_seen_at")
        return cls(
            tuple(
                Track(
                    **track
                    | {name: datetime.fromtimestamp(track[name], UTC) for name in times}
                    | {"box": Box(*track["box"])}
                )
                for track in tracks
            )
        )


# --- what the pipeline sees -----------------------------------------------------------------------------------------


def recorded() -> dict[str, list[Seen]]:
    """Return what the pipeline sees of each scene of the table; watches those that have changed since the record."""
    record = _record()
    if changed := [name for name in _scenes() if os.environ.get("FRESH") or not _is_of_now(name, record)]:
        for name in changed:
            record[name] = {"of": _version(name), "incidents": [seen.plain() for seen in watch(name)]}
        kept = {name: record[name] for name in sorted(_scenes())}
        RECORD.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return {name: [Seen.of(tracks) for tracks in record[name]["incidents"]] for name in _scenes()}


def outdated() -> list[str]:
    """Return the scenes whose record is of another rendering or another detector."""
    record = _record()
    return [name for name in _scenes() if not _is_of_now(name, record)]


def _record() -> dict[str, Any]:
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}


def _scenes() -> list[str]:
    return list(dict.fromkeys(situation.scene for situation in SITUATIONS))


def _is_of_now(name: str, record: dict[str, Any]) -> bool:
    return name in record and record[name]["of"] == _version(name)


def _version(name: str) -> str:
    """Name what a record was made of: the rendered scene and the detector."""
    weights = hashlib.sha256((MODEL / "model.ncnn.bin").read_bytes()).hexdigest()[:8]
    return f"{clip_path(name).stem}-{weights}"


def _pictures_of(name: str) -> Path:
    return PICTURES / _version(name)


def watch(name: str) -> list[Seen]:
    """Take a scene through the worker's pipeline and the incident logic; its pictures are kept for models."""
    source = Source(kind=SourceKind.FILE, location=str(clip(name)), loop=False, realtime=False)
    config = CameraConfig(
        camera_id=name, source=source, fps=DEFAULT_FPS, labels=DEFAULT_LABELS, confidence=DEFAULT_CONFIDENCE
    )
    episodes = Episodes(name, quiet_time=DEFAULT_QUIET_TIME, maximum_length=DEFAULT_MAXIMUM_LENGTH)
    found: dict[int, Episode] = {}
    first: dict[int, TrackPicture] = {}
    best: dict[int, TrackPicture] = {}
    with open_source(source, fps=0, stop=threading.Event()) as frames:
        loaded = LoadedDetector.load(DetectorConfig(model=str(MODEL), threads=1))
        for frame, reports, _ in follow(frames, CameraPipeline(config, count(1)), loaded):
            for report in reports:
                if isinstance(report, FrameTracks):
                    changes = episodes.see(report, frame.captured_at)
                    found |= {id(change.episode): change.episode for change in changes}
                elif isinstance(report, TrackPicture):
                    (best if report.track_id in first else first)[report.track_id] = report
            found |= {id(change.episode): change.episode for change in episodes.tick(frame.captured_at)}
    kinds = ((PictureKind.FIRST, first), (PictureKind.BEST, best))
    _keep(name, [(kind, picture) for kind, of_tracks in kinds for picture in of_tracks.values()])
    return [Seen(tuple(episode.tracks.values())) for episode in found.values()]


def _keep(name: str, pictures: Collection[tuple[PictureKind, TrackPicture]]) -> None:
    folder = _pictures_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    facts = []
    for number, (kind, picture) in enumerate(pictures):
        (folder / f"{number}.jpg").write_bytes(picture.data)
        facts.append({name: value for name, value in asdict(picture).items() if name != "data"} | {"kind": kind})
    (folder / PICTURES_LIST).write_text(json.dumps(facts), encoding="utf-8")


def key_frames(name: str, incident: Seen, shift: timedelta) -> list[KeyFrame]:
    """Return the pictures that a model is shown of an incident, as the running system chooses them."""
    folder = _pictures_of(name)
    facts = json.loads((folder / PICTURES_LIST).read_text(encoding="utf-8"))
    tracks = {track.track_id for track in incident.tracks}
    matters = rules.importance(incident.tracks)
    taken = [_picture(number, fact) for number, fact in enumerate(facts) if fact["track_id"] in tracks]
    pictures = candidates(taken, matters, DEFAULT_KEY_FRAMES)
    jpegs = {picture.id: (folder / f"{picture.id}.jpg").read_bytes() for picture in pictures}
    return [
        KeyFrame(
            track_id=picture.track_id,
            captured_at=picture.captured_at + shift,
            jpeg=jpegs[picture.id],
            width=picture.width,
            height=picture.height,
            moment=moment,
        )
        for picture, moment in choose(pictures, matters, DEFAULT_KEY_FRAMES, jpegs)
    ]


def _picture(number: int, facts: dict[str, Any]) -> Picture:
    return Picture(
        id=number,
        incident_id=0,
        track_id=facts["track_id"],
        kind=PictureKind(facts["kind"]),
        captured_at=datetime.fromtimestamp(facts["captured_at"], UTC),
        box=Box(*facts["box"]),
        score=facts["score"],
        width=facts["width"],
        height=facts["height"],
        size=0,
    )


# --- verdicts -------------------------------------------------------------------------------------------------------


def judge_by_rules(seen: dict[str, list[Seen]]) -> list[int]:
    """Return the rules' score of each situation; 0 where there is no incident."""
    return [
        max((rules.assess(incident.case(situation)).risk_score for incident in seen[situation.scene]), default=0)
        for situation in SITUATIONS
    ]


async def async_judge_by_model(seen: dict[str, list[Seen]], url: str) -> tuple[list[int], int]:
    """Return a model's score of each situation, held by the floors, and how many questions it did not answer."""
    async with ClientSession() as session:
        server = ChatServer(session, url, os.environ.get("NEMOTRON_KEY"))
        name = os.environ.get("NEMOTRON_MODEL") or (await async_offered(server) or [])[0].name
        analyzer = NemotronAnalyzer(ChatModel(server, name, await async_probe_offered(server, name)))
        limit, failed = asyncio.Semaphore(AT_ONCE), 0

        async def score(situation: Situation, incident: Seen) -> int:
            nonlocal failed
            case = incident.case(situation)
            shift = case.started_at - min(track.first_seen_at for track in incident.tracks)
            pictures = key_frames(situation.scene, incident, shift)
            async with limit:
                try:
                    assessment = await analyzer.async_assess(case, pictures)
                except AnalysisError as err:
                    failed += 1
                    print(f"{situation.scene} / {situation.state}: {err}", flush=True)
                    return rules.assess(case).risk_score
            return rules.raise_to_floor(assessment, case).risk_score

        async def highest(situation: Situation) -> int:
            return max(await asyncio.gather(*(score(situation, one) for one in seen[situation.scene])), default=0)

        return await asyncio.gather(*map(highest, SITUATIONS)), failed


class Quality(NamedTuple):
    """How well scores tell threats from look-alikes."""

    recall: float
    false_alarms: float
    auroc: float

    def figures(self, prefix: str = "") -> dict[str, float]:
        """Return them for printing."""
        return {f"{prefix}{name}": value for name, value in self._asdict().items()}


def quality(scores: Sequence[int]) -> Quality:
    """Compare the scores of all situations with their labels."""
    threats = [score for score, situation in zip(scores, SITUATIONS, strict=True) if situation.threat]
    others = [score for score, situation in zip(scores, SITUATIONS, strict=True) if not situation.threat]
    above = sum((threat > other) + (threat == other) / 2 for threat in threats for other in others)
    return Quality(
        recall=sum(score >= HIGH_RISK for score in threats) / len(threats),
        false_alarms=sum(score >= HIGH_RISK for score in others) / len(others),
        auroc=above / (len(threats) * len(others)),
    )


def _print_mistakes(scores: Sequence[int], who: str) -> None:
    for score, situation in zip(scores, SITUATIONS, strict=True):
        if (score >= HIGH_RISK) is not situation.threat:
            what = "missed" if situation.threat else "false alarm"
            print(f"{who}: {what} ({score}): {situation.scene} / {situation.state}: {situation.why}", flush=True)


def measure() -> _report.Figures:
    """Let the rules judge, and a model if there is one."""
    seen = recorded()
    scores = judge_by_rules(seen)
    _print_mistakes(scores, "rules")
    results: dict[str, float] = {
        "situations": len(SITUATIONS),
        "threats": sum(s.threat for s in SITUATIONS),
        **quality(scores).figures(),
    }
    if url := os.environ.get("NEMOTRON_URL"):
        for name in seen:
            if not (_pictures_of(name) / PICTURES_LIST).exists():
                watch(name)
        scores, failed = asyncio.run(async_judge_by_model(seen, url))
        _print_mistakes(scores, "model")
        results |= {**quality(scores).figures("model_"), "model_failed": failed}
    return results


if __name__ == "__main__":
    _report.run(measure, __doc__)
