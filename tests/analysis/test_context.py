"""Tests of what the house knows, over a real Home Assistant."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

from freezegun.api import FrozenDateTimeFactory
from homeassistant.components.calendar import CalendarEntity, CalendarEvent
from homeassistant.components.calendar.const import DATA_COMPONENT as CALENDAR_COMPONENT
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import (
    area_registry as ar,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
)
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.nemotron_security.analysis import Place, context, rules
from custom_components.nemotron_security.analysis.context import HouseWatch, area_of_entity, async_visits, place
from custom_components.nemotron_security.models import House, Opening

from .cases import case


def house(hass: HomeAssistant, alarm_panel: str | None = None) -> House:
    return HouseWatch(hass, lambda: {"alarm_panel": alarm_panel}).read()


def facts(hass: HomeAssistant, alarm_panel: str | None = None) -> dict[str, object]:
    known = house(hass, alarm_panel)
    return {name: getattr(known, name) for name in ("sun_up", "anyone_home", "people_home", "alarm", "doors_open")}


async def test_empty_house_knows_nothing(hass: HomeAssistant) -> None:
    assert facts(hass) == {"sun_up": None, "anyone_home": None, "people_home": (), "alarm": None, "doors_open": ()}


@pytest.mark.parametrize("expected_lingering_timers", [True])  # the sun's own
@pytest.mark.parametrize(("at", "up"), [("2026-06-01T20:00:00+00:00", True), ("2026-06-01T10:00:00+00:00", False)])
async def test_real_sun_and_local_time(hass: HomeAssistant, freezer: FrozenDateTimeFactory, at: str, up: bool) -> None:  # noqa: FBT001
    freezer.move_to(at)
    await hass.config.async_set_time_zone("America/Los_Angeles")
    assert await async_setup_component(hass, "sun", {})
    await hass.async_block_till_done()
    known = house(hass)
    assert known.sun_up is up
    assert known.at == datetime.fromisoformat(at)
    assert known.at.utcoffset() == timedelta(hours=-7)


@pytest.mark.parametrize(
    ("states", "anyone", "home"),
    [
        ({"ann": "home", "ben": "not_home"}, True, ("Ann",)),
        ({"ann": "home", "ben": "unknown"}, True, ("Ann",)),
        ({"ann": "not_home", "ben": "Work"}, False, ()),
        ({"ann": "not_home", "ben": "unknown"}, None, ()),
        ({"ann": "unavailable"}, None, ()),
        ({"ben": "home", "ann": "home"}, True, ("Ann", "Ben")),
    ],
)
async def test_people(hass: HomeAssistant, states: dict[str, str], anyone: bool | None, home: tuple[str, ...]) -> None:  # noqa: FBT001
    for name, state in states.items():
        hass.states.async_set(f"person.{name}", state, {"friendly_name": name.title()})
    known = house(hass)
    assert (known.anyone_home, known.people_home) == (anyone, home)


async def test_real_persons(hass: HomeAssistant) -> None:
    tracker = "device_tracker.phone"
    hass.states.async_set(tracker, "home")
    assert await async_setup_component(
        hass, "person", {"person": [{"id": "1", "name": "Ann", "device_trackers": [tracker]}]}
    )
    await hass.async_block_till_done()
    assert facts(hass)["people_home"] == ("Ann",)
    hass.states.async_set(tracker, "not_home")
    await hass.async_block_till_done()
    assert facts(hass)["anyone_home"] is False


@pytest.mark.parametrize(
    ("panels", "option", "alarm"),
    [
        ({"house": "armed_away"}, None, "armed_away"),
        ({"house": "unavailable"}, None, None),
        ({"house": "unknown"}, "alarm_control_panel.house", None),
        ({"house": "armed_away", "garage": "disarmed"}, None, None),
        ({"house": "armed_away", "garage": "disarmed"}, "alarm_control_panel.garage", "disarmed"),
        ({"house": "armed_away"}, "alarm_control_panel.gone", None),
    ],
)
async def test_alarm(hass: HomeAssistant, panels: dict[str, str], option: str | None, alarm: str | None) -> None:
    for name, state in panels.items():
        hass.states.async_set(f"alarm_control_panel.{name}", state)
    assert facts(hass, option)["alarm"] == alarm


async def test_what_is_open(hass: HomeAssistant) -> None:
    for entity_id, state, device_class in (
        ("binary_sensor.front_door", "on", "door"),
        ("binary_sensor.window", "on", "window"),
        ("binary_sensor.garage", "on", "garage_door"),
        ("binary_sensor.cellar", "on", "opening"),
        ("binary_sensor.closed", "off", "door"),
        ("binary_sensor.lost", "unavailable", "door"),
        ("binary_sensor.motion", "on", "motion"),
        ("binary_sensor.plain", "on", None),
        ("cover.drive", "opening", "gate"),
        ("cover.barn", "closed", "door"),
        ("cover.roof", "closing", "window"),
        ("cover.blind", "open", "blind"),
        ("cover.shutter", "open", "shutter"),
        ("cover.plain", "open", None),
        ("lock.back", "unlocked", None),
        ("lock.gate", "locked", None),
        ("lock.jammed", "jammed", None),
        ("lock.moves", "locking", None),
        ("lock.latch", "opening", None),
    ):
        hass.states.async_set(entity_id, state, {"device_class": device_class} if device_class else {})
    known = house(hass)
    assert known.doors_open == ("back", "cellar", "drive", "front door", "garage", "latch", "roof", "window")
    assert {opening.name: opening.open for opening in known.openings if not opening.open} == {
        "barn": False,
        "closed": False,
        "gate": False,
        "jammed": None,
    }


async def test_changes_are_news_for_some_minutes(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> None:
    door, panel = "binary_sensor.door", "alarm_control_panel.house"
    hass.states.async_set(door, "off", {"device_class": "door"})
    hass.states.async_set(panel, "disarmed")
    hass.states.async_set("person.ann", "not_home", {"friendly_name": "Ann"})
    watch = HouseWatch(hass, dict)
    stop = watch.async_start()
    assert (watch.read().alarm_changed_at, watch.read().openings[0].changed_at) == (None, None)
    hass.states.async_set(panel, "armed_away")
    freezer.tick(30)
    hass.states.async_set(door, "on", {"device_class": "door"})
    hass.states.async_set("person.ann", "home", {"friendly_name": "Ann"})
    await hass.async_block_till_done()
    known = watch.read()
    assert known.people_arrived == ("Ann",)
    assert known.alarm_changed_at == dt_util.utcnow() - timedelta(seconds=30)
    (opened,) = known.openings
    assert (opened.open, opened.changed_at) == (True, dt_util.utcnow())
    freezer.tick(600)
    known = watch.read()
    assert (known.people_arrived, known.alarm_changed_at, known.openings[0].changed_at) == ((), None, None)
    stop()
    hass.states.async_set(door, "off", {"device_class": "door"})
    await hass.async_block_till_done()
    assert watch.read().openings[0].changed_at is None


DOOR, PANEL = "binary_sensor.door", "alarm_control_panel.house"


def watch_of_closed_house(hass: HomeAssistant, *alarm: str) -> HouseWatch:
    """Begin to watch a house with a closed door, and let the alarm go through these states."""
    hass.states.async_set(DOOR, "off", {"device_class": "door"})
    hass.states.async_set(PANEL, alarm[0])
    watch = HouseWatch(hass, dict)
    watch.async_start()
    for state in alarm[1:]:
        hass.states.async_set(PANEL, state)
    return watch


@pytest.mark.parametrize(
    ("alarm", "forced"),
    [
        (("armed_away",), True),
        (("armed_vacation",), True),
        (("disarmed", "arming", "armed_night"), True),
        (("armed_away", "pending"), True),  # and no longer when who came home disarms it
        (("armed_away", "triggered"), True),
        (("armed_away", "unavailable", "armed_away"), True),
        (("armed_away", "disarmed", "triggered"), False),  # by a smoke detector
        (("armed_away", "disarmed", "arming"), False),
        (("disarmed", "pending"), False),
        (("armed_home",), False),
        (("triggered",), False),
        (("unavailable",), False),
    ],
)
async def test_what_a_forced_entry_is(hass: HomeAssistant, alarm: tuple[str, ...], *, forced: bool) -> None:
    watch = watch_of_closed_house(hass, *alarm)
    assert not watch.read().forced_entry
    hass.states.async_set(DOOR, "on", {"device_class": "door"})
    assert watch.read().forced_entry is forced


@pytest.mark.parametrize("kind", ["garage", "gate", "door", "window"])
@pytest.mark.parametrize("state", ["opening", "open"])
async def test_a_door_that_is_a_cover_can_be_forced(hass: HomeAssistant, kind: str, state: str) -> None:
    hass.states.async_set("cover.way_in", "closed", {"device_class": kind})
    watch = watch_of_closed_house(hass, "armed_away")
    hass.states.async_set("cover.way_in", state, {"device_class": kind})
    known = watch.read()
    assert known.forced_entry
    assert known.doors_open == ("way in",)
    assert known.openings[0].changed_at is not None


async def test_only_disarming_ends_a_forced_entry(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> None:
    watch = watch_of_closed_house(hass, "armed_away")
    hass.states.async_set(DOOR, "on", {"device_class": "door"})
    freezer.tick(660)
    assert watch.read().forced_entry
    hass.states.async_set(DOOR, "off", {"device_class": "door"})
    for state in ("pending", "triggered", "armed_away", "unavailable", "armed_away", "unavailable"):
        hass.states.async_set(PANEL, state)
        assert watch.read().forced_entry, state
    assert rules.assess(replace(case(), house=watch.read())).risk_score >= 85, "the hub was cut"
    hass.states.async_set(PANEL, "disarmed")
    assert not watch.read().forced_entry
    hass.states.async_set(PANEL, "armed_away")
    assert not watch.read().forced_entry


@pytest.mark.parametrize(
    ("entity_id", "states", "kind"),
    [
        ("binary_sensor.window", ("unavailable", "on"), "window"),
        ("binary_sensor.window", ("on", "off"), "window"),
        ("binary_sensor.hall", ("off", "on"), "motion"),
        ("lock.gate", ("locked", "unlocked"), None),
        ("cover.garage", ("unavailable", "open"), "garage"),
        ("cover.garage", ("opening", "open"), "garage"),  # it began before the alarm was armed
        ("cover.garage", ("open", "closing"), "garage"),
        ("cover.blind", ("closed", "open"), "blind"),
        ("cover.shutter", ("closed", "opening"), "shutter"),
    ],
)
async def test_no_forced_entry(hass: HomeAssistant, entity_id: str, states: tuple[str, str], kind: str | None) -> None:
    hass.states.async_set(entity_id, states[0], {"device_class": kind})
    watch = watch_of_closed_house(hass, "armed_away")
    hass.states.async_set(entity_id, states[1], {"device_class": kind})
    assert not watch.read().forced_entry


async def test_what_comes_back_has_not_changed(hass: HomeAssistant) -> None:
    """Else every restart, and every sensor that loses its radio, would be a burglary."""
    watch = HouseWatch(hass, dict)
    watch.async_start()
    for state in ("unavailable", "on", "unknown", "on"):
        hass.states.async_set("binary_sensor.door", state, {"device_class": "door"})
    hass.states.async_set("person.ann", "home")
    await hass.async_block_till_done()
    known = watch.read()
    assert known.openings == (Opening(name="door", open=True),)
    assert known.people_arrived == ()


async def test_places(hass: HomeAssistant) -> None:
    ground = fr.async_get(hass).async_create("Ground floor")
    hall = ar.async_get(hass).async_create("Hall", floor_id=ground.floor_id)
    entry = MockConfigEntry()
    entry.add_to_hass(hass)
    device = dr.async_get(hass).async_get_or_create(config_entry_id=entry.entry_id, identifiers={("test", "door")})
    dr.async_get(hass).async_update_device(device.id, area_id=hall.id)
    entities = er.async_get(hass)
    door = entities.async_get_or_create("binary_sensor", "test", "door", device_id=device.id, original_name="Door")
    hass.states.async_set(door.entity_id, "on", {"device_class": "door"})
    assert area_of_entity(hass, door.entity_id) == hall.id
    assert area_of_entity(hass, "binary_sensor.of_no_registry") is None
    assert house(hass).openings[0].area_id == hall.id
    assert place(hass, hall.id) == Place(area_id=hall.id, area="Hall", floor_id=ground.floor_id, floor="Ground floor")
    assert place(hass, "gone") == place(hass, None) == Place()


class Calendar(CalendarEntity):
    """A calendar with these events, which may fail or hang."""

    def __init__(self, name: str, *events: CalendarEvent) -> None:
        self.entity_id = f"calendar.{name}"
        self.events = list(events)
        self.failure: Exception | None = None
        self.hangs = False

    @property
    def event(self) -> CalendarEvent | None:
        return self.events[0] if self.events else None

    async def async_get_events(
        self, hass: HomeAssistant, start_date: datetime, end_date: datetime
    ) -> list[CalendarEvent]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure:
            raise self.failure
        return self.events


async def async_add_calendars(hass: HomeAssistant, *calendars: Calendar) -> None:
    assert await async_setup_component(hass, "calendar", {})
    await hass.data[CALENDAR_COMPONENT].async_add_entities(calendars)
    await hass.async_block_till_done()


def event(title: str, begin: float, end: float) -> CalendarEvent:
    """Return an event from and to so many hours from now."""
    now = dt_util.now()
    return CalendarEvent(now + timedelta(hours=begin), now + timedelta(hours=end), title)


@pytest.mark.parametrize("expected_lingering_timers", [True])  # the calendars' own
async def test_visits(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> None:
    freezer.move_to("2026-06-01T12:00:00+00:00")
    today = dt_util.now().date()
    visits = Calendar("visits", event("Cleaner", -1, 1), event("Parcel", 0.5, 3), event("Guests", 5, 8))
    days = Calendar("days", CalendarEvent(today, today, "Bin day"))
    await async_add_calendars(hass, visits, days)
    known = await async_visits(hass, ["calendar.visits", "calendar.days"], dt_util.now())
    assert [(visit.title, visit.all_day) for visit in known] == [
        ("Bin day", True),
        ("Cleaner", False),
        ("Parcel", False),
    ]
    assert (known[1].begin, known[1].end) == (visits.events[0].start, visits.events[0].end)
    # The states, which are there at once, tell of one event each.
    watch = HouseWatch(hass, lambda: {"calendars": ["calendar.visits", "calendar.days", "calendar.gone"]})
    assert [(visit.title, visit.all_day) for visit in watch.read().visits] == [("Bin day", True), ("Cleaner", False)]
    assert HouseWatch(hass, dict).read().visits == ()


@pytest.mark.parametrize("expected_lingering_timers", [True])
@pytest.mark.parametrize(
    "failure", [HomeAssistantError("no connection"), ConnectionError("https://u:p@host"), ValueError(), KeyError("x")]
)
async def test_calendar_that_fails_or_hangs(
    hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failure: Exception
) -> None:
    monkeypatch.setattr(context, "CALENDAR_TIME", 0.1)
    good = Calendar("good", event("Cleaner", -1, 1), event("Parcel", -0.5, 1))
    bad = Calendar("bad", event("Guests", -0.1, 1), event("Gardener", 0, 1))
    await async_add_calendars(hass, good, bad)

    async def titles() -> list[str]:
        known = await async_visits(hass, ["calendar.good", "calendar.bad", "calendar.gone"], dt_util.now())
        return [visit.title for visit in known]

    assert await titles() == ["Cleaner", "Parcel", "Guests", "Gardener"]
    bad.failure = failure
    assert await titles() == ["Cleaner", "Parcel", "Guests"]
    assert [record.levelname for record in caplog.records if "calendar.bad did not tell" in record.message] == ["DEBUG"]
    assert "u:p@host" not in caplog.text
    bad.failure, bad.hangs = None, True
    assert await titles() == ["Cleaner", "Parcel", "Guests"]


@pytest.mark.parametrize(
    "time",
    ["2026-02-30 10:00:00", "2026-02-30", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "soon", None],
)
async def test_a_time_that_is_none_is_no_visit(hass: HomeAssistant, time: str | None) -> None:
    hass.states.async_set("calendar.odd", "on", {"message": "Guests", "start_time": time, "end_time": time})
    assert HouseWatch(hass, lambda: {"calendars": ["calendar.odd"]}).read().visits == ()


async def test_a_title_is_bounded(hass: HomeAssistant) -> None:
    now = dt_util.now().isoformat()
    hass.states.async_set("calendar.odd", "on", {"message": "x" * 300_000, "start_time": now, "end_time": now})
    (visit,) = HouseWatch(hass, lambda: {"calendars": ["calendar.odd"]}).read().visits
    assert visit.title == "x" * 500
