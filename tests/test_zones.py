"""Zones, entry lines and masks above the worker: settings, incidents, entities, database, channels, prompt."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
import time
from typing import Any

from homeassistant.const import STATE_OFF, STATE_ON, STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.nemotron_security.const import EVENT_DETECTION, EVENT_INCIDENT
from custom_components.nemotron_security.models import IncidentFilter
from custom_components.nemotron_security.vision.executor import Executor
from custom_components.nemotron_security.vision.messages import (
    Box,
    CameraConfig,
    CameraState,
    CameraStatus,
    Direction,
    EntryLine,
    Mask,
    Point,
    Problem,
    Zone,
)

from .house import ABSENT_FILE, CAMERA, GATE, PORCH, TREE, async_report, async_set_up, frame, make_entry, online, person

PORCH_SENSOR, GATE_SENSOR = "binary_sensor.front_door_porch", "binary_sensor.front_door_gate_crossed"
type Change = Callable[..., Awaitable[None]]


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None) -> MockConfigEntry:
    """A camera with a zone, an entry line and a mask; the test speaks for its worker."""
    return await async_set_up(hass, make_entry({**ABSENT_FILE, "zones": [PORCH], "lines": [GATE], "masks": [TREE]}))


@pytest.fixture
def change(hass: HomeAssistant, entry: MockConfigEntry) -> Change:
    """Return what changes the camera's settings."""

    async def change(**settings: Any) -> None:
        subentry = entry.subentries[CAMERA]
        hass.config_entries.async_update_subentry(entry, subentry, data={**subentry.data, **settings})
        await hass.async_block_till_done()

    return change


def wanted(entry: MockConfigEntry) -> CameraConfig:
    executor: Executor = entry.runtime_data.executor
    config: CameraConfig = executor._cameras[CAMERA]
    return config


def state(hass: HomeAssistant, entity_id: str) -> str | None:
    found = hass.states.get(entity_id)
    return found.state if found else None


# --- what the worker is told ------------------------------------------------------------------------------------------


async def test_the_worker_is_told(entry: MockConfigEntry) -> None:
    config = wanted(entry)
    assert config.zones == (
        Zone(
            name="Porch",
            points=(Point(0.1, 0.5), Point(0.6, 0.5), Point(0.6, 1.0), Point(0.1, 1.0)),
            labels=("person",),
            dwell=1.5,
            inertia=2,
        ),
    )
    gate = EntryLine(name="Gate", start=Point(0.2, 0.6), end=Point(0.45, 0.58), direction=Direction.TO_LEFT)
    assert config.lines == (gate,)
    triangle = (Point(0.7, 0.0), Point(1.0, 0.0), Point(1.0, 0.4))
    assert config.masks == (Mask(points=triangle, motion=True, objects=True, labels=("bird",)),)


async def test_the_worker_is_told_the_names_of_coco(entry: MockConfigEntry, change: Change) -> None:
    named = {"labels": ["Human", "vehicle", "Garden_gnome"]}
    await change(**named, zones=[PORCH | named], lines=[GATE | named], masks=[TREE | named])
    config = wanted(entry)
    (zone,), (line,), (mask,) = config.zones, config.lines, config.masks
    assert config.labels == zone.labels == line.labels == mask.labels == ("person", "car", "garden gnome")


async def test_the_worker_is_told_of_a_change_at_once(entry: MockConfigEntry, change: Change) -> None:
    await change(zones=[], masks=[{**TREE, "motion": False}])
    assert (wanted(entry).zones, wanted(entry).masks[0].motion) == ((), False)
    assert wanted(entry).lines


# --- entities ---------------------------------------------------------------------------------------------------------


async def test_entities_say_what_is_where(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert state(hass, PORCH_SENSOR) == state(hass, GATE_SENSOR) == STATE_UNAVAILABLE
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now, zones=("Porch",)), at=now))
    assert (state(hass, PORCH_SENSOR), state(hass, GATE_SENSOR)) == (STATE_ON, STATE_OFF)
    await async_report(hass, entry, frame(person(at=now + 1, zones=("Gate",), visited=("Porch", "Gate")), at=now + 1))
    assert (state(hass, PORCH_SENSOR), state(hass, GATE_SENSOR)) == (STATE_OFF, STATE_ON)
    lost = CameraState(
        camera_id=CAMERA, status=CameraStatus.OFFLINE, at=now + 2, problem=Problem.SOURCE_STALLED, detail=""
    )
    await async_report(hass, entry, lost)
    assert state(hass, PORCH_SENSOR) == STATE_UNAVAILABLE
    await async_report(hass, entry, online())
    assert state(hass, PORCH_SENSOR) == "unknown"


async def test_what_is_not_confirmed_occupies_nothing(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now, zones=("Porch",), confirmed=False), at=now))
    assert state(hass, PORCH_SENSOR) == STATE_OFF


