"""Root-mean-square normalisation, https://arxiv.org/abs/1910.07467."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RMSNorm(nn.RMSNorm):
    """PyTorch's RMSNorm, which also stays exact and fused under autocast.

    Autocast hands 16-bit features to 32-bit weights, for which PyTorch has a fused LayerNorm but
    no fused RMSNorm. The arguments are those of :class:`torch.nn.RMSNorm`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalises the last dimension; the result has the wider type of input and weights."""
        return super().forward(x.to(torch.promote_types(x.dtype, self.weight.dtype)))
