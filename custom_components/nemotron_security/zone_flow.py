"""The steps of a camera's flow in which its zones, entry lines and masks are drawn, typed, named and deleted.

Each step saves at once and leads back to the menu: a phone may close the dialog while somebody draws in another window.
"""

from typing import Any, override

from homeassistant.config_entries import SOURCE_RECONFIGURE, ConfigSubentryFlow, SubentryFlowResult
from homeassistant.const import CONF_NAME
from homeassistant.core import DOMAIN as HOMEASSISTANT_DOMAIN, callback
from homeassistant.helpers.config_entry_oauth2_flow import HEADER_FRONTEND_BASE
from homeassistant.helpers.http import current_request
from homeassistant.helpers.network import NoURLAvailableError, get_url
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)
import probatio as vol

from .const import CONF_LABELS, CONF_OPENING_ZONES, DEFAULT_LABELS
from .forms import seconds, select
from .vision.messages import Direction
from .zone_checks import (
    LONGEST_DWELL,
    MOST_INERTIA,
    Point,
    Shape,
    ShapeKind,
    count_problem,
    find_shape,
    format_points,
    new_shape,
    opening_choices,
    opening_problem,
    parse_points,
    shape_points,
    shape_problems,
    shapes,
    tidy_name,
    tidy_points,
    with_points,
    with_shape,
    without_shapes,
)
from .zone_editor import ZoneEditor

CONF_SHAPE = "shape"
CONF_POINTS = "points"
CONF_DELETE = "delete"
NEW = "new"
"""Stands in the list for one that is not there yet."""

DETAILS: dict[ShapeKind, dict[vol.Marker, Any]] = {
    ShapeKind.ZONE: {
        vol.Required("dwell"): seconds(0, LONGEST_DWELL),
        vol.Required("inertia"): NumberSelector(
            NumberSelectorConfig(min=1, max=MOST_INERTIA, step=1, mode=NumberSelectorMode.SLIDER)
        ),
    },
    ShapeKind.LINE: {vol.Required("direction"): select(tuple(Direction), "direction")},
    ShapeKind.MASK: {
        vol.Required("motion"): BooleanSelector(),
        vol.Required("objects"): BooleanSelector(),
    },
}
"""What each kind has besides a name, points and labels."""


