"""Motion, occupancy and connectivity of each camera, and what is in its zones."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, override

from homeassistant.components.binary_sensor import (
    BinarySensorDeviceClass,
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .entity import CameraBoundEntity, async_add_to_each_camera
from .gpu_entities import async_add_gpu_binary_sensors
from .models import ANIMALS, PERSONS, VEHICLES, CameraStatus, count_of
from .zone_entities import async_add_zone_binary_sensors

if TYPE_CHECKING:
    from .coordinator import CameraCoordinator, CameraView
    from .runtime import NemotronSecurityConfigEntry

PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class CameraBinarySensorDescription(BinarySensorEntityDescription):
    """What a binary sensor reads from its camera."""

    value_fn: Callable[[CameraView], bool | None]
    always_available: bool = False


def _occupied(labels: frozenset[str]) -> Callable[[CameraView], bool | None]:
    def occupied(view: CameraView) -> bool | None:
        return None if view.counts is None else count_of(view.counts, labels) > 0

    return occupied


def _connected(view: CameraView) -> bool | None:
    status = view.health.status
    return None if status is CameraStatus.UNKNOWN else status is CameraStatus.ONLINE


BINARY_SENSORS = (
    CameraBinarySensorDescription(
        key="motion",
        device_class=BinarySensorDeviceClass.MOTION,
        value_fn=lambda view: view.motion,
    ),
    CameraBinarySensorDescription(
        key="occupancy_person",
        device_class=BinarySensorDeviceClass.OCCUPANCY,
        value_fn=_occupied(PERSONS),
    ),
    CameraBinarySensorDescription(
        key="occupancy_vehicle",
        device_class=BinarySensorDeviceClass.OCCUPANCY,
        value_fn=_occupied(VEHICLES),
    ),
    CameraBinarySensorDescription(
        key="occupancy_animal",
        device_class=BinarySensorDeviceClass.OCCUPANCY,
        value_fn=_occupied(ANIMALS),
    ),
    CameraBinarySensorDescription(
        key="connectivity",
        device_class=BinarySensorDeviceClass.CONNECTIVITY,
        entity_category=EntityCategory.DIAGNOSTIC,
        value_fn=_connected,
        always_available=True,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: NemotronSecurityConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the binary sensors of every camera and GPU, also of those added later."""
    async_add_to_each_camera(
        entry,
        async_add_entities,
        lambda camera: [CameraBinarySensor(camera, description) for description in BINARY_SENSORS],
    )
    async_add_zone_binary_sensors(hass, entry, async_add_entities)
    async_add_gpu_binary_sensors(entry, async_add_entities)


class CameraBinarySensor(CameraBoundEntity, BinarySensorEntity):
    """One yes-or-no fact about a camera."""

    entity_description: CameraBinarySensorDescription

    def __init__(self, coordinator: CameraCoordinator, description: CameraBinarySensorDescription) -> None:
        """Describe the entity."""
        super().__init__(coordinator, description.key)
        self.entity_description = description

    @property
    @override
    def available(self) -> bool:
        """Connectivity is known also of a camera that is not seen."""
        return self.entity_description.always_available or super().available

    @property
    @override
    def is_on(self) -> bool | None:
        """Return the fact, null when it is not known."""
        return self.entity_description.value_fn(self.coordinator.data)
