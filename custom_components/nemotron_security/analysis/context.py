"""What the house knows, read from Home Assistant: its states now, what of them changed lately, its calendars."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
import logging
from typing import Any, Final

from homeassistant.components.alarm_control_panel import DOMAIN as ALARM_DOMAIN, AlarmControlPanelState
from homeassistant.components.binary_sensor import DOMAIN as BINARY_SENSOR_DOMAIN, BinarySensorDeviceClass
from homeassistant.components.cover import DOMAIN as COVER_DOMAIN, CoverDeviceClass, CoverState
from homeassistant.components.lock import DOMAIN as LOCK_DOMAIN, LockState
from homeassistant.components.person import DOMAIN as PERSON_DOMAIN
from homeassistant.components.sun.const import STATE_ABOVE_HORIZON, STATE_BELOW_HORIZON
from homeassistant.const import (
    ATTR_DEVICE_CLASS,
    ATTR_ENTITY_ID,
    EVENT_STATE_CHANGED,
    STATE_HOME,
    STATE_ON,
    STATE_UNAVAILABLE,
    STATE_UNKNOWN,
)
from homeassistant.core import CALLBACK_TYPE, Event, EventStateChangedData, HomeAssistant, State, callback
from homeassistant.helpers import (
    area_registry as ar,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
)
from homeassistant.util import dt as dt_util

from ..const import CONF_ALARM_PANEL, CONF_CALENDARS
from ..models import House, Opening, Visit
from . import NOWHERE, Place
from .rules import GUARDED

_LOGGER = logging.getLogger(__name__)

CALENDAR_DOMAIN: Final = "calendar"
SUN: Final = "sun.sun"
LATELY: Final = timedelta(minutes=10)
"""For so long a change is news."""
VISITS_BEFORE: Final = timedelta(minutes=30)
VISITS_AHEAD: Final = timedelta(hours=2)
"""Visits that ended not longer ago, or begin not later, are told."""
CALENDAR_TIME: Final = 2.0
"""Seconds that a calendar may take to answer."""
MOST_CALENDARS: Final = 5
MOST_OPENINGS: Final = 50
MOST_VISITS: Final = 8
LONGEST_TITLE: Final = 500
"""Characters; whoever sends an invitation writes it."""

_SUN_UP: Final = {STATE_ABOVE_HORIZON: True, STATE_BELOW_HORIZON: False}
_NOT_KNOWN: Final = frozenset({STATE_UNKNOWN, STATE_UNAVAILABLE})
_OPENINGS: Final[Mapping[str, frozenset[str]]] = {
    BINARY_SENSOR_DOMAIN: frozenset(
        {
            BinarySensorDeviceClass.DOOR,
            BinarySensorDeviceClass.GARAGE_DOOR,
            BinarySensorDeviceClass.OPENING,
            BinarySensorDeviceClass.WINDOW,
        }
    ),
    COVER_DOMAIN: frozenset(
        {CoverDeviceClass.DOOR, CoverDeviceClass.GARAGE, CoverDeviceClass.GATE, CoverDeviceClass.WINDOW}
    ),
}
"""What lets somebody through; a blind or a shutter only covers it."""
_INTERRUPTIONS: Final = frozenset({"pending", "triggered"})
"""What an armed alarm goes through without being disarmed."""
_LOCKS: Final[Mapping[str, bool | None]] = {
    LockState.LOCKED: False,
    LockState.UNLOCKED: True,
    LockState.OPEN: True,
    LockState.OPENING: True,
    LockState.JAMMED: None,
}
"""Whether it is open; null where its bolt may be anywhere. One that moves is told of when it is done."""
_WATCHED: Final = tuple(f"{domain}." for domain in (ALARM_DOMAIN, *_OPENINGS, LOCK_DOMAIN, PERSON_DOMAIN))


class HouseWatch:
    """Reads the house, and remembers for some minutes what was seen to change. Cheap, and on the event loop.

    That a door opened while the alarm was armed is remembered until the alarm is disarmed: neither closing it behind
    oneself nor the siren's end undoes it.

    A state's own `last_changed` will not do: it is news after every restart, and when a sensor comes back.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        options: Callable[[], Mapping[str, Any]],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            hass: Home Assistant.
            options: gives the entry's options as they are now.
            on_change: is told when `as_data` changed, so that somebody keeps it.
        """
        self._hass = hass
        self._options = options
        self._on_change = on_change
        self._changed: dict[str, datetime] = {}
        self._guarded = False
        """Whether the alarm is armed as by people who left or sleep, also while its entry delay or siren runs."""
        self._forced_entry = False

    def as_data(self) -> dict[str, Any]:
        """Return what a restart must not undo, as JSON can keep it."""
        return {"guarded": self._guarded, "forced_entry": self._forced_entry}

    def restore(self, data: Mapping[str, Any]) -> None:
        """Take what `as_data` gave before a restart. Should the alarm be disarmed by now, that ends it all the same."""
        self._guarded, self._forced_entry = data.get("guarded") is True, data.get("forced_entry") is True

    @callback
    def async_start(self) -> CALLBACK_TYPE:
        """Begin to notice changes; returns what ends that."""
        self._follow_alarm()
        return self._hass.bus.async_listen(EVENT_STATE_CHANGED, self._handle_change, event_filter=_is_watched)

    @callback
    def _handle_change(self, event: Event[EventStateChangedData]) -> None:
        before, after = event.data["old_state"], event.data["new_state"]
        self._follow_alarm()
        if before is None or after is None or before.state == after.state:
            return
        if before.state in _NOT_KNOWN or after.state in _NOT_KNOWN:
            return
        if _is_opening(after):
            if _is_open(before) == _is_open(after):  # a door that has begun to open is open
                return
            if self._guarded and _is_open(after):
                self._take(guarded=True, forced_entry=True)
        if after.domain not in _OPENINGS or _is_opening(after):
            self._changed[after.entity_id] = after.last_changed

    def _follow_alarm(self) -> None:
        """Notice that the alarm was armed or disarmed; while its state is not known, nothing has changed."""
        if (panel := self._alarm()) is None:
            return
        self._take(
            guarded=self._guarded if panel.state in _INTERRUPTIONS else panel.state in GUARDED,
            forced_entry=self._forced_entry and panel.state != AlarmControlPanelState.DISARMED,
        )

    def _take(self, *, guarded: bool, forced_entry: bool) -> None:
        if (guarded, forced_entry) != (self._guarded, self._forced_entry):
            self._guarded, self._forced_entry = guarded, forced_entry
            self._on_change()

    @callback
    def read(self) -> House:
        """Return what the house knows now. What is unknown, unavailable or not there is null, never a guess."""
        now = dt_util.now()
        self._follow_alarm()
        self._changed = {name: at for name, at in self._changed.items() if now - at < LATELY}
        people = self._hass.states.async_all(PERSON_DOMAIN)
        panel = self._alarm()
        return House(
            at=now,
            sun_up=_sun_up(self._hass.states.get(SUN)),
            anyone_home=_anyone_home(people),
            people_home=_names(person for person in people if person.state == STATE_HOME),
            people_arrived=_names(
                person for person in people if person.state == STATE_HOME and person.entity_id in self._changed
            ),
            alarm=panel.state if panel else None,
            alarm_changed_at=self._changed.get(panel.entity_id) if panel else None,
            forced_entry=self._forced_entry,
            openings=self._openings(),
            visits=_visits_now(self._hass, self._options().get(CONF_CALENDARS, ())),
        )

    def _alarm(self) -> State | None:
        """Return the panel that counts, if its state is known: that of the options, else the only one there is."""
        if chosen := self._options().get(CONF_ALARM_PANEL):
            panel = self._hass.states.get(chosen)
        else:
            panels = self._hass.states.async_all(ALARM_DOMAIN)
            # Of several, none can be taken for the one that guards the house.
            panel = panels[0] if len(panels) == 1 else None
        return panel if panel and panel.state not in _NOT_KNOWN else None

    def _openings(self) -> tuple[Opening, ...]:
        """Return doors, windows and locks: what is open or changed lately first."""
        openings = [
            Opening(
                name=state.name,
                open=_is_open(state),
                lock=state.domain == LOCK_DOMAIN,
                area_id=area_of_entity(self._hass, state.entity_id),
                changed_at=self._changed.get(state.entity_id),
            )
            for state in self._hass.states.async_all((*_OPENINGS, LOCK_DOMAIN))
            if (state.domain == LOCK_DOMAIN and state.state in _LOCKS)
            or (_is_opening(state) and state.state not in _NOT_KNOWN)
        ]
        openings.sort(key=lambda opening: (opening.open is False, opening.changed_at is None, opening.name))
        return tuple(openings[:MOST_OPENINGS])


@callback
def _is_watched(data: EventStateChangedData) -> bool:
    return data["entity_id"].startswith(_WATCHED)


def _sun_up(sun: State | None) -> bool | None:
    return _SUN_UP.get(sun.state) if sun else None


def _anyone_home(people: list[State]) -> bool | None:
    """Return whether somebody is at home: one who is decides it; that nobody is takes knowing it of all."""
    if any(person.state == STATE_HOME for person in people):
        return True
    if not people or any(person.state in _NOT_KNOWN for person in people):
        return None
    return False


def _is_opening(state: State) -> bool:
    return state.attributes.get(ATTR_DEVICE_CLASS) in _OPENINGS.get(state.domain, ())


def _is_open(state: State) -> bool | None:
    if state.domain == LOCK_DOMAIN:
        return _LOCKS.get(state.state)
    return state.state != CoverState.CLOSED if state.domain == COVER_DOMAIN else state.state == STATE_ON


def _names(states: Iterable[State]) -> tuple[str, ...]:
    return tuple(sorted(state.name for state in states))


# --- places ---------------------------------------------------------------------------------------------------------


@callback
def area_of_entity(hass: HomeAssistant, entity_id: str) -> str | None:
    """Return the id of the area of an entity, which may be its device's."""
    entity = er.async_get(hass).async_get(entity_id)
    if entity is None or entity.area_id:
        return entity.area_id if entity else None
    device = dr.async_get(hass).async_get(entity.device_id) if entity.device_id else None
    return device.area_id if device else None


