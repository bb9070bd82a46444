"""What a flow edits of a camera's zones, the window in which they are drawn, and the pictures for both, over HTTP.

The window is a page of its own. Whoever opened the flow may use it, in whatever browser the app hands it to: its
address holds a secret that is made for one visit, is spent by saving, and ends with the flow.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from html import escape
from http import HTTPStatus
import json
from pathlib import Path
import re
import secrets
from string import Template
from typing import TYPE_CHECKING, Any, Final

from aiohttp import hdrs, web
from homeassistant.components.http import KEY_HASS, HomeAssistantView
from homeassistant.components.http.auth import async_sign_path
from homeassistant.config_entries import ConfigEntryState, ConfigSubentry, UnknownSubEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.data_entry_flow import UnknownFlow
from homeassistant.helpers.translation import async_get_translations
from homeassistant.loader import async_get_integration
from homeassistant.util import dt as dt_util
from homeassistant.util.hass_dict import HassKey
from homeassistant.util.json import json_loads
import probatio as vol

from .const import DOMAIN
from .http_api import SignedView
from .permissions import async_permissions
from .vision.messages import Direction
from .zone_checks import (
    ENDS,
    LONGEST_NAME,
    MOST_POINTS,
    MOST_SHAPES,
    Shape,
    ShapeKind,
    count_problem,
    find_shape,
    name_problem,
    new_shape,
    points_problem,
    shape_points,
    shapes,
    taken_names,
    tidy_name,
    tidy_points,
    with_points,
    with_shape,
    without_shapes,
)
from .zone_picture import draw

if TYPE_CHECKING:
    from .runtime import NemotronSecurityConfigEntry

EDITOR: Final = f"/api/{DOMAIN}/zone_editor"
PICTURES: Final = f"/api/{DOMAIN}/zone_pictures"
PICTURE_WIDTH: Final = 1280
VALIDITY: Final = timedelta(hours=1)
"""How long a form's picture can be fetched."""
WINDOW_VALIDITY: Final = timedelta(hours=4)
"""How long a window can be used: a dialog that nobody closes would keep it for ever."""
LARGEST_BODY: Final = 256 * 1024
"""Bytes; the most that can be drawn needs half of it."""
PAGE: Final = Path(__file__).parent / "zone_page"
SCRIPTS: Final = ("state", "picture", "drawing", "saving", "page")
"""Parts of the page's one script, in their order."""
TEXTS: Final = "draw_"
"""What the page's texts begin with, among the translations that belong to no form."""
_ACCEPTED: Final = re.compile(r"\b([A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8})*)\s*(?:;\s*q=([01](?:\.[0-9]{1,3})?))?")
"""A language and how much it is wanted, in a browser's header."""


