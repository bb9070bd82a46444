"""The GPUs as Home Assistant knows them: when they are read, who is told, and what is wrong with them."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
import logging
import time
from typing import TYPE_CHECKING, Any, override

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.event import async_call_later, async_track_time_interval
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator

from .broadcasters import MessageType, SystemBroadcaster
from .const import CONF_GPU_INTERVAL, CONF_GPU_URLS, DEFAULT_GPU_INTERVAL, DOMAIN
from .gpu import GpuError, GpuProblem, GpuReading, GpuReport, GpuSource
from .gpu.nvml import NvmlSource
from .gpu.prometheus import PrometheusSource
from .issues import Issues
from .models import GpuStats

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry

_LOGGER = logging.getLogger(__name__)

PAUSE = 30.0
"""Seconds for which a source that failed is left alone."""
LOOK_AFTER = timedelta(minutes=10)
"""How often new GPUs are looked for while nobody wants any figure."""
REST_AFTER = timedelta(seconds=30)
"""How long drivers are held when nobody wants figures any more: who reconnects shall not wait for them."""
NAMELESS = "NVIDIA GPU"
"""Stands for the name of a GPU whose source knows its UUID alone."""

_PREFIX = "gpu_"
"""Keeps the identifiers of GPUs' devices apart from those of cameras."""

type Readings = Mapping[str, GpuReading]