@callback
def place(hass: HomeAssistant, area_id: str | None) -> Place:
    """Return an area with its name and floor."""
    area = ar.async_get(hass).async_get_area(area_id) if area_id else None
    if area is None:
        return NOWHERE
    floor = fr.async_get(hass).async_get_floor(area.floor_id) if area.floor_id else None
    return Place(
        area_id=area.id,
        area=area.name,
        floor_id=floor.floor_id if floor else None,
        floor=floor.name if floor else "",
    )


# --- calendars ------------------------------------------------------------------------------------------------------


@callback
def _visits_now(hass: HomeAssistant, calendars: Sequence[str]) -> tuple[Visit, ...]:
    """Return what the calendars' states say, at once: the event that goes on, or the next, of each."""
    events = [event for calendar in calendars[:MOST_CALENDARS] for event in _event_of_state(hass, calendar)]
    return _near((visit for event in events for visit in _visit(event)), dt_util.now())


def _event_of_state(hass: HomeAssistant, calendar: str) -> list[dict[str, Any]]:
    if (state := hass.states.get(calendar)) is None:
        return []
    names = {"summary": "message", "start": "start_time", "end": "end_time", "all_day": "all_day"}
    return [{name: state.attributes.get(attribute) for name, attribute in names.items()}]


async def async_visits(hass: HomeAssistant, calendars: Sequence[str], at: datetime) -> tuple[Visit, ...]:
    """Ask the calendars for all visits around a time; of one that does not answer in time, its state must do."""
    answers = await asyncio.gather(*(_async_events(hass, calendar, at) for calendar in calendars[:MOST_CALENDARS]))
    return _near((visit for events in answers for event in events for visit in _visit(event)), at)


