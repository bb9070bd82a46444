"""Gathers all that an analyzer is given of an incident: the case and its key frames, as the user's settings want it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
import logging
from typing import Any, Final

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.util import dt as dt_util

from ..const import (
    CONF_CALENDARS,
    CONF_CAMERA_ENTITY,
    CONF_FLOORS,
    CONF_KEY_FRAMES,
    CONF_NOTE,
    CONF_TOPICS,
    CONF_VIEW,
    DEFAULT_KEY_FRAMES,
    DOMAIN,
    SUBENTRY_CAMERA,
)
from ..models import (
    WHOLE_SCENE,
    Box,
    CameraView,
    Evidence,
    Floor,
    House,
    Incident,
    Picture,
    PictureKind,
    Topic,
    Track,
    Visit,
)
from ..store import Store, StoreError
from ..vision.messages import Snapshot
from . import Brief, Case, Earlier, KeyFrame, Place
from .analyst import HOUSE_HOLDS
from .context import area_of_entity, async_visits, place
from .feedback import MOST_LOOKED_AT, past_feedback
from .keyframes import Chosen, candidates, choose, scaled
from .rules import importance

_LOGGER = logging.getLogger(__name__)

HISTORY: Final = timedelta(hours=24)
MOST_EARLIER: Final = 6
"""Incidents before this one that are told."""
JUST_NOW: Final = timedelta(seconds=20)
"""For so long after an incident's last sight, what its camera sees belongs to it."""
FRAME_TIME: Final = 1.0
"""Seconds that the worker may take for its newest frame."""


def house_then(house: House, incident: Incident) -> House:
    """Return what the house knew of an incident that is judged now: of one that is older, only the hour is known."""
    if abs(house.at - incident.last_seen_at) <= HOUSE_HOLDS:
        return house
    return House(at=incident.started_at.astimezone(house.at.tzinfo))


type NewestFrame = Callable[[str], Awaitable[Snapshot | None]]


