"""Tests of what is gathered for an analyzer, over a real Home Assistant and the real store."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
from homeassistant.helpers import area_registry as ar, device_registry as dr, floor_registry as fr
from homeassistant.util import dt as dt_util
from PIL import Image
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.nemotron_security.analysis import briefing, rules
from custom_components.nemotron_security.analysis.briefing import Briefing, house_then
from custom_components.nemotron_security.analysis.prompt import messages
from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.models import (
    Box,
    CameraView,
    Detection,
    Feedback,
    Floor,
    House,
    Incident,
    PictureKind,
    Review,
    Topic,
    Visit,
)
from custom_components.nemotron_security.store import Store
from custom_components.nemotron_security.vision.messages import Snapshot
from tests.house import jpeg

from .cases import case, track
from .test_keyframes import yard

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


class Home:
    """Three cameras with a store."""

    def __init__(self, hass: HomeAssistant, store: Store) -> None:
        self.hass = hass
        self.store = store
        self.entry = MockConfigEntry(
            domain=DOMAIN,
            subentries_data=[
                {
                    "subentry_id": name,
                    "subentry_type": "camera",
                    "title": name.title(),
                    "unique_id": name,
                    "data": {"source": "file"},
                }
                for name in ("door", "hall", "attic")
            ],
        )
        self.entry.add_to_hass(hass)
        self.briefing = Briefing(hass, self.entry, store, str.title)

    def set_options(self, **options: Any) -> None:
        self.hass.config_entries.async_update_entry(self.entry, options=options)

    def place(self, camera: str, area_id: str) -> None:
        devices = dr.async_get(self.hass)
        device = devices.async_get_or_create(
            config_entry_id=self.entry.entry_id, config_subentry_id=camera, identifiers={(DOMAIN, camera)}
        )
        devices.async_update_device(device.id, area_id=area_id)

    async def incident(self, camera: str = "door", label: str = "person", *, minutes: float = 0) -> Incident:
        """Store an incident that began so many minutes from now."""
        at = NOW + timedelta(minutes=minutes)
        seen = track(label, track_id=round(minutes * 60 + 10**6), first_seen_at=at, last_seen_at=at)
        verdict = rules.assess(replace(case(seen), camera_name=camera))
        return await self.store.async_start_incident(camera, [seen], started_at=at, assessment=verdict)

    async def picture(
        self, incident: Incident, track_id: int, second: float, *, width: int = 1280, data: bytes = b""
    ) -> Incident:
        """Store a picture; returns the incident as it is then."""
        buffer = BytesIO(data)
        if not data:
            Image.new("RGB", (width, width // 2)).save(buffer, "JPEG")
        _, incident = await self.store.async_add_picture(
            incident.id,
            track_id,
            captured_at=NOW + timedelta(seconds=second),
            box=Box(0, 0, 10, 10),
            score=0.9,
            width=width,
            height=width // 2,
            jpeg=buffer.getvalue(),
        )
        return incident


@pytest.fixture
async def home(hass: HomeAssistant, tmp_path: Path) -> AsyncIterator[Home]:
    store = Store(f"sqlite:///{tmp_path / 'security.db'}", tmp_path / "pictures")
    await store.async_open()
    yield Home(hass, store)
    await store.async_close()


HOUSE = House(at=NOW, alarm="armed_away")


async def test_settings_of_the_camera(home: Home) -> None:
    brief = await home.briefing.async_brief(await home.incident(), HOUSE)
    assert (brief.case.note, brief.case.view, brief.case.house) == (None, None, HOUSE)
    assert (brief.case.topics, brief.case.floors) == (frozenset(Topic), frozenset(Floor))
    subentry = home.entry.subentries["door"]
    data = {**subentry.data, "note": "A pavement.", "view": "public"}
    home.hass.config_entries.async_update_subentry(home.entry, subentry, data=data)
    home.set_options(topics=["note"], floors=[])
    brief = await home.briefing.async_brief(await home.incident(minutes=1), HOUSE)
    assert (brief.case.note, brief.case.view) == ("A pavement.", CameraView.PUBLIC)
    assert (brief.case.topics, brief.case.floors) == (frozenset({Topic.NOTE}), frozenset())


async def test_camera_that_was_removed(home: Home) -> None:
    brief = await home.briefing.async_brief(await home.incident("gone"), HOUSE)
    assert (brief.case.camera_name, brief.case.note, brief.case.view) == ("Gone", None, None)


async def test_incidents_here_and_nearby(home: Home) -> None:
    ground = fr.async_get(home.hass).async_create("Ground floor")
    areas = ar.async_get(home.hass)
    home.place("door", areas.async_create("Entrance", floor_id=ground.floor_id).id)
    home.place("hall", areas.async_create("Hall", floor_id=ground.floor_id).id)
    home.place("attic", areas.async_create("Attic").id)
    for camera, minutes in (("door", -3000), ("hall", -30), ("attic", -20), ("door", -10)):
        earlier = await home.incident(camera, minutes=minutes)
        await home.store.async_save_incident(replace(earlier, ended_at=earlier.last_seen_at))
    incident = await home.incident()
    await home.incident(minutes=5)
    found = (await home.briefing.async_brief(incident, HOUSE)).case
    assert found.place.area == "Entrance"
    assert [(one.camera_name, one.here) for one in found.earlier] == [("Door", True), ("Hall", False)]
    home.set_options(topics=[])
    assert (await home.briefing.async_brief(incident, HOUSE)).case.earlier == ()


async def test_feedback(home: Home) -> None:
    for minutes in (-4320, -2880, -1440):
        cat = await home.incident(label="cat", minutes=minutes)
        await home.store.async_review(
            cat.id, Review(reviewed=True, feedback=Feedback.FALSE_ALARM, note="neighbour's cat", at=NOW)
        )
    incident = await home.incident(label="cat")
    (said,) = (await home.briefing.async_brief(incident, HOUSE)).case.feedback
    assert (said.feedback, said.note, said.times) == (Feedback.FALSE_ALARM, "neighbour's cat", 3)
    home.set_options(topics=["history"])
    assert (await home.briefing.async_brief(incident, HOUSE)).case.feedback == ()


async def test_visits_stay_those_of_the_moment_without_calendars(home: Home) -> None:
    visit = Visit(title="Cleaner", begin=NOW, end=NOW + timedelta(hours=1))
    house = replace(HOUSE, visits=(visit,))
    assert (await home.briefing.async_brief(await home.incident(), house)).case.house.visits == (visit,)


async def test_key_frames(home: Home) -> None:
    incident = await home.incident()
    for track_id, second in ((1, 0), (2, 5), (3, 20)):
        await home.picture(incident, track_id, second, width=2560 if track_id == 2 else 640)
    pictures = (await home.briefing.async_brief(incident, HOUSE)).pictures
    assert [(picture.track_id, picture.width, picture.height) for picture in pictures] == [
        (1, 640, 320),
        (2, 1280, 640),
        (3, 640, 320),
    ]
    assert all(picture.picture_id for picture in pictures)
    home.set_options(key_frames=1)
    assert len((await home.briefing.async_brief(incident, HOUSE)).pictures) == 1
    home.set_options(key_frames=0)
    assert (await home.briefing.async_brief(incident, HOUSE)).pictures == []


async def test_last_view(home: Home, freezer: FrozenDateTimeFactory) -> None:
    """What the camera sees now is kept, as long as it belongs to the incident."""
    asked: list[str] = []

    async def newest_frame(camera_id: str) -> Snapshot | None:
        asked.append(camera_id)
        at = dt_util.utcnow().timestamp()
        return Snapshot(request_id=1, camera_id=camera_id, frame_id=1, captured_at=at, data=jpeg())

    home.briefing = Briefing(home.hass, home.entry, home.store, str.title, newest_frame)
    incident = await home.incident()
    (seen,) = await home.store.async_tracks(incident.id)
    freezer.move_to(NOW + timedelta(seconds=3))
    assert (await home.briefing.async_brief(incident, HOUSE)).pictures == []
    assert asked == []  # the first picture is the worker's to choose
    incident = await home.picture(incident, seen.track_id, 0)
    for second in (3, 15):
        freezer.move_to(NOW + timedelta(seconds=second))
        pictures = (await home.briefing.async_brief(incident, HOUSE)).pictures
        assert [(picture.moment, picture.captured_at) for picture in pictures] == [
            ("closest", NOW),
            ("last view", NOW + timedelta(seconds=second)),
        ]
    best, last = await home.store.async_pictures(incident.id)
    assert (best.kind, last.kind, last.score) == (PictureKind.BEST, PictureKind.LAST, 0)
    assert last.box == Box(5, 5, 10, 20)
    freezer.move_to(NOW + timedelta(seconds=25))
    assert len((await home.briefing.async_brief(incident, HOUSE)).pictures) == 2
    assert asked == ["door", "door"]


@pytest.mark.parametrize("trouble", ["none", "damaged", "slow"])
async def test_judged_without_a_last_view(home: Home, monkeypatch: pytest.MonkeyPatch, trouble: str) -> None:
    monkeypatch.setattr(briefing, "FRAME_TIME", 0.05)
    monkeypatch.setattr(dt_util, "utcnow", lambda: NOW)

    async def newest_frame(camera_id: str) -> Snapshot | None:
        if trouble == "slow":
            await asyncio.Event().wait()
        snapshot = Snapshot(request_id=1, camera_id=camera_id, frame_id=1, captured_at=1.0, data=b"damaged")
        return None if trouble == "none" else snapshot

    home.briefing = Briefing(home.hass, home.entry, home.store, str.title, newest_frame)
    incident = await home.incident()
    (seen,) = await home.store.async_tracks(incident.id)
    incident = await home.picture(incident, seen.track_id, 0)
    assert len((await home.briefing.async_brief(incident, HOUSE)).pictures) == 1


async def test_ways(home: Home) -> None:
    incident = await home.incident()
    sights = [
        Detection(
            id=0,
            incident_id=incident.id,
            track_id=track_id,
            camera_id="door",
            object_type="person",
            confidence=0.9,
            detected_at=NOW + timedelta(seconds=second),
            box=Box(0, 0, size, size),
            frame_width=1280,
            frame_height=720,
        )
        for track_id, second, size in ((1, 0, 50), (2, 0.5, 99), (1, 1, 300), (1, 2, 200))
    ]
    await home.store.async_add_detections(sights)
    found = (await home.briefing.async_brief(incident, HOUSE)).case.ways
    assert {track_id: (way.first.box.width, way.closest.box.width) for track_id, way in found.items()} == {1: (50, 300)}


async def test_damaged_picture_is_left_out(home: Home, tmp_path: Path) -> None:
    incident = await home.incident()
    await home.picture(incident, 1, 0)
    for file in (tmp_path / "pictures").rglob("*.jpg"):
        file.write_bytes(b"x" * file.stat().st_size)
    assert (await home.briefing.async_brief(incident, HOUSE)).pictures == []


async def test_what_the_house_knows_now_is_not_of_an_old_incident(home: Home) -> None:
    incident = await home.incident()
    assert house_then(replace(HOUSE, at=NOW + timedelta(minutes=5)), incident).alarm == "armed_away"
    then = house_then(replace(HOUSE, at=NOW + timedelta(minutes=6)), incident)
    assert then == House(at=NOW)


async def test_scene_that_changed_is_shown_and_said(home: Home) -> None:
    incident = await home.incident()
    still, opened = yard(), yard(gate_open=True)
    for number in range(8):
        await home.picture(incident, number, 5 * number, data=opened if number == 2 else still)
    brief = await home.briefing.async_brief(incident, HOUSE)
    shown = [(round((picture.captured_at - NOW).total_seconds()), picture.moment) for picture in brief.pictures]
    assert len(shown) == 4
    assert (10, "scene change") in shown
    captions = [part["text"] for part in messages(brief.case, brief.pictures)[1]["content"] if part["type"] == "text"]
    assert any(", scene change, of: " in caption for caption in captions)
