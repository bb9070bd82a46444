"""Sentences in Home Assistant's logbook, read back from its own database."""

import time

from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.components.recorder.common import async_wait_recording_done
from pytest_homeassistant_custom_component.typing import RecorderInstanceContextManager, WebSocketGenerator

from custom_components.nemotron_security.vision.messages import CameraState, CameraStatus, Problem

from .house import ABSENT_FILE, CAMERA, async_report, async_set_up, frame, make_entry, online, person

pytestmark = pytest.mark.usefixtures("silent_worker")


@pytest.fixture
async def mock_recorder_before_hass(async_test_recorder: RecorderInstanceContextManager) -> None:
    """Have the recorder's database before there is a Home Assistant."""


@pytest.mark.usefixtures("recorder_mock")
async def test_sentences(hass: HomeAssistant, hass_ws_client: WebSocketGenerator) -> None:
    since = dt_util.utcnow()
    assert await async_setup_component(hass, "logbook", {})
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    now = time.time()
    stalled = CameraState(camera_id=CAMERA, status=CameraStatus.OFFLINE, at=now + 5, problem=Problem.SOURCE_STALLED)
    await async_report(
        hass, entry, online(at=now), *[frame(person(at=now + n, since=now), at=now + n) for n in range(4)]
    )
    entry.runtime_data.incidents.camera_removed(CAMERA)
    await async_report(hass, entry, stalled)
    await async_wait_recording_done(hass)
    client = await hass_ws_client(hass)
    await client.send_json_auto_id({"type": "logbook/get_events", "start_time": since.isoformat()})
    answer = await client.receive_json()
    ours = [item for item in answer["result"] if item.get("domain") == "nemotron_security"]
    assert {item["name"] for item in ours} == {"Incident at Front door", "Connectivity at Front door"}
    assert [item["message"] for item in ours if item["entity_id"] == "binary_sensor.front_door_connectivity"] == [
        "is not known",
        "is there",
        "is lost (source stalled)",
    ]
    sentences = [item["message"] for item in ours if item["entity_id"] == "event.front_door_incident"]
    assert sentences[0].startswith("began: Person")
    assert sentences[0].endswith(" risk)")
    assert sentences[-1].startswith("ended after 3 s: ")


async def test_a_removed_camera_has_a_name_too(hass: HomeAssistant) -> None:
    from custom_components.nemotron_security.logbook import _camera_name  # noqa: PLC0415

    assert _camera_name(hass, "01JGONE") == "a removed camera"
