"""What the house says from outside a camera: a doorbell, a camera's own person detection, a motion detector.

Some entities let the detector look for a while, also where our own motion detection sees nothing; others open an
incident. What is no such entity does the same by the actions `start_looking` and `open_incident` of an automation.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import STATE_OFF, STATE_ON, STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import CALLBACK_TYPE, Event, EventStateChangedData, HomeAssistant, State, callback
from homeassistant.helpers.event import async_track_state_change_event

from .analysis.keyframes import LARGEST_SIDE, scaled
from .const import CONF_LOOK_ENTITIES, CONF_OPEN_ENTITIES
from .incidents import Incidents
from .models import WHOLE_SCENE, Box
from .vision.messages import TrackPicture
from .vision.pool import WorkerPool

LOOK_TIME: Final = 30.0
"""Seconds that the detector looks after something happened."""
COMING_BACK: Final = timedelta(seconds=10)
"""After an entity is there again and unknown, what it says within that time may have been long ago."""
LONGEST_TRIGGER: Final = 200
"""Characters."""
MOMENTARY: Final = ("event", "button", "input_button")
"""Domains whose state is the time when something happened last."""
SWITCHING: Final = ("binary_sensor", "input_boolean", "switch")
"""Domains of which something happens when they go on."""
TRIGGER_DOMAINS: Final = (*SWITCHING, *MOMENTARY)


class Outside:
    """Listens for each camera to the entities that its settings name, and does what they or an action ask for."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        executor: WorkerPool,
        incidents: Incidents,
        *,
        detects: Callable[[str], bool],
    ) -> None:
        """Listen to nothing yet.

        Args:
            hass: Home Assistant.
            entry: whose life what is begun here does not outlast.
            executor: looks.
            incidents: opens incidents.
            detects: says whether detection is on for a camera.
        """
        self._hass = hass
        self._entry = entry
        self._executor = executor
        self._incidents = incidents
        self._detects = detects
        self._unsubscribe: dict[str, CALLBACK_TYPE] = {}

    @callback
    def async_look(self, camera_id: str, seconds: float) -> bool:
        """Let the detector look at a camera for so many seconds; returns False if detection is off there."""
        if not self._detects(camera_id):
            return False
        self._executor.start_looking(camera_id, seconds)
        return True

    @callback
    def async_open(self, camera_id: str, trigger: str) -> bool:
        """Open an incident, and look; one that goes on is kept. Returns False if detection is off there.

        Args:
            camera_id: where it is.
            trigger: what happened, in people's words.
        """
        if not self.async_look(camera_id, LOOK_TIME):
            return False
        if self._incidents.open(camera_id, trigger[:LONGEST_TRIGGER]):
            self._entry.async_create_background_task(
                self._hass, self._async_add_scene(camera_id), "nemotron_security scene"
            )
        return True

    async def _async_add_scene(self, camera_id: str) -> None:
        """Give an incident that was opened from outside a picture of what the camera shows."""
        scene = await self._executor.async_snapshot(camera_id, boxes=False, max_width=LARGEST_SIDE)
        if scene is None or scene.captured_at is None:
            return
        view = await self._hass.async_add_executor_job(scaled, scene.data)
        self._incidents.handle_scene(
            TrackPicture(
                camera_id=camera_id,
                track_id=WHOLE_SCENE,
                captured_at=scene.captured_at,
                box=Box(0.0, 0.0, float(view.width), float(view.height)),
                score=0.0,
                width=view.width,
                height=view.height,
                data=view.jpeg,
            )
        )

    @callback
    def async_set(self, camera_id: str, settings: Mapping[str, Any]) -> None:
        """Listen to what these settings name, and to nothing else for this camera."""
        self.async_forget(camera_id)
        look, open_ = set(settings.get(CONF_LOOK_ENTITIES, ())), set(settings.get(CONF_OPEN_ENTITIES, ()))
        if not look and not open_:
            return

        @callback
        def happened(event: Event[EventStateChangedData]) -> None:
            new = event.data["new_state"]
            if new is None or not _is_news(event.data["old_state"], new):
                return
            if new.entity_id in open_:
                self.async_open(camera_id, new.name)
            else:
                self.async_look(camera_id, LOOK_TIME)

        self._unsubscribe[camera_id] = async_track_state_change_event(self._hass, look | open_, happened)

    @callback
    def async_forget(self, camera_id: str) -> None:
        """Listen to nothing for this camera."""
        if unsubscribe := self._unsubscribe.pop(camera_id, None):
            unsubscribe()

    @callback
    def async_stop(self) -> None:
        """Listen to nothing."""
        for camera_id in tuple(self._unsubscribe):
            self.async_forget(camera_id)


def _is_news(old: State | None, new: State) -> bool:
    """Return whether something happened just now: what an entity tells as it comes back may have been long ago."""
    if old is None or old.state == STATE_UNAVAILABLE or new.state in (STATE_UNAVAILABLE, STATE_UNKNOWN):
        return False
    if new.domain in MOMENTARY:
        return new.state != old.state
    if new.state != STATE_ON:
        return False
    # Some have never said anything when they come back, and say what they said last a moment later: a retained message.
    waited = new.last_changed - old.last_changed >= COMING_BACK
    return old.state == STATE_OFF or (old.state == STATE_UNKNOWN and waited)
