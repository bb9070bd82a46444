"""The entities of GPUs: for each GPU those that it answers for, also of one that is found later."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, override

from homeassistant.components.binary_sensor import (
    BinarySensorDeviceClass,
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import (
    PERCENTAGE,
    EntityCategory,
    UnitOfDataRate,
    UnitOfEnergy,
    UnitOfFrequency,
    UnitOfInformation,
    UnitOfPower,
    UnitOfTemperature,
)
from homeassistant.core import callback
from homeassistant.helpers.device_registry import DeviceInfo
from homeassistant.helpers.entity import Entity, EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .const import DOMAIN
from .gpu import THROTTLE_PROBLEMS, GpuReading, ThrottleReason
from .gpus import GpuMonitor, device_id_of

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry


@dataclass(frozen=True, kw_only=True)
class GpuSensorDescription(SensorEntityDescription):
    """What a sensor reads from its GPU."""

    value_fn: Callable[[GpuReading], float | str | None]
    attributes_fn: Callable[[GpuReading], dict[str, Any] | None] = lambda _: None


@dataclass(frozen=True, kw_only=True)
class GpuBinarySensorDescription(BinarySensorEntityDescription):
    """What a binary sensor reads from its GPU."""

    value_fn: Callable[[GpuReading], bool | None]


def _share(
    key: str, value_fn: Callable[[GpuReading], float | None], *, category: EntityCategory | None = None
) -> GpuSensorDescription:
    """Describe a sensor in percent. Those of a category are for whoever looks into details."""
    return GpuSensorDescription(
        key=key,
        native_unit_of_measurement=PERCENTAGE,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=0,
        entity_category=category,
        entity_registry_enabled_default=category is None,
        value_fn=value_fn,
    )


def _detail(
    key: str,
    value_fn: Callable[[GpuReading], float | None],
    *,
    state_class: SensorStateClass | None = SensorStateClass.MEASUREMENT,
    device_class: SensorDeviceClass | None = None,
    unit: str | None = None,
    suggested_unit: str | None = None,
    attributes_fn: Callable[[GpuReading], dict[str, Any] | None] = lambda _: None,
) -> GpuSensorDescription:
    """Describe a sensor for whoever looks into details."""
    return GpuSensorDescription(
        key=key,
        device_class=device_class,
        native_unit_of_measurement=unit,
        suggested_unit_of_measurement=suggested_unit,
        state_class=state_class,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value_fn=value_fn,
        attributes_fn=attributes_fn,
    )


def _watt_hours(reading: GpuReading) -> float | None:
    return None if reading.energy is None else reading.energy / 3600


def _process_count(reading: GpuReading) -> int | None:
    return None if reading.processes is None else len(reading.processes)


def _processes(reading: GpuReading) -> dict[str, Any] | None:
    return None if reading.processes is None else {"processes": [asdict(process) for process in reading.processes]}


SENSORS = (
    _share("gpu_utilization", lambda reading: reading.utilization),
    _share("gpu_memory_utilization", lambda reading: reading.memory_utilization),
    GpuSensorDescription(
        key="gpu_memory_used",
        device_class=SensorDeviceClass.DATA_SIZE,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.GIBIBYTES,
        suggested_display_precision=1,
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda reading: reading.memory_used,
    ),
    GpuSensorDescription(
        key="gpu_temperature",
        device_class=SensorDeviceClass.TEMPERATURE,
        native_unit_of_measurement=UnitOfTemperature.CELSIUS,
        suggested_display_precision=0,
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda reading: reading.temperature,
    ),
    GpuSensorDescription(
        key="gpu_power",
        device_class=SensorDeviceClass.POWER,
        native_unit_of_measurement=UnitOfPower.WATT,
        suggested_display_precision=0,
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda reading: reading.power,
    ),
    GpuSensorDescription(
        key="gpu_energy",
        device_class=SensorDeviceClass.ENERGY,
        native_unit_of_measurement=UnitOfEnergy.WATT_HOUR,
        suggested_unit_of_measurement=UnitOfEnergy.KILO_WATT_HOUR,
        suggested_display_precision=2,
        state_class=SensorStateClass.TOTAL_INCREASING,
        value_fn=_watt_hours,
    ),
    _share("gpu_cache_utilization", lambda reading: reading.cache_utilization),
    GpuSensorDescription(
        key="gpu_requests_running",
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda reading: reading.requests_running,
    ),
    GpuSensorDescription(
        key="gpu_requests_waiting",
        state_class=SensorStateClass.MEASUREMENT,
        value_fn=lambda reading: reading.requests_waiting,
    ),
    _detail(
        "gpu_memory_total",
        lambda reading: reading.memory_total,
        device_class=SensorDeviceClass.DATA_SIZE,
        unit=UnitOfInformation.BYTES,
        suggested_unit=UnitOfInformation.GIBIBYTES,
    ),
    _detail(
        "gpu_power_limit",
        lambda reading: reading.power_limit,
        device_class=SensorDeviceClass.POWER,
        unit=UnitOfPower.WATT,
    ),
    _detail(
        "gpu_graphics_clock",
        lambda reading: reading.graphics_clock,
        device_class=SensorDeviceClass.FREQUENCY,
        unit=UnitOfFrequency.MEGAHERTZ,
    ),
    _detail(
        "gpu_memory_clock",
        lambda reading: reading.memory_clock,
        device_class=SensorDeviceClass.FREQUENCY,
        unit=UnitOfFrequency.MEGAHERTZ,
    ),
    _share("gpu_fan_speed", lambda reading: reading.fan_speed, category=EntityCategory.DIAGNOSTIC),
    _share("gpu_encoder_utilization", lambda reading: reading.encoder_utilization, category=EntityCategory.DIAGNOSTIC),
    _share("gpu_decoder_utilization", lambda reading: reading.decoder_utilization, category=EntityCategory.DIAGNOSTIC),
    _detail(
        "gpu_pcie_sent",
        lambda reading: reading.pcie_sent,
        device_class=SensorDeviceClass.DATA_RATE,
        unit=UnitOfDataRate.BYTES_PER_SECOND,
        suggested_unit=UnitOfDataRate.MEGABYTES_PER_SECOND,
    ),
    _detail(
        "gpu_pcie_received",
        lambda reading: reading.pcie_received,
        device_class=SensorDeviceClass.DATA_RATE,
        unit=UnitOfDataRate.BYTES_PER_SECOND,
        suggested_unit=UnitOfDataRate.MEGABYTES_PER_SECOND,
    ),
    _detail("gpu_ecc_corrected", lambda reading: reading.ecc_corrected, state_class=SensorStateClass.TOTAL_INCREASING),
    _detail(
        "gpu_ecc_uncorrected", lambda reading: reading.ecc_uncorrected, state_class=SensorStateClass.TOTAL_INCREASING
    ),
    _detail("gpu_performance_state", lambda reading: reading.performance_state, state_class=None),
    _detail("gpu_processes", _process_count, attributes_fn=_processes),
    GpuSensorDescription(
        key="gpu_throttle_reason",
        device_class=SensorDeviceClass.ENUM,
        options=list(ThrottleReason),
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value_fn=lambda reading: reading.throttle,
    ),
)

BINARY_SENSORS = (
    GpuBinarySensorDescription(
        key="gpu_throttled",
        device_class=BinarySensorDeviceClass.PROBLEM,
        entity_category=EntityCategory.DIAGNOSTIC,
        value_fn=lambda reading: None if reading.throttle is None else reading.throttle in THROTTLE_PROBLEMS,
    ),
)


@callback
def async_add_gpu_sensors(
    entry: NemotronSecurityConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Add the sensors of every GPU, now and when they are found."""
    _async_add_answered(entry, async_add_entities, SENSORS, GpuSensor)


