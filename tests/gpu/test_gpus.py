"""GPUs in a real Home Assistant: found, shown, lost and found again, read only while somebody wants it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
import logging
from pathlib import Path
import threading
from typing import Any
from unittest.mock import Mock

from aiohttp import web
from aiohttp.test_utils import TestServer
from homeassistant.const import EVENT_STATE_CHANGED, STATE_OFF, STATE_ON, STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
from homeassistant.helpers.entity import Entity
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_capture_events,
    async_fire_time_changed,
)
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator, WebSocketGenerator
from syrupy.assertion import SnapshotAssertion

from custom_components.nemotron_security import gpus
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.gpu import prometheus

from ..house import ABSENT_FILE, async_set_up, make_entry
from . import fake
from .fake import FULL, GIGABYTE, GPU, INSTANCE, OTHER_GPU, FakeDriver

ANSWERS = Path(__file__).with_name("answers")

pytestmark = pytest.mark.usefixtures("silent_worker", "socket_enabled")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a source that failed again at the next reading."""
    monkeypatch.setattr(gpus, "PAUSE", 0.0)


async def async_settle(hass: HomeAssistant) -> None:
    await hass.async_block_till_done(wait_background_tasks=True)


async def async_pass(hass: HomeAssistant, time: timedelta = timedelta(seconds=6)) -> None:
    """Let time pass: as much as lies between two readings, unless more is asked for."""
    async_fire_time_changed(hass, dt_util.utcnow() + time)
    await async_settle(hass)


@asynccontextmanager
async def _server(answers: Mapping[str, str]) -> AsyncIterator[str]:
    """Serve metrics by their path; the address is of the server."""

    async def answer(request: web.Request) -> web.Response:
        if (text := answers.get(request.path)) is None:
            raise web.HTTPServiceUnavailable
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get("/{name}", answer)
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


async def async_start(hass: HomeAssistant, **options: object) -> MockConfigEntry:
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, options=options))
    await async_settle(hass)
    return entry


def state(hass: HomeAssistant, entity_id: str) -> str | None:
    found = hass.states.get(entity_id)
    return None if found is None else found.state


def entities_of(hass: HomeAssistant, gpu_id: str) -> dict[str, er.RegistryEntry]:
    """Return a GPU's entities by their key."""
    prefix = f"{gpus.device_id_of(gpu_id)}_"
    return {
        entity.unique_id.removeprefix(prefix): entity
        for entity in er.async_get(hass).entities.values()
        if entity.unique_id.startswith(prefix)
    }


def device_of(hass: HomeAssistant, entry: MockConfigEntry, gpu_id: str) -> dr.DeviceEntry | None:
    return registered(hass, entry, gpus.device_id_of(gpu_id))


def registered(hass: HomeAssistant, entry: MockConfigEntry, device_id: str) -> dr.DeviceEntry | None:
    return dr.async_get(hass).async_get_device_by_identifier((DOMAIN, device_id), entry.entry_id)


def issue(hass: HomeAssistant) -> str | None:
    """Return the one issue there is about GPUs."""
    found = [issue for (_, issue_id), issue in ir.async_get(hass).issues.items() if issue_id.startswith("gpu_")]
    assert len(found) <= 1
    return found[0].translation_key if found else None


async def test_all_entities(
    hass: HomeAssistant, driver: FakeDriver, snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Entity, "entity_registry_enabled_default", True)
    driver.gpus(GPU)
    entry = await async_start(hass)
    assert device_of(hass, entry, GPU) == snapshot(name="device")
    entities = sorted(entities_of(hass, GPU).values(), key=lambda entity: entity.entity_id)
    for entity in entities:
        assert entity == snapshot(name=f"{entity.entity_id}-entry")
        assert hass.states.get(entity.entity_id) == snapshot(name=f"{entity.entity_id}-state")


async def test_what_is_enabled(hass: HomeAssistant, driver: FakeDriver) -> None:
    driver.gpus(GPU)
    await async_start(hass)
    enabled = {key for key, entity in entities_of(hass, GPU).items() if entity.disabled_by is None}
    assert enabled == {
        "gpu_utilization",
        "gpu_memory_used",
        "gpu_memory_utilization",
        "gpu_temperature",
        "gpu_power",
        "gpu_energy",
        "gpu_throttled",
    }


