"""The labelled situations of `benchmarks.verdicts`: what a rendered scene means in a given state of the house.

A situation is a threat if somebody who lives there would want to be woken or called for it. Half of the table are
look-alikes: the same pictures, or the same hours, that are harmless for a reason which the house knows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple

from custom_components.nemotron_security.models import CameraView, House, Opening, Visit

ZONE: Final = timezone(timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Camera:
    """What an owner would say of the camera of a setting."""

    name: str
    view: CameraView
    note: str | None = None


CAMERAS: Final[Mapping[str, Camera]] = {
    "front_door": Camera("Front door", CameraView.ENTRANCE),
    "driveway": Camera("Driveway", CameraView.ENTRANCE, "The street behind the drive is public."),
    "garden": Camera("Garden", CameraView.PRIVATE, "It is fenced; the shed holds bicycles."),
    "street": Camera("Street", CameraView.PUBLIC, "A public pavement in front of the house."),
}


def _house(hour: int, minute: int, *, sun_up: bool, month: int = 5, **facts: Any) -> House:
    return House(at=datetime(2026, month, 12, hour, minute, tzinfo=ZONE), sun_up=sun_up, **facts)


def _opened(name: str, house: House) -> House:
    """Let a door have opened half a minute ago, in a house whose alarm is armed."""
    door = Opening(name=name, open=True, changed_at=house.at - timedelta(seconds=30))
    return _with(house, openings=(door,), forced_entry=True)


def _expecting(title: str, house: House) -> House:
    """Let a calendar say that somebody comes about now."""
    hour = timedelta(hours=1)
    return _with(house, visits=(Visit(title=title, begin=house.at - hour, end=house.at + hour),))


def _with(house: House, **facts: Any) -> House:
    known = {name: getattr(house, name) for name in House.__dataclass_fields__}
    return House(**known | facts)


_HOME: Final[Mapping[str, Any]] = {"anyone_home": True, "people_home": ("Ann", "Ben")}
_AWAY: Final[Mapping[str, Any]] = {"anyone_home": False}

_home_day = _house(14, 0, sun_up=True, alarm="disarmed", **_HOME)
_home_dusk = _house(20, 50, sun_up=False, alarm="disarmed", **_HOME)
_home_evening = _house(19, 0, sun_up=False, month=12, alarm="disarmed", **_HOME)
_away_day = _house(11, 0, sun_up=True, alarm="armed_away", **_AWAY)
_away_dusk = _house(20, 50, sun_up=False, alarm="armed_away", **_AWAY)
_away_evening = _house(19, 0, sun_up=False, month=12, alarm="armed_away", **_AWAY)
_away_night = _house(2, 30, sun_up=False, alarm="armed_away", **_AWAY)
_forgot_day = _house(11, 0, sun_up=True, alarm="disarmed", **_AWAY)
_asleep_armed = _house(2, 30, sun_up=False, alarm="armed_night", **_HOME)
_returning = {"anyone_home": True, "people_home": ("Ann",), "people_arrived": ("Ann",)}

STATES: Final[Mapping[str, House]] = {
    # Somebody is there and awake.
    "home, day": _home_day,
    "home, dusk": _home_dusk,
    "home, winter evening": _home_evening,
    "home, no alarm panel, day": _house(14, 0, sun_up=True, **_HOME),
    "home, evening, guests expected": _expecting("Guests for dinner", _home_evening),
    "home, day, guests expected": _expecting("Birthday party", _home_day),
    # All sleep.
    "asleep, armed night": _asleep_armed,
    "asleep, alarm off": _house(2, 30, sun_up=False, alarm="disarmed", **_HOME),
    "asleep, terrace door opened": _opened("Terrace door", _asleep_armed),
    # Nobody is there.
    "away, armed, day": _away_day,
    "away, armed, dusk": _away_dusk,
    "away, armed, night": _away_night,
    "vacation, day": _with(_away_day, alarm="armed_vacation"),
    "vacation, night": _with(_away_night, alarm="armed_vacation"),
    "away, forgot to arm, day": _forgot_day,
    "away, forgot to arm, night": _with(_away_night, alarm="disarmed"),
    "away, armed, day, parcel expected": _expecting("Parcel delivery", _away_day),
    "away, armed, evening, parcel expected": _expecting("Parcel delivery", _away_evening),
    "away, armed, day, gardener expected": _expecting("Gardener", _away_day),
    "away, alarm off, day, sitter expected": _expecting("Dog sitter", _forgot_day),
    "leaving, day": _with(_away_day, alarm="arming"),
    "coming home, dusk": _with(_away_dusk, alarm="pending", **_returning),
    "coming home, night": _with(_away_night, alarm="pending", **_returning),
    # Something has happened already.
    "away, armed, day, back door opened": _opened("Back door", _away_day),
    "away, armed, dusk, back door opened": _opened("Back door", _away_dusk),
    "away, armed, night, back door opened": _opened("Back door", _away_night),
    "alarm triggered, day": _with(_away_day, alarm="triggered"),
    "alarm triggered, dusk": _with(_away_dusk, alarm="triggered"),
    "alarm triggered, night": _with(_away_night, alarm="triggered"),
    # Home Assistant knows the time and the sun, and nothing else.
    "nothing known, day": _house(14, 0, sun_up=True),
    "nothing known, night": _house(2, 30, sun_up=False),
}


class Situation(NamedTuple):
    """A scene in a state of the house."""

    scene: str
    state: str
    threat: bool
    why: str


_THREATS: Final = (
    ("prowler_infrared", "asleep, armed night", "a stranger crosses the fenced garden while all sleep"),
    ("prowler_infrared", "asleep, alarm off", "the same; that the alarm is off makes it no better"),
    ("prowler_infrared", "asleep, terrace door opened", "and a door has just been opened"),
    ("prowler_infrared", "away, armed, night", "a stranger in the garden of an empty house at night"),
    ("prowler_infrared", "vacation, night", "likewise"),
    ("prowler_infrared", "away, forgot to arm, night", "likewise"),
    ("prowler_infrared", "away, armed, night, back door opened", "a break-in"),
    ("prowler_infrared", "alarm triggered, night", "a break-in"),
    ("prowler_infrared", "nothing known, night", "a stranger in a fenced garden at half past two"),
    ("lamp_and_visitor", "asleep, armed night", "somebody at the door at half past two while all sleep"),
    ("lamp_and_visitor", "asleep, alarm off", "likewise"),
    ("lamp_and_visitor", "away, armed, night", "somebody at the door of an empty house at half past two"),
    ("lamp_and_visitor", "vacation, night", "likewise"),
    ("lamp_and_visitor", "away, forgot to arm, night", "likewise"),
    ("lamp_and_visitor", "away, armed, night, back door opened", "a break-in"),
    ("night_walker", "alarm triggered, night", "who walks away while the alarm sounds matters, also on the pavement"),
    ("night_walker", "away, armed, night, back door opened", "likewise after a break-in"),
    ("twice", "away, armed, day", "a stranger in the fenced garden of an empty house"),
    ("twice", "vacation, day", "likewise"),
    ("twice", "away, forgot to arm, day", "likewise"),
    ("twice", "away, armed, day, back door opened", "a break-in"),
    ("child_garden", "away, armed, day", "two strangers in the fenced garden of an empty house"),
    ("child_garden", "vacation, day", "likewise"),
    ("child_garden", "alarm triggered, day", "a break-in"),
    ("driveway", "away, armed, dusk", "a car parks in the drive of an empty house, somebody walks up to it"),
    ("driveway", "away, armed, dusk, back door opened", "a break-in, and the car for the loot"),
    ("driveway", "alarm triggered, dusk", "likewise"),
    ("two_visitors", "away, armed, day, back door opened", "two at the front, and the back door has been opened"),
    ("two_visitors", "alarm triggered, day", "a break-in"),
    ("front_door", "away, armed, day, back door opened", "a parcel as a pretext: the back door has been opened"),
    ("visitor_rain", "alarm triggered, day", "a break-in"),
    ("delivery_van", "alarm triggered, day", "a van in the drive while the alarm sounds"),
    ("car_leaves", "away, armed, day", "the car is driven off while everybody is away"),
    ("car_leaves", "vacation, day", "likewise"),
)

_LOOK_ALIKES: Final = (
    ("front_door", "home, day", "a parcel"),
    ("front_door", "away, armed, day", "a parcel for an empty house is usual life"),
    ("front_door", "away, armed, day, parcel expected", "the parcel that is expected"),
    ("front_door", "nothing known, day", "a parcel"),
    ("visitor_rain", "home, day", "a visitor"),
    ("visitor_rain", "away, armed, day", "a hood in the rain, by day, who rings and goes"),
    ("visitor_rain", "away, armed, day, parcel expected", "likewise, and expected"),
    ("two_visitors", "home, day", "visitors"),
    ("two_visitors", "home, day, guests expected", "guests"),
    ("two_visitors", "away, alarm off, day, sitter expected", "the sitter, with company"),
    ("two_visitors", "away, armed, day", "two who ring by day and find nobody home"),
    ("delivery_van", "home, day", "a delivery"),
    ("delivery_van", "away, armed, day", "a delivery to an empty house"),
    ("delivery_van", "away, armed, day, parcel expected", "the delivery that is expected"),
    ("prowler_infrared", "home, winter evening", "a resident goes to the shed before dinner"),
    ("prowler_infrared", "home, evening, guests expected", "a guest who looks at the garden"),
    ("lamp_and_visitor", "home, winter evening", "a visitor after dark"),
    ("lamp_and_visitor", "home, evening, guests expected", "a guest"),
    ("lamp_and_visitor", "away, armed, evening, parcel expected", "the parcel that is expected, after dark"),
    ("lamp_and_visitor", "coming home, night", "a resident comes home late"),
    ("driveway", "home, dusk", "a resident parks"),
    ("driveway", "coming home, dusk", "a resident comes home to an empty house"),
    ("car_leaves", "home, day", "a resident drives away"),
    ("car_leaves", "leaving, day", "the family leaves, the alarm is being armed"),
    ("twice", "home, day", "a resident and the dog"),
    ("twice", "away, armed, day, gardener expected", "the gardener"),
    ("twice", "home, no alarm panel, day", "a resident and the dog"),
    ("child_garden", "home, day", "the child plays"),
    ("child_garden", "home, day, guests expected", "the birthday party"),
    ("child_garden", "away, armed, day, gardener expected", "the gardener brought his child"),
    ("night_walker", "asleep, armed night", "somebody walks along the public pavement"),
    ("night_walker", "away, armed, night", "likewise, before an empty house"),
    ("night_walker", "vacation, night", "likewise"),
    ("runner_fog", "away, armed, day", "a jogger on the pavement"),
    ("pedestrians", "away, armed, day", "people on the pavement"),
    ("pedestrians", "vacation, day", "likewise"),
    ("street_traffic", "away, armed, day", "cars and a cyclist pass"),
    ("dog_walk", "home, day", "somebody walks a dog past the house"),
    ("dog_walk", "away, armed, day", "likewise, before an empty house"),
    ("cat_garden", "away, armed, day", "a cat"),
    ("cat_garden", "alarm triggered, day", "the cat is not what set off the alarm"),
    ("dog_snow", "vacation, day", "a dog"),
    ("storm_trees", "away, armed, day", "nothing but wind"),
    ("lamp_alone", "away, armed, night", "a lamp, nobody is there"),
    ("parked_car", "vacation, day", "the car stands where it stood"),
)

SITUATIONS: Final = (
    *(Situation(scene, state, threat=True, why=why) for scene, state, why in _THREATS),
    *(Situation(scene, state, threat=False, why=why) for scene, state, why in _LOOK_ALIKES),
)
