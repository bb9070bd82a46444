"""The best picture of each camera's last incident."""

import logging
from typing import TYPE_CHECKING, override

from homeassistant.components.image import ImageEntity
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.util import dt as dt_util

from .entity import CameraBoundEntity, async_add_to_each_camera
from .models import IncidentFilter
from .store import StoreError

if TYPE_CHECKING:
    from .coordinator import CameraCoordinator
    from .runtime import NemotronSecurityConfigEntry

_LOGGER = logging.getLogger(__name__)

PARALLEL_UPDATES = 0
LOOK_BACK = 10
"""Incidents that are searched for a picture: the newest may have none yet."""


async def async_setup_entry(
    hass: HomeAssistant,
    entry: NemotronSecurityConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add an image to every camera, also to those added later."""
    async_add_to_each_camera(entry, async_add_entities, lambda camera: [LastIncidentImage(hass, camera)])


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
        """Return the picture, from the store: a better one may have taken the place of the one that was announced."""
        store = self.coordinator.config_entry.runtime_data.store
        try:
            ours = IncidentFilter(camera_ids=frozenset([self.coordinator.camera_id]))
            incidents = await store.async_incidents(ours, limit=LOOK_BACK)
            picture_id = next((incident.picture_id for incident in incidents if incident.picture_id is not None), None)
            return None if picture_id is None else await store.async_read_picture(picture_id)
        except StoreError as err:
            _LOGGER.debug("The picture cannot be read: %s", err)  # a repair issue says so where it matters
            return None

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        incident = self.coordinator.data.incident
        if incident is None or incident.picture_id is None or incident.picture_id == self._shown:
            return
        self._shown = incident.picture_id
        self._attr_image_last_updated = dt_util.utcnow()
        self.async_write_ha_state()
