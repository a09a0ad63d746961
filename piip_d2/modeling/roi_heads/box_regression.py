"""How deltas move boxes, where that differs between frameworks."""

from __future__ import annotations

from detectron2.modeling.box_regression import Box2BoxTransform
from torch import Tensor


class BoundedBox2BoxTransform(Box2BoxTransform):
    """Detectron2's transform, with a limit to how much a box shrinks, as in mmdetection.

    Detectron2 limits growth alone. The limit is the same on both sides: a factor of 62.5.
    """

    def apply_deltas(self, deltas: Tensor, boxes: Tensor) -> Tensor:
        """Moves boxes.

        Args:
            deltas: (R, 4K), weighted (dx, dy, dw, dh) for each of K classes.
            boxes: (R, 4), corners in pixels.

        Returns:
            (R, 4K), corners in pixels.
        """
        unlimited = float("-inf")
        sizes = [-self.scale_clamp * weight for weight in self.weights[2:]]
        lowest = deltas.new_tensor([unlimited, unlimited, *sizes])
        deltas = deltas.unflatten(1, (-1, 4)).maximum(lowest).flatten(1)
        return super().apply_deltas(deltas, boxes)
