"""Counts of each camera and the risk of its last incident."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .entity import CameraBoundEntity, async_add_to_each_camera
from .models import ANIMALS, PERSONS, VEHICLES, RiskLevel, count_of

if TYPE_CHECKING:
    from .coordinator import CameraCoordinator, CameraView
    from .runtime import NemotronSecurityConfigEntry

PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class CameraSensorDescription(SensorEntityDescription):
    """What a sensor reads from its camera."""

    value_fn: Callable[[CameraView], int | str | None]
    survives_outage: bool = False
    """What was judged stays true when the camera is not seen."""


def _count(labels: frozenset[str]) -> Callable[[CameraView], int | None]:
    def count(view: CameraView) -> int | None:
        return None if view.counts is None else count_of(view.counts, labels)

    return count


SENSORS = (
    CameraSensorDescription(
        key="person_count",
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=_count(PERSONS),
    ),
    CameraSensorDescription(
        key="vehicle_count",
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        value_fn=_count(VEHICLES),
    ),
    CameraSensorDescription(
        key="animal_count",
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        value_fn=_count(ANIMALS),
    ),
    CameraSensorDescription(
        key="last_risk",
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda view: view.incident.risk_score if view.incident else None,
        survives_outage=True,
    ),
    CameraSensorDescription(
        key="last_risk_level",
        device_class=SensorDeviceClass.ENUM,
        options=list(RiskLevel),
        value_fn=lambda view: view.incident.risk_level if view.incident else None,
        survives_outage=True,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: NemotronSecurityConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensors of every camera, also of those added later."""
    async_add_to_each_camera(
        entry, async_add_entities, lambda camera: [CameraSensor(camera, description) for description in SENSORS]
    )


class CameraSensor(CameraBoundEntity, SensorEntity):
    """One figure of a camera."""

    entity_description: CameraSensorDescription

    def __init__(self, coordinator: CameraCoordinator, description: CameraSensorDescription) -> None:
        """Describe the entity."""
        super().__init__(coordinator, description.key)
        self.entity_description = description

    @property
    @override
    def available(self) -> bool:
        """A judged risk stays true, a count does not."""
        return self.entity_description.survives_outage or super().available

    @property
    @override
    def native_value(self) -> int | str | None:
        """Return the figure, null when it is not known."""
        return self.entity_description.value_fn(self.coordinator.data)
