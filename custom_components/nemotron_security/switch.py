"""A switch of each camera: detection on or off."""

from typing import TYPE_CHECKING, Any, override

from homeassistant.components.switch import SwitchEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .const import CONF_DETECT
from .entity import CameraBoundEntity, async_add_to_each_camera

if TYPE_CHECKING:
    from .coordinator import CameraCoordinator
    from .runtime import NemotronSecurityConfigEntry

PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: NemotronSecurityConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add a switch to every camera, also to those added later."""
    async_add_to_each_camera(entry, async_add_entities, lambda camera: [DetectionSwitch(camera)])


class DetectionSwitch(CameraBoundEntity, SwitchEntity):
    """Whether objects are detected on this camera.

    The camera's subentry keeps the choice, so that it survives a restart and shows in its settings.
    """

    _attr_entity_category = EntityCategory.CONFIG

    def __init__(self, coordinator: CameraCoordinator) -> None:
        """Describe the entity."""
        super().__init__(coordinator, "detection")

    @property
    @override
    def available(self) -> bool:
        """The choice can be made whether or not the camera is seen."""
        return True

    @property
    @override
    def is_on(self) -> bool:
        """Return whether objects are detected."""
        subentry = self.coordinator.config_entry.subentries.get(self.coordinator.camera_id)
        return subentry is not None and bool(subentry.data.get(CONF_DETECT, True))

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        """Detect."""
        self._async_choose(detect=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        """Only show the picture."""
        self._async_choose(detect=False)

    @callback
    def _async_choose(self, *, detect: bool) -> None:
        entry = self.coordinator.config_entry
        subentry = entry.subentries[self.coordinator.camera_id]
        self.hass.config_entries.async_update_subentry(entry, subentry, data={**subentry.data, CONF_DETECT: detect})
        self.async_write_ha_state()
