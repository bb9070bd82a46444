"""The commands about incidents: list them, get one with all that is known of it, and review it."""

from datetime import UTC, datetime
import re
from typing import Any

from homeassistant.auth.models import User
from homeassistant.components.websocket_api import (
    ERR_INVALID_FORMAT,
    ERR_UNAUTHORIZED,
    ActiveConnection,
    async_response,
    websocket_command,
)
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError, Unauthorized
from homeassistant.helpers.json import json_bytes, json_fragment
from homeassistant.util import dt as dt_util
import probatio as vol

from ..const import DOMAIN, SUBENTRY_CAMERA
from ..http_api import async_picture_url
from ..models import Assessment, Detection, Feedback, IncidentFilter, Picture, Track, risk_level
from ..payloads import box_payload, detection_payload, event_payload
from ..permissions import async_permissions
from ..reviews import MAXIMUM_NOTE, async_review
from ..runtime import NemotronSecurityConfigEntry
from ..store.search import words_of
from .common import (
    MAXIMUM_ID,
    NAME,
    async_loaded_entry,
    async_refuse_camera,
    async_refuse_incident,
    integer,
    list_of,
    reading,
)

MAXIMUM_LIMIT = 200
DEFAULT_LIMIT = 50
MAXIMUM_TEXT = 200
MAXIMUM_WORDS = 10
"""Each is looked for in all that is stored."""
_CURSOR = re.compile(r"before-([1-9][0-9]{0,17})")
_FEEDBACK = vol.In([feedback.value for feedback in Feedback])


def _time(text: str) -> datetime:
    """Read a time with its offset."""
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise vol.Invalid("expected an offset from UTC")
        return at.astimezone(UTC)
    except (ValueError, OverflowError) as err:
        raise vol.Invalid("expected a time in ISO 8601") from err


def _text(text: str) -> str:
    """Check that it is not too much to search for."""
    if len(words_of(text)) > MAXIMUM_WORDS:
        raise vol.Invalid(f"expected at most {MAXIMUM_WORDS} words")
    return text


def _cursor(text: str) -> int:
    """Return the incident before which the page begins."""
    if (match := _CURSOR.fullmatch(text)) is None:
        raise vol.Invalid("expected a cursor of an earlier answer")
    return int(match[1])