async def test_entities_come_are_renamed_and_go_without_a_restart(
    hass: HomeAssistant, entry: MockConfigEntry, change: Change, entity_registry: er.EntityRegistry
) -> None:
    before = entity_registry.async_get(PORCH_SENSOR)
    assert before
    await change(zones=[{**PORCH, "name": "Veranda"}, {**PORCH, "id": "00000001", "name": "Lawn"}], lines=[])
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now, zones=("Veranda",)), at=now))
    # The id that automations use stays; the name follows.
    veranda = hass.states.get(PORCH_SENSOR)
    assert veranda
    assert (veranda.state, veranda.attributes["friendly_name"]) == (STATE_ON, "Front door Veranda")
    after = entity_registry.async_get(PORCH_SENSOR)
    assert after
    assert after.unique_id == before.unique_id
    assert state(hass, "binary_sensor.front_door_lawn") == STATE_OFF
    assert state(hass, GATE_SENSOR) is None
    assert entity_registry.async_get(GATE_SENSOR) is None


async def test_a_zone_deleted_while_nothing_ran_leaves_no_entity(
    hass: HomeAssistant, entry: MockConfigEntry, entity_registry: er.EntityRegistry
) -> None:
    assert await hass.config_entries.async_unload(entry.entry_id)
    subentry = entry.subentries[CAMERA]
    hass.config_entries.async_update_subentry(entry, subentry, data={**subentry.data, "zones": []})
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    assert entity_registry.async_get(PORCH_SENSOR) is None
    assert entity_registry.async_get(GATE_SENSOR)


# --- incidents --------------------------------------------------------------------------------------------------------


async def test_zones_are_stored_announced_and_found(
    hass: HomeAssistant, entry: MockConfigEntry, hass_ws_client: WebSocketGenerator
) -> None:
    told, seen = async_capture_events(hass, EVENT_INCIDENT), async_capture_events(hass, EVENT_DETECTION)
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": "nemotron_security/events/subscribe"})
    assert (await client.receive_json())["success"]
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    assert told[0].data["zones"] == []
    for step, visited in ((1.1, ("Porch",)), (2.2, ("Porch", "Gate"))):
        track = person(at=now + step, since=now, zones=visited[-1:], visited=visited)
        await async_report(hass, entry, frame(track, at=now + step))
    assert [event.data["zones"] for event in told] == [[], ["Porch"], ["Porch", "Gate"]]
    assert [event.data["zones"] for event in seen] == [[], ["Porch"], ["Gate"]]
    store = entry.runtime_data.store
    (incident,) = await store.async_incidents()
    assert incident.zones == ("Porch", "Gate")
    (track,) = await store.async_tracks(incident.id)
    assert track.zones == ("Porch", "Gate")
    assert [sight.zones for sight in await store.async_detections(incident.id)] == [(), ("Porch",), ("Gate",)]
    for zones, found in ((["Gate"], 1), (["gate"], 0), (["Lawn", "Porch"], 1)):
        assert len(await store.async_incidents(IncidentFilter(zones=frozenset(zones)))) == found
    received = [(await client.receive_json())["event"] for _ in range(6)]
    by_type = [event["data"]["zones"] for event in received if event["type"] != "detection"]
    assert by_type == [[], ["Porch"], ["Porch", "Gate"]]
    await client.send_json_auto_id({"type": "nemotron_security/incidents/list", "zones": ["Porch"]})
    answer = await client.receive_json()
    assert [found["zones"] for found in answer["result"]["incidents"]] == [["Porch", "Gate"]]
    await client.send_json_auto_id({"type": "nemotron_security/incidents/list", "text": "porch"})
    assert len((await client.receive_json())["result"]["incidents"]) == 1


async def test_only_the_chosen_zones_open_an_incident(
    hass: HomeAssistant, entry: MockConfigEntry, change: Change
) -> None:
    await change(opening_zones=[PORCH["id"]])
    told = async_capture_events(hass, EVENT_INCIDENT)
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now, zones=("Gate",), visited=("Gate",)), at=now))
    assert not told
    track = person(at=now + 1, since=now, zones=("Porch",), visited=("Gate", "Porch"))
    await async_report(hass, entry, frame(track, at=now + 1))
    assert [event.data["change"] for event in told] == ["started"]


async def test_the_choice_is_kept_when_nothing_was_seen_yet_and_can_be_taken_back(
    hass: HomeAssistant, entry: MockConfigEntry, change: Change
) -> None:
    await change(opening_zones=[PORCH["id"]])
    await change(opening_zones=[])
    told = async_capture_events(hass, EVENT_INCIDENT)
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    assert len(told) == 1


# --- what a model is told ---------------------------------------------------------------------------------------------


