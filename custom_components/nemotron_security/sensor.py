"""Counts of each camera, the risk of its last incident, and how well all of it works."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import EntityCategory, UnitOfInformation, UnitOfTime
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .analysis.breaker import BreakerState
from .entity import CameraBoundEntity, PipelineEntity, async_add_to_each_camera
from .gpu_entities import async_add_gpu_sensors
from .models import ANIMALS, PERSONS, VEHICLES, CameraFigures, ConnectionQuality, PipelineFigures, RiskLevel, count_of

if TYPE_CHECKING:
    from .coordinator import CameraCoordinator, CameraView
    from .health import PipelineHealth
    from .runtime import NemotronSecurityConfigEntry

PARALLEL_UPDATES = 0
FRAMES_PER_SECOND = "fps"


@dataclass(frozen=True, kw_only=True)
class CameraSensorDescription(SensorEntityDescription):
    """What a sensor reads from its camera."""

    value_fn: Callable[[CameraView], float | str | None]
    survives_outage: bool = False
    """What was judged, or is said of the outage itself, stays true when the camera is not seen."""


def _count(labels: frozenset[str]) -> Callable[[CameraView], int | None]:
    def count(view: CameraView) -> int | None:
        return None if view.counts is None else count_of(view.counts, labels)

    return count


def _figure[T](read: Callable[[CameraFigures], T]) -> Callable[[CameraView], T | None]:
    def figure(view: CameraView) -> T | None:
        return None if view.figures is None else read(view.figures)

    return figure


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
    CameraSensorDescription(
        key="connection_quality",
        device_class=SensorDeviceClass.ENUM,
        options=list(ConnectionQuality),
        entity_category=EntityCategory.DIAGNOSTIC,
        value_fn=_figure(lambda figures: figures.quality),
        survives_outage=True,
    ),
    CameraSensorDescription(
        key="frame_rate",
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=FRAMES_PER_SECOND,
        suggested_display_precision=1,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value_fn=_figure(lambda figures: figures.fps),
    ),
    CameraSensorDescription(
        key="inference_rate",
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=FRAMES_PER_SECOND,
        suggested_display_precision=1,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value_fn=_figure(lambda figures: figures.inference_fps),
    ),
    CameraSensorDescription(
        key="skipped_frames",
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value_fn=_figure(lambda figures: figures.skipped),
    ),
)


@dataclass(frozen=True, kw_only=True)
class PipelineSensorDescription(SensorEntityDescription):
    """What a sensor reads from the pipeline's figures."""

    value_fn: Callable[[PipelineFigures], float | str | None]
    entity_category: EntityCategory | None = EntityCategory.DIAGNOSTIC
    of_model: bool = False
    """Only there where a model judges."""


PIPELINE_SENSORS = (
    PipelineSensorDescription(
        key="inference_rate",
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=FRAMES_PER_SECOND,
        suggested_display_precision=1,
        value_fn=lambda figures: figures.inference_fps,
    ),
    PipelineSensorDescription(
        key="inference_time",
        device_class=SensorDeviceClass.DURATION,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfTime.MILLISECONDS,
        suggested_display_precision=1,
        value_fn=lambda figures: figures.inference_ms_p50,
    ),
    PipelineSensorDescription(
        key="inference_time_p95",
        device_class=SensorDeviceClass.DURATION,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfTime.MILLISECONDS,
        suggested_display_precision=1,
        entity_registry_enabled_default=False,
        value_fn=lambda figures: figures.inference_ms_p95,
    ),
    PipelineSensorDescription(
        key="skipped_frames",
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_registry_enabled_default=False,
        value_fn=lambda figures: figures.skipped,
    ),
    PipelineSensorDescription(
        key="worker_memory",
        device_class=SensorDeviceClass.DATA_SIZE,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.MEGABYTES,
        suggested_display_precision=0,
        entity_registry_enabled_default=False,
        value_fn=lambda figures: figures.worker_memory,
    ),
    PipelineSensorDescription(
        key="worker_restarts",
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_registry_enabled_default=False,
        value_fn=lambda figures: figures.worker_restarts,
    ),
    PipelineSensorDescription(
        key="model_state",
        device_class=SensorDeviceClass.ENUM,
        options=list(BreakerState),
        value_fn=lambda figures: figures.breaker,
        of_model=True,
    ),
    PipelineSensorDescription(
        key="waiting_incidents",
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda figures: figures.waiting,
        of_model=True,
    ),
    PipelineSensorDescription(
        key="oldest_waiting",
        device_class=SensorDeviceClass.DURATION,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfTime.SECONDS,
        suggested_display_precision=0,
        entity_registry_enabled_default=False,
        value_fn=lambda figures: figures.oldest_waiting,
        of_model=True,
    ),
    PipelineSensorDescription(
        key="storage_used",
        device_class=SensorDeviceClass.DATA_SIZE,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.MEGABYTES,
        suggested_display_precision=1,
        value_fn=lambda figures: figures.storage_used,
    ),
    PipelineSensorDescription(
        key="disk_free",
        device_class=SensorDeviceClass.DATA_SIZE,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.GIGABYTES,
        suggested_display_precision=1,
        entity_registry_enabled_default=False,
        value_fn=lambda figures: figures.disk_free,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: NemotronSecurityConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the pipeline's sensors, and those of every camera and GPU, also of those added later."""
    health = entry.runtime_data.health
    async_add_entities(
        PipelineSensor(health, description)
        for description in PIPELINE_SENSORS
        if health.has_model or not description.of_model
    )
    async_add_to_each_camera(
        entry, async_add_entities, lambda camera: [CameraSensor(camera, description) for description in SENSORS]
    )
    async_add_gpu_sensors(entry, async_add_entities)


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
    def native_value(self) -> float | str | None:
        """Return the figure, null when it is not known."""
        return self.entity_description.value_fn(self.coordinator.data)


class PipelineSensor(PipelineEntity, SensorEntity):
    """One figure of the whole."""

    entity_description: PipelineSensorDescription

    def __init__(self, coordinator: PipelineHealth, description: PipelineSensorDescription) -> None:
        """Describe the entity."""
        super().__init__(coordinator, description.key)
        self.entity_description = description

    @property
    @override
    def native_value(self) -> float | str | None:
        """Return the figure, null when it is not known."""
        return self.entity_description.value_fn(self.coordinator.data)
