"""What a rendered clip really shows: every object in every frame, and the incidents that a watcher must find."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
import json
from pathlib import Path
from typing import Self

WATCHED = frozenset({"person", "bicycle", "car", "truck", "dog", "cat"})
"""Labels whose appearance is an incident."""
QUIET = 10.0
"""Seconds without anything that end an incident."""
SEEN = 0.35
"""Share of an object that must be visible for it to count."""
LEAST = 30
"""Height in pixels from which on an object counts."""
SHORTEST = 0.8
"""Seconds that an object must be seen to make an incident."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectTruth:
    """One object in one frame.

    Attributes:
        object_id: the same in all frames of a clip.
        label: COCO class name.
        box: left, top, right, bottom of what is visible of it, pixels; right and bottom are exclusive.
        visible: share of the object that is neither hidden nor outside the picture, 0..1.
        active: it moves, or it is alive; a parked car is not.
    """

    object_id: int
    label: str
    box: tuple[int, int, int, int]
    visible: float
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTruth:
    """All objects of one frame; `time` is seconds from the clip's begin."""

    index: int
    time: float
    objects: tuple[ObjectTruth, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentTruth:
    """Something that a watcher must announce: from the first to the last sight, seconds from the clip's begin."""

    start: float
    end: float
    labels: tuple[str, ...]
    object_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroundTruth:
    """Everything that is true of one clip."""

    name: str
    description: str
    width: int
    height: int
    fps: float
    frames: tuple[FrameTruth, ...]
    incidents: tuple[IncidentTruth, ...]

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return len(self.frames) / self.fps

    @property
    def harmless(self) -> bool:
        """Whether nothing happens that a watcher must announce."""
        return not self.incidents

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), separators=(",", ":")) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises OSError, ValueError, KeyError or TypeError when it cannot."""
        data = json.loads(path.read_text(encoding="utf-8"))
        frames = tuple(
            FrameTruth(
                index=frame["index"],
                time=frame["time"],
                objects=tuple(ObjectTruth(**{**found, "box": tuple(found["box"])}) for found in frame["objects"]),
            )
            for frame in data.pop("frames")
        )
        incidents = tuple(
            IncidentTruth(
                start=incident["start"],
                end=incident["end"],
                labels=tuple(incident["labels"]),
                object_ids=tuple(incident["object_ids"]),
            )
            for incident in data.pop("incidents")
        )
        return cls(**data, frames=frames, incidents=incidents)


def find_incidents(frames: Iterable[FrameTruth]) -> tuple[IncidentTruth, ...]:
    """Derive the incidents: times at which watched objects are active and well visible, joined over quiet times."""
    sights: dict[int, list[tuple[float, str]]] = {}
    for frame in frames:
        for found in frame.objects:
            if found.active and found.label in WATCHED and _counts(found):
                sights.setdefault(found.object_id, []).append((frame.time, found.label))
    spells = sorted(spell for object_id, seen in sights.items() for spell in _spells(object_id, seen))
    return tuple(_join(group) for group in _groups(spells))


type _Spell = tuple[float, float, int, str]


def _counts(found: ObjectTruth) -> bool:
    return found.visible >= SEEN and found.box[3] - found.box[1] >= LEAST


def _spells(object_id: int, seen: Sequence[tuple[float, str]]) -> list[_Spell]:
    """Split the sights of one object where it was away for longer than the quiet time."""
    spells: list[_Spell] = []
    start, end, label = seen[0][0], seen[0][0], seen[0][1]
    for time, _ in seen:
        if time - end > QUIET:
            spells.append((start, end, object_id, label))
            start = time
        end = time
    spells.append((start, end, object_id, label))
    return [spell for spell in spells if spell[1] - spell[0] >= SHORTEST]


def _groups(spells: Sequence[_Spell]) -> list[list[_Spell]]:
    groups: list[list[_Spell]] = []
    for spell in spells:
        if groups and spell[0] - max(end for _, end, _, _ in groups[-1]) <= QUIET:
            groups[-1].append(spell)
        else:
            groups.append([spell])
    return groups


def _join(group: Sequence[_Spell]) -> IncidentTruth:
    return IncidentTruth(
        start=min(start for start, _, _, _ in group),
        end=max(end for _, end, _, _ in group),
        labels=tuple(dict.fromkeys(label for _, _, _, label in group)),
        object_ids=tuple(dict.fromkeys(object_id for _, _, object_id, _ in group)),
    )
