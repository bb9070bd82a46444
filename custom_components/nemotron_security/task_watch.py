"""Says by a repair issue when the AI Task entity that judges no longer takes pictures."""

from homeassistant.config_entries import ConfigEntry
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import CALLBACK_TYPE, Event, EventStateChangedData, HomeAssistant, State, callback
from homeassistant.helpers.event import async_track_state_change_event

from .analysis import Capabilities
from .analysis.ai_task import capabilities_of
from .analysis.probe import ModelProblem
from .const import CONF_AI_TASK_ENTITY, CONF_CAPABILITIES
from .issues import Issues
from .model_watch import ISSUE_IMAGES

SERVER = "Home Assistant"
"""Where the entity is, as an issue says it."""


class TaskWatch:
    """Compares what the entity says of itself with what it said when it was set up."""

    def __init__(self, hass: HomeAssistant, entry: ConfigEntry, issues: Issues) -> None:
        """Prepare."""
        self._hass = hass
        self._entity_id: str = entry.data[CONF_AI_TASK_ENTITY]
        self._remembered = Capabilities.from_data(entry.data.get(CONF_CAPABILITIES))
        self._issues = issues

    @callback
    def async_start(self) -> CALLBACK_TYPE:
        """Look at the entity, now and whenever it changes; returns what ends that."""

        @callback
        def changed(event: Event[EventStateChangedData]) -> None:
            self._look(event.data["new_state"])

        self._look(self._hass.states.get(self._entity_id))
        return async_track_state_change_event(self._hass, self._entity_id, changed)

    def _look(self, state: State | None) -> None:
        able = capabilities_of(state)
        if able is None or state is None or state.state == STATE_UNAVAILABLE:  # that is said when it is asked
            return
        lost = self._remembered.images and not able.images
        placeholders = {"model": self._entity_id, "server": SERVER}
        self._issues.async_set(ISSUE_IMAGES, ModelProblem.IMAGES_LOST if lost else None, placeholders)
