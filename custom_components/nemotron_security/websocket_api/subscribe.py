"""The two subscriptions.

Order on a subscription: the command's result, what is past or present, then what happens, with no gap between.
"""

from typing import TYPE_CHECKING, Any

from homeassistant.components.websocket_api import ActiveConnection, async_response, websocket_command
from homeassistant.core import HomeAssistant, callback
import probatio as vol

from ..broadcasters import Broadcaster, MessageType, Past
from ..const import DOMAIN, SUBENTRY_CAMERA
from ..models import Incident, IncidentFilter
from ..permissions import async_permissions
from .client import MessageFilter, Subscription
from .common import NAME, async_loaded_entry, async_refuse_camera, integer, list_of, reading

if TYPE_CHECKING:
    from ..runtime import NemotronSecurityConfigEntry

MAXIMUM_REPLAY = 100
INCIDENT_TYPES = [MessageType.NEW_EVENT.value, MessageType.EVENT_UPDATED.value]
EVENT_TYPES = [*INCIDENT_TYPES, MessageType.DETECTION.value]
SYSTEM_TYPES = [
    MessageType.GPU_STATS.value,
    MessageType.CAMERA_STATUS.value,
    MessageType.CAMERA_STATS.value,
    MessageType.PIPELINE_STATUS.value,
]


@websocket_command(
    {
        vol.Required("type"): f"{DOMAIN}/events/subscribe",
        vol.Optional("cameras"): list_of(NAME),
        vol.Optional("labels"): list_of(NAME),
        vol.Optional("minimum_risk"): integer(maximum=100),
        vol.Optional("types"): list_of(vol.In(EVENT_TYPES)),
        vol.Optional("replay", default=0): integer(maximum=MAXIMUM_REPLAY),
        vol.Optional("since"): integer(),
        vol.Optional("run"): NAME,
    }
)
@async_response
async def async_subscribe_events(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Subscribe to incidents and detections.

    With `since`, what was said after that number (of that `run`) comes first. `replay` newest incidents come first if
    there is no `since`, or if it lies too far back for all that was said of incidents.
    """
    if (entry := async_loaded_entry(hass, connection, msg)) is None:
        return
    events = entry.runtime_data.events
    if (subscription := _async_open(hass, connection, msg, entry, events)) is None:
        return
    seq = events.seq
    past = _past(msg, events)
    messages = past.messages
    if msg["replay"] and ("since" not in msg or not past.lacking.isdisjoint(INCIDENT_TYPES)):
        try:
            with reading():
                incidents = await _async_newest(hass, connection, msg, entry)
        except BaseException:  # whatever it is, nobody would listen to a subscription that was refused
            subscription.withdraw()
            raise
        messages = [events.replay(incident, seq) for incident in reversed(incidents)]
    if events.is_connected(subscription):
        subscription.start(messages, {"seq": seq, "run": events.run, "complete": past.complete})
    else:  # it was ended in the meantime, and brings nothing; who is still there has its answer
        connection.send_result(msg["id"], {"seq": seq, "run": events.run, "complete": False})


@websocket_command(
    {
        vol.Required("type"): f"{DOMAIN}/system/subscribe",
        vol.Optional("cameras"): list_of(NAME),
        vol.Optional("types"): list_of(vol.In(SYSTEM_TYPES)),
        vol.Optional("since"): integer(),
        vol.Optional("run"): NAME,
    }
)
@callback
def async_subscribe_system(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    """Subscribe to GPUs, cameras and the pipeline; the last message about each comes.

    With `since`, what was said after that number (of that `run`) comes before it.
    """
    if (entry := async_loaded_entry(hass, connection, msg)) is None:
        return
    system = entry.runtime_data.system
    if subscription := _async_open(hass, connection, msg, entry, system):
        past = _past(msg, system)
        result = {"seq": system.seq, "run": system.run, "complete": past.complete}
        subscription.start([*past.messages, *system.present()], result)


@callback
def _async_open(
    hass: HomeAssistant,
    connection: ActiveConnection,
    msg: dict[str, Any],
    entry: NemotronSecurityConfigEntry,
    channel: Broadcaster,
) -> Subscription | None:
    """Listen with the command's filters; of a camera that the user may not know, answer that there is none."""
    permissions = async_permissions(hass)
    known = {subentry.subentry_id for subentry in entry.get_subentries_of_type(SUBENTRY_CAMERA)}
    for camera_id in msg.get("cameras", ()):
        if camera_id not in known or not permissions.may_read(connection.user, camera_id):
            async_refuse_camera(connection, msg)
            return None
    wanted = MessageFilter(
        cameras=_chosen(msg, "cameras"),
        labels=_chosen(msg, "labels"),
        minimum_risk=msg.get("minimum_risk"),
        types=_chosen(msg, "types"),
    )
    subscription = Subscription(connection, msg["id"], channel, permissions, wanted)
    subscription.open()
    return subscription


def _past(msg: dict[str, Any], channel: Broadcaster) -> Past:
    """Return what the command asks for with `since`."""
    return channel.since(msg["since"], msg.get("run"), msg.get("types")) if "since" in msg else Past([])


def _chosen(msg: dict[str, Any], option: str) -> frozenset[str] | None:
    return frozenset(msg[option]) if option in msg else None


async def _async_newest(
    hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any], entry: NemotronSecurityConfigEntry
) -> list[Incident]:
    """Return the newest incidents that the command wants and the user may read, the newest first.

    Raises:
        StoreError: they cannot be read now.
    """
    camera_ids = _chosen(msg, "cameras")
    if not connection.user.is_admin:
        may_read = async_permissions(hass).may_read
        known = frozenset(subentry.subentry_id for subentry in entry.get_subentries_of_type(SUBENTRY_CAMERA))
        camera_ids = frozenset(camera_id for camera_id in camera_ids or known if may_read(connection.user, camera_id))
    wanted = IncidentFilter(camera_ids=camera_ids, labels=_chosen(msg, "labels"), minimum_peak=msg.get("minimum_risk"))
    return await entry.runtime_data.store.async_incidents(wanted, limit=msg["replay"])
