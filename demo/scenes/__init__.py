"""Short rendered clips of a house's surroundings with exact ground truth."""

from .catalogue import SCENES
from .script import SceneScript
from .truth import FrameTruth, GroundTruth, IncidentTruth, ObjectTruth
from .video import frames, render, render_script, scene

__all__ = [
    "SCENES",
    "FrameTruth",
    "GroundTruth",
    "IncidentTruth",
    "ObjectTruth",
    "SceneScript",
    "frames",
    "render",
    "render_script",
    "scene",
]
