"""Tests of what the house knows, over a real Home Assistant."""

from datetime import datetime, timedelta

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
import pytest

from custom_components.nemotron_security.analysis.context import house


def facts(hass: HomeAssistant, alarm_panel: str | None = None) -> dict[str, object]:
    known = house(hass, alarm_panel=alarm_panel)
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
    known = house(hass, alarm_panel=None)
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
    known = house(hass, alarm_panel=None)
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
        ("lock.back", "unlocked", None),
        ("lock.gate", "locked", None),
        ("lock.jammed", "jammed", None),
    ):
        hass.states.async_set(entity_id, state, {"device_class": device_class} if device_class else {})
    assert facts(hass)["doors_open"] == ("back", "cellar", "front door", "garage", "window")