class ZoneSteps(ConfigSubentryFlow):
    """The steps. The flow that has them begins with `async_show_zone_menu`."""

    OTHER_STEPS: tuple[str, ...] = ()
    """What else its menu offers, after what is done in the picture."""

    _editor: ZoneEditor | None = None
    _shape: Shape | None = None
    """What is edited."""

    @property
    def _zones(self) -> ZoneEditor:
        if self._editor is None:
            self._editor = ZoneEditor(self.hass, self._get_entry(), self._get_reconfigure_subentry(), self.flow_id)
        return self._editor

    @callback
    @override
    def async_remove(self) -> None:
        """The dialog was closed."""
        if self._editor is not None:
            self._editor.async_close()

    async def async_show_zone_menu(self) -> SubentryFlowResult:
        """Show what of the camera can be changed, and how its picture is divided now."""
        settings = self._zones.settings
        steps = ["source", "draw", *(kind.key for kind in ShapeKind)]
        if opening_choices(settings):
            steps.append(CONF_OPENING_ZONES)
        await self._zones.async_look()
        return self.async_show_menu(
            step_id=SOURCE_RECONFIGURE,
            menu_options=[*steps, *self.OTHER_STEPS, "finish"],
            description_placeholders={
                "camera": self._zones.title,
                "picture": self._picture(),
                **{kind.key: str(len(shapes(settings, kind))) for kind in ShapeKind},
            },
        )

    async def async_step_finish(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """End: everything is saved already."""
        return self.async_abort(reason="reconfigure_successful", translation_domain=HOMEASSISTANT_DOMAIN)

    def _picture(self) -> str:
        """Return the camera's picture, as Markdown."""
        return f"![]({self._zones.async_picture_url()})"

    # --- drawn ------------------------------------------------------------------------------------------------------

    async def async_step_draw(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Open a window to draw in; what it sends is checked and saved before the flow goes on.

        Nothing is taken from `user_input`: anybody can send that.
        """
        if self._zones.visited:
            return self.async_external_step_done(next_step_id="drawn")
        return self.async_external_step(step_id="draw", url=f"{self._base_url()}{self._zones.async_page_path()}")

    async def async_step_drawn(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask for the details of what is new, one after the other."""
        self._zones.visited = False
        return await self._async_next()

    def _base_url(self) -> str:
        """Return the address at which the user has Home Assistant open; an app opens no relative one."""
        request = current_request.get()
        if request is not None and (base := request.headers.get(HEADER_FRONTEND_BASE)):
            return base
        try:
            return get_url(self.hass)
        except NoURLAvailableError:
            return ""

    async def _async_next(self) -> SubentryFlowResult:
        """Show the form of the next shape that was drawn, or the menu."""
        while self._zones.drawn:
            kind, shape_id = self._zones.drawn.pop(0)
            if shape := find_shape(self._zones.settings, kind, shape_id):
                self._shape = shape
                return await self._async_edit(kind, None)
        return await self.async_show_zone_menu()

    # --- typed ------------------------------------------------------------------------------------------------------

    async def async_step_zones(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask which zone to change."""
        return await self._async_choose(ShapeKind.ZONE, user_input)

    async def async_step_lines(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask which entry line to change."""
        return await self._async_choose(ShapeKind.LINE, user_input)

    async def async_step_masks(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask which mask to change."""
        return await self._async_choose(ShapeKind.MASK, user_input)

    async def async_step_zone(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask where a zone is and what counts in it."""
        return await self._async_edit(ShapeKind.ZONE, user_input)

    async def async_step_line(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask where an entry line is and what counts as crossing it."""
        return await self._async_edit(ShapeKind.LINE, user_input)

    async def async_step_mask(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask where a mask is and what it hides."""
        return await self._async_edit(ShapeKind.MASK, user_input)

    async def _async_choose(self, kind: ShapeKind, user_input: dict[str, Any] | None) -> SubentryFlowResult:
        """Let one be chosen, or a new one; without any there is only that."""
        present = shapes(self._zones.settings, kind)
        if user_input is None and present:
            options = [SelectOptionDict(value=shape["id"], label=shape["name"]) for shape in present]
            selector = SelectSelector(
                SelectSelectorConfig(
                    options=[*options, SelectOptionDict(value=NEW, label=NEW)],
                    translation_key="shape",
                    mode=SelectSelectorMode.LIST,
                )
            )
            await self._zones.async_look()
            return self.async_show_form(
                step_id=kind.key,
                data_schema=vol.Schema({vol.Required(CONF_SHAPE, default=NEW): selector}),
                description_placeholders={"picture": self._picture()},
                last_step=False,
            )
        chosen = user_input[CONF_SHAPE] if user_input else NEW
        if chosen == NEW:
            self._shape = new_shape(kind, self._zones.settings)
        elif (shape := find_shape(self._zones.settings, kind, chosen)) is None:
            return await self.async_show_zone_menu()  # it was deleted in another window
        else:
            self._shape = shape
        return await self._async_edit(kind, None)

    async def _async_edit(self, kind: ShapeKind, user_input: dict[str, Any] | None) -> SubentryFlowResult:
        """Ask for all of one shape; what is wrong is said, and what was typed stays."""
        assert self._shape is not None
        errors: dict[str, str] = {}
        if user_input is not None:
            if user_input.get(CONF_DELETE):
                self._zones.async_save(without_shapes(self._zones.settings, {self._shape["id"]}))
                return await self._async_next()
            errors = self._try(kind, user_input)
            if not errors:
                return await self._async_next()
        picture = await self._zones.async_look()
        if picture is None and not errors:
            errors = {"base": "no_picture"}
        is_there = find_shape(self._zones.settings, kind, self._shape["id"]) is not None
        shown = user_input or {**self._shape, CONF_POINTS: format_points(shape_points(self._shape)) if is_there else ""}
        return self.async_show_form(
            step_id=kind.value,
            data_schema=self.add_suggested_values_to_schema(self._shape_schema(kind, is_there=is_there), shown),
            errors=errors,
            description_placeholders={"picture": self._picture()},
        )

    def _shape_schema(self, kind: ShapeKind, *, is_there: bool) -> vol.Schema:
        assert self._shape is not None
        watched = self._zones.settings.get(CONF_LABELS, DEFAULT_LABELS)
        labels = SelectSelector(
            SelectSelectorConfig(
                # One that is no longer watched for can be taken away here only if it is shown.
                options=list(dict.fromkeys([*watched, *self._shape[CONF_LABELS]])),
                multiple=True,
                translation_key="label",
                mode=SelectSelectorMode.DROPDOWN,
            )
        )
        fields: dict[vol.Marker, Any] = {
            vol.Required(CONF_NAME): TextSelector(),
            vol.Required(CONF_POINTS): TextSelector(),
            vol.Optional(CONF_LABELS, default=list): labels,
            **DETAILS[kind],
        }
        if is_there:
            fields[vol.Optional(CONF_DELETE, default=False)] = BooleanSelector()
        return vol.Schema(fields)

    def _try(self, kind: ShapeKind, typed: dict[str, Any]) -> dict[str, str]:
        """Save what was typed, or return what is wrong with it by field."""
        assert self._shape is not None
        details = {marker.schema: typed[marker.schema] for marker in DETAILS[kind]}
        if kind is ShapeKind.ZONE:  # a number field gives fractions
            details = {name: int(value) for name, value in details.items()}
        shape = {**self._shape, CONF_NAME: tidy_name(typed[CONF_NAME]), CONF_LABELS: typed[CONF_LABELS], **details}
        parsed = parse_points(typed[CONF_POINTS])
        points: list[Point] = tidy_points(parsed or [])
        problems = shape_problems(self._zones.settings, kind, shape, points)
        if parsed is None:
            problems[CONF_POINTS] = "points_unreadable"
        if problems:
            return problems
        settings = with_shape(self._zones.settings, kind, with_points(kind, shape, points))
        if problem := count_problem(settings, kind):
            return {"base": problem}
        self._zones.async_save(settings)
        return {}

    # --- what may begin an incident ---------------------------------------------------------------------------------

    async def async_step_opening_zones(self, user_input: dict[str, Any] | None = None) -> SubentryFlowResult:
        """Ask in which zones, or by crossing which lines, an incident may begin."""
        settings = self._zones.settings
        choices = opening_choices(settings)
        errors: dict[str, str] = {}
        if user_input is not None:
            chosen = user_input[CONF_OPENING_ZONES]
            if problem := opening_problem(settings, chosen):
                errors[CONF_OPENING_ZONES] = problem
            else:
                self._zones.async_save({**settings, CONF_OPENING_ZONES: chosen})
                return await self.async_show_zone_menu()
        shown = [shape_id for shape_id in settings.get(CONF_OPENING_ZONES, ()) if shape_id in choices]
        selector = SelectSelector(
            SelectSelectorConfig(
                options=[SelectOptionDict(value=shape_id, label=name) for shape_id, name in choices.items()],
                multiple=True,
                mode=SelectSelectorMode.LIST,
            )
        )
        await self._zones.async_look()
        return self.async_show_form(
            step_id=CONF_OPENING_ZONES,
            data_schema=self.add_suggested_values_to_schema(
                vol.Schema({vol.Optional(CONF_OPENING_ZONES, default=list): selector}), {CONF_OPENING_ZONES: shown}
            ),
            errors=errors,
            description_placeholders={"picture": self._picture()},
        )
