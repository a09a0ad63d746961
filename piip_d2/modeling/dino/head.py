"""What turns the state of a query into a class and a box."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from piip_d2.modeling.dino.boxes import inverse_sigmoid
from piip_d2.modeling.dino.mlp import MLP
from piip_d2.ops.autocast import without_autocast

# Sigmoid scores start here, so that the many negatives do not swamp the first losses
# (https://arxiv.org/abs/1708.02002, section 3.3).
_INITIAL_SCORE = 0.01


class PredictionHead(nn.Module):
    """Class logits, and steps that move a box; always in 32 bit.

    Args:
        embed_dim: Channels of a query.
        num_classes: Kinds of objects.
    """

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__()
        self.class_embed = nn.Linear(embed_dim, num_classes)
        self.bbox_embed = MLP(embed_dim, embed_dim, embed_dim, 4)
        self._init_weights()

    def _init_weights(self) -> None:
        nn.init.constant_(self.class_embed.bias, -math.log(1.0 / _INITIAL_SCORE - 1.0))
        last = self.bbox_embed.layers[-1]
        nn.init.zeros_(last.get_parameter("weight"))
        nn.init.zeros_(last.get_parameter("bias"))

    def classify(self, queries: Tensor) -> Tensor:
        """Maps (..., C) to logits (..., classes)."""
        with without_autocast(queries.device):
            return self.class_embed(queries.to(self.class_embed.weight.dtype))

    def step(self, queries: Tensor) -> Tensor:
        """Maps (..., C) to what is added to the logits of boxes, (..., 4)."""
        with without_autocast(queries.device):
            return self.bbox_embed(queries.to(self.class_embed.weight.dtype))

    def refine(self, queries: Tensor, boxes: Tensor) -> Tensor:
        """Moves boxes (..., 4), as centre and size in [0, 1], by what queries (..., C) say."""
        return torch.sigmoid(self.step(queries) + inverse_sigmoid(boxes))
