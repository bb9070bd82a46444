"""What Home Assistant's entities know of one camera."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
import logging
from typing import TYPE_CHECKING

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator

from .const import DOMAIN
from .models import CameraHealth, CameraStatus, Incident
from .vision.messages import CameraState, FrameTracks

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry

_LOGGER = logging.getLogger(__name__)


class IncidentChange(StrEnum):
    """What became of an incident; also the event entity's types."""

    STARTED = "started"
    UPDATED = "updated"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraView:
    """One camera as entities show it. Null is unknown: nothing was seen, or detection is off."""

    health: CameraHealth
    motion: bool | None = None
    counts: Counter[str] | None = None
    """Confirmed objects in the newest frame, by label."""
    incident: Incident | None = None
    """The newest incident since Home Assistant's start."""


type IncidentListener = Callable[[IncidentChange, Incident], None]


class CameraCoordinator(DataUpdateCoordinator[CameraView]):
    """Turns the worker's reports on one camera into the state of its entities. Pushed, never polls."""

    config_entry: NemotronSecurityConfigEntry

    def __init__(self, hass: HomeAssistant, entry: NemotronSecurityConfigEntry, camera_id: str) -> None:
        """Begin with nothing known."""
        super().__init__(hass, _LOGGER, config_entry=entry, name=f"{DOMAIN} {camera_id}")
        self.camera_id = camera_id
        self.data = CameraView(health=CameraHealth(camera_id=camera_id))
        self._incident_listeners: set[IncidentListener] = set()

    @callback
    def async_add_incident_listener(self, listener: IncidentListener) -> CALLBACK_TYPE:
        """Call the listener with every change of an incident; returns what ends that."""
        self._incident_listeners.add(listener)
        return lambda: self._incident_listeners.discard(listener)

    @callback
    def async_seen(self, at: float) -> None:
        """Note when the newest frame came. Changes no entity."""
        health = replace(self.data.health, last_seen_at=datetime.fromtimestamp(at, UTC))
        self.data = replace(self.data, health=health)

    @callback
    def async_handle_state(self, state: CameraState) -> CameraHealth:
        """Take a status; what was seen before is unknown as soon as the camera is not online."""
        seen_at = datetime.fromtimestamp(state.at, UTC)
        health = CameraHealth(
            camera_id=self.camera_id,
            status=state.status,
            last_seen_at=seen_at if state.status is CameraStatus.ONLINE else self.data.health.last_seen_at,
            problem=state.problem,
            detail=state.detail,
        )
        if state.status is CameraStatus.ONLINE:
            self._async_show(replace(self.data, health=health))
        else:
            self._async_show(replace(self.data, health=health, motion=None, counts=None))
        return health

    @callback
    def async_handle_motion(self, *, active: bool) -> None:
        """Take a change of motion."""
        self._async_show(replace(self.data, motion=active))

    @callback
    def async_handle_tracks(self, frame: FrameTracks) -> None:
        """Count the confirmed objects of a frame."""
        counts = Counter(track.label for track in frame.tracks if track.confirmed)
        self._async_show(replace(self.data, counts=counts))

    @callback
    def async_detection_off(self) -> None:
        """Forget what detection said: it looks no more."""
        self._async_show(replace(self.data, motion=None, counts=None))

    @callback
    def async_handle_incident(self, change: IncidentChange, incident: Incident) -> None:
        """Take an incident that was stored, and tell the event entity."""
        newest = self.data.incident
        if newest is None or incident.id >= newest.id:
            self._async_show(replace(self.data, incident=incident))
        for listener in list(self._incident_listeners):
            listener(change, incident)

    @callback
    def _async_show(self, view: CameraView) -> None:
        """Write entity states only when something changed: frames come several times a second."""
        if view != self.data:
            self.async_set_updated_data(view)
