"""Who may read of a camera and who may change what it keeps, by Home Assistant's own policies."""

from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser

from custom_components.nemotron_security.const import DOMAIN
from custom_components.nemotron_security.permissions import CameraPermissions, async_permissions

from .house import ABSENT_FILE, CAMERA, make_entry

YARD = f"{CAMERA[:-1]}1"
BARE = f"{CAMERA[:-1]}2"
DOOR_ENTITY, YARD_SENSOR = "camera.front_door", "binary_sensor.yard_motion"
READ, CONTROL = {"read": True}, {"control": True}


def entities(**policies: dict[str, Any]) -> dict[str, Any]:
    """Return a policy on single entities."""
    return {"entities": {"entity_ids": {name.replace("__", "."): policy for name, policy in policies.items()}}}


@pytest.fixture
def entry(hass: HomeAssistant, entity_registry: er.EntityRegistry) -> MockConfigEntry:
    """Three cameras: one with a `camera` entity, one with two sensors only, one without entities."""
    entry = make_entry(*[ABSENT_FILE] * 3)
    entry.add_to_hass(hass)
    for camera_id, entity_id in (
        (CAMERA, DOOR_ENTITY),
        (CAMERA, "binary_sensor.front_door_motion"),
        (YARD, YARD_SENSOR),
        (YARD, "sensor.yard_risk"),
    ):
        domain, object_id = entity_id.split(".")
        entity_registry.async_get_or_create(
            domain,
            DOMAIN,
            f"{camera_id}_{object_id}",
            suggested_object_id=object_id,
            config_entry=entry,
            config_subentry_id=camera_id,
        )
    return entry


@pytest.fixture
def permissions(hass: HomeAssistant, entry: MockConfigEntry) -> CameraPermissions:
    """Return the permissions of this Home Assistant."""
    return async_permissions(hass)


def rights(permissions: CameraPermissions, user: MockUser, camera_id: str = CAMERA) -> tuple[bool, bool]:
    """Return whether the user may read and whether they may control."""
    return permissions.may_read(user, camera_id), permissions.may_control(user, camera_id)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"entities": True}, (True, True)),
        ({"entities": {"all": READ}}, (True, False)),
        (entities(camera__front_door=READ), (True, False)),
        (entities(camera__front_door=CONTROL), (False, True)),
        (entities(camera__front_door=READ | CONTROL), (True, True)),
        ({"entities": {"domains": {"camera": READ}}}, (True, False)),
        ({"entities": {"domains": {"binary_sensor": True}}}, (False, False)),
        ({}, (False, False)),
    ],
)
def test_policies(
    permissions: CameraPermissions,
    hass_read_only_user: MockUser,
    policy: dict[str, Any],
    expected: tuple[bool, bool],
) -> None:
    hass_read_only_user.mock_policy(policy)
    assert rights(permissions, hass_read_only_user) == expected


def test_without_a_camera_entity_all_others_count(
    permissions: CameraPermissions, hass_read_only_user: MockUser
) -> None:
    hass_read_only_user.mock_policy(entities(binary_sensor__yard_motion={**READ, **CONTROL}))
    assert rights(permissions, hass_read_only_user, YARD) == (False, False)
    hass_read_only_user.mock_policy(entities(binary_sensor__yard_motion={**READ, **CONTROL}, sensor__yard_risk=READ))
    assert rights(permissions, hass_read_only_user, YARD) == (True, False)


async def test_what_has_no_entity_is_for_administrators(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    permissions: CameraPermissions,
    hass_read_only_user: MockUser,
    hass_admin_user: MockUser,
) -> None:
    hass_read_only_user.mock_policy({"entities": True})
    assert rights(permissions, hass_read_only_user) == (True, True)
    hass.config_entries.async_remove_subentry(entry, CAMERA)  # takes its entities along
    await hass.async_block_till_done()
    for camera_id in (CAMERA, BARE, "never was"):
        assert rights(permissions, hass_read_only_user, camera_id) == (False, False)
        assert rights(permissions, hass_admin_user, camera_id) == (True, True)


async def test_a_renamed_entity_keeps_no_right(
    hass: HomeAssistant,
    permissions: CameraPermissions,
    entity_registry: er.EntityRegistry,
    hass_read_only_user: MockUser,
) -> None:
    hass_read_only_user.mock_policy(entities(camera__front_door=READ | CONTROL))
    assert rights(permissions, hass_read_only_user) == (True, True)
    entity_registry.async_update_entity(DOOR_ENTITY, new_entity_id="camera.renamed")
    await hass.async_block_till_done()
    assert rights(permissions, hass_read_only_user) == (False, False)
