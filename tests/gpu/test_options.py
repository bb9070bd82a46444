"""How often, and whose GPUs: the options, and that secrets in addresses are shown to nobody."""

from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from ..house import ABSENT_FILE, async_set_up, make_entry

SECRET = "hunter2"
URL = f"http://admin:{SECRET}@gpu-box.example:9400/metrics?token={SECRET}"
HIDDEN_URL = "http://admin:********@gpu-box.example:9400/metrics?token=********"
PLAIN = "http://127.0.0.1:8002/metrics"

pytestmark = pytest.mark.usefixtures("silent_worker", "socket_enabled")


@pytest.fixture
async def entry(hass: HomeAssistant) -> MockConfigEntry:
    return await async_set_up(hass, make_entry(ABSENT_FILE, options={"gpu_urls": [URL]}))


def suggested(result: Any) -> Any:
    """Return what the form shows as the addresses."""
    (marker,) = (marker for marker in result["data_schema"].schema if marker.schema == "gpu_urls")
    return marker.description["suggested_value"]


async def ask(hass: HomeAssistant, entry: MockConfigEntry, **answers: object) -> Any:
    """Open the options, and answer."""
    options = hass.config_entries.options
    result = await options.async_init(entry.entry_id)
    result = await options.async_configure(result["flow_id"], {"next_step_id": "gpus"})
    assert SECRET not in str(result)
    assert suggested(result) == [HIDDEN_URL]
    result = await options.async_configure(result["flow_id"], answers)
    await hass.async_block_till_done()
    return result


async def test_secrets_are_kept_without_being_shown(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    result = await ask(hass, entry, gpu_interval=2, gpu_urls=[PLAIN, f" {HIDDEN_URL} ", "", PLAIN])
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options["gpu_urls"] == [PLAIN, URL]
    assert entry.options["gpu_interval"] == 2
    assert entry.runtime_data.gpus.update_interval.total_seconds() == 2


@pytest.mark.parametrize("answers", [{}, {"gpu_urls": []}, {"gpu_urls": [" "]}])
async def test_none(hass: HomeAssistant, entry: MockConfigEntry, answers: dict[str, object]) -> None:
    result = await ask(hass, entry, **answers)
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options["gpu_urls"] == []
    assert entry.runtime_data.gpus.update_interval.total_seconds() == 5


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("gpu-box:9400/metrics", "invalid_server_url"),
        ("ftp://gpu-box/metrics", "invalid_server_url"),
        ("http://", "invalid_url"),
        ("http://[bad/metrics", "invalid_url"),
        (HIDDEN_URL.replace("gpu-box", "other-box"), "secret_hidden"),
    ],
)
async def test_bad_addresses(hass: HomeAssistant, entry: MockConfigEntry, url: str, error: str) -> None:
    result = await ask(hass, entry, gpu_urls=[HIDDEN_URL, url])
    assert result["errors"] == {"gpu_urls": error}
    assert suggested(result) == [HIDDEN_URL, url]
    assert entry.options == {"gpu_urls": [URL]}


async def test_diagnostics_hold_no_secret(
    hass: HomeAssistant, entry: MockConfigEntry, hass_client: ClientSessionGenerator
) -> None:
    diagnostics = await get_diagnostics_for_config_entry(hass, hass_client, entry)
    assert SECRET not in str(diagnostics)
    assert "gpu-box" not in str(diagnostics)
