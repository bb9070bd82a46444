"""What may be drawn and typed, and what is said of the rest; geometry against slow, obvious definitions."""

from fractions import Fraction
from itertools import combinations
import math
from typing import Any

from hypothesis import assume, given, strategies as st
import pytest

from custom_components.nemotron_security import zone_checks
from custom_components.nemotron_security.zone_checks import Point, ShapeKind

SQUARE = [(0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.1, 0.5)]
shares = st.integers(0, 10_000).map(lambda number: number / 10_000)
coarse = st.integers(0, 6).map(lambda number: number / 10)
"""Few values, so that points meet and lie on one line often."""
points = st.tuples(shares, shares)


def settings(**parts: Any) -> dict[str, Any]:
    return {"labels": ["person", "cat"], **parts}


def zone(name: str = "Drive", **parts: Any) -> dict[str, Any]:
    return {"id": "0a1b2c3d", "name": name, "points": SQUARE, "labels": [], "dwell": 0, "inertia": 3, **parts}


def line(name: str = "Gate", **parts: Any) -> dict[str, Any]:
    ends = {"start": [0.1, 0.2], "end": [0.9, 0.2]}
    return {"id": "11111111", "name": name, **ends, "direction": "both", "labels": [], **parts}


def mask(name: str = "Tree", **parts: Any) -> dict[str, Any]:
    return {"id": "22222222", "name": name, "points": SQUARE, "labels": [], "motion": True, "objects": True, **parts}


# --- polygons -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("corners", "problem"),
    [
        (SQUARE, None),
        ([(0, 0), (1, 0), (1, 1), (0, 1)], None),
        # An arrowhead: not convex, but in order.
        ([(0, 0), (0.5, 0.3), (1, 0), (0.5, 1)], None),
        ([], "too_few_points"),
        (SQUARE[:2], "too_few_points"),
        ([(math.cos(n), math.sin(n)) for n in range(33)], "too_many_points"),
        ([(0, 0), (1.0001, 0), (1, 1)], "outside_picture"),
        ([(0, 0), (0.5, -0.1), (1, 1)], "outside_picture"),
        ([(0.1, 0.1), (0.2, 0.2), (0.3, 0.3)], "no_area"),
        ([(0.1, 0.1), (0.1001, 0.1), (0.1, 0.1001)], "no_area"),
        ([(0, 0), (1, 1), (1, 0), (0, 1)], "crosses_itself"),
        # An edge that runs back over the one before it.
        ([(0, 0), (1, 0), (0.5, 0), (0.5, 1)], "crosses_itself"),
        # A corner on an edge far from it.
        ([(0, 0), (1, 0), (1, 1), (0.5, 0), (0, 1)], "crosses_itself"),
        # A corner that is visited twice.
        ([(0, 0), (0.5, 0.5), (1, 0), (1, 1), (0.5, 0.5), (0, 1)], "crosses_itself"),
    ],
)
def test_polygon(corners: list[Point], problem: str | None) -> None:
    assert zone_checks.polygon_problem(corners) == problem


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_in_the_picture(bad: float) -> None:
    assert zone_checks.polygon_problem([(0, 0), (bad, 0), (1, 1)]) == "outside_picture"
    assert zone_checks.line_problem([(0, bad), (1, 1)]) == "outside_picture"


@given(st.lists(st.floats(0, 2 * math.pi, exclude_max=True), min_size=3, max_size=32, unique=True), st.data())
def test_corners_in_the_order_around_a_middle_never_cross(angles: list[float], data: st.DataObject) -> None:
    """Seen from the middle each corner has a direction of its own, so that the outline goes round once."""
    angles.sort()
    gaps = [(b - a) % (2 * math.pi) for a, b in zip(angles, [*angles[1:], angles[0]], strict=True)]
    assume(max(gaps) < math.pi - 0.01)
    assume(min(gaps) > 0.02)
    radii = data.draw(st.lists(st.floats(0.2, 0.5), min_size=len(angles), max_size=len(angles)))
    corners = [
        (0.5 + radius * math.cos(angle), 0.5 + radius * math.sin(angle))
        for angle, radius in zip(angles, radii, strict=True)
    ]
    assert zone_checks.polygon_problem(zone_checks.tidy_points(corners)) is None