async def test_a_model_is_told_of_the_zones(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    now = time.time()
    await async_report(
        hass, entry, online(), frame(person(at=now, zones=("Porch",), visited=("Porch", "Gate")), at=now)
    )
    (incident,) = await entry.runtime_data.store.async_incidents()
    answer = await hass.services.async_call(
        "nemotron_security", "preview_prompt", {"incident_id": incident.id}, blocking=True, return_response=True
    )
    assert 'in its course in "Porch", "Gate"' in str(answer)


# --- places that were called harmless ---------------------------------------------------------------------------------


async def _mark(hass: HomeAssistant, incident_id: int, feedback: str | None) -> None:
    await hass.services.async_call(
        "nemotron_security", "review_incident", {"incident_id": incident_id, "feedback": feedback}, blocking=True
    )


async def _stand(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    now: float,
    track_id: int,
    box: Box,
    *,
    label: str = "person",
    seconds: int = 12,
) -> None:
    """Something stands at one place for a while, its box trembling, then it is gone."""
    for step in range(seconds + 1):
        trembling = box._replace(left=box.left - step % 4, top=box.top + step % 3)
        track = person(track_id, at=now + step, since=now, box=trembling, label=label)
        await async_report(hass, entry, frame(track, at=now + step))
    last = person(track_id, at=now + seconds, since=now, box=box, label=label)
    ended = replace(frame(at=now + seconds + 20), ended=(last,))
    await async_report(hass, entry, ended)


COAT = Box(500.0, 300.0, 600.0, 600.0)


async def test_what_was_called_harmless_is_no_news_at_its_place(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    now = time.time()
    await async_report(hass, entry, online())
    await _stand(hass, entry, now, 1, COAT)
    assert [event.data["change"] for event in told] == ["started", "ended"]
    await _mark(hass, told[0].data["id"], "false_alarm")
    await async_report(hass, entry)
    told.clear()
    await _stand(hass, entry, now + 100, 2, COAT)
    assert not told, "the same thing at the same place"
    await _stand(hass, entry, now + 200, 3, COAT, label="dog")
    assert told, "something else there"
    told.clear()
    await _stand(hass, entry, now + 300, 4, Box(700.0, 300.0, 800.0, 600.0))
    assert told, "elsewhere"
    told.clear()
    walk = [COAT, COAT._replace(left=520.0, right=620.0), COAT._replace(left=700.0, right=800.0)]
    for step, box in enumerate(walk):
        track = person(5, at=now + 400 + step, since=now + 400, box=box)
        await async_report(hass, entry, frame(track, at=now + 400 + step))
        assert bool(told) is (step == 2), "it leaves the place"


async def test_a_harmless_place_outlives_a_restart_and_can_be_taken_back(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    now = time.time()
    await async_report(hass, entry, online())
    await _stand(hass, entry, now, 1, COAT)
    incident_id = told[0].data["id"]
    await _mark(hass, incident_id, "false_alarm")
    assert await hass.config_entries.async_reload(entry.entry_id)
    await async_report(hass, entry, online())
    told.clear()
    await _stand(hass, entry, now + 100, 2, COAT)
    assert not told
    await _mark(hass, incident_id, None)
    await async_report(hass, entry)
    told.clear()
    await _stand(hass, entry, now + 200, 3, COAT)
    assert [event.data["change"] for event in told] == ["started", "ended"]


async def test_who_walked_made_no_place_harmless(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    now = time.time()
    await async_report(hass, entry, online())
    for step in range(5):
        box = Box(100.0 + 100 * step, 300.0, 200.0 + 100 * step, 600.0)
        await async_report(hass, entry, frame(person(at=now + step, since=now, box=box), at=now + step))
    await _mark(hass, told[0].data["id"], "false_alarm")
    assert await entry.runtime_data.store.async_harmless_places() == []


@pytest.mark.parametrize(("label", "seconds", "remembered"), [("person", 5, 0), ("dog", 5, 0), ("car", 5, 1)])
async def test_who_waits_for_a_moment_makes_no_place_harmless(
    hass: HomeAssistant, entry: MockConfigEntry, label: str, seconds: int, remembered: int
) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    await async_report(hass, entry, online())
    await _stand(hass, entry, time.time(), 1, COAT, label=label, seconds=seconds)
    await _mark(hass, told[0].data["id"], "false_alarm")
    assert len(await entry.runtime_data.store.async_harmless_places()) == remembered


async def test_who_sways_makes_no_place_harmless(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    now = time.time()
    await async_report(hass, entry, online())
    for step in range(15):
        box = COAT._replace(left=500.0 + 20 * (step % 2), right=600.0 + 20 * (step % 2))
        await async_report(hass, entry, frame(person(at=now + step, since=now, box=box), at=now + step))
    await _mark(hass, told[0].data["id"], "false_alarm")
    assert await entry.runtime_data.store.async_harmless_places() == []


async def test_what_is_called_harmless_while_it_stands_there_ends_and_begins_nothing_new(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    now = time.time()
    await async_report(hass, entry, online())
    for step in range(20):
        await async_report(hass, entry, frame(person(1, at=now + step, since=now, box=COAT), at=now + step))
    await _mark(hass, told[0].data["id"], "false_alarm")
    await async_report(hass, entry)
    told.clear()
    for step in range(20, 60):
        await async_report(hass, entry, frame(person(1, at=now + step, since=now, box=COAT), at=now + step))
    changes = [event.data["change"] for event in told]
    assert changes.count("ended") == 1
    assert changes[-1] == "ended"
    assert "started" not in changes
