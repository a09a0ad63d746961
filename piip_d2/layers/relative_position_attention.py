"""Self-attention with a learned bias for every relative position, as in BEiT."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from piip_d2.layers.linear import Linear, call_linear
from piip_d2.layers.window_attention import WindowAttention
from piip_d2.ops import linear, norm_linear


class RelativePositionAttention(WindowAttention):
    """Self-attention whose logits get a bias by head and by the way from query to key.

    BEiT (https://arxiv.org/abs/2106.08254), appendix; the bias is that of Swin
    (https://arxiv.org/abs/2103.14030), section 3.2. Query and value have a bias of their own, the
    key has none. Positions that fill up the last windows get the biases as query and value.

    Args:
        embed_dim: Channels in and out.
        num_heads: Attention heads; divides ``embed_dim``.
        window_size: Side of a window in cells; sizes the table of biases.
        qkv_bias: Whether query and value have a bias.
        use_windows: False attends to the whole map, which then must be ``window_size`` cells high
            and wide, as there are no biases for longer ways.

    Raises:
        ValueError: If the heads do not divide the channels or the window is smaller than 1.
    """

    window_size: int

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        window_size: int,
        qkv_bias: bool = True,
        use_windows: bool = True,
    ) -> None:
        super().__init__(embed_dim, num_heads, qkv_bias=False, window_size=window_size)
        self.use_windows = use_windows
        self.q_bias = nn.Parameter(torch.zeros(embed_dim)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(embed_dim)) if qkv_bias else None
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * window_size - 1) ** 2, num_heads)
        )

    def forward(
        self, x: Tensor, *, norm: nn.Module | None = None, scale: Tensor | None = None
    ) -> Tensor:
        """Maps (B, H, W, C) to (B, H, W, C); see :class:`WindowAttention`."""
        side = self.window_size
        if not self.use_windows and x.shape[1:3] != (side, side):
            raise ValueError(
                f"global attention with relative positions of a {side} x {side} map was given a "
                f"map of {x.shape[1]} x {x.shape[2]} cells; use windows, or images that give "
                f"{side} x {side} cells"
            )
        return super().forward(x, norm=norm, scale=scale)

    def _project(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        if self.q_bias is None or self.v_bias is None:
            return call_linear(self.qkv, x, norm=norm)
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        if type(self.qkv) is not Linear:
            return call_linear(self.qkv, x, norm=norm) + bias
        if norm is not None:
            return norm_linear(x, norm, self.qkv.weight, bias)
        return linear(x, self.qkv.weight, bias)

    def _logit_bias(self) -> Tensor:
        """The bias (1, M, N, N) between all N cells of a window.

        Row (dy + side - 1) * (2 * side - 1) + dx + side - 1 of the table belongs to a query dy
        cells below and dx cells to the right of its key.
        """
        side = self.window_size
        table = self.relative_position_bias_table.unflatten(0, (2 * side - 1, 2 * side - 1))
        # unfold puts entry query + k at k; counted backwards, k = side - 1 - key gives the
        # wanted entry query - key + side - 1. No index has to be stored or gathered by.
        bias = table.unfold(0, side, 1).unfold(1, side, 1).flip(3, 4)
        return bias.permute(2, 0, 1, 3, 4).flatten(3, 4).flatten(1, 2).unsqueeze(0)
