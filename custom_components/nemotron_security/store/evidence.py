"""All that an incident is judged by, in one transaction: each by itself would cost the time of one more."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, bindparam, func, or_, select
from sqlalchemy.orm import Session

from ..models import Detection, Evidence, Feedback, Incident, Way
from . import queries
from .rows import INCIDENT_ID, fetch, select_fields
from .tables import DetectionRow, IncidentRow


def evidence(
    session: Session,
    incident: Incident,
    *,
    nearby: Collection[str],
    since: datetime,
    most_earlier: int,
    most_reviewed: int,
) -> Evidence:
    """Gather what is stored of an incident, of those before it on these cameras, and of those that people marked."""
    ours, wanted = {"incident_id": incident.id}, {"cameras": list(nearby), "since": since, "most": most_earlier}
    return Evidence(
        tracks=tuple(queries.tracks(session, incident.id)),
        ways=_ways(fetch(session, Detection, _SIGHTS, **ours)),
        pictures=queries.pictures(session, incident.id),
        earlier=fetch(session, Incident, _EARLIER, **ours, **wanted) if most_earlier else [],
        reviewed=_reviewed(session, incident.labels, most_reviewed),
    )


def _reviewed(session: Session, labels: Collection[str], most: int) -> list[Incident]:
    """Return incidents with something in common on which somebody said something, the newest first."""
    marked: list[Incident] = []
    for mark in Feedback if most else ():
        marked += fetch(session, Incident, _REVIEWED, feedback=mark, labels=list(labels), most=most)
    return sorted(marked, key=lambda other: other.id, reverse=True)


def _ways(sights: Collection[Detection]) -> dict[int, Way]:
    """Return how each track went, of its first sight and its largest."""
    pairs: dict[int, list[Detection]] = {}
    for sight in sights:
        pairs.setdefault(sight.track_id, []).append(sight)
    return {track_id: Way(first=pair[0], closest=pair[-1]) for track_id, pair in pairs.items()}


def _first_and_largest() -> Select[Any]:
    """Ask for two sights of each track that was seen more than once: of a long incident there are thousands."""
    area = (DetectionRow.box_right - DetectionRow.box_left) * (DetectionRow.box_bottom - DetectionRow.box_top)

    def number(*order: ColumnElement[Any]) -> ColumnElement[int]:
        return func.row_number().over(
            partition_by=DetectionRow.track_id, order_by=[*order, DetectionRow.detected_at, DetectionRow.id]
        )

    numbers = (
        select(
            DetectionRow.id,
            number().label("in_time"),
            number(area.desc()).label("by_area"),
            func.count().over(partition_by=DetectionRow.track_id).label("sights"),
        )
        .where(DetectionRow.incident_id == INCIDENT_ID)
        .subquery()
    )
    return (
        select_fields(Detection, DetectionRow)
        .join(numbers, numbers.c.id == DetectionRow.id)
        .where(numbers.c.sights > 1, or_(numbers.c.in_time == 1, numbers.c.by_area == 1))
        .order_by(numbers.c.in_time)
    )


_MOST = bindparam("most", type_=Integer)
_SIGHTS = _first_and_largest()
_EARLIER = (
    select_fields(Incident, IncidentRow)
    .where(
        IncidentRow.camera_id.in_(bindparam("cameras", expanding=True)),
        queries.went_on_until(bindparam("since")),
        IncidentRow.id < INCIDENT_ID,
    )
    .order_by(IncidentRow.id.desc())
    .limit(_MOST)
)
_REVIEWED = (
    select_fields(Incident, IncidentRow)
    .where(
        IncidentRow.feedback == bindparam("feedback"),
        queries.has_label(bindparam("labels", expanding=True)),
    )
    .order_by(IncidentRow.id.desc())
    .limit(_MOST)
)
