"""The commands beside the subscriptions, over a real websocket of Home Assistant, as administrators and as others."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
import json
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import area_registry as ar, device_registry as dr, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import (
    ClientSessionGenerator,
    MockHAClientWebSocket,
    WebSocketGenerator,
)

from custom_components.nemotron_security import reviews
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.health import BEATS
from custom_components.nemotron_security.models import Assessment, Box, Feedback, Incident, PictureKind, Review, Track
from custom_components.nemotron_security.runtime import Runtime
from custom_components.nemotron_security.vision.messages import CameraReport, CameraState, CameraStatus, Heartbeat

from .house import ABSENT_FILE, CAMERA, GATE, PORCH, async_report, async_set_up, frame, jpeg, make_entry, online, person
from .test_websocket_channels import examples

type Ask = Callable[..., Awaitable[dict[str, Any]]]

DOOR, YARD = CAMERA, f"{CAMERA[:-1]}1"
DOOR_ENTITY, YARD_ENTITY = "camera.front_door", "camera.camera_1"
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LIST, GET, REVIEW = (f"{DOMAIN}/incidents/{name}" for name in ("list", "get", "review"))
CAMERAS, STATUS = f"{DOMAIN}/cameras/list", f"{DOMAIN}/camera/status"
EVERY_COMMAND: dict[str, dict[str, Any]] = {
    LIST: {},
    GET: {"incident_id": 1},
    REVIEW: {"incident_id": 1},
    CAMERAS: {},
    STATUS: {"camera_id": DOOR},
}
READ, CONTROL = {"read": True}, {"control": True}


# --- the house and who asks -------------------------------------------------------------------------------------------


@pytest.fixture
async def entry(hass: HomeAssistant, silent_worker: None) -> MockConfigEntry:
    """Two cameras, for whose worker the test speaks."""
    return await async_set_up(hass, make_entry(ABSENT_FILE, {**ABSENT_FILE, "file_path": "/absent/yard.mp4"}))


@pytest.fixture
def runtime(entry: MockConfigEntry) -> Runtime:
    """Return what runs."""
    runtime: Runtime = entry.runtime_data
    return runtime


def asker(client: MockHAClientWebSocket) -> Ask:
    """Return a function that sends a command and returns its answer."""

    async def ask(command: str, **options: Any) -> dict[str, Any]:
        await client.send_json_auto_id({"type": command, **options})
        async with asyncio.timeout(10):
            answer: dict[str, Any] = await client.receive_json()
        assert answer["type"] == "result"
        return answer

    return ask


@pytest.fixture
async def admin(entry: MockConfigEntry, hass_ws_client: WebSocketGenerator) -> Ask:
    """Ask as an administrator."""
    return asker(await hass_ws_client())


@pytest.fixture
async def other(entry: MockConfigEntry, hass_ws_client: WebSocketGenerator, hass_read_only_access_token: str) -> Ask:
    """Ask as a user who may read everything and control nothing, unless `allow` says otherwise."""
    return asker(await hass_ws_client(access_token=hass_read_only_access_token))


@pytest.fixture
def allow(hass_read_only_user: MockUser) -> Callable[..., None]:
    """Return a function that sets the other user's policy on entities."""

    def set_policy(**entities: dict[str, bool]) -> None:
        policies = {entity_id.replace("__", "."): policy for entity_id, policy in entities.items()}
        hass_read_only_user.mock_policy({"entities": {"entity_ids": policies}})

    return set_policy


async def begin(
    runtime: Runtime,
    camera_id: str = DOOR,
    *,
    minute: int = 0,
    score: int = 40,
    label: str = "person",
    trigger: str | None = None,
    **words: str,
) -> Incident:
    """Store an incident of a minute, so many minutes after noon."""
    at = NOON + timedelta(minutes=minute)
    track = Track(
        track_id=1_795_435_200_000 + minute,
        label=label,
        confidence=0.87,
        first_seen_at=at,
        last_seen_at=at + timedelta(seconds=30),
        box=Box(-5.0, 20.4, 110.25, 220.0),
        frame_width=1280,
        frame_height=720,
    )
    texts = {"title": f"A {label}", "summary": "Somebody came.", "reasoning": None} | words
    assessment = Assessment(analyzer="rules", risk_score=score, created_at=at, **texts)  # type: ignore[arg-type]
    return await runtime.store.async_start_incident(
        camera_id, [track], started_at=at, assessment=assessment, trigger=trigger
    )


