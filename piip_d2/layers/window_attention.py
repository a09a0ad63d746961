"""Multi-head self-attention on a map, over all of it or within windows."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piip_d2.layers.linear import Linear, call_linear
from piip_d2.ops import attention, saves_memory

WINDOW_PADDINGS = ("before_qkv", "after_qkv")


class WindowAttention(nn.Module):
    """Self-attention within non-overlapping windows, or over the whole map.

    A map whose sides are no multiples of the window is filled up on the right and at the bottom.
    The filled positions take part in the softmax, as they do in the networks PIIP was trained
    with. ``window_padding`` says where the filling happens: ``"before_qkv"`` leaves them the bias
    of the projection as key and value (all released models), ``"after_qkv"`` leaves them zeros.

    Args:
        embed_dim: Channels in and out.
        num_heads: Attention heads; divides ``embed_dim``.
        qkv_bias: Whether query, key and value have a bias.
        window_size: Side of a window in cells, or None to attend to the whole map.
        window_padding: ``"before_qkv"`` or ``"after_qkv"``, see above.
        qk_norm: Makes a norm of so many channels, for the query and the key of all heads together
            (QK-norm, https://arxiv.org/abs/2302.05442, but before the split into heads, as in
            InternViT-6B, https://arxiv.org/abs/2312.14238); None for none.

    Raises:
        ValueError: If the heads do not divide the channels, the window is smaller than 1 or
            ``window_padding`` is unknown.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        qkv_bias: bool = True,
        window_size: int | None = None,
        window_padding: str = "before_qkv",
        qk_norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"embed_dim ({embed_dim}) must be divisible by num_heads ({num_heads})"
            )
        if window_size is not None and window_size < 1:
            raise ValueError(
                f"window_size must be at least 1, or None for the whole map; got {window_size}"
            )
        if window_padding not in WINDOW_PADDINGS:
            raise ValueError(
                f"window_padding must be one of {WINDOW_PADDINGS}, got {window_padding!r}"
            )
        self.num_heads = num_heads
        self.window_size = window_size
        self.window_padding = window_padding
        self.qkv = Linear(embed_dim, 3 * embed_dim, bias=qkv_bias)
        self.q_norm = None if qk_norm is None else qk_norm(embed_dim)
        self.k_norm = None if qk_norm is None else qk_norm(embed_dim)
        self.proj = Linear(embed_dim, embed_dim)

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
        height, width = x.shape[1:3]
        size = self.window_size
        if size is None:
            return call_linear(self.proj, self._attend(self._project(x, norm)), scale=scale)
        if saves_memory(x) and height % size == 0 and width % size == 0:
            windows = self._attend(_split_windows(self._project(x, norm), size))
            # Projected before they are joined, windows are kept once for both.
            windows = call_linear(self.proj, windows, scale=scale)
            return _join_windows(windows, size, height, width)
        if self.window_padding == "before_qkv":
            x = x if norm is None else norm(x)
            qkv = self._project(_fill_up(x, size), None)
        else:
            qkv = _fill_up(self._project(x, norm), size)
        filled_height, filled_width = qkv.shape[1:3]
        windows = self._attend(_split_windows(qkv, size))
        x = _join_windows(windows, size, filled_height, filled_width)
        return call_linear(self.proj, x[:, :height, :width], scale=scale)

    def _project(self, x: Tensor, norm: nn.Module | None) -> Tensor:
        """Query, key and value (..., 3C) of cells (..., C), which are to pass the norm."""
        qkv = call_linear(self.qkv, x, norm=norm)
        if self.q_norm is None or self.k_norm is None:
            return qkv
        query, key, value = qkv.chunk(3, dim=-1)
        # Under autocast, norms give 32 bits where the attention takes what the projection gave.
        query, key = self.q_norm(query).to(qkv.dtype), self.k_norm(key).to(qkv.dtype)
        return torch.cat([query, key, value], dim=-1)

    def _logit_bias(self) -> Tensor | None:
        """What is added to the logits, of a shape that spreads to (N, M, H * W, H * W)."""
        return None

    def _attend(self, qkv: Tensor) -> Tensor:
        """Attention within each (H, W) map of ``qkv`` (N, H, W, 3C); returns (N, H, W, C)."""
        count, height, width, channels = qkv.shape
        head_dim = channels // (3 * self.num_heads)
        qkv = qkv.reshape(count, height * width, 3, self.num_heads, head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = attention(query, key, value, self._logit_bias())
        return x.transpose(1, 2).reshape(count, height, width, channels // 3)


def _fill_up(x: Tensor, window_size: int) -> Tensor:
    """Zero-fills (B, H, W, C) on the right and at the bottom to whole windows."""
    fill_bottom = -x.shape[1] % window_size
    fill_right = -x.shape[2] % window_size
    # A compiled graph is to hold for all sizes, and drops a filling of nothing by itself.
    if not torch.compiler.is_compiling() and fill_bottom == 0 and fill_right == 0:
        return x
    return F.pad(x, (0, 0, 0, fill_right, 0, fill_bottom))


def _split_windows(x: Tensor, window_size: int) -> Tensor:
    """(B, H, W, C) to (B * windows, window, window, C), windows row by row."""
    batch, height, width, channels = x.shape
    x = x.reshape(
        batch, height // window_size, window_size, width // window_size, window_size, channels
    )
    return x.transpose(2, 3).flatten(0, 2)


def _join_windows(x: Tensor, window_size: int, height: int, width: int) -> Tensor:
    """The inverse of :func:`_split_windows`."""
    rows, columns = height // window_size, width // window_size
    batch = x.shape[0] // (rows * columns)
    x = x.reshape(batch, rows, columns, window_size, window_size, x.shape[-1])
    return x.transpose(2, 3).reshape(batch, height, width, x.shape[-1])
