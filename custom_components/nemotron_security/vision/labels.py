"""What things are called: COCO's names, by which the rest of the house knows them, whatever a model calls them."""

from collections.abc import Iterable
from typing import Final

_OTHER_NAMES: Final = {
    **dict.fromkeys(("people", "human", "pedestrian"), "person"),
    **dict.fromkeys(("vehicle", "automobile"), "car"),
    "aeroplane": "airplane",
    "bike": "bicycle",
    "diningtable": "dining table",
    "hair dryer": "hair drier",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def coco_name(label: str) -> str:
    """Return COCO's name of what a model or a person calls differently, else the label in lower case."""
    plain = " ".join(label.lower().replace("_", " ").split())
    return _OTHER_NAMES.get(plain, plain)


def coco_names(labels: Iterable[str]) -> tuple[str, ...]:
    """Return COCO's names, in the same order."""
    return tuple(map(coco_name, labels))