async def add_picture(runtime: Runtime, incident: Incident) -> int:
    """Store a picture of the incident's only track; returns its id."""
    (track,) = await runtime.store.async_tracks(incident.id)
    picture, _ = await runtime.store.async_add_picture(
        incident.id,
        track.track_id,
        PictureKind.BEST,
        captured_at=NOON,
        box=Box(10.0, 5.0, 30.0, 40.0),
        score=0.9,
        width=64,
        height=36,
        jpeg=jpeg(),
    )
    return picture.id


def ids(answer: dict[str, Any]) -> list[int]:
    """Return the incidents that were listed."""
    assert answer["success"], answer
    return [incident["id"] for incident in answer["result"]["incidents"]]


def error(answer: dict[str, Any]) -> tuple[str, str | None]:
    """Return the code and the translation key of an error."""
    assert not answer["success"], answer
    return answer["error"]["code"], answer["error"].get("translation_key")


NO_INCIDENT = ("not_found", "incident_not_found")
NO_CAMERA = ("not_found", "camera_not_found")
NOT_THEIRS = ("unauthorized", "review_not_allowed")


# --- list ------------------------------------------------------------------------------------------------------------


class TestList:
    """`incidents/list`."""

    @pytest.fixture
    async def stored(self, runtime: Runtime) -> list[int]:
        """Store what the filters tell apart; returns the ids, the first at index 1."""
        incidents = [
            await begin(runtime, DOOR, minute=0, score=10),
            await begin(runtime, YARD, minute=10, score=50, label="dog", summary="A dog digs."),
            await begin(runtime, DOOR, minute=20, score=90, label="car", title="Van in the drive"),
            await begin(runtime, YARD, minute=30, score=60),
        ]
        review = Review(reviewed=True, feedback=Feedback.FALSE_ALARM, note="The neighbour's", at=NOON)
        await runtime.store.async_review(incidents[1].id, review)
        for incident in incidents:
            await runtime.store.async_save_incident(replace(incident, ended_at=incident.last_seen_at))
        return [0, *(incident.id for incident in incidents)]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({}, [4, 3, 2, 1]),
            ({"cameras": [YARD]}, [4, 2]),
            ({"cameras": [YARD, DOOR]}, [4, 3, 2, 1]),
            ({"cameras": ["01JREMOVED"]}, []),
            ({"labels": ["dog", "car"]}, [3, 2]),
            ({"minimum_risk": 50}, [4, 3, 2]),
            ({"maximum_risk": 50}, [2, 1]),
            ({"minimum_risk": 50, "maximum_risk": 60}, [4, 2]),
            ({"minimum_risk": 60, "maximum_risk": 50}, []),
            ({"since": "2026-11-23T13:15:00+01:00"}, [4, 3]),
            ({"until": "2026-11-23T12:10:00Z"}, [1]),
            ({"since": "2026-11-23T12:05:00Z", "until": "2026-11-23T12:25:00Z"}, [3, 2]),
            ({"text": "DRIVE van"}, [3]),
            ({"text": "neighbour"}, [2]),
            ({"text": "a d do dog g digs e n ne nei NEI dog"}, [2]),
            ({"text": "100%"}, []),
            ({"text": " "}, [4, 3, 2, 1]),
            ({"reviewed": True}, [2]),
            ({"reviewed": False}, [4, 3, 1]),
            ({"feedback": "false_alarm"}, [2]),
            ({"feedback": "serious"}, []),
            ({"cameras": [YARD], "labels": ["person"], "minimum_risk": 60, "reviewed": False}, [4]),
        ],
        ids=str,
    )
    async def test_filters(self, admin: Ask, stored: list[int], options: dict[str, Any], expected: list[int]) -> None:
        answer = await admin(LIST, **options)
        assert ids(answer) == [stored[number] for number in expected]
        assert answer["result"]["next_cursor"] is None

    async def test_text_in_zones_and_trigger(self, admin: Ask, runtime: Runtime, stored: list[int]) -> None:
        in_zone = await begin(runtime, minute=40)
        await runtime.store.async_save_incident(replace(in_zone, zones=("Rose bed", "Gate")))
        of_bell = await begin(runtime, minute=50, trigger="Doorbell pressed")
        for text, found in (("rose GATE", [in_zone]), ("bell", [of_bell]), ("bell gate", [])):
            assert ids(await admin(LIST, text=text)) == [incident.id for incident in found]

    async def test_what_goes_on_is_never_too_old(self, admin: Ask, runtime: Runtime, stored: list[int]) -> None:
        """Something of it was seen, and stored, long before; it has not ended."""
        going_on = await begin(runtime, minute=40)
        assert ids(await admin(LIST, since="2026-11-23T18:00:00Z")) == [going_on.id]
        await runtime.store.async_save_incident(replace(going_on, ended_at=going_on.last_seen_at))
        assert ids(await admin(LIST, since="2026-11-23T18:00:00Z")) == []

    async def test_pages(self, admin: Ask, runtime: Runtime) -> None:
        stored = [(await begin(runtime, minute=minute)).id for minute in range(7)]
        pages: list[list[int]] = []
        cursor: dict[str, str] = {}
        while True:
            answer = await admin(LIST, limit=3, **cursor)
            pages.append(ids(answer))
            await begin(runtime, minute=10)  # what comes in between moves no page
            if answer["result"]["next_cursor"] is None:
                break
            cursor = {"cursor": answer["result"]["next_cursor"]}
        assert pages == [stored[:3:-1], stored[3:0:-1], stored[:1]]
        exactly = await admin(LIST, limit=2, until="2026-11-23T12:02:00Z")
        assert (ids(exactly), exactly["result"]["next_cursor"]) == (stored[1::-1], None)

    async def test_pages_of_a_filter_are_full(self, other: Ask, runtime: Runtime, allow: Callable[..., None]) -> None:
        """What a user may not read takes no place in a page."""
        allow(camera__front_door=READ)
        mine = [(await begin(runtime, (DOOR, YARD)[minute % 2], minute=minute)).id for minute in range(8)][::2]
        first = await other(LIST, limit=2)
        assert ids(first) == mine[:1:-1]
        second = await other(LIST, limit=2, cursor=first["result"]["next_cursor"])
        assert (ids(second), second["result"]["next_cursor"]) == (mine[1::-1], None)

    async def test_payload_is_that_of_the_events(self, admin: Ask, runtime: Runtime, entry: MockConfigEntry) -> None:
        heard: list[dict[str, Any]] = []
        entry.runtime_data._hass.bus.async_listen(f"{DOMAIN}_event", lambda event: heard.append(event.data))
        at = NOON.timestamp()
        await async_report(runtime._hass, entry, online(at=at), frame(person(at=at), at=at))
        (listed,) = (await admin(LIST))["result"]["incidents"]
        assert heard == [{"change": "started", **listed}]

    @pytest.mark.parametrize(
        "options",
        [
            {"cameras": []},
            {"cameras": "door"},
            {"cameras": [1]},
            {"cameras": [""]},
            {"labels": ["x" * 65]},
            {"labels": ["person"] * 101},
            {"minimum_risk": -1},
            {"maximum_risk": 101},
            {"minimum_risk": True},
            {"minimum_risk": 1.5},
            {"since": "2026-11-23T12:00:00"},
            {"since": "2026-11-23"},
            {"since": "yesterday"},
            {"since": 1795435200},
            {"until": "0001-01-01T00:00:00+14:00"},
            {"until": "9999-12-31T23:59:59-14:00"},
            {"text": ""},
            {"text": "x" * 201},
            {"text": "a b c d e f g h i j k"},
            {"reviewed": 1},
            {"reviewed": None},
            {"feedback": "harmless"},
            {"feedback": None},
            {"limit": 0},
            {"limit": 201},
            {"cursor": "before-0"},
            {"cursor": "before-x"},
            {"cursor": "before-7 "},
            {"cursor": "before-٣"},
            {"cursor": f"before-{2**63}"},
            {"cursor": 7},
            {"offset": 1},
        ],
        ids=str,
    )
    async def test_invalid_options(self, admin: Ask, options: dict[str, Any]) -> None:
        assert error(await admin(LIST, **options))[0] == "invalid_format"

    async def test_permissions(
        self, admin: Ask, other: Ask, stored: list[int], allow: Callable[..., None], hass_read_only_user: MockUser
    ) -> None:
        assert ids(await other(LIST)) == stored[:0:-1]
        allow(camera__camera_1=READ, binary_sensor__front_door_motion=READ)
        assert ids(await other(LIST)) == [stored[4], stored[2]]
        assert ids(await other(LIST, cameras=[YARD])) == [stored[4], stored[2]]
        # A camera that may not be read and one that does not exist are the same.
        assert error(await other(LIST, cameras=[YARD, DOOR])) == NO_CAMERA
        assert error(await other(LIST, cameras=["absent"])) == NO_CAMERA
        hass_read_only_user.mock_policy({})
        assert ids(await other(LIST)) == []
        assert ids(await admin(LIST)) == stored[:0:-1]

    async def test_incidents_of_a_removed_camera_are_for_administrators(
        self, hass: HomeAssistant, entry: MockConfigEntry, admin: Ask, other: Ask, stored: list[int]
    ) -> None:
        hass.config_entries.async_remove_subentry(entry, DOOR)
        await hass.async_block_till_done()
        assert ids(await admin(LIST)) == stored[:0:-1]
        assert ids(await admin(LIST, cameras=[DOOR])) == [stored[3], stored[1]]
        assert ids(await other(LIST)) == [stored[4], stored[2]]
        assert error(await other(LIST, cameras=[DOOR])) == NO_CAMERA


