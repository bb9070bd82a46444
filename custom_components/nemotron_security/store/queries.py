"""What is asked of the database: domain objects in, domain objects out, each function within the caller's transaction.

Portable SQL only. Whatever changes an incident's words ends in `_incident`, which keeps the text that is searched.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
import json
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Text,
    cast,
    delete,
    exists,
    false,
    func,
    insert,
    or_,
    select,
)
from sqlalchemy.orm import InstrumentedAttribute, Session

from ..models import (
    ANIMALS,
    PERSONS,
    Assessment,
    Box,
    Detection,
    Feedback,
    HarmlessPlace,
    Incident,
    IncidentFilter,
    Picture,
    Review,
    Track,
    iou,
    raised_reasoning,
)
from .judgements import judge_again, judgement_of, knew_floor
from .rows import INCIDENT_ID, build, existing, fetch, select_fields, values_of
from .search import search_text, words_of
from .tables import RULES, AssessmentRow, DetectionRow, HarmlessPlaceRow, IncidentRow, PictureRow, TrackRow

STILL_OVERLAP, STEADY_OVERLAP = 0.6, 0.75
"""Intersection over union that each sight of a track has with its last box, if it kept its place."""
STEADY_TIME = 10.0
"""Seconds after which something that passes for living is taken for a thing: who waits at a door sways, and leaves."""
LIVING = PERSONS | ANIMALS

_INCIDENT = select_fields(Incident, IncidentRow).where(IncidentRow.id == INCIDENT_ID)
_TRACKS = (
    select_fields(Track, TrackRow)
    .where(TrackRow.incident_id == INCIDENT_ID)
    .order_by(TrackRow.first_seen_at, TrackRow.track_id)
)
_ASSESSMENTS = (
    select_fields(Assessment, AssessmentRow).where(AssessmentRow.incident_id == INCIDENT_ID).order_by(AssessmentRow.id)
)
_NEW_ASSESSMENT = insert(AssessmentRow)
_SHOWN = (
    select(AssessmentRow.shown)
    .where(AssessmentRow.incident_id == INCIDENT_ID, AssessmentRow.analyzer != RULES)
    .order_by(AssessmentRow.id.desc())
    .limit(1)
)
_DETECTIONS = (
    select_fields(Detection, DetectionRow)
    .where(DetectionRow.incident_id == INCIDENT_ID)
    .order_by(DetectionRow.detected_at, DetectionRow.id)
)
_PICTURES = (
    select_fields(Picture, PictureRow)
    .where(PictureRow.incident_id == INCIDENT_ID)
    .order_by(PictureRow.score.desc(), PictureRow.id)
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
    row = existing(session, incident.id)
    row.last_seen_at, row.ended_at = incident.last_seen_at, incident.ended_at
    row.labels, row.zones, row.object_count = incident.labels, incident.zones, incident.object_count
    _merge_tracks(session, incident.id, tracks)
    return _incident(session, row)


def assess(session: Session, incident_id: int, assessment: Assessment) -> Incident:
    """Insert an assessment and let the incident take its verdict. That of a model is what its judgement waited for.

    A floor that the model did not know of holds all the same, and what goes on is asked about again at once.
    """
    row = existing(session, incident_id)
    if assessment.analyzer == RULES:
        raised = _add_assessment(session, row, assessment)
        if raised and row.ended_at is None and (judgement := judgement_of(session, incident_id)):
            judgement.due_at = judgement.due_at or assessment.created_at
        return _incident(session, row)
    judgement = judgement_of(session, incident_id)
    held = assessment if judgement and knew_floor(judgement, row) else assessment.raised_to(row.floor)
    _add_assessment(session, row, held)
    if judgement:
        judge_again(session, row, judgement, assessment.created_at, now=held is not assessment)
    return _incident(session, row)


def review(session: Session, incident_id: int, review: Review) -> Incident:
    """Let the incident take what a person makes of it, and keep in mind what stood still there if it was harmless."""
    row = existing(session, incident_id)
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
    _all_exist(session, {picture.incident_id})
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
    query = select_fields(Picture, PictureRow).add_columns(IncidentRow.camera_id).where(PictureRow.id == picture_id)
    found = session.execute(query.join(IncidentRow, IncidentRow.id == PictureRow.incident_id)).first()
    return None if found is None else (build(Picture, found), found.camera_id)


def picture_bytes(session: Session) -> int:
    """Return how many bytes all pictures have."""
    return int(session.scalar(select(func.coalesce(func.sum(PictureRow.size), 0))) or 0)


def orphans(session: Session, picture_ids: set[int]) -> set[int]:
    """Return which of these pictures have no row."""
    if not picture_ids:
        return set()
    query = select(PictureRow.id).where(PictureRow.id.between(min(picture_ids), max(picture_ids)))
    return picture_ids - set(session.scalars(query))


def has_label(labels: Sequence[str] | BindParameter[Any]) -> ColumnElement[bool]:
    """Ask for incidents in which something with one of these labels took part."""
    return exists().where(TrackRow.incident_id == IncidentRow.id, TrackRow.label.in_(labels))


def went_on_until(moment: datetime | BindParameter[Any]) -> ColumnElement[bool]:
    """Ask for incidents that go on, or did until then or later."""
    return or_(IncidentRow.ended_at.is_(None), IncidentRow.ended_at >= moment)


def _conditions(wanted: IncidentFilter) -> Iterator[ColumnElement[bool]]:
    row = IncidentRow
    if wanted.camera_ids is not None:
        yield row.camera_id.in_(sorted(wanted.camera_ids))
    if wanted.labels is not None:
        yield has_label(sorted(wanted.labels))
    if wanted.zones is not None:
        # The list is kept as JSON, where a name stands in quotes; REPLACE tells capitals apart in every database.
        text = cast(row.zones, Text)
        names = (json.dumps(zone) for zone in sorted(wanted.zones))
        yield or_(false(), *(func.replace(text, name, "") != text for name in names))
    yield from _risk_conditions(wanted)
    if wanted.since is not None:
        yield went_on_until(wanted.since)
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


def _all_exist(session: Session, incident_ids: set[int]) -> None:
    query = select(IncidentRow.id).where(IncidentRow.id.in_(incident_ids))
    if incident_ids and (missing := incident_ids.difference(session.scalars(query))):
        raise LookupError(f"there is no incident {min(missing)}")


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
    session.connection().execute(_NEW_ASSESSMENT, {"incident_id": row.id, **values_of(assessment)})
    if assessment.analyzer == RULES:
        row.rules_score, row.floor = assessment.risk_score, assessment.floor
    if assessment.analyzer == RULES and row.analyzer not in (None, RULES):
        # A model has judged: the rules' later word is kept, but except for a floor it does not take its place.
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