async def test_only_what_the_gpu_answers_for(hass: HomeAssistant, driver: FakeDriver) -> None:
    driver.gpus(GPU, **{**dict.fromkeys(FULL), "name": "NVIDIA T4", "temperature": 40, "fan": fake.UNKNOWN})
    await async_start(hass)
    assert set(entities_of(hass, GPU)) == {"gpu_temperature"}
    driver.set(GPU, fan=33, temperature=fake.UNKNOWN)
    await async_pass(hass)
    assert set(entities_of(hass, GPU)) == {"gpu_temperature", "gpu_fan_speed"}
    assert state(hass, "sensor.nvidia_t4_temperature") == "unknown"


async def test_throttled(hass: HomeAssistant, driver: FakeDriver) -> None:
    driver.gpus(GPU)
    await async_start(hass)
    assert state(hass, "binary_sensor.nvidia_t4_throttled") == STATE_OFF  # a power cap is how it is meant to run
    driver.set(GPU, reasons=0x4 | 0x20)
    await async_pass(hass)
    assert state(hass, "binary_sensor.nvidia_t4_throttled") == STATE_ON


async def test_no_gpu_leaves_no_trace(hass: HomeAssistant, caplog: pytest.LogCaptureFixture) -> None:
    """As on most machines: no library, no device, no issue, no line in the log."""
    caplog.set_level(logging.INFO)
    entry = await async_start(hass)
    await async_pass(hass, gpus.LOOK_AFTER)
    devices = dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    assert {identifier for device in devices for _, identifier in device.identifiers} == {
        entry.entry_id,
        *entry.subentries,
    }
    assert issue(hass) is None
    assert "GPU" not in "".join(caplog.messages)


async def test_a_gpu_comes_goes_is_removed_and_comes_back(
    hass: HomeAssistant, driver: FakeDriver, hass_ws_client: WebSocketGenerator
) -> None:
    assert await async_setup_component(hass, "config", {})
    driver.gpus(GPU)
    entry = await async_start(hass)
    assert state(hass, "sensor.nvidia_t4_power") == "32.5"
    driver.gpus(GPU, OTHER_GPU)
    await async_pass(hass)
    assert state(hass, "sensor.nvidia_t4_power_2") == "32.5"

    async def remove(removed: dr.DeviceEntry | None) -> bool:
        assert removed is not None
        client = await hass_ws_client()
        answer = await client.remove_device(removed.id)
        await hass.async_block_till_done()
        return bool(answer["success"])

    assert not await remove(device_of(hass, entry, OTHER_GPU))
    driver.gpus(GPU)
    await async_pass(hass)
    assert state(hass, "sensor.nvidia_t4_power") == "32.5"
    assert state(hass, "sensor.nvidia_t4_power_2") == STATE_UNAVAILABLE
    assert await remove(device_of(hass, entry, OTHER_GPU))
    assert entities_of(hass, OTHER_GPU) == {}
    for own in (entry.entry_id, *entry.subentries):
        if found := registered(hass, entry, own):
            assert not await remove(found)
    driver.gpus(GPU, OTHER_GPU)
    await async_pass(hass)
    await async_pass(hass)
    assert device_of(hass, entry, OTHER_GPU) is not None
    assert len(entities_of(hass, OTHER_GPU)) == len(entities_of(hass, GPU))
    assert state(hass, entities_of(hass, OTHER_GPU)["gpu_power"].entity_id) == "32.5"


async def test_gone_after_a_restart(hass: HomeAssistant, driver: FakeDriver) -> None:
    driver.gpus(GPU)
    entry = await async_start(hass)
    assert await hass.config_entries.async_unload(entry.entry_id)
    driver.gpus()
    assert await hass.config_entries.async_setup(entry.entry_id)
    await async_settle(hass)
    assert state(hass, "sensor.nvidia_t4_power") == STATE_UNAVAILABLE
    driver.gpus(GPU)
    await async_pass(hass, gpus.LOOK_AFTER + timedelta(seconds=1))
    assert state(hass, "sensor.nvidia_t4_power") == "32.5"