@given(st.lists(st.tuples(coarse, coarse), min_size=4, max_size=8))
def test_crossing_is_what_its_definition_says(corners: list[Point]) -> None:
    """Two edges may share one point only: the corner between them."""
    corners = zone_checks.tidy_points(corners)
    assume(len(corners) > 2)
    exact = [(Fraction(str(x)), Fraction(str(y))) for x, y in corners]
    assume(any(turn(exact[0], exact[1], other) for other in exact[2:]))
    assert (zone_checks.polygon_problem(corners) == "crosses_itself") is crosses(exact)


type Exact = tuple[Fraction, Fraction]


def turn(a: Exact, b: Exact, c: Exact) -> Fraction:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def shared(a: Exact, b: Exact, c: Exact, d: Exact) -> set[Exact]:
    """Return what two edges share: nothing, a point, or two points for a stretch; by solving for both parameters."""
    (ux, uy), (vx, vy) = (b[0] - a[0], b[1] - a[1]), (d[0] - c[0], d[1] - c[1])
    cross = ux * vy - uy * vx
    if cross:
        t = ((c[0] - a[0]) * vy - (c[1] - a[1]) * vx) / cross
        s = ((c[0] - a[0]) * uy - (c[1] - a[1]) * ux) / cross
        return {(a[0] + t * ux, a[1] + t * uy)} if 0 <= t <= 1 and 0 <= s <= 1 else set()
    if turn(a, b, c):
        return set()
    inner = max(min(a, b), min(c, d)), min(max(a, b), max(c, d))
    return set(inner) if inner[0] <= inner[1] else set()


def crosses(corners: list[Exact]) -> bool:
    edges = list(zip(corners, [*corners[1:], corners[0]], strict=True))
    for (i, first), (j, second) in combinations(enumerate(edges), 2):
        allowed = set()
        if j - i == 1:
            allowed = {first[1]}
        elif (j + 1) % len(edges) == i:
            allowed = {first[0]}
        if shared(*first, *second) - allowed:
            return True
    return False


@given(st.lists(points, min_size=3, max_size=8), st.integers(0, 7))
def test_where_an_outline_begins_and_which_way_it_goes_does_not_matter(corners: list[Point], start: int) -> None:
    corners = zone_checks.tidy_points(corners)
    turned = [*corners[start % len(corners) :], *corners[: start % len(corners)]]
    problem = zone_checks.polygon_problem(corners)
    assert zone_checks.polygon_problem(turned) == problem
    assert zone_checks.polygon_problem(corners[::-1]) == problem


def test_area() -> None:
    assert zone_checks.polygon_area(SQUARE) == pytest.approx(0.16)
    assert zone_checks.polygon_area(SQUARE[::-1]) == pytest.approx(0.16)
    assert zone_checks.polygon_area([(0, 0), (1, 0), (0, 1)]) == pytest.approx(0.5)


# --- lines ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "problem"),
    [
        ([(0, 0), (1, 1)], None),
        ([(0.5, 0.5), (0.5, 0.51)], None),
        ([(0.5, 0.5), (0.5, 0.509)], "no_length"),
        ([(0.5, 0.5)], "no_length"),
        ([], "no_length"),
        ([(0, 0), (1, 1), (0, 1)], "not_two_points"),
        ([(0, 0), (1, 1.1)], "outside_picture"),
    ],
)
def test_line(ends: list[Point], problem: str | None) -> None:
    assert zone_checks.line_problem(ends) == problem


# --- text -----------------------------------------------------------------------------------------------------------


@given(st.lists(points, min_size=1, max_size=32))
def test_points_that_are_written_are_read_again(written: list[Point]) -> None:
    read = zone_checks.parse_points(zone_checks.format_points(written))
    assert read is not None
    assert [(round(x, 4), round(y, 4)) for x, y in read] == written


@pytest.mark.parametrize(
    "text",
    [
        "10,20 50,20 50,80",
        "  10 , 20\n50 ,20\t50, 80 ",
        "10,20; 50,20;50,80",
        "10%,20% 50%,20% 50%,80%",
        "10.0,20.00 +50,020 50,80",
    ],
)
def test_points_may_be_written_as_people_do(text: str) -> None:
    assert zone_checks.parse_points(text) == [(0.1, 0.2), (0.5, 0.2), (0.5, 0.8)]


