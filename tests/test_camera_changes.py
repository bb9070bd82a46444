"""What clients hear of cameras that come and go, with everything set up as Home Assistant does it."""

import time
from types import MappingProxyType
from typing import Any

from homeassistant.config_entries import ConfigSubentry
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import MockHAClientWebSocket, WebSocketGenerator

from custom_components.nemotron_security import permissions

from .house import ABSENT_FILE, CAMERA, async_report, async_set_up, async_settle, frame, make_entry, online, person
from .test_websocket_channels import EVENTS, SYSTEM, nothing_waits, receive_event, subscribe

STREAM = {"source": "stream", "stream_url": "rtsp://127.0.0.1:1/yard"}
ENTITY = {"source": "entity", "camera_entity": "camera.absent"}
SOURCES = {"file": ABSENT_FILE, "stream": STREAM, "entity": ENTITY}
POLICIES: dict[str, Any] = {
    "read_only": {"entities": {"all": {"read": True}}},
    "restricted": {"entities": {"entity_ids": {"camera.front_door": {"read": True}}}},
}


@pytest.fixture(params=SOURCES)
async def entry(request: pytest.FixtureRequest, hass: HomeAssistant, silent_worker: None) -> MockConfigEntry:
    """One camera of each kind, for whose worker the test speaks."""
    return await async_set_up(hass, make_entry(SOURCES[request.param]))


@pytest.fixture(params=POLICIES)
async def other(
    request: pytest.FixtureRequest,
    entry: MockConfigEntry,
    hass_read_only_user: MockUser,
    hass_read_only_access_token: str,
    hass_ws_client: WebSocketGenerator,
) -> MockHAClientWebSocket:
    """Connect as a user who may read this camera, and change nothing."""
    hass_read_only_user.mock_policy(POLICIES[request.param])
    return await hass_ws_client(access_token=hass_read_only_access_token)


async def begin_and_subscribe(
    hass: HomeAssistant, entry: MockConfigEntry, client: MockHAClientWebSocket
) -> dict[str, Any]:
    """Let an incident begin before the camera; subscribe to both channels and return the system's answer."""
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    await subscribe(client, EVENTS, types=["new_event", "event_updated"])
    answer = await subscribe(client, SYSTEM, types=["camera_status"])
    assert (await receive_event(client))["data"]["status"] == "online"
    return answer


async def remove(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    """Remove the camera and wait until all is done."""
    hass.config_entries.async_remove_subentry(entry, CAMERA)
    await hass.async_block_till_done()
    await async_settle(hass, entry)
    assert hass.states.get("camera.front_door") is None


async def test_last_words_of_a_removed_camera(
    hass: HomeAssistant, entry: MockConfigEntry, other: MockHAClientWebSocket
) -> None:
    seq = (await begin_and_subscribe(hass, entry, other))["seq"]
    await remove(hass, entry)
    status, ended = await receive_event(other), await receive_event(other)
    assert (status["type"], status["data"]["camera_id"], status["data"]["status"]) == (
        "camera_status",
        CAMERA,
        "unknown",
    )
    assert status["seq"] > seq
    assert (ended["type"], ended["data"]["camera_id"]) == ("event_updated", CAMERA)
    assert ended["data"]["ended_at"] is not None
    await nothing_waits(other)


async def test_last_words_while_another_change_goes_on(
    hass: HomeAssistant, entry: MockConfigEntry, other: MockHAClientWebSocket
) -> None:
    """By the time that this one's turn comes, its entities are gone."""
    await begin_and_subscribe(hass, entry, other)
    async with entry.runtime_data._changing:
        hass.config_entries.async_remove_subentry(entry, CAMERA)
    await hass.async_block_till_done()
    await async_settle(hass, entry)
    assert [(await receive_event(other))["type"] for _ in range(2)] == ["camera_status", "event_updated"]


async def test_last_words_end(
    hass: HomeAssistant, entry: MockConfigEntry, other: MockHAClientWebSocket, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin_and_subscribe(hass, entry, other)
    await remove(hass, entry)
    (incident,) = await entry.runtime_data.store.async_incidents()
    assert entry.runtime_data.events.broadcast_event_updated(incident) == 1
    monkeypatch.setattr(permissions, "LAST_WORDS", 0.0)
    assert entry.runtime_data.events.broadcast_event_updated(incident) == 0


@pytest.mark.parametrize("policy", [{}, {"entities": {"entity_ids": {"camera.camera_1": {"read": True}}}}])
async def test_last_words_are_for_nobody_else(
    hass: HomeAssistant,
    silent_worker: None,
    hass_read_only_user: MockUser,
    hass_read_only_access_token: str,
    hass_ws_client: WebSocketGenerator,
    policy: dict[str, Any],
) -> None:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, STREAM))
    hass_read_only_user.mock_policy(policy)
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    client = await hass_ws_client(access_token=hass_read_only_access_token)
    await subscribe(client, EVENTS)
    await subscribe(client, SYSTEM, types=["camera_status"])
    if policy:
        assert (await receive_event(client))["data"]["camera_id"] != CAMERA
    await remove(hass, entry)
    await nothing_waits(client)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "policy", [POLICIES["read_only"], {"entities": {"entity_ids": {"camera.garden": {"read": True}}}}]
)
async def test_camera_that_is_added(
    hass: HomeAssistant,
    silent_worker: None,
    hass_read_only_user: MockUser,
    hass_read_only_access_token: str,
    hass_ws_client: WebSocketGenerator,
    policy: dict[str, Any],
    source: str,
) -> None:
    """A user who is no administrator hears of a camera that comes, of what it sees, and of its end."""
    entry = await async_set_up(hass, make_entry())
    hass_read_only_user.mock_policy(policy)
    client = await hass_ws_client(access_token=hass_read_only_access_token)
    await subscribe(client, EVENTS, types=["new_event", "event_updated"])
    await subscribe(client, SYSTEM, types=["camera_status"])
    garden = ConfigSubentry(
        data=MappingProxyType(SOURCES[source]), subentry_type="camera", title="Garden", unique_id="garden"
    )
    hass.config_entries.async_add_subentry(entry, garden)
    await hass.async_block_till_done()
    camera_id = garden.subentry_id
    now = time.time()
    await async_report(hass, entry, online(camera_id), frame(person(at=now), at=now, camera_id=camera_id))
    hass.config_entries.async_remove_subentry(entry, camera_id)
    await hass.async_block_till_done()
    await async_settle(hass, entry)
    messages: list[dict[str, Any]] = []
    while not messages or messages[-1]["data"].get("ended_at") is None:
        messages.append(await receive_event(client))
    assert {message["data"]["camera_id"] for message in messages} == {camera_id}
    told = [message["data"].get("status", message["type"]) for message in messages]
    first = "offline" if source == "entity" else "unknown"  # that entity is not there, as was found already
    assert told == [first, "online", "new_event", "unknown", "event_updated"]
    await nothing_waits(client)
