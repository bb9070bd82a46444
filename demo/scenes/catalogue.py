"""The named scenes: the demo plays two of them, the benchmark all. None of them is ever trained on."""

from math import pi

from .script import Act, Actor, Kind, Light, SceneScript, Sky, Stop, Weather


def _walk(*stops: tuple[float, float, float], look: int, kind: Kind = Kind.PERSON, acts: tuple[Act, ...] = ()) -> Actor:
    """Return an actor that walks, drives or runs past (seconds, x, z) and is gone afterwards."""
    return Actor(kind=kind, stops=tuple(Stop(*stop) for stop in stops), look=look, acts=acts)


def _parked(x: float, z: float, look: int, *, heading: float = pi / 2, kind: Kind = Kind.CAR) -> Actor:
    """Return a car that stands there from the beginning to the end."""
    return Actor(kind=kind, stops=(Stop(0, x, z),), look=look, faces=heading, stays=True)


def _arrives(*stops: tuple[float, float, float], look: int, kind: Kind = Kind.CAR) -> Actor:
    """Return a car that drives up and stays."""
    return Actor(kind=kind, stops=tuple(Stop(*stop) for stop in stops), look=look, stays=True)


def _parcel(time: float, end: float, x: float, z: float) -> Actor:
    return Actor(kind=Kind.PARCEL, stops=(Stop(time, x, z), Stop(end, x, z)), faces=pi)


LAMP_ON = ((0.0, 1.0),)
STREET_LAMP = ((), ((0.0, 1.0),))

_DEMO = [
    SceneScript(
        name="front_door",
        description="A visitor brings a parcel, leaves it at the door and goes; later a dog runs by.",
        setting="front_door",
        seconds=48,
        stamp="FRONT DOOR",
        weather=Weather(wind=0.25),
        actors=(
            _walk(
                (1.0, -10.5, 13.2),
                (6.0, -0.3, 12.9),
                (10.0, 0.2, 4.6),
                (12.0, 0.3, 4.3),
                (13.0, 0.3, 4.3),
                (16.8, 0.0, 12.6),
                (21.5, 10.5, 13.2),
                look=21,
                acts=(Act("carry", 0, 11.7), Act("bend", 11.2, 12.8)),
            ),
            _parcel(11.9, 49, 0.3, 3.75),
            _walk((33.0, -7.0, 7.5), (34.6, -0.5, 6.0), (36.4, 7.5, 8.0), look=4, kind=Kind.DOG),
        ),
    ),
    SceneScript(
        name="driveway",
        description="At dusk a car turns in and parks, its driver walks to the house.",
        setting="driveway",
        seconds=40,
        stamp="DRIVEWAY",
        light=Light(sky=Sky.DUSK, lamps=(((0, 0.0), (12.6, 0.0), (13.0, 1.0), (30, 1.0), (31, 0.0)), ((0, 0.8),))),
        actors=(
            _arrives(
                (3.5, 22.0, 18.6), (6.0, 8.0, 18.6), (7.6, 1.2, 17.6), (9.0, -0.6, 14.5), (11.5, -0.5, 9.3), look=10
            ),
            _walk((13.5, 1.2, 8.6), (15.5, 1.5, 6.0), (17.5, 2.2, 3.2), (19.0, 4.2, 1.8), look=7),
        ),
    ),
]

