"""Grows surfaces from seeded noise: ground, masonry, boards, leaves, sky."""

from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from .sketch import Colour, shade

type Plane = NDArray[np.float32]

TILE = 512
"""Pixels of a side of the noise tile, which repeats."""


def noise_tile(seed: int, octaves: int = 5) -> Plane:
    """Return (TILE, TILE) seamless fractal noise, mean 0, about -1..1."""
    rng = np.random.default_rng(seed)
    total = np.zeros((TILE, TILE), np.float32)
    for octave in range(octaves):
        cells = 8 << octave
        grain = rng.standard_normal((cells, cells)).astype(np.float32)
        wrapped = np.pad(grain, 2, mode="wrap")
        side = TILE * (cells + 4) // cells
        grown = np.asarray(Image.fromarray(wrapped).resize((side, side), Image.Resampling.BICUBIC))
        edge = 2 * TILE // cells
        total += grown[edge : edge + TILE, edge : edge + TILE] * 0.62**octave
    return total / np.float32(np.abs(total).max())


def look_up(tile: Plane, x: NDArray[np.float64], z: NDArray[np.float64], metres: float) -> Plane:
    """Return the noise at ground points, the tile spread over `metres`."""
    scale = TILE / metres
    columns = np.mod(x * scale, TILE).astype(np.int32) % TILE
    rows = np.mod(z * scale, TILE).astype(np.int32) % TILE
    return tile[rows, columns]


def bricks(width: float, height: float, colour: Colour, rng: Random, density: int = 90) -> Image.Image:
    """Return a brick wall of so many metres, `density` pixels a metre."""
    image = Image.new("RGB", (round(width * density), round(height * density)), shade((190, 182, 170), 0.9))
    draw = ImageDraw.Draw(image)
    course, brick = 0.085 * density, 0.25 * density
    for row in range(int(image.height / course) + 1):
        offset = brick / 2 if row % 2 else 0.0
        for column in range(-1, int(image.width / brick) + 1):
            left, top = column * brick + offset, row * course
            box = (left + 1, top + 1, left + brick - 1, top + course - 1)
            draw.rectangle(box, fill=shade(colour, rng.uniform(0.82, 1.12)))
    return _weathered(image, rng, 0.06)


def plaster(width: float, height: float, colour: Colour, rng: Random, density: int = 60) -> Image.Image:
    """Return a rendered wall."""
    return _weathered(
        Image.new("RGB", (round(width * density), round(height * density)), shade(colour, 1.0)), rng, 0.05
    )


def boards(
    width: float, height: float, colour: Colour, rng: Random, *, upright: bool = True, density: int = 70
) -> Image.Image:
    """Return boards with gaps, upright as a fence or lying as cladding."""
    image = Image.new("RGB", (round(width * density), round(height * density)), shade(colour, 0.35))
    draw = ImageDraw.Draw(image)
    step = 0.14 * density
    along = image.width if upright else image.height
    for index in range(int(along / step) + 1):
        start = index * step
        box = (start, 0, start + step - 2, image.height) if upright else (0, start, image.width, start + step - 2)
        draw.rectangle(box, fill=shade(colour, rng.uniform(0.84, 1.1)))
    return _weathered(image, rng, 0.08)


def tiles(width: float, height: float, colour: Colour, rng: Random, density: int = 60) -> Image.Image:
    """Return a tiled roof."""
    image = Image.new("RGB", (max(1, round(width * density)), max(1, round(height * density))), shade(colour, 0.55))
    draw = ImageDraw.Draw(image)
    row_step, column_step = 0.28 * density, 0.22 * density
    for row in range(int(image.height / row_step) + 1):
        for column in range(-1, int(image.width / column_step) + 1):
            left = column * column_step + (column_step / 2 if row % 2 else 0)
            box = (left, row * row_step, left + column_step - 1, (row + 1) * row_step - 2)
            draw.rectangle(box, fill=shade(colour, rng.uniform(0.85, 1.12)))
    return _weathered(image, rng, 0.06)


def _weathered(image: Image.Image, rng: Random, strength: float) -> Image.Image:
    """Mottle a surface with large soft stains and darken it towards the ground."""
    pixels = np.asarray(image, np.float32)
    tile = noise_tile(rng.randrange(1 << 30), 4)
    rows, columns = np.mgrid[0 : image.height, 0 : image.width]
    stains = tile[(rows // 2) % TILE, (columns // 2) % TILE]
    falling = 1.0 - 0.12 * (rows / max(1, image.height)) ** 4
    mottled = pixels * (falling * (1 + strength * 2.5 * stains))[..., None]
    return Image.fromarray(np.clip(mottled, 0, 255).astype(np.uint8))


def leaves(width: int, height: int, colour: Colour, rng: Random) -> Image.Image:
    """Return an RGBA clump of leaves that fills an ellipse of these pixels, lit from the upper left."""
    image = Image.new("RGBA", (width * 2, height * 2))
    draw = ImageDraw.Draw(image)
    size = max(3.0, min(width, height) * 0.085)
    count = int(260 + width * height / 90)
    for _ in range(min(count, 1500)):
        radius, angle = rng.random() ** 0.55, rng.uniform(0, 6.2832)
        across, down = radius * np.cos(angle), radius * np.sin(angle)
        ragged = 1.0 + 0.12 * np.sin(angle * 7 + width)
        x, y = width * (1 + 0.86 * across * ragged), height * (1 + 0.86 * down * ragged)
        brightness = 0.78 - 0.24 * (across * 0.5 + down) + rng.uniform(-0.2, 0.2)
        leaf_x, leaf_y = size * rng.uniform(0.6, 1.5), size * rng.uniform(0.5, 1.1)
        draw.ellipse((x - leaf_x, y - leaf_y, x + leaf_x, y + leaf_y), fill=(*shade(colour, brightness), 255))
    return image.reduce(2)


def sky(size: tuple[int, int], top: Colour, bottom: Colour, clouds: float, seed: int) -> Image.Image:
    """Return a gradient with soft clouds (0 none, 1 overcast)."""
    width, height = size
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    pixels = np.array(top, np.float32) * (1 - ramp) + np.array(bottom, np.float32) * ramp
    pixels = np.repeat(pixels, width, axis=1)
    tile = noise_tile(seed, 4)
    small = Image.fromarray(tile[:TILE, :]).resize((width * 2, height), Image.Resampling.BICUBIC)
    cover = np.clip((np.asarray(small)[:, :width] + clouds - 0.55) * 2.2, 0, 1)[..., None] * clouds
    pixels = pixels * (1 - cover) + np.array((236, 238, 240), np.float32) * cover
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))
