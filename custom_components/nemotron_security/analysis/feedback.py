"""What people said of similar incidents, so that a model learns what is usual here. Bounded."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, tzinfo
import re
from typing import Final

from ..models import Feedback, Incident
from . import PastFeedback

MOST_LOOKED_AT: Final = 100
"""Incidents of each mark that are compared, the newest."""
MOST_TOLD: Final = 4
SIMILAR: Final = 0.5
"""From here on two incidents are similar; 1 is the same."""

_CAMERA, _ZONES, _LABELS, _HOUR, _TEXT = 0.2, 0.15, 0.35, 0.2, 0.1
"""What each likeness weighs."""
_WORD: Final = re.compile(r"\w{3,}")


def past_feedback(incident: Incident, reviewed: Iterable[Incident], zone: tzinfo | None) -> tuple[PastFeedback, ...]:
    """Return what was said of incidents like this one: the same mark and words counted together, the likest first.

    Args:
        incident: the one that is judged now.
        reviewed: earlier ones, the newest first.
        zone: in which the hour of the day is told.
    """
    likeness: dict[tuple[Feedback, str], float] = {}
    times: Counter[tuple[Feedback, str]] = Counter()
    for other in reviewed:
        if other.id == incident.id or other.feedback is None:
            continue
        alike = similarity(incident, other, zone)
        if alike >= SIMILAR:
            said = other.feedback, (other.note or "").strip()
            times[said] += 1
            likeness[said] = max(likeness.get(said, 0.0), alike)
    told = sorted(times, key=lambda said: (likeness[said], times[said]), reverse=True)[:MOST_TOLD]
    return tuple(PastFeedback(feedback=mark, note=note, times=times[mark, note]) for mark, note in told)


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
