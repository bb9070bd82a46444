"""The best picture of each camera's last incident."""

from typing import TYPE_CHECKING, override

from homeassistant.components.image import ImageEntity
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.util import dt as dt_util

from .entity import CameraBoundEntity

if TYPE_CHECKING:
    from .coordinator import CameraCoordinator
    from .runtime import NemotronSecurityConfigEntry

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: NemotronSecurityConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add an image to every camera, also to those added later."""

    @callback
    def add(camera: CameraCoordinator) -> None:
        async_add_entities([LastIncidentImage(hass, camera)], config_subentry_id=camera.camera_id)

    entry.runtime_data.async_for_each_camera(add)


class LastIncidentImage(CameraBoundEntity, ImageEntity):
    """The best picture of the last incident.

    Its state changes with new pictures only: after a restart the old picture is served, but nothing claims it is new.
    """

    _attr_content_type = "image/jpeg"

    def __init__(self, hass: HomeAssistant, coordinator: CameraCoordinator) -> None:
        """Initialise both bases: their signatures differ."""
        CameraBoundEntity.__init__(self, coordinator, "last_incident")
        ImageEntity.__init__(self, hass)
        self._shown: int | None = None

    @property
    @override
    def available(self) -> bool:
        """A stored picture can be shown whatever the camera does."""
        return True

    @override
    async def async_image(self) -> bytes | None:
        """Return the picture, from the store."""
        store = self.coordinator.config_entry.runtime_data.store
        incident = self.coordinator.data.incident
        if incident is None:
            newest = await store.async_incidents(camera_id=self.coordinator.camera_id, limit=1)
            incident = newest[0] if newest else None
        if incident is None or incident.picture_id is None:
            return None
        return await store.async_read_picture(incident.picture_id)

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        incident = self.coordinator.data.incident
        if incident is None or incident.picture_id is None or incident.picture_id == self._shown:
            return
        self._shown = incident.picture_id
        self._attr_image_last_updated = dt_util.utcnow()
        self.async_write_ha_state()
