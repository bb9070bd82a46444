"""Tests of what outlasts a restart besides the database: a forced entry, and the calls of the last hour."""

from collections.abc import AsyncIterator
from datetime import timedelta
import time
from typing import Any

from aiohttp import web
from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.lasting import SOON

from .analysis.faulty_server import FaultyServer, running
from .analysis.test_schema import TEXT
from .house import ABSENT_FILE, async_report, async_set_up, async_until, frame, make_entry, online, person
from .test_ai_task_entity import generate, settings

DOOR, PANEL = "binary_sensor.door", "alarm_control_panel.house"


def key_of(entry: MockConfigEntry) -> str:
    return f"{DOMAIN}.{entry.entry_id}"


async def force_entry(hass: HomeAssistant) -> None:
    hass.states.async_set(DOOR, "off", {"device_class": "door"})
    hass.states.async_set(PANEL, "armed_away")
    await hass.async_block_till_done()
    hass.states.async_set(DOOR, "on", {"device_class": "door"})
    await hass.async_block_till_done()


def forced(entry: MockConfigEntry) -> bool:
    known: bool = entry.runtime_data.house.read().forced_entry
    return known


@pytest.mark.usefixtures("silent_worker")
async def test_forced_entry_outlasts_a_restart_until_the_alarm_is_disarmed(hass: HomeAssistant) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    await force_entry(hass)
    assert forced(entry)
    hass.states.async_set(DOOR, "off", {"device_class": "door"})
    assert await hass.config_entries.async_reload(entry.entry_id)
    assert forced(entry)
    # Not what was closed since, nor the panel that comes back late: only disarming ends it.
    hass.states.async_set(PANEL, "unavailable")
    assert await hass.config_entries.async_reload(entry.entry_id)
    assert forced(entry)
    hass.states.async_set(PANEL, "triggered")
    await hass.async_block_till_done()
    assert forced(entry)
    hass.states.async_set(PANEL, "disarmed")
    await hass.async_block_till_done()
    assert not forced(entry)
    assert await hass.config_entries.async_reload(entry.entry_id)
    hass.states.async_set(PANEL, "armed_away")
    await hass.async_block_till_done()
    assert not forced(entry)


@pytest.mark.usefixtures("silent_worker")
async def test_forced_entry_is_written_at_once_and_only_when_it_changes(
    hass: HomeAssistant, hass_storage: dict[str, Any]
) -> None:
    """A crash right after it must not undo it."""
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    assert key_of(entry) not in hass_storage
    await force_entry(hass)
    async_fire_time_changed(hass, dt_util.utcnow())
    await hass.async_block_till_done()
    assert hass_storage[key_of(entry)]["data"]["house"] == {"guarded": True, "forced_entry": True}
    del hass_storage[key_of(entry)]
    for state in ("off", "on"):
        hass.states.async_set(DOOR, state, {"device_class": "door"})
    hass.states.async_set(PANEL, "pending")
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(minutes=5))
    await hass.async_block_till_done()
    assert key_of(entry) not in hass_storage


@pytest.mark.usefixtures("silent_worker")
@pytest.mark.parametrize(
    ("panel", "expected"), [("armed_away", True), ("triggered", True), (None, True), ("disarmed", False)]
)
async def test_forced_entry_is_read_from_home_assistants_storage(
    hass: HomeAssistant, hass_storage: dict[str, Any], panel: str | None, *, expected: bool
) -> None:
    """As after a crash: nothing was unloaded."""
    entry = make_entry(ABSENT_FILE)
    hass_storage[key_of(entry)] = {
        "version": 1,
        "minor_version": 1,
        "key": key_of(entry),
        "data": {"house": {"guarded": True, "forced_entry": True}, "calls": "nonsense"},
    }
    if panel:
        hass.states.async_set(PANEL, panel)
    await async_set_up(hass, entry)
    assert forced(entry) is expected


@pytest.mark.usefixtures("silent_worker")
async def test_a_door_that_opens_after_the_restart_while_the_siren_wails_is_forced(hass: HomeAssistant) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    hass.states.async_set(PANEL, "armed_away")
    hass.states.async_set(DOOR, "off", {"device_class": "door"})
    await hass.async_block_till_done()
    hass.states.async_set(PANEL, "triggered")
    await hass.async_block_till_done()
    assert await hass.config_entries.async_reload(entry.entry_id)
    assert not forced(entry)
    hass.states.async_set(DOOR, "on", {"device_class": "door"})
    await hass.async_block_till_done()
    assert forced(entry)


@pytest.mark.usefixtures("silent_worker")
async def test_what_was_kept_goes_with_the_entry(hass: HomeAssistant, hass_storage: dict[str, Any]) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    await force_entry(hass)
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert key_of(entry) in hass_storage
    await hass.config_entries.async_remove(entry.entry_id)
    assert key_of(entry) not in hass_storage


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def server(socket_enabled: None) -> AsyncIterator[FaultyServer]:
    async with running(FaultyServer()) as server:
        server.serve(schema=True, images=True)
        yield server


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None, server: FaultyServer) -> MockConfigEntry:
    assert await async_setup_component(hass, "homeassistant", {})
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, data=settings(server.url)))
    await async_until(lambda: entry.runtime_data.model_watch.model.capabilities.context_length)
    return entry


async def test_every_question_to_the_server_counts(
    hass: HomeAssistant, server: FaultyServer, entry: MockConfigEntry
) -> None:
    runtime = entry.runtime_data
    tried = len(server.requests)
    assert tried >= 2
    assert runtime.budget.spent() == tried
    # The user's own, also such that fail.
    await generate(hass)
    server.respond = lambda: web.Response(status=500)
    with pytest.raises(Exception, match="server"):
        await generate(hass)
    assert runtime.budget.spent() == len(server.requests) == tried + 2

    # Refused as too long, then as a whole: an incident's questions, of which the last is answered.
    def respond() -> web.Response:
        asked = len(server.requests) - tried - 2
        if asked == 1:
            return web.json_response({"error": {"code": "context_length_exceeded"}}, status=400)
        return server.answer(TEXT)

    server.respond = respond
    hass.config_entries.async_update_entry(entry, options={"opening_delay": 0, "topics": ["history"]})
    await hass.async_block_till_done()
    now = time.time()
    others = [person(number, at=now) for number in range(2, 12)]
    await async_report(hass, entry, online(), frame(person(at=now), *others, at=now))
    await async_until(lambda: len(server.requests) == tried + 4)
    assert runtime.budget.spent() == tried + 4


async def test_calls_outlast_a_restart(hass: HomeAssistant, server: FaultyServer, entry: MockConfigEntry) -> None:
    for _ in range(3):
        await generate(hass)
    before = entry.runtime_data.budget.spent()
    assert before == len(server.requests)
    asked = before
    assert await hass.config_entries.async_reload(entry.entry_id)
    await async_until(lambda: len(server.requests) >= 2 * asked - 3)  # it is tried again
    await async_until(lambda: entry.runtime_data.model_watch.model.capabilities.context_length)
    assert entry.runtime_data.budget.spent() == len(server.requests)


async def test_calls_are_written_once_a_minute_at_most(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    monkeypatch.setattr(Store, "async_delay_save", lambda _store, _data, delay=0: written.append(delay))
    lasting = entry.runtime_data._lasting
    lasting._data()  # what the trial left to write is written
    for _ in range(50):
        entry.runtime_data.budget.note()
    assert written == [SOON]
    lasting._data()
    entry.runtime_data.budget.note()
    assert written == [SOON, SOON]
