"""Assigns predictions to objects one to one, https://arxiv.org/abs/2005.12872, section 3.1."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from piip_d2.modeling.dino.boxes import generalized_iou, to_corners
from piip_d2.modeling.dino.targets import Targets

# Keeps logarithms of probabilities finite.
_EPSILON = 1e-12
# Stands for a cost that is no number. It is the lowest of all: what has diverged is matched first,
# so that it shows in the losses, by layer and term, rather than as an error of SciPy.
_OF_NO_NUMBER = -1e6


class PendingMatches:
    """Costs on their way to the host, where the assignment is computed.

    Args:
        costs: (layers, B, Q, M), M the largest number of objects in an image.
        counts: Numbers of objects in the images.
    """

    def __init__(self, costs: Tensor, counts: tuple[int, ...]) -> None:
        self._device = costs.device
        self._counts = counts
        self._costs = costs.to("cpu", non_blocking=True)
        self._arrived: torch.cuda.Event | None = None
        if costs.is_cuda:
            self._arrived = torch.cuda.Event()
            self._arrived.record()

    def result(self) -> tuple[Tensor, Tensor]:
        """Waits for the costs and computes the cheapest assignment of every layer and image.

        Returns:
            Numbers of queries and of the objects of the batch that they are assigned to, both
            (layers, pairs). If an image has more objects than there are queries, some are left out.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        costs = self._costs.numpy()
        first = np.cumsum([0, *self._counts])
        pairs = np.empty((2, len(costs), sum(min(n, costs.shape[2]) for n in self._counts)), int)
        for layer, of_images in enumerate(costs):
            done = 0
            for image, count in enumerate(self._counts):
                queries, objects = linear_sum_assignment(of_images[image, :, :count])
                end = done + len(queries)
                pairs[:, layer, done:end] = queries, objects + first[image]
                done = end
        queries, objects = torch.from_numpy(pairs).to(self._device, non_blocking=True)
        return queries, objects


class HungarianMatcher:
    """Finds the cheapest one-to-one assignment of predictions to objects.

    Args:
        class_weight: Weight of the focal cost of the object's class.
        bbox_weight: Weight of the L1 distance of the boxes.
        giou_weight: Weight of the negative generalised IoU.
        focal_alpha: Balance of the focal cost.
        focal_gamma: Exponent of the focal cost.
    """

    def __init__(
        self,
        class_weight: float = 2.0,
        bbox_weight: float = 5.0,
        giou_weight: float = 2.0,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
    ) -> None:
        self.class_weight = class_weight
        self.bbox_weight = bbox_weight
        self.giou_weight = giou_weight
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma

    @torch.no_grad()
    def start(self, logits: Tensor, boxes: Tensor, targets: Targets) -> PendingMatches:
        """Computes the costs of all layers and images together and sends them to the host.

        The device is free for other work until :meth:`PendingMatches.result` is called.

        Args:
            logits: (layers, B, Q, classes).
            boxes: (layers, B, Q, 4), centre and size relative to the images.
            targets: The objects.

        Returns:
            What gives the assignment.
        """
        labels, target_boxes = targets.padded()
        index = labels[None, :, None, :].expand(*logits.shape[:3], -1)
        class_cost = self._class_cost(logits.gather(-1, index))
        bbox_cost = torch.cdist(boxes, target_boxes.to(boxes.dtype), p=1.0)
        giou = generalized_iou(
            to_corners(boxes)[..., None, :],
            to_corners(target_boxes)[:, None],
        )
        costs = self.class_weight * class_cost + self.bbox_weight * bbox_cost
        costs = costs - self.giou_weight * giou
        costs = costs.masked_fill(~costs.isfinite(), _OF_NO_NUMBER)
        return PendingMatches(costs, targets.counts)

    def _class_cost(self, logits: Tensor) -> Tensor:
        """How much more a logit loses as its object's class than as background."""
        scores = logits.sigmoid()
        gain = (1.0 - self.focal_alpha) * scores**self.focal_gamma * -(1 - scores + _EPSILON).log()
        loss = self.focal_alpha * (1 - scores) ** self.focal_gamma * -(scores + _EPSILON).log()
        return loss - gain