async def test_mig_instances_stand_below_their_gpu(hass: HomeAssistant, driver: FakeDriver) -> None:
    driver.gpus(GPU, mig_mode=1, mig_count=2, mig=f"- {INSTANCE}")
    driver.set(INSTANCE, name="NVIDIA A100 MIG 1g.5gb", memory=f"{5 * GIGABYTE} 0 {GIGABYTE}")
    entry = await async_start(hass)
    gpu, instance = device_of(hass, entry, GPU), device_of(hass, entry, INSTANCE)
    assert gpu is not None
    assert instance is not None
    assert gpu.via_device_id == entry.runtime_data.hub_id
    assert instance.via_device_id == gpu.id
    assert state(hass, "sensor.nvidia_a100_mig_1g_5gb_memory_usage") == "20.0"


async def test_driver_update(hass: HomeAssistant, driver: FakeDriver) -> None:
    driver.gpus(GPU)
    entry = await async_start(hass)
    driver.set("system", driver="570.86.10")
    driver.set(GPU, power="!1")
    await async_pass(hass)
    driver.set(GPU, power=33_000)
    await async_pass(hass)
    device = device_of(hass, entry, GPU)
    assert device is not None
    assert device.sw_version == "570.86.10"


@pytest.mark.parametrize(
    ("subject", "key", "fault", "problem"),
    [
        ("system", "gpus", fake.VERSION_MISMATCH, "gpu_driver_mismatch"),
        (GPU, "handle", fake.GPU_IS_LOST, "gpu_lost"),
        (GPU, "power", fake.GPU_IS_LOST, "gpu_lost"),
    ],
)
async def test_trouble_and_recovery(
    hass: HomeAssistant,
    driver: FakeDriver,
    caplog: pytest.LogCaptureFixture,
    subject: str,
    key: str,
    fault: str,
    problem: str,
) -> None:
    caplog.set_level(logging.INFO)
    driver.gpus(GPU)
    await async_start(hass)
    driver.set(subject, **{key: fault})
    for _ in range(3):
        await async_pass(hass)
    assert state(hass, "sensor.nvidia_t4_power") == STATE_UNAVAILABLE
    assert issue(hass) == problem
    driver.gpus(GPU, handle=None)
    await async_pass(hass)
    await async_pass(hass)
    assert state(hass, "sensor.nvidia_t4_power") == "32.5"
    assert issue(hass) is None
    said = [line for line in caplog.messages if line.startswith("GPU readings of")]
    assert [line.split()[4] for line in said] == ["fail:", "are"]


async def test_a_driver_that_goes_is_an_issue_when_it_stays_away(hass: HomeAssistant, driver: FakeDriver) -> None:
    driver.gpus(GPU)
    await async_start(hass)
    driver.set("system", init=fake.DRIVER_NOT_LOADED, gpus=fake.DRIVER_NOT_LOADED)
    await async_pass(hass)
    assert state(hass, "sensor.nvidia_t4_power") == STATE_UNAVAILABLE
    assert issue(hass) is None
    await async_pass(hass, timedelta(minutes=6))
    assert issue(hass) == "gpu_no_driver"
    driver.set("system", init=None)
    driver.gpus(GPU)
    await async_pass(hass)
    assert issue(hass) is None
    assert state(hass, "sensor.nvidia_t4_power") == "32.5"


async def test_a_hung_driver_costs_its_figures_alone(
    hass: HomeAssistant, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.gpus(GPU)
    entry = await async_start(hass)
    source = next(iter(entry.runtime_data.gpus._sources.values())).source
    monkeypatch.setattr(source, "_patience", 0.05)
    driver.set(GPU, power=fake.HANG)
    await async_pass(hass)
    assert state(hass, "sensor.nvidia_t4_power") == STATE_UNAVAILABLE
    await async_pass(hass, timedelta(minutes=6))
    assert issue(hass) == "gpu_hung"
    # It can be unloaded, and the thread ends when the call comes back.
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert issue(hass) is None
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "nvml")
    driver.set(GPU, power=1000)
    await hass.async_add_executor_job(thread.join, 10)
    assert not thread.is_alive()