class Briefing:
    """Reads the entry's settings, the registries, the calendars and the store; as they are now."""

    def __init__(
        self,
        hass: HomeAssistant,
        entry: ConfigEntry,
        store: Store,
        camera_name: Callable[[str], str],
        newest_frame: NewestFrame | None = None,
    ) -> None:
        """Prepare.

        Args:
            hass: Home Assistant.
            entry: whose options and cameras count.
            store: where the incidents and their pictures are.
            camera_name: gives the name of a camera by its id.
            newest_frame: gives what a camera sees now, no larger than a model is shown.
        """
        self._newest_frame = newest_frame
        self._hass = hass
        self._entry = entry
        self._store = store
        self._camera_name = camera_name

    @callback
    def settled(self, case: Case) -> Case:
        """Return the case with what the user set for its camera, and with the floors and topics that the user chose."""
        options, camera = self._entry.options, self._camera(case.camera_id)
        return replace(
            case,
            note=camera.get(CONF_NOTE) or None,
            view=CameraView(camera[CONF_VIEW]) if camera.get(CONF_VIEW) else None,
            place=self._place(case.camera_id),
            topics=self._topics(),
            floors=frozenset(map(Floor, options.get(CONF_FLOORS, Floor))),
        )

    async def async_brief(self, incident: Incident, house: House) -> Brief:
        """Return what an analyzer is given of an incident.

        Args:
            incident: as it is stored now.
            house: what the house knew when it happened.

        Raises:
            StoreError: the database cannot be read.
        """
        evidence, view = await asyncio.gather(self._async_evidence(incident), self._async_newest_view(incident))
        case = self.settled(
            Case(
                camera_id=incident.camera_id,
                camera_name=self._camera_name(incident.camera_id),
                started_at=incident.started_at,
                tracks=evidence.tracks,
                trigger=incident.trigger,
                house=replace(house, visits=await self._async_visits(incident, house)),
                ways=evidence.ways,
                earlier=tuple(self._earlier(incident, evidence.earlier)),
                feedback=past_feedback(incident, evidence.reviewed, house.at.tzinfo, self._camera_name),
            )
        )
        return Brief(case, await self._async_pictures(incident, evidence, view))

    async def _async_evidence(self, incident: Incident) -> Evidence:
        topics = self._topics()
        return await self._store.async_evidence(
            incident,
            nearby={incident.camera_id, *self._nearby(incident.camera_id)},
            since=incident.started_at - HISTORY,
            most_earlier=MOST_EARLIER if Topic.HISTORY in topics else 0,
            most_reviewed=MOST_LOOKED_AT if Topic.FEEDBACK in topics else 0,
        )

    async def _async_visits(self, incident: Incident, house: House) -> tuple[Visit, ...]:
        calendars = self._entry.options.get(CONF_CALENDARS)
        if not calendars or Topic.CALENDARS not in self._topics():
            return house.visits
        return await async_visits(self._hass, calendars, incident.started_at)

    def _earlier(self, incident: Incident, others: Iterable[Incident]) -> Iterator[Earlier]:
        for other in others:
            yield Earlier(
                incident=other,
                camera_name=self._camera_name(other.camera_id),
                here=other.camera_id == incident.camera_id,
            )

    def _topics(self) -> frozenset[Topic]:
        return frozenset(map(Topic, self._entry.options.get(CONF_TOPICS, Topic)))

    def _nearby(self, camera_id: str) -> list[str]:
        """Return the other cameras of the same area or floor."""
        here = self._place(camera_id)
        others = [subentry.subentry_id for subentry in self._entry.get_subentries_of_type(SUBENTRY_CAMERA)]
        return [other for other in others if other != camera_id and _is_near(here, self._place(other))]

    def _camera(self, camera_id: str) -> Mapping[str, Any]:
        subentry = self._entry.subentries.get(camera_id)
        return subentry.data if subentry else {}

    def _place(self, camera_id: str) -> Place:
        """Return where a camera is: its own device's area, else that of the camera entity that it watches."""
        device = dr.async_get(self._hass).async_get_device_by_identifier((DOMAIN, camera_id), self._entry.entry_id)
        area_id = device.area_id if device else None
        if not area_id and (entity_id := self._camera(camera_id).get(CONF_CAMERA_ENTITY)):
            area_id = area_of_entity(self._hass, entity_id)
        return place(self._hass, area_id)

    def _most_pictures(self) -> int:
        return int(self._entry.options.get(CONF_KEY_FRAMES, DEFAULT_KEY_FRAMES))

    async def _async_pictures(self, incident: Incident, evidence: Evidence, view: Snapshot | None) -> list[KeyFrame]:
        """Return the key frames, in the order of their times; what is gone or damaged is left out."""
        if not (most := self._most_pictures()):
            return []
        matters = importance(evidence.tracks)
        pictures = evidence.pictures
        if pictures and view:
            main = max(evidence.tracks, key=lambda track: (matters[track.track_id], track.last_seen_at), default=None)
            if last := await self._async_keep_view(incident, main, view):
                pictures = [picture for picture in pictures if picture.kind is not PictureKind.LAST] + [last]
        pictures = candidates(pictures, matters, most)
        return await asyncio.to_thread(self._read_key_frames, pictures, matters, most)

    def _read_key_frames(self, pictures: Sequence[Picture], matters: Mapping[int, int], most: int) -> list[KeyFrame]:
        """Choose among the pictures that are there; no larger than any model takes them. Not for the event loop."""
        read = self._store.read_pictures(pictures)
        jpegs = {picture.id: jpeg for picture, jpeg in zip(pictures, read, strict=True) if jpeg is not None}
        return list(_key_frames(choose(pictures, matters, most, jpegs), jpegs))

    async def _async_newest_view(self, incident: Incident) -> Snapshot | None:
        """Return what the camera sees now: where the object went, what it left, what is missing."""
        fresh = dt_util.utcnow() - incident.last_seen_at < JUST_NOW
        if self._newest_frame is None or not fresh or incident.picture_id is None or not self._most_pictures():
            return None
        try:
            async with asyncio.timeout(FRAME_TIME):
                return await self._newest_frame(incident.camera_id)
        except (TimeoutError, OSError) as err:
            _no_view(incident, err)
            return None

    async def _async_keep_view(self, incident: Incident, track: Track | None, view: Snapshot) -> Picture | None:
        """Store what the camera saw last.

        Without a track, something in the house opened the incident: who comes may be seen by now.
        """
        if view.captured_at is None:
            return None
        try:
            fitting = await asyncio.to_thread(scaled, view.data)
            stored, _ = await self._store.async_add_picture(
                incident.id,
                track.track_id if track else WHOLE_SCENE,
                PictureKind.LAST,
                captured_at=datetime.fromtimestamp(view.captured_at, UTC),
                box=_resized(track, fitting.width, fitting.height)
                if track
                else Box(0.0, 0.0, fitting.width, fitting.height),
                score=0.0,
                width=fitting.width,
                height=fitting.height,
                jpeg=fitting.jpeg,
            )
        except (OSError, StoreError) as err:
            _no_view(incident, err)
            return None
        return stored


def _no_view(incident: Incident, err: Exception) -> None:
    _LOGGER.debug("Incident %s is judged without its last view: %s", incident.id, type(err).__name__)


def _key_frames(chosen: Sequence[Chosen], jpegs: Mapping[int, bytes]) -> Iterator[KeyFrame]:
    """Yield the chosen pictures; one that is damaged is left out."""
    for picture, moment in chosen:
        with contextlib.suppress(KeyError, OSError):
            fitting = scaled(jpegs[picture.id])
            yield KeyFrame(
                track_id=picture.track_id,
                captured_at=picture.captured_at,
                jpeg=fitting.jpeg,
                width=fitting.width,
                height=fitting.height,
                moment=moment,
                picture_id=picture.id,
            )


def _resized(track: Track, width: int, height: int) -> Box:
    """Return the box of a track in a picture of another size than its frame's; one that has left is at the border."""
    across, down = width / max(1, track.frame_width), height / max(1, track.frame_height)
    box = track.box
    return Box(
        min(max(box.left * across, 0.0), width),
        min(max(box.top * down, 0.0), height),
        min(max(box.right * across, 0.0), width),
        min(max(box.bottom * down, 0.0), height),
    )


def _is_near(one: Place, other: Place) -> bool:
    same_area = one.area_id is not None and one.area_id == other.area_id
    return same_area or (one.floor_id is not None and one.floor_id == other.floor_id)