# --- get -------------------------------------------------------------------------------------------------------------


class TestGet:
    """`incidents/get`."""

    async def test_everything_known_of_an_incident(
        self, hass: HomeAssistant, entry: MockConfigEntry, admin: Ask, runtime: Runtime
    ) -> None:
        at = NOON.timestamp()
        await async_report(hass, entry, online(at=at), frame(person(5, at=at), at=at))
        (listed,) = (await admin(LIST))["result"]["incidents"]
        verdict = Assessment(
            analyzer="nemotron",
            risk_score=72,
            title="Stranger",
            summary="A stranger.",
            reasoning="Nobody is at home.",
            created_at=NOON,
            evidence=("handle", "night"),
        )
        await runtime.incidents.async_apply(listed["id"], verdict)
        incident = (await admin(GET, incident_id=listed["id"]))["result"]
        assert incident["title"] == "Stranger"
        assert listed.keys() < incident.keys()
        (track,) = incident["tracks"]
        assert track == {
            "track_id": 5,
            "object_type": "person",
            "confidence": 0.85,
            "first_seen_at": NOON.isoformat(),
            "last_seen_at": NOON.isoformat(),
            "bbox_x": 100,
            "bbox_y": 200,
            "bbox_width": 80,
            "bbox_height": 220,
            "frame_width": 1280,
            "frame_height": 720,
            "stationary": False,
            "zones": [],
        }
        said = [(a["analyzer"], a["risk_score"], a["risk_level"], a["evidence"]) for a in incident["assessments"]]
        assert said[0][0] == "rules"
        assert said[1:] == [("nemotron", 72, "high", ["handle", "night"])]
        (detection,) = incident["detections"]
        assert (detection["incident_id"], detection["track_id"]) == (listed["id"], 5)
        assert incident["pictures"] == []

    async def test_the_pictures_that_the_evidence_speaks_of(self, admin: Ask, runtime: Runtime) -> None:
        incident = await begin(runtime)
        picture_id = await add_picture(runtime, incident)
        verdict = Assessment(
            analyzer="nemotron",
            risk_score=72,
            title="Stranger",
            summary="A stranger.",
            reasoning=None,
            created_at=NOON,
            evidence=("Picture 3: a handle",),
            shown=(None, 999, picture_id),
        )
        await runtime.incidents.async_apply(incident.id, verdict)
        *_, said = (await admin(GET, incident_id=incident.id))["result"]["assessments"]
        assert said["shown"] == [None, None, picture_id]

    async def test_boxes_are_cut_to_their_frame(self, admin: Ask, runtime: Runtime) -> None:
        incident = await begin(runtime)
        await add_picture(runtime, incident)
        result = (await admin(GET, incident_id=incident.id))["result"]
        keys = ("bbox_x", "bbox_y", "bbox_width", "bbox_height")
        assert [result["tracks"][0][key] for key in keys] == [0, 20, 110, 200]
        assert [result["pictures"][0][key] for key in keys] == [10, 5, 20, 31]

    async def test_picture_by_its_url(
        self,
        other: Ask,
        runtime: Runtime,
        allow: Callable[..., None],
        hass_client_no_auth: ClientSessionGenerator,
    ) -> None:
        incident = await begin(runtime)
        picture_id = await add_picture(runtime, incident)
        (picture,) = (await other(GET, incident_id=incident.id))["result"]["pictures"]
        assert (picture["id"], picture["width"], picture["height"]) == (picture_id, 64, 36)
        browser = await hass_client_no_auth()
        assert await (await browser.get(picture["url"])).read() == jpeg()
        # It was signed for that user, whose policy changes.
        allow(camera__camera_1=READ)
        assert (await browser.get(picture["url"])).status == 404

    async def test_permissions(
        self, hass: HomeAssistant, entry: MockConfigEntry, admin: Ask, other: Ask, runtime: Runtime, allow: Any
    ) -> None:
        at_door, in_yard = await begin(runtime, DOOR), await begin(runtime, YARD)
        assert (await other(GET, incident_id=at_door.id))["success"]
        allow(camera__camera_1=READ)
        assert (await other(GET, incident_id=in_yard.id))["success"]
        refused, absent = await other(GET, incident_id=at_door.id), await other(GET, incident_id=999)
        assert refused["error"] == absent["error"]
        assert error(refused) == error(await admin(GET, incident_id=999)) == NO_INCIDENT
        hass.config_entries.async_remove_subentry(entry, YARD)
        await hass.async_block_till_done()
        assert error(await other(GET, incident_id=in_yard.id)) == NO_INCIDENT
        assert (await admin(GET, incident_id=in_yard.id))["success"]

    @pytest.mark.parametrize("incident_id", [0, -1, 2**63, 1.0, "1", True, None, [1]])
    async def test_invalid_ids(self, admin: Ask, incident_id: object) -> None:
        assert error(await admin(GET, incident_id=incident_id))[0] == "invalid_format"
        assert error(await admin(REVIEW, incident_id=incident_id))[0] == "invalid_format"


