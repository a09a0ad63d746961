"""Arithmetic on boxes (..., 4), as corners or as centre and size."""

from __future__ import annotations

import torch
from torch import Tensor

# Keeps the logits of coordinates within about +-7, as in the networks that were released.
_EPSILON = 1e-3
# Far below the area of a pixel in any image, relative to the image.
_NO_AREA = 1e-12


def inverse_sigmoid(x: Tensor) -> Tensor:
    """Logits of numbers in [0, 1], at most a thousandth away from either end."""
    x = x.clamp(0.0, 1.0)
    return torch.log(x.clamp(min=_EPSILON) / (1.0 - x).clamp(min=_EPSILON))


def to_corners(boxes: Tensor) -> Tensor:
    """Centre x, centre y, width and height as left, top, right and bottom."""
    half = boxes[..., 2:] * 0.5
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def to_center_and_size(boxes: Tensor) -> Tensor:
    """Left, top, right and bottom as centre x, centre y, width and height."""
    upper_left, lower_right = boxes.split(2, dim=-1)
    return torch.cat([(upper_left + lower_right) * 0.5, lower_right - upper_left], dim=-1)


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised intersection over union, https://arxiv.org/abs/1902.09630.

    Args:
        boxes: (..., 4) as corners (left, top, right, bottom).
        others: (..., 4); the dimensions before the last are spread over those of ``boxes``.

    Returns:
        (...) in [-1, 1]; 0 for two boxes without area in the same place.
    """
    overlap = _area(
        torch.maximum(boxes[..., :2], others[..., :2]),
        torch.minimum(boxes[..., 2:], others[..., 2:]),
    )
    hull = _area(
        torch.minimum(boxes[..., :2], others[..., :2]),
        torch.maximum(boxes[..., 2:], others[..., 2:]),
    ).clamp(min=_NO_AREA)
    union = _area(boxes[..., :2], boxes[..., 2:]) + _area(others[..., :2], others[..., 2:])
    union = (union - overlap).clamp(min=_NO_AREA)
    return overlap / union - (hull - union) / hull


def _area(upper_left: Tensor, lower_right: Tensor) -> Tensor:
    return (lower_right - upper_left).clamp(min=0.0).prod(dim=-1)
