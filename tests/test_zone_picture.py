"""The picture that the forms show: a camera's frame, a grid in percent, and what is drawn, with its names."""

from base64 import b64decode
from io import BytesIO
import math
from typing import Any
from xml.etree import ElementTree as ET

from hypothesis import given, strategies as st
from PIL import Image
import pytest

from custom_components.nemotron_security.zone_checks import tidy_name
from custom_components.nemotron_security.zone_picture import draw

from .house import jpeg

SVG = "{http://www.w3.org/2000/svg}"
SETTINGS: dict[str, Any] = {
    "zones": [{"id": "0a1b2c3d", "name": "Drive", "points": [[0, 0.5], [0.5, 0.5], [0.5, 1]]}],
    "lines": [{"id": "11111111", "name": "Gate", "start": [0.25, 0.5], "end": [0.75, 0.5], "direction": "both"}],
    "masks": [{"id": "22222222", "name": "Tree", "points": [[0, 0], [0.25, 0], [0.25, 0.25]]}],
}


def elements(document: bytes, name: str) -> list[ET.Element]:
    return list(ET.fromstring(document).iter(f"{SVG}{name}"))


def texts(document: bytes) -> list[str | None]:
    return [element.text for element in elements(document, "text")]


def of_class(document: bytes, name: str) -> list[ET.Element]:
    return [element for element in ET.fromstring(document).iter() if element.get("class") == name]


def test_picture_is_inside_as_it_is() -> None:
    document = draw(jpeg(), {})
    root = ET.fromstring(document)
    assert root.get("viewBox") == "0 0 64 36"
    (image,) = elements(document, "image")
    assert (image.get("width"), image.get("height")) == ("64", "36")
    kind, data = (image.get("href") or "").split(",")
    assert kind == "data:image/jpeg;base64"
    assert b64decode(data) == jpeg()


def test_without_a_picture_there_is_the_grid() -> None:
    document = draw(None, {})
    assert ET.fromstring(document).get("viewBox") == "0 0 1280 720"
    assert elements(document, "image") == []
    assert len(of_class(document, "grid")) == 9
    # Both axes begin at 0, which is written once.
    assert sorted(texts(document), key=lambda text: int(text or "")) == sorted(
        [*(str(n) for n in range(0, 101, 10)), *(str(n) for n in range(10, 101, 10))], key=int
    )


def test_shapes_are_where_they_are_with_their_names() -> None:
    document = draw(None, SETTINGS)
    assert [element.get("points") for element in of_class(document, "zone")] == ["0,360 640,360 640,720"]
    assert [element.get("points") for element in of_class(document, "mask")] == ["0,0 320,0 320,180"]
    assert [element.get("points") for element in of_class(document, "line")] == ["320,360 960,360"]
    assert {"Drive", "Gate", "Tree"} <= set(texts(document))


@pytest.mark.parametrize(("direction", "ways"), [("both", [1, -1]), ("to_right", [1]), ("to_left", [-1])])
@pytest.mark.parametrize(
    ("start", "end", "right"),
    [
        # Who looks up the picture has its right at his right; who looks to its right has the bottom there.
        ([0.5, 0.9], [0.5, 0.1], (1, 0)),
        ([0.1, 0.5], [0.9, 0.5], (0, 1)),
        ([0.5, 0.1], [0.5, 0.9], (-1, 0)),
        ([0.9, 0.5], [0.1, 0.5], (0, -1)),
    ],
)
def test_arrows_point_to_the_side_that_counts(
    direction: str, ways: list[int], start: list[float], end: list[float], right: tuple[int, int]
) -> None:
    line = {"id": "11111111", "name": "Gate", "start": start, "end": end, "direction": direction}
    arrows = of_class(draw(None, {"lines": [line]}), "arrow")
    found = []
    for arrow in arrows:
        shaft = (arrow.get("d") or "").split("M")[1]
        (x1, y1), (x2, y2) = ([float(number) for number in point.split()] for point in shaft.split("L"))
        assert (x1, y1) == (640, 360)
        length = math.hypot(x2 - x1, y2 - y1)
        found.append((round((x2 - x1) / length), round((y2 - y1) / length)))
    assert found == [(right[0] * way, right[1] * way) for way in ways]


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_no_name_breaks_the_document(name: str) -> None:
    name = tidy_name(name)
    document = draw(None, {"zones": [{**SETTINGS["zones"][0], "name": name}]})
    assert texts(document)[-1] == (name or None)


def test_markup_in_a_name_is_text() -> None:
    name = '</text><script>alert("1")</script>&amp;'
    document = draw(None, {"zones": [{**SETTINGS["zones"][0], "name": name}]})
    assert elements(document, "script") == []
    assert name in texts(document)


def test_tall_pictures_keep_their_shape() -> None:
    buffer = BytesIO()
    Image.new("RGB", (360, 640)).save(buffer, "JPEG")
    assert ET.fromstring(draw(buffer.getvalue(), SETTINGS)).get("viewBox") == "0 0 360 640"
