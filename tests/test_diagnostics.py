"""What a bug report carries: enough to find a cause, and no secret."""

import json
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, get_system_health_info
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator
from syrupy.assertion import SnapshotAssertion
from syrupy.filters import props

from custom_components.nemotron_security import health
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.vision.messages import (
    CameraReport,
    CameraState,
    CameraStatus,
    Heartbeat,
    Problem,
    Ready,
)

from .house import CAMERA, async_report, async_set_up, frame, make_entry, online, person
from .test_translations import TRANSLATIONS

pytestmark = pytest.mark.usefixtures("silent_worker")

SECRET = "secret-word"
NOW = 1_795_435_200.0
YARD = f"{CAMERA[:-1]}1"


@pytest.fixture
async def entry(hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch) -> MockConfigEntry:
    """Two cameras and a model, everything with its secrets; one camera is lost."""
    url = f"rtsp://guard:{SECRET}@127.0.0.1:1/{SECRET}?token={SECRET}"
    made = make_entry(
        {"source": "stream", "stream_url": url, "labels": ["person"], "note": f"The key: {SECRET}"},
        {"source": "file", "file_path": "/media/yard.mp4"},
        data={"analyzer": "nemotron", "url": f"http://{SECRET}@127.0.0.1:1", "api_key": SECRET, "model": "nano"},
        options={
            "detector": {
                "plugin": "triton",
                "model": "yolo11n",
                "urls": [f"http://user:{SECRET}@gpu.local/{SECRET}?token={SECRET}"],
                "token": SECRET,
            },
            "calendars": [f"calendar.{SECRET}"],
        },
    )
    monkeypatch.setattr(f"{health.__name__}._database_size_and_space", lambda _: (200_000, 80_000_000_000))
    object.__setattr__(made.subentries[CAMERA], "unique_id", url)
    await async_set_up(hass, made)
    report = CameraReport(camera_id=CAMERA, fps=5.0, inference_fps=2.5, last_frame_at=NOW, width=1280, height=720)
    lost = CameraState(
        camera_id=YARD, status=CameraStatus.ERROR, at=NOW, problem=Problem.FILE_MISSING, detail="no file yard.mp4"
    )
    await async_report(
        hass,
        made,
        Ready(pid=4711, versions={"python": "3.14.2", "av": "16.0.0"}),
        online(at=NOW),
        lost,
        frame(person(at=NOW), at=NOW),
        Heartbeat(at=NOW, cameras=(report,), inference_ms_p50=12.5, inference_ms_p95=20.0, rss=123_456_789),
    )
    return made


async def test_diagnostics(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, entry: MockConfigEntry, snapshot: SnapshotAssertion
) -> None:
    told: Any = await get_diagnostics_for_config_entry(hass, hass_client, entry)
    del told["gpus"]  # they are looked for beside this
    assert told == snapshot(exclude=props("created_at", "modified_at", "entry_id"))
    assert SECRET not in json.dumps(told)


async def test_diagnostics_before_the_worker_spoke(hass: HomeAssistant, hass_client: ClientSessionGenerator) -> None:
    entry = await async_set_up(hass, make_entry({"source": "file", "file_path": "/media/yard.mp4"}))
    told: Any = await get_diagnostics_for_config_entry(hass, hass_client, entry)
    assert told["worker"] is None
    assert told["cameras"][CAMERA]["status"]["status"] == "unknown"
    assert told["cameras"][CAMERA]["figures"] is None


async def test_system_health(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert await async_setup_component(hass, "system_health", {})
    info = await get_system_health_info(hass, DOMAIN)
    assert info == {
        "worker": "running",
        "detector": "starting",
        "detector_device": "triton",
        "analyzer": "running",
        "database": "running",
        "cameras_online": "1 / 2",
        "gpus": 0,
        "detection_time": "-",
        "worker_restarts": 0,
        "waiting": 0,
        "storage_used": "0.2 MB",
        "disk_free": "80.0 GB",
    }
    assert set(info) == set(TRANSLATIONS["system_health"]["info"])


async def test_system_health_of_an_entry_that_is_not_loaded(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert await async_setup_component(hass, "system_health", {})
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert await get_system_health_info(hass, DOMAIN) == {"worker": "off"}
