"""What the house says from outside a camera: entities and actions that let it look, or open an incident."""

import time
from typing import Any

from homeassistant.auth.permissions.const import CAT_ENTITIES
from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.helpers import entity_registry as er
import probatio as vol
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser, async_capture_events

from custom_components.nemotron_security.const import DOMAIN, EVENT_INCIDENT
from custom_components.nemotron_security.models import PictureKind
from custom_components.nemotron_security.outside import LOOK_TIME
from custom_components.nemotron_security.vision.executor import Executor
from custom_components.nemotron_security.vision.messages import Command, Snapshot, StartLooking

from .house import (
    ABSENT_FILE,
    CAMERA,
    async_report,
    async_set_up,
    async_settle,
    frame,
    jpeg,
    make_entry,
    online,
    person,
)

BELL, RADAR, BUTTON, OTHER = "event.doorbell", "binary_sensor.radar", "input_button.panic", "binary_sensor.window"
DOOR, SWITCH = "camera.front_door", "switch.front_door_detection"
SETTINGS = {**ABSENT_FILE, "look_entities": [RADAR], "open_entities": [BELL, BUTTON]}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Command]:
    """Return what the worker would be told."""
    commands: list[Command] = []
    monkeypatch.setattr(Executor, "_send", lambda _self, command: commands.append(command))
    return commands


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None, sent: list[Command]) -> MockConfigEntry:
    """A camera that a doorbell, a radar and a button tell of somebody; the test speaks for its worker."""
    for entity_id, state in ((BELL, STATE_UNKNOWN), (RADAR, "off"), (BUTTON, STATE_UNKNOWN), (OTHER, "off")):
        hass.states.async_set(entity_id, state, {"friendly_name": entity_id.split(".")[1].title()})
    return await async_set_up(hass, make_entry(SETTINGS))


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the camera show a grey picture."""

    async def snapshot(_self: Executor, camera_id: str, **_options: Any) -> Snapshot:
        return Snapshot(request_id=1, camera_id=camera_id, frame_id=7, captured_at=time.time(), data=jpeg(90))

    monkeypatch.setattr(Executor, "async_snapshot", snapshot)


def looks(sent: list[Command]) -> list[StartLooking]:
    return [command for command in sent if isinstance(command, StartLooking)]


async def call(hass: HomeAssistant, name: str, context: Context | None = None, **data: Any) -> None:
    await hass.services.async_call(DOMAIN, name, {"entity_id": DOOR, **data}, blocking=True, context=context)


# --- entities ---------------------------------------------------------------------------------------------------------


async def test_a_binary_sensor_that_goes_on_lets_the_detector_look(
    hass: HomeAssistant, entry: MockConfigEntry, sent: list[Command]
) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    hass.states.async_set(RADAR, "on")
    await async_settle(hass, entry)
    assert looks(sent) == [StartLooking(camera_id=CAMERA, seconds=LOOK_TIME)]
    hass.states.async_set(RADAR, "on", {"distance": 3})
    hass.states.async_set(RADAR, "off")
    hass.states.async_set(OTHER, "on")
    await async_settle(hass, entry)
    assert len(looks(sent)) == 1
    assert not told


@pytest.mark.parametrize("trigger", [BELL, BUTTON])
async def test_what_happens_opens_an_incident_with_a_picture(
    hass: HomeAssistant, entry: MockConfigEntry, sent: list[Command], scene: None, trigger: str
) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    await async_report(hass, entry, online())
    hass.states.async_set(trigger, "2026-11-28T04:00:00.000+00:00", hass.states.get(trigger).attributes)  # type: ignore[union-attr]
    await hass.async_block_till_done(wait_background_tasks=True)
    await async_settle(hass, entry)
    name = trigger.split(".")[1].title()
    started, with_picture = (event.data for event in told)
    assert (started["change"], started["title"], started["trigger"]) == ("started", f"{name} at Front door", name)
    assert (started["labels"], started["object_count"]) == ([], 0)
    assert started["summary"].startswith("Nothing seen, opened by ")
    assert started["risk_level"] == "low"
    assert with_picture["picture_id"]
    (picture,) = await entry.runtime_data.store.async_pictures(started["id"])
    assert (picture.kind, picture.box.width, picture.width) == (PictureKind.FIRST, 64.0, 64)
    assert looks(sent) == [StartLooking(camera_id=CAMERA, seconds=LOOK_TIME)]


async def test_what_an_entity_tells_as_it_comes_back_is_old(
    hass: HomeAssistant, entry: MockConfigEntry, sent: list[Command]
) -> None:
    for entity_id, news in ((BELL, "2026-11-28T04:00:00.000+00:00"), (RADAR, "on")):
        hass.states.async_set(entity_id, STATE_UNAVAILABLE)
        hass.states.async_set(entity_id, news)
        hass.states.async_remove(entity_id)
        hass.states.async_set(entity_id, news)
    await async_settle(hass, entry)
    assert not looks(sent)


@pytest.mark.parametrize(("seconds", "counts"), [(10, True), (3600, True), (9, False), (0, False)])
async def test_the_first_word_of_one_that_was_unknown_counts_unless_it_has_only_just_come_back(
    hass: HomeAssistant, entry: MockConfigEntry, sent: list[Command], seconds: float, *, counts: bool
) -> None:
    now = time.time()
    hass.states.async_set(RADAR, STATE_UNAVAILABLE, timestamp=now)
    hass.states.async_set(RADAR, STATE_UNKNOWN, timestamp=now)
    # What changes in between is not the state.
    hass.states.async_set(RADAR, STATE_UNKNOWN, {"battery": 90}, timestamp=now + seconds)
    hass.states.async_set(RADAR, "on", timestamp=now + seconds)
    await async_settle(hass, entry)
    assert bool(looks(sent)) is counts


async def test_one_that_was_unknown_and_is_off_is_no_news(
    hass: HomeAssistant, entry: MockConfigEntry, sent: list[Command]
) -> None:
    now = time.time()
    for second, state in ((0, STATE_UNKNOWN), (60, "off"), (61, STATE_UNKNOWN), (120, STATE_UNAVAILABLE), (180, "on")):
        hass.states.async_set(RADAR, state, timestamp=now + second)
    await async_settle(hass, entry)
    assert not looks(sent)


async def test_who_comes_joins_what_the_doorbell_opened(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    await async_report(hass, entry, online())
    await call(hass, "open_incident", trigger="The doorbell rang")
    now = time.time()
    for step in range(3):
        await async_report(hass, entry, frame(person(at=now + step, since=now), at=now + step))
    assert [event.data["id"] for event in told] == [told[0].data["id"]] * len(told)
    last = told[-1].data
    assert (last["labels"], last["title"], last["trigger"]) == (["person"], "Person at Front door", "The doorbell rang")
    assert "opened by The doorbell rang" in last["summary"]


async def test_nobody_comes_and_it_ends(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    await async_report(hass, entry, online())
    await call(hass, "open_incident", trigger="The doorbell rang")
    now = time.time() + 1
    for step in (0, 11):
        await async_report(hass, entry, frame(at=now + step))
    assert [event.data["change"] for event in told] == ["started", "ended"]
    assert told[1].data["ended_at"] is not None


async def test_an_incident_that_goes_on_is_kept(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    await call(hass, "open_incident", trigger="The doorbell rang")
    await async_settle(hass, entry)
    assert [(event.data["change"], event.data["trigger"]) for event in told] == [("started", None)]


async def test_settings_change_and_entities_are_renamed(
    hass: HomeAssistant, entry: MockConfigEntry, sent: list[Command], entity_registry: er.EntityRegistry
) -> None:
    window = entity_registry.async_get_or_create("binary_sensor", "test", "window", suggested_object_id="window")
    subentry = entry.subentries[CAMERA]
    hass.config_entries.async_update_subentry(
        entry, subentry, data={**subentry.data, "look_entities": [window.entity_id], "open_entities": []}
    )
    await hass.async_block_till_done()
    entity_registry.async_update_entity(window.entity_id, new_entity_id="binary_sensor.skylight")
    await hass.async_block_till_done()
    assert entry.subentries[CAMERA].data["look_entities"] == ["binary_sensor.skylight"]
    for entity_id in (RADAR, "binary_sensor.skylight"):
        hass.states.async_set(entity_id, "off")
        hass.states.async_set(entity_id, "on")
    await hass.async_block_till_done()
    assert len(looks(sent)) == 1


@pytest.mark.parametrize("end", ["switch", "removal", "unload"])
async def test_nothing_happens_any_more(
    hass: HomeAssistant, entry: MockConfigEntry, sent: list[Command], end: str
) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    match end:
        case "switch":
            await hass.services.async_call("switch", "turn_off", {"entity_id": SWITCH}, blocking=True)
        case "removal":
            hass.config_entries.async_remove_subentry(entry, CAMERA)
        case _:
            await hass.config_entries.async_unload(entry.entry_id)
    await hass.async_block_till_done()
    hass.states.async_set(RADAR, "on")
    hass.states.async_set(BELL, "2026-11-28T04:00:00.000+00:00")
    await hass.async_block_till_done()
    assert not looks(sent)
    assert not told


# --- actions ----------------------------------------------------------------------------------------------------------


async def test_actions(hass: HomeAssistant, entry: MockConfigEntry, sent: list[Command]) -> None:
    await async_report(hass, entry, online())
    await call(hass, "start_looking", seconds=90)
    assert looks(sent) == [StartLooking(camera_id=CAMERA, seconds=90.0)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("start_looking", {"seconds": 0}),
        ("start_looking", {"seconds": "soon"}),
        ("open_incident", {}),
        ("open_incident", {"trigger": ""}),
        ("open_incident", {"trigger": "  "}),
        ("open_incident", {"trigger": "x" * 201}),
    ],
)
async def test_wrong_data(hass: HomeAssistant, entry: MockConfigEntry, name: str, data: dict[str, Any]) -> None:
    with pytest.raises(vol.Invalid):
        await call(hass, name, **data)


@pytest.mark.parametrize(("name", "data"), [("start_looking", {}), ("open_incident", {"trigger": "Bell"})])
async def test_a_camera_whose_detection_is_off_says_so(
    hass: HomeAssistant, entry: MockConfigEntry, name: str, data: dict[str, Any]
) -> None:
    await async_report(hass, entry, online())
    await hass.services.async_call("switch", "turn_off", {"entity_id": SWITCH}, blocking=True)
    with pytest.raises(ServiceValidationError) as raised:
        await call(hass, name, **data)
    assert raised.value.translation_key == "detection_is_off"


@pytest.mark.parametrize("name", ["start_looking", "open_incident", "forget_harmless_places"])
async def test_actions_need_control_of_the_camera(
    hass: HomeAssistant, entry: MockConfigEntry, hass_read_only_user: MockUser, name: str
) -> None:
    await async_report(hass, entry, online())
    data = {"trigger": "Bell"} if name == "open_incident" else {}
    hass_read_only_user.mock_policy({CAT_ENTITIES: {"entity_ids": {DOOR: {"read": True}}}})
    with pytest.raises(Unauthorized):
        await call(hass, name, Context(user_id=hass_read_only_user.id), **data)


async def test_harmless_places_are_forgotten(
    hass: HomeAssistant, entry: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now, label="car"), at=now))
    await hass.services.async_call(
        DOMAIN, "review_incident", {"incident_id": told[0].data["id"], "feedback": "false_alarm"}, blocking=True
    )
    store = entry.runtime_data.store
    assert len(await store.async_harmless_places()) == 1
    await call(hass, "forget_harmless_places")
    assert await store.async_harmless_places() == []
    await store.async_close()
    with pytest.raises(HomeAssistantError) as raised:
        await call(hass, "forget_harmless_places")
    assert raised.value.translation_key == "places_not_forgotten"


async def test_a_model_is_told_what_opened_it(hass: HomeAssistant, entry: MockConfigEntry, scene: None) -> None:
    await async_report(hass, entry, online())
    await call(hass, "open_incident", trigger='Bell "front" rtsp://user:secret@10.0.0.1/live')
    await hass.async_block_till_done(wait_background_tasks=True)
    await async_settle(hass, entry)
    (incident,) = await entry.runtime_data.store.async_incidents()
    answer = await hass.services.async_call(
        DOMAIN, "preview_prompt", {"incident_id": incident.id}, blocking=True, return_response=True
    )
    words = str(answer)
    assert "Opened from outside the camera, by: \"Bell 'front'" in words.replace("\\'", "'")
    assert "none so far" in words
    assert "of: the whole scene" in words
    assert "secret" not in words


# --- the flow ---------------------------------------------------------------------------------------------------------


async def _to_form(hass: HomeAssistant, entry: MockConfigEntry) -> Any:
    flows = hass.config_entries.subentries
    menu = await entry.start_subentry_reconfigure_flow(hass, CAMERA)
    return await flows.async_configure(menu["flow_id"], {"next_step_id": "outside"})


async def test_the_flow_keeps_what_is_chosen_and_all_else(
    hass: HomeAssistant, entry: MockConfigEntry, sent: list[Command]
) -> None:
    before = dict(entry.subentries[CAMERA].data)
    form = await _to_form(hass, entry)
    shown = {str(marker): marker.description["suggested_value"] for marker in form["data_schema"].schema}
    assert shown == {"look_entities": [RADAR], "open_entities": [BELL, BUTTON]}
    menu = await hass.config_entries.subentries.async_configure(
        form["flow_id"], {"look_entities": [OTHER, RADAR], "open_entities": []}
    )
    assert menu["type"] == "menu"
    assert entry.subentries[CAMERA].data == {**before, "look_entities": [OTHER, RADAR], "open_entities": []}
    await hass.async_block_till_done()
    hass.states.async_set(OTHER, "on")
    await hass.async_block_till_done()
    assert len(looks(sent)) == 1


@pytest.mark.parametrize(
    ("typed", "errors"),
    [
        ({"look_entities": ["binary_sensor.gone"], "open_entities": []}, {"look_entities": "signal_not_found"}),
        ({"look_entities": [BELL, RADAR], "open_entities": [BELL]}, {"look_entities": "in_both_lists"}),
    ],
)
async def test_the_flow_says_what_is_wrong(
    hass: HomeAssistant, entry: MockConfigEntry, typed: dict[str, list[str]], errors: dict[str, str]
) -> None:
    before = dict(entry.subentries[CAMERA].data)
    form = await _to_form(hass, entry)
    again: Any = await hass.config_entries.subentries.async_configure(form["flow_id"], typed)
    assert again["errors"] == errors
    shown = {str(marker): marker.description["suggested_value"] for marker in again["data_schema"].schema}
    assert shown == typed
    assert entry.subentries[CAMERA].data == before


async def test_an_entity_that_is_gone_for_now_can_stay(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    hass.states.async_remove(RADAR)
    form = await _to_form(hass, entry)
    typed = {"look_entities": [RADAR], "open_entities": [BELL, BUTTON]}
    assert (await hass.config_entries.subentries.async_configure(form["flow_id"], typed))["type"] == "menu"