@websocket_command(
    {
        vol.Required("type"): f"{DOMAIN}/incidents/list",
        vol.Optional("cameras"): list_of(NAME),
        vol.Optional("labels"): list_of(NAME),
        vol.Optional("zones"): list_of(NAME),
        vol.Optional("minimum_risk"): integer(0, 100),
        vol.Optional("maximum_risk"): integer(0, 100),
        vol.Optional("since"): vol.All(str, _time),
        vol.Optional("until"): vol.All(str, _time),
        vol.Optional("text"): vol.All(str, vol.Length(min=1, max=MAXIMUM_TEXT), _text),
        vol.Optional("reviewed"): bool,
        vol.Optional("feedback"): _FEEDBACK,
        vol.Optional("limit", default=DEFAULT_LIMIT): integer(1, MAXIMUM_LIMIT),
        vol.Optional("cursor"): vol.All(str, _cursor),
    }
)
@async_response
async def async_list_incidents(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """List incidents, the newest first; `next_cursor` is null with the last page."""
    if (entry := async_loaded_entry(hass, connection, msg)) is None:
        return
    try:
        camera_ids = _readable_cameras(hass, entry, connection.user, msg.get("cameras"))
    except LookupError:
        async_refuse_camera(connection, msg)
        return
    wanted = IncidentFilter(
        camera_ids=camera_ids,
        labels=frozenset(msg["labels"]) if "labels" in msg else None,
        zones=frozenset(msg["zones"]) if "zones" in msg else None,
        minimum_risk=msg.get("minimum_risk"),
        maximum_risk=msg.get("maximum_risk"),
        since=msg.get("since"),
        until=msg.get("until"),
        text=msg.get("text"),
        reviewed=msg.get("reviewed"),
        feedback=Feedback(msg["feedback"]) if "feedback" in msg else None,
    )
    limit = msg["limit"]
    with reading():  # one more than asked for tells whether there is another page
        found = await entry.runtime_data.store.async_search(wanted, before_id=msg.get("cursor"), limit=limit + 1)
    page = found[:limit]
    connection.send_result(
        msg["id"],
        {
            "incidents": [event_payload(incident) for incident in page],
            "next_cursor": f"before-{page[-1].id}" if len(found) > limit else None,
        },
    )


@websocket_command(
    {
        vol.Required("type"): f"{DOMAIN}/incidents/get",
        vol.Required("incident_id"): integer(1, MAXIMUM_ID),
    }
)
@async_response
async def async_get_incident(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Get an incident with its tracks, assessments, pictures and detections."""
    if (entry := async_loaded_entry(hass, connection, msg)) is None:
        return
    store, incident_id = entry.runtime_data.store, msg["incident_id"]
    with reading():
        incident = await store.async_incident(incident_id)
        if incident is None or not async_permissions(hass).may_read(connection.user, incident.camera_id):
            async_refuse_incident(connection, msg)
            return
        tracks = await store.async_tracks(incident_id)
        assessments = await store.async_assessments(incident_id)
        pictures = await store.async_pictures(incident_id)
        detections = await store.async_detections(incident_id)
    # A long incident has thousands: not on the event loop.
    encoded = await hass.async_add_executor_job(_encode, detections)
    connection.send_result(
        msg["id"],
        {
            **event_payload(incident),
            "tracks": [_track_payload(track) for track in tracks],
            "assessments": [_assessment_payload(assessment, pictures) for assessment in assessments],
            "pictures": [
                {**_picture_payload(picture), "url": async_picture_url(hass, picture.id, connection.refresh_token_id)}
                for picture in pictures
            ],
            "detections": encoded,
        },
    )


@websocket_command(
    {
        vol.Required("type"): f"{DOMAIN}/incidents/review",
        vol.Required("incident_id"): integer(1, MAXIMUM_ID),
        vol.Optional("reviewed", default=True): bool,
        vol.Optional("feedback", default=None): vol.Any(None, _FEEDBACK),
        vol.Optional("note", default=None): vol.Any(None, vol.All(str, vol.Length(max=MAXIMUM_NOTE))),
    }
)
@async_response
async def async_review_incident(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Say what the user makes of an incident; everybody is told."""
    if (entry := async_loaded_entry(hass, connection, msg)) is None:
        return
    try:
        incident = await async_review(
            hass,
            entry.runtime_data,
            connection.user,
            msg["incident_id"],
            reviewed=msg["reviewed"],
            feedback=msg["feedback"],
            note=msg["note"],
        )
    except LookupError:
        async_refuse_incident(connection, msg)
    except ServiceValidationError as err:
        connection.send_error(
            msg["id"],
            ERR_INVALID_FORMAT,
            str(err),
            translation_domain=err.translation_domain,
            translation_key=err.translation_key,
        )
    except Unauthorized:  # which Home Assistant would answer without saying what for
        connection.send_error(
            msg["id"],
            ERR_UNAUTHORIZED,
            "You may see this camera, but not control it",
            translation_domain=DOMAIN,
            translation_key="review_not_allowed",
        )
    else:
        connection.send_result(msg["id"], event_payload(incident))


def _readable_cameras(
    hass: HomeAssistant, entry: NemotronSecurityConfigEntry, user: User, chosen: list[str] | None
) -> frozenset[str] | None:
    """Return the cameras whose incidents are listed; null for all, those of removed cameras too.

    Raises:
        LookupError: the user chose one that they may not read.
    """
    if user.is_admin:
        return frozenset(chosen) if chosen else None
    known = (subentry.subentry_id for subentry in entry.get_subentries_of_type(SUBENTRY_CAMERA))
    may_read = async_permissions(hass).may_read
    readable = frozenset(camera_id for camera_id in known if may_read(user, camera_id))
    if not chosen:
        return readable
    if not readable.issuperset(chosen):
        raise LookupError
    return frozenset(chosen)


def _track_payload(track: Track) -> dict[str, Any]:
    return {
        "track_id": track.track_id,
        "object_type": track.label,
        "confidence": track.confidence,
        "first_seen_at": _iso(track.first_seen_at),
        "last_seen_at": _iso(track.last_seen_at),
        **box_payload(track.box, track.frame_width, track.frame_height),
        "frame_width": track.frame_width,
        "frame_height": track.frame_height,
        "stationary": track.stationary,
        "zones": list(track.zones),
    }


def _assessment_payload(assessment: Assessment, pictures: list[Picture]) -> dict[str, Any]:
    """Return an assessment; pictures are those that are there still."""
    present = {picture.id for picture in pictures}
    return {
        "analyzer": assessment.analyzer,
        "model": assessment.model,
        "risk_score": assessment.risk_score,
        "risk_level": risk_level(assessment.risk_score),
        "title": assessment.title,
        "summary": assessment.summary,
        "reasoning": assessment.reasoning,
        "confidence": assessment.confidence,
        "category": assessment.category,
        "recommended_action": assessment.recommended_action,
        "evidence": list(assessment.evidence),
        "shown": [picture_id if picture_id in present else None for picture_id in assessment.shown],
        "created_at": _iso(assessment.created_at),
    }


def _picture_payload(picture: Picture) -> dict[str, Any]:
    return {
        "id": picture.id,
        "track_id": picture.track_id,
        "kind": picture.kind,
        "captured_at": _iso(picture.captured_at),
        **box_payload(picture.box, picture.width, picture.height),
        "width": picture.width,
        "height": picture.height,
    }


def _encode(detections: list[Detection]) -> json_fragment:
    return json_fragment(json_bytes([detection_payload(detection) for detection in detections]))


def _iso(at: datetime) -> str:
    return dt_util.as_utc(at).isoformat()
