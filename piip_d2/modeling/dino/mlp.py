"""Linear layers with ReLU between them."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        *widths: Channels of the input, of everything between two layers, and of the output.
    """

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., channels in) to (..., channels out)."""
        first, *others = self.layers
        x = first(x)
        for layer in others:
            x = layer(F.relu(x))
        return x
