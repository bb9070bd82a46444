"""What outlasts a restart besides the database: small facts, in Home Assistant's own storage."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.storage import Store

from .const import DOMAIN

VERSION: Final = 1
SOON: Final = 60.0
"""Seconds in which changes that may be lost in a crash are gathered."""


class Lasting:
    """Keeps what some parts know, each under its name. Writes in a thread, and only when something changed."""

    def __init__(self, hass: HomeAssistant, entry_id: str) -> None:
        """Prepare; nothing is read yet."""
        self._store: Store[dict[str, Any]] = Store(hass, VERSION, f"{DOMAIN}.{entry_id}")
        self._parts: dict[str, Callable[[], Any]] = {}
        self._waits = False

    async def async_load(
        self, parts: Mapping[str, tuple[Callable[[Mapping[str, Any]], None], Callable[[], Mapping[str, Any]]]]
    ) -> None:
        """Let each part take what it knew before a restart.

        Args:
            parts: by name, what takes that, and what gives it when it is to be kept.
        """
        kept = await self._store.async_load() or {}
        for name, (restore, as_data) in parts.items():
            self._parts[name] = as_data
            if isinstance(known := kept.get(name), dict):
                restore(known)

    @callback
    def async_changed(self) -> None:
        """Keep what changed at once: it must not be lost."""
        if self._parts:
            self._store.async_delay_save(self._data)

    @callback
    def async_counted(self) -> None:
        """Keep what changed within a minute."""
        if self._parts and not self._waits:
            self._waits = True
            self._store.async_delay_save(self._data, SOON)

    async def async_stop(self) -> None:
        """Keep all as it is now."""
        if self._parts:
            await self._store.async_save(self._data())
            self._parts = {}

    async def async_remove(self) -> None:
        """Forget all, for good."""
        await self._store.async_remove()

    @callback
    def _data(self) -> dict[str, Any]:
        self._waits = False
        return {name: as_data() for name, as_data in self._parts.items()}
