"""Renders a scene frame by frame, with the truth of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi, sin
from random import Random
from zlib import crc32

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from .animals import Animal, draw_animal, random_animal
from .geometry import Camera
from .people import TOPS, Person, Pose, draw_person, random_person
from .script import Actor, Kind, Moment, SceneScript, Sky, Way
from .settings import Prop, build
from .sketch import Colour, Sketch, Sprite, hull, opaque
from .truth import FrameTruth, ObjectTruth
from .vehicles import PAINT, Car, draw_bicycle, draw_car, random_car
from .weather import MIST, Lighting, Precipitation, along, mist_share, prepare, shadow_strength

LABELS = {
    Kind.PERSON: "person",
    Kind.CAR: "car",
    Kind.VAN: "truck",
    Kind.CYCLIST: "person",
    Kind.DOG: "dog",
    Kind.CAT: "cat",
}
BICYCLE_IDS = 1000
"""A cyclist's bicycle has its rider's id plus this."""
STILL = 0.15
"""Metres a second below which something stands."""
CARDBOARD: Colour = (186, 142, 92)


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """One picture to lay on the frame, and whose it is."""

    sprite: Sprite
    owner: int | None = None
    label: str = ""
    active: bool = False


class _Performer:
    """One actor with its looks, drawn at any time."""

    def __init__(self, actor: Actor, number: int, script: SceneScript) -> None:
        self.actor = actor
        self.number = number
        self.way = Way(actor, script.seconds)
        self.dark = script.light.sky in {Sky.DUSK, Sky.NIGHT, Sky.INFRARED}
        rng = Random(actor.look * 7919 + 13)
        self.person: Person = random_person(rng)
        self.car: Car = random_car(rng, "van" if actor.kind is Kind.VAN else None)
        species = "cat" if actor.kind is Kind.CAT else "dog"
        self.animal: Animal = random_animal(species, rng)
        self.paint = rng.choice(PAINT)
        self.shirt = rng.choice(TOPS)
        self._still: tuple[Moment, list[_Layer]] | None = None

    def layers(self, camera: Camera, time: float) -> list[_Layer]:
        """Draw the actor; what stands still is drawn once."""
        if not self.way.present(time):
            return []
        moment = self.way.at(time)
        lifeless = self.actor.kind in {Kind.CAR, Kind.VAN, Kind.PARCEL}
        resting = lifeless and moment.speed < 0.01
        if resting and self._still and self._still[0] == moment:
            return self._still[1]
        layers = self._draw(camera, moment, time)
        self._still = (moment, layers) if resting else None
        return layers

    def _draw(self, camera: Camera, moment: Moment, time: float) -> list[_Layer]:
        kind = self.actor.kind
        sketch = Sketch(camera, moment.x, moment.z, moment.heading)
        if kind is Kind.PERSON:
            self._person(sketch, moment, time)
        elif kind in {Kind.CAR, Kind.VAN}:
            self._car(sketch, moment)
        elif kind is Kind.CYCLIST:
            return self._cyclist(sketch, moment)
        elif kind is Kind.PARCEL:
            draw_parcel(sketch, 0.0, 0.0, 0.0)
        else:
            gait = moment.travelled / (0.62 * self.animal.height + 0.16) * pi
            idle = 0.35 * sin(time * 1.3)
            draw_animal(sketch, self.animal, gait + idle, min(1.0, moment.speed / 0.9))
        moving = moment.speed > STILL or kind in {Kind.PERSON, Kind.DOG, Kind.CAT}
        return self._layer(sketch, LABELS.get(kind, ""), self.number, active=moving and self.actor.moves)

    def _layer(self, sketch: Sketch, label: str, owner: int, *, active: bool) -> list[_Layer]:
        sprite = sketch.render()
        if sprite is None:
            return []
        return [_Layer(sprite, owner if label else None, label, active)]

    def _person(self, sketch: Sketch, moment: Moment, time: float) -> None:
        acts = {act.what: _swell(time, act.start, act.end) for act in self.actor.acts if act.start <= time <= act.end}
        stride = min(1.7, moment.speed / 1.35)
        gait = moment.travelled / (0.42 * self.person.height * (0.75 + 0.35 * stride)) * pi
        carrying = "carry" in acts
        pose = Pose(phase=gait, stride=stride, bend=acts.get("bend", 0.0), carry=carrying, reach=acts.get("reach", 0.0))
        draw_person(sketch, self.person, pose)
        if carrying:
            height = self.person.height
            draw_parcel(sketch, 0.56 * height, 0.27 * height * (1 + 0.3 * pose.bend), 0.2)

    def _car(self, sketch: Sketch, moment: Moment) -> None:
        running = self.actor.moves
        braking = running and self.way.at(0.0) != moment and moment.speed < 1.2
        draw_car(
            sketch,
            self.car,
            moment.travelled,
            lamps=self.dark and running and moment.speed > STILL,
            brake=braking and moment.speed > STILL,
        )

    def _cyclist(self, sketch: Sketch, moment: Moment) -> list[_Layer]:
        draw_bicycle(sketch, self.paint, moment.travelled)
        rider = Sketch(sketch.camera, sketch.x, sketch.z, sketch.heading)
        draw_person(rider, self.person, Pose(phase=moment.travelled * 1.6, seated=True))
        bicycle = self._layer(sketch, "bicycle", self.number + BICYCLE_IDS, active=True)
        return [*bicycle, *self._layer(rider, "person", self.number, active=True)]

    def footprint(self, time: float) -> tuple[Moment, float, float, float] | None:
        """Return where it stands and its half width, half length and height, for its shadow."""
        if not self.way.present(time):
            return None
        sizes = {
            Kind.CAR: (self.car.width / 2, self.car.length / 2, self.car.height * 0.7),
            Kind.VAN: (self.car.width / 2, self.car.length / 2, self.car.height),
            Kind.PERSON: (0.2, 0.16, self.person.height),
            Kind.CYCLIST: (0.2, 0.7, 1.5),
            Kind.PARCEL: (0.24, 0.18, 0.3),
        }
        size = sizes.get(self.actor.kind, (0.12, 0.4, self.animal.height))
        return (self.way.at(time), *size)

    def headlamps(self, camera: Camera, time: float) -> NDArray[np.float64] | None:
        """Return where its burning headlamps are seen, (2, 3) u, v and depth, if they look at the camera."""
        if not (self.dark and self.actor.kind in {Kind.CAR, Kind.VAN} and self.way.present(time) and self.actor.moves):
            return None
        moment = self.way.at(time)
        towards = -(sin(moment.heading) * moment.x + cos(moment.heading) * moment.z)
        if moment.speed < STILL or towards < 0.5:
            return None
        nose, half = self.car.length / 2, self.car.width * 0.36
        corners = np.array(
            [
                (
                    moment.x + nose * sin(moment.heading) + side * half * cos(moment.heading),
                    0.55,
                    moment.z + nose * cos(moment.heading) - side * half * sin(moment.heading),
                )
                for side in (-1, 1)
            ]
        )
        return camera.project(corners) if corners[:, 2].min() > 1 else None


def draw_parcel(sketch: Sketch, up: float, forward: float, half: float) -> None:
    """Add a cardboard box; a `half` of 0 is a parcel on the ground."""
    wide, deep, tall = 0.22, half * 0.8 or 0.17, 0.28
    low, high = up, up + tall
    near, far = forward - deep, forward + deep
    front = [(-wide, low, far), (-wide, high, far), (wide, high, far), (wide, low, far)]
    back = [(wide, low, near), (wide, high, near), (-wide, high, near), (-wide, low, near)]
    right = [(wide, low, far), (wide, high, far), (wide, high, near), (wide, low, near)]
    left = [(-wide, low, near), (-wide, high, near), (-wide, high, far), (-wide, low, far)]
    top = [(wide, high, near), (wide, high, far), (-wide, high, far), (-wide, high, near)]
    for face in (front, back, right, left, top):
        sketch.panel(face, CARDBOARD, bias=0.05, gloss=0.12)
    tape = [
        (0.04, high + 0.004, near),
        (0.04, high + 0.004, far),
        (-0.04, high + 0.004, far),
        (-0.04, high + 0.004, near),
    ]
    sketch.panel(tape, (214, 190, 150), bias=0.08, gloss=0.1)


def _swell(time: float, start: float, end: float) -> float:
    """Rise from 0 to 1 and fall again, softly, over half a second each."""
    edge = min(time - start, end - time) / 0.5
    share = min(1.0, max(0.0, edge))
    return share * share * (3 - 2 * share)


class SceneRenderer:
    """Renders one scene."""

    def __init__(self, script: SceneScript, fps: float = 15.0) -> None:
        """Paint the place (once per process) and cast the actors."""
        self.script = script
        self.fps = fps
        self.setting = build(script.setting, script.variant)
        self.camera = self.setting.camera
        self.background = prepare(self.setting, script.weather, script.light)
        self.lighting = Lighting(self.setting, script.light)
        rng = Random(script.seed)
        self.precipitation = Precipitation(script.weather, (self.camera.width, self.camera.rows), rng)
        self.performers = [_Performer(actor, number + 1, script) for number, actor in enumerate(script.actors)]
        self.props = [self._weathered(prop) for prop in self.setting.props]
        self._noise = _Noise(script, (self.camera.rows, self.camera.width))
        self._stamp: tuple[int, Image.Image] | None = None

    @property
    def count(self) -> int:
        """Number of frames."""
        return round(self.script.seconds * self.fps)

    def frames(self) -> Iterator[tuple[av.VideoFrame, FrameTruth]]:
        """Render all frames, as the sensor sees them (yuv420p)."""
        for index in range(self.count):
            yield self.frame(index)

    def frame(self, index: int) -> tuple[av.VideoFrame, FrameTruth]:
        """Render one frame."""
        time = index / self.fps
        image, layers = self._compose(time)
        image = self.lighting.apply(image, time)
        self._glow(image, time)
        self.precipitation.apply(image, time)
        self._write_stamp(image, int(time))
        frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24").reformat(format="yuv420p")
        truth = FrameTruth(index=index, time=round(time, 4), objects=tuple(self._truth(layers)))
        return self._noise.apply(frame, index), truth

    def _weathered(self, prop: Prop) -> Prop:
        sprite = prop.sprite
        return Prop(Sprite(self._misted(sprite), sprite.left, sprite.top, sprite.depth), prop.sway, prop.phase)

    def _misted(self, sprite: Sprite) -> Image.Image:
        share = mist_share(self.script.weather, sprite.depth)
        if share < 0.02:
            return sprite.image
        veiled = Image.blend(sprite.image, Image.new("RGBA", sprite.image.size, (*MIST, 255)), share)
        veiled.putalpha(sprite.image.getchannel("A"))
        return veiled

    def _compose(self, time: float) -> tuple[Image.Image, list[_Layer]]:
        image = self.background.copy()
        for performer in self.performers:
            self._cast_shadow(image, performer, time)
        layers = [_Layer(self._swayed(prop, time)) for prop in self.props]
        for performer in self.performers:
            layers += performer.layers(self.camera, time)
        layers.sort(key=lambda layer: -layer.sprite.depth)
        for layer in layers:
            picture = self._misted(layer.sprite) if layer.owner is not None else layer.sprite.image
            image.paste(picture, (layer.sprite.left, layer.sprite.top), picture)
        return image, layers

    def _swayed(self, prop: Prop, time: float) -> Sprite:
        if not prop.sway:
            return prop.sprite
        wind = self.script.weather.wind
        gust = 0.6 + 0.4 * sin(time * 0.43 + self.script.seed)
        reach = prop.sway * wind * gust
        across = reach * (sin(time * (1.6 + wind) + prop.phase) + 0.5 * sin(time * 4.1 + 2 * prop.phase))
        down = 0.3 * reach * sin(time * 2.3 + prop.phase * 1.7)
        sprite = prop.sprite
        return Sprite(sprite.image, sprite.left + round(across), sprite.top + round(down), sprite.depth)

    def _cast_shadow(self, image: Image.Image, performer: _Performer, time: float) -> None:
        foot = performer.footprint(time)
        if foot is None:
            return
        moment, half_width, half_length, height = foot
        strength = shadow_strength(self.script.light) * min(1.0, self.lighting.level(time))
        reach = 0.55 * height if self.script.light.sky is Sky.DAY else 0.1 * height
        corners = []
        for shift in (0.0, reach):
            for side, end in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
                right, forward = side * half_width, end * half_length
                x = moment.x + right * cos(moment.heading) + forward * sin(moment.heading) + shift
                z = moment.z - right * sin(moment.heading) + forward * cos(moment.heading) + 0.45 * shift
                corners.append((x, 0.0, z))
        if min(z for _, _, z in corners) > 0.9:
            _darken(image, hull(self.camera.project(np.array(corners))[:, :2], np.ones(len(corners))), strength)

    def _truth(self, layers: list[_Layer]) -> Iterator[ObjectTruth]:
        """Yield every object, the nearest first, with what the nearer layers leave of it."""
        owned = [layer for layer in layers if layer.owner is not None]
        if not owned:
            return
        furthest = max(layer.sprite.depth for layer in owned)
        covered = np.zeros((self.camera.rows, self.camera.width), bool)
        for layer in reversed(layers):
            if layer.sprite.depth > furthest:
                continue
            found = _uncover(layer, covered)
            if found is not None:
                yield found

    def _glow(self, image: Image.Image, time: float) -> None:
        """Add the shine of lamps that burn within the picture."""
        for lamp, points in zip(self.setting.lamps, self.script.light.lamps, strict=False):
            power = along(points, time, 0.0)
            seen = self.camera.project(np.array([(lamp.x, lamp.y, lamp.z)]))[0]
            if power > 0.05 and lamp.z > 2:
                _shine(image, seen, 260 / seen[2] + 8, power, lamp.colour)
        for performer in self.performers:
            lamps = performer.headlamps(self.camera, time)
            for seen in () if lamps is None else lamps:
                _shine(image, seen, 420 / seen[2] + 6, 0.9, (255, 248, 220))

    def _write_stamp(self, image: Image.Image, second: int) -> None:
        if not self.script.stamp:
            return
        if self._stamp is None or self._stamp[0] != second:
            hour = {Sky.DUSK: 19, Sky.NIGHT: 23, Sky.INFRARED: 2}.get(self.script.light.sky, 11)
            text = f"{self.script.stamp}  2026-10-14  {hour:02d}:{24 + second // 60:02d}:{second % 60:02d}"
            mask = Image.new("L", (520, 32))
            ImageDraw.Draw(mask).text((4, 2), text, fill=235, font=ImageFont.load_default(20))
            self._stamp = (second, mask)
        image.paste((12, 12, 12), (17, 15), self._stamp[1])
        image.paste((240, 240, 240), (16, 14), self._stamp[1])


def _uncover(layer: _Layer, covered: NDArray[np.bool_]) -> ObjectTruth | None:
    """Mark what a layer covers; return the object that it shows, if one can be seen."""
    mask = opaque(layer.sprite)
    left, top = layer.sprite.left, layer.sprite.top
    rows, columns = covered.shape
    first_row, first_column = max(0, -top), max(0, -left)
    inside = mask[first_row : max(0, rows - top), first_column : max(0, columns - left)]
    if not inside.size:
        return None
    top, left = top + first_row, left + first_column
    below = covered[top : top + inside.shape[0], left : left + inside.shape[1]]
    shown = inside & ~below
    below |= inside
    whole = np.count_nonzero(mask)
    if layer.owner is None or not whole or not shown.any():
        return None
    across, down = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
    return ObjectTruth(
        object_id=layer.owner,
        label=layer.label,
        box=(left + int(across[0]), top + int(down[0]), left + int(across[-1]) + 1, top + int(down[-1]) + 1),
        visible=round(float(np.count_nonzero(shown) / whole), 3),
        active=layer.active,
    )


def _darken(image: Image.Image, outline: NDArray[np.float64], strength: float) -> None:
    """Lay a soft shadow on the frame."""
    left, top = np.floor(outline.min(axis=0)).astype(int) - 12
    right, bottom = np.ceil(outline.max(axis=0)).astype(int) + 12
    if right <= 0 or bottom <= 0 or left >= image.width or top >= image.height or right - left > 2 * image.width:
        return
    mask = Image.new("L", ((right - left) // 2 + 1, (bottom - top) // 2 + 1))
    ImageDraw.Draw(mask).polygon(((outline - [left, top]) / 2).ravel().tolist(), fill=round(255 * strength))
    softened = mask.filter(ImageFilter.GaussianBlur(2.5)).resize((mask.width * 2, mask.height * 2))
    image.paste((14, 16, 20), (int(left), int(top)), softened)


def _shine(image: Image.Image, seen: NDArray[np.float64], radius: float, power: float, colour: Colour) -> None:
    """Add a soft disc of light."""
    size = max(4, int(radius * 2))
    disc = (
        Image.radial_gradient("L")
        .resize((size, size))
        .point(
            [
                round(power * (255 - v) ** 2 / 255) if v < 180 else round(power * 22 * max(0, 255 - v) / 75)
                for v in range(256)
            ]
        )
    )
    left, top = int(seen[0] - size / 2), int(seen[1] - size / 2)
    box = (max(0, left), max(0, top), min(image.width, left + size), min(image.height, top + size))
    if box[2] <= box[0] or box[3] <= box[1]:
        return
    light = Image.merge("RGB", [disc.point([round(v * c / 255) for v in range(256)]) for c in colour])
    light = light.crop((box[0] - left, box[1] - top, box[2] - left, box[3] - top))
    image.paste(ImageChops.screen(image.crop(box), light), box)


class _Noise:
    """The sensor's noise: a few fields of it, shifted from frame to frame; stronger on luma, coarser on chroma."""

    def __init__(self, script: SceneScript, shape: tuple[int, int]) -> None:
        rng = np.random.default_rng(crc32(f"{script.name}/{script.seed}".encode()))
        self.rng = rng
        self.sigma = script.noise
        self.grey = script.light.sky is Sky.INFRARED
        self.field = np.round(rng.standard_normal((shape[0] + 64, shape[1] + 64)) * script.noise).astype(np.int16)
        coarse = rng.standard_normal((shape[0] // 2 + 64, shape[1] // 2 + 64)) * script.noise * 0.5
        self.tint = np.round(coarse).astype(np.int16)

    def apply(self, frame: av.VideoFrame, index: int) -> av.VideoFrame:
        """Return the frame with noise; the same frame gets the same noise."""
        if self.sigma <= 0:
            return frame
        planes = frame.to_ndarray()
        rows = frame.height
        down, across = (index * 37) % 61, (index * 53 + index // 7) % 63
        luma = planes[:rows] + self.field[down : down + rows, across : across + frame.width]
        planes[:rows] = np.clip(luma, 0, 255)
        if self.grey:
            planes[rows:] = 128
        else:
            half = self.tint[down : down + rows // 2, across : across + frame.width // 2]
            chroma = planes[rows:].reshape(2, rows // 2, frame.width // 2) + np.stack([half, half[::-1, ::-1]])
            planes[rows:] = np.clip(chroma, 0, 255).reshape(rows // 2, frame.width)
        return av.VideoFrame.from_ndarray(planes, format="yuv420p")
