"""Attention of one map to another: deformable, or to every position."""

from __future__ import annotations

from torch import Tensor, nn

from piip_d2.layers.linear import Linear
from piip_d2.layers.ms_deform_attn import MSDeformAttn
from piip_d2.ops import attention


class DeformableCrossAttention(nn.Module):
    """Every cell of a map samples another map around the same relative position.

    PIIP (https://arxiv.org/abs/2406.04330), section 3.2.

    Args:
        deform: The attention for one level; built with the widths of both maps.
    """

    def __init__(self, deform: MSDeformAttn) -> None:
        super().__init__()
        self.deform = deform

    def forward(
        self,
        query: Tensor,
        feature: Tensor,
        *,
        query_norm: nn.Module | None = None,
        feature_proj: nn.Linear | None = None,
        feature_norm: nn.Module | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Maps a query (B, H, W, C) and a feature (B, H', W', C') to (B, H, W, C).

        Args:
            query: The map that looks.
            feature: The map that is looked at.
            query_norm: See :class:`MSDeformAttn`, like the next three.
            feature_proj: See there.
            feature_norm: See there.
            scale: See there.

        Returns:
            What is found.
        """
        height, width = query.shape[1:3]
        output = self.deform(
            query.flatten(1, 2),
            None,
            feature.flatten(1, 2),
            [(feature.shape[1], feature.shape[2])],
            query_grid=(height, width),
            query_norm=query_norm,
            feature_proj=feature_proj,
            feature_norm=feature_norm,
            scale=scale,
        )
        return output.unflatten(1, (height, width))


class CrossAttention(nn.Module):
    """Every cell of a map attends to all cells of another.

    Args:
        embed_dim: Channels of the query and of the output.
        num_heads: Attention heads; divides ``embed_dim``.
        kv_dim: Channels of the attended map; ``embed_dim`` if None.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    def __init__(self, embed_dim: int, *, num_heads: int, kv_dim: int | None = None) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"embed_dim ({embed_dim}) must be divisible by num_heads ({num_heads})"
            )
        kv_dim = embed_dim if kv_dim is None else kv_dim
        self.num_heads = num_heads
        self.q_proj = Linear(embed_dim, embed_dim, bias=False)
        self.k_proj = Linear(kv_dim, embed_dim, bias=False)
        self.v_proj = Linear(kv_dim, embed_dim, bias=False)
        self.proj = Linear(embed_dim, embed_dim)

    def forward(self, query: Tensor, feature: Tensor) -> Tensor:
        """Maps a query (B, H, W, C) and a feature (B, H', W', C') to (B, H, W, C)."""
        grid = query.shape[1:3]
        query, feature = query.flatten(1, 2), feature.flatten(1, 2)
        output = attention(
            self._split_heads(self.q_proj(query)),
            self._split_heads(self.k_proj(feature)),
            self._split_heads(self.v_proj(feature)),
        )
        return self.proj(output.transpose(1, 2).flatten(2)).unflatten(1, grid)

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, N, C) to (B, M, N, D)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
