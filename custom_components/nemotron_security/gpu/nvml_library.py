"""What NVIDIA's management library is asked for, by NVIDIA's own binding.

The binding takes 5 to 20 MB: this is imported only where there is a library. Every call blocks, perhaps for ever.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import ctypes
from pathlib import Path, PurePath
import time
from typing import Any

import pynvml

from . import GpuError, GpuProblem, GpuProcess, GpuReading, GpuReport, throttle_reason

ASK_AGAIN_AFTER = 600.0
"""Seconds until a GPU is asked again for what it does not support."""
RENEW_AFTER = 600.0
"""Seconds after which the library is opened anew: only then does it see GPUs that were plugged in."""
RENEW_LOST_AFTER = 60.0
"""The same while a GPU is lost."""

type _Handle = Any
type _Figures = Mapping[str, Any]
type _Ask = Callable[[_Handle], _Figures]

_FATAL = {
    pynvml.NVML_ERROR_UNINITIALIZED: GpuProblem.NO_DRIVER,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: GpuProblem.NO_DRIVER,
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: GpuProblem.NO_DRIVER,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: GpuProblem.DRIVER_MISMATCH,
}
"""What no call survives, whichever GPU it is about."""
_LOST = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED}
_NOT_OURS = {pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT}
"""A GPU that a container was not given, or that went away while they were counted."""
_LASTING = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
}
"""What will be answered alike the next time."""

_NOT_AVAILABLE = {pynvml.NVML_VALUE_NOT_AVAILABLE_uint.value, pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value}
_HIGHEST_PERFORMANCE_STATE = 15
_ALL = 100


class Library:
    """The library's state and what is known to be in vain. Used on the one thread alone."""

    def __init__(self) -> None:
        self._driver: str | None = None
        self._open = False
        self._renew_at = 0.0
        self._in_vain: dict[tuple[str, _Ask], float] = {}
        """When a GPU may be asked again for what it does not support."""

    def read(self) -> GpuReport:
        """Read every GPU.

        Raises:
            GpuError: there is no driver, or it does not work.
        """
        if time.monotonic() >= self._renew_at:
            self.close()
        try:
            if not self._open:
                self._initialise()
            return self._report()
        except pynvml.NVMLError as err:
            self.close()
            if err.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
                _load_anew()
            raise GpuError(_FATAL.get(err.value, GpuProblem.BAD_ANSWER), str(err)) from err

    def close(self) -> None:
        """Let go of the driver."""
        if self._open:
            self._open = False
            self._in_vain.clear()
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _initialise(self) -> None:
        pynvml.nvmlInit()
        self._open = True
        self._renew_at = time.monotonic() + RENEW_AFTER
        self._driver = self._answers("", _driver, None).get("driver_version")

    def _report(self) -> GpuReport:
        readings: list[GpuReading] = []
        lost = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                readings += self._gpu(index)
            except pynvml.NVMLError as err:
                if err.value in _FATAL:
                    raise
                if err.value not in _NOT_OURS:
                    lost.append(f"GPU {index}: {err}")
        if lost:
            self._renew_at = min(self._renew_at, time.monotonic() + RENEW_LOST_AFTER)
        return GpuReport(readings=tuple(readings), lost=tuple(lost))

    def _gpu(self, index: int) -> Iterator[GpuReading]:
        """Yield a GPU, then its MIG instances."""
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        gpu = self._reading(handle)
        yield gpu
        if not self._answers(gpu.gpu_id, _mig, handle).get("mig"):
            return
        for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with contextlib.suppress(pynvml.NVMLError_NotFound):
                instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
                yield self._reading(instance, parent_id=gpu.gpu_id)

    def _reading(self, handle: _Handle, parent_id: str | None = None) -> GpuReading:
        gpu_id = pynvml.nvmlDeviceGetUUID(handle)
        figures: dict[str, Any] = {}
        for ways in _ASKS:
            for ask in ways:
                if answer := self._answers(gpu_id, ask, handle):
                    figures.update(answer)
                    break
        return GpuReading(gpu_id=gpu_id, parent_id=parent_id, driver_version=self._driver, **figures)

    def _answers(self, gpu_id: str, ask: _Ask, handle: _Handle) -> _Figures:
        """Ask one thing; empty when there is no answer.

        Raises:
            NVMLError: the GPU is lost, or the whole driver is.
        """
        key = gpu_id, ask
        if self._in_vain.get(key, 0.0) > time.monotonic():
            return {}
        try:
            return {name: value for name, value in ask(handle).items() if value is not None}
        except pynvml.NVMLError as err:
            if err.value in _FATAL or err.value in _LOST:
                raise
            if err.value not in _LASTING:
                return {}
        except pynvml.NVMLLibraryMismatchError:  # no NVMLError: the library is older than the binding
            pass
        except UnicodeDecodeError:
            return {}
        self._in_vain[key] = time.monotonic() + ASK_AGAIN_AFTER
        return {}


def _load_anew() -> None:
    """Have the binding use the library that lies in the place of the loaded one: an update may have put another there.

    Its name leads to the old one as long as that is loaded; its file's own name, which has the version, to the new one.
    The old one stays loaded: others may be calling it.
    """
    with contextlib.suppress(OSError):
        maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
        for line in maps.splitlines():
            *_, path = line.split(maxsplit=5)
            if PurePath(path).name.startswith("libnvidia-ml.so"):
                pynvml.nvmlLib = ctypes.CDLL(str(Path(path).with_name("libnvidia-ml.so.1").resolve()))
                pynvml._nvmlGetFunctionPointer_cache.clear()  # noqa: SLF001 - else it goes on calling the old one
                return


