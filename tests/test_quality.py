"""How well a camera is connected, from what its source suffered in the last hour."""

import pytest

from custom_components.nemotron_security.models import CameraStatus, ConnectionQuality
from custom_components.nemotron_security.quality import ConnectionLog

EXCELLENT, FAIR, POOR, UNUSABLE = ConnectionQuality
ONLINE, OFFLINE, ERROR, UNKNOWN = CameraStatus.ONLINE, CameraStatus.OFFLINE, CameraStatus.ERROR, CameraStatus.UNKNOWN


@pytest.fixture
def log() -> ConnectionLog:
    return ConnectionLog(0.0)


def test_nothing_is_said_at_first(log: ConnectionLog) -> None:
    log.note_status(ONLINE, 1.0)
    assert log.quality(19.0) is None
    assert log.quality(20.0) is EXCELLENT


@pytest.mark.parametrize(
    ("reconnects", "quality"), [(0, EXCELLENT), (1, FAIR), (2, FAIR), (3, POOR), (10, POOR), (11, UNUSABLE)]
)
def test_reconnects(log: ConnectionLog, reconnects: int, quality: ConnectionQuality) -> None:
    for number in range(reconnects):
        log.note_troubles(1, 0, 100.0 + number)
    assert log.troubles(200.0) == (reconnects, 0)
    assert log.quality(200.0) is quality


def test_a_stall_that_ends_in_a_reconnect_is_one_trouble(log: ConnectionLog) -> None:
    for number in range(2):
        log.note_troubles(0, 1, 100.0 + number)
        log.note_troubles(1, 0, 110.0 + number)
    assert log.troubles(200.0) == (2, 2)
    assert log.quality(200.0) is FAIR


@pytest.mark.parametrize(
    ("seconds", "quality"), [(0.0, EXCELLENT), (36.0, FAIR), (37.0, POOR), (720.0, POOR), (721.0, UNUSABLE)]
)
@pytest.mark.parametrize("status", [OFFLINE, ERROR])
def test_time_without_a_picture(
    log: ConnectionLog, seconds: float, quality: ConnectionQuality, status: CameraStatus
) -> None:
    if seconds:
        log.note_status(status, 1000.0)
        log.note_status(ONLINE, 1000.0 + seconds)
    assert log.quality(3600.0) is quality


def test_time_that_goes_on_counts(log: ConnectionLog) -> None:
    log.note_status(OFFLINE, 0.0)
    log.note_status(ERROR, 30.0)
    assert log.quality(60.0) is UNUSABLE


def test_unknown_is_no_time_without_a_picture(log: ConnectionLog) -> None:
    log.note_status(UNKNOWN, 0.0)
    assert log.quality(600.0) is EXCELLENT


def test_an_hour_is_forgotten(log: ConnectionLog) -> None:
    log.note_status(OFFLINE, 10.0)
    log.note_troubles(20, 20, 100.0)
    log.note_status(ONLINE, 1000.0)
    assert log.quality(3700.0 - 0.1) is UNUSABLE
    assert log.quality(3700.0) is UNUSABLE, "the outage still reaches into the hour"
    assert log.troubles(3700.0) == (0, 0)
    assert log.quality(4590.0) is FAIR
    assert log.quality(4600.0) is EXCELLENT


def test_a_span_that_began_before_the_hour_counts_within_it(log: ConnectionLog) -> None:
    log.note_status(OFFLINE, 0.0)
    log.note_status(ONLINE, 4000.0)
    assert log.quality(7590.0) is FAIR
