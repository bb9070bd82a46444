"""What the flows' forms are made of, and what follows what they wait for."""

import asyncio
from enum import StrEnum
import logging
import traceback

from homeassistant.const import UnitOfTime
from homeassistant.core import HomeAssistant
from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
from homeassistant.loader import async_get_integration

from .const import DOMAIN
from .vision.redact import redact

_LOGGER = logging.getLogger(__name__)

UNKNOWN = "unknown"
"""The error of a form when what followed failed in a way that nobody foresaw."""
KEY_NOT_CHANGED = "__**key_not_changed**__"
"""Stands in a form for a key that is kept, as Home Assistant's own flows do it."""
PASSWORD = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD))
URLS = TextSelector(TextSelectorConfig(multiple=True))
SHOWN_TEXT = TextSelector(TextSelectorConfig(read_only=True))


def select(options: tuple[str, ...], translation_key: str) -> SelectSelector:
    """Return a field for one of a few options, all of them in sight."""
    return SelectSelector(
        SelectSelectorConfig(options=list(options), translation_key=translation_key, mode=SelectSelectorMode.LIST)
    )


def several(options: type[StrEnum], translation_key: str) -> SelectSelector:
    """Return a field for any of the members."""
    return SelectSelector(
        SelectSelectorConfig(
            options=list(options), translation_key=translation_key, multiple=True, mode=SelectSelectorMode.LIST
        )
    )


def number(minimum: int, maximum: int, unit: str) -> NumberSelector:
    """Return a field for a whole number."""
    return NumberSelector(
        NumberSelectorConfig(min=minimum, max=maximum, step=1, mode=NumberSelectorMode.BOX, unit_of_measurement=unit)
    )


def shown_number(unit: str) -> NumberSelector:
    """Return a field for a number that can be read, not changed."""
    return NumberSelector(
        NumberSelectorConfig(mode=NumberSelectorMode.BOX, step="any", unit_of_measurement=unit, read_only=True)
    )


def seconds(minimum: int, maximum: int) -> NumberSelector:
    """Return a field for a whole number of seconds."""
    return number(minimum, maximum, UnitOfTime.SECONDS)


def step_after(job: asyncio.Task[str]) -> str | None:
    """Return the step that a job says follows it; None if it failed in a way that nobody foresaw, which is logged.

    A flow that raised here instead would hang: what it waited for is gone, and no further request brings it back.
    """
    try:
        return job.result()
    except Exception as err:  # noqa: BLE001  # whatever it is, the form comes back
        said = redact("".join(traceback.format_exception(err)))
        _LOGGER.error("Failed: %s\n%s", job.get_name(), said)  # noqa: TRY400  # its traceback may hold secrets
        return None


async def async_docs_url(hass: HomeAssistant) -> str:
    """Return where the documentation is, for a description: translations hold no addresses."""
    return (await async_get_integration(hass, DOMAIN)).documentation or ""