# --- what a GPU is asked for ------------------------------------------------------------------------------------------


def _number(value: int, divisor: float = 1.0) -> float | None:
    return None if value in _NOT_AVAILABLE else value / divisor


def _share(value: int) -> float | None:
    """Return percent; some drivers say more than all of an encoder."""
    return float(value) if 0 <= value <= _ALL else None


def _driver(_: _Handle) -> _Figures:
    return {"driver_version": pynvml.nvmlSystemGetDriverVersion()}


def _mig(handle: _Handle) -> _Figures:
    return {"mig": pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE}


def _name(handle: _Handle) -> _Figures:
    return {"name": pynvml.nvmlDeviceGetName(handle) or None}


def _utilization(handle: _Handle) -> _Figures:
    return {"utilization": _share(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)}


def _memory(handle: _Handle) -> _Figures:
    """Without what the driver keeps for itself."""
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    return {"memory_used": memory.used, "memory_total": memory.total}


def _memory_of_old_drivers(handle: _Handle) -> _Figures:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return {"memory_used": memory.used, "memory_total": memory.total}


def _temperature(handle: _Handle) -> _Figures:
    return {"temperature": _number(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))}


def _power(handle: _Handle) -> _Figures:
    return {"power": _number(pynvml.nvmlDeviceGetPowerUsage(handle), 1000)}


def _power_limit(handle: _Handle) -> _Figures:
    return {"power_limit": _number(pynvml.nvmlDeviceGetEnforcedPowerLimit(handle), 1000)}


def _energy(handle: _Handle) -> _Figures:
    return {"energy": _number(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), 1000)}


def _graphics_clock(handle: _Handle) -> _Figures:
    return {"graphics_clock": _number(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_GRAPHICS))}


def _memory_clock(handle: _Handle) -> _Figures:
    return {"memory_clock": _number(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM))}


def _fan_speed(handle: _Handle) -> _Figures:
    return {"fan_speed": _number(pynvml.nvmlDeviceGetFanSpeed(handle))}  # may be above 100 %


def _encoder(handle: _Handle) -> _Figures:
    return {"encoder_utilization": _share(pynvml.nvmlDeviceGetEncoderUtilization(handle)[0])}


def _decoder(handle: _Handle) -> _Figures:
    return {"decoder_utilization": _share(pynvml.nvmlDeviceGetDecoderUtilization(handle)[0])}


def _pcie(handle: _Handle) -> _Figures:
    """From kilobytes a second."""
    sent, received = (
        pynvml.nvmlDeviceGetPcieThroughput(handle, counter)
        for counter in (pynvml.NVML_PCIE_UTIL_TX_BYTES, pynvml.NVML_PCIE_UTIL_RX_BYTES)
    )
    return {"pcie_sent": _number(sent, 1e-3), "pcie_received": _number(received, 1e-3)}


def _ecc(handle: _Handle) -> _Figures:
    corrected, uncorrected = (
        pynvml.nvmlDeviceGetTotalEccErrors(handle, kind, pynvml.NVML_AGGREGATE_ECC)
        for kind in (pynvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)
    )
    return {"ecc_corrected": corrected, "ecc_uncorrected": uncorrected}


def _performance_state(handle: _Handle) -> _Figures:
    state = pynvml.nvmlDeviceGetPerformanceState(handle)
    return {"performance_state": state if 0 <= state <= _HIGHEST_PERFORMANCE_STATE else None}


def _throttle(handle: _Handle) -> _Figures:
    return {"throttle": throttle_reason(pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle))}


def _throttle_of_old_drivers(handle: _Handle) -> _Figures:
    return {"throttle": throttle_reason(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))}


def _processes(handle: _Handle) -> _Figures:
    """Programs that compute, then those that draw; one may do both."""
    found: dict[int, GpuProcess] = {}
    for running in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in running(handle):
            if process.pid not in found:
                found[process.pid] = GpuProcess(
                    pid=process.pid, name=_process_name(process.pid), memory=process.usedGpuMemory
                )
    return {"processes": tuple(found.values())}


def _process_name(pid: int) -> str | None:
    """Return the program's name alone: its arguments may hold secrets."""
    try:
        words = pynvml.nvmlSystemGetProcessName(pid).split()
    except pynvml.NVMLError, UnicodeDecodeError:  # in a container the process may be of another
        return None
    return PurePath(words[0]).name if words else None


_ASKS: tuple[tuple[_Ask, ...], ...] = (
    (_name,),
    (_utilization,),
    (_memory, _memory_of_old_drivers),
    (_temperature,),
    (_power,),
    (_power_limit,),
    (_energy,),
    (_graphics_clock,),
    (_memory_clock,),
    (_fan_speed,),
    (_encoder,),
    (_decoder,),
    (_pcie,),
    (_ecc,),
    (_performance_state,),
    (_throttle, _throttle_of_old_drivers),
    (_processes,),
)
"""For each thing the ways to ask for it; the first that is answered counts."""
