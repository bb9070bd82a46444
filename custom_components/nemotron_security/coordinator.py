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
from .models import CameraFigures, CameraHealth, CameraStatus, Incident
from .vision.messages import CameraReport, CameraState, FrameTracks

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
    occupied: frozenset[str] | None = None
    """Names of the zones that one of them is in."""
    incident: Incident | None = None
    """The newest incident since Home Assistant's start."""
    figures: CameraFigures | None = None


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
        self._settings_listeners: list[CALLBACK_TYPE] = []
        self._lost = False

    @callback
    def async_add_incident_listener(self, listener: IncidentListener) -> CALLBACK_TYPE:
        """Call the listener with every change of an incident; returns what ends that."""
        self._incident_listeners.add(listener)
        return lambda: self._incident_listeners.discard(listener)

    @callback
    def async_add_settings_listener(self, listener: CALLBACK_TYPE) -> CALLBACK_TYPE:
        """Call the listener when the camera's settings changed; returns what ends that."""
        self._settings_listeners.append(listener)
        return lambda: self._settings_listeners.remove(listener)

    @callback
    def async_settings_changed(self) -> None:
        """Let whoever shows the settings follow."""
        for listener in list(self._settings_listeners):
            listener()
        self.async_update_listeners()

    @callback
    def async_handle_report(self, report: CameraReport, *, detecting: bool) -> None:
        """Take the figures of the last second; only that nothing moves is news, as motion is told of by itself."""
        if not self._online or report.last_frame_at is None:
            return
        health = replace(self.data.health, last_seen_at=datetime.fromtimestamp(report.last_frame_at, UTC))
        self.data = replace(self.data, health=health)
        if detecting and report.fps and self.data.motion is None:
            self._async_show(replace(self.data, motion=False))

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
        self._log(health)
        if state.status is CameraStatus.ONLINE:
            self._async_show(replace(self.data, health=health))
        else:
            figures = self.data.figures and replace(self.data.figures, fps=None, inference_fps=None)
            self._async_show(
                replace(self.data, health=health, motion=None, counts=None, occupied=None, figures=figures)
            )
        return health

    @callback
    def async_handle_motion(self, *, active: bool) -> None:
        """Take a change of motion; what a lost camera's worker tidies up is no news."""
        if self._online:
            self._async_show(replace(self.data, motion=active))

    @callback
    def async_handle_tracks(self, frame: FrameTracks) -> None:
        """Count the confirmed objects of a frame."""
        if self._online:
            confirmed = [track for track in frame.tracks if track.confirmed]
            counts = Counter(track.label for track in confirmed)
            occupied = frozenset(zone for track in confirmed for zone in track.zones)
            self._async_show(replace(self.data, counts=counts, occupied=occupied))

    @callback
    def async_handle_figures(self, figures: CameraFigures) -> None:
        """Take how much of the camera is looked at, and how well it is connected."""
        self._async_show(replace(self.data, figures=figures))

    @callback
    def async_detection_off(self) -> None:
        """Forget what detection said: it looks no more."""
        self._async_show(replace(self.data, motion=None, counts=None, occupied=None))

    @callback
    def async_forget_objects(self) -> None:
        """Forget the objects: no detector looks for them now."""
        self._async_show(replace(self.data, counts=None, occupied=None))

    @callback
    def async_handle_incident(self, change: IncidentChange, incident: Incident) -> None:
        """Take an incident that was stored, and tell the event entity."""
        newest = self.data.incident
        if newest is None or incident.id >= newest.id:
            self._async_show(replace(self.data, incident=incident))
        for listener in list(self._incident_listeners):
            listener(change, incident)

    @callback
    def async_refresh_incident(self, incident: Incident) -> None:
        """Take what was said later of the incident that is shown; it is no event."""
        if self.data.incident is not None and self.data.incident.id == incident.id:
            self._async_show(replace(self.data, incident=incident))

    @property
    def _online(self) -> bool:
        return self.data.health.status is CameraStatus.ONLINE

    def _log(self, health: CameraHealth) -> None:
        """Say once that the camera is lost, once that it is back."""
        if health.status in (CameraStatus.OFFLINE, CameraStatus.ERROR) and not self._lost:
            self._lost = True
            _LOGGER.info("Camera %s is lost: %s (%s)", self._title, health.problem, health.detail)
        elif health.status is CameraStatus.ONLINE and self._lost:
            self._lost = False
            _LOGGER.info("Camera %s is back", self._title)

    @property
    def _title(self) -> str:
        subentry = self.config_entry.subentries.get(self.camera_id)
        return subentry.title if subentry else self.camera_id

    @callback
    def _async_show(self, view: CameraView) -> None:
        """Write entity states only when something changed: frames come several times a second."""
        if view != self.data:
            self.async_set_updated_data(view)
