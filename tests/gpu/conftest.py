"""A driver without a GPU."""

from collections.abc import Iterator
import ctypes
from pathlib import Path

import pytest

from . import fake


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Compile and load the library once."""
    if fake.compiler() is None:
        pytest.skip("no C compiler")
    return fake.load(fake.build(tmp_path_factory.mktemp("nvml")))


@pytest.fixture
def driver(nvml_library: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake.FakeDriver]:
    """A driver with no GPU yet."""
    script = tmp_path / "nvml.script"
    monkeypatch.setenv("FAKE_NVML", str(script))
    fake.forget()
    yield fake.FakeDriver(script, nvml_library)
    fake.forget()
