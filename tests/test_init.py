"""Setting up, unloading, changing cameras live, and what happens when the store cannot be opened."""

import asyncio
from collections import Counter
from pathlib import Path
import sqlite3
import threading
import time
from types import MappingProxyType

from homeassistant.config_entries import ConfigEntryState, ConfigSubentry
from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.test_util.aiohttp import AiohttpClientMocker

from custom_components.nemotron_security.broadcasters import async_channels
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.models import IncidentFilter
from custom_components.nemotron_security.store import StoreError
from custom_components.nemotron_security.vision.messages import SourceKind

from .house import (
    ABSENT_FILE,
    CAMERA,
    async_report,
    async_set_up,
    async_settle,
    async_until,
    frame,
    make_entry,
    online,
    person,
)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def state_of(hass: HomeAssistant, entity_id: str) -> str | None:
    """Return an entity's state."""
    state = hass.states.get(entity_id)
    return state.state if state else None


async def worker_pid(entry: object) -> int:
    async with asyncio.timeout(20):
        while (pid := entry.runtime_data.executor.pid) is None:  # type: ignore[attr-defined]
            await asyncio.sleep(0.05)
    return int(pid)


async def test_unload_leaves_nothing(hass: HomeAssistant) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    pid = await worker_pid(entry)
    assert alive(pid)
    runtime = entry.runtime_data
    assert await hass.config_entries.async_unload(entry.entry_id)
    await hass.async_block_till_done()
    assert not alive(pid)
    assert {state.state for state in hass.states.async_all()} <= {"unavailable"}
    now = time.time()
    runtime.executor._listener(frame(person(at=now), at=now))
    await hass.async_block_till_done()
    assert {state.state for state in hass.states.async_all()} <= {"unavailable"}


async def test_stop_of_home_assistant_stops_the_worker_and_ends_the_incident(hass: HomeAssistant) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    pid = await worker_pid(entry)
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await hass.async_block_till_done()
    assert not alive(pid)
    with sqlite3.connect(hass.config.path(DOMAIN, "events.db")) as connection:
        assert connection.execute("select count(*) from incidents where ended_at is not null").fetchone() == (1,)
    assert await hass.config_entries.async_unload(entry.entry_id)


async def test_cameras_come_change_and_go_without_a_reload(hass: HomeAssistant) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    runtime = entry.runtime_data
    pid = await worker_pid(entry)
    added = ConfigSubentry(
        data=MappingProxyType({**ABSENT_FILE, "file_path": "/absent/other.mp4"}),
        subentry_type="camera",
        title="Garden",
        unique_id="garden",
    )
    hass.config_entries.async_add_subentry(entry, added)
    await hass.async_block_till_done()
    assert hass.states.get("camera.garden")
    assert set(runtime.cameras) == {CAMERA, added.subentry_id}

    subentry = entry.subentries[CAMERA]
    hass.config_entries.async_update_subentry(
        entry, subentry, data={"source": "stream", "stream_url": "rtsp://127.0.0.1:1/x"}, title="Porch"
    )
    await hass.async_block_till_done()
    config = runtime.executor._cameras[CAMERA]
    assert config.source.kind is SourceKind.STREAM
    device = dr.async_get(hass).async_get_device_by_identifier((DOMAIN, CAMERA), entry.entry_id)
    assert device is not None
    assert device.name == "Porch"

    now = time.time()
    garden = added.subentry_id
    await async_report(hass, entry, online(garden), frame(person(at=now), at=now, camera_id=garden))
    hass.config_entries.async_remove_subentry(entry, garden)
    await hass.async_block_till_done()
    await async_settle(hass, entry)
    (incident,) = await runtime.store.async_incidents(IncidentFilter(camera_ids=frozenset([garden])))
    assert incident.title == "Person at Garden"  # its last word, after the camera was removed
    assert incident.ended_at is not None
    assert hass.states.get("camera.garden") is None
    assert set(runtime.cameras) == set(runtime.executor._cameras) == {CAMERA}
    assert entry.runtime_data is runtime
    assert await worker_pid(entry) == pid


