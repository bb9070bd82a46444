"""A probe inside Home Assistant: lets a steady flow of messages run through the announcer, and counts what is held."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
import gc
import itertools
import os
from pathlib import Path
import random
import time
from typing import Any

from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.typing import ConfigType
import probatio as vol

from custom_components.nemotron_security.models import (
    Box,
    CameraHealth,
    CameraStatus,
    Detection,
    GpuStats,
    Incident,
)
from custom_components.nemotron_security.payloads import PartState
from custom_components.nemotron_security.runtime import NemotronSecurityConfigEntry, Runtime

PAGE = os.sysconf("SC_PAGE_SIZE")
STATM = Path("/proc/self/statm")
LABELS = ("person", "car", "dog", "cat")
ROUND = ("detection", "update", "detection", "status", "detection", "update", "gpu", "detection", "status", "detection")
"""What happens, over and over; detections at 50 a second and 6 cameras come 4 times a second and camera."""
UPDATES = 8
"""Updates after which an incident ends and the next of that camera begins."""


class Flow:
    """Made-up incidents of real cameras, told as the pipeline tells them."""

    def __init__(self, runtime: Runtime) -> None:
        """Tell of that system's cameras."""
        self._runtime = runtime
        self._random = random.Random(7)
        self._ids = itertools.count(time.time_ns() // 1_000)
        self._cameras = itertools.cycle(list(runtime.cameras))
        self._now = datetime.now(UTC)
        self._incidents: dict[str, Incident] = {}
        self._updates: dict[str, int] = {}

    async def run(self, rate: float, seconds: float) -> None:
        """Let so many messages a second flow, evenly."""
        began = time.monotonic()
        for number, tell in enumerate(self._tell()):
            if number >= rate * seconds:
                return
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            self._now = datetime.now(UTC)
            tell()

    def _tell(self) -> Iterator[Any]:
        ways = {"detection": self._detect, "update": self._change, "status": self._status, "gpu": self._gpu}
        return itertools.cycle([ways[name] for name in ROUND])

    def _change(self) -> None:
        camera_id = next(self._cameras)
        self._updates[camera_id] = updates = self._updates.get(camera_id, UPDATES) + 1
        incident = self._incidents.get(camera_id)
        if incident is None or updates > UPDATES:
            self._begin(camera_id)
            return
        # Scores rise and fall, beyond every minimum that a client may have chosen.
        score = self._random.randrange(101)
        incident = replace(incident, risk_score=score, last_seen_at=self._now, reasoning="It moved. " * 20)
        if updates == UPDATES:
            incident = replace(incident, ended_at=self._now)
        self._incidents[camera_id] = incident
        tell = self._runtime.announcer
        (tell.incident_ended if incident.ended_at else tell.incident_updated)(incident)

    def _begin(self, camera_id: str) -> None:
        score = self._random.choice((None, *range(101)))
        incident = Incident(
            id=next(self._ids),
            camera_id=camera_id,
            started_at=self._now,
            last_seen_at=self._now,
            labels=tuple(self._random.sample(LABELS, self._random.randint(1, len(LABELS)))),
            object_count=1,
            rules_score=score,
            risk_score=score,
            analyzer="rules",
            title="Somebody at the door",
            summary="Somebody stands at the door.",
        )
        self._incidents[camera_id], self._updates[camera_id] = incident, 0
        self._runtime.announcer.incident_started(incident)

    def _detect(self) -> None:
        camera_id = next(self._cameras)
        incident = self._incidents.get(camera_id)
        detection = Detection(
            id=next(self._ids),
            incident_id=incident.id if incident else None,
            track_id=next(self._ids),
            camera_id=camera_id,
            object_type=self._random.choice(LABELS),
            confidence=0.9,
            detected_at=self._now,
            box=Box(100, 50, 180, 250),
            frame_width=1280,
            frame_height=720,
        )
        self._runtime.announcer.detections_stored([detection])

    def _status(self) -> None:
        if self._random.random() < 0.2:  # a detector that comes and goes
            state = self._random.choice((PartState.STARTING, PartState.RUNNING, PartState.OFF))
            self._runtime.announcer.pipeline_status(detector=state)
        status = self._random.choice((CameraStatus.ONLINE, CameraStatus.OFFLINE))
        seen_at = self._now - timedelta(seconds=1)
        health = CameraHealth(camera_id=next(self._cameras), status=status, last_seen_at=seen_at)
        self._runtime.announcer.camera_status(health)

    def _gpu(self) -> None:
        stats = GpuStats(
            gpu_id="GPU-1",
            name="NVIDIA T4",
            gpu_utilization=self._random.random() * 100,
            memory_used=2 << 30,
            memory_total=16 << 30,
            temperature=61.0,
            inference_fps=20.0,
            recorded_at=self._now,
        )
        self._runtime.system.broadcast_gpu_stats(stats)


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Offer the commands."""

    def runtime() -> Runtime:
        entries: list[NemotronSecurityConfigEntry] = hass.config_entries.async_loaded_entries("nemotron_security")
        return entries[0].runtime_data

    @websocket_api.websocket_command(
        {vol.Required("type"): "soak_probe/flow", vol.Required("rate"): float, vol.Required("seconds"): float}
    )
    @websocket_api.async_response
    async def flow(_hass: HomeAssistant, connection: websocket_api.ActiveConnection, message: dict[str, Any]) -> None:
        """Let messages flow; the answer, when it is over, is the number of each channel's last message."""
        system = runtime()
        await Flow(system).run(message["rate"], message["seconds"])
        connection.send_result(message["id"], {"events": system.events.seq, "system": system.system.seq})

    @websocket_api.websocket_command({vol.Required("type"): "soak_probe/read"})
    @callback
    def read(_hass: HomeAssistant, connection: websocket_api.ActiveConnection, message: dict[str, Any]) -> None:
        """Return how many of everything there are; `rss` in bytes."""
        gc.collect()
        reading = {
            "clients": runtime().events.connections + runtime().system.connections,
            "listeners": sum(hass.bus.async_listeners().values()),
            "tasks": len(asyncio.all_tasks()),
            "objects": len(gc.get_objects()),
            "rss": int(STATM.read_text().split()[1]) * PAGE,
        }
        connection.send_result(message["id"], reading)

    websocket_api.async_register_command(hass, flow)
    websocket_api.async_register_command(hass, read)
    return True
