"""Lays rain, snow, fog and light over a frame."""

from collections.abc import Sequence
from functools import reduce
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from .script import Light, Sky, Weather
from .settings import Setting

AMBIENT = {
    Sky.DAY: (1.0, 1.0, 0.985),
    Sky.OVERCAST: (0.86, 0.88, 0.9),
    Sky.DUSK: (0.56, 0.5, 0.56),
    Sky.NIGHT: (0.15, 0.17, 0.24),
    Sky.INFRARED: (0.14, 0.14, 0.14),
}
"""What is left of the daylight, per channel."""
type Points = tuple[tuple[float, float], ...]
"""Seconds and value, between which is interpolated."""

MIST = (206, 210, 214)


def shadow_strength(light: Light) -> float:
    """Return how dark a cast shadow is."""
    return {Sky.DAY: 0.42, Sky.OVERCAST: 0.18, Sky.DUSK: 0.12}.get(light.sky, 0.1)


def along(points: Sequence[tuple[float, float]], time: float, default: float) -> float:
    """Interpolate between (seconds, value) points."""
    if not points:
        return default
    return float(np.interp(time, [point[0] for point in points], [point[1] for point in points]))


def mist_share(weather: Weather, depth: float) -> float:
    """Return how much fog hides at a depth in metres, 0..1."""
    return float(1 - np.exp(-depth * weather.fog * 0.055)) if weather.fog else 0.0


def prepare(setting: Setting, weather: Weather, light: Light) -> Image.Image:
    """Return the place's background in this weather: snow on the ground, wet ground, fog, sky by night."""
    pixels = np.asarray(setting.background, np.float32)
    ground = setting.ground[..., None]
    if weather.snow:
        cover = (
            ground * min(0.85, 0.5 + weather.snow * 0.4) * np.clip(pixels.mean(axis=2, keepdims=True) / 110, 0.55, 1)
        )
        pixels = pixels * (1 - cover) + np.array((226, 230, 236), np.float32) * cover
    if weather.rain:
        pixels = pixels * (1 - 0.22 * weather.rain * ground)
    if light.sky in {Sky.NIGHT, Sky.INFRARED}:
        pixels = pixels * (1 - 0.85 * setting.sky[..., None])
    if light.sky is not Sky.DAY:
        grey = pixels.mean(axis=2, keepdims=True)
        pixels = pixels * 0.75 + grey * 0.25
    if weather.fog:
        share = (1 - np.exp(-setting.depth * weather.fog * 0.055))[..., None]
        pixels = pixels * (1 - share) + np.array(MIST, np.float32) * share
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


class Lighting:
    """Multiplies a frame with the light of the moment; what does not change is kept."""

    def __init__(self, setting: Setting, light: Light) -> None:
        """Work out how far each lamp of the place reaches."""
        self.light = light
        self.pools: list[tuple[NDArray[np.float32], tuple[float, float, float], Points]] = []
        distance = _Distances(setting)
        if light.sky is Sky.INFRARED:
            self.pools.append((_beam(setting), (1.0, 1.0, 1.0), ((0.0, 1.0),)))
        for lamp, points in zip(setting.lamps, light.lamps, strict=False):
            if points:
                spread = 0.95 / (1 + (distance(lamp.x, lamp.y, lamp.z) / lamp.reach) ** 2.2)
                red, green, blue = (channel / 255 for channel in lamp.colour)
                self.pools.append((spread.astype(np.float32), (red, green, blue), points))
        self._key: tuple[int, ...] = ()
        self._map: Image.Image | None = None

    def level(self, time: float) -> float:
        """Return the brightness of the daylight."""
        return along(self.light.levels, time, 1.0)

    def apply(self, image: Image.Image, time: float) -> Image.Image:
        """Return the frame in this light."""
        level = self.level(time)
        if not self.pools:
            gains = [level * gain for gain in AMBIENT[self.light.sky]]
            if all(abs(gain - 1) < 0.01 for gain in gains):
                return image
            return image.point([int(min(255, value * gain)) for gain in gains for value in range(256)])
        lit = ImageChops.multiply(image, self._light_map(level, [along(pool[2], time, 0.0) for pool in self.pools]))
        return lit.convert("L").convert("RGB") if self.light.sky is Sky.INFRARED else lit

    def _light_map(self, level: float, powers: list[float]) -> Image.Image:
        key = tuple(round(value * 50) for value in (level, *powers))
        if self._map is None or key != self._key:
            total: NDArray[np.float32] = np.zeros((*self.pools[0][0].shape, 3), np.float32)
            total += np.array(AMBIENT[self.light.sky], np.float32) * level
            for (spread, colour, _), power in zip(self.pools, powers, strict=True):
                total += spread[..., None] * np.array(colour, np.float32) * power
            self._map, self._key = Image.fromarray((np.clip(total, 0, 1) * 255).astype(np.uint8)), key
        return self._map


