"""Where each camera's frames come from: a subentry's source becomes one that the worker can open.

A stream URL or a file is handed on as it is. A `camera` entity is asked for its stream; the worker decodes that. One
without a stream is asked for stills, which are pushed to the worker.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
import time
from typing import Any

from homeassistant.components.camera import async_get_image, async_get_stream_source
from homeassistant.config_entries import ConfigEntry, ConfigSubentry
from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import CALLBACK_TYPE, Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.event import async_track_state_change_event

from .checks import camera_identity
from .const import (
    CONF_AI_TASK_ENTITY,
    CONF_ALARM_PANEL,
    CONF_CALENDARS,
    CONF_CAMERA_ENTITY,
    CONF_CONFIDENCE,
    CONF_DETECT,
    CONF_FILE_PATH,
    CONF_FPS,
    CONF_LABELS,
    CONF_LOOK_ENTITIES,
    CONF_OPEN_ENTITIES,
    CONF_SOURCE,
    CONF_STREAM_URL,
    DEFAULT_CONFIDENCE,
    DEFAULT_FPS,
    DEFAULT_LABELS,
    SOURCE_ENTITY,
    SOURCE_FILE,
    SUBENTRY_CAMERA,
)
from .vision.labels import coco_names
from .vision.messages import CameraConfig, CameraState, CameraStatus, Problem, Source, SourceKind
from .vision.pool import WorkerPool
from .vision.redact import redact
from .zones import lines_of, masks_of, zones_of

SOURCE_TIMEOUT = 15
STILL_TIMEOUT = 10
STILLS_PATIENCE = 20.0
"""Seconds without a still after which the camera entity is given up for a while."""
MAXIMUM_STILLS_PER_SECOND = 2.0
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """A snapshot of a camera subentry. Home Assistant changes the subentry in place, so only a copy shows a change."""

    camera_id: str
    title: str
    data: Mapping[str, Any]

    @classmethod
    def of(cls, subentry: ConfigSubentry) -> CameraSettings:
        """Copy what a subentry says now."""
        return cls(subentry.subentry_id, subentry.title, dict(subentry.data))

    @property
    def entity_id(self) -> str | None:
        """The `camera` entity to watch, if that is the source."""
        return self.data[CONF_CAMERA_ENTITY] if self.data[CONF_SOURCE] == SOURCE_ENTITY else None

    @property
    def origin(self) -> tuple[object, ...]:
        """What tells one source from another."""
        return tuple(self.data.get(key) for key in (CONF_SOURCE, CONF_CAMERA_ENTITY, CONF_STREAM_URL, CONF_FILE_PATH))

    @property
    def detect(self) -> bool:
        """Whether objects are detected."""
        return bool(self.data.get(CONF_DETECT, True))

    def direct_source(self) -> Source:
        """Return the source that needs no camera entity."""
        if self.data[CONF_SOURCE] == SOURCE_FILE:
            return Source(kind=SourceKind.FILE, location=self.data[CONF_FILE_PATH])
        return Source(kind=SourceKind.STREAM, location=self.data[CONF_STREAM_URL])

    def config(self, source: Source) -> CameraConfig:
        """Return what the worker is told."""
        return CameraConfig(
            camera_id=self.camera_id,
            source=source,
            fps=float(self.data.get(CONF_FPS, DEFAULT_FPS)),
            detect=self.detect,
            labels=coco_names(self.data.get(CONF_LABELS, DEFAULT_LABELS)),
            confidence=float(self.data.get(CONF_CONFIDENCE, DEFAULT_CONFIDENCE)),
            zones=zones_of(self.data),
            lines=lines_of(self.data),
            masks=masks_of(self.data),
        )


@callback
def async_follow_renames(hass: HomeAssistant, entry: ConfigEntry) -> CALLBACK_TYPE:
    """Let the settings follow when an entity that they name gets another id; returns what ends that."""

    @callback
    def follow(event: Event[er.EventEntityRegistryUpdatedData]) -> None:
        if event.data["action"] != "update" or (before := event.data.get("old_entity_id")) is None:
            return
        renamed = partial(_renamed, before=before, after=event.data["entity_id"])
        for subentry in list(entry.get_subentries_of_type(SUBENTRY_CAMERA)):
            settings = renamed(subentry.data, (CONF_CAMERA_ENTITY, CONF_LOOK_ENTITIES, CONF_OPEN_ENTITIES))
            if settings != subentry.data:
                hass.config_entries.async_update_subentry(
                    entry, subentry, data=settings, unique_id=camera_identity(settings)
                )
        hass.config_entries.async_update_entry(  # what did not change is no update
            entry,
            data=renamed(entry.data, (CONF_AI_TASK_ENTITY,)),
            options=renamed(entry.options, (CONF_ALARM_PANEL, CONF_CALENDARS)),
        )

    return hass.bus.async_listen(er.EVENT_ENTITY_REGISTRY_UPDATED, follow)


def _renamed(settings: Mapping[str, Any], names: Iterable[str], *, before: str, after: str) -> dict[str, Any]:
    """Return the settings with another id for an entity, where one of these is its id or a list that holds it."""
    changed = dict(settings)
    for name in names:
        value = changed.get(name)
        if value == before:
            changed[name] = after
        elif isinstance(value, list) and before in value:
            changed[name] = [after if entity_id == before else entity_id for entity_id in value]
    return changed


class CameraFeed:
    """Keeps the worker's idea of one camera's source right."""

    def __init__(self, hass: HomeAssistant, executor: WorkerPool, report: Callable[[CameraState], None]) -> None:
        """Report what the worker cannot know: a camera entity that is not there."""
        self._hass = hass
        self._executor = executor
        self._report = report
        self._task: asyncio.Task[None] | None = None
        self._trouble = asyncio.Event()
        self._seen = False

    @callback
    def async_start(self, settings: CameraSettings) -> None:
        """Watch the camera as these settings say."""
        if (entity_id := settings.entity_id) is None:
            self._executor.set_camera(settings.config(settings.direct_source()))
            return
        self._task = self._hass.async_create_background_task(
            self._async_follow(settings, entity_id), f"nemotron_security feed of {entity_id}"
        )

    async def async_stop(self) -> None:
        """Stop asking the camera entity. The worker is not told."""
        if (task := self._task) is None:
            return
        self._task = None
        while not task.done():
            # Home Assistant 2026.10's async_get_image swallows a cancellation, so one may not be enough.
            task.cancel()
            await asyncio.wait([task], timeout=1)

    @callback
    def async_note(self, status: CameraStatus) -> None:
        """Take note whether the worker can use the source: if not, the entity may have a new one by now."""
        if status in (CameraStatus.OFFLINE, CameraStatus.ERROR):
            self._trouble.set()
        elif status is CameraStatus.ONLINE:
            self._trouble.clear()
            self._seen = True

    async def _async_follow(self, settings: CameraSettings, entity_id: str) -> None:
        """Watch the entity, and again after trouble, at growing intervals."""
        pause = FIRST_PAUSE
        while True:
            self._seen = False
            try:
                await self._async_watch(settings, entity_id)
            except Exception as err:  # noqa: BLE001 - whatever its integration raises, a camera is tried again
                _raise_if_cancelled()
                self._lose(settings, redact(str(err)) or type(err).__name__)
            if self._seen:
                pause = FIRST_PAUSE
            await self._async_pause(entity_id, pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _async_watch(self, settings: CameraSettings, entity_id: str) -> None:
        """Hand on the source that the entity has now; returns or raises when it is of no use any more."""
        async with asyncio.timeout(SOURCE_TIMEOUT):
            url = await self._async_resolve(entity_id)
        if url is None:
            await self._async_push_stills(settings, entity_id)
        else:
            self._executor.set_camera(settings.config(Source(kind=SourceKind.STREAM, location=url)))
            await self._trouble.wait()

    async def _async_resolve(self, entity_id: str) -> str | None:
        if not self._is_available(entity_id):
            raise HomeAssistantError("the camera entity is not available")
        return await async_get_stream_source(self._hass, entity_id)

    def _is_available(self, entity_id: str) -> bool:
        state = self._hass.states.get(entity_id)
        return state is not None and state.state != STATE_UNAVAILABLE

    def _lose(self, settings: CameraSettings, detail: str) -> None:
        self._executor.remove_camera(settings.camera_id)
        self._report(
            CameraState(
                camera_id=settings.camera_id,
                status=CameraStatus.OFFLINE,
                at=time.time(),
                problem=Problem.CAMERA_UNAVAILABLE,
                detail=detail,
            )
        )

    async def _async_pause(self, entity_id: str, seconds: float) -> None:
        """Wait, but not longer than until the entity becomes available."""
        back = asyncio.Event()

        @callback
        def changed(event: Event[EventStateChangedData]) -> None:
            old, new = event.data["old_state"], event.data["new_state"]
            gone = old is None or old.state in (STATE_UNAVAILABLE, STATE_UNKNOWN)
            if gone and new is not None and new.state != STATE_UNAVAILABLE:
                back.set()

        unsubscribe = async_track_state_change_event(self._hass, entity_id, changed)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await back.wait()
        finally:
            unsubscribe()

    async def _async_push_stills(self, settings: CameraSettings, entity_id: str) -> None:
        """Push stills until the camera gives none for too long; the worker is told with the first one."""
        config = settings.config(Source(kind=SourceKind.STILLS))
        interval = 1 / min(config.fps, MAXIMUM_STILLS_PER_SECOND)
        patience = 0.0
        while True:
            asked_at = time.monotonic()
            try:
                image = await async_get_image(self._hass, entity_id, timeout=STILL_TIMEOUT)
            except HomeAssistantError:
                _raise_if_cancelled()
                if asked_at >= patience or not self._is_available(entity_id):
                    raise
                await self._async_pause(entity_id, FIRST_PAUSE)
                continue
            _raise_if_cancelled()
            patience = time.monotonic() + STILLS_PATIENCE
            self._executor.set_camera(config)
            self._executor.push_still(settings.camera_id, time.time(), image.content)
            await asyncio.sleep(max(0.0, asked_at + interval - time.monotonic()))


def _raise_if_cancelled() -> None:
    """Cancel after all what Home Assistant 2026.10's async_get_image swallowed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
