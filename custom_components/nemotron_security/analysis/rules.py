"""The documented, deterministic score: what is announced at once, and what remains when no model judges.

The score is the sum of the rows of `TABLE` that apply, each with the points of the most serious kind of object that
took part, held between floors and ceilings (`LIMITS`). A fact that the house does not know adds nothing.
docs/risk.md explains the table; a test holds both equal.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC
from enum import StrEnum
from typing import Final, NamedTuple

from ..models import ANIMALS, VEHICLES, Assessment, CameraView, Floor, House, Track
from . import Case

NAME: Final = "rules"

NIGHT_BEGINS: Final = 22
NIGHT_ENDS: Final = 6
"""Hours of local time; the night ends when this hour begins."""
DWELL: Final = 30.0
LONG_DWELL: Final = 120.0
"""Seconds."""

_AWAY: Final = frozenset({"armed_away", "armed_vacation"})
GUARDED: Final = _AWAY | {"armed_night"}
"""Nobody opens a door then without switching the alarm off."""
_ARMED: Final = _AWAY | {"armed_home", "armed_night", "armed_custom_bypass", "pending", "triggered"}


class Kind(StrEnum):
    """The kinds of objects, the most serious first."""

    PERSON = "person"
    VEHICLE = "vehicle"
    OTHER = "other"
    ANIMAL = "animal"


def kind_of(label: str) -> Kind:
    """Return the kind of a COCO label."""
    if label == "person":
        return Kind.PERSON
    if label in VEHICLES:
        return Kind.VEHICLE
    return Kind.ANIMAL if label in ANIMALS else Kind.OTHER


def importance(tracks: Iterable[Track]) -> dict[int, int]:
    """Return for each track, by its id, how much its kind matters: more is more, none is below 1."""
    kinds = list(Kind)
    return {track.track_id: len(kinds) - kinds.index(kind_of(track.label)) for track in tracks}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rows ask about."""

    kind: Kind
    """The most serious kind that took part; it chooses the column of points."""
    seen: bool
    """Whether anything was: an incident may be opened by a doorbell. Without, the points are those of an object."""
    persons: int
    """The most persons at the same time: one who leaves and returns is not two."""
    dwell: float
    """Seconds from first to last sight of that kind."""
    house: House
    view: CameraView | None

    @property
    def night(self) -> bool:
        """Whether people usually sleep."""
        hour = self.house.at.hour
        return hour >= NIGHT_BEGINS or hour < NIGHT_ENDS

    @property
    def by_day(self) -> bool:
        """Whether the sun is known to be up, at an hour at which people are about."""
        return self.house.sun_up is True and not self.night

    @property
    def visit_expected(self) -> bool:
        """Whether a calendar says that somebody comes at this hour."""
        at = self.house.at
        return not self.night and any(
            visit.begin <= at <= visit.end and visit.names_hour for visit in self.house.visits
        )

    @property
    def forced_entry(self) -> bool:
        """Whether a door or window was opened while the alarm was armed; not while who comes home may disarm it.

        That the alarm is known no more, as when its hub is cut, undoes nothing: disarming it ended the entry itself.
        """
        return self.house.forced_entry and self.house.alarm != "pending"


class Points(NamedTuple):
    """Points of a row for each kind."""

    person: int
    vehicle: int
    other: int
    animal: int


class Row(NamedTuple):
    """One contribution to the score."""

    key: str
    points: Points
    words: str
    """What `reasoning` says of it."""
    applies: Callable[[Facts], bool]


def _at(view: CameraView) -> Callable[[Facts], bool]:
    return lambda facts: facts.view is view


def _alarm(*states: str) -> Callable[[Facts], bool]:
    return lambda facts: facts.house.alarm in states


def _something_open(facts: Facts) -> bool:
    house = facts.house
    return bool(house.doors_open) and (house.anyone_home is False or house.alarm in _ARMED)


