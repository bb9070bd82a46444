"""Tests of the media browser's view of incidents, over a real websocket and a real store."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from homeassistant.components.media_source import Unresolvable, async_resolve_media
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator, WebSocketGenerator

from custom_components.nemotron_security import media_source
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.models import Assessment, Box, Incident, Track

from .house import ABSENT_FILE, CAMERA, async_set_up, jpeg, make_entry

ROOT = f"media-source://{DOMAIN}"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None) -> MockConfigEntry:
    await hass.config.async_set_time_zone("UTC")
    assert await async_setup_component(hass, "media_source", {})
    return await async_set_up(hass, make_entry(ABSENT_FILE, {"source": "file", "file_path": "/absent/other.mp4"}))


async def add(entry: MockConfigEntry, at: datetime, *, picture: bool = True) -> Incident:
    """Store an incident with a picture of its own shade."""
    box = Box(1, 2, 3, 4)
    track = Track(
        track_id=int(at.timestamp()),
        label="person",
        confidence=0.9,
        first_seen_at=at,
        last_seen_at=at,
        box=box,
        frame_width=64,
        frame_height=36,
    )
    verdict = Assessment(
        analyzer="rules", risk_score=30, title="Person at Front door", summary="", reasoning=None, created_at=at
    )
    store = entry.runtime_data.store
    incident: Incident = await store.async_start_incident(CAMERA, [track], started_at=at, assessment=verdict)
    await store.async_save_incident(replace(incident, ended_at=at))
    if picture:
        await store.async_add_picture(
            incident.id, track.track_id, captured_at=at, box=box, score=0.9, width=64, height=36, jpeg=jpeg(at.hour)
        )
    stored: Incident | None = await store.async_incident(incident.id)
    assert stored is not None
    return stored


async def browse(client: Any, content_id: str = ROOT) -> list[dict[str, Any]]:
    await client.send_json_auto_id({"type": "media_source/browse_media", "media_content_id": content_id})
    answer = await client.receive_json()
    assert answer["success"], answer
    children: list[dict[str, Any]] = answer["result"]["children"]
    return children


async def test_browse_to_a_picture(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
    hass_client_no_auth: ClientSessionGenerator,
) -> None:
    await add(entry, NOON - timedelta(days=3))
    await add(entry, NOON)
    incident = await add(entry, NOON + timedelta(hours=2))
    await add(entry, NOON + timedelta(hours=3), picture=False)
    client = await hass_ws_client(hass)
    cameras = await browse(client)
    assert [camera["title"] for camera in cameras] == ["Camera 1", "Front door"]
    days = await browse(client, cameras[1]["media_content_id"])
    assert [day["title"] for day in days] == ["2026-06-01", "2026-05-29"]
    pictures = await browse(client, days[0]["media_content_id"])
    assert [picture["title"] for picture in pictures] == [
        "14:00:00 Person at Front door",
        "12:00:00 Person at Front door",
    ]
    assert pictures[0]["thumbnail"] == f"/api/{DOMAIN}/pictures/{incident.picture_id}"
    await client.send_json_auto_id(
        {"type": "media_source/resolve_media", "media_content_id": pictures[0]["media_content_id"]}
    )
    resolved = (await client.receive_json())["result"]
    response = await (await hass_client_no_auth()).get(resolved["url"])
    assert response.status == HTTPStatus.OK
    assert await response.read() == jpeg(14)


async def test_pages(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(media_source, "DAYS", 2)
    monkeypatch.setattr(media_source, "INCIDENTS", 2)
    for days in (2, 1, 0):
        await add(entry, NOON - timedelta(days=days))
    for minutes in range(1, 3):
        await add(entry, NOON + timedelta(minutes=minutes))
    client = await hass_ws_client(hass)
    first = await browse(client, f"{ROOT}/camera/{CAMERA}")
    assert [day["title"] for day in first] == ["2026-06-01", "2026-05-31", "Older"]
    (last,) = await browse(client, first[2]["media_content_id"])
    assert last["title"] == "2026-05-30"
    page = await browse(client, first[0]["media_content_id"])
    assert [item["title"][:5] for item in page] == ["12:02", "12:01", "Older"]
    (oldest,) = await browse(client, page[2]["media_content_id"])
    assert oldest["title"].startswith("12:00")


async def test_file_for_an_ai_task(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    incident = await add(entry, NOON)
    media = await async_resolve_media(hass, f"{ROOT}/picture/{incident.picture_id}", None)
    assert media.mime_type == "image/jpeg"
    assert media.path is not None
    assert await hass.async_add_executor_job(media.path.read_bytes) == jpeg(12)


async def test_who_may_not_see_a_camera_finds_nothing_of_it(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
    hass_read_only_user: MockUser,
    hass_read_only_access_token: str,
) -> None:
    incident = await add(entry, NOON)
    hass_read_only_user.mock_policy({"entities": {"domains": {"light": True}}})
    client = await hass_ws_client(hass, hass_read_only_access_token)
    assert await browse(client) == []
    for kind, content_id in (
        ("browse", f"{ROOT}/camera/{CAMERA}"),
        ("resolve", f"{ROOT}/picture/{incident.picture_id}"),
    ):
        await client.send_json_auto_id({"type": f"media_source/{kind}_media", "media_content_id": content_id})
        answer = await client.receive_json()
        assert not answer["success"]


@pytest.mark.parametrize(
    "identifier",
    [
        *("camera", "camera/absent", "picture/1", "x", f"camera/{CAMERA}/yesterday", f"camera/{CAMERA}/2026-06-01/x"),
        *(f"camera/{CAMERA}/9999-12-31", f"camera/{CAMERA}/before/0001-01-01/1", f"camera/{CAMERA}/a/b/c/d"),
    ],
)
async def test_what_is_not_there(
    hass: HomeAssistant, entry: MockConfigEntry, hass_ws_client: WebSocketGenerator, identifier: str
) -> None:
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "media_source/browse_media", "media_content_id": f"{ROOT}/{identifier}"})
    answer = await client.receive_json()
    assert not answer["success"]
    assert answer["error"]["code"] == "browse_media_failed"
    for wrong in (identifier, "picture/999", "picture/-1", "picture/x", "picture/" + "9" * 30):
        with pytest.raises(Unresolvable):
            await async_resolve_media(hass, f"{ROOT}/{wrong}", None)


async def test_nothing_is_there_after_unload(
    hass: HomeAssistant, entry: MockConfigEntry, hass_ws_client: WebSocketGenerator
) -> None:
    incident = await add(entry, NOON)
    await hass.config_entries.async_unload(entry.entry_id)
    with pytest.raises(Unresolvable):
        await async_resolve_media(hass, f"{ROOT}/picture/{incident.picture_id}", None)
