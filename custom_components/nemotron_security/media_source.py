"""Pictures of incidents in the media browser: by camera, day and incident; also what an AI task is given to look at."""

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Final, override

from homeassistant.components.media_player import BrowseError, MediaClass, MediaType
from homeassistant.components.media_source import (
    BrowseMediaSource,
    MediaSource,
    MediaSourceItem,
    PlayMedia,
    Unresolvable,
)
from homeassistant.components.websocket_api import current_connection
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.translation import async_get_cached_translations
from homeassistant.util import dt as dt_util

from .const import DOMAIN, SUBENTRY_CAMERA
from .http_api import PICTURES
from .models import Incident, IncidentFilter
from .permissions import async_permissions
from .store import StoreError

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry

TITLE: Final = "Nemotron Home Security"
DAYS: Final = 31
INCIDENTS: Final = 100
"""What one page holds; what follows is one entry more."""


async def async_get_media_source(hass: HomeAssistant) -> MediaSource:
    """Return the source, for Home Assistant's media browser."""
    return IncidentPictures(hass)


class IncidentPictures(MediaSource):
    """The best picture of each incident.

    `camera/ID` lists days, `camera/ID/DAY` its incidents, `.../BEFORE` the next page of either; `picture/ID` is one.
    Who asks over a websocket sees the cameras they may read; what is asked within Home Assistant is not held back.
    """

    name = TITLE

    def __init__(self, hass: HomeAssistant) -> None:
        """Serve whichever entry is loaded."""
        super().__init__(DOMAIN)
        self._hass = hass

    @override
    async def async_resolve_media(self, item: MediaSourceItem) -> PlayMedia:
        """Return where a picture is."""
        kind, _, number = item.identifier.partition("/")
        try:
            picture_id = await self._async_seen(int(number) if kind == "picture" and number.isdecimal() else 0)
            path = self._entry.runtime_data.store.picture_path(picture_id)
        except (LookupError, ValueError, StoreError) as err:  # the database keeps no number of any length
            raise Unresolvable(translation_domain=DOMAIN, translation_key="picture_not_found") from err
        return PlayMedia(f"{PICTURES}/{picture_id}", "image/jpeg", path=path)

    async def _async_seen(self, picture_id: int) -> int:
        """Return the id of a picture that is there for whoever asks.

        Raises:
            LookupError: it is not.
        """
        found = await self._entry.runtime_data.store.async_picture(picture_id)
        if found is None or not self._may_see(found[1]):
            raise LookupError
        return found[0].id

    @override
    async def async_browse_media(self, item: MediaSourceItem) -> BrowseMediaSource:
        """List cameras, their days, or a day's incidents."""
        try:
            if not item.identifier:
                return _folder(None, TITLE, self._cameras())
            kind, camera_id, *rest = item.identifier.split("/")
            return await self._async_camera(camera_id if kind == "camera" else "", rest)
        except (LookupError, ValueError, OverflowError, StoreError) as err:
            raise BrowseError(translation_domain=DOMAIN, translation_key="media_not_found") from err

    @property
    def _entry(self) -> NemotronSecurityConfigEntry:
        """Return the loaded entry.

        Raises:
            LookupError: there is none.
        """
        entries: list[NemotronSecurityConfigEntry] = self._hass.config_entries.async_loaded_entries(DOMAIN)
        if not entries:
            raise LookupError
        return entries[0]

    @callback
    def _may_see(self, camera_id: str) -> bool:
        connection = current_connection.get()
        return connection is None or async_permissions(self._hass).may_read(connection.user, camera_id)

    def _cameras(self) -> list[BrowseMediaSource]:
        cameras = sorted(self._entry.get_subentries_of_type(SUBENTRY_CAMERA), key=lambda camera: camera.title)
        return [
            _folder(f"camera/{camera.subentry_id}", camera.title)
            for camera in cameras
            if self._may_see(camera.subentry_id)
        ]

    async def _async_camera(self, camera_id: str, rest: list[str]) -> BrowseMediaSource:
        title = self._entry.subentries[camera_id].title
        if not self._may_see(camera_id):
            raise LookupError
        path = f"camera/{camera_id}"
        match rest:
            case []:
                return _folder(path, title, await self._async_days(camera_id, None))
            case ["before", day]:
                return _folder(f"{path}/before/{day}", title, await self._async_days(camera_id, _day(day)))
            case [day]:
                return _folder(f"{path}/{day}", day, await self._async_day(camera_id, _day(day), None))
            case [day, before]:
                children = await self._async_day(camera_id, _day(day), int(before))
                return _folder(f"{path}/{day}/{before}", day, children)
            case _:
                raise LookupError

    async def _async_days(self, camera_id: str, before: date | None) -> list[BrowseMediaSource]:
        """List the days with incidents, the last first: one look for each, whatever lies between them."""
        days: list[BrowseMediaSource] = []
        day = before
        while found := await self._async_incidents(camera_id, None, _begin(day) if day else None, limit=1):
            if len(days) == DAYS:
                days.append(_folder(f"camera/{camera_id}/before/{day}", self._word("older")))
                break
            day = dt_util.as_local(found[0].started_at).date()
            days.append(_folder(f"camera/{camera_id}/{day}", f"{day}"))
        return days

    async def _async_day(self, camera_id: str, day: date, before_id: int | None) -> list[BrowseMediaSource]:
        begin, end = _begin(day), _begin(day + timedelta(days=1))
        found = await self._async_incidents(camera_id, begin, end, before_id=before_id, limit=INCIDENTS + 1)
        shown = [incident for incident in found[:INCIDENTS] if incident.started_at >= begin]
        pictures = [_picture(incident) for incident in shown if incident.picture_id is not None]
        if len(found) > INCIDENTS:
            pictures.append(_folder(f"camera/{camera_id}/{day}/{found[INCIDENTS - 1].id}", self._word("older")))
        return pictures

    async def _async_incidents(
        self,
        camera_id: str,
        since: datetime | None,
        until: datetime | None,
        *,
        before_id: int | None = None,
        limit: int,
    ) -> list[Incident]:
        wanted = IncidentFilter(camera_ids=frozenset({camera_id}), since=since, until=until)
        return await self._entry.runtime_data.store.async_incidents(wanted, before_id=before_id, limit=limit)

    def _word(self, key: str) -> str:
        words = async_get_cached_translations(self._hass, self._hass.config.language, "common", DOMAIN)
        return words.get(f"component.{DOMAIN}.common.{key}", key)


def _day(text: str) -> date:
    return date.fromisoformat(text)


def _begin(day: date) -> datetime:
    return dt_util.as_utc(dt_util.start_of_local_day(day))


def _folder(identifier: str | None, title: str, children: list[BrowseMediaSource] | None = None) -> BrowseMediaSource:
    return BrowseMediaSource(
        domain=DOMAIN,
        identifier=identifier,
        media_class=MediaClass.DIRECTORY,
        media_content_type=MediaType.IMAGE,
        title=title,
        can_play=False,
        can_expand=True,
        children=children,
    )


def _picture(incident: Incident) -> BrowseMediaSource:
    started_at = dt_util.as_local(incident.started_at)
    return BrowseMediaSource(
        domain=DOMAIN,
        identifier=f"picture/{incident.picture_id}",
        media_class=MediaClass.IMAGE,
        media_content_type="image/jpeg",
        title=f"{started_at:%H:%M:%S} {incident.title}",
        can_play=True,
        can_expand=False,
        thumbnail=f"{PICTURES}/{incident.picture_id}",
    )
