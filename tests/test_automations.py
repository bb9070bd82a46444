"""The automations in the documentation do what they say, in Home Assistant's own automation component."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial
import json
from pathlib import Path
import re
import shutil
import time
from typing import Any

from homeassistant.components.automation.config import async_validate_config_item
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_capture_events,
    async_fire_time_changed,
    async_mock_service,
)
import yaml

from custom_components.nemotron_security.const import DOMAIN, EVENT_CAMERA_STATUS, EVENT_DETECTION, EVENT_INCIDENT
from custom_components.nemotron_security.models import Assessment, Incident
from custom_components.nemotron_security.vision.messages import CameraState, CameraStatus, Problem

from .house import (
    ABSENT_FILE,
    CAMERA,
    async_report,
    async_set_up,
    async_settle,
    async_until,
    frame,
    make_entry,
    online,
    person,
    picture_of,
)

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str, *names: str) -> list[Any]:
    """Return the code blocks of a language in these documents, parsed."""
    parse: Callable[[str], Any] = yaml.safe_load if language == "yaml" else json.loads
    texts = [(DOCS / name).read_text() for name in names]
    return [parse(body) for text in texts for tag, body in BLOCK.findall(text) if tag == language]


def automations() -> list[dict[str, Any]]:
    """Return the documented automations; some are written as a part of configuration.yaml."""
    found = blocks("yaml", "automations.md", "getting-started.md")
    return [item for block in found for item in (block.get("automation") or [block])]


AUTOMATIONS = {automation["alias"]: automation for automation in automations()}


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None) -> MockConfigEntry:
    """One camera, for whose worker the test speaks, and the domains that the examples use."""
    for domain in ("persistent_notification", "light", "notify"):
        assert await async_setup_component(hass, domain, {})
    return await async_set_up(hass, make_entry(ABSENT_FILE))


async def load(hass: HomeAssistant, alias: str) -> None:
    """Let Home Assistant run a documented automation."""
    assert await async_setup_component(hass, "automation", {"automation": [AUTOMATIONS[alias]]})
    await hass.async_block_till_done()
    states = hass.states.async_all("automation")
    assert [(state.name, state.state) for state in states] == [(alias, "on")]


def lost() -> CameraState:
    return CameraState(
        camera_id=CAMERA, status=CameraStatus.OFFLINE, at=time.time(), problem=Problem.SOURCE_STALLED, detail=""
    )


def test_there_are_examples() -> None:
    assert len(AUTOMATIONS) >= 6


@pytest.mark.parametrize("alias", AUTOMATIONS)
async def test_automation_is_valid(hass: HomeAssistant, entry: MockConfigEntry, alias: str) -> None:
    assert await async_setup_component(hass, "automation", {})
    validated = await async_validate_config_item(hass, alias, AUTOMATIONS[alias])
    assert validated is not None
    assert validated.validation_error is None


async def test_notification_with_picture(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    calls = async_mock_service(hass, "notify", "mobile_app_phone")
    # Armed and nobody at home: a person makes it serious, a car does not.
    hass.states.async_set("alarm_control_panel.home", "armed_away")
    hass.states.async_set("person.owner", "not_home")
    await load(hass, "Serious incident at the front door")
    now = time.time()
    await async_report(hass, entry, online(), frame(person(1, at=now, label="car"), at=now))
    assert hass.states.get("event.front_door_incident") is not None
    assert calls == []
    await async_report(hass, entry, frame(person(2, at=now + 2), at=now + 2), picture_of(2, at=now + 2))
    assert calls
    data = calls[-1].data
    incident_id = hass.states.get("event.front_door_incident").attributes["incident_id"]  # type: ignore[union-attr]
    assert data["title"]
    assert data["message"]
    assert data["data"] == {
        "tag": f"incident-{incident_id}",
        "image": "/api/image_proxy/image.front_door_last_incident",
    }
    assert hass.states.get("image.front_door_last_incident").state != "unknown"  # type: ignore[union-attr]
    # Nothing new happened by a restart.
    calls.clear()
    assert await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert calls == []


@pytest.mark.parametrize(("button", "feedback"), [("Harmless", "false_alarm"), ("Serious", "serious")])
async def test_mark_from_the_notification(
    hass: HomeAssistant, entry: MockConfigEntry, button: str, feedback: str
) -> None:
    calls = async_mock_service(hass, "notify", "mobile_app_phone")
    both = ["Ask about the front door", "What the phone says of an incident"]
    assert await async_setup_component(hass, "automation", {"automation": [AUTOMATIONS[alias] for alias in both]})
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    (call,) = calls
    await press(hass, entry, call, button)
    assert (await only_incident(entry)).feedback == feedback


@pytest.mark.parametrize(("button", "feedback"), [("Harmless", "false_alarm"), ("Serious", "serious")])
async def test_blueprint_asks_and_hears(
    hass: HomeAssistant, entry: MockConfigEntry, button: str, feedback: str
) -> None:
    """Home Assistant's own loader reads the file from where the documentation puts it."""
    calls = async_mock_service(hass, "notify", "mobile_app_phone")
    folder = Path(hass.config.path("blueprints", "automation", DOMAIN))
    await hass.async_add_executor_job(partial(folder.mkdir, parents=True, exist_ok=True))
    await hass.async_add_executor_job(shutil.copy, DOCS / "examples" / "ask_about_incidents.yaml", folder)
    inputs = {"incidents": ["event.front_door_incident"], "notifier": "notify.mobile_app_phone", "minimum_risk": 40}
    use = {"alias": "Ask", "use_blueprint": {"path": f"{DOMAIN}/ask_about_incidents.yaml", "input": inputs}}
    assert await async_setup_component(hass, "automation", {"automation": [use]})
    await hass.async_block_till_done()
    assert [state.state for state in hass.states.async_all("automation")] == ["on"]
    now = time.time()
    await async_report(hass, entry, online(), frame(person(1, at=now, label="cat"), at=now))
    assert calls == []
    hass.states.async_set("alarm_control_panel.home", "armed_away")
    await async_report(hass, entry, frame(person(2, at=now + 2), at=now + 2), picture_of(2, at=now + 2))
    incident = await only_incident(entry)
    assert calls[-1].data["data"]["image"] == "/api/image_proxy/image.front_door_last_incident"
    assert hass.states.get("image.front_door_last_incident") is not None
    asked = len(calls)
    await press(hass, entry, calls[-1], button)
    reviewed = await only_incident(entry)
    assert (reviewed.id, reviewed.feedback) == (incident.id, feedback)
    assert reviewed.reviewed_at is not None
    assert len(calls) == asked, "who said what it was needs no other notification"


