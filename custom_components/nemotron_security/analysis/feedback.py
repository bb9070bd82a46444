"""What people said of similar incidents, so that a model learns what is usual here. Bounded."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, tzinfo
import re
from typing import Final, NamedTuple

from ..models import Feedback, Incident
from . import PastFeedback

MOST_LOOKED_AT: Final = 100
"""Incidents of each mark that are compared, the newest."""
MOST_TOLD: Final = 4
SIMILAR: Final = 0.5
"""From here on two incidents are similar; 1 is the same."""
SIMILAR_ELSEWHERE: Final = 0.6
"""On another camera; there, the same label at the same hour is not enough without some words in common."""

_CAMERA, _ZONES, _LABELS, _HOUR, _TEXT = 0.2, 0.15, 0.35, 0.2, 0.1
"""What each likeness weighs."""
_WORD: Final = re.compile(r"\w{3,}")


class _Said(NamedTuple):
    """What is counted together."""

    mark: Feedback
    note: str
    elsewhere: str | None
    """The id of its camera, if that is another one."""


def past_feedback(
    incident: Incident,
    reviewed: Iterable[Incident],
    zone: tzinfo | None,
    camera_name: Callable[[str], str] = str,
) -> tuple[PastFeedback, ...]:
    """Return what was said of incidents like this one: same mark, words and camera counted together, likest first.

    Args:
        incident: the one that is judged now.
        reviewed: earlier ones, the newest first.
        zone: in which the hour of the day is told.
        camera_name: gives the name of a camera by its id.
    """
    likeness: dict[_Said, float] = {}
    times: Counter[_Said] = Counter()
    for other in reviewed:
        if other.id == incident.id or other.feedback is None:
            continue
        alike, here = similarity(incident, other, zone), other.camera_id == incident.camera_id
        if alike >= (SIMILAR if here else SIMILAR_ELSEWHERE):
            said = _Said(other.feedback, (other.note or "").strip(), None if here else other.camera_id)
            times[said] += 1
            likeness[said] = max(likeness.get(said, 0.0), alike)
    told = sorted(times, key=lambda said: (likeness[said], times[said]), reverse=True)[:MOST_TOLD]
    return tuple(
        PastFeedback(
            feedback=said.mark,
            note=said.note,
            times=times[said],
            camera_name=None if said.elsewhere is None else camera_name(said.elsewhere),
        )
        for said in told
    )


def similarity(one: Incident, other: Incident, zone: tzinfo | None) -> float:
    """Return how alike two incidents are, 0 to 1: by camera and zones, labels, hour of the day and words.

    Those that have no label in common are not alike at all.
    """
    labels = _overlap(set(one.labels), set(other.labels))
    if not labels:
        return 0.0
    here = one.camera_id == other.camera_id
    zones = set(one.zones), set(other.zones)
    return (
        _CAMERA * here
        + _ZONES * here * (_overlap(*zones) if any(zones) else 1.0)
        + _LABELS * labels
        + _HOUR * _hours(one.started_at, other.started_at, zone)
        + _TEXT * _overlap(_words(one), _words(other))
    )


def _hours(one: datetime, other: datetime, zone: tzinfo | None) -> float:
    """Return 1 for the same time of day, 0 from six hours apart."""
    minutes = [at.astimezone(zone).hour * 60 + at.astimezone(zone).minute for at in (one, other)]
    apart = abs(minutes[0] - minutes[1])
    return max(0.0, 1 - min(apart, 24 * 60 - apart) / 360)


def _words(incident: Incident) -> set[str]:
    return {word.casefold() for word in _WORD.findall(f"{incident.title} {incident.summary} {incident.note or ''}")}


def _overlap[T](one: set[T], other: set[T]) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0
