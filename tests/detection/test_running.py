"""A system whose detector has an environment of its own: on which Python the worker runs, and what if that is gone."""

import asyncio
from http import HTTPStatus
from pathlib import Path
import shutil
import sysconfig
from typing import Any

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.diagnostics import get_diagnostics_for_config_entry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.nemotron_security import environments
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.detection import environment
from custom_components.nemotron_security.detection.environment import (
    Accelerator,
    Build,
    Environment,
    EnvironmentState,
    Packages,
)
from custom_components.nemotron_security.issues import ISSUE_ENVIRONMENT
from custom_components.nemotron_security.vision.messages import DetectorState, Problem
from demo.home_assistant import MODEL

from ..house import async_report, async_set_up, async_until, make_entry
from .test_environment import wheel

CPU = Build(accelerator=Accelerator.CPU)
ULTRALYTICS = {"detector": {"plugin": "ultralytics", "model": "/models/best.pt"}}
NCNN = {"detector": {"plugin": "ncnn", "model": str(MODEL)}}


@pytest.fixture
def tiny(hass: HomeAssistant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment without what it is for, but with the libraries of this test's: the worker runs in it."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(f"{environment.__name__}.shutil.disk_usage", lambda _: usage._replace(free=50_000_000_000))
    wheel(tmp_path / "packages", "tiny", files={"tiny.pth": sysconfig.get_path("purelib")})
    made = Environment(
        Path(hass.config.cache_path(DOMAIN, "ultralytics")),
        packages=lambda _: Packages(wheels=("tiny",)),
        arguments=("--no-index", "--find-links", str(tmp_path / "packages")),
    )
    hass.data[environments._ENVIRONMENT] = made
    return made


def issue(hass: HomeAssistant) -> ir.IssueEntry | None:
    return ir.async_get(hass).async_get_issue(DOMAIN, "detector")


def interpreter(entry: MockConfigEntry) -> str:
    """Return what the worker's process was started with."""
    pid = entry.runtime_data.executor.pid
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode() if pid else ""


async def test_worker_runs_on_the_python_that_the_detector_needs(hass: HomeAssistant, tiny: Environment) -> None:
    await tiny.async_install(CPU, lambda _: None)
    entry = await async_set_up(hass, make_entry(options=ULTRALYTICS))
    await async_until(lambda: entry.runtime_data.worker)
    assert interpreter(entry) == tiny.python
    # Ultralytics is not in this one: the worker says so, and a person can have it made anew.
    await async_until(lambda: issue(hass))
    hass.config_entries.async_update_entry(entry, options=NCNN)
    await hass.async_block_till_done()
    await async_until(lambda: entry.state is ConfigEntryState.LOADED and entry.runtime_data.worker)
    assert interpreter(entry) != tiny.python
    await async_until(lambda: issue(hass) is None and entry.runtime_data.announcer.pipeline.detector == "running")


@pytest.fixture
async def broken(hass: HomeAssistant, silent_worker: None, tiny: Environment) -> MockConfigEntry:
    """A system after an update of Home Assistant's Python, whose worker says that the detector is not there."""
    await tiny.async_install(CPU, lambda _: None)
    python = Path(tiny.python)
    python.unlink()
    python.symlink_to("/absent/python3.99")
    entry = await async_set_up(hass, make_entry(options=ULTRALYTICS))
    assert await tiny.async_state() is EnvironmentState.BROKEN
    assert entry.runtime_data.executor._members[0].executor._python != tiny.python
    await async_report(hass, entry, DetectorState(problem=Problem.DETECTOR_NOT_INSTALLED, detail="no ultralytics"))
    return entry


class Fix:
    """The flow that repairs an issue, as the frontend drives it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.result: dict[str, Any] = {}

    async def start(self) -> None:
        self.result = await self._ask("post", "/api/repairs/issues/fix", {"handler": DOMAIN, "issue_id": "detector"})

    async def confirm(self) -> None:
        """Confirm, and wait until it is done."""
        url = f"/api/repairs/issues/fix/{self.result['flow_id']}"
        self.result = await self._ask("post", url, {})
        async with asyncio.timeout(30):
            while self.result["type"] == "progress":
                await asyncio.sleep(0.05)
                self.result = await self._ask("get", url)

    async def _ask(self, method: str, url: str, body: object = None) -> dict[str, Any]:
        response = await getattr(self.client, method)(url, **({} if body is None else {"json": body}))
        assert response.status == HTTPStatus.OK
        answer: dict[str, Any] = await response.json()
        return answer


@pytest.fixture
async def fix(hass: HomeAssistant, broken: MockConfigEntry, hass_client: ClientSessionGenerator) -> Fix:
    assert await async_setup_component(hass, "repairs", {})
    return Fix(await hass_client())


async def test_environment_that_is_gone_can_be_made_anew(
    hass: HomeAssistant, broken: MockConfigEntry, fix: Fix, tiny: Environment
) -> None:
    found = issue(hass)
    assert found is not None
    assert found.is_fixable
    assert found.translation_key == ISSUE_ENVIRONMENT
    await fix.start()
    assert fix.result["step_id"] == "confirm"
    assert not fix.result["errors"]
    await fix.confirm()
    assert fix.result["type"] == "create_entry"
    await hass.async_block_till_done()
    assert await tiny.async_state() is EnvironmentState.READY
    assert await tiny.async_build() == CPU
    # The system runs on it now, and whatever is wrong still, it says anew.
    assert broken.runtime_data.executor._members[0].executor._python == tiny.python
    assert issue(hass) is None


async def test_repair_that_fails_says_why_and_can_be_tried_again(
    hass: HomeAssistant, fix: Fix, tiny: Environment, tmp_path: Path
) -> None:
    (packages,) = (tmp_path / "packages").iterdir()
    packages.rename(tmp_path / packages.name)
    await fix.start()
    await fix.confirm()
    assert fix.result["step_id"] == "confirm"
    assert fix.result["errors"] == {"base": "environment_failed"}
    assert "tiny" in fix.result["description_placeholders"]["detail"]
    assert issue(hass) is not None
    (tmp_path / packages.name).rename(packages)
    await fix.confirm()
    assert fix.result["type"] == "create_entry"
    await hass.async_block_till_done()
    assert await tiny.async_state() is EnvironmentState.READY


async def test_repair_that_fails_as_nobody_foresaw_can_be_tried_again(
    hass: HomeAssistant, fix: Fix, tiny: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fix.start()
    with monkeypatch.context() as patched:
        patched.setattr(tiny, "async_install", LookupError)
        await fix.confirm()
    assert fix.result["step_id"] == "confirm"
    assert fix.result["errors"] == {"base": "unknown"}
    await fix.confirm()
    assert fix.result["type"] == "create_entry"
    await hass.async_block_till_done()


async def test_what_is_not_installed_of_another_detector_cannot_be_repaired_so(
    hass: HomeAssistant, silent_worker: None
) -> None:
    entry = await async_set_up(hass, make_entry(options={"detector": {"plugin": "theirs"}}))
    await async_report(hass, entry, DetectorState(problem=Problem.DETECTOR_NOT_INSTALLED, detail="no theirs"))
    found = issue(hass)
    assert found is not None
    assert not found.is_fixable
    assert found.translation_key == Problem.DETECTOR_NOT_INSTALLED


async def test_environment_goes_with_the_entry(hass: HomeAssistant, silent_worker: None, tiny: Environment) -> None:
    await tiny.async_install(CPU, lambda _: None)
    entry = await async_set_up(hass, make_entry(options=ULTRALYTICS))
    await hass.config_entries.async_remove(entry.entry_id)
    await hass.async_block_till_done()
    assert await tiny.async_state() is EnvironmentState.ABSENT


@pytest.mark.usefixtures("silent_worker")
async def test_diagnostics_tell_of_the_environment_and_no_secret(
    hass: HomeAssistant, tiny: Environment, hass_client: ClientSessionGenerator
) -> None:
    secret = "hunter2"
    options = {"detector": {"plugin": "triton", "urls": [f"http://a:{secret}@b/?token={secret}"], "token": secret}}
    entry = await async_set_up(hass, make_entry(options=options))
    told: Any = await get_diagnostics_for_config_entry(hass, hass_client, entry)
    assert told["detector"]["environment"] == "absent"
    assert told["entry"]["options"]["detector"]["plugin"] == "triton"
    assert secret not in str(told)
