"""Makes up scenes to train on: other places, looks, ways, light and weather than those of the catalogue."""

from math import pi
from random import Random

from demo.scenes.script import Act, Actor, Kind, Light, SceneScript, Sky, Stop, Weather

SECONDS = 24.0
"""Length of a made-up scene."""
DEPTHS = {"front_door": (2.6, 19.0), "driveway": (2.8, 20.0), "garden": (2.6, 12.8), "street": (4.8, 18.0)}
"""From where to where actors go, metres from the camera."""
KINDS = (
    [Kind.PERSON] * 10
    + [Kind.CAR] * 5
    + [Kind.VAN] * 3
    + [Kind.CYCLIST] * 3
    + [Kind.DOG] * 5
    + [Kind.CAT] * 4
    + [Kind.PARCEL] * 2
)
LOOKS = 1000
"""Looks from here on are never worn in the catalogue."""


def random_scene(seed: int) -> SceneScript:
    """Return a made-up scene; the same for the same seed."""
    rng = Random(seed)
    setting = rng.choice(sorted(DEPTHS))
    count = 0 if rng.random() < 0.1 else rng.randint(2, 6)
    return SceneScript(
        name=f"random_{seed}",
        description="made up",
        setting=setting,
        seconds=SECONDS,
        actors=tuple(_actor(rng, setting) for _ in range(count)),
        light=_light(rng),
        weather=_weather(rng),
        noise=rng.choice((0.5, 1.5, 3.0, 5.0, 8.0)),
        seed=seed,
        variant=1 + seed,
        stamp=rng.choice(("", "", "CAM 1", "GARDEN")),
    )


def _light(rng: Random) -> Light:
    sky = rng.choice((Sky.DAY, Sky.DAY, Sky.OVERCAST, Sky.DUSK, Sky.NIGHT, Sky.INFRARED))
    levels: tuple[tuple[float, float], ...] = ()
    if sky is not Sky.INFRARED and rng.random() < 0.6:
        levels = tuple((SECONDS * step / 3, rng.uniform(0.6, 1.15)) for step in range(4))
    lamps = tuple(((0.0, rng.random()), (SECONDS, rng.random())) for _ in range(2))
    return Light(sky=sky, levels=levels, lamps=lamps if sky in {Sky.DUSK, Sky.NIGHT} else ())


def _weather(rng: Random) -> Weather:
    kind = rng.choice(("clear", "clear", "clear", "rain", "snow", "fog"))
    strength = rng.uniform(0.3, 1.0)
    return Weather(
        rain=strength if kind == "rain" else 0.0,
        snow=strength if kind == "snow" else 0.0,
        fog=strength if kind == "fog" else 0.0,
        wind=rng.uniform(0.0, 1.0),
    )


def _actor(rng: Random, setting: str) -> Actor:
    kind = rng.choice(KINDS)
    near, far = DEPTHS[setting]
    if kind in {Kind.CAR, Kind.VAN}:
        near = max(near, 6.0)
    if kind in {Kind.DOG, Kind.CAT}:
        far = min(far, 10.0)
    look = rng.randrange(LOOKS, 1_000_000)
    standing = rng.random() < (0.4 if kind in {Kind.CAR, Kind.VAN} else 0.15) or kind is Kind.PARCEL
    if standing:
        x, z = _spot(rng, near, far)
        return Actor(
            kind=kind, stops=(Stop(0, x, z),), look=look, faces=rng.uniform(0, 2 * pi), stays=True, acts=_acts(rng)
        )
    times = (0.0, SECONDS * rng.uniform(0.3, 0.5), SECONDS * rng.uniform(0.55, 0.75), SECONDS)
    stops = tuple(Stop(time, *_spot(rng, near, far)) for time in times)
    return Actor(kind=kind, stops=stops, look=look, acts=_acts(rng))


def _spot(rng: Random, near: float, far: float) -> tuple[float, float]:
    """Return a place in view; near ones are as likely as far ones in the picture, not on the ground."""
    z = 1 / rng.uniform(1 / far, 1 / near)
    return rng.uniform(-0.85, 0.85) * z, z


def _acts(rng: Random) -> tuple[Act, ...]:
    start = rng.uniform(0, SECONDS * 0.8)
    what = rng.choice(("carry", "reach", "bend", ""))
    return (Act(what, start, start + rng.uniform(3, 10)),) if what else ()
