"""What is asked of the database: domain objects in, domain objects out, each function within the caller's transaction.

Portable SQL only. Whatever changes an incident's words ends in `_incident`, which keeps the text that is searched.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
import json
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Text,
    bindparam,
    case,
    cast,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, defer

from ..models import (
    ANIMALS,
    PERSONS,
    Assessment,
    Backlog,
    Box,
    Detection,
    Feedback,
    HarmlessPlace,
    House,
    Incident,
    IncidentFilter,
    Judgement,
    Picture,
    Review,
    Track,
    iou,
    raised_reasoning,
)
from .rows import build, domain_of, fetch, select_fields, values_of
from .search import search_text, words_of
from .tables import AssessmentRow, DetectionRow, HarmlessPlaceRow, Id, IncidentRow, JudgementRow, PictureRow, TrackRow

RULES = "rules"
"""The analyzer whose word is provisional."""
STILL_OVERLAP, STEADY_OVERLAP = 0.6, 0.75
"""Intersection over union that each sight of a track has with its last box, if it kept its place."""
STEADY_TIME = 10.0
"""Seconds after which something that passes for living is taken for a thing: who waits at a door sways, and leaves."""
LIVING = PERSONS | ANIMALS
NOTABLE_SCORE_CHANGE = 10
"""Points of the rules' score that make an incident worth another judgement."""
NOBODY = "0"
"""How many took part, in the look of an incident in which nothing was seen."""

_INCIDENT_ID = bindparam("incident_id", type_=Id)
_INCIDENT = select_fields(Incident, IncidentRow).where(IncidentRow.id == _INCIDENT_ID)
# To be changed: without what is asked of other tables.
_INCIDENT_ROW = (
    select(IncidentRow)
    .options(defer(IncidentRow.picture_id), defer(IncidentRow.peak_score))
    .where(IncidentRow.id == _INCIDENT_ID)
)
_JUDGEMENT_ROW = select(JudgementRow).where(JudgementRow.incident_id == _INCIDENT_ID)
_TRACKS = (
    select_fields(Track, TrackRow)
    .where(TrackRow.incident_id == _INCIDENT_ID)
    .order_by(TrackRow.first_seen_at, TrackRow.track_id)
)
_ASSESSMENTS = (
    select_fields(Assessment, AssessmentRow).where(AssessmentRow.incident_id == _INCIDENT_ID).order_by(AssessmentRow.id)
)
_SHOWN = (
    select(AssessmentRow.shown)
    .where(AssessmentRow.incident_id == _INCIDENT_ID, AssessmentRow.analyzer != RULES)
    .order_by(AssessmentRow.id.desc())
    .limit(1)
)
_DETECTIONS = (
    select_fields(Detection, DetectionRow)
    .where(DetectionRow.incident_id == _INCIDENT_ID)
    .order_by(DetectionRow.detected_at, DetectionRow.id)
)
_PICTURES = (
    select_fields(Picture, PictureRow)
    .where(PictureRow.incident_id == _INCIDENT_ID)
    .order_by(PictureRow.score.desc(), PictureRow.id)
)

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


def start_incident(
    session: Session,
    camera_id: str,
    tracks: Sequence[Track],
    *,
    started_at: datetime,
    assessment: Assessment,
    trigger: str | None,
) -> Incident:
    """Insert an incident, its tracks, its first assessment, and what opened it from outside the camera."""
    in_order = sorted(tracks, key=lambda track: track.first_seen_at)
    row = IncidentRow(
        camera_id=camera_id,
        started_at=started_at,
        last_seen_at=max([started_at, *(track.last_seen_at for track in tracks)]),
        labels=tuple(dict.fromkeys(track.label for track in in_order)),
        zones=tuple(dict.fromkeys(zone for track in in_order for zone in track.zones)),
        object_count=len(tracks),
        trigger=trigger,
        title="",
        summary="",
        search_text="",
    )
    session.add(row)
    session.flush()
    _merge_tracks(session, row.id, tracks)
    _add_assessment(session, row, assessment)
    return _incident(session, row)


