"""The actions, as automations, people and others call them."""

from dataclasses import replace
from io import BytesIO
import re
from typing import Any

from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized, UnknownUser
from PIL import Image
import probatio as vol
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser, async_capture_events

from custom_components.nemotron_security.const import DOMAIN, EVENT_INCIDENT
from custom_components.nemotron_security.models import Feedback, Incident
from custom_components.nemotron_security.reviews import MAXIMUM_NOTE
from custom_components.nemotron_security.services import SERVICE_PREVIEW_PROMPT, SERVICE_REVIEW_INCIDENT

from .house import ABSENT_FILE, CAMERA, async_report, async_set_up, frame, make_entry, online, person, picture_of

NOW = 1_795_435_200.0
READ, CONTROL = {"read": True}, {"control": True}


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None) -> MockConfigEntry:
    """A camera before which somebody stands."""
    entry = await async_set_up(hass, make_entry(ABSENT_FILE))
    await async_report(hass, entry, online(at=NOW), frame(person(at=NOW), at=NOW))
    return entry


async def review(hass: HomeAssistant, *, user: str | None = None, **data: Any) -> None:
    """Call the action and wait for its end."""
    await hass.services.async_call(
        DOMAIN, SERVICE_REVIEW_INCIDENT, {"incident_id": 1} | data, blocking=True, context=Context(user_id=user)
    )


async def stored(entry: MockConfigEntry) -> Incident:
    """Return the incident."""
    incident: Incident = await entry.runtime_data.store.async_incident(1)
    return incident