# --- review ----------------------------------------------------------------------------------------------------------


class TestReview:
    """`incidents/review`."""

    async def test_is_stored_and_announced(
        self, hass: HomeAssistant, admin: Ask, runtime: Runtime, hass_ws_client: WebSocketGenerator
    ) -> None:
        incident = await begin(runtime, score=62)
        listener = await hass_ws_client()
        await listener.send_json_auto_id({"type": f"{DOMAIN}/events/subscribe"})
        assert (await listener.receive_json())["success"]
        before = datetime.now(UTC)
        answer = await admin(REVIEW, incident_id=incident.id, feedback="false_alarm", note="  The postman. ")
        result = answer["result"]
        assert (result["feedback"], result["note"], result["risk_score"]) == ("false_alarm", "The postman.", 62)
        assert before <= datetime.fromisoformat(result["reviewed_at"]) <= datetime.now(UTC)
        told = (await listener.receive_json())["event"]
        assert (told["type"], told["data"]) == ("event_updated", result)
        assert (await admin(LIST, reviewed=True))["result"]["incidents"] == [result]

    async def test_takes_the_place_of_an_earlier_one(self, admin: Ask, runtime: Runtime) -> None:
        incident = await begin(runtime)
        await admin(REVIEW, incident_id=incident.id, feedback="serious", note="Police came.")
        result = (await admin(REVIEW, incident_id=incident.id))["result"]
        assert result["reviewed_at"] is not None
        assert (result["feedback"], result["note"]) == (None, None)
        result = (await admin(REVIEW, incident_id=incident.id, reviewed=False))["result"]
        assert result["reviewed_at"] is None

    @pytest.mark.parametrize(
        "options",
        [
            {"reviewed": "yes"},
            {"reviewed": None},
            {"feedback": "harmless"},
            {"feedback": True},
            {"note": "x" * (reviews.MAXIMUM_NOTE + 1)},
            {"note": 1},
            {"risk_score": 0},
        ],
        ids=str,
    )
    async def test_invalid_options(self, admin: Ask, options: dict[str, Any]) -> None:
        assert error(await admin(REVIEW, incident_id=1, **options))[0] == "invalid_format"

    @pytest.mark.parametrize("feedback", ["false_alarm", "serious"])
    async def test_feedback_of_nobody_who_looked(self, admin: Ask, runtime: Runtime, feedback: str) -> None:
        incident = await begin(runtime)
        answer = await admin(REVIEW, incident_id=incident.id, reviewed=False, feedback=feedback)
        assert error(answer) == ("invalid_format", "review_contradictory")
        assert await runtime.store.async_incident(incident.id) == incident
        assert await runtime.store.async_harmless_places() == []
        assert (await admin(REVIEW, incident_id=incident.id, reviewed=False, note="Look later."))["success"]

    async def test_text_that_no_database_keeps(self, admin: Ask, runtime: Runtime) -> None:
        incident = await begin(runtime)
        assert (await admin(REVIEW, incident_id=incident.id, note="a\0b"))["result"]["note"] == "a?b"

    async def test_permissions(
        self,
        hass: HomeAssistant,
        entry: MockConfigEntry,
        admin: Ask,
        other: Ask,
        runtime: Runtime,
        allow: Callable[..., None],
    ) -> None:
        at_door, in_yard = await begin(runtime, DOOR), await begin(runtime, YARD)
        # Read-only: seen, but not theirs to judge.
        assert error(await other(REVIEW, incident_id=at_door.id)) == NOT_THEIRS
        assert (await runtime.store.async_incident(at_door.id)) == at_door
        # Control of one camera is no control of another.
        allow(camera__front_door=READ | CONTROL, camera__camera_1=READ)
        assert (await other(REVIEW, incident_id=at_door.id))["success"]
        assert error(await other(REVIEW, incident_id=in_yard.id)) == NOT_THEIRS
        # Who may not read learns nothing.
        allow(camera__front_door=READ | CONTROL, camera__camera_1=CONTROL)
        refused, absent = await other(REVIEW, incident_id=in_yard.id), await other(REVIEW, incident_id=999)
        assert refused["error"] == absent["error"]
        assert error(refused) == error(await admin(REVIEW, incident_id=999)) == NO_INCIDENT
        # A removed camera's incidents are for administrators.
        hass.config_entries.async_remove_subentry(entry, DOOR)
        await hass.async_block_till_done()
        assert error(await other(REVIEW, incident_id=at_door.id)) == NO_INCIDENT
        assert (await admin(REVIEW, incident_id=at_door.id))["success"]

    async def test_store_that_answers_late(self, admin: Ask, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        """The client is told, and what it said is not lost."""
        incident = await begin(runtime)
        monkeypatch.setattr(reviews, "PATIENCE", 0.0)
        answer = await admin(REVIEW, incident_id=incident.id, note="Late")
        assert error(answer) == ("home_assistant_error", "review_waits")
        async with asyncio.timeout(10):
            while (stored := await runtime.store.async_incident(incident.id)) is None or stored.note is None:
                await asyncio.sleep(0.01)
        assert stored.note == "Late"

    async def test_store_that_is_busy(self, admin: Ask, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whether the user may review it cannot be told, so nothing is stored."""
        incident = await begin(runtime)

        async def wait_for_ever(_incident_id: int) -> None:
            await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(runtime.store, "async_incident", wait_for_ever)
            patch.setattr(reviews, "READING_TIME", 0.01)
            answer = await admin(REVIEW, incident_id=incident.id)
        assert error(answer) == ("home_assistant_error", "review_not_stored")
        assert await runtime.store.async_incident(incident.id) == incident


# --- cameras ---------------------------------------------------------------------------------------------------------


class TestCameras:
    """`cameras/list` and `camera/status`."""

    async def test_list(
        self, hass: HomeAssistant, entry: MockConfigEntry, admin: Ask, entity_registry: er.EntityRegistry
    ) -> None:
        area = ar.async_get(hass).async_create("Entrance")
        devices = dr.async_get(hass)
        device = devices.async_get_device_by_identifier((DOMAIN, DOOR), entry.entry_id)
        assert device
        devices.async_update_device(device.id, area_id=area.id)
        subentry = entry.subentries[DOOR]
        places: dict[str, Any] = {"zones": [PORCH], "lines": [GATE], "opening_zones": [PORCH["id"]]}
        hass.config_entries.async_update_subentry(
            entry, subentry, data={**subentry.data, "labels": ["person", "dog"], "detect": False, **places}
        )
        await async_report(hass, entry, online(at=NOON.timestamp()))
        door, yard = (await admin(CAMERAS))["result"]["cameras"]
        entities = door.pop("entities")
        assert door == {
            "camera_id": DOOR,
            "status": "online",
            "last_seen_at": NOON.isoformat(),
            "problem": None,
            "name": "Front door",
            "area_id": area.id,
            "device_id": device.id,
            "detect": False,
            "labels": ["person", "dog"],
            **places,
        }
        assert entities["camera"] == {"live": DOOR_ENTITY}
        assert entities["binary_sensor"]["occupancy_person"] == "binary_sensor.front_door_person"
        enabled = [
            entity.entity_id
            for entity in er.async_entries_for_config_entry(entity_registry, entry.entry_id)
            if entity.config_subentry_id == DOOR and not entity.disabled
        ]
        assert sorted(entity_id for platform in entities.values() for entity_id in platform.values()) == sorted(enabled)
        assert (yard["camera_id"], yard["status"], yard["last_seen_at"]) == (YARD, "unknown", None)
        assert (yard["detect"], yard["zones"], yard["area_id"]) == (True, [], None)
        assert yard["entities"]["camera"] == {"live": YARD_ENTITY}

    async def test_list_holds_no_secret(self, hass: HomeAssistant, entry: MockConfigEntry, admin: Ask) -> None:
        hass.config_entries.async_update_subentry(
            entry, entry.subentries[DOOR], data={"source": "stream", "stream_url": "rtsp://guard:secret@127.0.0.1:1/x"}
        )
        await hass.async_block_till_done()
        for command in (CAMERAS, STATUS):
            answer = await admin(command, **EVERY_COMMAND[command])
            assert answer["success"]
            assert "secret" not in json.dumps(answer)

    async def test_cameras_that_come_and_go(self, hass: HomeAssistant, entry: MockConfigEntry, admin: Ask) -> None:
        hass.config_entries.async_remove_subentry(entry, DOOR)
        await hass.async_block_till_done()
        assert [camera["camera_id"] for camera in (await admin(CAMERAS))["result"]["cameras"]] == [YARD]
        assert error(await admin(STATUS, camera_id=DOOR)) == NO_CAMERA

    async def test_status(self, hass: HomeAssistant, entry: MockConfigEntry, admin: Ask) -> None:
        nothing = {"camera_id": DOOR, "status": "unknown", "last_seen_at": None, "problem": None}
        assert (await admin(STATUS, camera_id=DOOR))["result"] == {**nothing, "stats": None, "incident": None}

        at = NOON.timestamp()
        report = CameraReport(
            camera_id=DOOR, fps=4.9, inference_fps=2.5, last_frame_at=at + 1, width=1280, height=720, skipped=3
        )
        heartbeat = Heartbeat(at=at + 1, cameras=(report,), inference_ms_p50=None, inference_ms_p95=None, rss=1)
        await async_report(hass, entry, online(at=at), frame(person(at=at), at=at), *[heartbeat] * BEATS)
        status = (await admin(STATUS, camera_id=DOOR))["result"]
        recorded_at = status["stats"].pop("recorded_at")
        assert datetime.fromisoformat(recorded_at).tzinfo
        (listed,) = (await admin(LIST))["result"]["incidents"]
        assert status == {
            "camera_id": DOOR,
            "status": "online",
            "last_seen_at": (NOON + timedelta(seconds=1)).isoformat(),
            "problem": None,
            "stats": {
                "camera_id": DOOR,
                "fps": 4.9,
                "inference_fps": 2.5,
                "skipped": 3 * BEATS,
                "quality": None,
                "reconnects": 0,
                "stalls": 0,
            },
            "incident": listed,
        }
        # Nothing goes on before the other camera, and the heartbeats did not tell of it.
        await async_report(hass, entry, online(YARD, at=at))
        other = (await admin(STATUS, camera_id=YARD))["result"]
        assert (other["status"], other["stats"]["fps"], other["incident"]) == ("online", None, None)

    async def test_status_of_a_lost_camera_shows_no_old_figures(
        self, hass: HomeAssistant, entry: MockConfigEntry, admin: Ask
    ) -> None:
        at = NOON.timestamp()
        report = CameraReport(camera_id=DOOR, fps=4.9, inference_fps=2.5, last_frame_at=at)
        heartbeat = Heartbeat(at=at, cameras=(report,), inference_ms_p50=None, inference_ms_p95=None, rss=1)
        lost = CameraState(camera_id=DOOR, status=CameraStatus.OFFLINE, at=at + 1)
        await async_report(hass, entry, online(at=at), frame(person(at=at), at=at), *[heartbeat] * BEATS, lost)
        stats = (await admin(STATUS, camera_id=DOOR))["result"]["stats"]
        assert (stats["fps"], stats["inference_fps"]) == (None, None)

    async def test_ended_incident_is_none(
        self, hass: HomeAssistant, entry: MockConfigEntry, runtime: Runtime, admin: Ask
    ) -> None:
        at = NOON.timestamp()
        await async_report(hass, entry, online(at=at), frame(person(at=at), at=at))
        assert (await admin(STATUS, camera_id=DOOR))["result"]["incident"]
        await async_report(hass, entry, frame(at=at + 30), frame(at=at + 60))
        (incident,) = (await admin(LIST))["result"]["incidents"]
        assert incident["ended_at"]
        assert (await admin(STATUS, camera_id=DOOR))["result"]["incident"] is None

    async def test_permissions(self, admin: Ask, other: Ask, allow: Callable[..., None]) -> None:
        async def listed(ask: Ask) -> list[str]:
            return [camera["camera_id"] for camera in (await ask(CAMERAS))["result"]["cameras"]]

        assert await listed(admin) == await listed(other) == [DOOR, YARD]
        assert (await other(STATUS, camera_id=DOOR))["success"]
        allow(camera__camera_1=READ, camera__front_door=CONTROL)
        assert await listed(other) == [YARD]
        assert (await other(STATUS, camera_id=YARD))["success"]
        refused, absent = await other(STATUS, camera_id=DOOR), await other(STATUS, camera_id="absent")
        assert refused["error"] == absent["error"]
        assert error(refused) == error(await admin(STATUS, camera_id="absent")) == NO_CAMERA
        allow()
        assert await listed(other) == []

    @pytest.mark.parametrize("camera_id", ["", "x" * 65, 1, None, [DOOR]])
    async def test_invalid_ids(self, admin: Ask, camera_id: object) -> None:
        assert error(await admin(STATUS, camera_id=camera_id))[0] == "invalid_format"


# --- every command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", EVERY_COMMAND)
async def test_integration_that_does_not_run(
    hass: HomeAssistant, entry: MockConfigEntry, admin: Ask, command: str
) -> None:
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert error(await admin(command, **EVERY_COMMAND[command])) == ("not_found", "not_loaded")


@pytest.mark.parametrize(
    ("command", "key"), [(LIST, "events_unreadable"), (GET, "events_unreadable"), (REVIEW, "review_not_stored")]
)
async def test_store_that_does_not_answer(
    runtime: Runtime, admin: Ask, command: str, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    await runtime.store.async_close()
    answer = await admin(command, **EVERY_COMMAND[command])
    assert error(answer) == ("home_assistant_error", key)
    assert "closed" in answer["error"]["message"]
    assert not [record for record in caplog.records if record.exc_info and "websocket_api" in record.name]


# --- the documentation -----------------------------------------------------------------------------------------------


def shape(value: Any, shown: Any) -> Any:
    """Reduce an answer to its keys, as far as the documentation shows something there; null stands for anything."""
    if isinstance(value, dict) and isinstance(shown, dict):
        return {key: shape(item, shown.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(shown, list) and shown and isinstance(shown[0], dict):
        return [shape(value[0], shown[0])] if value else []
    return None


async def test_documentation(
    hass: HomeAssistant, entry: MockConfigEntry, runtime: Runtime, hass_ws_client: WebSocketGenerator
) -> None:
    """Every command that the page shows is sent, and what it shows as the answer has the keys of the answer."""
    shown = examples()
    commands = [
        example
        for example in shown
        if example["type"].startswith(f"{DOMAIN}/") and not example["type"].endswith("/subscribe")
    ]
    assert {command["type"] for command in commands} == EVERY_COMMAND.keys()
    results = {example["id"]: example["result"] for example in shown if example["type"] == "result"}
    subentry = entry.subentries[DOOR]
    places: dict[str, Any] = {"zones": [PORCH], "lines": [{**GATE}], "opening_zones": [PORCH["id"], GATE["id"]]}
    hass.config_entries.async_update_subentry(entry, subentry, data={**subentry.data, **places})
    await hass.async_block_till_done()
    at = NOON.timestamp()
    report = CameraReport(camera_id=DOOR, fps=5.0, inference_fps=2.0, last_frame_at=at)
    heartbeat = Heartbeat(at=at, cameras=(report,), inference_ms_p50=None, inference_ms_p95=None, rss=1)
    for minute in range(6):
        await begin(runtime, minute=-60 + minute)
    seen = person(at=at, zones=("Porch",), visited=("Porch",))
    await async_report(hass, entry, online(at=at), frame(seen, at=at), *[heartbeat] * BEATS)  # incident 7
    incident = await runtime.store.async_incident(7)
    assert incident
    await add_picture(runtime, incident)
    # Reviewed first, so that the filter of the list finds it.
    for command in sorted(commands, key=lambda command: command["type"] != REVIEW):
        client = await hass_ws_client()
        ours = json.loads(json.dumps(command).replace("01JDOOR0000000000000000000", DOOR))
        if ours["type"] == LIST and "text" in ours:
            ours["text"], ours["zones"] = incident.title, ["Porch"]
        await client.send_json(ours)
        answer = await client.receive_json()
        assert answer["success"], answer
        if expected := results.get(command["id"]):
            result = answer["result"]
            if command["type"] == CAMERAS:  # the page leaves entities out, and invents none
                invented, entities = (each["cameras"][0].pop("entities") for each in (expected, result))
                assert [
                    key for platform in invented for key in invented[platform] if key not in entities[platform]
                ] == []
            assert shape(result, expected) == shape(expected, expected), command["type"]
            if command["type"] == LIST:
                assert [listed["id"] for listed in result["incidents"]] == [7]
        await client.close()
    assert {command["type"] for command in commands if command["id"] in results} == EVERY_COMMAND.keys()
