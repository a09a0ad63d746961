"""The feed-forward network of a transformer block."""

from __future__ import annotations

from torch import Tensor, nn

from piip_d2.layers.linear import Linear
from piip_d2.ops import linear_gelu


class Mlp(nn.Module):
    """Two linear layers with an activation between them.

    Args:
        embed_dim: Channels in and out.
        hidden_dim: Channels between the two layers.
        act: The activation.
    """

    def __init__(self, embed_dim: int, hidden_dim: int, act: nn.Module) -> None:
        super().__init__()
        self.fc1 = Linear(embed_dim, hidden_dim)
        self.act = act
        self.fc2 = Linear(hidden_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., embed_dim) to the same."""
        if isinstance(self.act, nn.GELU):
            fc1 = self.fc1
            hidden = linear_gelu(x, fc1.weight, fc1.bias, approximate=self.act.approximate)
        else:
            hidden = self.act(self.fc1(x))
        return self.fc2(hidden)
