"""A verdict that comes long after its incident: whoever shows the incident learns of it, no automation is called."""

import json
import time

from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events

from custom_components.nemotron_security.broadcasters import Message, MessageType, async_channels
from custom_components.nemotron_security.const import EVENT_INCIDENT
from custom_components.nemotron_security.models import Assessment

from .house import ABSENT_FILE, CAMERA, async_report, async_set_up, async_settle, frame, make_entry, online, person

EVENT = "event.front_door_incident"


class Listener:
    """A client of the channel `events`."""

    def __init__(self) -> None:
        self.received: list[Message] = []

    def offer(self, message: Message) -> bool:
        self.received.append(message)
        return True

    def abandon(self) -> None:
        raise AssertionError("it never fails")


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None) -> MockConfigEntry:
    return await async_set_up(hass, make_entry(ABSENT_FILE))


def verdict(score: int) -> Assessment:
    return Assessment(
        analyzer="nemotron", risk_score=score, title="Burglar", summary="", reasoning=None, created_at=dt_util.utcnow()
    )


async def test_it_is_shown_but_calls_nobody(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    runtime = entry.runtime_data
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    (incident,) = await runtime.store.async_incidents()
    await runtime.incidents.async_apply(incident.id, verdict(50))
    await async_settle(hass, entry)
    before = hass.states.get(EVENT)
    assert before is not None
    assert before.attributes["risk_score"] == 50
    client, told = Listener(), async_capture_events(hass, EVENT_INCIDENT)
    async_channels(hass).events.connect(client)

    await runtime.incidents.async_apply(incident.id, verdict(90), news=lambda _: False)
    await async_settle(hass, entry)

    assert (hass.states.get(EVENT), told) == (before, [])
    (message,) = client.received
    assert message.type is MessageType.EVENT_UPDATED
    assert json.loads(message.data)["risk_score"] == 90
    assert runtime.cameras[CAMERA].data.incident.risk_score == 90


async def test_an_older_incident_does_not_take_the_place_of_the_last(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    runtime = entry.runtime_data
    now = time.time()
    await async_report(hass, entry, online(), frame(person(at=now), at=now))
    runtime.incidents.camera_removed(CAMERA)  # ends it
    await async_report(hass, entry, frame(person(2, at=now + 60), at=now + 60))
    last, first = await runtime.store.async_incidents()
    await runtime.incidents.async_apply(first.id, verdict(90), news=lambda _: False)
    await async_settle(hass, entry)
    assert runtime.cameras[CAMERA].data.incident.id == last.id
    assert (await runtime.store.async_incident(first.id)).risk_score == 90
