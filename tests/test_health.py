"""The pipeline's figures: entities and the channel, from the worker's heartbeats."""

from collections.abc import Callable
import time

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.nemotron_security.analysis.breaker import BreakerState
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.health import BEATS, QUEUE_INTERVAL
from custom_components.nemotron_security.models import ConnectionQuality
from custom_components.nemotron_security.payloads import PartState
from custom_components.nemotron_security.runtime import FAILED_STARTS
from custom_components.nemotron_security.vision.messages import (
    CameraReport,
    CameraState,
    CameraStatus,
    DetectorState,
    Heartbeat,
    Problem,
    Ready,
    WorkerLost,
)

from .house import ABSENT_FILE, CAMERA, async_report, async_set_up, async_until, frame, make_entry, online, person

pytestmark = pytest.mark.usefixtures("silent_worker")

READY = Ready(pid=1, versions={})


def beat(*, fps: float = 5.0, inference_fps: float = 2.0, reconnects: int = 0, skipped: int = 0) -> Heartbeat:
    at = time.time()
    report = CameraReport(
        camera_id=CAMERA,
        fps=fps,
        inference_fps=inference_fps,
        last_frame_at=at,
        width=1280,
        height=720,
        skipped=skipped,
        reconnects=reconnects,
    )
    return Heartbeat(at=at, cameras=(report,), inference_ms_p50=18.0, inference_ms_p95=31.0, rss=150_000_000)


@pytest.fixture
async def entry(hass: HomeAssistant) -> MockConfigEntry:
    return await async_set_up(hass, make_entry(ABSENT_FILE))


@pytest.fixture
def state(hass: HomeAssistant, entry: MockConfigEntry) -> Callable[[str], str]:
    """Return the state of one of our sensors by its unique id."""

    def read(unique_id: str) -> str:
        entity_id = er.async_get(hass).async_get_entity_id("sensor", DOMAIN, unique_id)
        assert entity_id
        found = hass.states.get(entity_id)
        return found.state if found else "disabled"

    return read


async def test_nothing_is_known_before_the_first_figures(entry: MockConfigEntry, state: Callable[[str], str]) -> None:
    assert state(f"{entry.entry_id}_inference_rate") == "unknown"
    assert state(f"{entry.entry_id}_inference_time") == "unknown"
    assert state(f"{CAMERA}_connection_quality") == "unknown"
    assert state(f"{CAMERA}_frame_rate") == "disabled"


async def test_figures_are_means_of_ten_heartbeats(
    hass: HomeAssistant, entry: MockConfigEntry, state: Callable[[str], str]
) -> None:
    await async_report(hass, entry, READY, DetectorState(problem=None), online())
    beats = [beat(fps=4.0 + number % 2, inference_fps=float(number % 2), skipped=1) for number in range(BEATS)]
    await async_report(hass, entry, *beats[:-1])
    assert state(f"{entry.entry_id}_inference_rate") == "unknown"
    await async_report(hass, entry, beats[-1])
    figures = entry.runtime_data.health.data
    assert figures.inference_fps == pytest.approx(0.5)
    assert (figures.inference_ms_p50, figures.inference_ms_p95) == (18.0, 31.0)
    assert figures.worker_memory == 150_000_000
    assert figures.worker_restarts == 0
    assert figures.skipped == BEATS
    assert float(state(f"{entry.entry_id}_inference_rate")) == pytest.approx(0.5)
    assert float(state(f"{entry.entry_id}_inference_time")) == 18.0
    camera = entry.runtime_data.cameras[CAMERA].data.figures
    assert camera
    assert camera.fps == pytest.approx(4.5)
    assert camera.inference_fps == pytest.approx(0.5)
    assert camera.skipped == BEATS


