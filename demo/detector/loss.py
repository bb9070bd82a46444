"""What the network is trained to: task-aligned assignment (TOOD, Feng et al. 2021), CIoU and binary cross-entropy."""

from math import pi

import torch
from torch import Tensor
from torch.nn import functional

CANDIDATES = 10
"""Points that may learn one object."""
LEAST_SIZE = 12.0
"""Pixels to which a smaller object is widened when points inside it are looked for."""


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the overlap (intersection over union) of boxes (..., 4) that broadcast against each other."""
    size = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])).clamp(
        min=0
    )
    shared = size.prod(-1)
    areas = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1)
    return shared / (areas - shared + 1e-7)


def complete_iou(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return the CIoU (Zheng et al. 2020) of (N, 4) boxes."""
    iou = pairwise_iou(boxes, targets)
    hull = torch.maximum(boxes[:, 2:], targets[:, 2:]) - torch.minimum(boxes[:, :2], targets[:, :2])
    offset = (boxes[:, :2] + boxes[:, 2:] - targets[:, :2] - targets[:, 2:]) / 2
    size, wanted = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3), (targets[:, 2:] - targets[:, :2]).clamp(min=1e-3)
    shape = 4 / pi**2 * (torch.atan(wanted[:, 0] / wanted[:, 1]) - torch.atan(size[:, 0] / size[:, 1])) ** 2
    with torch.no_grad():
        weight = shape / (1 - iou + shape + 1e-7)
    return iou - (offset**2).sum(-1) / ((hull**2).sum(-1) + 1e-7) - weight * shape


@torch.no_grad()
def assign(boxes: Tensor, scores: Tensor, points: Tensor, objects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Choose which points learn which object.

    Args:
        boxes: (B, N, 4) predicted.
        scores: (B, N, C) predicted, 0..1.
        points: (N, 2).
        objects: (B, M, 5) class and box; class -2 is padding, -1 is to be ignored.

    Returns:
        For every point the object's index (B, N), its target score (B, N; 0 is background) and whether to ignore it.
    """
    classes, truth = objects[..., 0], objects[..., 1:]
    centre, half = (truth[..., :2] + truth[..., 2:]) / 2, ((truth[..., 2:] - truth[..., :2]) / 2)
    reach = half.clamp(min=LEAST_SIZE / 2)
    inside = ((points[None, None] - centre[:, :, None]).abs() < reach[:, :, None]).all(-1)
    ignored = (inside & (classes == -1)[..., None]).any(1)
    overlap = pairwise_iou(boxes[:, None], truth[:, :, None])
    index = classes.clamp(min=0).long()[:, None].expand(-1, boxes.shape[1], -1)
    score = scores.gather(2, index).transpose(1, 2)
    usable = inside & (classes >= 0)[..., None]
    fit = (score.sqrt() * overlap**6 + 1e-9) * usable
    best = fit.topk(min(CANDIDATES, fit.shape[2]), dim=2).indices
    chosen = torch.zeros_like(usable).scatter_(2, best, value=True) & usable
    # A point that several objects want goes to the one it overlaps most.
    owner = torch.where(chosen, overlap + 1e-6, torch.zeros_like(overlap)).argmax(1)
    mine = torch.zeros_like(chosen).scatter_(1, owner[:, None], value=True) & chosen
    fit = fit * mine
    # The root lets the second and third best points be nearly sure as well; else the sure one is left in doubt.
    target = (fit / (fit.amax(2, keepdim=True) + 1e-12)).amax(1).sqrt()
    return owner, target, ignored & (target == 0)


def loss(boxes: Tensor, logits: Tensor, points: Tensor, strides: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of the boxes and of the scores; `boxes` (B, 4, N), `logits` (B, C, N)."""
    boxes, logits = boxes.transpose(1, 2), logits.transpose(1, 2)
    owner, target, ignored = assign(boxes.detach(), logits.detach().sigmoid(), points, objects)
    positive = target > 0
    owned = objects.gather(1, owner[..., None].expand(-1, -1, 5))
    wanted = torch.zeros_like(logits)
    wanted.scatter_(2, owned[..., :1].clamp(min=0).long(), (target * positive)[..., None])
    total = target.sum().clamp(min=1.0)
    errors = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(-1)
    scored = (errors * ~ignored).sum() / total
    if not positive.any():
        return boxes.sum() * 0, scored
    scale = strides.flatten().expand(boxes.shape[0], -1)[positive][:, None]
    misfit = 1 - complete_iou(boxes[positive] / scale, owned[..., 1:][positive] / scale)
    return (misfit * target[positive]).sum() / total, scored