async def press(hass: HomeAssistant, entry: MockConfigEntry, notification: ServiceCall, title: str) -> None:
    """Let a phone say that a button of a notification was pressed, among others that are none of ours."""
    (pressed,) = (button["action"] for button in notification.data["data"]["actions"] if button["title"] == title)
    for action in ("SOMETHING_ELSE", "NEMOTRON_HARMLESS_x", "NEMOTRON_SERIOUS_", pressed):
        hass.bus.async_fire("mobile_app_notification_action", {"action": action})
    hass.bus.async_fire("mobile_app_notification_action", {})
    await async_settle(hass, entry)


async def only_incident(entry: MockConfigEntry) -> Incident:
    found: list[Incident] = await entry.runtime_data.store.async_incidents()
    (incident,) = found
    return incident


async def test_what_was_reviewed_is_no_news(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    calls = async_mock_service(hass, "notify", "mobile_app_phone")
    both = ["Serious incident at the front door", "Any critical incident"]
    assert await async_setup_component(hass, "automation", {"automation": [AUTOMATIONS[alias] for alias in both]})
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    (incident,) = await entry.runtime_data.store.async_incidents()
    verdict = Assessment(
        analyzer="nemotron", risk_score=90, title="Burglar", summary="", reasoning=None, created_at=dt_util.utcnow()
    )
    await entry.runtime_data.incidents.async_apply(incident.id, verdict)
    await async_settle(hass, entry)
    assert len(calls) == 2
    review = {"incident_id": incident.id, "feedback": "serious"}
    await hass.services.async_call(DOMAIN, "review_incident", review, blocking=True)
    await async_settle(hass, entry)
    assert hass.states.get("event.front_door_incident").attributes["reviewed"] is True  # type: ignore[union-attr]
    assert len(calls) == 2


async def test_light_while_somebody_is_there_at_night(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    on, off = (async_mock_service(hass, "light", service) for service in ("turn_on", "turn_off"))
    await load(hass, "Light at the front door")
    now = time.time()
    hass.states.async_set("sun.sun", "above_horizon")
    await async_report(hass, entry, online(), frame(person(at=now), at=now), frame(at=now + 1))
    assert on == []

    hass.states.async_set("sun.sun", "below_horizon")
    # From here on the automation runs, so the test waits for what it does instead of for its end.
    entry.runtime_data._handle_report(frame(person(at=now + 2), at=now + 2))
    await async_until(lambda: on)
    entry.runtime_data._handle_report(frame(at=now + 3))
    await async_until(lambda: hass.states.get("binary_sensor.front_door_person").state == "off")  # type: ignore[union-attr]
    await asyncio.sleep(0)
    assert off == []
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=61))
    await async_until(lambda: off)
    await hass.async_block_till_done()
    assert [call.data["entity_id"] for call in (*on, *off)] == [["light.porch"]] * 2