async def test_detection_switch_is_kept_by_the_subentry(hass: HomeAssistant) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    assert state_of(hass, "binary_sensor.front_door_person") == "on"
    await hass.services.async_call("switch", "turn_off", {"entity_id": "switch.front_door_detection"}, blocking=True)
    await hass.async_block_till_done()
    assert state_of(hass, "switch.front_door_detection") == "off"
    assert entry.subentries[CAMERA].data["detect"] is False
    assert entry.runtime_data.executor._cameras[CAMERA].detect is False
    # What was on is not known any more, and a report that was under way does not bring it back.
    await async_report(hass, entry, frame(person(at=now + 1), at=now + 1))
    assert state_of(hass, "binary_sensor.front_door_person") == "unknown"
    await hass.services.async_call("switch", "turn_on", {"entity_id": "switch.front_door_detection"}, blocking=True)
    await hass.async_block_till_done()
    assert entry.runtime_data.executor._cameras[CAMERA].detect is True


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"this is no database, but it is long enough to be taken for one " * 20, "database_corrupt")],
)
async def test_store_that_cannot_be_opened_is_retried(hass: HomeAssistant, content: bytes, words: str) -> None:
    path = Path(hass.config.path(DOMAIN, "events.db"))
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    entry = make_entry(ABSENT_FILE)
    entry.add_to_hass(hass)
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state == ConfigEntryState.SETUP_RETRY
    assert entry.error_reason_translation_key == words
    path.unlink()
    assert await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert entry.state == ConfigEntryState.LOADED


async def test_key_that_is_refused_is_asked_for_anew(
    hass: HomeAssistant, silent_worker: None, aioclient_mock: AiohttpClientMocker
) -> None:
    aioclient_mock.get("http://127.0.0.1:1/v1/models", json={"data": [{"id": "nano"}]})
    aioclient_mock.post("http://127.0.0.1:1/v1/chat/completions", status=401)
    server = {"analyzer": "nemotron", "url": "http://127.0.0.1:1", "api_key": "expired", "model": "nano"}
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, data=server))
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    await async_until(hass.config_entries.flow.async_progress)
    (flow,) = hass.config_entries.flow.async_progress()
    assert (flow["context"]["source"], flow["step_id"]) == ("reauth", "reauth_confirm")
    await async_until(lambda: entry.runtime_data.announcer.pipeline.analyzer == "failed")
    # The incident keeps the rules' score meanwhile.
    risk_level = hass.states.get("sensor.front_door_last_risk_level")
    assert risk_level is not None
    assert risk_level.state == "medium"


async def test_few_entities_by_default(hass: HomeAssistant, entity_registry: er.EntityRegistry) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    entities = er.async_entries_for_config_entry(entity_registry, entry.entry_id)
    enabled = Counter(entity.config_subentry_id for entity in entities if entity.disabled_by is None)
    assert set(enabled) == {None, CAMERA}
    assert enabled[CAMERA] <= 13
    assert enabled[None] <= 5, "of the whole"
    assert all(entity.translation_key for entity in entities)


@pytest.mark.usefixtures("silent_worker")
async def test_a_slow_stop_does_not_reach_into_the_next_start(hass: HomeAssistant) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    runtime, store, gate = entry.runtime_data, entry.runtime_data.store, threading.Event()
    held = hass.async_create_background_task(store._async_run(store._reader, gate.wait), "a long read")
    queued = hass.async_create_background_task(store.async_incidents(), "one that waits for it")
    reload = hass.async_create_background_task(hass.config_entries.async_reload(entry.entry_id), "reload")
    await async_until(lambda: store._closing)
    await asyncio.sleep(0.1)
    assert not reload.done()
    assert entry.runtime_data is runtime, "nothing begins anew before all is still"
    gate.set()
    assert await reload
    assert await held
    with pytest.raises(StoreError, match="closed"):
        await queued
    assert entry.runtime_data is not runtime
    present = async_channels(hass).system.present()
    assert {message.type for message in present} >= {"camera_status", "pipeline_status"}