TABLE: Final = (
    Row("person", Points(30, 0, 0, 0), "a person", lambda facts: facts.kind is Kind.PERSON),
    Row("vehicle", Points(0, 12, 0, 0), "a vehicle", lambda facts: facts.kind is Kind.VEHICLE),
    Row("other", Points(0, 0, 8, 0), "an object", lambda facts: facts.kind is Kind.OTHER and facts.seen),
    Row("animal", Points(0, 0, 0, 5), "an animal", lambda facts: facts.kind is Kind.ANIMAL),
    Row("two_persons", Points(5, 0, 0, 0), "two at once", lambda facts: facts.persons == 2),  # noqa: PLR2004
    Row("group", Points(10, 0, 0, 0), "three or more at once", lambda facts: facts.persons > 2),  # noqa: PLR2004
    Row("private", Points(20, 6, 4, 0), "on private ground", _at(CameraView.PRIVATE)),
    Row("public", Points(-15, -9, -4, -2), "on public ground", _at(CameraView.PUBLIC)),
    Row(
        "entrance_by_day",
        Points(-15, -9, -4, -2),
        "at an entrance by day",
        lambda facts: facts.view is CameraView.ENTRANCE and facts.by_day,
    ),
    Row("dwell", Points(5, 3, 2, 0), "it stays", lambda facts: DWELL <= facts.dwell < LONG_DWELL),
    Row("long_dwell", Points(10, 6, 4, 0), "it stays long", lambda facts: facts.dwell >= LONG_DWELL),
    Row("dark", Points(10, 4, 4, 2), "the sun is down", lambda facts: facts.house.sun_up is False),
    Row("night", Points(10, 4, 4, 2), "it is night", lambda facts: facts.night),
    Row("nobody_home", Points(15, 5, 4, 2), "nobody is home", lambda facts: facts.house.anyone_home is False),
    Row("someone_home", Points(-5, -2, -2, -1), "someone is home", lambda facts: facts.house.anyone_home is True),
    Row(
        "arrived",
        Points(-10, -8, -6, -2),
        "a resident has just come home",
        lambda facts: bool(facts.house.people_arrived),
    ),
    Row("disarmed", Points(-5, -2, -2, -1), "the alarm is disarmed", _alarm("disarmed")),
    Row("armed_home", Points(5, 2, 2, 0), "the alarm is armed home", _alarm("armed_home")),
    Row("armed_custom", Points(10, 4, 3, 1), "the alarm is armed", _alarm("armed_custom_bypass")),
    Row("armed_night", Points(15, 6, 4, 2), "the alarm is armed night", _alarm("armed_night")),
    Row("armed_away", Points(20, 8, 6, 3), "the alarm is armed away", _alarm(*_AWAY)),
    Row("pending", Points(20, 8, 6, 3), "the alarm's entry delay runs", _alarm("pending")),
    Row("triggered", Points(20, 8, 6, 3), "the alarm is triggered", _alarm("triggered")),
    Row("something_open", Points(5, 2, 2, 0), "something is open", _something_open),
)


class Limit(NamedTuple):
    """A bound that holds whatever the sum says. Later ones win over earlier ones; the floors come last."""

    key: str
    lowest: int
    highest: int
    words: str
    applies: Callable[[Facts], bool]
    floor: Floor | None = None
    """The floor that it is, if the user may switch it off."""


def _lowest(floor: Floor, applies: Callable[[Facts], bool]) -> Limit:
    return Limit(floor.value, floor.lowest, 100, floor.words, applies, floor)


def _peaceful(facts: Facts) -> bool:
    house = facts.house
    return house.alarm == "disarmed" and house.anyone_home is True and facts.by_day


def _intruder(facts: Facts) -> bool:
    """Whether a person is where and when, with the alarm armed, nobody has a plain reason to be."""
    if facts.kind is not Kind.PERSON or facts.house.alarm not in _AWAY | {"pending"}:
        return False
    usual = facts.view is CameraView.PUBLIC or (facts.view is CameraView.ENTRANCE and facts.by_day)
    return not (usual or facts.visit_expected or facts.house.people_arrived)


LIMITS: Final = (
    Limit("peaceful_day", 0, 29, "the family is home by day with the alarm off", _peaceful),
    Limit("public_ground", 0, 59, "anybody may be on public ground", _at(CameraView.PUBLIC)),
    Limit("expected_visit", 0, 59, "a visit is expected at this hour", lambda facts: facts.visit_expected),
    Limit("only_animals", 0, 15, "only animals", lambda facts: facts.kind is Kind.ANIMAL),
    _lowest(Floor.INTRUDER, _intruder),
    _lowest(Floor.FORCED_ENTRY, lambda facts: facts.forced_entry),
    _lowest(Floor.ALARM_TRIGGERED, _alarm("triggered")),
)


def assess(case: Case) -> Assessment:
    """Judge an incident by the documented rules; the same case always gives the same assessment.

    Raises:
        ValueError: the case has neither a track nor a trigger.
    """
    facts = _facts(case)
    rows = [row for row in TABLE if row.applies(facts)]
    holding = _holding(facts, case.floors)
    score, bound = _bounded(sum(_points(row, facts) for row in rows), holding)
    return Assessment(
        analyzer=NAME,
        risk_score=score,
        title=f"{_first_upper(_named(case.tracks) if case.tracks else case.trigger or '')} at {case.camera_name}",
        summary=_summary(case, facts),
        reasoning=_reasoning(rows, facts, score, bound),
        created_at=case.house.at.astimezone(UTC),
        category=facts.kind.value,
        evidence=tuple(row.words for row in rows),
        floor=_highest_floor(holding),
    )


