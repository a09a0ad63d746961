"""The deformable attention module, Deformable DETR (https://arxiv.org/abs/2010.04159)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from piip_d2.layers.linear import Linear, call_linear, is_plain_linear
from piip_d2.ops import ms_deform_attn_fused, norm_linears


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention with a value of its own width.

    PIIP adds two things to the module of Deformable DETR: the attended map may have other channels
    than the queries, and the value may be narrower than the queries (``value_ratio``).

    Args:
        embed_dim: Channels of the queries and of the output.
        num_heads: Attention heads; divides ``embed_dim`` and the value's width.
        num_levels: Maps that are attended to.
        num_points: Sampling points per head and level.
        value_ratio: Width of the value relative to ``embed_dim``.
        kv_dim: Channels of the attended maps; ``embed_dim`` if None.

    Raises:
        ValueError: If a number is not positive or the heads do not divide the widths.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        num_heads: int = 8,
        num_levels: int = 1,
        num_points: int = 4,
        value_ratio: float = 1.0,
        kv_dim: int | None = None,
    ) -> None:
        super().__init__()
        if min(num_heads, num_levels, num_points) < 1:
            raise ValueError(
                "num_heads, num_levels and num_points must be positive, got "
                f"{num_heads}, {num_levels} and {num_points}"
            )
        value_dim = int(embed_dim * value_ratio)
        if embed_dim % num_heads or value_dim % num_heads or value_dim == 0:
            raise ValueError(
                f"embed_dim ({embed_dim}) and embed_dim * value_ratio ({value_dim}) must be "
                f"positive multiples of num_heads ({num_heads})"
            )
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = Linear(embed_dim, samples * 2)
        self.attention_weights = Linear(embed_dim, samples)
        self.value_proj = Linear(embed_dim if kv_dim is None else kv_dim, value_dim)
        self.output_proj = Linear(value_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Heads look in evenly spread directions, the points of a head ever further out."""
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(self._initial_offsets().flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor | None,
        feature: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        padding_mask: Tensor | None = None,
        *,
        query_grid: tuple[int, int] | None = None,
        query_norm: nn.Module | None = None,
        feature_proj: nn.Linear | None = None,
        feature_norm: nn.Module | None = None,
        scale: Tensor | None = None,
    ) -> Tensor:
        """Lets every query sample the maps around its reference point.

        Args:
            query: (B, Q, C).
            reference_points: (B or 1, Q, L or 1, 2) as (x, y), or (B or 1, Q, L or 1, 4) as boxes
                (centre x, centre y, width, height); all in [0, 1] over the whole map. None if the
                queries stand in a grid. 16 bit are too few for them.
            feature: (B, S, kv_dim), the attended maps, flattened and joined; before
                ``feature_proj``, if there is one.
            spatial_shapes: (H, W) of every level.
            padding_mask: (B, S), True where a position is padding and reads as zero.
            query_grid: Rows and columns of a grid over the maps, in whose cells the queries stand.
            query_norm: What the queries pass first; None for nothing.
            feature_proj: What ``feature`` passes first; None for nothing.
            feature_norm: What it passes then; None for nothing.
            scale: (C,), factors of the result; None for none.

        Returns:
            (B, Q, C).

        Raises:
            ValueError: If shapes do not fit together, or not exactly one of ``reference_points``
                and ``query_grid`` is given.
            TypeError: If ``padding_mask`` is not bool.
        """
        self._check(query, feature, padding_mask, feature_proj)
        value = call_linear(self.value_proj, feature, projection=feature_proj, norm=feature_norm)
        if padding_mask is not None:
            value = value.masked_fill(padding_mask[..., None], 0.0)
        samples = (self.num_heads, self.num_levels, self.num_points)
        offsets, logits = self._project_query(query, query_norm)
        # In 16 bit, everything stays as the projections give it: the operator itself computes
        # locations and softmax in float32.
        output = ms_deform_attn_fused(
            value.unflatten(-1, (self.num_heads, -1)),
            spatial_shapes,
            offsets.unflatten(-1, (*samples, 2)),
            logits.unflatten(-1, samples),
            reference_points=reference_points,
            query_grid=query_grid,
        )
        return call_linear(self.output_proj, output, scale=scale)

    def _project_query(self, query: Tensor, norm: nn.Module | None) -> Sequence[Tensor]:
        layers = (self.sampling_offsets, self.attention_weights)
        if norm is None or not all(map(is_plain_linear, layers)):
            query = query if norm is None else norm(query)
            return [layer(query) for layer in layers]
        return norm_linears(
            query, norm, [layer.weight for layer in layers], [layer.bias for layer in layers]
        )

    def _check(
        self,
        query: Tensor,
        feature: Tensor,
        padding_mask: Tensor | None,
        feature_proj: nn.Linear | None,
    ) -> None:
        first = self.value_proj if feature_proj is None else feature_proj
        widths = (self.sampling_offsets.in_features, first.in_features)
        for name, tensor, width in zip(("query", "feature"), (query, feature), widths, strict=True):
            if tensor.dim() != 3 or tensor.shape[2] != width:
                raise ValueError(
                    f"{name} must be (B, positions, {width}), got {tuple(tensor.shape)}"
                )
        if padding_mask is None:
            return
        if padding_mask.dtype != torch.bool:
            raise TypeError(
                "padding_mask must be bool, True where a position is padding, got "
                f"{padding_mask.dtype}; convert it with padding_mask.bool()"
            )
        if padding_mask.shape != feature.shape[:2]:
            raise ValueError(
                f"padding_mask must be (B, S) = {tuple(feature.shape[:2])}, as feature is, got "
                f"{tuple(padding_mask.shape)}"
            )

    def _initial_offsets(self) -> Tensor:
        """(M, L, P, 2): direction of the head times the number of the point."""
        device = self.sampling_offsets.bias.device
        angles = torch.arange(self.num_heads, device=device) * (2.0 * math.pi / self.num_heads)
        directions = torch.stack((angles.cos(), angles.sin()), dim=-1)
        directions = directions / directions.abs().amax(dim=-1, keepdim=True)
        distances = torch.arange(1, self.num_points + 1, device=device)
        offsets = directions[:, None, None, :] * distances[None, None, :, None]
        return offsets.expand(-1, self.num_levels, -1, -1)
