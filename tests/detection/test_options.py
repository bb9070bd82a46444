"""What the options say of the detector, and entries of before."""

from typing import Any

from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.detection.options import detector_config, migrated
from custom_components.nemotron_security.vision.messages import DetectorConfig

from ..house import async_set_up


@pytest.mark.parametrize("options", [{}, {"detector": None}, {"detector": {}}, {"quiet_time": 10}])
def test_no_detector(options: dict[str, Any]) -> None:
    assert detector_config(options) is None


def test_detector() -> None:
    chosen = {"plugin": "triton", "model": "yolo", "urls": ["http://a", "http://b"], "token": "t", "labels": ["person"]}
    assert detector_config({"detector": chosen}) == DetectorConfig(
        plugin="triton", model="yolo", urls=("http://a", "http://b"), token="t", labels=("person",)
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"detector_model": ""}, {}),
        ({"detector_model": "/m", "quiet_time": 5}, {"detector": {"plugin": "ncnn", "model": "/m"}, "quiet_time": 5}),
        ({"detector": {"plugin": "triton"}}, {"detector": {"plugin": "triton"}}),
    ],
)
def test_options_of_before(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert migrated(before) == after


async def test_an_entry_of_before_is_migrated_once(hass: HomeAssistant, silent_worker: None) -> None:
    entry = MockConfigEntry(
        domain=DOMAIN,
        data={"analyzer": "rules"},
        options={"detector_model": "/models/yolo", "gpu_urls": ["http://gpu/metrics"]},
        version=1,
        minor_version=1,
    )
    await async_set_up(hass, entry)
    assert (entry.version, entry.minor_version) == (1, 2)
    assert entry.options == {
        "detector": {"plugin": "ncnn", "model": "/models/yolo"},
        "gpu_urls": ["http://gpu/metrics"],
    }
    assert entry.runtime_data.executor._detector == DetectorConfig(plugin="ncnn", model="/models/yolo")
    assert await hass.config_entries.async_reload(entry.entry_id)
    assert entry.minor_version == 2
