"""An event entity of each camera: an incident started, changed or ended."""

from typing import TYPE_CHECKING, override

from homeassistant.components.event import EventEntity
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import IncidentChange
from .entity import CameraBoundEntity, async_add_to_each_camera

if TYPE_CHECKING:
    from .coordinator import CameraCoordinator
    from .models import Incident
    from .runtime import NemotronSecurityConfigEntry

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: NemotronSecurityConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add an event entity to every camera, also to those added later."""
    async_add_to_each_camera(entry, async_add_entities, lambda camera: [IncidentEvent(camera)])


class IncidentEvent(CameraBoundEntity, EventEntity):
    """The last thing that became of an incident on this camera."""

    def __init__(self, coordinator: CameraCoordinator) -> None:
        """Fire on incidents of this camera."""
        super().__init__(coordinator, "incident")
        self._attr_event_types = list(IncidentChange)

    @property
    @override
    def available(self) -> bool:
        """An incident may end after its camera was lost."""
        return True

    @override
    async def async_added_to_hass(self) -> None:
        """Listen to the camera's incidents."""
        await super().async_added_to_hass()
        self.async_on_remove(self.coordinator.async_add_incident_listener(self._async_handle_incident))

    @callback
    def _async_handle_incident(self, change: IncidentChange, incident: Incident) -> None:
        self._trigger_event(
            change,
            {
                "incident_id": incident.id,
                "labels": list(incident.labels),
                "zones": list(incident.zones),
                "trigger": incident.trigger,
                "object_count": incident.object_count,
                "risk_score": incident.risk_score,
                "risk_level": incident.risk_level,
                "title": incident.title,
                "summary": incident.summary,
                "reviewed": incident.reviewed_at is not None,
            },
        )
        self.async_write_ha_state()