async def test_review(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    events = async_capture_events(hass, EVENT_INCIDENT)
    await review(hass, feedback="false_alarm", note="The postman.")
    incident = await stored(entry)
    assert incident.reviewed_at is not None
    assert (incident.feedback, incident.note) == (Feedback.FALSE_ALARM, "The postman.")
    await hass.async_block_till_done()
    assert [(event.data["change"], event.data["id"], event.data["feedback"]) for event in events] == [
        ("updated", 1, "false_alarm")
    ]
    await review(hass, reviewed=False)
    incident = await stored(entry)
    assert (incident.reviewed_at, incident.feedback, incident.note) == (None, None, None)


async def test_what_templates_give(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    await review(hass, incident_id="1", reviewed="on", note=7)
    assert (await stored(entry)).note == "7"


@pytest.mark.parametrize(
    "data",
    [
        {"incident_id": 0},
        {"incident_id": 2**63},
        {"incident_id": "first"},
        {"reviewed": "perhaps"},
        {"feedback": "harmless"},
        {"note": "x" * (MAXIMUM_NOTE + 1)},
        {"score": 1},
    ],
    ids=str,
)
async def test_invalid_data(hass: HomeAssistant, entry: MockConfigEntry, data: dict[str, Any]) -> None:
    with pytest.raises(vol.Invalid):
        await review(hass, **data)
    assert (await stored(entry)).reviewed_at is None


async def test_feedback_of_nobody_who_looked(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    with pytest.raises(ServiceValidationError) as raised:
        await review(hass, reviewed=False, feedback="false_alarm")
    assert raised.value.translation_key == "review_contradictory"
    assert (await stored(entry)).feedback is None


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        (READ | CONTROL, None),
        (READ, Unauthorized),
        (CONTROL, ServiceValidationError),
        ({}, ServiceValidationError),
    ],
    ids=str,
)
async def test_permissions(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    hass_read_only_user: MockUser,
    policy: dict[str, bool],
    refusal: type[HomeAssistantError] | None,
) -> None:
    hass_read_only_user.mock_policy({"entities": {"entity_ids": {"camera.front_door": policy}}})
    if refusal is None:
        await review(hass, user=hass_read_only_user.id)
    else:
        with pytest.raises(refusal) as raised:
            await review(hass, user=hass_read_only_user.id)
        if refusal is ServiceValidationError:  # as if there were no such incident
            assert raised.value.translation_key == "incident_not_found"
    assert ((await stored(entry)).reviewed_at is not None) is (refusal is None)


async def test_administrator_and_nobody(hass: HomeAssistant, entry: MockConfigEntry, hass_admin_user: MockUser) -> None:
    await review(hass, user=hass_admin_user.id, note="Mine")
    assert (await stored(entry)).note == "Mine"
    with pytest.raises(UnknownUser):
        await review(hass, user="gone", note="Nobody's")
    assert (await stored(entry)).note == "Mine"


async def test_no_such_incident(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    with pytest.raises(ServiceValidationError) as raised:
        await review(hass, incident_id=999)
    assert raised.value.translation_key == "incident_not_found"
    assert str(raised.value).startswith("There is no such incident")


async def test_store_that_does_not_answer(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    await entry.runtime_data.store.async_close()
    with pytest.raises(HomeAssistantError) as raised:
        await review(hass)
    assert raised.value.translation_key == "review_not_stored"


async def test_integration_that_does_not_run(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert await hass.config_entries.async_unload(entry.entry_id)
    with pytest.raises(ServiceValidationError) as raised:
        await review(hass)
    assert raised.value.translation_key == "not_loaded"


async def preview(hass: HomeAssistant, incident_id: int = 1, *, user: str | None = None) -> Any:
    """Call the action and return its response."""
    return await hass.services.async_call(
        DOMAIN,
        SERVICE_PREVIEW_PROMPT,
        {"incident_id": incident_id},
        blocking=True,
        return_response=True,
        context=Context(user_id=user),
    )


async def test_preview(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    await async_report(hass, entry, picture_of(1, at=NOW))
    hass.config_entries.async_update_subentry(
        entry, entry.subentries[CAMERA], data={**ABSENT_FILE, "note": "The postman comes at noon."}
    )
    answer = await preview(hass)
    system, user = answer["messages"]
    assert system["role"] == "system"
    facts, caption, picture = user["content"]
    assert 'Camera: "Front door"' in facts["text"]
    assert '"The postman comes at noon."' in facts["text"]
    assert caption["text"].startswith("Picture 1 of 1")
    assert re.fullmatch(r"JPEG, 64x36 pixels, \d+ bytes", picture["image_url"]["url"])


@pytest.mark.usefixtures("silent_worker", "socket_enabled")
async def test_preview_is_of_what_the_model_can_take(hass: HomeAssistant) -> None:
    server = {"analyzer": "nemotron", "url": "http://127.0.0.1:1", "model": "tiny"}
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, data=server))
    await async_report(hass, entry, online(at=NOW), frame(person(at=NOW), at=NOW), picture_of(1, at=NOW))
    system, user = (await preview(hass))["messages"]
    assert "It must match this JSON schema" in system["content"]
    assert "Picture 1" not in user["content"]


@pytest.mark.usefixtures("silent_worker", "socket_enabled")
@pytest.mark.parametrize(("length", "size"), [(None, "1280x720"), (2200, "1024x576")])
async def test_preview_shows_pictures_as_large_as_fits(hass: HomeAssistant, length: int | None, size: str) -> None:
    capabilities = {"schema": True, "images": True, "context_length": length}
    server = {"analyzer": "nemotron", "url": "http://127.0.0.1:1", "model": "tiny", "capabilities": capabilities}
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, data=server))
    buffer = BytesIO()
    Image.new("RGB", (1280, 720)).save(buffer, "JPEG")
    picture = replace(picture_of(1, at=NOW), width=1280, height=720, data=buffer.getvalue())
    await async_report(hass, entry, online(at=NOW), frame(person(at=NOW), at=NOW), picture)
    _, user = (await preview(hass))["messages"]
    assert user["content"][2]["image_url"]["url"].startswith(f"JPEG, {size} pixels")


@pytest.mark.usefixtures("silent_worker")
async def test_preview_is_of_what_an_ai_task_entity_gets(hass: HomeAssistant) -> None:
    judge = {"analyzer": "ai_task", "ai_task_entity": "ai_task.judge"}
    entry = await async_set_up(hass, make_entry(ABSENT_FILE, data=judge))
    await async_report(hass, entry, online(at=NOW), frame(person(at=NOW), at=NOW), picture_of(1, at=NOW))
    for features in (None, 1):  # not there, or taking no attachments
        if features is not None:
            hass.states.async_set("ai_task.judge", "unknown", {"supported_features": features})
        (task,) = (await preview(hass))["messages"]
        assert "You are the security analyst" in task["content"]
        assert 'Camera: "Front door"' in task["content"]
        assert "Picture 1" not in task["content"]
    hass.states.async_set("ai_task.judge", "unknown", {"supported_features": 3})
    (task,) = (await preview(hass))["messages"]
    text, picture = task["content"]
    assert "Picture 1 of 1" in text["text"]
    assert re.fullmatch(r"JPEG, 64x36 pixels, \d+ bytes", picture["image_url"]["url"])


async def test_preview_of_no_incident(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    with pytest.raises(ServiceValidationError) as error:
        await preview(hass, 99)
    assert error.value.translation_key == "incident_not_found"


async def test_preview_is_for_administrators(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    user = MockUser(is_owner=False).add_to_hass(hass)
    with pytest.raises(Unauthorized):
        await preview(hass, user=user.id)


async def test_preview_without_a_running_system(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    assert await hass.config_entries.async_unload(entry.entry_id)
    with pytest.raises(ServiceValidationError) as error:
        await preview(hass)
    assert error.value.translation_key == "not_loaded"