_INCIDENTS = [
    SceneScript(
        name="visitor_rain",
        description="Somebody in a hood walks to the door in the rain and away again.",
        setting="front_door",
        seconds=24,
        weather=Weather(rain=0.8, wind=0.5),
        light=Light(sky=Sky.OVERCAST),
        noise=2.5,
        actors=(
            _walk(
                (3, 8.5, 13),
                (7, 0.4, 12.8),
                (12, 0.2, 4.4),
                (14.5, 0.2, 4.4),
                (20, -0.3, 12.8),
                (23, -8, 13),
                look=47,
                acts=(Act("reach", 12.2, 14.2),),
            ),
        ),
    ),
    SceneScript(
        name="two_visitors",
        description="Two people come up the path side by side.",
        setting="front_door",
        seconds=22,
        actors=(
            _walk((2, -9, 13.2), (6, -0.5, 12.7), (12, -0.35, 4.4), (20, -0.4, 4.4), look=12),
            _walk((2.2, -9.8, 12.9), (6.4, 0.2, 13.0), (12.4, 0.5, 4.7), (20, 0.5, 4.7), look=33),
        ),
    ),
    SceneScript(
        name="prowler_infrared",
        description="At night, seen by infrared, somebody crosses the garden and goes to the shed.",
        setting="garden",
        seconds=26,
        light=Light(sky=Sky.INFRARED),
        noise=5.0,
        actors=(_walk((4, -8.5, 7.5), (9, -1.0, 7.0), (13, 4.0, 9.5), (18, 5.2, 10.6), (24, 10.5, 7.0), look=62),),
    ),
    SceneScript(
        name="cat_garden",
        description="A cat strolls over the lawn.",
        setting="garden",
        seconds=18,
        actors=(_walk((3, 5.5, 5.8), (8, 1.0, 5.0), (10, 0.2, 4.8), (15, -6.0, 5.6), look=3, kind=Kind.CAT),),
    ),
    SceneScript(
        name="dog_snow",
        description="A dog runs through the snowy garden.",
        setting="garden",
        seconds=18,
        weather=Weather(snow=0.7, wind=0.4),
        light=Light(sky=Sky.OVERCAST),
        actors=(_walk((4, -8.0, 6.5), (7, -1.5, 5.2), (9, 2.0, 6.2), (12.5, 9.0, 8.0), look=9, kind=Kind.DOG),),
    ),
    SceneScript(
        name="delivery_van",
        description="A delivery van stops in the street, its driver brings a parcel over the drive.",
        setting="driveway",
        seconds=34,
        actors=(
            _arrives((2, -26, 18.7), (7, 2.5, 18.6), look=5, kind=Kind.VAN),
            _walk(
                (10, 0.5, 16.6),
                (17, 0.6, 6.0),
                (19, 0.6, 5.4),
                (21.5, 0.8, 6.2),
                (29, 0.2, 16.8),
                look=51,
                acts=(Act("carry", 10, 19.4),),
            ),
        ),
    ),
    SceneScript(
        name="car_leaves",
        description="A car that stood in the drive drives away.",
        setting="driveway",
        seconds=29,
        actors=(
            Actor(
                kind=Kind.CAR,
                look=31,
                faces=0.0,
                stops=(
                    Stop(0, -0.3, 7.5),
                    Stop(15, -0.3, 7.5),
                    Stop(19, -0.2, 14),
                    Stop(21, 3, 17.6),
                    Stop(25, 30, 19),
                ),
            ),
        ),
    ),
    SceneScript(
        name="street_traffic",
        description="Cars, a van and a cyclist pass.",
        setting="street",
        seconds=26,
        actors=(
            _walk((3, -20, 9.6), (7.5, 20, 9.6), look=15, kind=Kind.CAR),
            _walk((8, 24, 13.2), (14, -24, 13.2), look=16, kind=Kind.VAN),
            _walk((12, -12, 9.8), (19, 13, 9.6), look=17, kind=Kind.CYCLIST),
        ),
    ),
    SceneScript(
        name="pedestrians",
        description="Three people walk along the street in both directions, partly hidden by a parked car.",
        setting="street",
        seconds=24,
        actors=(
            _parked(2.5, 8.9, 23),
            _walk((2, -9, 5.8), (15, 9, 6.0), look=71),
            _walk((5, 14, 15.7), (20, -13, 15.7), look=72),
            _walk((7, 10, 6.8), (19, -10, 6.4), look=73),
        ),
    ),
    SceneScript(
        name="night_walker",
        description="Somebody walks below the street lamp at night.",
        setting="street",
        seconds=20,
        light=Light(sky=Sky.NIGHT, lamps=(((0.0, 1.0),), ((0.0, 1.0),))),
        noise=3.5,
        actors=(_walk((3, -9.5, 6.2), (16, 8.0, 5.8), look=81),),
    ),
    SceneScript(
        name="runner_fog",
        description="Somebody runs along the street in fog.",
        setting="street",
        seconds=16,
        weather=Weather(fog=0.7),
        light=Light(sky=Sky.OVERCAST),
        actors=(_walk((4, 9, 6.4), (9, -9, 6.0), look=91),),
    ),
    SceneScript(
        name="lamp_and_visitor",
        description="At night the lamp at the door goes on because somebody comes.",
        setting="front_door",
        seconds=24,
        light=Light(sky=Sky.NIGHT, lamps=(((0, 0.0), (6.0, 0.0), (6.3, 1.0), (40, 1.0)), LAMP_ON)),
        noise=3.0,
        actors=(_walk((3, -8, 13), (6.5, 0, 12.8), (12, 0.1, 4.2), (17, 0.2, 4.2), (23, 0.2, 12.8), look=66),),
    ),
    SceneScript(
        name="dog_walk",
        description="Somebody walks a dog past the house.",
        setting="driveway",
        seconds=22,
        actors=(
            _walk((3, -11, 13.3), (18, 10, 13.3), look=28),
            _walk((2.6, -11, 12.2), (17.5, 10, 12.4), look=29, kind=Kind.DOG),
        ),
    ),
    SceneScript(
        name="twice",
        description="Somebody crosses the garden; half a minute later a dog does.",
        setting="garden",
        seconds=40,
        light=Light(sky=Sky.OVERCAST),
        actors=(
            _walk((3, -8, 8.5), (11, 9, 7.0), look=37),
            _walk((28, 8, 6.0), (34, -8, 7.0), look=38, kind=Kind.DOG),
        ),
    ),
    SceneScript(
        name="child_garden",
        description="A child and a grown-up play on the lawn.",
        setting="garden",
        seconds=22,
        actors=(
            _walk((2, 8, 7), (6, 1.5, 6.2), (9, -2.0, 7.4), (12, 2.0, 6.4), (18, 8.5, 7.4), look=83),
            _walk((3, 8.5, 8), (8, 3.0, 7.8), (14, 2.6, 7.6), (19, 9.0, 8.0), look=84),
        ),
    ),
]

