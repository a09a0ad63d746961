"""Multi-scale deformable attention in plain PyTorch: oracle and fallback.

Deformable DETR (https://arxiv.org/abs/2010.04159), section 4.1. The shape letters are those of
``piip_d2.layers``.

Each sample reads four rows of the value by index rather than through ``grid_sample``, whose CPU
kernels overflow their offsets in 16 bit and which cannot be differentiated twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
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
    locations = sampling_locations.to(dtype).permute(3, 0, 2, 1, 4, 5)  # (L, B, M, Q, P, 2)
    weights = attention_weights.to(dtype).permute(3, 0, 2, 1, 4)  # (L, B, M, Q, P)
    maps = value.to(dtype).split([rows * columns for rows, columns in spatial_shapes], dim=1)

    output = value.new_zeros((batch * heads * queries, width), dtype=dtype)
    for level, (shape, level_map) in enumerate(zip(spatial_shapes, maps, strict=True)):
        index, corner_weights = _corners(locations[level], *shape)
        corner_weights = corner_weights * weights[level][..., None]
        samples_per_query = index.shape[3] * index.shape[4]
        sampled = _framed_rows(level_map, *shape).index_select(0, index.reshape(-1))
        output = output + torch.bmm(
            corner_weights.reshape(-1, 1, samples_per_query),
            sampled.reshape(-1, samples_per_query, width),
        ).squeeze(1)
    output = output.reshape(batch, heads, queries, width).transpose(1, 2)
    return output.reshape(batch, queries, heads * width).to(value.dtype)


# A frame of zeros round every map takes the place of tests whether a corner lies inside. The pixel
# furthest out is floor(size) in both directions, and the corner behind it one more.
_FRAME_BEFORE, _FRAME_AFTER = 1, 2
_FRAME = _FRAME_BEFORE + _FRAME_AFTER


def _framed_rows(level_map: Tensor, height: int, width: int) -> Tensor:
    """(B, H * W, M, D) to (B * M * (H + frame) * (W + frame), D), a head's pixels side by side."""
    x = level_map.transpose(1, 2).unflatten(2, (height, width))
    frame = (0, 0, _FRAME_BEFORE, _FRAME_AFTER, _FRAME_BEFORE, _FRAME_AFTER)
    return F.pad(x, frame).flatten(0, 3)


def _corners(locations: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Row indices and bilinear weights of the four pixels around every location.

    Args:
        locations: (B, M, Q, P, 2) as (x, y) in [0, 1] over the whole map; outside, zeros are read.
        height: Rows of the map.
        width: Columns of the map.

    Returns:
        Indices into the rows of the framed maps and weights, both (B, M, Q, P, 4).
    """
    batch, heads = locations.shape[:2]
    x = _reachable(locations[..., 0] * width - 0.5, width)
    y = _reachable(locations[..., 1] * height - 0.5, height)
    left, top = x.detach().floor(), y.detach().floor()
    right_share, lower_share = x - left, y - top
    stride = width + _FRAME
    first = (top.long() + _FRAME_BEFORE) * stride + (left.long() + _FRAME_BEFORE)
    pairs = torch.arange(batch * heads, device=first.device).reshape(batch, heads, 1, 1)
    first = first + pairs * ((height + _FRAME) * stride)
    index = torch.stack((first, first + 1, first + stride, first + stride + 1), dim=-1)
    shares_x = torch.stack((1 - right_share, right_share), dim=-1)
    upper = shares_x * (1 - lower_share)[..., None]
    lower = shares_x * lower_share[..., None]
    return index, torch.cat((upper, lower), dim=-1)


def _reachable(coordinate: Tensor, size: int) -> Tensor:
    """Moves what lies outside onto the frame, where it reads zeros and has no gradient."""
    coordinate = torch.where(coordinate.isnan(), -1.0, coordinate)
    return coordinate.clamp(-1.0, float(size))