def save_incident(session: Session, incident: Incident, tracks: Sequence[Track]) -> Incident:
    """Update an incident's course (not its verdict nor its picture) and insert or update tracks."""
    row = _existing(session, incident.id)
    row.last_seen_at, row.ended_at = incident.last_seen_at, incident.ended_at
    row.labels, row.zones, row.object_count = incident.labels, incident.zones, incident.object_count
    _merge_tracks(session, incident.id, tracks)
    return _incident(session, row)


def assess(session: Session, incident_id: int, assessment: Assessment) -> Incident:
    """Insert an assessment and let the incident take its verdict. That of a model is what its judgement waited for.

    A floor that the model did not know of holds all the same, and what goes on is asked about again at once.
    """
    row = _existing(session, incident_id)
    if assessment.analyzer == RULES:
        raised = _add_assessment(session, row, assessment)
        if raised and row.ended_at is None and (judgement := _judgement_of(session, incident_id)):
            judgement.due_at = judgement.due_at or assessment.created_at
        return _incident(session, row)
    judgement = _judgement_of(session, incident_id)
    knew = judgement is not None and judgement.look is not None and judgement.look[-1] == _look(row)[-1]
    held = assessment if knew else assessment.raised_to(row.floor)
    _add_assessment(session, row, held)
    if judgement:
        _judge_again(session, row, judgement, assessment.created_at, now=held is not assessment)
    return _incident(session, row)


def review(session: Session, incident_id: int, review: Review) -> Incident:
    """Let the incident take what a person makes of it, and keep in mind what stood still there if it was harmless."""
    row = _existing(session, incident_id)
    session.execute(delete(HarmlessPlaceRow).where(HarmlessPlaceRow.incident_id == incident_id))
    if review.feedback is Feedback.FALSE_ALARM:
        session.add_all(HarmlessPlaceRow(**values_of(place)) for place in _still_places(session, row, review.at))
    row.reviewed_at = review.at if review.reviewed else None
    row.feedback, row.note = review.feedback, review.note
    return _incident(session, row)


def harmless_places(session: Session, limit: int) -> list[HarmlessPlace]:
    """List the places that were called harmless, the newest first; at most so many of a camera."""
    number = func.row_number().over(partition_by=HarmlessPlaceRow.camera_id, order_by=HarmlessPlaceRow.id.desc())
    numbered = select(HarmlessPlaceRow.id, number.label("number")).subquery()
    query = select_fields(HarmlessPlace, HarmlessPlaceRow).join(numbered, numbered.c.id == HarmlessPlaceRow.id)
    return fetch(session, HarmlessPlace, query.where(numbered.c.number <= limit).order_by(HarmlessPlaceRow.id.desc()))


def forget_harmless_places(session: Session, camera_id: str) -> int:
    """Forget a camera's places; returns how many there were."""
    rows = session.scalars(select(HarmlessPlaceRow).where(HarmlessPlaceRow.camera_id == camera_id)).all()
    for row in rows:
        session.delete(row)
    return len(rows)


def close_open_incidents(session: Session) -> list[Incident]:
    """End every open incident at its last sight."""
    rows = session.scalars(select(IncidentRow).where(IncidentRow.ended_at.is_(None)).order_by(IncidentRow.id)).all()
    for row in rows:
        row.last_seen_at = row.ended_at = _last_sight(session, row)
    return [_incident(session, row) for row in rows]


def incident(session: Session, incident_id: int) -> Incident | None:
    """Find an incident."""
    found = fetch(session, Incident, _INCIDENT, incident_id=incident_id)
    return found[0] if found else None


def incidents(session: Session, wanted: IncidentFilter, before_id: int | None, limit: int) -> list[Incident]:
    """List incidents, the newest first."""
    query = (
        select_fields(Incident, IncidentRow).where(*_conditions(wanted)).order_by(IncidentRow.id.desc()).limit(limit)
    )
    if before_id is not None:
        query = query.where(IncidentRow.id < before_id)
    return fetch(session, Incident, query)


