"""What a person makes of an incident, whichever way it comes: by a websocket command or by an action."""

import asyncio
from datetime import UTC, datetime

from homeassistant.auth.models import User
from homeassistant.auth.permissions.const import POLICY_CONTROL
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized

from .const import DOMAIN
from .models import Feedback, Incident, Review
from .permissions import async_permissions
from .runtime import Runtime
from .store import StoreError, StoreProblem

MAXIMUM_NOTE = 1000
"""Characters."""
PATIENCE = 10.0
"""Seconds to wait for a store that fails."""
READING_TIME = 10.0
"""Seconds that finding the incident may take."""


async def async_review(
    hass: HomeAssistant,
    runtime: Runtime,
    user: User | None,
    incident_id: int,
    *,
    reviewed: bool,
    feedback: str | None,
    note: str | None,
) -> Incident:
    """Store and announce a review; it takes the place of an earlier one. Without a user it is the house's own.

    Raises:
        ServiceValidationError: nobody looked at it, and yet it was harmless or serious.
        LookupError: there is no such incident, or none that the user may read.
        Unauthorized: the user may read, but not control its camera.
        HomeAssistantError: the database does not take it now.
    """
    if feedback is not None and not reviewed:
        raise ServiceValidationError(translation_domain=DOMAIN, translation_key="review_contradictory")
    review = Review(
        reviewed=reviewed,
        feedback=None if feedback is None else Feedback(feedback),
        note=(note or "").strip() or None,
        at=datetime.now(UTC),
    )
    try:
        _check_may_review(hass, user, await _async_find(runtime, incident_id))
        async with asyncio.timeout(PATIENCE):
            return await runtime.incidents.async_review(incident_id, review)
    except StoreError as err:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="review_not_stored",
            translation_placeholders={"detail": err.detail},
        ) from err
    except TimeoutError as err:
        raise HomeAssistantError(translation_domain=DOMAIN, translation_key="review_waits") from err


async def _async_find(runtime: Runtime, incident_id: int) -> Incident:
    try:
        async with asyncio.timeout(READING_TIME):
            incident = await runtime.store.async_incident(incident_id)
    except TimeoutError as err:
        raise StoreError(StoreProblem.UNREACHABLE, "it is busy") from err
    if incident is None:
        raise LookupError
    return incident


def _check_may_review(hass: HomeAssistant, user: User | None, incident: Incident) -> None:
    if user is None:
        return
    permissions = async_permissions(hass)
    if not permissions.may_read(user, incident.camera_id):
        raise LookupError
    if not permissions.may_control(user, incident.camera_id):
        raise Unauthorized(user_id=user.id, permission=POLICY_CONTROL)
