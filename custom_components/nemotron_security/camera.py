"""The live picture of each camera, with what is tracked drawn into it."""

import asyncio
from typing import TYPE_CHECKING, override

from aiohttp import web
from homeassistant.components.camera import Camera, async_get_still_stream
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .const import DOMAIN
from .entity import CameraBoundEntity, async_add_to_each_camera
from .outside import Outside
from .store import StoreError

if TYPE_CHECKING:
    from .coordinator import CameraCoordinator
    from .runtime import NemotronSecurityConfigEntry

PARALLEL_UPDATES = 0
# The worker answers as soon as it has a newer frame; this only keeps a broken worker from being asked in a loop.
MINIMUM_INTERVAL = 0.05
MJPEG_PATIENCE = 20.0
"""Seconds without a frame after which a viewer's stream ends."""
MJPEG_PAUSE = 0.5


async def async_setup_entry(
    hass: HomeAssistant,
    entry: NemotronSecurityConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the live picture of every camera, also of those added later."""
    async_add_to_each_camera(entry, async_add_entities, lambda camera: [LiveCamera(camera)])


class LiveCamera(CameraBoundEntity, Camera):
    """The newest frame of a camera, as the detector saw it."""

    _attr_name = None

    def __init__(self, coordinator: CameraCoordinator) -> None:
        """Initialise both bases: their signatures differ."""
        CameraBoundEntity.__init__(self, coordinator, "live")
        Camera.__init__(self)

    @override
    async def async_camera_image(self, width: int | None = None, height: int | None = None) -> bytes | None:
        """Return the newest frame as JPEG."""
        return (await self._async_snapshot(width=width))[1]

    @override
    async def handle_async_mjpeg_stream(self, request: web.Request) -> web.StreamResponse | None:
        """Send each frame once, as soon as the worker has it; a worker that is started anew is waited for."""
        newest = 0

        async def next_frame() -> bytes | None:
            nonlocal newest
            patience = asyncio.get_running_loop().time() + MJPEG_PATIENCE
            while self.coordinator.config_entry.state is ConfigEntryState.LOADED:
                newest, jpeg = await self._async_snapshot(after=newest)
                if jpeg is not None or asyncio.get_running_loop().time() > patience:
                    return jpeg
                await asyncio.sleep(MJPEG_PAUSE)
            return None

        return await async_get_still_stream(request, next_frame, self.content_type, MINIMUM_INTERVAL)

    async def async_start_looking(self, seconds: float) -> None:
        """Let the detector look for a while, also where nothing moves."""
        if not self._outside.async_look(self.coordinator.camera_id, seconds):
            raise self._detection_is_off()

    async def async_open_incident(self, trigger: str) -> None:
        """Open an incident though the camera saw nothing yet."""
        if not self._outside.async_open(self.coordinator.camera_id, trigger):
            raise self._detection_is_off()

    async def async_forget_harmless_places(self) -> None:
        """Let what stands where something was called harmless count again."""
        runtime = self.coordinator.config_entry.runtime_data
        try:
            await runtime.store.async_forget_harmless_places(self.coordinator.camera_id)
        except StoreError as err:
            raise HomeAssistantError(
                translation_domain=DOMAIN,
                translation_key="places_not_forgotten",
                translation_placeholders={"detail": err.detail},
            ) from err
        runtime.incidents.reload_harmless_places()

    @property
    def _outside(self) -> Outside:
        return self.coordinator.config_entry.runtime_data.outside

    def _detection_is_off(self) -> ServiceValidationError:
        return ServiceValidationError(
            translation_domain=DOMAIN,
            translation_key="detection_is_off",
            translation_placeholders={
                "camera": self.coordinator.config_entry.subentries[self.coordinator.camera_id].title
            },
        )

    async def _async_snapshot(self, *, after: int = 0, width: int | None = None) -> tuple[int, bytes | None]:
        executor = self.coordinator.config_entry.runtime_data.executor
        snapshot = await executor.async_snapshot(self.coordinator.camera_id, after=after, max_width=width or 0)
        if snapshot is None:
            return 0, None
        return snapshot.frame_id, snapshot.data or None