@pytest.mark.parametrize(
    "text",
    ["", " ", "10", "10,", "10 20", "10,20,30", "10,20 x", "1e2,3", "nan,1", "inf,1", "10,2050,3,", "0x1,2"],
)
def test_what_are_no_points(text: str) -> None:
    assert zone_checks.parse_points(text) is None


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    read = zone_checks.parse_points(text)
    assert read is None or all(math.isfinite(x) and math.isfinite(y) for x, y in read)


def test_tidying_points() -> None:
    assert zone_checks.tidy_points([(0.12344, 1), (0.12341, 1), (0.5, 0), (0.1234, 1)]) == [(0.1234, 1.0), (0.5, 0.0)]
    assert str(zone_checks.tidy_points([(-0.00001, 0.0)])) == "[(0.0, 0.0)]"


@given(st.lists(points))
def test_tidying_points_twice_changes_nothing(drawn: list[Point]) -> None:
    tidied = zone_checks.tidy_points(drawn)
    assert zone_checks.tidy_points(tidied) == tidied
    assert set(tidied) == {(round(x, 4), round(y, 4)) for x, y in drawn}


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "tidied"),
    [
        (" Front \t door\n", "Front door"),
        ("a\x00\x1b[31mb", "a [31mb"),
        ("\ud800", "?"),
        ("前庭 👩‍🌾", "前庭 👩‍🌾"),
        ("Cafe\u0301", "Café"),
    ],
)
def test_tidying_a_name(typed: str, tidied: str) -> None:
    assert zone_checks.tidy_name(typed) == tidied


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_any_name_can_be_stored(typed: str) -> None:
    tidied = zone_checks.tidy_name(typed)
    tidied.encode()
    assert tidied == zone_checks.tidy_name(tidied)


@pytest.mark.parametrize(
    ("name", "taken", "problem"),
    [
        ("Drive", [], None),
        ("x" * 40, [], None),
        ("x" * 41, [], "long_name"),
        ("", [], "empty_name"),
        ("drive", ["Drive"], "name_taken"),
        ("STRASSE", ["Straße"], "name_taken"),
        ("Café", ["Cafe\u0301"], "name_taken"),
        ("CAFÉ", ["cafe\u0301"], "name_taken"),
    ],
)
def test_name(name: str, taken: list[str], problem: str | None) -> None:
    assert zone_checks.name_problem(name, taken) == problem


def test_zones_and_lines_share_their_names_and_masks_have_their_own() -> None:
    camera = settings(zones=[zone("Drive")], lines=[line("Gate")], masks=[mask("Tree")])
    assert set(zone_checks.taken_names(camera, ShapeKind.ZONE, None)) == {"Drive", "Gate"}
    assert set(zone_checks.taken_names(camera, ShapeKind.LINE, "11111111")) == {"Drive"}
    assert zone_checks.taken_names(camera, ShapeKind.MASK, None) == ["Tree"]


# --- a camera's shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "shape", "problems"),
    [
        (ShapeKind.ZONE, zone("New", id="33333333"), {}),
        (ShapeKind.ZONE, zone("drive"), {}),  # its own name in other letters
        (ShapeKind.ZONE, zone("gate", id="33333333"), {"name": "name_taken"}),
        (ShapeKind.LINE, line("DRIVE"), {"name": "name_taken"}),
        (ShapeKind.MASK, mask("Drive"), {}),
        (ShapeKind.ZONE, zone(labels=["person"]), {}),
        (ShapeKind.ZONE, zone(labels=["person", "bear"]), {"labels": "label_not_watched"}),
        (ShapeKind.MASK, mask(motion=False), {}),
        (ShapeKind.MASK, mask(motion=False, objects=False), {"objects": "mask_without_effect"}),
        (ShapeKind.ZONE, zone("", labels=["bear"]), {"name": "empty_name", "labels": "label_not_watched"}),
    ],
)
def test_shape(kind: ShapeKind, shape: dict[str, Any], problems: dict[str, str]) -> None:
    camera = settings(zones=[zone()], lines=[line()], masks=[mask()])
    assert zone_checks.shape_problems(camera, kind, shape, zone_checks.shape_points(shape)) == problems