def _number(value: Any) -> float:
    """Take a number; to Python, true and false are some."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise vol.Invalid("not a number")
    return float(value)


_POINT = vol.All([_number], vol.Length(min=2, max=2))
_DRAWN = {
    vol.Required("id"): vol.All(str, vol.Length(max=32)),
    vol.Required("name"): vol.All(str, vol.Length(max=1000)),
    vol.Required("points"): vol.All([_POINT], vol.Length(min=1, max=1000)),
}
_LINE = {
    **_DRAWN,
    vol.Required("points"): vol.All([_POINT], vol.Length(min=ENDS, max=ENDS)),
    vol.Required("direction"): vol.Coerce(Direction),
}
DRAWING_SCHEMA = vol.Schema(
    {
        vol.Required(ShapeKind.ZONE.key): [_DRAWN],
        vol.Required(ShapeKind.LINE.key): [_LINE],
        vol.Required(ShapeKind.MASK.key): [_DRAWN],
        vol.Required("gone"): [str],
    }
)
CANCEL_SCHEMA = vol.Schema({vol.Required("cancel"): True})


class ZoneEditor:
    """The zones, entry lines and masks of one camera while a flow edits them. What is confirmed is saved at once."""

    def __init__(
        self, hass: HomeAssistant, entry: NemotronSecurityConfigEntry, subentry: ConfigSubentry, flow_id: str
    ) -> None:
        """Edit the camera of this subentry, until `async_close`."""
        self._hass = hass
        self._entry = entry
        self._flow_id = flow_id
        self._camera_id = subentry.subentry_id
        self._secret = ""
        self._valid_until = dt_util.utcnow()
        self._picture: bytes | None = None
        self._number = 0
        self.visited = False
        """Whether the window was left, by saving or not."""
        self.drawn: list[tuple[ShapeKind, str]] = []
        """What was drawn anew in it: the kind and the id of each."""
        hass.data.setdefault(EDITORS, {})[flow_id] = self

    @callback
    def async_close(self) -> None:
        """End: no secret works any more."""
        self._hass.data[EDITORS].pop(self._flow_id, None)

    @property
    def camera_id(self) -> str:
        """The camera's id."""
        return self._camera_id

    @property
    def title(self) -> str:
        """The camera's name."""
        return self._subentry.title

    @property
    def settings(self) -> Mapping[str, Any]:
        """The camera's settings as they are now."""
        return self._subentry.data

    @property
    def _subentry(self) -> ConfigSubentry:
        if not self.exists:
            raise UnknownSubEntry(self._camera_id)
        return self._entry.subentries[self._camera_id]

    @property
    def exists(self) -> bool:
        """Whether the camera was not removed meanwhile."""
        return self._camera_id in self._entry.subentries

    @callback
    def async_save(self, settings: Mapping[str, Any]) -> None:
        """Keep these settings."""
        self._hass.config_entries.async_update_subentry(self._entry, self._subentry, data=settings)

    # --- pictures ---------------------------------------------------------------------------------------------------

    async def async_look(self) -> bytes | None:
        """Return the camera's newest picture; an earlier one of this flow while there is none, None without either."""
        if self._entry.state is ConfigEntryState.LOADED:
            executor = self._entry.runtime_data.executor
            snapshot = await executor.async_snapshot(self._camera_id, boxes=False, max_width=PICTURE_WIDTH)
            if snapshot is not None:
                self._picture = snapshot.data
        return self._picture

    @callback
    def async_picture_url(self) -> str:
        """Return a path that expires, for a picture with a grid and all that is drawn, as it is when it is fetched."""
        self._number += 1  # a browser shall not show the one before
        return async_sign_path(self._hass, f"{PICTURES}/{self._flow_id}/{self._number}", VALIDITY)

    async def async_drawn_picture(self) -> bytes:
        """Return that picture, as SVG."""
        return await self._hass.async_add_executor_job(draw, self._picture, self.settings)

    # --- the window -------------------------------------------------------------------------------------------------

    @callback
    def async_page_path(self) -> str:
        """Open the window's address, unless it is open, and return it."""
        if not self._is_open:
            self._secret = secrets.token_urlsafe(32)
            self._valid_until = dt_util.utcnow() + WINDOW_VALIDITY
        self.visited = False
        self.drawn = []
        return f"{EDITOR}/{self._secret}"

    def knows(self, secret: str) -> bool:
        """Return whether this is the secret of the window that is open."""
        return self._is_open and secrets.compare_digest(secret.encode(), self._secret.encode())

    @property
    def _is_open(self) -> bool:
        return bool(self._secret) and dt_util.utcnow() < self._valid_until

    async def async_page(self, nonce: str, language: str) -> str:
        """Return the window's HTML."""
        texts = await _async_texts(self._hass, language)
        page, style, script = await self._hass.async_add_executor_job(_page_files)
        data = {
            "texts": {key.removeprefix(TEXTS): text for key, text in texts.items() if key.startswith(TEXTS)},
            "shapes": [_page_shape(kind, shape) for kind in ShapeKind for shape in shapes(self.settings, kind)],
            "camera_id": self._camera_id,
            "most_points": MOST_POINTS,
            "most_shapes": MOST_SHAPES,
            "longest_name": LONGEST_NAME,
        }
        return Template(page).substitute(
            language=escape(language),
            title=escape(texts["draw_title"].format(camera=self.title)),
            nonce=nonce,
            style=style,
            script=script,
            # Inside a script element, nothing but its end counts.
            data=json.dumps(data).replace("<", "\\u003c"),
        )

    async def async_take(self, drawing: Mapping[str, Any], language: str) -> list[dict[str, Any]]:
        """Save what was drawn and go on with the flow, or return what is wrong with which of it.

        Each problem has the `kind` and the `index` of what it is about (None for all of the kind), the `field`, its
        key as `problem`, and a `text`. Nothing is saved then.
        """
        settings, new = self._merged(drawing)
        if problems := list(_problems(settings, drawing)):
            texts = await _async_texts(self._hass, language)
            return [{**problem, "text": texts[problem["problem"]]} for problem in problems]
        self.async_save(settings)
        self.drawn = new
        await self.async_leave()
        return []

    async def async_leave(self) -> None:
        """Close the window's address, and go on with the flow."""
        self._secret = ""
        self.visited = True
        try:
            await self._hass.config_entries.subentries.async_configure(self._flow_id)
        except UnknownFlow:  # the dialog was closed meanwhile; what was drawn is saved
            self.async_close()

    def _merged(self, drawing: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[ShapeKind, str]]]:
        """Return the settings with what was drawn, right or wrong, and what of it is new; gives that its ids.

        What the window did not know of, as it was added elsewhere meanwhile, stays.
        """
        settings = without_shapes(self.settings, drawing["gone"])
        new = []
        for kind in ShapeKind:
            for drawn in drawing[kind.key]:
                shape = find_shape(settings, kind, drawn["id"])
                if shape is None:
                    shape = new_shape(kind, settings)
                    new.append((kind, shape["id"]))
                drawn["id"] = shape["id"]
                shape["name"] = drawn["name"] = tidy_name(drawn["name"])
                if kind is ShapeKind.LINE:
                    shape["direction"] = drawn["direction"].value
                points = tidy_points(drawn["points"])
                # Both ends of a line in one place are one point then, and refused later.
                whole = points if kind is not ShapeKind.LINE or len(points) == ENDS else points * ENDS
                drawn["points"] = points
                settings = with_shape(settings, kind, with_points(kind, shape, whole))
        return settings, new


