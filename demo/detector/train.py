"""Trains the detector: `python -m demo.detector.train --data FILE.npz... --steps 2000 --out model.pt`.

Needs PyTorch (`uv pip install torch`), which nothing else here does. Files come from `demo.detector.dataset`.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
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
PADDED = -2.0
"""Class of a row that is no object."""


def batches(frames: Frames, size: int, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pictures (B, 3, H, W) in 0..1 and objects (B, M, 5); the next one is made while this one is learnt."""
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
        for _ in range(steps):
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


def train(frames: Frames, *, steps: int, batch: int, rate: float, seed: int, start: Path | None) -> Detector:
    """Train from the start, or from earlier weights; return the averaged network."""
    torch.manual_seed(seed)
    network = Detector(len(LABELS), WIDTH, HEIGHT)
    if start:
        network.load_state_dict(torch.load(start, weights_only=True))
    network = network.to(memory_format=torch.channels_last)
    average: Detector = deepcopy(network).eval()
    optimiser = torch.optim.AdamW(_groups(network, 0.03), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * (1 + math.cos(math.pi * step / steps)) / 2),
    )
    began, sums = time.monotonic(), np.zeros(2)
    for step, (pictures, objects) in enumerate(batches(frames, batch, steps, seed), start=1):
        # Half precision halves the time on processors that know bfloat16; the boxes and the loss need more digits.
        with torch.autocast("cpu", torch.bfloat16):
            output = network.features(pictures.contiguous(memory_format=torch.channels_last))
        output = output.float()
        misfit, scored = loss(network.corners(output), output[:, 4:], network.points[0].T, network.strides, objects)
        optimiser.zero_grad()
        (BOX_GAIN * misfit + scored).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        schedule.step()
        _follow(average, network, step)
        sums += float(misfit), float(scored)
        if step % 25 == 0:
            print(
                f"step {step}/{steps} box {sums[0] / 25:.3f} score {sums[1] / 25:.3f} {time.monotonic() - began:.0f} s",
                flush=True,
            )
            sums[:] = 0
    return average


def main() -> None:
    """Train and save the weights."""
    parser = ArgumentParser(prog="python -m demo.detector.train", description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="files of rendered frames")
    parser.add_argument("--out", type=Path, required=True, help="weights to write (.pt)")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    frames = Frames(arguments.data)
    print(f"{len(frames)} frames, {sum(map(len, frames.boxes))} boxes", flush=True)
    network = train(
        frames,
        steps=arguments.steps,
        batch=arguments.batch,
        rate=arguments.rate,
        seed=arguments.seed,
        start=arguments.start,
    )
    torch.save(network.state_dict(), arguments.out)


if __name__ == "__main__":
    main()