def test_points_of_a_shape_are_those_that_it_shall_have() -> None:
    camera = settings(zones=[zone()], lines=[line()])
    assert zone_checks.shape_problems(camera, ShapeKind.ZONE, zone(), SQUARE[:2]) == {"points": "too_few_points"}
    assert zone_checks.shape_problems(camera, ShapeKind.LINE, line(), SQUARE) == {"points": "not_two_points"}


def test_most_shapes() -> None:
    zones = [zone(f"Zone {number}", id=f"{number:08x}") for number in range(20)]
    assert zone_checks.count_problem(settings(zones=zones), ShapeKind.ZONE) is None
    assert zone_checks.count_problem(settings(zones=[*zones, zone()]), ShapeKind.ZONE) == "too_many_shapes"
    assert zone_checks.count_problem(settings(zones=[*zones, zone()]), ShapeKind.MASK) is None


@pytest.mark.parametrize("kind", ShapeKind)
def test_new_shape_is_right_once_it_has_a_name_and_points(kind: ShapeKind) -> None:
    shape = zone_checks.new_shape(kind, settings(), "New")
    ends: list[Point] = [(0.1, 0.2), (0.9, 0.2)]
    drawn = ends if kind is ShapeKind.LINE else SQUARE
    assert zone_checks.shape_problems(settings(), kind, shape, drawn) == {}
    whole = zone_checks.with_points(kind, shape, drawn)
    assert zone_checks.shape_points(whole) == drawn
    every: dict[ShapeKind, dict[str, Any]] = {
        ShapeKind.ZONE: {"dwell": 0, "inertia": 3},
        ShapeKind.LINE: {"direction": "both"},
        ShapeKind.MASK: {"motion": True, "objects": True},
    }
    geometry = {"points", "start", "end"} & whole.keys()
    kept = {key: value for key, value in whole.items() if key not in geometry}
    assert kept == {"id": shape["id"], "name": "New", "labels": [], **every[kind]}


def test_ids_are_new_and_of_eight_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = iter(["0a1b2c3d", "11111111", "33333333"])
    monkeypatch.setattr("secrets.token_hex", lambda _size: next(tokens))
    assert zone_checks.new_shape(ShapeKind.MASK, settings(zones=[zone()], lines=[line()]))["id"] == "33333333"


def test_changing_a_shape_keeps_its_place_and_all_else() -> None:
    camera = settings(zones=[zone(), zone("Lawn", id="33333333")], triggers=["x"])
    changed = zone_checks.with_shape(camera, ShapeKind.ZONE, zone("Yard"))
    assert [shape["name"] for shape in changed["zones"]] == ["Yard", "Lawn"]
    assert changed["triggers"] == ["x"]
    assert [shape["name"] for shape in camera["zones"]] == ["Drive", "Lawn"]


def test_no_incident_waits_for_what_is_deleted() -> None:
    camera = settings(zones=[zone()], lines=[line()], opening_zones=["0a1b2c3d", "11111111"], triggers=["x"])
    changed = zone_checks.without_shapes(camera, {"0a1b2c3d"})
    assert changed == settings(zones=[], lines=[line()], opening_zones=["11111111"], triggers=["x"])
    assert zone_checks.without_shapes(settings(), {"0a1b2c3d"}) == settings()


def test_opening_zones() -> None:
    camera = settings(zones=[zone()], lines=[line()], masks=[mask()])
    assert zone_checks.opening_choices(camera) == {"0a1b2c3d": "Drive", "11111111": "Gate"}
    assert zone_checks.opening_problem(camera, ["0a1b2c3d", "11111111"]) is None
    assert zone_checks.opening_problem(camera, []) is None
    assert zone_checks.opening_problem(camera, ["22222222"]) == "zone_not_found"


def test_what_is_limited_to_a_label_that_would_go() -> None:
    camera = settings(zones=[zone(labels=["cat"])], lines=[line(labels=["person"])], masks=[mask(labels=["cat"])])
    assert zone_checks.unwatched_shapes(camera, ["person"]) == ["Drive", "Tree"]
    assert zone_checks.unwatched_shapes(camera, ["person", "cat"]) == []
