"""What the pipeline costs on top of its detector, on footage of a street (768x576, 10 frames a second, 795 frames).

The whole is the worker's own code without its threads, looking at every frame. Beside it the detector alone runs on the
very pictures that the pipeline gave it. The two take turns frame by frame, so that a machine that is busy otherwise
slows both down alike.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from pathlib import Path
import threading
import time

from benchmarks import _report
from custom_components.nemotron_security.vision.detections import Detections
from custom_components.nemotron_security.vision.detectors import Detector, Picture
from custom_components.nemotron_security.vision.frames import Frame
from custom_components.nemotron_security.vision.messages import CameraConfig, DetectorConfig, Source, SourceKind
from custom_components.nemotron_security.vision.pipeline import CameraPipeline, LoadedDetector, Stages
from custom_components.nemotron_security.vision.sources import open_source
from custom_components.nemotron_security.vision.watch import follow

SHARED = Path(__file__).resolve().parents[2] / "shared"
VIDEO = SHARED / "media" / "vtest.avi"
MODEL = SHARED / "models" / "yolo11n_320_ncnn_model"
FPS = 10.0
STAGES = ("decode", "grey", "motion", "regions", "convert", "detect", "tracker", "pictures")


class _Recorder:
    """A detector that remembers which pictures it was given."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.labels, self.width, self.height = detector.labels, detector.width, detector.height
        self.pictures: list[Picture] = []

    def detect(self, pictures: Sequence[Picture]) -> list[Detections]:
        """Detect as the real one does."""
        self.pictures = list(pictures)
        return self._detector.detect(pictures)

    def detect_again(self) -> float:
        """Run on the last pictures once more, alone; returns the seconds it took."""
        pictures, self.pictures = self.pictures, []
        begun = time.perf_counter()
        self._detector.detect(pictures)
        return time.perf_counter() - begun if pictures else 0.0

    def close(self) -> None:
        """Free what it holds."""
        self._detector.close()


def _timed(frames: Iterable[Frame], stages: Stages) -> Iterator[Frame]:
    iterator = iter(frames)
    while True:
        with stages.time("decode"):
            frame = next(iterator, None)
        if frame is None:
            return
        yield frame


def measure() -> _report.Figures:
    """Take the whole video through the pipeline."""
    loaded = LoadedDetector.load(DetectorConfig(model=str(MODEL), threads=1))
    recorder = _Recorder(loaded.detector)
    loaded = LoadedDetector(recorder, loaded.minimum_score)
    source = Source(kind=SourceKind.FILE, location=str(VIDEO), loop=False, realtime=False)
    stages = Stages()
    pipeline = CameraPipeline(CameraConfig(camera_id="street", source=source, fps=FPS), count(1), stages)
    frames = looks = 0
    whole = alone = 0.0
    with open_source(source, fps=0, stop=threading.Event()) as opened:
        resumed_at = time.perf_counter()
        for _ in follow(_timed(opened, stages), pipeline, loaded):
            whole += time.perf_counter() - resumed_at
            frames += 1
            looks += bool(recorder.pictures)
            alone += recorder.detect_again()
            resumed_at = time.perf_counter()
    figures: dict[str, float | int | None] = {"frames": frames, "looks": looks}
    figures |= {f"{stage}_ms": stages.seconds.get(stage, 0.0) / frames * 1000 for stage in STAGES}
    figures["rest_ms"] = (whole - sum(stages.seconds.values())) / frames * 1000
    figures |= {"whole_ms": whole / frames * 1000, "detector_alone_ms": alone / frames * 1000}
    return {**figures, "overhead_ratio": whole / alone}


if __name__ == "__main__":
    if VIDEO.is_file() and MODEL.is_dir():
        _report.run(measure, __doc__)
    else:
        print(f"needs {VIDEO} and {MODEL}")