async def test_somebody_in_the_driveway(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    on = async_mock_service(hass, "light", "turn_on")
    hass.states.async_set("sun.sun", "below_horizon")
    await load(hass, "Somebody in the driveway at night")
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now, visited=("Porch",)), at=now))
    assert on == []
    await async_report(hass, entry, frame(person(at=now + 2, visited=("Porch", "Driveway")), at=now + 2))
    assert len(on) == 1


async def test_frigate_sees_a_person(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    told = async_capture_events(hass, EVENT_INCIDENT)
    await async_report(hass, entry, online())
    await load(hass, "Frigate sees a person at the front door")
    hass.bus.async_fire("frigate_person", {"camera": "back"})
    hass.bus.async_fire("frigate_person", {"camera": "front"})
    await hass.async_block_till_done()
    await async_settle(hass, entry)
    assert [(event.data["change"], event.data["trigger"]) for event in told] == [("started", "Frigate saw a person")]


async def test_camera_that_is_gone(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    calls: list[ServiceCall] = async_mock_service(hass, "persistent_notification", "create")

    async def wait(seconds: float) -> list[ServiceCall]:
        async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=seconds))
        await hass.async_block_till_done()
        return calls

    await load(hass, "Camera at the front door is gone")
    await async_report(hass, entry, online(), lost(), online())
    assert await wait(301) == []
    await async_report(hass, entry, lost())
    assert await wait(290) == []
    assert len(await wait(301)) == 1


async def test_any_critical_incident(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    calls = async_mock_service(hass, "notify", "mobile_app_phone")
    await load(hass, "Any critical incident")
    hass.states.async_set("alarm_control_panel.home", "triggered")
    now = time.time()
    await async_report(hass, entry, online(), frame(person(1, at=now), at=now))
    assert len(calls) == 1
    assert calls[0].data["data"]["tag"].startswith("incident-")


async def test_payloads_are_as_documented(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    captured = [async_capture_events(hass, name) for name in (EVENT_INCIDENT, EVENT_DETECTION, EVENT_CAMERA_STATUS)]
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now), lost())
    documented = blocks("json", "automations.md")
    assert [list(events[0].data) for events in captured] == [list(payload) for payload in documented]