EDITORS: HassKey[dict[str, ZoneEditor]] = HassKey(f"{DOMAIN}_zone_editors")
"""Those of the flows that are open, by the flow's id."""


def _problems(settings: Mapping[str, Any], drawing: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Yield what is wrong with the settings that would be saved."""
    for kind in ShapeKind:
        if problem := count_problem(settings, kind):
            yield {"kind": kind.key, "index": None, "field": "base", "problem": problem}
        for index, drawn in enumerate(drawing[kind.key]):
            found = {
                "name": name_problem(drawn["name"], taken_names(settings, kind, drawn["id"])),
                "points": points_problem(kind, drawn["points"]),
            }
            for field, problem in found.items():
                if problem:
                    yield {"kind": kind.key, "index": index, "field": field, "problem": problem}


def _page_shape(kind: ShapeKind, shape: Shape) -> dict[str, Any]:
    known: dict[str, Any] = {name: shape[name] for name in ("id", "name", "direction") if name in shape}
    return {"kind": kind.value, **known, "points": shape_points(shape)}


@cache
def _page_files() -> tuple[str, str, str]:
    page, style, *scripts = (
        (PAGE / name).read_text(encoding="utf-8")
        for name in ("page.html", "page.css", *(f"{script}.js" for script in SCRIPTS))
    )
    return page, style, "\n".join(scripts)


async def _async_language(request: web.Request) -> str:
    """Return the language that the user of a browser reads best, of those that there are texts in; else English.

    Nobody is logged in there, so that what a user chose in Home Assistant is not known.
    """
    hass = request.app[KEY_HASS]
    folder = (await async_get_integration(hass, DOMAIN)).file_path / "translations"
    files = await hass.async_add_executor_job(lambda: [file.stem for file in folder.glob("*.json")])
    translated = {language.lower(): language for language in files}
    accepted = request.headers.get(hdrs.ACCEPT_LANGUAGE) or hass.config.language
    wanted = [(float(quality or 1), language) for language, quality in _ACCEPTED.findall(accepted)]
    for quality, language in sorted(wanted, key=lambda item: -item[0]):
        parts = language.lower().split("-")
        for length in range(len(parts), 0, -1):
            if quality and (found := translated.get("-".join(parts[:length]))):
                return found
    return "en"


async def _async_texts(hass: HomeAssistant, language: str) -> dict[str, str]:
    """Return the errors of the camera's forms and what belongs to no form, by their keys."""
    texts: dict[str, str] = {}
    for category, prefix in (("config_subentries", "camera.error."), ("common", "")):
        found = await async_get_translations(hass, language, category, [DOMAIN])
        start = f"component.{DOMAIN}.{category}.{prefix}"
        texts |= {key.removeprefix(start): text for key, text in found.items() if key.startswith(start)}
    return texts


# --- over HTTP ------------------------------------------------------------------------------------------------------


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the views, once for the life of Home Assistant."""
    for view in (ZonePageView, ZonePagePictureView, ZonePictureView):
        hass.http.register_view(view)


class _SecretView(HomeAssistantView):
    """A view for whoever knows the secret. Others are forbidden, as 401 would count as a failed log-in."""

    requires_auth = False

    async def _async_editor(self, request: web.Request, secret: str) -> ZoneEditor:
        """Return the editor whose window this is.

        Raises:
            web.HTTPForbidden: it was never open, was left, or its flow or camera is gone.
        """
        hass = request.app[KEY_HASS]
        for editor in hass.data.get(EDITORS, {}).values():
            if editor.knows(secret) and editor.exists:
                return editor
        texts = await _async_texts(hass, await _async_language(request))
        raise web.HTTPForbidden(text=texts["draw_expired"], headers=_NOT_KEPT)


_NOT_KEPT: Final[dict[str, str]] = {hdrs.CACHE_CONTROL: "no-store"}


class ZonePageView(_SecretView):
    """The window, and what it sends."""

    url = EDITOR + "/{secret}"
    name = f"api:{DOMAIN}:zone_editor"

    async def get(self, request: web.Request, secret: str) -> web.Response:
        """Return the page. It loads nothing but its picture, and may talk to nobody else."""
        editor = await self._async_editor(request, secret)
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self'; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return web.Response(
            text=await editor.async_page(nonce, await _async_language(request)),
            content_type="text/html",
            headers={**_NOT_KEPT, "Content-Security-Policy": policy},
        )

    async def post(self, request: web.Request, secret: str) -> web.Response:
        """Save what was drawn, or leave the window."""
        editor = await self._async_editor(request, secret)
        body = await _async_json(request)
        if isinstance(body, dict) and "cancel" in body:
            _checked(CANCEL_SCHEMA, body)
            await editor.async_leave()
            return self.json({}, headers=_NOT_KEPT)
        problems = await editor.async_take(_checked(DRAWING_SCHEMA, body), await _async_language(request))
        status = HTTPStatus.UNPROCESSABLE_ENTITY if problems else HTTPStatus.OK
        return self.json({"problems": problems}, status, headers=_NOT_KEPT)


class ZonePagePictureView(_SecretView):
    """What the camera sees now, for the window to draw on."""

    url = EDITOR + "/{secret}/picture"
    name = f"api:{DOMAIN}:zone_editor:picture"

    async def get(self, request: web.Request, secret: str) -> web.Response:
        """Return the JPEG."""
        jpeg = await (await self._async_editor(request, secret)).async_look()
        if jpeg is None:
            raise web.HTTPNotFound(headers=_NOT_KEPT)
        return web.Response(body=jpeg, content_type="image/jpeg", headers=_NOT_KEPT)


class ZonePictureView(SignedView):
    """The picture that a form shows, as long as its flow is open."""

    url = PICTURES + "/{flow_id:[0-9a-f]{32}}/{number:[0-9]{1,9}}"
    name = f"api:{DOMAIN}:zone_picture"

    async def get(self, request: web.Request, flow_id: str, number: str) -> web.Response:
        """Return the SVG."""
        user = self.user_of(request)
        hass = request.app[KEY_HASS]
        editor = hass.data.get(EDITORS, {}).get(flow_id)
        if editor is None or not editor.exists:
            raise web.HTTPNotFound
        if not async_permissions(hass).may_read(user, editor.camera_id):
            raise web.HTTPNotFound
        return web.Response(
            body=await editor.async_drawn_picture(),
            content_type="image/svg+xml",
            # Opened by itself, it is a document of ours: it runs nothing.
            headers={
                **_NOT_KEPT,
                "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
            },
        )


async def _async_json(request: web.Request) -> Any:
    """Return the body's JSON.

    Raises:
        web.HTTPBadRequest: it is none.
        web.HTTPRequestEntityTooLarge: it is more than anybody draws.
    """
    if request.content_type != "application/json" or request.content_length is None:
        raise web.HTTPBadRequest
    if request.content_length > LARGEST_BODY:
        raise web.HTTPRequestEntityTooLarge(LARGEST_BODY, request.content_length)
    try:
        return json_loads(await request.read())
    except ValueError as err:
        raise web.HTTPBadRequest from err


def _checked(schema: vol.Schema, body: Any) -> dict[str, Any]:
    try:
        checked: dict[str, Any] = schema(body)
    except vol.Invalid as err:
        raise web.HTTPBadRequest from err
    return checked
