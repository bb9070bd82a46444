"""Sentences for Home Assistant's logbook: what became of incidents, and when cameras were lost and seen again."""

from collections.abc import Callable
from datetime import datetime

from homeassistant.components.logbook import LOGBOOK_ENTRY_ENTITY_ID, LOGBOOK_ENTRY_MESSAGE, LOGBOOK_ENTRY_NAME
from homeassistant.const import Platform
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er

from .const import DOMAIN, EVENT_CAMERA_STATUS, EVENT_INCIDENT
from .coordinator import IncidentChange
from .models import CameraStatus

type Described = dict[str, str | None]
type Describe = Callable[[Event], Described]

_INCIDENT = {
    IncidentChange.STARTED: "began",
    IncidentChange.UPDATED: "goes on",
    IncidentChange.ENDED: "ended",
}
_STATUS = {
    CameraStatus.ONLINE: "is there",
    CameraStatus.OFFLINE: "is lost",
    CameraStatus.ERROR: "is broken",
    CameraStatus.UNKNOWN: "is not known",
}

_MINUTES_FROM = 100
"""Seconds from which on a duration is said in minutes."""


@callback
def async_describe_events(hass: HomeAssistant, async_describe_event: Callable[[str, str, Describe], None]) -> None:
    """Describe our events."""

    @callback
    def describe_incident(event: Event) -> Described:
        return _described(hass, event, "Incident", Platform.EVENT) | {LOGBOOK_ENTRY_MESSAGE: _incident_sentence(event)}

    @callback
    def describe_camera_status(event: Event) -> Described:
        described = _described(hass, event, "Connectivity", Platform.BINARY_SENSOR)
        return described | {LOGBOOK_ENTRY_MESSAGE: _status_sentence(event)}

    async_describe_event(DOMAIN, EVENT_INCIDENT, describe_incident)
    async_describe_event(DOMAIN, EVENT_CAMERA_STATUS, describe_camera_status)


def _described(hass: HomeAssistant, event: Event, subject: str, platform: Platform) -> Described:
    """Return of what a sentence tells. Where there is an entity, the frontend begins it with that one's name."""
    camera_id = event.data["camera_id"]
    unique_id = f"{camera_id}_{subject.lower()}"
    return {
        LOGBOOK_ENTRY_NAME: f"{subject} at {_camera_name(hass, camera_id)}",
        LOGBOOK_ENTRY_ENTITY_ID: er.async_get(hass).async_get_entity_id(platform, DOMAIN, unique_id),
    }


def _camera_name(hass: HomeAssistant, camera_id: str) -> str:
    for entry in hass.config_entries.async_entries(DOMAIN):
        if subentry := entry.subentries.get(camera_id):
            return subentry.title
    return "a removed camera"


def _incident_sentence(event: Event) -> str:
    """Say for example: ended after 42 s: Person at the front door (high risk)."""
    data = event.data
    words = _INCIDENT[IncidentChange(data["change"])]
    if data["ended_at"]:
        stay = datetime.fromisoformat(data["ended_at"]) - datetime.fromisoformat(data["started_at"])
        words += f" after {_duration(stay.total_seconds())}"
    risk = f" ({data['risk_level']} risk)" if data["risk_level"] else ""
    return f"{words}: {data['title']}{risk}"


def _status_sentence(event: Event) -> str:
    """Say for example: is lost (source stalled)."""
    words = _STATUS[CameraStatus(event.data["status"])]
    problem = event.data["problem"]
    return f"{words} ({problem.replace('_', ' ')})" if problem else words


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= _MINUTES_FROM else f"{seconds:.0f} s"
