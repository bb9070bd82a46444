"""Pictures over HTTP: asked for by their ids, handed to whoever may see their camera."""

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import hdrs, web
from homeassistant.auth.models import User
from homeassistant.components.http import KEY_AUTHENTICATED, KEY_HASS, KEY_HASS_USER, HomeAssistantView
from homeassistant.components.http.auth import async_sign_path
from homeassistant.core import HomeAssistant, callback

from .const import DOMAIN
from .models import Picture
from .permissions import async_permissions
from .store import StoreError

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry

PICTURES = f"/api/{DOMAIN}/pictures"
VALIDITY = timedelta(hours=1)
"""How long a signed path works."""


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the view, once for the life of Home Assistant."""
    hass.http.register_view(PictureView)


@callback
def async_picture_url(hass: HomeAssistant, picture_id: int, refresh_token_id: str | None) -> str:
    """Return a path that needs no header, for an `<img>`; it expires, and can no more than the token's user."""
    return async_sign_path(hass, f"{PICTURES}/{picture_id}", VALIDITY, refresh_token_id=refresh_token_id)


class SignedView(HomeAssistantView):
    """A view whose paths are signed and expire while a page shows them.

    Who is not authenticated is forbidden, as 401 would count as a failed log-in, and an open dashboard's address be
    banned. Every handler has to begin with `user_of`.
    """

    requires_auth = False

    def user_of(self, request: web.Request) -> User:
        """Return who asks, by a token or by the path's signature.

        Raises:
            web.HTTPForbidden: nobody knows; the signature may have expired.
        """
        if not request.get(KEY_AUTHENTICATED, False):
            raise web.HTTPForbidden
        user: User = request[KEY_HASS_USER]
        return user


class PictureView(SignedView):
    """Serves a stored picture.

    Nothing of the request but a number reaches the store. A picture that does not exist and one that the user may not
    see are the same: not found.
    """

    url = PICTURES + "/{picture_id:[0-9]{1,18}}"
    name = f"api:{DOMAIN}:picture"

    async def get(self, request: web.Request, picture_id: str) -> web.Response:
        """Return the JPEG."""
        user = self.user_of(request)
        hass = request.app[KEY_HASS]
        entries: list[NemotronSecurityConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
        if not entries:
            raise web.HTTPServiceUnavailable
        store = entries[0].runtime_data.store
        try:
            found = await store.async_picture(int(picture_id))
            # What the user may see now, whatever it was when the path was signed.
            if found is None or not async_permissions(hass).may_read(user, found[1]):
                raise web.HTTPNotFound
            picture = found[0]
            etag = _etag(picture)
            # Asked for anew each time: another user of the same browser may not see it.
            headers = {hdrs.CACHE_CONTROL: "private, no-cache", hdrs.ETAG: f'"{etag}"'}
            if any(known.value == etag for known in request.if_none_match or ()):
                return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
            (jpeg,) = await hass.async_add_executor_job(store.read_pictures, [picture])
        except StoreError as err:
            raise web.HTTPServiceUnavailable from err
        if jpeg is None:  # its file is gone, or a better one took its place
            raise web.HTTPNotFound
        return web.Response(body=jpeg, content_type="image/jpeg", headers=headers)


def _etag(picture: Picture) -> str:
    """Name the picture's content: ids begin anew with a new database, times do not."""
    return f"{picture.id}-{picture.captured_at.timestamp():.6f}"
