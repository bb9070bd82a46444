"""What a camera's settings say of zones, entry lines and masks, as the worker wants it."""

from collections.abc import Iterable, Mapping
from typing import Any

from .const import CONF_LINES, CONF_MASKS, CONF_OPENING_ZONES, CONF_ZONES
from .vision.labels import coco_names
from .vision.messages import Direction, EntryLine, Mask, Point, Zone


def zones_of(settings: Mapping[str, Any]) -> tuple[Zone, ...]:
    """Return the zones."""
    return tuple(
        Zone(
            name=zone["name"],
            points=_points(zone["points"]),
            labels=coco_names(zone["labels"]),
            dwell=float(zone["dwell"]),
            inertia=int(zone["inertia"]),
        )
        for zone in settings.get(CONF_ZONES, ())
    )


def lines_of(settings: Mapping[str, Any]) -> tuple[EntryLine, ...]:
    """Return the entry lines."""
    return tuple(
        EntryLine(
            name=line["name"],
            start=_point(line["start"]),
            end=_point(line["end"]),
            direction=Direction(line["direction"]),
            labels=coco_names(line["labels"]),
        )
        for line in settings.get(CONF_LINES, ())
    )


def masks_of(settings: Mapping[str, Any]) -> tuple[Mask, ...]:
    """Return the masks."""
    return tuple(
        Mask(
            points=_points(mask["points"]),
            motion=bool(mask["motion"]),
            objects=bool(mask["objects"]),
            labels=coco_names(mask["labels"]),
        )
        for mask in settings.get(CONF_MASKS, ())
    )


def opening_zones(settings: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the zones and entry lines that can open an incident; empty for the whole picture."""
    ids = set(settings.get(CONF_OPENING_ZONES, ()))
    return frozenset(
        part["name"] for kind in (CONF_ZONES, CONF_LINES) for part in settings.get(kind, ()) if part["id"] in ids
    )


def _points(points: Iterable[Iterable[float]]) -> tuple[Point, ...]:
    return tuple(_point(point) for point in points)


def _point(point: Iterable[float]) -> Point:
    x, y = point
    return Point(float(x), float(y))
