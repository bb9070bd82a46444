"""What the messages of the two channels say: the contract's keys first, then ours."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .models import Box, CameraFigures, CameraHealth, Detection, GpuStats, Incident, PipelineFigures


class PartState(StrEnum):
    """How a part of the pipeline does."""

    UNKNOWN = "unknown"
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    OFF = "off"
    """Not configured, or switched off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStatus:
    """How the pipeline does, by its parts and in figures: the payload of `pipeline_status`."""

    worker: PartState = PartState.UNKNOWN
    detector: PartState = PartState.UNKNOWN
    store: PartState = PartState.UNKNOWN
    analyzer: PartState = PartState.UNKNOWN
    figures: PipelineFigures = field(default_factory=PipelineFigures)


def event_payload(incident: Incident) -> dict[str, Any]:
    """Return the `data` of `new_event` and `event_updated`."""
    return {
        "id": int(incident.id),
        "camera_id": incident.camera_id,
        "risk_score": _or_none(int, incident.risk_score),
        "risk_level": incident.risk_level,
        "summary": incident.summary,
        "reasoning": incident.reasoning,
        "started_at": _iso(incident.started_at),
        "ended_at": _or_none(_iso, incident.ended_at),
        "last_seen_at": _iso(incident.last_seen_at),
        "title": incident.title,
        "labels": list(incident.labels),
        "zones": list(incident.zones),
        "object_count": int(incident.object_count),
        "trigger": incident.trigger,
        "picture_id": _or_none(int, incident.picture_id),
        "rules_score": _or_none(int, incident.rules_score),
        "analyzer": incident.analyzer,
        "reviewed_at": _or_none(_iso, incident.reviewed_at),
        "feedback": incident.feedback,
        "note": incident.note,
    }


def detection_payload(detection: Detection) -> dict[str, Any]:
    """Return the `data` of `detection`."""
    width, height = int(detection.frame_width), int(detection.frame_height)
    return {
        "id": int(detection.id),
        "camera_id": detection.camera_id,
        "object_type": detection.object_type,
        "confidence": float(detection.confidence),
        "detected_at": _iso(detection.detected_at),
        **box_payload(detection.box, width, height),
        "frame_width": width,
        "frame_height": height,
        "incident_id": _or_none(int, detection.incident_id),
        "track_id": int(detection.track_id),
        "zones": list(detection.zones),
    }


def box_payload(box: Box, width: int, height: int) -> dict[str, int]:
    """Return a box in whole pixels, cut to its frame of that size."""
    left, right = (min(max(round(float(x)), 0), width) for x in (box.left, box.right))
    top, bottom = (min(max(round(float(y)), 0), height) for y in (box.top, box.bottom))
    return {"bbox_x": left, "bbox_y": top, "bbox_width": right - left, "bbox_height": bottom - top}


def gpu_stats_payload(stats: GpuStats) -> dict[str, Any]:
    """Return the `data` of `gpu_stats`; what could not be read is null."""
    return {
        "gpu_utilization": _or_none(float, stats.gpu_utilization),
        "memory_used": int(stats.memory_used),
        "memory_total": int(stats.memory_total),
        "temperature": _or_none(float, stats.temperature),
        "inference_fps": _or_none(float, stats.inference_fps),
        "recorded_at": _iso(stats.recorded_at),
        "gpu_id": stats.gpu_id,
        "name": stats.name,
    }


def camera_status_payload(health: CameraHealth) -> dict[str, Any]:
    """Return the `data` of `camera_status`. The detail is for repair issues and logs alone."""
    return {
        "camera_id": health.camera_id,
        "status": health.status,
        "last_seen_at": _or_none(_iso, health.last_seen_at),
        "problem": health.problem,
    }


def camera_stats_payload(figures: CameraFigures) -> dict[str, Any]:
    """Return the `data` of `camera_stats`; what is not known is null."""
    return {
        "camera_id": figures.camera_id,
        "fps": _rounded(figures.fps),
        "inference_fps": _rounded(figures.inference_fps),
        "skipped": figures.skipped,
        "quality": figures.quality,
        "reconnects": figures.reconnects,
        "stalls": figures.stalls,
        "recorded_at": _iso(figures.recorded_at),
    }


def pipeline_status_payload(status: PipelineStatus) -> dict[str, Any]:
    """Return the `data` of `pipeline_status`; what is not known is null."""
    figures = status.figures
    return {
        "worker": status.worker,
        "detector": status.detector,
        "store": status.store,
        "analyzer": status.analyzer,
        "inference_fps": _rounded(figures.inference_fps),
        "inference_ms_p50": _rounded(figures.inference_ms_p50),
        "inference_ms_p95": _rounded(figures.inference_ms_p95),
        "skipped": figures.skipped,
        "worker_memory": figures.worker_memory,
        "worker_restarts": figures.worker_restarts,
        "waiting": figures.waiting,
        "oldest_waiting": _rounded(figures.oldest_waiting),
        "breaker": figures.breaker,
        "storage_used": figures.storage_used,
        "disk_free": figures.disk_free,
    }


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(float(figure), 2)


def _iso(at: datetime) -> str:
    """Write a time as ISO 8601 in UTC with its offset."""
    return at.astimezone(UTC).isoformat()


def _or_none[T, R](convert: Callable[[T], R], value: T | None) -> R | None:
    return None if value is None else convert(value)
