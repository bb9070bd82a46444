"""Tells everybody what was stored: websocket clients, the event bus, entities and repair issues."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_call_later

from .analysis.analyst import Analyst
from .broadcasters import (
    EventBroadcaster,
    PartState,
    PipelineStatus,
    SystemBroadcaster,
    camera_status_payload,
    detection_payload,
    event_payload,
)
from .const import EVENT_CAMERA_STATUS, EVENT_DETECTION, EVENT_INCIDENT
from .coordinator import CameraCoordinator, IncidentChange
from .issues import Issues
from .models import CameraFigures, CameraHealth, Detection, Incident, PipelineFigures
from .store import StoreError

ISSUE_STORE = "store"
DETECTION_INTERVAL = 0.2
"""Seconds between two deliveries of detections: those of all cameras go together, which costs each client less."""
BUS_DETECTION_INTERVAL = 1.0
"""Seconds between two detections of one camera on the bus: the recorder keeps every event."""


class Announcer:
    """Fans out. Implements `incidents.IncidentListener`: whatever reaches it is stored already."""

    def __init__(
        self,
        hass: HomeAssistant,
        *,
        events: EventBroadcaster,
        system: SystemBroadcaster,
        issues: Issues,
        cameras: Mapping[str, CameraCoordinator],
        analysts: Sequence[Analyst],
    ) -> None:
        """Announce to these, and let the analysts judge."""
        self._hass = hass
        self._events = events
        self._system = system
        self._issues = issues
        self._cameras = cameras
        self._analysts = analysts
        self._held: list[Detection] = []
        """Detections that wait for the next delivery."""
        self._pause: CALLBACK_TYPE | None = None
        self._on_bus_at: dict[str, float] = {}
        self._pipeline = PipelineStatus()

    @property
    def pipeline(self) -> PipelineStatus:
        """How the parts of the pipeline do."""
        return self._pipeline

    @callback
    def async_stop(self) -> None:
        """Deliver what is held."""
        self._deliver_held()
        if self._pause is not None:
            self._pause()
            self._pause = None

    @callback
    def incident_started(self, incident: Incident) -> None:
        """Announce a new incident."""
        self._deliver_held()
        self._events.broadcast_new_event(incident)
        self._tell_house(IncidentChange.STARTED, incident)
        for analyst in self._analysts:
            analyst.incident_started(incident)

    @callback
    def incident_updated(self, incident: Incident) -> None:
        """Announce a notable change."""
        self._deliver_held()
        self._events.broadcast_event_updated(incident)
        self._tell_house(IncidentChange.UPDATED, incident)
        for analyst in self._analysts:
            analyst.incident_updated(incident)

    @callback
    def incident_ended(self, incident: Incident) -> None:
        """Announce the end, with what is known by then."""
        self._deliver_held()
        self._events.broadcast_event_updated(incident)
        self._tell_house(IncidentChange.ENDED, incident)
        for analyst in self._analysts:
            analyst.incident_ended(incident)

    @callback
    def incident_annotated(self, incident: Incident) -> None:
        """Bring up to date what shows the incident; automations are not called for a verdict that comes late."""
        self._events.broadcast_event_updated(incident)
        if camera := self._cameras.get(incident.camera_id):
            camera.async_refresh_incident(incident)

    @callback
    def detections_stored(self, detections: Sequence[Detection]) -> None:
        """Announce detections: every one on the websocket, soon, and one a second and camera on the bus."""
        self._held += detections
        if self._pause is None:
            self._deliver_and_pause()
        for detection in detections:
            seen_at = detection.detected_at.timestamp()
            if abs(seen_at - self._on_bus_at.get(detection.camera_id, 0.0)) >= BUS_DETECTION_INTERVAL:
                self._on_bus_at[detection.camera_id] = seen_at
                self._fire(EVENT_DETECTION, detection_payload(detection))

    @callback
    def _deliver_and_pause(self, _now: datetime | None = None) -> None:
        """Deliver what is held, and gather what comes soon after it."""
        self._pause = async_call_later(self._hass, DETECTION_INTERVAL, self._deliver_and_pause) if self._held else None
        self._deliver_held()

    def _deliver_held(self) -> None:
        """Deliver the detections so far: they come before what is announced of their incidents next."""
        held, self._held = self._held, []
        for detection in held:
            self._events.broadcast_detection(detection)

    @callback
    def store_failed(self, error: StoreError) -> None:
        """Say aloud that nothing can be stored now."""
        self._issues.async_set(ISSUE_STORE, error.problem, {"detail": error.detail})
        self.pipeline_status(store=PartState.FAILED)

    @callback
    def store_recovered(self) -> None:
        """Take that back."""
        self._issues.async_clear(ISSUE_STORE)
        self.pipeline_status(store=PartState.RUNNING)

    @callback
    def camera_status(self, health: CameraHealth) -> None:
        """Announce a camera's status."""
        self._system.broadcast_camera_status(health)
        self._fire(EVENT_CAMERA_STATUS, camera_status_payload(health))

    @callback
    def pipeline_status(self, **parts: PartState) -> None:
        """Announce how parts of the pipeline do, named as in `PipelineStatus`, if that is new."""
        changed: dict[str, Any] = dict(parts)
        self._announce_pipeline(replace(self._pipeline, **changed))

    @callback
    def pipeline_figures(self, figures: PipelineFigures) -> None:
        """Announce the pipeline's figures, if they are new."""
        self._announce_pipeline(replace(self._pipeline, figures=figures))

    @callback
    def camera_figures(self, figures: CameraFigures) -> None:
        """Announce how much of a camera is looked at."""
        self._system.broadcast_camera_stats(figures)

    def _announce_pipeline(self, status: PipelineStatus) -> None:
        if status != self._pipeline:
            self._pipeline = status
            self._system.broadcast_pipeline_status(status)

    def _tell_house(self, change: IncidentChange, incident: Incident) -> None:
        self._fire(EVENT_INCIDENT, {"change": change, **event_payload(incident)})
        if camera := self._cameras.get(incident.camera_id):
            camera.async_handle_incident(change, incident)

    def _fire(self, event_type: str, payload: Mapping[str, Any]) -> None:
        self._hass.bus.async_fire(event_type, dict(payload))
