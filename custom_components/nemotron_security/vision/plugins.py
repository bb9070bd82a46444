"""Which detectors there are: those of this folder, and those that other packages bring by an entry point.

Nothing is imported before it is wanted (ncnn alone is a library of 12 MB), so Home Assistant's process may ask for the
names. `detectors/loading.py` makes one; `docs/detectors.md` tells developers how to bring their own.
"""

from importlib import metadata
from typing import Final

GROUP: Final = "nemotron_security.detectors"
"""The group of entry points: a name, and a class or function that takes a `DetectorConfig`."""

BUILT_IN: Final = {
    "ncnn": ("ncnn", "NcnnDetector"),
    "ultralytics": ("ultralytics", "UltralyticsDetector"),
    "triton": ("triton", "TritonDetector"),
    "deepstack": ("deepstack", "DeepStackDetector"),
}
"""Module below `detectors` and class, by the name of the plug-in."""

ULTRALYTICS_REQUIREMENTS: Final = (
    "ultralytics>=8.4.80",  # brings torch and OpenCV; older ones load any pickle
    "numpy>=2.2",
    "av>=14",
    "Pillow>=11",
    "lap>=0.5.12",
    "PyYAML>=6",
)
"""What the environment of `ultralytics` has to hold: the plug-in, and what the worker itself imports there."""
ONNX_REQUIREMENTS: Final = ("onnxruntime>=1.23",)
"""Beside these, for a model in a `.onnx` file; on NVIDIA `ONNX_GPU_REQUIREMENTS` in its place."""
ONNX_GPU_REQUIREMENTS: Final = ("onnxruntime-gpu>=1.23",)
TENSORRT_REQUIREMENTS: Final = ("tensorrt>=10.3", "onnx>=1.17", "onnxslim>=0.1.71")
"""Beside these, for a `.engine` file or `tensorrt`."""


def names() -> tuple[str, ...]:
    """Return the names of all plug-ins, ours first; those of other packages are not imported. Reads files."""
    others = {point.name for point in metadata.entry_points(group=GROUP)}
    return (*BUILT_IN, *sorted(others - set(BUILT_IN)))


def entry_point(name: str) -> metadata.EntryPoint | None:
    """Return the entry point of another package's plug-in; of two packages that bring one name, either. Reads files."""
    return next(iter(metadata.entry_points(group=GROUP, name=name)), None)