def tracks(session: Session, incident_id: int) -> list[Track]:
    """List an incident's tracks, the first seen first."""
    return fetch(session, Track, _TRACKS, incident_id=incident_id)


def assessments(session: Session, incident_id: int) -> list[Assessment]:
    """List what was said of an incident, in the order it was said."""
    return fetch(session, Assessment, _ASSESSMENTS, incident_id=incident_id)


def await_judgement(session: Session, incident_id: int, due_at: datetime, house: House | None) -> None:
    """Let an incident wait for an analyzer.

    One that was judged waits again when it ended and is not as it was then, or when somebody came for the first time.
    """
    incident = _existing(session, incident_id)
    judgement = _judgement_of(session, incident_id)
    if judgement is None:
        if incident.analyzer in (None, RULES):
            session.add(JudgementRow(incident_id=incident_id, due_at=due_at, tries=0, house=house))
        return
    if house is not None:
        judgement.house = house
    if judgement.due_at is None:
        _judge_again(session, incident, judgement, due_at)


def resume_judgements(session: Session, due_at: datetime) -> None:
    """Let those wait again that were judged and ended without a word: it was lost in a crash."""
    query = select(JudgementRow, IncidentRow).join(IncidentRow)
    query = query.where(JudgementRow.due_at.is_(None), IncidentRow.ended_at.is_not(None))
    for judgement, incident in session.execute(query).all():
        _judge_again(session, incident, judgement, due_at)


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
    found = session.execute(_FOR_TRIAL if for_trial else _MOST_URGENT, others | {"now": now}).first()
    if found is None:
        return None
    judgement = _judgement(found)
    look = update(JudgementRow).where(JudgementRow.incident_id == judgement.incident.id)
    session.execute(look.values(look=_look(judgement.incident)))
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
    if judgement := _judgement_of(session, incident_id):
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


def assessed_since(session: Session, moment: datetime) -> list[datetime]:
    """List when models gave an assessment, the oldest first."""
    query = select(AssessmentRow.created_at).where(AssessmentRow.analyzer != RULES, AssessmentRow.created_at >= moment)
    return list(session.scalars(query.order_by(AssessmentRow.created_at)))


def add_detections(session: Session, detections: Sequence[Detection]) -> list[Detection]:
    """Insert detections and return them with their ids, in the same order."""
    _all_exist(session, {detection.incident_id for detection in detections if detection.incident_id is not None})
    rows = [DetectionRow(**values_of(detection, without={"id"})) for detection in detections]
    session.add_all(rows)
    session.flush()
    return [replace(detection, id=row.id) for detection, row in zip(detections, rows, strict=True)]


def detections(session: Session, incident_id: int) -> list[Detection]:
    """List an incident's detections, in the order of their times."""
    return fetch(session, Detection, _DETECTIONS, incident_id=incident_id)


def add_picture(
    session: Session, picture: Picture, write: Callable[[int], None], kept: Collection[int]
) -> tuple[Picture, Incident, list[int]]:
    """Insert a picture, write its file, and delete the rows that it replaces, but not those that are kept.

    Returns:
        The picture with its id, its incident with the best picture, and the ids of pictures whose files have lost
        their owner once this is committed.
    """
    _existing(session, picture.incident_id)
    if replaced := _earlier(session, picture):
        shown = _shown(session, picture.incident_id)
        replaced = [earlier for earlier in replaced if earlier.id not in kept and earlier.id not in shown]
    row = PictureRow(**values_of(picture, without={"id"}))
    session.add(row)
    session.flush()
    for earlier in replaced:
        session.delete(earlier)
    session.flush()
    (incident,) = fetch(session, Incident, _INCIDENT, incident_id=picture.incident_id)
    stored = replace(picture, id=row.id), incident, [earlier.id for earlier in replaced]
    # Last, so that the file's row can fail in nothing but the commit.
    write(row.id)
    return stored


