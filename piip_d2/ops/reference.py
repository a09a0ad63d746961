"""Multi-scale deformable attention in plain PyTorch: oracle and fallback.

Deformable DETR (https://arxiv.org/abs/2010.04159), section 4.1. The shape letters are those of
``piip_d2.layers``.

Each sample reads four rows of the value by index rather than through ``grid_sample``, whose CPU
kernels overflow their offsets in 16 bit and which cannot be differentiated twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def ms_deform_attn_reference(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """See :func:`piip_d2.ops.ms_deform_attn`; arguments are taken as checked."""
    batch, _, heads, width = value.shape
    queries = sampling_locations.shape[1]
    # 16-bit inputs are sampled in float32; float64 stays what it is.
    dtype = torch.promote_types(value.dtype, torch.float32)
    # One row per (batch, head, position): a head's corners then lie close together in memory.
    rows = value.to(dtype).permute(0, 2, 1, 3).reshape(-1, width)
    row_offsets = _row_offsets(batch, heads, value.shape[1], value.device)
    locations = sampling_locations.to(dtype).permute(3, 0, 2, 1, 4, 5)  # (L, B, M, Q, P, 2)
    weights = attention_weights.to(dtype).permute(3, 0, 2, 1, 4)  # (L, B, M, Q, P)

    output = rows.new_zeros(batch * heads * queries, width)
    level_start = 0
    for level, (height, width_of_level) in enumerate(spatial_shapes):
        index, corner_weights = _corners(locations[level], height, width_of_level)
        index = index + level_start + row_offsets
        corner_weights = corner_weights * weights[level][..., None]
        samples_per_query = index.shape[3] * index.shape[4]
        sampled = rows.index_select(0, index.reshape(-1))
        output = output + torch.bmm(
            corner_weights.reshape(-1, 1, samples_per_query),
            sampled.reshape(-1, samples_per_query, width),
        ).squeeze(1)
        level_start += height * width_of_level
    output = output.reshape(batch, heads, queries, width).transpose(1, 2)
    return output.reshape(batch, queries, heads * width).to(value.dtype)


def _row_offsets(batch: int, heads: int, positions: int, device: torch.device) -> Tensor:
    """First row of every (batch, head) pair, broadcastable over (B, M, Q, P, corner)."""
    pairs = torch.arange(batch * heads, device=device) * positions
    return pairs.reshape(batch, heads, 1, 1, 1)


def _corners(locations: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Row indices and bilinear weights of the four pixels around every location.

    Args:
        locations: (..., 2) as (x, y) in [0, 1] over the whole map; anything outside reads zeros.
        height: Rows of the map.
        width: Columns of the map.

    Returns:
        Indices into the flattened map and weights, both (..., 4).
    """
    x = locations[..., 0] * width - 0.5
    y = locations[..., 1] * height - 0.5
    # Written so that NaN fails the test. Locations that fail are replaced before any arithmetic:
    # a product of zero and NaN would spoil the gradients.
    reached = (x > -1) & (x < width) & (y > -1) & (y < height)
    x = torch.where(reached, x, 0.0)
    y = torch.where(reached, y, 0.0)
    left, top = x.detach().floor(), y.detach().floor()
    columns = torch.stack((left, left + 1, left, left + 1), dim=-1)
    lines = torch.stack((top, top, top + 1, top + 1), dim=-1)
    weight_x = 1 - (x[..., None] - columns).abs()
    weight_y = 1 - (y[..., None] - lines).abs()
    inside = (columns >= 0) & (columns < width) & (lines >= 0) & (lines < height)
    inside = inside & reached[..., None]
    weights = torch.where(inside, weight_x * weight_y, 0.0)
    index = lines.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    return index.long(), weights
