"""How well the pipeline works: figures from the worker's heartbeats, told every ten seconds."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
import logging
from pathlib import Path
import shutil
import time
from typing import TYPE_CHECKING, Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.event import async_track_time_interval
from homeassistant.helpers.update_coordinator import DataUpdateCoordinator

from .analysis.analyst import Analyst
from .analysis.breaker import BreakerState
from .const import DOMAIN
from .models import CameraFigures, CameraStatus, PipelineFigures
from .quality import ConnectionLog
from .store import Store, StoreError
from .vision.messages import CameraReport, Heartbeat

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry

_LOGGER = logging.getLogger(__name__)

BEATS: Final = 10
"""Heartbeats, of one a second, that figures are averaged over."""
STORAGE_INTERVAL: Final = timedelta(minutes=5)
QUEUE_INTERVAL: Final = timedelta(seconds=10)


@dataclass(slots=True)
class _Camera:
    """One camera's figures as they gather."""

    log: ConnectionLog
    reports: list[CameraReport] = field(default_factory=list)
    skipped: int = 0


class PipelineHealth(DataUpdateCoordinator[PipelineFigures]):
    """Gathers the figures of the whole and of each camera. Pushed, never polls."""

    config_entry: NemotronSecurityConfigEntry

    def __init__(
        self,
        hass: HomeAssistant,
        entry: NemotronSecurityConfigEntry,
        store: Store,
        *,
        analyst: Analyst | None,
        infers: Callable[[], bool],
        on_camera: Callable[[CameraFigures], None],
    ) -> None:
        """Begin with nothing known.

        Args:
            hass: Home Assistant.
            entry: the config entry.
            store: what is asked how large it is.
            analyst: whoever lets a model judge, if somebody does; its queue is looked at.
            infers: says whether a detector runs.
            on_camera: is told each camera's figures.
        """
        super().__init__(hass, _LOGGER, config_entry=entry, name=f"{DOMAIN} pipeline")
        self.data = PipelineFigures()
        self._store = store
        self._analyst = analyst
        self._infers = infers
        self._on_camera = on_camera
        self._cameras: dict[str, _Camera] = {}
        self._beats: list[Heartbeat] = []
        self._workers = 0

    @property
    def has_model(self) -> bool:
        """Whether a model judges, besides the rules."""
        return self._analyst is not None

    async def async_start(self) -> None:
        """Look at the disk and at what waits for a model, now and then again."""
        self.config_entry.async_on_unload(
            async_track_time_interval(self.hass, self._async_look_at_disk, STORAGE_INTERVAL, cancel_on_shutdown=True)
        )
        await self._async_look_at_disk()
        if self._analyst is not None:
            self.config_entry.async_on_unload(
                async_track_time_interval(self.hass, self._async_look_at_queue, QUEUE_INTERVAL, cancel_on_shutdown=True)
            )
            await self._async_look_at_queue()

    @callback
    def async_handle_status(self, camera_id: str, status: CameraStatus) -> None:
        """Take a camera's status."""
        self._camera(camera_id).log.note_status(status, time.monotonic())

    @callback
    def async_forget_camera(self, camera_id: str) -> None:
        """Forget a camera that was removed, or has another source now."""
        self._cameras.pop(camera_id, None)

    @callback
    def async_worker_started(self) -> None:
        """Count a start of the worker."""
        self._workers += 1

    @callback
    def async_worker_lost(self, camera_ids: Collection[str] | None = None) -> None:
        """Say that nothing is known of the whole and of these cameras: what was said last is no longer so."""
        self._beats.clear()
        for camera_id, camera in self._cameras.items():
            if camera_ids is None or camera_id in camera_ids:
                camera.reports.clear()
        self._async_tell()

    @callback
    def async_handle_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Take the last second's figures; tell of them when there are enough."""
        now = time.monotonic()
        self._beats.append(heartbeat)
        for report in heartbeat.cameras:
            if (camera := self._cameras.get(report.camera_id)) is None:  # its last one, on the way when it was removed
                continue
            camera.reports.append(report)
            camera.skipped += report.skipped
            camera.log.note_troubles(report.reconnects, report.stalls, now)
        if len(self._beats) >= BEATS:
            self._async_tell()
            self._beats.clear()
            for camera in self._cameras.values():
                camera.reports.clear()

    @callback
    def async_handle_breaker(self, state: BreakerState) -> None:
        """Take whether the model is called."""
        self.async_set_updated_data(replace(self.data, breaker=state))

    def _camera(self, camera_id: str) -> _Camera:
        if camera_id not in self._cameras:
            self._cameras[camera_id] = _Camera(ConnectionLog(time.monotonic()))
        return self._cameras[camera_id]

    @callback
    def _async_tell(self) -> None:
        for camera_id, camera in self._cameras.items():
            self._on_camera(_camera_figures(camera_id, camera))
        self.async_set_updated_data(self._figures())

    def _figures(self) -> PipelineFigures:
        last = self._beats[-1] if self._beats else None
        return replace(
            self.data,
            inference_fps=self._inference_fps(),
            inference_ms_p50=last.inference_ms_p50 if last else None,
            inference_ms_p95=last.inference_ms_p95 if last else None,
            skipped=sum(camera.skipped for camera in self._cameras.values()),
            worker_memory=last.rss or None if last else None,
            worker_restarts=max(0, self._workers - 1),
        )

    def _inference_fps(self) -> float | None:
        if not self._beats or not self._infers():
            return None
        return sum(report.inference_fps for beat in self._beats for report in beat.cameras) / len(self._beats)

    async def _async_look_at_disk(self, _now: datetime | None = None) -> None:
        folder = Path(self.hass.config.path(DOMAIN))
        database, free = await self.hass.async_add_executor_job(_database_size_and_space, folder)
        try:
            pictures = await self._store.async_picture_bytes()
        except StoreError:
            pictures = None
        used = None if database is None or pictures is None else database + pictures
        self.async_set_updated_data(replace(self.data, storage_used=used, disk_free=free))

    async def _async_look_at_queue(self, _now: datetime | None = None) -> None:
        assert self._analyst is not None
        try:
            backlog = await self._analyst.async_backlog()
        except StoreError:
            figures = replace(self.data, breaker=self._analyst.breaker, waiting=None, oldest_waiting=None)
        else:
            age = (datetime.now(UTC) - backlog.oldest_due_at).total_seconds() if backlog.oldest_due_at else None
            waited = None if age is None else max(0.0, age)
            figures = replace(self.data, breaker=self._analyst.breaker, waiting=backlog.waiting, oldest_waiting=waited)
        self.async_set_updated_data(figures)


def _camera_figures(camera_id: str, camera: _Camera) -> CameraFigures:
    reports, now = camera.reports, time.monotonic()
    reconnects, stalls = camera.log.troubles(now)
    return CameraFigures(
        camera_id=camera_id,
        fps=sum(report.fps for report in reports) / len(reports) if reports else None,
        inference_fps=sum(report.inference_fps for report in reports) / len(reports) if reports else None,
        skipped=camera.skipped,
        quality=camera.log.quality(now),
        reconnects=reconnects,
        stalls=stalls,
        recorded_at=datetime.now(UTC),
    )


def _database_size_and_space(folder: Path) -> tuple[int | None, int | None]:
    """Return the bytes of the database with its write-ahead log, and the bytes that are left where it lies."""
    try:
        return sum(file.stat().st_size for file in folder.glob("events.db*")), shutil.disk_usage(folder).free
    except OSError:
        return None, None
