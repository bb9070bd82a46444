"""Renders training frames: `python -m demo.detector.dataset --out FILE.npz --scenes 200`.

With `--catalogue` it renders a frame a second of every scene of the catalogue instead: what the detector is measured
on. The file holds `pictures` (JPEG bytes, one after the other), `ends` (where each ends) and `boxes`, (N, 6) float32:
frame, class (-1: too small or too hidden to learn, to be ignored), left, top, right, bottom in pixels of the picture.
"""

from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from demo.detector import LABELS
from demo.detector.random_scenes import SECONDS, random_scene
from demo.scenes.catalogue import SCENES
from demo.scenes.renderer import SceneRenderer
from demo.scenes.script import SceneScript
from demo.scenes.truth import FrameTruth

SIZE = (960, 540)
"""Size of a training frame: three quarters of what is rendered."""
LEAST_SEEN = 0.25
LEAST_HEIGHT = 16
"""What is less visible, or lower (pixels of the rendered frame), is neither an object nor background."""

type Row = tuple[float, float, float, float, float, float]


def render_scene(
    script: SceneScript, times: list[float], *, best_quality: int = 94
) -> tuple[list[bytes], list[list[Row]]]:
    """Render frames of a scene at some times; return their JPEGs and their rows (with frame 0)."""
    renderer = SceneRenderer(script)
    rng = Random(script.seed)
    pictures, labels = [], []
    for time in times:
        frame, truth = renderer.frame(round(time * renderer.fps))
        image = Image.fromarray(frame.to_ndarray(format="rgb24")).resize(SIZE)
        buffer = BytesIO()
        image.save(buffer, "JPEG", quality=rng.randint(min(45, best_quality), best_quality))
        pictures.append(buffer.getvalue())
        labels.append(rows_of(truth, SIZE[0] / renderer.camera.width))
    return pictures, labels


def rows_of(truth: FrameTruth, scale: float) -> list[Row]:
    """Return a frame's objects as rows of the data set."""
    rows = []
    for found in truth.objects:
        unclear = found.visible < LEAST_SEEN or found.box[3] - found.box[1] < LEAST_HEIGHT
        left, top, right, bottom = (side * scale for side in found.box)
        rows.append((0.0, -1.0 if unclear else float(LABELS.index(found.label)), left, top, right, bottom))
    return rows


def made_up(scenes: range, frames: int) -> Iterator[tuple[SceneScript, list[float]]]:
    """Yield made-up scenes with `frames` random times of each."""
    for seed in scenes:
        rng = Random(seed)
        yield random_scene(seed), [rng.uniform(0, SECONDS) for _ in range(frames)]


def catalogue() -> Iterator[tuple[SceneScript, list[float]]]:
    """Yield the catalogue's scenes with a time each second."""
    for script in SCENES.values():
        yield script, [second + 0.5 for second in range(int(script.seconds))]


def make(path: Path, scenes: Iterable[tuple[SceneScript, list[float]]]) -> None:
    """Render frames of scenes at some times into a file."""
    pictures: list[bytes] = []
    boxes: list[Row] = []
    for script, times in scenes:
        jpegs, labels = render_scene(script, times)
        for number, rows in enumerate(labels):
            boxes += [(len(pictures) + number, *row[1:]) for row in rows]
        pictures += jpegs
        print(f"{script.name}: {len(pictures)} frames, {len(boxes)} boxes", flush=True)
    np.savez(
        path,
        pictures=np.frombuffer(b"".join(pictures), np.uint8),
        ends=np.cumsum([len(picture) for picture in pictures]),
        boxes=np.array(boxes, np.float32).reshape(-1, 6),
    )


def main() -> None:
    """Render a data set."""
    parser = ArgumentParser(prog="python -m demo.detector.dataset", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file to write (.npz)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--scenes", type=int, default=200, help="number of scenes")
    parser.add_argument("--frames", type=int, default=24, help="frames of each scene")
    parser.add_argument("--catalogue", action="store_true", help="render the catalogue, to measure on")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.scenes)
    make(arguments.out, catalogue() if arguments.catalogue else made_up(seeds, arguments.frames))


if __name__ == "__main__":
    main()
