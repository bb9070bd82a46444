"""The process is killed in the middle of its writes: nothing that was committed is lost."""

from datetime import timedelta
from pathlib import Path
import signal
import sqlite3
import subprocess
import sys

import pytest

from custom_components.nemotron_security.store import Store

from .alone import IMPORT_ALONE

WRITE_FOREVER = (
    IMPORT_ALONE
    + """
import asyncio, datetime
from dataclasses import replace
from pathlib import Path
from alone.models import Assessment, Box, Detection, Track
from alone.store import Store

start = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
box = Box(1, 2, 3, 4)
rules = Assessment(analyzer="rules", risk_score=40, title="t", summary="s", reasoning=None, created_at=start)
track = Track(track_id=1, label="person", confidence=0.8, first_seen_at=start, last_seen_at=start, box=box,
              frame_width=1280, frame_height=720)
detection = Detection(id=0, incident_id=None, track_id=1, camera_id="cam", object_type="person", confidence=0.8,
                      detected_at=start, box=box, frame_width=1280, frame_height=720)

async def write():
    store = Store(f"sqlite:///{sys.argv[2]}", Path(sys.argv[3]))
    await store.async_open()
    incident = await store.async_start_incident("cam", [track], started_at=start, assessment=rules)
    second = 0
    while True:
        second += 1
        now = start + datetime.timedelta(seconds=second)
        await store.async_save_incident(replace(incident, last_seen_at=now), [replace(track, last_seen_at=now)])
        seen = [replace(detection, incident_id=incident.id, detected_at=now)] * 5
        detections = await store.async_add_detections(seen)
        picture, _ = await store.async_add_picture(
            incident.id, 1, captured_at=now, box=box, score=0.5, width=1, height=1, jpeg=bytes([second % 256]) * 60000
        )
        print(second, detections[-1].id, picture.id, flush=True)

asyncio.run(write())
"""
)


@pytest.mark.parametrize("written", [1, 10, 23, 40])
async def test_killed_in_the_middle(closed_store: Store, database: Path, pictures: Path, written: int) -> None:
    second, detection_id, picture_id = _write_and_kill(database, pictures, written)

    store = closed_store
    await store.async_open()
    (incident,) = await store.async_incidents()
    assert incident.ended_at is None
    detections = await store.async_detections(incident.id)
    assert {detection.id for detection in detections} >= set(range(1, detection_id + 1))
    (track,) = await store.async_tracks(incident.id)
    (picture,) = await store.async_pictures(incident.id)
    assert picture.id >= picture_id
    assert await store.async_read_picture(picture.id) is not None
    assert [path.name for path in pictures.rglob("*") if path.is_file()] == [f"{picture.id}.jpg"]

    (closed,) = await store.async_close_open_incidents()
    assert closed.ended_at == max(track.last_seen_at, detections[-1].detected_at)
    assert closed.ended_at >= closed.started_at + timedelta(seconds=second)
    assert await store.async_close_open_incidents() == []
    await store.async_close()
    assert _integrity(database) == ("ok",)


def _write_and_kill(database: Path, pictures: Path, written: int) -> list[int]:
    """Return the numbers of the last line that the program said after its commits."""
    command = [sys.executable, "-c", WRITE_FOREVER, str(Path(__file__).parents[2]), str(database), str(pictures)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        lines = [program.stdout.readline() for _ in range(written)]
        program.kill()
        lines += program.stdout.readlines()
        errors = program.stderr.read()
    assert program.returncode == -signal.SIGKILL, errors
    whole = [line for line in lines if line.endswith("\n")]
    return [int(number) for number in whole[-1].split()]


def _integrity(database: Path) -> tuple[str]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute("PRAGMA integrity_check").fetchone()  # type: ignore[no-any-return]
    finally:
        connection.close()
