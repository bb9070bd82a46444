"""The queue of the incidents that wait for an analyzer, each function within the caller's transaction."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, Row, bindparam, case, delete, func, select, update
from sqlalchemy.orm import Session, defer

from ..models import Backlog, House, Incident, Judgement
from .rows import INCIDENT_ID, build, existing, select_fields
from .tables import RULES, IncidentRow, JudgementRow

NOTABLE_SCORE_CHANGE = 10
"""Points of the rules' score that make an incident worth another judgement."""
NOBODY = "0"
"""How many took part, in the look of an incident in which nothing was seen."""

_JUDGEMENT_ROW = select(JudgementRow).options(defer(JudgementRow.house)).where(JudgementRow.incident_id == INCIDENT_ID)
_NOTE_LOOK = update(JudgementRow).where(JudgementRow.incident_id == bindparam("claimed")).values(look=bindparam("look"))
_WAITING = (
    select_fields(Incident, IncidentRow)
    .add_columns(JudgementRow.house, JudgementRow.tries, JudgementRow.problem)
    .join(JudgementRow, JudgementRow.incident_id == IncidentRow.id)
    .where(
        JudgementRow.due_at.is_not(None),
        JudgementRow.incident_id.not_in(bindparam("incidents", expanding=True)),
        IncidentRow.camera_id.not_in(bindparam("cameras", expanding=True)),
    )
)
_DUE = _WAITING.where(JudgementRow.due_at <= bindparam("now"))
_NOT_TOO_OLD = IncidentRow.last_seen_at >= bindparam("seen_since")
_MOST_URGENT = _DUE.where(_NOT_TOO_OLD).order_by(IncidentRow.rules_score.desc(), JudgementRow.due_at).limit(1)
_FRESH = JudgementRow.problem.is_(None)
_FOR_TRIAL = (
    _DUE.where(_NOT_TOO_OLD)
    .order_by(
        JudgementRow.tries,
        _FRESH.desc(),
        case((_FRESH, IncidentRow.rules_score), else_=0).desc(),
        JudgementRow.due_at,
    )
    .limit(1)
)
_NEXT = _WAITING.where(_NOT_TOO_OLD).with_only_columns(func.min(JudgementRow.due_at))
_OLD = (
    _DUE.where(IncidentRow.last_seen_at < bindparam("before"))
    .order_by(JudgementRow.incident_id)
    .limit(bindparam("most", type_=Integer))
)


def await_judgement(session: Session, incident_id: int, due_at: datetime, house: House | None) -> None:
    """Let an incident wait for an analyzer.

    One that was judged waits again when it ended and is not as it was then, or when somebody came for the first time.
    """
    incident = existing(session, incident_id)
    judgement = judgement_of(session, incident_id)
    if judgement is None:
        if incident.analyzer in (None, RULES):
            session.add(JudgementRow(incident_id=incident_id, due_at=due_at, tries=0, house=house))
        return
    if house is not None:
        judgement.house = house
    if judgement.due_at is None:
        judge_again(session, incident, judgement, due_at)


def resume_judgements(session: Session, due_at: datetime) -> None:
    """Let those wait again that were judged and ended without a word: it was lost in a crash."""
    query = select(JudgementRow, IncidentRow).join(IncidentRow)
    query = query.where(JudgementRow.due_at.is_(None), IncidentRow.ended_at.is_not(None))
    for judgement, incident in session.execute(query).all():
        judge_again(session, incident, judgement, due_at)


def claim_judgement(
    session: Session,
    now: datetime,
    seen_since: datetime,
    without_incidents: Collection[int],
    without_cameras: Collection[str],
    *,
    for_trial: bool,
) -> Judgement | None:
    """Choose the most urgent incident that is due, and note how it looks now that it is asked about.

    For a trial: that which failed least, of these the most urgent that was never tried, or was tried the longest ago.
    """
    others = _without(without_incidents, without_cameras) | {"seen_since": seen_since}
    found = session.connection().execute(_FOR_TRIAL if for_trial else _MOST_URGENT, others | {"now": now}).first()
    if found is None:
        return None
    judgement = _judgement(found)
    look = {"claimed": judgement.incident.id, "look": _look(judgement.incident)}
    session.connection().execute(_NOTE_LOOK, look)
    return judgement


