"""How a scene is written down: where, in what light and weather, who comes and what they do."""

from dataclasses import dataclass, field
from enum import StrEnum
from math import atan2, pi
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Kind(StrEnum):
    """What an actor is."""

    PERSON = "person"
    CAR = "car"
    VAN = "van"
    CYCLIST = "cyclist"
    DOG = "dog"
    CAT = "cat"
    PARCEL = "parcel"


class Stop(NamedTuple):
    """Where an actor is at a time: seconds, metres to the right, metres away."""

    time: float
    x: float
    z: float


class Act(NamedTuple):
    """What an actor does between two times: `carry`, `reach` (the bell) or `bend` (down)."""

    what: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One actor and its way through the scene.

    Attributes:
        kind: what it is.
        stops: its way; it is there from the first to the last.
        look: seed of its looks.
        faces: heading while it has not moved yet, radians (0 away from the camera, pi towards it).
        stays: it is there from the clip's begin if it never moves, and remains at its last stop.
        acts: what it does on the way.
    """

    kind: Kind
    stops: tuple[Stop, ...]
    look: int = 0
    faces: float = pi
    stays: bool = False
    acts: tuple[Act, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether it changes its place at all."""
        return any((stop.x, stop.z) != (self.stops[0].x, self.stops[0].z) for stop in self.stops)


class Sky(StrEnum):
    """The light of the scene."""

    DAY = "day"
    OVERCAST = "overcast"
    DUSK = "dusk"
    NIGHT = "night"
    INFRARED = "infrared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """The light over time.

    Attributes:
        sky: what kind of light.
        levels: (seconds, brightness) between which the daylight is interpolated; empty: constantly 1.
        lamps: for each lamp of the setting (seconds, brightness) points; absent ones are off.
    """

    sky: Sky = Sky.DAY
    levels: tuple[tuple[float, float], ...] = ()
    lamps: tuple[tuple[tuple[float, float], ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Each from 0 (none) to 1 (heavy)."""

    rain: float = 0.0
    snow: float = 0.0
    fog: float = 0.0
    wind: float = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneScript:
    """One scene.

    Attributes:
        setting: name of the place.
        seconds: length of the clip.
        noise: standard deviation of the sensor's noise, 8-bit steps.
        variant: of the place; 0 is the catalogue's.
        stamp: text in the corner, as cameras write it; empty: none.
    """

    name: str
    description: str
    setting: str
    seconds: float
    actors: tuple[Actor, ...] = ()
    light: Light = field(default_factory=Light)
    weather: Weather = field(default_factory=Weather)
    noise: float = 1.5
    seed: int = 1
    variant: int = 0
    stamp: str = ""


STEP = 1 / 30
"""Seconds between the samples of a way."""


class Moment(NamedTuple):
    """Where an actor is, how it is turned, how far it went and how fast it goes (metres, radians, metres a second)."""

    x: float
    z: float
    heading: float
    travelled: float
    speed: float


class Way:
    """An actor's way, smoothed: nobody turns or stops on the spot."""

    def __init__(self, actor: Actor, seconds: float) -> None:
        """Sample the way of an actor in a clip of so many seconds."""
        self.actor = actor
        first, last = actor.stops[0].time, actor.stops[-1].time
        self.start = 0.0 if actor.stays and not actor.moves else first
        self.end = seconds + 1 if actor.stays else last
        self._begin = first - 1
        self.times = np.arange(first - 1, last + 1, STEP)
        stops = np.array(actor.stops)
        heavy = actor.kind in {Kind.CAR, Kind.VAN}
        self.x = _smooth(np.interp(self.times, stops[:, 0], stops[:, 1]), 1.3 if heavy else 0.4)
        self.z = _smooth(np.interp(self.times, stops[:, 0], stops[:, 2]), 1.3 if heavy else 0.4)
        step_x, step_z = np.gradient(self.x), np.gradient(self.z)
        lengths = np.hypot(step_x, step_z)
        self.speed = lengths / STEP
        self.travelled = np.cumsum(lengths)
        self.heading = self._headings(step_x, step_z)

    def _headings(self, step_x: NDArray[np.floating], step_z: NDArray[np.floating]) -> NDArray[np.floating]:
        headings = np.empty(len(step_x))
        heading, known = self.actor.faces, False
        for index, (across, ahead, speed) in enumerate(zip(step_x, step_z, self.speed, strict=True)):
            if speed > 0.12:
                heading = atan2(across, ahead)
                if not known:
                    headings[:index] = heading if self.actor.kind is not Kind.PERSON else self.actor.faces
                known = True
            headings[index] = heading
        return _smooth(np.unwrap(headings), 0.5)

    def present(self, time: float) -> bool:
        """Return whether the actor is there."""
        return self.start <= time <= self.end

    def at(self, time: float) -> Moment:
        """Return where the actor is."""
        index = int(min(max(0, round((time - self._begin) / STEP)), len(self.times) - 1))
        return Moment(
            float(self.x[index]),
            float(self.z[index]),
            float(self.heading[index]),
            float(self.travelled[index]),
            float(self.speed[index]),
        )


def _smooth(values: NDArray[np.floating], seconds: float) -> NDArray[np.floating]:
    """Average over a window, twice; the ends are held."""
    width = max(1, int(seconds / STEP)) | 1
    kernel = np.ones(width) / width
    for _ in range(2):
        padded = np.pad(values, width // 2, mode="edge")
        values = np.convolve(padded, kernel, mode="valid")
    return values
