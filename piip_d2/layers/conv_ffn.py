"""The feed-forward network of an interaction: an MLP with a depth-wise convolution."""

from __future__ import annotations

from torch import Tensor, nn

from piip_d2.layers.linear import Linear, call_linear
from piip_d2.ops import gelu_linear


class ConvFFN(nn.Module):
    """Linear, 3x3 depth-wise convolution, GELU, linear; on a map.

    PIIP (https://arxiv.org/abs/2406.04330), section 3.2, which takes it from ViT-Adapter
    (https://arxiv.org/abs/2205.08534).

    Args:
        embed_dim: Channels in and out.
        hidden_dim: Channels between the two linear layers.
    """

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = Linear(embed_dim, hidden_dim)
        self.dwconv = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.act = nn.GELU()
        self.fc2 = Linear(hidden_dim, embed_dim)

    def forward(
        self, x: Tensor, *, norm: nn.Module | None = None, scale: Tensor | None = None
    ) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, C).

        Args:
            x: The map.
            norm: What it passes first, see :func:`piip_d2.ops.norm_linear`; None for nothing.
            scale: (C,), factors of the result; None for none.

        Returns:
            The new map.
        """
        x = call_linear(self.fc1, x, norm=norm)
        x = self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        if type(self.fc2) is not Linear or type(self.act) is not nn.GELU:
            return call_linear(self.fc2, self.act(x), scale=scale)
        return gelu_linear(
            x, self.fc2.weight, self.fc2.bias, approximate=self.act.approximate, scale=scale
        )
