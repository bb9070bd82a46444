"""What the house knows at this moment, read from Home Assistant's states. Cheap, and on the event loop."""

from collections.abc import Iterable
from typing import Final

from homeassistant.components.alarm_control_panel import DOMAIN as ALARM_DOMAIN
from homeassistant.components.binary_sensor import DOMAIN as BINARY_SENSOR_DOMAIN, BinarySensorDeviceClass
from homeassistant.components.lock import DOMAIN as LOCK_DOMAIN, LockState
from homeassistant.components.person import DOMAIN as PERSON_DOMAIN
from homeassistant.components.sun.const import STATE_ABOVE_HORIZON, STATE_BELOW_HORIZON
from homeassistant.const import (
    ATTR_DEVICE_CLASS,
    STATE_HOME,
    STATE_ON,
    STATE_UNAVAILABLE,
    STATE_UNKNOWN,
)
from homeassistant.core import HomeAssistant, State, callback
from homeassistant.util import dt as dt_util

from ..models import House

SUN: Final = "sun.sun"
_SUN_UP: Final = {STATE_ABOVE_HORIZON: True, STATE_BELOW_HORIZON: False}
_NOT_KNOWN: Final = frozenset({STATE_UNKNOWN, STATE_UNAVAILABLE})
_OPENINGS: Final = frozenset(
    {
        BinarySensorDeviceClass.DOOR,
        BinarySensorDeviceClass.GARAGE_DOOR,
        BinarySensorDeviceClass.OPENING,
        BinarySensorDeviceClass.WINDOW,
    }
)
_NOT_LOCKED: Final = frozenset({LockState.UNLOCKED, LockState.OPEN, LockState.OPENING, LockState.UNLOCKING})


@callback
def house(hass: HomeAssistant, *, alarm_panel: str | None) -> House:
    """Return what the house knows now. What is unknown, unavailable or not there is null, never a guess.

    Args:
        hass: Home Assistant.
        alarm_panel: entity id of the alarm panel that counts; without one, the only panel there is.
    """
    people = hass.states.async_all(PERSON_DOMAIN)
    return House(
        at=dt_util.now(),
        sun_up=_sun_up(hass.states.get(SUN)),
        anyone_home=_anyone_home(people),
        people_home=_names(person for person in people if person.state == STATE_HOME),
        alarm=_alarm(hass, alarm_panel),
        doors_open=_names(state for state in _openings(hass) if _is_open(state)),
    )


def _sun_up(sun: State | None) -> bool | None:
    return _SUN_UP.get(sun.state) if sun else None


def _anyone_home(people: list[State]) -> bool | None:
    """Return whether somebody is at home: one who is decides it; that nobody is takes knowing it of all."""
    if any(person.state == STATE_HOME for person in people):
        return True
    if not people or any(person.state in _NOT_KNOWN for person in people):
        return None
    return False


def _alarm(hass: HomeAssistant, alarm_panel: str | None) -> str | None:
    if alarm_panel:
        panel = hass.states.get(alarm_panel)
    else:
        panels = hass.states.async_all(ALARM_DOMAIN)
        # Of several, none can be taken for the one that guards the house.
        panel = panels[0] if len(panels) == 1 else None
    return panel.state if panel and panel.state not in _NOT_KNOWN else None


def _openings(hass: HomeAssistant) -> list[State]:
    return hass.states.async_all((BINARY_SENSOR_DOMAIN, LOCK_DOMAIN))


def _is_open(state: State) -> bool:
    if state.domain == LOCK_DOMAIN:
        return state.state in _NOT_LOCKED
    return state.state == STATE_ON and state.attributes.get(ATTR_DEVICE_CLASS) in _OPENINGS


def _names(states: Iterable[State]) -> tuple[str, ...]:
    return tuple(sorted(state.name for state in states))
