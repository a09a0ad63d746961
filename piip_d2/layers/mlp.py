"""The feed-forward network of a transformer block."""

from __future__ import annotations

from torch import Tensor, nn

from piip_d2.layers.linear import Linear, call_linear
from piip_d2.ops import mlp


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

    def forward(
        self, x: Tensor, *, norm: nn.Module | None = None, scale: Tensor | None = None
    ) -> Tensor:
        """Maps (..., embed_dim) to the same.

        Args:
            x: The input.
            norm: What it passes first, see :func:`piip_d2.ops.norm_linear`; None for nothing.
            scale: (embed_dim,), factors of the result; None for none.

        Returns:
            The output.
        """
        is_known = type(self.fc1) is Linear and type(self.fc2) is Linear
        if not is_known or type(self.act) is not nn.GELU:
            return call_linear(self.fc2, self.act(call_linear(self.fc1, x, norm=norm)), scale=scale)
        return mlp(
            x,
            (self.fc1.weight, self.fc1.bias),
            (self.fc2.weight, self.fc2.bias),
            approximate=self.act.approximate,
            norm=norm,
            scale=scale,
        )