_HARMLESS = [
    SceneScript(name="empty_door", description="Nothing happens at the front door.", setting="front_door", seconds=20),
    SceneScript(
        name="empty_infrared",
        description="Nothing but noise in the infrared picture.",
        setting="garden",
        seconds=20,
        light=Light(sky=Sky.INFRARED),
        noise=7.0,
    ),
    SceneScript(
        name="empty_rain",
        description="It pours on an empty drive.",
        setting="driveway",
        seconds=20,
        weather=Weather(rain=1.0, wind=0.6),
        light=Light(sky=Sky.OVERCAST),
        noise=2.5,
    ),
    SceneScript(
        name="empty_snow",
        description="It snows on an empty street.",
        setting="street",
        seconds=20,
        weather=Weather(snow=1.0, wind=0.5),
        light=Light(sky=Sky.OVERCAST),
    ),
    SceneScript(
        name="empty_fog",
        description="Fog lies in the garden.",
        setting="garden",
        seconds=16,
        weather=Weather(fog=0.9),
        light=Light(sky=Sky.OVERCAST),
    ),
    SceneScript(
        name="storm_trees",
        description="Wind tears at the trees.",
        setting="garden",
        seconds=20,
        weather=Weather(wind=1.0),
        light=Light(sky=Sky.OVERCAST),
    ),
    SceneScript(
        name="cloud_shadow",
        description="Clouds darken the garden and pass.",
        setting="garden",
        seconds=24,
        light=Light(levels=((0, 1.0), (5, 1.0), (7, 0.62), (12, 0.62), (13, 0.95), (17, 0.7), (20, 1.0))),
        weather=Weather(wind=0.4),
    ),
    SceneScript(
        name="lamp_alone",
        description="A lamp goes on and off at night, nobody is there.",
        setting="driveway",
        seconds=20,
        light=Light(sky=Sky.NIGHT, lamps=(((0, 0.0), (6, 0.0), (6.2, 1.0), (13, 1.0), (13.2, 0.0)), LAMP_ON)),
        noise=3.5,
    ),
    SceneScript(
        name="parked_car",
        description="A car has been parked in the drive all the time.",
        setting="driveway",
        seconds=20,
        weather=Weather(wind=0.4),
        actors=(_parked(-0.4, 8.5, 44, heading=pi + 0.05),),
    ),
    SceneScript(
        name="parked_street",
        description="Two parked cars, clouds and wind.",
        setting="street",
        seconds=20,
        weather=Weather(wind=0.5),
        light=Light(levels=((0, 1.0), (6, 1.0), (8, 0.7), (14, 0.95))),
        actors=(_parked(-2.2, 8.8, 52), _parked(4.2, 8.9, 53)),
    ),
    SceneScript(
        name="nightfall",
        description="It gets dark.",
        setting="front_door",
        seconds=24,
        light=Light(sky=Sky.DUSK, levels=((0, 1.7), (22, 0.5)), lamps=((), ((0, 0.0), (16, 0.0), (16.5, 1.0)))),
        noise=2.5,
    ),
]

SCENES: dict[str, SceneScript] = {script.name: script for script in (*_DEMO, *_INCIDENTS, *_HARMLESS)}
"""Every scene by its name; the demo's two come first."""