def pictures(session: Session, incident_id: int) -> list[Picture]:
    """List an incident's pictures, the best first."""
    return fetch(session, Picture, _PICTURES, incident_id=incident_id)


def picture(session: Session, picture_id: int) -> tuple[Picture, str] | None:
    """Find a picture and the camera that took it."""
    query = select(PictureRow, IncidentRow.camera_id).join(IncidentRow).where(PictureRow.id == picture_id)
    if (found := session.execute(query).first()) is None:
        return None
    row, camera_id = found
    return domain_of(Picture, row), camera_id


def picture_sizes(session: Session, picture_ids: Collection[int]) -> dict[int, int]:
    """Return how many bytes the pictures' files must have, of those that there are."""
    rows = session.execute(select(PictureRow.id, PictureRow.size).where(PictureRow.id.in_(picture_ids)))
    return dict(rows.tuples().all())


def picture_bytes(session: Session) -> int:
    """Return how many bytes all pictures have."""
    return int(session.scalar(select(func.coalesce(func.sum(PictureRow.size), 0))) or 0)


def orphans(session: Session, picture_ids: set[int]) -> set[int]:
    """Return which of these pictures have no row."""
    if not picture_ids:
        return set()
    query = select(PictureRow.id).where(PictureRow.id.between(min(picture_ids), max(picture_ids)))
    return picture_ids - set(session.scalars(query))


def _conditions(wanted: IncidentFilter) -> Iterator[ColumnElement[bool]]:
    row = IncidentRow
    if wanted.camera_ids is not None:
        yield row.camera_id.in_(sorted(wanted.camera_ids))
    if wanted.labels is not None:
        yield exists().where(TrackRow.incident_id == row.id, TrackRow.label.in_(sorted(wanted.labels)))
    if wanted.zones is not None:
        # The list is kept as JSON, where a name stands in quotes; REPLACE tells capitals apart in every database.
        text = cast(row.zones, Text)
        names = (json.dumps(zone) for zone in sorted(wanted.zones))
        yield or_(false(), *(func.replace(text, name, "") != text for name in names))
    yield from _risk_conditions(wanted)
    if wanted.since is not None:
        yield or_(row.ended_at.is_(None), row.ended_at >= wanted.since)
    if wanted.until is not None:
        yield row.started_at < wanted.until
    if wanted.reviewed is not None:
        yield row.reviewed_at.is_not(None) if wanted.reviewed else row.reviewed_at.is_(None)
    if wanted.feedback is not None:
        yield row.feedback == wanted.feedback
    for word in words_of(wanted.text or ""):
        yield row.search_text.contains(word, autoescape=True)


