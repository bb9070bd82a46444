"""The network: a small convolutional backbone, a top-down neck, an anchor-free head on three scales.

Its output has the form of Ultralytics' v8 and v11 exports, (4 + classes, points): centre x, centre y, width and
height in input pixels, then one score per class. The code is our own, in plain PyTorch.
"""

from typing import cast

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)


class Convolution(nn.Sequential):
    """Convolution, batch normalisation, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
            nn.SiLU(inplace=True),
        )


class Residual(nn.Module):
    """Two 3x3 convolutions through half the channels, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(Convolution(channels, channels // 2), Convolution(channels // 2, channels))

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return cast("Tensor", features + self.body(features))


class Pooling(nn.Module):
    """Widens the view with three poolings in a row (SPPF)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = Convolution(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.expand = Convolution(channels * 2, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        first = self.squeeze(features)
        second = self.pool(first)
        third = self.pool(second)
        return cast("Tensor", self.expand(torch.cat([first, second, third, self.pool(third)], 1)))


class Head(nn.Module):
    """Distances to the four sides and class scores for one scale."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        hidden = 32
        self.box = nn.Sequential(Convolution(channels, hidden), nn.Conv2d(hidden, 4, 1))
        self.score = nn.Sequential(Convolution(channels, hidden), nn.Conv2d(hidden, classes, 1))
        nn.init.constant_(cast("Tensor", self.box[-1].bias), 0.7)
        nn.init.constant_(cast("Tensor", self.score[-1].bias), -4.6)

    def forward(self, features: Tensor) -> Tensor:
        """Return (batch, 4 + classes, points)."""
        return torch.cat([self.box(features), self.score(features)], 1).flatten(2)


class Detector(nn.Module):
    """The whole network for one input size."""

    def __init__(self, classes: int, width: int, height: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(Convolution(3, 16, 3, 2), Convolution(16, 24, 3, 2), Residual(24))
        self.fine = nn.Sequential(Convolution(24, 48, 3, 2), Residual(48), Residual(48))
        self.middle = nn.Sequential(Convolution(48, 96, 3, 2), Residual(96), Residual(96))
        self.coarse = nn.Sequential(Convolution(96, 128, 3, 2), Residual(128), Pooling(128))
        self.grow = nn.Upsample(scale_factor=2.0, mode="nearest")
        self.join_middle = nn.Sequential(Convolution(224, 64, 1), Residual(64))
        self.join_fine = nn.Sequential(Convolution(112, 48, 1), Residual(48))
        self.heads = nn.ModuleList([Head(channels, classes) for channels in (48, 64, 128)])
        points, strides = grid(width, height)
        self.register_buffer("points", points)
        self.register_buffer("strides", strides)

    def features(self, pictures: Tensor) -> Tensor:
        """Return what the heads say, (batch, 4 + classes, points): logarithms of distances in strides, then logits."""
        fine = self.fine(self.stem(pictures))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.join_middle(torch.cat([self.grow(coarse), middle], 1))
        fine = self.join_fine(torch.cat([self.grow(middle), fine], 1))
        levels = zip(self.heads, (fine, middle, coarse), strict=True)
        return torch.cat([head(level) for head, level in levels], 2)

    def corners(self, output: Tensor) -> Tensor:
        """Return the boxes that the heads mean, (batch, 4, points): left, top, right, bottom in input pixels."""
        distances = output[:, :4].clamp(-6.0, 5.0).exp() * cast("Tensor", self.strides)
        points = cast("Tensor", self.points)
        return torch.cat([points - distances[:, :2], points + distances[:, 2:]], 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return (batch, 4 + classes, points): centre, size and scores of every point."""
        output = self.features(pictures)
        boxes = self.corners(output)
        first, second = boxes[:, :2], boxes[:, 2:]
        return torch.cat([(first + second) * 0.5, second - first, output[:, 4:].sigmoid()], 1)


def grid(width: int, height: int) -> tuple[Tensor, Tensor]:
    """Return the points that predict, (1, 2, points) in pixels, and their strides, (1, 1, points)."""
    points, strides = [], []
    for stride in STRIDES:
        rows, columns = torch.meshgrid(
            (torch.arange(height // stride) + 0.5) * stride,
            (torch.arange(width // stride) + 0.5) * stride,
            indexing="ij",
        )
        points.append(torch.stack([columns.flatten(), rows.flatten()]))
        strides.append(torch.full((1, points[-1].shape[1]), float(stride)))
    return torch.cat(points, 1)[None], torch.cat(strides, 1)[None]
