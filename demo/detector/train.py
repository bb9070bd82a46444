"""Trains the detector: `python -m demo.detector.train --data FILE.npz... --minutes 25 --out model.pt`.

Needs PyTorch (`uv pip install torch`), which nothing else here does. Files come from `demo.detector.dataset`.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
import math
from pathlib import Path
import time

import numpy as np
import torch
from torch import Tensor, nn

from demo.detector import HEIGHT, LABELS, WIDTH
from demo.detector.augment import Frames
from demo.detector.loss import loss
from demo.detector.network import Detector

BOX_GAIN = 4.0
"""Weight of the boxes' loss against the scores'."""
WARM_UP = 60
"""Steps in which the learning rate rises."""
SAVE_STEPS = 50
PADDED = -2.0
"""Class of a row that is no object."""


def batches(frames: Frames, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pictures (B, 3, H, W) in 0..1 and objects (B, M, 5), for ever; the next while this one is learnt."""
    rng = np.random.default_rng(seed)

    def make() -> tuple[Tensor, Tensor]:
        samples = [frames.sample(int(number), rng) for number in rng.integers(len(frames), size=size)]
        most = max(1, *(len(objects) for _, objects in samples))
        objects = torch.full((size, most, 5), PADDED)
        for row, (_, found) in enumerate(samples):
            objects[row, : len(found)] = torch.from_numpy(found)
        pictures = torch.from_numpy(np.stack([picture for picture, _ in samples]))
        return pictures.permute(0, 3, 1, 2).float().div_(255), objects

    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(make)
        while True:
            ready = coming.result()
            coming = pool.submit(make)
            yield ready


def _groups(network: nn.Module, decay: float) -> list[dict[str, object]]:
    """Let only the weights of convolutions decay."""
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    return [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, step: int) -> None:
    """Let the averaged network follow; it is what is kept."""
    keep = 0.998 * (1 - math.exp(-step / 150))
    for kept, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(value, 1 - keep)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to train.

    Attributes:
        out: where the averaged weights go, every `SAVE_STEPS` and at the end.
        minutes: how long; the learning rate falls to its end over this time.
        batch: pictures a step.
        rate: highest learning rate.
        seed: of the weights and of the order of pictures.
        start: earlier weights to go on from.
    """

    out: Path
    minutes: float
    batch: int
    rate: float
    seed: int
    start: Path | None


def train(frames: Frames, plan: Plan) -> None:
    """Train a network and save the average of its weights over the last steps."""
    torch.manual_seed(plan.seed)
    network = Detector(len(LABELS), WIDTH, HEIGHT)
    if plan.start:
        network.load_state_dict(torch.load(plan.start, weights_only=True))
    network = network.to(memory_format=torch.channels_last)
    average: Detector = deepcopy(network).eval()
    optimiser = torch.optim.AdamW(_groups(network, 0.03), lr=plan.rate)
    began, sums = time.monotonic(), torch.zeros(2)
    for step, (pictures, objects) in enumerate(batches(frames, plan.batch, plan.seed), start=1):
        progress = (time.monotonic() - began) / (60 * plan.minutes)
        if progress >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * min(1.0, step / WARM_UP) * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)
        sums += _learn(network, optimiser, pictures, objects)
        _follow(average, network, step)
        if step % SAVE_STEPS == 0:
            misfit, scored = (sums / SAVE_STEPS).tolist()
            print(f"step {step}, {progress:.0%}: box {misfit:.3f}, score {scored:.3f}", flush=True)
            torch.save(average.state_dict(), plan.out)
            sums.zero_()
    torch.save(average.state_dict(), plan.out)


def _learn(network: Detector, optimiser: torch.optim.Optimizer, pictures: Tensor, objects: Tensor) -> Tensor:
    """Take one step; return the loss of the boxes and of the scores."""
    # Half precision halves the time on processors that know bfloat16; the boxes and the loss need more digits.
    with torch.autocast("cpu", torch.bfloat16):
        output = network.features(pictures.contiguous(memory_format=torch.channels_last))
    output = output.float()
    misfit, scored = loss(network.corners(output), output[:, 4:], network.points[0].T, network.strides, objects)
    optimiser.zero_grad()
    (BOX_GAIN * misfit + scored).backward()
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimiser.step()
    return torch.stack([misfit.detach(), scored.detach()])


def main() -> None:
    """Train and save the weights."""
    parser = ArgumentParser(prog="python -m demo.detector.train", description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files of rendered frames")
    parser.add_argument("--out", type=Path, required=True, help="weights to write (.pt)")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    frames = Frames(options.data)
    print(f"{len(frames)} frames, {sum(map(len, frames.boxes))} boxes", flush=True)
    plan = Plan(
        out=options.out,
        minutes=options.minutes,
        batch=options.batch,
        rate=options.rate,
        seed=options.seed,
        start=options.start,
    )
    train(frames, plan)


if __name__ == "__main__":
    main()
