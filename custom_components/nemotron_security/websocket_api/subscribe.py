"""The two subscriptions.

Order on a subscription: the command's result, what is past or present, then what happens, with no gap between.
"""

from typing import TYPE_CHECKING, Any

from homeassistant.auth.models import User
from homeassistant.components.websocket_api import ActiveConnection, async_response, websocket_command
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
import probatio as vol

from ..broadcasters import Past
from ..const import DOMAIN, SUBENTRY_CAMERA
from ..models import Incident
from ..permissions import async_permissions
from ..store import StoreError
from .client import Subscription
from .common import async_loaded_entry

if TYPE_CHECKING:
    from ..runtime import NemotronSecurityConfigEntry

MAXIMUM_REPLAY = 100


@websocket_command(
    {
        vol.Required("type"): f"{DOMAIN}/events/subscribe",
        vol.Optional("replay", default=0): vol.All(int, vol.Range(min=0, max=MAXIMUM_REPLAY)),
        vol.Optional("since"): vol.All(int, vol.Range(min=0)),
    }
)
@async_response
async def async_subscribe_events(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Subscribe to incidents and detections.

    With `since`, what was said after that number comes first. `replay` newest incidents come first if there is no
    `since`, or if it lies too far back.
    """
    if (entry := async_loaded_entry(hass, connection, msg)) is None:
        return
    events = entry.runtime_data.events
    seq = events.seq
    past = events.since(msg["since"]) if "since" in msg else Past([], complete=True)
    subscription = Subscription(connection, msg["id"], async_permissions(hass))
    subscription.open(events)
    messages = past.messages
    if msg["replay"] and not ("since" in msg and past.complete):
        try:
            incidents = await _async_newest(hass, entry, connection.user, msg["replay"])
        except StoreError as err:
            subscription.abandon()
            raise HomeAssistantError(
                translation_domain=DOMAIN,
                translation_key="events_unreadable",
                translation_placeholders={"detail": err.detail},
            ) from err
        messages = [events.replay(incident, seq) for incident in reversed(incidents)]
    if events.is_connected(subscription):  # else the client left in the meantime
        subscription.start(messages, {"seq": seq, "complete": past.complete})


@websocket_command({vol.Required("type"): f"{DOMAIN}/system/subscribe"})
@callback
def async_subscribe_system(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Subscribe to GPUs, cameras and the pipeline; the last message about each comes first."""
    if (entry := async_loaded_entry(hass, connection, msg)) is None:
        return
    system = entry.runtime_data.system
    subscription = Subscription(connection, msg["id"], async_permissions(hass))
    subscription.open(system)
    subscription.start(system.present(), {"seq": system.seq})


async def _async_newest(
    hass: HomeAssistant, entry: NemotronSecurityConfigEntry, user: User, count: int
) -> list[Incident]:
    """Return the newest incidents that the user may read, the newest first.

    Raises:
        StoreError: they cannot be read now.
    """
    store = entry.runtime_data.store
    if user.is_admin:
        return await store.async_incidents(limit=count)
    may_read = async_permissions(hass).may_read
    found = [
        incident
        for subentry in entry.get_subentries_of_type(SUBENTRY_CAMERA)
        if may_read(user, subentry.subentry_id)
        for incident in await store.async_incidents(camera_id=subentry.subentry_id, limit=count)
    ]
    return sorted(found, key=lambda incident: incident.id, reverse=True)[:count]
