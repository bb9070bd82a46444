"""What is known of GPUs and of the servers that infer on them, and where it comes from: one source a file.

Imports nothing of Home Assistant.
"""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Protocol


class GpuProblem(StrEnum):
    """Why there are no readings, or not of every GPU. Each is the key of a translated repair issue."""

    NO_DRIVER = "gpu_no_driver"
    DRIVER_MISMATCH = "gpu_driver_mismatch"
    """The driver was updated under us: its library and its kernel module are of different versions."""
    GPU_LOST = "gpu_lost"
    HUNG = "gpu_hung"
    UNREACHABLE = "gpu_unreachable"
    BAD_ANSWER = "gpu_bad_answer"


class GpuError(Exception):
    """A source has no readings now."""

    def __init__(self, problem: GpuProblem, detail: str) -> None:
        """Say what is wrong; the detail is for logs and repair issues, free of secrets."""
        super().__init__(f"{problem}: {detail}")
        self.problem = problem
        self.detail = detail


class ThrottleReason(StrEnum):
    """Why a GPU does not run faster; the most serious first."""

    HARDWARE_THERMAL = "hardware_thermal"
    SOFTWARE_THERMAL = "software_thermal"
    POWER_BRAKE = "power_brake"
    HARDWARE_SLOWDOWN = "hardware_slowdown"
    POWER_CAP = "power_cap"
    SYNC_BOOST = "sync_boost"
    CLOCKS_SETTING = "clocks_setting"
    DISPLAY_CLOCK = "display_clock"
    OTHER = "other"
    IDLE = "idle"
    NONE = "none"


THROTTLE_PROBLEMS = frozenset(
    {
        ThrottleReason.HARDWARE_THERMAL,
        ThrottleReason.SOFTWARE_THERMAL,
        ThrottleReason.POWER_BRAKE,
        ThrottleReason.HARDWARE_SLOWDOWN,
    }
)
"""What somebody should look after: heat and power. A power cap under load is how a GPU is meant to run."""

_THROTTLE_BITS = {
    0x001: ThrottleReason.IDLE,
    0x002: ThrottleReason.CLOCKS_SETTING,
    0x004: ThrottleReason.POWER_CAP,
    0x008: ThrottleReason.HARDWARE_SLOWDOWN,
    0x010: ThrottleReason.SYNC_BOOST,
    0x020: ThrottleReason.SOFTWARE_THERMAL,
    0x040: ThrottleReason.HARDWARE_THERMAL,
    0x080: ThrottleReason.POWER_BRAKE,
    0x100: ThrottleReason.DISPLAY_CLOCK,
}


def throttle_reason(bits: int) -> ThrottleReason:
    """Return the most serious of the reasons in NVML's bit mask, which DCGM uses too."""
    if not bits:
        return ThrottleReason.NONE
    reasons = {reason for bit, reason in _THROTTLE_BITS.items() if bits & bit}
    return next((reason for reason in ThrottleReason if reason in reasons), ThrottleReason.OTHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A program that holds memory of a GPU."""

    pid: int
    name: str | None
    memory: int | None
    """Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One reading of a GPU, of a MIG instance, or of a server that infers. Null: it gave no answer."""

    gpu_id: str
    """The UUID; a server that tells of no GPU has an id of ours."""
    name: str | None = None
    driver_version: str | None = None
    parent_id: str | None = None
    """The GPU that a MIG instance is a part of."""
    utilization: float | None = None
    """Percent, as all shares."""
    memory_used: int | None = None
    """Bytes."""
    memory_total: int | None = None
    temperature: float | None = None
    """Degrees Celsius."""
    power: float | None = None
    """Watts."""
    power_limit: float | None = None
    energy: float | None = None
    """Joules since the driver was loaded."""
    graphics_clock: float | None = None
    """Megahertz."""
    memory_clock: float | None = None
    fan_speed: float | None = None
    encoder_utilization: float | None = None
    decoder_utilization: float | None = None
    pcie_sent: float | None = None
    """Bytes a second, from the GPU."""
    pcie_received: float | None = None
    ecc_corrected: int | None = None
    """Errors in the GPU's life."""
    ecc_uncorrected: int | None = None
    performance_state: int | None = None
    """0 (fastest) to 15."""
    throttle: ThrottleReason | None = None
    processes: tuple[GpuProcess, ...] | None = None
    cache_utilization: float | None = None
    """Share of a server's KV cache."""
    requests_running: int | None = None
    requests_waiting: int | None = None

    @property
    def is_server(self) -> bool:
        """Whether it is of a server of models, on whatever GPU."""
        return self.requests_running is not None or self.cache_utilization is not None

    @property
    def memory_utilization(self) -> float | None:
        """Share of the memory that is used."""
        if self.memory_used is None or not self.memory_total:
            return None
        return 100.0 * self.memory_used / self.memory_total

    def completed_by(self, other: GpuReading) -> GpuReading:
        """Return the same with the other's answers where there was none."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        missing = {name: getattr(other, name) for name, value in values.items() if value is None}
        return GpuReading(**{**values, **missing})


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReport:
    """What a source says in one go."""

    readings: tuple[GpuReading, ...] = ()
    lost: tuple[str, ...] = field(default=())
    """What is wrong with GPUs that are there but do not answer, one text for each."""


class GpuSource(Protocol):
    """Where readings come from."""

    id: str
    """The same after a restart, and no other source's."""
    name: str
    """For people; free of secrets."""

    async def async_read(self) -> GpuReport:
        """Read everything now, within some seconds.

        Raises:
            GpuError: there is nothing to be read.
        """

    async def async_stop(self) -> None:
        """Let go of what reading needs. Reading may begin again later."""