async def test_nothing_is_read_while_nobody_wants_it(
    hass: HomeAssistant,
    driver: FakeDriver,
    hass_ws_client: WebSocketGenerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Entity, "entity_registry_enabled_default", False)
    driver.gpus(GPU)
    entry = await async_start(hass)
    assert entities_of(hass, GPU)
    read = driver.calls("utilization")
    for _ in range(3):
        await async_pass(hass)
    assert driver.calls("utilization") == read
    # The driver is let go of, so that the GPU may sleep.
    closed = driver.calls("shutdown")
    await async_pass(hass, gpus.REST_AFTER + timedelta(seconds=1))
    assert driver.calls("shutdown") == closed + 1
    assert [thread for thread in threading.enumerate() if thread.name == "nvml"] == []
    # A client of the channel that chose other types wakes nothing.
    other = await hass_ws_client()
    await other.send_json_auto_id(
        {"type": "nemotron_security/system/subscribe", "types": ["camera_status", "pipeline_status"]}
    )
    assert (await other.receive_json())["success"]
    for _ in range(3):
        await async_pass(hass)
    assert driver.calls("utilization") == read
    # One that did not choose has a reading at once, then one in each interval.
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": "nemotron_security/system/subscribe"})
    while (await client.receive_json()).get("event", {}).get("type") != "gpu_stats":
        pass
    assert driver.calls("utilization") == read + 1
    for _ in range(3):
        await async_pass(hass)
    assert driver.calls("utilization") == read + 4
    system = entry.runtime_data.system
    assert [message.type for message in system.present()].count("gpu_stats") == 1
    await client.send_json_auto_id({"type": "unsubscribe_events", "subscription": 1})
    while system.connections > 1:
        await async_settle(hass)
    await async_pass(hass, gpus.REST_AFTER + timedelta(seconds=1))
    assert driver.calls("utilization") == read + 4
    # What nobody refreshes is not handed out as the present.
    assert "gpu_stats" not in [message.type for message in system.present()]


async def test_the_interval_is_an_option(hass: HomeAssistant, driver: FakeDriver) -> None:
    driver.gpus(GPU)
    entry = await async_start(hass, gpu_interval=30)
    read = driver.calls("utilization")
    await async_pass(hass, timedelta(seconds=20))
    assert driver.calls("utilization") == read
    await async_pass(hass, timedelta(seconds=31))
    assert driver.calls("utilization") == read + 1
    hass.config_entries.async_update_entry(entry, options={"gpu_interval": 1})
    await async_settle(hass)
    await async_pass(hass, timedelta(seconds=31))
    await async_pass(hass, timedelta(seconds=2))
    assert driver.calls("utilization") == read + 3


async def test_nothing_is_written_when_nothing_changed(hass: HomeAssistant, driver: FakeDriver) -> None:
    driver.gpus(GPU)
    await async_start(hass)
    written = async_capture_events(hass, EVENT_STATE_CHANGED)
    for _ in range(3):
        await async_pass(hass)
    assert [event.data["entity_id"] for event in written if "nvidia" in event.data["entity_id"]] == []


async def test_of_a_gpu_without_known_memory_the_channel_is_not_told(hass: HomeAssistant, driver: FakeDriver) -> None:
    """The contract has no null for memory, and a figure is never made up."""
    driver.gpus(GPU)
    entry = await async_start(hass)
    system = entry.runtime_data.system
    assert "gpu_stats" in [message.type for message in system.present()]
    driver.set(GPU, memory=None)
    await async_pass(hass)
    assert "gpu_stats" not in [message.type for message in system.present()]
    assert state(hass, "sensor.nvidia_t4_power") == "32.5"


async def test_other_machines(hass: HomeAssistant, driver: FakeDriver) -> None:
    """The same GPU of two servers is one, and its energy is the count of one of them."""
    uuid = "GPU-b7c1d2e3-0000-4a5e-8f6d-3c1f2a9b7e10"
    dcgm = (
        f'DCGM_FI_DEV_GPU_TEMP{{UUID="{uuid}",modelName="NVIDIA L4"}} 44\n'
        f'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{UUID="{uuid}",modelName="NVIDIA L4"}} 3600000000\n'
    )
    answers = {
        "/dcgm": dcgm,
        "/triton": (ANSWERS / "triton.txt").read_text(),
        "/vllm": (ANSWERS / "vllm.txt").read_text(),
    }
    async with _server(answers) as base:
        entry = await async_start(hass, gpu_urls=[f"{base}{path}" for path in answers])
        assert state(hass, "sensor.nvidia_l4_temperature") == "44.0"
        assert state(hass, "sensor.nvidia_l4_utilization") == "42.0"
        assert state(hass, "sensor.nvidia_l4_energy") == "1.0"
        vllm = "sensor.vllm_nvidia_nvidia_nemotron_nano_12b_v2_vl"
        assert state(hass, f"{vllm}_requests_waiting") == "4"
        assert state(hass, f"{vllm}_kv_cache_usage") == "18.75"
        (reading,) = (reading for reading in entry.runtime_data.gpus.data.values() if reading.is_server)
        device = device_of(hass, entry, reading.gpu_id)
        assert device is not None
        assert (device.manufacturer, device.entry_type) == (None, dr.DeviceEntryType.SERVICE)
        del answers["/dcgm"]
        await async_pass(hass)
        assert state(hass, "sensor.nvidia_l4_utilization") == "42.0"
        # Another server's count would look like one that began anew.
        assert state(hass, "sensor.nvidia_l4_energy") == "unknown"
        await async_pass(hass, timedelta(minutes=6))
        assert issue(hass) == "gpu_bad_answer"
        # A server that is no longer asked has nothing wrong with it.
        hass.config_entries.async_update_entry(entry, options={"gpu_urls": [f"{base}/vllm"]})
        await async_settle(hass)
        assert issue(hass) is None
        await async_pass(hass)
        assert state(hass, "sensor.nvidia_l4_utilization") == STATE_UNAVAILABLE
        assert state(hass, f"{vllm}_requests_waiting") == "4"