def next_judgement_at(
    session: Session, seen_since: datetime, without_incidents: Collection[int], without_cameras: Collection[str]
) -> datetime | None:
    """Say when the next incident is, or was, due."""
    return session.scalar(_NEXT, _without(without_incidents, without_cameras) | {"seen_since": seen_since})


def old_judgements(
    session: Session, now: datetime, before: datetime, without_incidents: Collection[int], limit: int
) -> list[Judgement]:
    """List what is due for an analyzer though nothing of the incident was seen since `before`, the oldest first."""
    rows = session.execute(_OLD, _without(without_incidents, ()) | {"now": now, "before": before, "most": limit})
    return [_judgement(row) for row in rows]


def postpone_judgement(session: Session, incident_id: int, due_at: datetime, tries: int, problem: str | None) -> None:
    """Let an incident wait until later."""
    if judgement := judgement_of(session, incident_id):
        judgement.due_at, judgement.tries, judgement.problem = due_at, tries, problem


def hasten_judgements(session: Session, due_at: datetime, after: datetime) -> None:
    """Let those be due at `due_at` that would be so after `after` only."""
    session.execute(update(JudgementRow).where(JudgementRow.due_at > after).values(due_at=due_at))


def drop_judgement(session: Session, incident_id: int) -> None:
    """Let an incident wait no longer."""
    session.execute(delete(JudgementRow).where(JudgementRow.incident_id == incident_id))


def backlog(session: Session) -> Backlog:
    """Count what waits."""
    query = select(func.count(), func.min(JudgementRow.due_at)).where(JudgementRow.due_at.is_not(None))
    waiting, oldest_due_at = session.execute(query).one()
    return Backlog(waiting=waiting, oldest_due_at=oldest_due_at)


def judgement_of(session: Session, incident_id: int) -> JudgementRow | None:
    """Find the row of an incident that waits, or was judged and goes on."""
    return session.scalar(_JUDGEMENT_ROW, {"incident_id": incident_id})


def _without(incidents: Collection[int], cameras: Collection[str]) -> dict[str, Any]:
    return {"incidents": list(incidents), "cameras": list(cameras)}


def _judgement(row: Row[Any]) -> Judgement:
    return Judgement(incident=build(Incident, row), house=row.house, tries=row.tries, problem=row.problem)


def judge_again(
    session: Session, incident: IncidentRow, judgement: JudgementRow, due_at: datetime, *, now: bool = False
) -> None:
    """Let a judged incident wait until its end, unless it is to be `now`, or nobody was there and now is.

    If it ended, it waits once more when it changed notably, else no longer.
    """
    if incident.ended_at is not None and judgement.look == _look(incident):
        session.delete(judgement)
        return
    somebody_came = judgement.look is not None and judgement.look[-3] == NOBODY and incident.object_count > 0
    judgement.due_at = due_at if incident.ended_at is not None or now or somebody_came else None
    judgement.tries, judgement.problem = 0, None


def knew_floor(judgement: JudgementRow, incident: IncidentRow) -> bool:
    """Tell whether the floor that holds did so when the incident was asked about last."""
    return judgement.look is not None and judgement.look[-1] == _look(incident)[-1]


def _look(incident: Incident | IncidentRow) -> tuple[str, ...]:
    """Return what makes an incident worth another judgement when it changes."""
    score = (incident.rules_score or 0) // NOTABLE_SCORE_CHANGE
    return (*incident.labels, *incident.zones, str(incident.object_count), str(score), incident.floor or "no floor")