async def test_without_a_detector_nothing_infers(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    await async_report(hass, entry, READY, online(), *[beat(inference_fps=0.0)] * BEATS)
    assert entry.runtime_data.health.data.inference_fps is None


async def test_what_a_lost_worker_said_is_no_longer_known(
    hass: HomeAssistant, entry: MockConfigEntry, state: Callable[[str], str]
) -> None:
    await async_report(hass, entry, READY, DetectorState(problem=None), online(), *[beat(skipped=3)] * BEATS)
    await async_report(hass, entry, beat(), WorkerLost(failed_starts=0))
    assert state(f"{entry.entry_id}_inference_rate") == "unknown"
    figures = entry.runtime_data.health.data
    assert figures.inference_ms_p50 is None
    assert figures.worker_memory is None
    assert figures.skipped == 3 * BEATS, "what was counted stays counted"
    assert entry.runtime_data.cameras[CAMERA].data.figures.fps is None
    await async_report(hass, entry, READY, *[beat()] * BEATS)
    assert entry.runtime_data.health.data.worker_restarts == 1


async def test_a_worker_that_never_starts_has_failed(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    said = []
    for failed_starts in range(1, FAILED_STARTS + 1):
        await async_report(hass, entry, WorkerLost(failed_starts=failed_starts))
        said.append(entry.runtime_data.announcer.pipeline.worker)
    await async_report(hass, entry, READY)
    said.append(entry.runtime_data.announcer.pipeline.worker)
    assert said == [PartState.STARTING, PartState.STARTING, PartState.FAILED, PartState.RUNNING]


async def test_connection_quality(
    hass: HomeAssistant, entry: MockConfigEntry, state: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.nemotron_security.quality._FIRST_LOOK", 0.0)
    unique_id = f"{CAMERA}_connection_quality"
    await async_report(hass, entry, READY, online(), *[beat()] * BEATS)
    assert state(unique_id) == ConnectionQuality.EXCELLENT
    await async_report(hass, entry, beat(reconnects=1), *[beat()] * (BEATS - 1))
    assert state(unique_id) == ConnectionQuality.FAIR
    lost = CameraState(camera_id=CAMERA, status=CameraStatus.ERROR, at=time.time(), problem=Problem.WORKER_DOWN)
    await async_report(hass, entry, lost, *[beat()] * BEATS)
    assert state(unique_id) == ConnectionQuality.FAIR, "that is no fault of the camera's"
    await async_report(hass, entry, beat(reconnects=10), *[beat()] * (BEATS - 1))
    assert state(unique_id) == ConnectionQuality.UNUSABLE


async def test_a_removed_camera_is_not_revived_by_its_last_heartbeat(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    await async_report(hass, entry, READY, online(), *[beat(skipped=2)] * BEATS)
    hass.config_entries.async_remove_subentry(entry, CAMERA)
    await hass.async_block_till_done()
    await async_report(hass, entry, *[beat(skipped=5)] * BEATS)
    assert entry.runtime_data.health.data.skipped == 0


async def test_storage_is_measured(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    await async_report(hass, entry, *[beat()] * BEATS)
    figures = entry.runtime_data.health.data
    assert figures.storage_used
    assert figures.storage_used > 10_000, "an empty database is some pages"
    assert figures.disk_free
    assert figures.disk_free > 0


async def test_figures_on_the_system_channel(
    hass: HomeAssistant, entry: MockConfigEntry, hass_ws_client: WebSocketGenerator
) -> None:
    client = await hass_ws_client(hass)
    await client.send_json_auto_id(
        {"type": "nemotron_security/system/subscribe", "types": ["camera_stats", "pipeline_status"]}
    )
    assert (await client.receive_json())["success"]
    present = (await client.receive_json())["event"]
    assert (present["type"], present["data"]["inference_fps"]) == ("pipeline_status", None)
    assert present["data"]["disk_free"] > 0
    await async_report(hass, entry, READY, DetectorState(problem=None), online(), *[beat()] * BEATS)
    told = [(await client.receive_json())["event"] for _ in range(4)]
    assert [message["type"] for message in told] == [*["pipeline_status"] * 2, "camera_stats", "pipeline_status"]
    assert (told[2]["data"]["camera_id"], told[2]["data"]["fps"]) == (CAMERA, 5.0)
    assert told[3]["data"]["inference_fps"] == 2.0
    # Whoever comes now is told at once.
    other = await hass_ws_client(hass)
    await other.send_json_auto_id({"type": "nemotron_security/system/subscribe", "types": ["camera_stats"]})
    assert (await other.receive_json())["success"]
    assert (await other.receive_json())["event"]["data"] == told[2]["data"]


@pytest.mark.usefixtures("socket_enabled")
async def test_what_waits_for_a_model(hass: HomeAssistant) -> None:
    server = {"analyzer": "nemotron", "url": "http://127.0.0.1:1", "model": "nano"}
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, data=server))
    health = entry.runtime_data.health
    assert (health.data.waiting, health.data.oldest_waiting, health.data.breaker) == (0, None, "closed")
    registry = er.async_get(hass)
    assert registry.async_get_entity_id("sensor", DOMAIN, f"{entry.entry_id}_model_state")
    now = time.time()
    await async_report(hass, entry, online(), *[frame(person(at=now + n, since=now), at=now + n) for n in range(2)])
    async_fire_time_changed(hass, dt_util.utcnow() + QUEUE_INTERVAL)
    await async_until(lambda: health.data.waiting == 1)
    assert health.data.oldest_waiting is not None
    health.async_handle_breaker(BreakerState.OPEN)
    entity_id = registry.async_get_entity_id("sensor", DOMAIN, f"{entry.entry_id}_model_state")
    assert entity_id
    state = hass.states.get(entity_id)
    assert state
    assert state.state == "open"


async def test_without_a_model_nothing_waits(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    figures = entry.runtime_data.health.data
    assert (figures.waiting, figures.oldest_waiting, figures.breaker) == (None, None, None)
    assert not er.async_get(hass).async_get_entity_id("sensor", DOMAIN, f"{entry.entry_id}_model_state")