async def test_energy_goes_on_when_the_address_is_edited(hass: HomeAssistant, driver: FakeDriver) -> None:
    text = (
        'DCGM_FI_DEV_GPU_TEMP{UUID="GPU-2",modelName="NVIDIA L4"} 44\n'
        'DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{UUID="GPU-2",modelName="NVIDIA L4"} 3600000000\n'
    )
    async with _server({"/old": text, "/new": text}) as url:
        entry = await async_start(hass, gpu_urls=[f"{url}/old"])
        assert state(hass, "sensor.nvidia_l4_energy") == "1.0"
        hass.config_entries.async_update_entry(entry, options={"gpu_urls": [f"{url}/new"]})
        await async_settle(hass)
        await async_pass(hass)
        assert state(hass, "sensor.nvidia_l4_energy") == "1.0"


async def test_a_fault_of_one_source_costs_its_own_gpus(
    hass: HomeAssistant, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    driver.gpus(GPU)
    async with _server({"/metrics": 'DCGM_FI_DEV_GPU_TEMP{UUID="GPU-2",modelName="NVIDIA L4"} 44'}) as url:
        await async_start(hass, gpu_urls=[f"{url}/metrics"])
        assert state(hass, "sensor.nvidia_l4_temperature") == "44.0"
        monkeypatch.setattr(prometheus, "read_metrics", Mock(side_effect=OverflowError))
        driver.set(GPU, power=33_000)
        for _ in range(2):
            await async_pass(hass)
        assert state(hass, "sensor.nvidia_t4_power") == "33.0"
        assert state(hass, "sensor.nvidia_l4_temperature") == STATE_UNAVAILABLE
        await async_pass(hass, timedelta(minutes=6))
        assert issue(hass) == "gpu_bad_answer"
        assert sum("cannot be understood" in line for line in caplog.messages) == 1


async def test_what_is_no_longer_read_is_not_shown(
    hass: HomeAssistant, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.gpus(GPU)
    entry = await async_start(hass)
    monkeypatch.setattr(entry.runtime_data.system, "broadcast_gpu_stats", Mock(side_effect=RuntimeError))
    await async_pass(hass)
    assert state(hass, "sensor.nvidia_t4_power") == STATE_UNAVAILABLE


async def test_diagnostics(hass: HomeAssistant, driver: FakeDriver, hass_client: ClientSessionGenerator) -> None:
    driver.gpus(GPU)
    entry = await async_start(hass, gpu_urls=["http://127.0.0.1:1/metrics"])
    told: Any = await get_diagnostics_for_config_entry(hass, hass_client, entry)
    (reading,) = told["gpus"]["readings"]
    assert (reading["gpu_id"], reading["power"], reading["throttle"]) == (GPU, 32.5, "power_cap")
    assert "python3" not in str(told)
    assert sorted(map(str, told["gpus"]["problems"].values())) == ["None", "gpu_unreachable"]


async def test_after_unload_nothing_is_read(hass: HomeAssistant, driver: FakeDriver) -> None:
    driver.gpus(GPU)
    entry = await async_start(hass)
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert [thread for thread in threading.enumerate() if thread.name == "nvml"] == []
    read = driver.calls("utilization")
    await async_pass(hass, gpus.LOOK_AFTER + timedelta(minutes=1))
    assert driver.calls("utilization") == read