@callback
def async_add_gpu_binary_sensors(
    entry: NemotronSecurityConfigEntry, async_add_entities: AddConfigEntryEntitiesCallback
) -> None:
    """Add the binary sensors of every GPU, now and when they are found."""
    _async_add_answered(entry, async_add_entities, BINARY_SENSORS, GpuBinarySensor)


@callback
def _async_add_answered[D: GpuSensorDescription | GpuBinarySensorDescription](
    entry: NemotronSecurityConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
    descriptions: Iterable[D],
    build: Callable[[GpuMonitor, str, D], Entity],
) -> None:
    """Add an entity when its GPU answers for the first time."""
    monitor = entry.runtime_data.gpus

    @callback
    def add() -> None:
        new: list[Entity] = []
        for gpu_id, reading in monitor.data.items():
            shown = monitor.shown[gpu_id]
            for description in descriptions:
                if description.key not in shown and description.value_fn(reading) is not None:
                    shown.add(description.key)
                    new.append(build(monitor, gpu_id, description))
        if new:
            async_add_entities(new)

    entry.async_on_unload(monitor.async_on_read(add))
    add()


class _GpuEntity(CoordinatorEntity[GpuMonitor]):
    """An entity of one GPU's device. It is unavailable while its GPU is not read."""

    _attr_has_entity_name = True

    def __init__(self, monitor: GpuMonitor, gpu_id: str, description: EntityDescription) -> None:
        """Name the entity by its translation key."""
        super().__init__(monitor)
        self._gpu_id = gpu_id
        self.entity_description = description
        self._attr_translation_key = description.key
        device_id = device_id_of(gpu_id)
        self._attr_unique_id = f"{device_id}_{description.key}"
        self._attr_device_info = DeviceInfo(identifiers={(DOMAIN, device_id)})

    @property
    def _reading(self) -> GpuReading | None:
        return self.coordinator.data.get(self._gpu_id)

    @property
    @override
    def available(self) -> bool:
        """Whether the GPU is read."""
        return super().available and self._reading is not None


class GpuSensor(_GpuEntity, SensorEntity):
    """One figure of a GPU."""

    _unrecorded_attributes = frozenset({"processes"})
    entity_description: GpuSensorDescription

    @property
    @override
    def native_value(self) -> float | str | None:
        """Return the figure, null when there was no answer."""
        return None if self._reading is None else self.entity_description.value_fn(self._reading)

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any] | None:
        """Return what belongs to the figure."""
        return None if self._reading is None else self.entity_description.attributes_fn(self._reading)


class GpuBinarySensor(_GpuEntity, BinarySensorEntity):
    """One yes-or-no fact about a GPU."""

    entity_description: GpuBinarySensorDescription

    @property
    @override
    def is_on(self) -> bool | None:
        """Return the fact, null when it is not known."""
        return None if self._reading is None else self.entity_description.value_fn(self._reading)