class GpuMonitor(DataUpdateCoordinator[Readings]):
    """Reads every source while somebody wants it: an enabled entity, or a client of the system channel."""

    config_entry: NemotronSecurityConfigEntry

    def __init__(
        self,
        hass: HomeAssistant,
        entry: NemotronSecurityConfigEntry,
        *,
        system: SystemBroadcaster,
        issues: Issues,
        inference_fps: Callable[[], float | None],
    ) -> None:
        """Begin with nothing known.

        Args:
            hass: Home Assistant.
            entry: its options say how often, and which servers besides this machine.
            system: the channel that is told of every reading.
            issues: is told what a person has to do.
            inference_fps: says how many frames a second go through the detector; null when nothing infers.
        """
        super().__init__(hass, _LOGGER, config_entry=entry, name=f"{DOMAIN} GPUs", always_update=False)
        self.data = {}
        self._system = system
        self._issues = issues
        self._inference_fps = inference_fps
        self._sources: dict[str, _Watched] = {"": _Watched(NvmlSource())}
        """By the URL; this machine has none."""
        self.shown: defaultdict[str, set[str]] = defaultdict(set)
        """Keys of the entities that each GPU has."""
        self._read_listeners: set[CALLBACK_TYPE] = set()
        self._devices: dict[str, tuple[str | None, str | None]] = {}
        self._told: set[str] = set()
        """GPUs of which the channel's clients know."""
        self._counted_by: dict[str, _Watched] = {}
        """Whose count of energy is each GPU's: the counts of two sources begin at different times."""
        self._leave: CALLBACK_TYPE | None = None
        self._cancel_rest: CALLBACK_TYPE | None = None
        self._busy = asyncio.Lock()

    async def async_start(self) -> None:
        """Look for GPUs, without waiting for them, and follow who wants figures."""
        self.async_follow_options()
        self.config_entry.async_on_unload(
            async_track_time_interval(self.hass, self._async_look, LOOK_AFTER, cancel_on_shutdown=True)
        )
        self._system.watch_audience(self._async_audience_changed)
        self._async_audience_changed()
        self._async_in_background(self._async_look)

    async def async_stop(self) -> None:
        """Read no more, and let go of the drivers."""
        self._system.watch_audience(None)
        await self.async_shutdown()
        if self._cancel_rest is not None:
            self._cancel_rest()
        async with self._busy:
            for watched in self._sources.values():
                await watched.source.async_stop()

    @callback
    def async_follow_options(self) -> None:
        """Take the interval and the servers from the entry's options."""
        options = self.config_entry.options
        self.update_interval = timedelta(seconds=options.get(CONF_GPU_INTERVAL, DEFAULT_GPU_INTERVAL))
        urls = options.get(CONF_GPU_URLS, ())
        session = async_get_clientsession(self.hass)
        for url in urls:
            if url not in self._sources:
                self._sources[url] = _Watched(PrometheusSource(session, url))
        for url in self._sources.keys() - {"", *urls}:
            removed = self._sources.pop(url)
            self._issues.async_clear(removed.issue)
            self._counted_by = {gpu_id: by for gpu_id, by in self._counted_by.items() if by is not removed}

    @property
    def problems(self) -> dict[str, GpuProblem | None]:
        """What is wrong with each source, by its id."""
        return {watched.source.id: watched.problem for watched in self._sources.values()}

    @callback
    def async_on_read(self, listener: CALLBACK_TYPE) -> CALLBACK_TYPE:
        """Call the listener after every reading, without being somebody who wants one."""
        self._read_listeners.add(listener)
        return lambda: self._read_listeners.discard(listener)

    @callback
    def async_forget(self, device_id: str) -> bool:
        """Let a GPU's device and entities go, if it is not read; should it come back, so do they."""
        gpu_id = device_id.removeprefix(_PREFIX)
        if gpu_id in self.data:
            return False
        self.shown.pop(gpu_id, None)
        return True

    @callback
    @override
    def async_add_listener(self, update_callback: CALLBACK_TYPE, context: Any = None) -> CALLBACK_TYPE:
        remove = super().async_add_listener(update_callback, context)

        @callback
        def leave() -> None:
            remove()
            if not self._listeners:
                self._async_rest_later()

        return leave

    @callback
    def _async_audience_changed(self) -> None:
        """A client that chose GPUs' readings wants figures as an entity does, and the first ones at once."""
        wanted = self._system.audience(MessageType.GPU_STATS) > 0
        if wanted and self._leave is None:
            was_idle = not self._listeners
            self._leave = self.async_add_listener(_nothing)
            if was_idle:
                self._async_in_background(self.async_refresh)
        elif not wanted and self._leave is not None:
            self._leave()
            self._leave = None

    async def _async_look(self, _now: datetime | None = None) -> None:
        """Read once if nobody wants it anyway: only so is a new GPU found."""
        if not self._listeners:
            await self.async_refresh()
            self._async_rest_later()

    @callback
    def _async_rest_later(self) -> None:
        if self._cancel_rest is not None:
            self._cancel_rest()
        if self._shutdown_requested:
            return
        self._cancel_rest = async_call_later(self.hass, REST_AFTER, self._async_rest)

    async def _async_rest(self, _now: datetime) -> None:
        """Let go of the drivers, so that an idle GPU may sleep, and say nothing that grows old."""
        self._cancel_rest = None
        async with self._busy:
            if self._listeners:
                return
            for watched in self._sources.values():
                await watched.source.async_stop()
            self.data = {}
            self._tell({})

    # --- a reading --------------------------------------------------------------------------------------------------

    @override
    async def _async_update_data(self) -> Readings:
        async with self._busy:
            watched = tuple(self._sources.values())
            reports = await asyncio.gather(*(self._async_read(source) for source in watched))
        readings: dict[str, GpuReading] = {}
        for source, report in zip(watched, reports, strict=True):
            if source not in self._sources.values():  # removed while it was read
                continue
            for reading in report.readings:
                if reading.energy is not None and self._counted_by.setdefault(reading.gpu_id, source) is not source:
                    reading = replace(reading, energy=None)  # noqa: PLW2901 - the same reading without its count
                known = readings.get(reading.gpu_id)
                readings[reading.gpu_id] = known.completed_by(reading) if known else reading
        self._tell(readings)
        return readings

    async def _async_read(self, watched: _Watched) -> GpuReport:
        """Read one source, unless it failed a moment ago."""
        if time.monotonic() < watched.pause_until:
            return GpuReport()
        try:
            report = await watched.source.async_read()
        except GpuError as err:
            watched.pause_until = time.monotonic() + PAUSE
            self._note(watched, err.problem, err.detail)
            return GpuReport()
        except Exception as err:
            # Whatever a source stumbles over costs its own GPUs alone.
            watched.pause_until = time.monotonic() + PAUSE
            if watched.problem is not GpuProblem.BAD_ANSWER:
                _LOGGER.exception("GPU readings of %s cannot be understood", watched.source.name)
            self._note(watched, GpuProblem.BAD_ANSWER, type(err).__name__)
            return GpuReport()
        watched.worked = True
        self._note(watched, GpuProblem.GPU_LOST if report.lost else None, "; ".join(report.lost))
        return report

    def _note(self, watched: _Watched, problem: GpuProblem | None, detail: str) -> None:
        """Say once in the log what is wrong, and ask for help where somebody can.

        A machine that never had a driver has nothing wrong with it, nor has a server that is no longer asked.
        """
        watched.problem = problem
        if watched not in self._sources.values() or (problem is GpuProblem.NO_DRIVER and not watched.worked):
            return
        name = watched.source.name
        if problem is not None and not watched.lost:
            _LOGGER.info("GPU readings of %s fail: %s (%s)", name, problem, detail)
        elif problem is None and watched.lost:
            _LOGGER.info("GPU readings of %s are back", name)
        watched.lost = problem is not None
        self._issues.async_set(watched.issue, problem, {"source": name, "detail": detail})

    def _tell(self, readings: Readings) -> None:
        """Tell the channel; of a GPU whose memory is not known it has no message."""
        now, inference_fps = datetime.now(UTC), self._inference_fps()
        told = set()
        for reading in readings.values():
            if reading.memory_used is None or reading.memory_total is None:
                continue
            told.add(reading.gpu_id)
            self._system.broadcast_gpu_stats(
                GpuStats(
                    gpu_id=reading.gpu_id,
                    name=reading.name or NAMELESS,
                    gpu_utilization=reading.utilization,
                    memory_used=reading.memory_used,
                    memory_total=reading.memory_total,
                    temperature=reading.temperature,
                    inference_fps=inference_fps,
                    recorded_at=now,
                )
            )
        for gpu_id in self._told - told:
            self._system.forget_gpu(gpu_id)
        self._told = told

    @callback
    @override
    def _async_refresh_finished(self) -> None:
        for reading in self.data.values():
            self._async_keep_device(reading)
        for listener in tuple(self._read_listeners):
            listener()

    @callback
    def _async_keep_device(self, reading: GpuReading) -> None:
        """Have a device for the GPU; a MIG instance's stands below its GPU's."""
        known = reading.name, reading.driver_version
        devices, entry = dr.async_get(self.hass), self.config_entry
        present = devices.async_get_device_by_identifier((DOMAIN, device_id_of(reading.gpu_id)), entry.entry_id)
        if present is not None and self._devices.get(reading.gpu_id) == known:
            return
        self._devices[reading.gpu_id] = known
        parent = (
            devices.async_get_device_by_identifier((DOMAIN, device_id_of(reading.parent_id)), entry.entry_id)
            if reading.parent_id
            else None
        )
        devices.async_get_or_create(
            config_entry_id=entry.entry_id,
            identifiers={(DOMAIN, device_id_of(reading.gpu_id))},
            name=reading.name or NAMELESS,
            model=reading.name,
            manufacturer=None if reading.is_server else "NVIDIA",
            entry_type=dr.DeviceEntryType.SERVICE if reading.is_server else None,
            sw_version=reading.driver_version,
            via_device_id=parent.id if parent else entry.runtime_data.hub_id,
        )

    @callback
    def _async_in_background(self, work: Callable[[], Any]) -> None:
        self.config_entry.async_create_background_task(self.hass, work(), name=f"{self.name} {work.__name__}")


class _Watched:
    """A source, and how it does."""

    def __init__(self, source: GpuSource) -> None:
        self.source = source
        self.issue = f"gpu_{source.id}"
        self.problem: GpuProblem | None = None
        self.lost = False
        """Whether the log said so."""
        self.pause_until = 0.0
        self.worked = False


def device_id_of(gpu_id: str) -> str:
    """Return what identifies the GPU's device among ours."""
    return f"{_PREFIX}{gpu_id}"


@callback
def _nothing() -> None:
    """Want figures for others' sake."""
