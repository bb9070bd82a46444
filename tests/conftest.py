"""What all tests share."""

# Before anything of Home Assistant: else the test harness' own custom_components is the one that is found.
import custom_components  # noqa: F401  # isort: skip

from collections.abc import Iterator
import ctypes
import logging
from pathlib import Path

import pytest
from pytest_homeassistant_custom_component.syrupy import HomeAssistantSnapshotExtension
from syrupy.assertion import SnapshotAssertion

from custom_components.nemotron_security.gpu import nvml
from custom_components.nemotron_security.vision.executor import Executor
from custom_components.nemotron_security.vision.messages import Snapshot

from .gpu import fake
from .house import CAMERA, jpeg

# The harness has every SQL statement logged, for the tests of Home Assistant's recorder.
logging.getLogger("sqlalchemy.engine").setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def _enable_our_integration(request: pytest.FixtureRequest) -> None:
    """Let Home Assistant load the integration, in the tests that have a Home Assistant; no other test makes one.

    It sees no GPU of this machine's: the tests are the same everywhere.
    """
    if "hass" in request.fixturenames:
        request.getfixturevalue("enable_custom_integrations")
        if "driver" not in request.fixturenames:
            request.getfixturevalue("monkeypatch").setattr(nvml, "CDLL", fake.absent)


@pytest.fixture
def hass_config_dir(hass_tmp_config_dir: str) -> str:
    """Give each test a configuration folder of its own; the default lies inside the installed harness."""
    return hass_tmp_config_dir


@pytest.fixture
def silent_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no worker's process start: the test speaks in its place, at the edge between the two processes."""

    def stay(_executor: Executor) -> None:
        """Start nothing."""

    monkeypatch.setattr(Executor, "start", stay)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, silent_worker: None) -> dict[str, bytes]:
    """What each camera sees, as JPEG, said in the worker's place: a grey picture of the first, until it is changed."""
    pictures = {CAMERA: jpeg()}

    async def newest(_executor: Executor, camera_id: str, **_options: object) -> Snapshot | None:
        if camera_id not in pictures:
            return None
        return Snapshot(request_id=1, camera_id=camera_id, frame_id=1, captured_at=1.0, data=pictures[camera_id])

    monkeypatch.setattr(Executor, "async_snapshot", newest)
    return pictures


@pytest.fixture
def snapshot(snapshot: SnapshotAssertion) -> SnapshotAssertion:
    """Serialise states and registry entries as Home Assistant does, without ids and times."""
    return snapshot.use_extension(HomeAssistantSnapshotExtension)


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Compile and load NVIDIA's library without a GPU, once."""
    if fake.compiler() is None:
        pytest.skip("no C compiler")
    return fake.load(fake.build(tmp_path_factory.mktemp("nvml") / fake.SONAME))


@pytest.fixture
def driver(nvml_library: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake.FakeDriver]:
    """A driver with no GPU yet."""
    script = tmp_path / "nvml.script"
    monkeypatch.setenv("FAKE_NVML", str(script))
    fake.forget()
    yield fake.FakeDriver(script, nvml_library)
    fake.forget()
