"""One running security system: what a loaded config entry owns, and the way of the data through it.

worker's reports -> coordinators, incidents -> store -> websocket channels, event bus, entities
"""

import asyncio
from collections.abc import Callable, Collection
from functools import partial
import sys
import time

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers import device_registry as dr

from .analysis import Case, rules
from .analysis.analyst import Analyst
from .analysis.breaker import BreakerState
from .analysis.briefing import Briefing
from .analysis.budget import Budget
from .analysis.context import HouseWatch
from .analysis.keyframes import LARGEST_SIDE
from .announcer import Announcer
from .broadcasters import async_channels
from .const import (
    CONF_MAXIMUM_LENGTH,
    CONF_QUIET_TIME,
    CONF_WORKERS,
    DEFAULT_MAXIMUM_LENGTH,
    DEFAULT_QUIET_TIME,
    DEFAULT_WORKERS,
    DOMAIN,
    SUBENTRY_CAMERA,
)
from .coordinator import CameraCoordinator
from .detection.options import detector_config
from .environments import needs_environment
from .feeds import CameraFeed, CameraSettings
from .gpus import GpuMonitor
from .health import PipelineHealth
from .incidents import Incidents
from .issues import ISSUE_ENVIRONMENT, Issues
from .judging import Judging
from .lasting import Lasting
from .model_watch import ModelWatch
from .models import Assessment, CameraFigures, CameraHealth, CameraStatus, Problem
from .outside import Outside
from .payloads import PartState
from .permissions import async_permissions
from .store import Store
from .vision.messages import (
    CameraState,
    DetectorConfig,
    DetectorState,
    FrameTracks,
    Heartbeat,
    MotionState,
    Ready,
    Report,
    TrackPicture,
    WorkerLost,
)
from .vision.pool import WorkerPool
from .zones import opening_zones

FAILED_STARTS = 3
"""Starts in a row without success after which the worker counts as failed; it is still tried again."""

type NemotronSecurityConfigEntry = ConfigEntry[Runtime]
type CameraAdder = Callable[[CameraCoordinator], None]