def _risk_conditions(wanted: IncidentFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.minimum_risk is not None:
        yield IncidentRow.risk_score >= wanted.minimum_risk
    if wanted.maximum_risk is not None:
        yield IncidentRow.risk_score <= wanted.maximum_risk
    if wanted.minimum_peak is not None:
        yield IncidentRow.peak_score >= wanted.minimum_peak


def _existing(session: Session, incident_id: int) -> IncidentRow:
    row = session.scalar(_INCIDENT_ROW, {"incident_id": incident_id})
    if row is None:
        raise LookupError(f"there is no incident {incident_id}")
    return row


def _judgement_of(session: Session, incident_id: int) -> JudgementRow | None:
    return session.scalar(_JUDGEMENT_ROW, {"incident_id": incident_id})


def _all_exist(session: Session, incident_ids: set[int]) -> None:
    query = select(IncidentRow.id).where(IncidentRow.id.in_(incident_ids))
    if incident_ids and (missing := incident_ids.difference(session.scalars(query))):
        raise LookupError(f"there is no incident {min(missing)}")


def _without(incidents: Collection[int], cameras: Collection[str]) -> dict[str, Any]:
    return {"incidents": list(incidents), "cameras": list(cameras)}


def _judgement(row: Row[Any]) -> Judgement:
    return Judgement(incident=build(Incident, row), house=row.house, tries=row.tries, problem=row.problem)


def _judge_again(
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


def _look(incident: Incident | IncidentRow) -> tuple[str, ...]:
    """Return what makes an incident worth another judgement when it changes."""
    score = (incident.rules_score or 0) // NOTABLE_SCORE_CHANGE
    return (*incident.labels, *incident.zones, str(incident.object_count), str(score), incident.floor or "no floor")


def _incident(session: Session, row: IncidentRow) -> Incident:
    """Return the incident as the transaction will leave it, and keep its words for searches."""
    row.search_text = search_text(
        row.title, row.summary, row.reasoning, row.note, row.trigger, *row.zones, labels=row.labels
    )
    session.flush()
    (stored,) = fetch(session, Incident, _INCIDENT, incident_id=row.id)
    return stored


def _merge_tracks(session: Session, incident_id: int, tracks: Sequence[Track]) -> None:
    for track in tracks:
        session.merge(TrackRow(incident_id=incident_id, **values_of(track)))


def _add_assessment(session: Session, row: IncidentRow, assessment: Assessment) -> bool:
    """Insert an assessment; return whether it is a floor's that raised what a model had said."""
    session.add(AssessmentRow(incident_id=row.id, **values_of(assessment)))
    if assessment.analyzer == RULES:
        row.rules_score, row.floor = assessment.risk_score, assessment.floor
    if assessment.analyzer == RULES and row.analyzer not in (None, RULES):
        # A model has judged: the rules' later word is kept, but but for a floor it does not take its place.
        return _hold(row)
    row.risk_score, row.analyzer = assessment.risk_score, assessment.analyzer
    row.title, row.summary, row.reasoning = assessment.title, assessment.summary, assessment.reasoning
    return False


def _hold(row: IncidentRow) -> bool:
    """Raise a model's word to the floor that holds now; return whether it was below."""
    if row.floor is None or row.risk_score is None or row.risk_score >= row.floor.lowest:
        return False
    row.reasoning = raised_reasoning(row.reasoning, row.risk_score, row.floor)
    row.risk_score = row.floor.lowest
    return True


def _last_sight(session: Session, row: IncidentRow) -> datetime:
    def latest(moment: InstrumentedAttribute[datetime], owner: InstrumentedAttribute[Any]) -> datetime:
        return session.scalar(select(func.max(moment)).where(owner == row.id)) or row.last_seen_at

    return max(
        row.last_seen_at,
        latest(TrackRow.last_seen_at, TrackRow.incident_id),
        latest(DetectionRow.detected_at, DetectionRow.incident_id),
        latest(PictureRow.captured_at, PictureRow.incident_id),
    )


def _still_places(session: Session, row: IncidentRow, at: datetime) -> Iterator[HarmlessPlace]:
    """Return where tracks stood that kept their place as long as the incident went on."""
    sights: dict[int, list[Box]] = {}
    for sight in detections(session, row.id):
        sights.setdefault(sight.track_id, []).append(sight.box)
    for track in tracks(session, row.id):
        steadiness = STEADY_OVERLAP if track.label in LIVING else STILL_OVERLAP
        stays = track.label not in LIVING or track.dwell >= STEADY_TIME
        if stays and all(iou(track.box, box) >= steadiness for box in sights.get(track.track_id, ())):
            yield HarmlessPlace(
                camera_id=row.camera_id,
                label=track.label,
                box=track.box.in_shares(track.frame_width, track.frame_height),
                created_at=at,
                incident_id=row.id,
            )


def _shown(session: Session, incident_id: int) -> Collection[int | None]:
    """Return what was shown to the model whose verdict counts."""
    return session.scalar(_SHOWN, {"incident_id": incident_id}) or ()


def _earlier(session: Session, picture: Picture) -> Sequence[PictureRow]:
    query = select(PictureRow).where(
        PictureRow.incident_id == picture.incident_id,
        PictureRow.track_id == picture.track_id,
        PictureRow.kind == picture.kind,
    )
    return session.scalars(query).all()
