"""Gathers all that an analyzer is given of an incident: the case and its key frames, as the user's settings want it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
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
    Detection,
    Feedback,
    Floor,
    House,
    Incident,
    IncidentFilter,
    Picture,
    PictureKind,
    Topic,
    Track,
)
from ..store import Store, StoreError
from ..vision.messages import Snapshot
from . import Brief, Case, Earlier, KeyFrame, PastFeedback, Place, Way
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
            topics=frozenset(map(Topic, options.get(CONF_TOPICS, Topic))),
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
        tracks = tuple(await self._store.async_tracks(incident.id))
        case = self.settled(
            Case(
                camera_id=incident.camera_id,
                camera_name=self._camera_name(incident.camera_id),
                started_at=incident.started_at,
                tracks=tracks,
                trigger=incident.trigger,
                house=house,
                ways=ways(await self._store.async_detections(incident.id)),
            )
        )
        return Brief(await self._async_completed(case, incident), await self._async_pictures(incident, tracks))

    async def _async_completed(self, case: Case, incident: Incident) -> Case:
        visits = case.house.visits
        feedback: tuple[PastFeedback, ...] = ()
        if Topic.CALENDARS in case.topics and (calendars := self._entry.options.get(CONF_CALENDARS)):
            visits = await async_visits(self._hass, calendars, case.started_at)
        if Topic.FEEDBACK in case.topics:
            feedback = past_feedback(incident, await self._async_reviewed(incident), case.house.at.tzinfo)
        return replace(
            case,
            house=replace(case.house, visits=visits),
            earlier=await self._async_earlier(incident, case.place) if Topic.HISTORY in case.topics else (),
            feedback=feedback,
        )

    async def _async_reviewed(self, incident: Incident) -> list[Incident]:
        """Return incidents with something in common on which somebody said something, the newest first."""
        found: list[Incident] = []
        for feedback in Feedback:
            wanted = IncidentFilter(feedback=feedback, labels=frozenset(incident.labels))
            found += await self._store.async_incidents(wanted, limit=MOST_LOOKED_AT)
        return sorted(found, key=lambda other: other.id, reverse=True)

    async def _async_earlier(self, incident: Incident, here: Place) -> tuple[Earlier, ...]:
        cameras = frozenset({incident.camera_id, *self._nearby(incident.camera_id, here)})
        wanted = IncidentFilter(camera_ids=cameras, since=incident.started_at - HISTORY)
        found = await self._store.async_incidents(wanted, before_id=incident.id, limit=MOST_EARLIER)
        return tuple(
            Earlier(
                incident=other,
                camera_name=self._camera_name(other.camera_id),
                here=other.camera_id == incident.camera_id,
            )
            for other in found
        )

    def _nearby(self, camera_id: str, here: Place) -> list[str]:
        """Return the other cameras of the same area or floor."""
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

    async def _async_pictures(self, incident: Incident, tracks: tuple[Track, ...]) -> list[KeyFrame]:
        """Return the key frames, in the order of their times; what is gone or damaged is left out."""
        most = int(self._entry.options.get(CONF_KEY_FRAMES, DEFAULT_KEY_FRAMES))
        if not most:
            return []
        matters = importance(tracks)
        pictures = await self._store.async_pictures(incident.id)
        if pictures and dt_util.utcnow() - incident.last_seen_at < JUST_NOW:
            main = max(tracks, key=lambda track: (matters[track.track_id], track.last_seen_at), default=None)
            if last := await self._async_last_view(incident, main):
                pictures = [picture for picture in pictures if picture.kind is not PictureKind.LAST] + [last]
        pictures = candidates(pictures, matters, most)
        read = await self._store.async_read_pictures([picture.id for picture in pictures])
        jpegs = {picture.id: jpeg for picture, jpeg in zip(pictures, read, strict=True) if jpeg is not None}
        return await asyncio.to_thread(lambda: list(_key_frames(choose(pictures, matters, most, jpegs), jpegs)))

    async def _async_last_view(self, incident: Incident, track: Track | None) -> Picture | None:
        """Store what the camera sees now: where the object went, what it left, what is missing.

        Without a track, something in the house opened the incident: who comes may be seen by now.
        """
        if self._newest_frame is None:
            return None
        try:
            async with asyncio.timeout(FRAME_TIME):
                frame = await self._newest_frame(incident.camera_id)
            if frame is None or frame.captured_at is None:
                return None
            view = await asyncio.to_thread(scaled, frame.data)
            stored, _ = await self._store.async_add_picture(
                incident.id,
                track.track_id if track else WHOLE_SCENE,
                PictureKind.LAST,
                captured_at=datetime.fromtimestamp(frame.captured_at, UTC),
                box=_resized(track, view.width, view.height) if track else Box(0.0, 0.0, view.width, view.height),
                score=0.0,
                width=view.width,
                height=view.height,
                jpeg=view.jpeg,
            )
            return stored  # noqa: TRY300
        except (TimeoutError, OSError, StoreError) as err:
            _LOGGER.debug("Incident %s is judged without its last view: %s", incident.id, type(err).__name__)
            return None


def _key_frames(chosen: Sequence[Chosen], jpegs: Mapping[int, bytes]) -> Iterator[KeyFrame]:
    """Yield the chosen pictures that are there, no larger than any model takes them. Not for the event loop."""
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


def ways(detections: Sequence[Detection]) -> dict[int, Way]:
    """Return how each track went through the picture, of the sights that are stored in the order of their times."""
    sights: dict[int, list[Detection]] = {}
    for detection in detections:
        sights.setdefault(detection.track_id, []).append(detection)
    return {
        track_id: Way(first=seen[0], closest=max(seen, key=lambda sight: sight.box.area))
        for track_id, seen in sights.items()
        if len(seen) > 1
    }


def _is_near(one: Place, other: Place) -> bool:
    same_area = one.area_id is not None and one.area_id == other.area_id
    return same_area or (one.floor_id is not None and one.floor_id == other.floor_id)
