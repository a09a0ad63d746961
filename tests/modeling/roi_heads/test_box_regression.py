"""How deltas move boxes."""

from __future__ import annotations

import math

import torch
from detectron2.modeling.box_regression import Box2BoxTransform

from piip_d2.modeling.roi_heads import BoundedBox2BoxTransform

WEIGHTS = (10.0, 10.0, 5.0, 4.0)
LIMIT = 1000 / 16


def test_boxes_neither_grow_nor_shrink_further_than_the_limit() -> None:
    boxes = torch.tensor([[100.0, 100.0, 150.0, 180.0]])
    for sign, factor in ((1, LIMIT), (-1, 1 / LIMIT)):
        far = torch.tensor([[0.0, 0.0, sign * 5 * 9.0, sign * 4 * 9.0]])
        (moved,) = BoundedBox2BoxTransform(WEIGHTS).apply_deltas(far, boxes)
        expected = torch.tensor([50.0, 80.0]) * factor
        torch.testing.assert_close(moved[2:] - moved[:2], expected, rtol=1e-4, atol=1e-4)


def test_within_the_limit_it_is_detectron2s_for_every_class() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(20, 2, 2, generator=generator).sort(dim=1).values.flatten(1) * 300
    deltas = torch.rand(20, 12, generator=generator) * 2 - 1
    deltas *= 0.99 * 4 * math.log(LIMIT)
    moved = BoundedBox2BoxTransform(WEIGHTS).apply_deltas(deltas, corners)
    assert torch.equal(moved, Box2BoxTransform(WEIGHTS).apply_deltas(deltas, corners))
    # Centres have no limit.
    deltas[:, ::4] = -1e3
    moved = BoundedBox2BoxTransform(WEIGHTS).apply_deltas(deltas, corners)
    assert torch.equal(moved, Box2BoxTransform(WEIGHTS).apply_deltas(deltas, corners))