def _facts(case: Case) -> Facts:
    if not case.tracks:
        if case.trigger is None:
            raise ValueError("A case without tracks and without a trigger cannot be judged")
        return Facts(Kind.OTHER, seen=False, persons=0, dwell=0.0, house=case.house, view=case.view)
    kinds = {kind_of(track.label) for track in case.tracks}
    kind = next(kind for kind in Kind if kind in kinds)
    chosen = [track for track in case.tracks if kind_of(track.label) is kind]
    span = max(track.last_seen_at for track in chosen) - min(track.first_seen_at for track in chosen)
    persons = most_at_once(track for track in chosen if track.label == "person")
    return Facts(kind, seen=True, persons=persons, dwell=span.total_seconds(), house=case.house, view=case.view)


def most_at_once(tracks: Iterable[Track]) -> int:
    """Return the largest number of tracks that were seen at the same time."""
    # A sweep over the times at which tracks begin and end; at equal times the begin comes first.
    edges = sorted(
        edge
        for track in tracks
        for edge in ((track.first_seen_at, 0), (max(track.last_seen_at, track.first_seen_at), 1))
    )
    most = present = 0
    for _, ends in edges:
        present += -1 if ends else 1
        most = max(most, present)
    return most


def _points(row: Row, facts: Facts) -> int:
    return int(getattr(row.points, facts.kind.value))


def _bounded(total: int, holding: Iterable[Limit]) -> tuple[int, Limit | None]:
    """Hold the sum within 0..100 and the limits that hold; also return the limit that changed it."""
    score, changed_by = min(max(total, 0), 100), None
    for limit in holding:
        if not limit.lowest <= score <= limit.highest:
            score, changed_by = min(max(score, limit.lowest), limit.highest), limit
    return score, changed_by


def _holding(facts: Facts, floors: Collection[Floor]) -> list[Limit]:
    """Return the limits that apply, without the floors that are switched off."""
    return [limit for limit in LIMITS if (limit.floor is None or limit.floor in floors) and limit.applies(facts)]


def raise_to_floor(assessment: Assessment, case: Case) -> Assessment:
    """Return another analyzer's assessment, not below the floor that the facts of the house set."""
    return assessment.raised_to(_highest_floor(_holding(_facts(case), case.floors)))


def _highest_floor(holding: Iterable[Limit]) -> Floor | None:
    floors = (limit.floor for limit in holding if limit.floor is not None)
    return max(floors, key=lambda floor: floor.lowest, default=None)


def _reasoning(rows: list[Row], facts: Facts, score: int, bound: Limit | None) -> str:
    parts = "; ".join(f"{row.words} {_points(row, facts):+d}" for row in rows) or "nothing adds to it"
    if bound is None:
        return f"By the rules: {parts}. Score {score}."
    side = "at least" if score == bound.lowest else "at most"
    return f"By the rules: {parts}. {_first_upper(bound.words)}: {side} {score}. Score {score}."


def _summary(case: Case, facts: Facts) -> str:
    seconds = round(facts.dwell)
    duration = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min"  # noqa: PLR2004
    circumstances = ", ".join(row.words for row in TABLE if row.key in _TOLD_IN_SUMMARY and row.applies(facts))
    seen = f"{_counted(case.tracks)} for {duration}" if case.tracks else "Nothing seen"
    if case.trigger:
        seen += f", opened by {case.trigger}"
    return f"{seen}; {circumstances}." if circumstances else f"{seen}."


_TOLD_IN_SUMMARY: Final = frozenset(row.key for row in TABLE[11:])


def _numbers(tracks: Iterable[Track]) -> dict[str, int]:
    """Return how many of each label were there at once, the most serious kind first."""
    tracks = tuple(tracks)
    order = list(Kind)
    labels = sorted(Counter(track.label for track in tracks), key=lambda label: order.index(kind_of(label)))
    return {label: most_at_once(track for track in tracks if track.label == label) for label in labels}


def _named(tracks: Iterable[Track]) -> str:
    return _listed(label if count == 1 else f"{count} {_plural(label)}" for label, count in _numbers(tracks).items())


def _counted(tracks: Iterable[Track]) -> str:
    return _listed(f"{count} {label if count == 1 else _plural(label)}" for label, count in _numbers(tracks).items())


def _plural(label: str) -> str:
    irregular = {"person": "people", "bus": "buses", "sheep": "sheep"}
    return irregular.get(label, f"{label}s")


def _listed(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
