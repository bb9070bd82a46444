"""Writes trained weights in ncnn form: `python -m demo.detector.export model.pt`.

Needs PyTorch and pnnx (`uv pip install torch pnnx`).
"""

from argparse import ArgumentParser
from pathlib import Path
import shutil
from tempfile import TemporaryDirectory

import pnnx
import torch

from demo.detector import HEIGHT, LABELS, WIDTH
from demo.detector.network import Detector

MODEL = Path(__file__).parent / "model"


def export(weights: Path, folder: Path, description: str) -> None:
    """Write `model.ncnn.param`, `model.ncnn.bin` (half precision) and `metadata.yaml`."""
    network = Detector(len(LABELS), WIDTH, HEIGHT)
    network.load_state_dict(torch.load(weights, weights_only=True))
    network.eval()
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        aside = Path(scratch)
        pnnx.export(network, str(aside / "model.pt"), inputs=torch.zeros(1, 3, HEIGHT, WIDTH), fp16=True)
        for suffix in ("param", "bin"):
            shutil.copyfile(aside / f"model.ncnn.{suffix}", folder / f"model.ncnn.{suffix}")
    (folder / "metadata.yaml").write_text(_metadata(description), encoding="utf-8")


def _metadata(description: str) -> str:
    names = "\n".join(f"  {number}: {label}" for number, label in enumerate(LABELS))
    return (
        f"description: {description}\n"
        "author: Nemotron Home Security\n"
        "license: Apache-2.0\n"
        "stride: 32\ntask: detect\nbatch: 1\n"
        f"imgsz:\n- {HEIGHT}\n- {WIDTH}\n"
        f"names:\n{names}\n"
        "channels: 3\nend2end: false\n"
    )


def main() -> None:
    """Export."""
    parser = ArgumentParser(prog="python -m demo.detector.export", description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--out", type=Path, default=MODEL)
    parser.add_argument(
        "--description",
        default="Small detector trained on this repository's rendered scenes only; of no use on real cameras; "
        "recipe and accuracy in docs/scenes.md",
    )
    arguments = parser.parse_args()
    export(arguments.weights, arguments.out, arguments.description)


if __name__ == "__main__":
    main()