async def _async_events(hass: HomeAssistant, calendar: str, at: datetime) -> list[dict[str, Any]]:
    if hass.states.get(calendar) is None:
        return []
    span = {
        "start_date_time": (at - VISITS_BEFORE).isoformat(),
        "end_date_time": (at + VISITS_AHEAD).isoformat(),
    }
    target = {ATTR_ENTITY_ID: calendar}
    try:
        async with asyncio.timeout(CALENDAR_TIME):
            answer = await hass.services.async_call(
                CALENDAR_DOMAIN, "get_events", span, target=target, blocking=True, return_response=True
            )
    except Exception as err:  # noqa: BLE001  another integration's, which raises whatever its library does
        _LOGGER.debug("%s did not tell its events: %s", calendar, type(err).__name__)
        return _event_of_state(hass, calendar)
    events: Any = (answer or {}).get(calendar)
    return list(events["events"]) if events else []


def _visit(event: Mapping[str, Any]) -> Iterator[Visit]:
    """Read an event; one whose times are not understood is passed over."""
    begin, end = _moment(event.get("start")), _moment(event.get("end"))
    if begin and end:
        all_day = event.get("all_day") or len(str(event["start"])) == len("2026-01-01")
        yield Visit(title=str(event.get("summary") or "")[:LONGEST_TITLE], begin=begin, end=end, all_day=bool(all_day))


def _moment(value: object) -> datetime | None:
    """Read a time, or a date as its local midnight."""
    text = str(value)
    try:
        if (moment := dt_util.parse_datetime(text)) is not None:
            return dt_util.as_local(moment)
        day = dt_util.parse_date(text)
        return dt_util.start_of_local_day(day) if day else None
    except ValueError, OverflowError:  # the 30th of February, or before all time
        return None


def _near(visits: Iterable[Visit], at: datetime) -> tuple[Visit, ...]:
    near = {visit for visit in visits if visit.end >= at - VISITS_BEFORE and visit.begin <= at + VISITS_AHEAD}
    return tuple(sorted(near, key=lambda visit: (visit.begin, visit.title))[:MOST_VISITS])
