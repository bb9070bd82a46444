"""Draws the integration's icon and logo, of our own design: a house whose window is a watching lens.

python -m demo.brand writes them into the integration's brand folder.
"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).resolve().parent.parent / "custom_components" / "nemotron_security" / "brand"
OVERSAMPLING = 4
GREEN, DEEP_GREEN = (46, 196, 121), (16, 122, 87)
INK, PAPER = (20, 32, 43), (244, 248, 247)
SKY, DUSK = (64, 124, 168), (27, 66, 104)

type Colour = tuple[int, int, int]
type Point = tuple[float, float]


def draw_icon(size: int) -> Image.Image:
    """Draw the icon as a square of `size` pixels with a transparent ground."""
    side = size * OVERSAMPLING
    image = Image.new("RGBA", (side, side))
    image.paste(_gradient(side), mask=_house(side))
    _draw_lens(ImageDraw.Draw(image), side)
    return image.resize((size, size), Image.Resampling.LANCZOS)


def draw_logo(height: int, ink: Colour) -> Image.Image:
    """Draw icon and name side by side."""
    large = height * OVERSAMPLING
    bold = ImageFont.load_default(large * 0.46)
    light = ImageFont.load_default(large * 0.24)
    left = large * 1.1
    width = int(left + max(bold.getlength("Nemotron"), light.getlength("HOME SECURITY")) + large * 0.06)
    image = Image.new("RGBA", (width, large))
    image.paste(draw_icon(large), (0, 0))
    draw = ImageDraw.Draw(image)
    draw.text((left, large * 0.52), "Nemotron", ink, bold, anchor="ls", stroke_width=large // 120, stroke_fill=ink)
    draw.text(
        (left + large * 0.02, large * 0.84), "HOME SECURITY", DEEP_GREEN if ink == INK else GREEN, light, anchor="ls"
    )
    return image.resize((width // OVERSAMPLING, height), Image.Resampling.LANCZOS)


def _gradient(side: int) -> Image.Image:
    """Return a square that goes from light at the top to dark at the bottom."""
    ramp = Image.linear_gradient("L").resize((side, side))
    return Image.composite(Image.new("RGB", ramp.size, DUSK), Image.new("RGB", ramp.size, SKY), ramp)


def _house(side: int) -> Image.Image:
    """Return the mask of a house with round corners: walls that end in a point below, like a shield."""
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    corner = side * 0.045
    outline: list[Point] = [
        (0.5, 0.09),
        (0.92, 0.43),
        (0.86, 0.5),
        (0.86, 0.7),
        (0.5, 0.91),
        (0.14, 0.7),
        (0.14, 0.5),
        (0.08, 0.43),
    ]
    points = [(x * side, y * side) for x, y in outline]
    draw.polygon(points, fill=255)
    for start, end in zip(points, [*points[1:], points[0]], strict=True):
        draw.line([start, end], fill=255, width=int(2 * corner))
    for x, y in points:
        draw.ellipse((x - corner, y - corner, x + corner, y + corner), fill=255)
    return mask


def _draw_lens(draw: ImageDraw.ImageDraw, side: int) -> None:
    """Draw a lens: a white mount, dark glass, a green ring and a spark of light."""
    x, y = side * 0.5, side * 0.53
    for radius, colour in ((0.24, PAPER), (0.2, INK), (0.15, GREEN), (0.092, INK)):
        _disc(draw, (x, y), side * radius, colour)
    _disc(draw, (x + side * 0.062, y - side * 0.062), side * 0.03, PAPER)


def _disc(draw: ImageDraw.ImageDraw, centre: Point, radius: float, colour: Colour) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def main() -> None:
    """Write all sizes. Our icon stands out on any ground; only the name needs another ink on a dark one."""
    FOLDER.mkdir(exist_ok=True)
    for suffix, scale in (("", 1), ("@2x", 2)):
        draw_icon(256 * scale).save(FOLDER / f"icon{suffix}.png", optimize=True)
        draw_icon(256 * scale).save(FOLDER / f"dark_icon{suffix}.png", optimize=True)
        draw_logo(128 * scale, INK).save(FOLDER / f"logo{suffix}.png", optimize=True)
        draw_logo(128 * scale, PAPER).save(FOLDER / f"dark_logo{suffix}.png", optimize=True)


if __name__ == "__main__":
    main()
