"""The bases of our entities, and how a camera's come to it."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from homeassistant.core import callback
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .const import DOMAIN
from .coordinator import CameraCoordinator
from .health import PipelineHealth
from .models import CameraStatus

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry


@callback
def async_add_to_each_camera(
    entry: NemotronSecurityConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
    build: Callable[[CameraCoordinator], Iterable[Entity]],
) -> None:
    """Add a platform's entities to every camera, now and to those that are added later."""

    @callback
    def add(camera: CameraCoordinator) -> None:
        async_add_entities(build(camera), config_subentry_id=camera.camera_id)

    entry.async_on_unload(entry.runtime_data.async_for_each_camera(add))


class CameraBoundEntity(CoordinatorEntity[CameraCoordinator]):
    """An entity of one camera's device.

    It is unavailable while its camera is not seen: what was true before is not known to be true now.
    """

    _attr_has_entity_name = True

    def __init__(self, coordinator: CameraCoordinator, key: str) -> None:
        """Name the entity by its translation key."""
        super().__init__(coordinator)
        entry = coordinator.config_entry
        self._attr_translation_key = key
        self._attr_unique_id = f"{coordinator.camera_id}_{key}"
        self._attr_device_info = DeviceInfo(
            identifiers={(DOMAIN, coordinator.camera_id)},
            name=entry.subentries[coordinator.camera_id].title,
            via_device_id=entry.runtime_data.hub_id,
        )

    @property
    def available(self) -> bool:
        """Whether the camera is seen."""
        return self.coordinator.data.health.status is CameraStatus.ONLINE


class PipelineEntity(CoordinatorEntity[PipelineHealth]):
    """An entity of the device that stands for the whole."""

    _attr_has_entity_name = True

    def __init__(self, coordinator: PipelineHealth, key: str) -> None:
        """Name the entity by its translation key."""
        super().__init__(coordinator)
        entry_id = coordinator.config_entry.entry_id
        self._attr_translation_key = key
        self._attr_unique_id = f"{entry_id}_{key}"
        self._attr_device_info = DeviceInfo(identifiers={(DOMAIN, entry_id)})
