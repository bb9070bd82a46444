"""The main job: a visitor on a real stream becomes an incident, and nothing is lost when the worker is killed."""

import asyncio
import os
import signal
from typing import Any

from demo.home_assistant import MODEL, HomeAssistantProcess, WebsocketClient
from demo.stream_server import StreamServer

from .watching import next_of, rows

CAMERA = "camera.front_door"


async def test_visitor_becomes_incident_and_survives_the_workers_death(
    house: HomeAssistantProcess, streams: StreamServer
) -> None:
    entry = await house.add_integration([{"analyzer": "rules"}, *house.detector_answers(MODEL)])
    async with house.connect() as client:
        events = await client.subscribe({"type": "nemotron_security/events/subscribe"})
        system = await client.subscribe({"type": "nemotron_security/system/subscribe"})
        url = streams.url("front_door") + "?token=secret-word"
        await house.add_camera(entry, [{"source": "stream"}, house.camera_answers("Front door", stream_url=url)])

        started = await next_of(client, events, "new_event")
        detection = await next_of(client, events, "detection")
        assert detection["data"]["object_type"] == "person"
        assert detection["data"]["camera_id"] == started["data"]["camera_id"]
        assert 0.5 <= detection["data"]["confidence"] <= 1
        assert started["data"]["ended_at"] is None
        assert started["data"]["risk_level"] in ("low", "medium", "high", "critical")
        assert await status_of(client, system, "online")
        await assert_pictures(house)

        os.kill(house.worker(), signal.SIGKILL)
        assert await status_of(client, system, "error")
        states = {state["entity_id"]: state["state"] for state in await house.get("/api/states")}
        assert states["binary_sensor.front_door_connectivity"] == "off"
        assert states["binary_sensor.front_door_person"] in ("unavailable", "unknown")
        assert await status_of(client, system, "online")
        assert house.worker()
        # The visitor is still there: the same incident goes on, no second one begins.
        resumed = await next_of(client, events, "detection")
        assert resumed["data"]["incident_id"] == started["data"]["id"]
        ended = await last_of(client, events, started["data"]["id"])
        assert ended["ended_at"] is not None

    assert await house.async_stop() == 0
    assert_clean_log(house, expected=("The vision worker ended",))
    incidents = rows(house, "select id, ended_at from incidents")
    assert (started["data"]["id"], True) in [(number, end is not None) for number, end in incidents]
    assert rows(house, "select count(*) from detections where incident_id = ?", started["data"]["id"])[0][0] > 1


async def last_of(client: WebsocketClient, subscription: int, incident_id: int) -> Any:
    """Return the data of an incident when it has ended."""
    async with asyncio.timeout(90):
        while True:
            updated = (await next_of(client, subscription, "event_updated"))["data"]
            if updated["id"] == incident_id and updated["ended_at"]:
                return updated


async def status_of(client: WebsocketClient, subscription: int, status: str) -> bool:
    """Wait until the camera has a status."""
    while (await next_of(client, subscription, "camera_status"))["data"]["status"] != status:
        pass
    return True


async def assert_pictures(house: HomeAssistantProcess) -> None:
    """The live picture and the incident's picture are JPEGs."""
    assert (await house.get_bytes(f"/api/camera_proxy/{CAMERA}")).startswith(b"\xff\xd8")
    async with asyncio.timeout(20):
        while (await house.get("/api/states/image.front_door_last_incident"))["state"] == "unknown":
            await asyncio.sleep(0.2)  # the other process cannot set an event here
    assert (await house.get_bytes("/api/image_proxy/image.front_door_last_incident")).startswith(b"\xff\xd8")


def assert_clean_log(house: HomeAssistantProcess, *, expected: tuple[str, ...] = ()) -> None:
    """Nothing of ours complained or blocked the event loop, and no secret was logged."""
    ours = [record for record in house.log_records() if "nemotron_security" in record]
    expected = (*expected, "We found a custom integration")
    complaints = [record for record in ours if " WARNING " in record or " ERROR " in record or "Traceback" in record]
    assert [record for record in complaints if not any(words in record for words in expected)] == []
    assert "Detected blocking call" not in house.log_text()
    assert "secret-word" not in house.log_text()