class Runtime:
    """The parts of one running system, wired. Built by `async_setup_entry`, which starts and stops it."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: NemotronSecurityConfigEntry,
        store: Store,
        hub_id: str,
        python: str = sys.executable,
    ) -> None:
        """Wire the parts; nothing runs yet. The worker will run on the interpreter `python`."""
        self._hass = hass
        self._entry = entry
        self.hub_id = hub_id
        self.store = store
        self.issues = Issues(hass)
        self.events, self.system = async_channels(hass)
        self._permissions = async_permissions(hass)
        self._workers = _workers(entry)
        self.executor = WorkerPool(self._handle_report, workers=self._workers, python=python)
        self.cameras: dict[str, CameraCoordinator] = {}
        self._analysts: list[Analyst] = []
        self.announcer = Announcer(
            hass,
            events=self.events,
            system=self.system,
            issues=self.issues,
            cameras=self.cameras,
            analysts=self._analysts,
        )
        self._lasting = Lasting(hass, entry.entry_id)
        self.house = HouseWatch(hass, lambda: entry.options, self._lasting.async_changed)
        self.budget = Budget(on_call=self._lasting.async_counted)
        newest_frame = partial(self.executor.async_snapshot, boxes=False, max_width=LARGEST_SIDE)
        self.briefing = Briefing(hass, entry, store, self._camera_name, newest_frame)
        quiet_time, maximum_length = _incident_times(entry)
        self.incidents = Incidents(
            store,
            rules=self._assess_by_rules,
            house=self.house.read,
            camera_name=self._camera_name,
            listener=self.announcer,
            quiet_time=quiet_time,
            maximum_length=maximum_length,
        )
        self.outside = Outside(
            hass, entry, self.executor, self.incidents, detects=lambda camera_id: self._watched(camera_id) is not None
        )
        self._judging = Judging(
            hass,
            entry,
            store=store,
            incidents=self.incidents,
            house=self.house.read,
            briefing=self.briefing,
            budget=self.budget,
            issues=self.issues,
            on_state=self._handle_analyzer,
            on_breaker=self._handle_breaker,
        )
        self._analysts += self._judging.analysts
        self.health = PipelineHealth(
            hass,
            entry,
            store,
            analyst=next(iter(self._analysts), None),
            infers=self._infers,
            on_camera=self._handle_camera_figures,
        )
        self.gpus = GpuMonitor(
            hass,
            entry,
            system=self.system,
            issues=self.issues,
            inference_fps=lambda: self.health.data.inference_fps,
        )
        self._settings: dict[str, CameraSettings] = {}
        self._feeds: dict[str, CameraFeed] = {}
        self._adders: list[CameraAdder] = []
        self._connection_data = dict(entry.data)
        self._detector: DetectorConfig | None = None
        self._started_for = detector_config(entry.options)
        """The detector that decided on which Python the worker runs."""
        self._lacks_environment = _runs_apart(self._started_for) and python == sys.executable
        self._names: dict[str, str] = {}
        """Of removed cameras too: their last words come later."""
        self._changing = asyncio.Lock()
        self._stopping: asyncio.Task[None] | None = None
        self.worker: Ready | None = None
        """What the worker that was started last said of itself."""
        self.detector: DetectorState | None = None
        """What the worker said of the detector last."""
        self.heartbeat: Heartbeat | None = None
        """The last second's figures."""

    async def async_start(self) -> None:
        """Start the worker and watch every camera."""
        await self._lasting.async_load(
            {"house": (self.house.restore, self.house.as_data), "calls": (self.budget.restore, self.budget.as_data)}
        )
        self._entry.async_on_unload(self.house.async_start())
        self._entry.async_on_unload(self._permissions.async_on_registered(self._handle_registered))
        await self.incidents.async_start()
        await self._judging.async_start()
        self.announcer.pipeline_status(
            worker=PartState.STARTING,
            detector=PartState.OFF,
            store=PartState.RUNNING,
            analyzer=PartState.RUNNING if self._analysts else PartState.OFF,
        )
        self._judging.async_watch()
        self._load_detector()
        self._entry.async_on_unload(
            self.health.async_add_listener(lambda: self.announcer.pipeline_figures(self.health.data))
        )
        await self.health.async_start()
        await self.gpus.async_start()
        await self.executor.async_start()
        await self.async_sync_cameras()

    async def async_stop(self) -> None:
        """Stop, once; returns when all is still, whoever asks."""
        if self._stopping is None:
            self._stopping = self._hass.async_create_task(self._async_stop(), "nemotron_security stop")
        await asyncio.shield(self._stopping)

    async def _async_stop(self) -> None:
        """Stop in the order of the data's way, so that the last incident still reaches the store."""
        self.outside.async_stop()
        async with self._changing:
            for feed in self._feeds.values():
                await feed.async_stop()
        await self.gpus.async_stop()
        await self.executor.async_stop()
        await self.incidents.async_stop()
        await self._judging.async_stop()  # only now: the last incidents are to be queued as well
        await self._lasting.async_stop()
        self.announcer.async_stop()
        for camera_id in self.cameras:
            self.system.broadcast_camera_status(CameraHealth(camera_id=camera_id))
        self.announcer.pipeline_status(**dict.fromkeys(("worker", "detector", "store", "analyzer"), PartState.OFF))
        self.system.forget_all()
        self.issues.async_clear_all()
        await self.store.async_close()

    @callback
    def async_for_each_camera(self, add: CameraAdder) -> CALLBACK_TYPE:
        """Call `add` for every camera, now and when one is added later."""
        self._adders.append(add)
        for camera in self.cameras.values():
            add(camera)
        return lambda: self._adders.remove(add)

    # --- settings -------------------------------------------------------------------------------------------------

    async def async_apply_changes(self) -> None:
        """Bring what runs in line with what the entry says now."""
        if self._stopping is not None:
            return
        quiet_time, maximum_length = _incident_times(self._entry)
        self.incidents.set_options(quiet_time=quiet_time, maximum_length=maximum_length)
        self._judging.async_follow_options()
        self.gpus.async_follow_options()
        self._load_detector()
        await self.async_sync_cameras()

    async def async_sync_cameras(self) -> None:
        """Start, change and stop cameras so that they are those of the entry's subentries."""
        for camera_id in self._settings.keys() - self._wanted_cameras().keys():
            self._permissions.async_camera_removed(camera_id)  # at once: its entities go next
        async with self._changing:  # else a change overtakes an earlier one, and that has the last word
            if self._stopping is not None:
                return
            wanted = self._wanted_cameras()
            for camera_id in self._settings.keys() - wanted.keys():
                await self._async_remove_camera(camera_id)
            for camera_id, settings in wanted.items():
                if camera_id not in self._settings:
                    self._add_camera(settings)
                elif settings != self._settings[camera_id]:
                    await self._async_change_camera(settings)

    def _wanted_cameras(self) -> dict[str, CameraSettings]:
        subentries = self._entry.get_subentries_of_type(SUBENTRY_CAMERA)
        return {subentry.subentry_id: CameraSettings.of(subentry) for subentry in subentries}

    def _add_camera(self, settings: CameraSettings) -> None:
        camera_id = settings.camera_id
        self._settings[camera_id], self._names[camera_id] = settings, settings.title
        self.incidents.set_opening_zones(camera_id, opening_zones(settings.data))
        self.outside.async_set(camera_id, settings.data)
        camera = self.cameras[camera_id] = CameraCoordinator(self._hass, self._entry, camera_id)
        self.announcer.camera_status(camera.data.health)
        self.health.async_handle_status(camera_id, camera.data.health.status)
        self._feeds[camera_id] = CameraFeed(self._hass, self.executor, self._handle_report)
        self._feeds[camera_id].async_start(settings)
        for add in self._adders:
            add(camera)

    @callback
    def _handle_registered(self, camera_id: str) -> None:
        """Say a new camera's status again: only now others than administrators may hear it."""
        if camera := self.cameras.get(camera_id):
            self.system.broadcast_camera_status(camera.data.health)

    async def _async_change_camera(self, settings: CameraSettings) -> None:
        camera_id = settings.camera_id
        before, self._settings[camera_id] = self._settings[camera_id], settings
        self._names[camera_id] = settings.title
        self.incidents.set_opening_zones(camera_id, opening_zones(settings.data))
        self.outside.async_set(camera_id, settings.data)
        feed = self._feeds[camera_id]
        await feed.async_stop()
        if settings.origin != before.origin:
            # Nothing of the old source shall be taken for the new one's, nor what was wrong with it.
            self.executor.remove_camera(camera_id)
            self.issues.async_clear(camera_id)
            self.health.async_forget_camera(camera_id)
            self._handle_camera_state(CameraState(camera_id=camera_id, status=CameraStatus.UNKNOWN, at=time.time()))
        feed.async_start(settings)
        if not settings.detect:
            self.cameras[camera_id].async_detection_off()
            self.incidents.camera_lost(camera_id)
        devices = dr.async_get(self._hass)
        device = devices.async_get_device_by_identifier((DOMAIN, camera_id), self._entry.entry_id)
        if device is not None and device.name != settings.title:
            devices.async_update_device(device.id, name=settings.title)
        self.cameras[camera_id].async_settings_changed()

    async def _async_remove_camera(self, camera_id: str) -> None:
        feed = self._feeds.pop(camera_id)
        del self._settings[camera_id], self.cameras[camera_id]
        self.outside.async_forget(camera_id)
        self.system.broadcast_camera_status(CameraHealth(camera_id=camera_id))
        self.system.forget_camera(camera_id)
        self.incidents.camera_removed(camera_id)
        await feed.async_stop()
        self.executor.remove_camera(camera_id)
        self.health.async_forget_camera(camera_id)
        self.issues.async_clear(camera_id)

    def _load_detector(self) -> None:
        """Load the detector of the options if it is another one; without one only motion is seen."""
        config = detector_config(self._entry.options)
        if config is None or config == self._detector:
            return
        self._detector = config
        self._forget_objects()
        self.announcer.pipeline_status(detector=PartState.STARTING)
        self.executor.set_detector(config)

    def _forget_objects(self, camera_ids: Collection[str] | None = None) -> None:
        """Say that it is not known what these cameras, or all of them, show now."""
        for camera_id, camera in self.cameras.items():
            if camera_ids is None or camera_id in camera_ids:
                camera.async_forget_objects()
                self.incidents.camera_lost(camera_id)

    @property
    def needs_reload(self) -> bool:
        """Whether the analyzer's connection, the workers' number or their Python changed, or the detector shall go."""
        detector = detector_config(self._entry.options)
        other_worker = _workers(self._entry) != self._workers or _runs_apart(detector) != _runs_apart(self._started_for)
        detector_gone = self._detector is not None and detector is None
        return detector_gone or other_worker or dict(self._entry.data) != self._connection_data

    # --- what the parts ask -----------------------------------------------------------------------------------------

    @property
    def model_watch(self) -> ModelWatch | None:
        """Of the model that we ask ourselves."""
        return self._judging.model_watch

    def _assess_by_rules(self, case: Case) -> Assessment:
        return rules.assess(self.briefing.settled(case))

    def _camera_name(self, camera_id: str) -> str:
        return self._names.get(camera_id, camera_id)

    @callback
    def _handle_analyzer(self, state: PartState) -> None:
        self.announcer.pipeline_status(analyzer=state)

    @callback
    def _handle_breaker(self, state: BreakerState) -> None:
        self.health.async_handle_breaker(state)

    # --- the worker's reports ---------------------------------------------------------------------------------------

    @callback
    def _handle_report(self, report: Report) -> None:
        match report:
            case FrameTracks():
                self._handle_tracks(report)
            case TrackPicture():
                if report.camera_id in self.cameras:
                    self.incidents.handle_picture(report)
            case MotionState():
                if camera := self._watched(report.camera_id):
                    camera.async_handle_motion(active=report.active)
            case CameraState():
                self._handle_camera_state(report)
            case DetectorState():
                self._handle_detector_state(report)
            case _:
                self._handle_worker(report)

    def _handle_worker(self, report: Report) -> None:
        """Take what the worker says of itself."""
        match report:
            case Ready():
                self.worker = report
                self.health.async_worker_started()
                self.announcer.pipeline_status(worker=PartState.RUNNING)
            case WorkerLost(failed_starts=failed_starts, camera_ids=camera_ids):
                failed = failed_starts >= FAILED_STARTS
                self.announcer.pipeline_status(worker=PartState.FAILED if failed else PartState.STARTING)
                self.health.async_worker_lost(camera_ids)
            case Heartbeat():
                self._handle_heartbeat(report)

    def _watched(self, camera_id: str) -> CameraCoordinator | None:
        """Return the camera if detection is on: a report under way may come after it was removed or switched off."""
        settings = self._settings.get(camera_id)
        return self.cameras[camera_id] if settings is not None and settings.detect else None

    def _handle_tracks(self, frame: FrameTracks) -> None:
        if camera := self._watched(frame.camera_id):
            camera.async_handle_tracks(frame)
            self.incidents.handle_tracks(frame)

    def _handle_camera_state(self, state: CameraState) -> None:
        camera, feed = self.cameras.get(state.camera_id), self._feeds.get(state.camera_id)
        if camera is None or feed is None:
            return
        feed.async_note(state.status)
        before, health = camera.data.health, camera.async_handle_state(state)
        if state.problem is not Problem.WORKER_DOWN:  # no fault of the camera's
            self.health.async_handle_status(state.camera_id, state.status)
        if state.status is not CameraStatus.ONLINE:
            self.incidents.camera_lost(state.camera_id)
        if (health.status, health.problem) != (before.status, before.problem):
            self.announcer.camera_status(health)
        # A camera that begins anew is unknown for a moment; what was wrong may be so still.
        if state.status is not CameraStatus.UNKNOWN:
            placeholders = {"camera": self._camera_name(state.camera_id), "detail": state.detail or "-"}
            self.issues.async_set(state.camera_id, state.problem, placeholders)

    def _handle_detector_state(self, state: DetectorState) -> None:
        self.detector = state
        if state.problem is not None:
            self._forget_objects(state.camera_ids)
        if state.problem is Problem.WORKER_DOWN:  # the cameras' issues say so
            self.announcer.pipeline_status(detector=PartState.STARTING)
            return
        problem: str | None = state.problem
        if state.problem is Problem.DETECTOR_NOT_INSTALLED and self._lacks_environment:
            problem = ISSUE_ENVIRONMENT
        path = self._detector.model if self._detector else ""
        self.issues.async_set("detector", problem, {"path": path, "detail": state.detail or "-"})
        self.announcer.pipeline_status(detector=PartState.FAILED if state.problem else PartState.RUNNING)

    def _handle_heartbeat(self, heartbeat: Heartbeat) -> None:
        self.heartbeat = heartbeat
        self.health.async_handle_heartbeat(heartbeat)
        for report in heartbeat.cameras:
            if camera := self.cameras.get(report.camera_id):
                camera.async_handle_report(report, detecting=self._watched(report.camera_id) is not None)

    def _infers(self) -> bool:
        return self.announcer.pipeline.detector is PartState.RUNNING

    @callback
    def _handle_camera_figures(self, figures: CameraFigures) -> None:
        if camera := self.cameras.get(figures.camera_id):
            camera.async_handle_figures(figures)
            self.announcer.camera_figures(figures)


def _runs_apart(detector: DetectorConfig | None) -> bool:
    """Tell whether a detector runs on the Python of its own environment."""
    return detector is not None and needs_environment(detector.plugin)


def _incident_times(entry: NemotronSecurityConfigEntry) -> tuple[float, float]:
    """Return an incident's quiet time and its maximum length, in seconds."""
    options = entry.options
    return (
        options.get(CONF_QUIET_TIME, DEFAULT_QUIET_TIME),
        options.get(CONF_MAXIMUM_LENGTH, DEFAULT_MAXIMUM_LENGTH),
    )


def _workers(entry: NemotronSecurityConfigEntry) -> int:
    """Return how many processes the cameras are spread over, at most."""
    return int(entry.options.get(CONF_WORKERS, DEFAULT_WORKERS))