class _Distances:
    """How far each pixel's world point is from another, metres."""

    def __init__(self, setting: Setting) -> None:
        camera = setting.camera
        rows, columns = np.mgrid[0 : camera.rows, 0 : camera.width].astype(np.float32)
        self.z = setting.depth
        self.x = (columns - camera.width / 2) / camera.focal * self.z
        self.y = np.clip(camera.height - ((rows - camera.horizon()) / camera.focal) * self.z, 0, 20)

    def __call__(self, x: float, y: float, z: float) -> NDArray[np.float32]:
        distance: NDArray[np.float32] = np.sqrt((self.x - x) ** 2 + (self.y - y) ** 2 + (self.z - z) ** 2)
        return distance


def _beam(setting: Setting) -> NDArray[np.float32]:
    """Return what the camera's own infrared lamp lights: near things, the middle of the picture."""
    camera = setting.camera
    rows, columns = np.mgrid[0 : camera.rows, 0 : camera.width].astype(np.float32)
    off = np.hypot((columns - camera.width / 2) / camera.width, (rows - camera.rows * 0.55) / camera.rows)
    beam: NDArray[np.float32] = (1.15 / (1 + (setting.depth / 13) ** 2) * np.clip(1.15 - off**2 * 1.5, 0.2, 1)).astype(
        np.float32
    )
    return beam


class Precipitation:
    """Falling rain or snow: a few layers that run past at their own speeds."""

    def __init__(self, weather: Weather, size: tuple[int, int], rng: Random) -> None:
        """Draw the layers."""
        self.weather = weather
        self.size = size
        self.layers: list[tuple[Image.Image, float, float]] = []
        self.colour = (238, 240, 244) if weather.snow else (196, 204, 214)
        if weather.rain:
            self.layers = [(_twofold(_streaks(size, weather, rng, near)), 900 + 500 * near, 0.0) for near in range(3)]
        elif weather.snow:
            self.layers = [
                (_twofold(_flakes(size, weather, rng, near)), 60 + 60 * near, 18.0 + 14 * near) for near in range(3)
            ]

    def apply(self, image: Image.Image, time: float) -> None:
        """Let it fall over the frame."""
        if not self.layers:
            return
        masks = [self._window(*layer, time) for layer in self.layers]
        image.paste(self.colour, (0, 0), reduce(ImageChops.lighter, masks))

    def _window(self, mask: Image.Image, fall: float, drift: float, time: float) -> Image.Image:
        """Return what of a layer is before the camera; it wraps around."""
        width, height = self.size
        across = -int(drift * np.sin(time * 0.7 + fall) + self.weather.wind * drift * time) % width
        down = -int(fall * time) % height
        return mask.crop((across, down, across + width, down + height))


def _twofold(mask: Image.Image) -> Image.Image:
    """Lay a picture two by two, so that any window of its size can be cut from it."""
    tiled = Image.new("L", (mask.width * 2, mask.height * 2))
    for left in (0, mask.width):
        for top in (0, mask.height):
            tiled.paste(mask, (left, top))
    return tiled


def _streaks(size: tuple[int, int], weather: Weather, rng: Random, near: int) -> Image.Image:
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    slant = 0.06 + 0.25 * weather.wind
    for _ in range(int(weather.rain * (260, 120, 40)[near])):
        x, y, length = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(14, 30) * (1 + near)
        draw.line((x, y, x + slant * length, y + length), fill=rng.randint(24, 70), width=1 + near // 2)
    return mask.filter(ImageFilter.GaussianBlur(0.5 + 0.3 * near))


def _flakes(size: tuple[int, int], weather: Weather, rng: Random, near: int) -> Image.Image:
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    for _ in range(int(weather.snow * (500, 220, 50)[near])):
        x, y, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(0.7, 1.3) * (1 + near)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=rng.randint(110, 220))
    return mask.filter(ImageFilter.GaussianBlur(0.5 + 0.5 * near))
