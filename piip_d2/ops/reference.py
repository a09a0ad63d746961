"""Multi-scale deformable attention in plain PyTorch: oracle, fallback and decomposition.

Deformable DETR (https://arxiv.org/abs/2010.04159), section 4.1. The shape letters are those of
``piip_d2.layers``; ``R`` is 2 for reference points and 4 for reference boxes.

Each sample reads four rows of the value by index rather than through ``grid_sample``, whose CPU
kernels overflow their offsets in 16 bit and which cannot be differentiated twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from piip_d2.ops.autocast import without_autocast
from piip_d2.ops.grid_sample_form import is_lowered, sum_samples_by_grid


def ms_deform_attn_reference(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """See :func:`piip_d2.ops.ms_deform_attn`; arguments are taken as checked."""
    # The matrix product is to have the precision of the compiled operators.
    with without_autocast(value.device):
        dtype = compute_dtype(value.dtype)
        locations = sampling_locations.to(dtype)
        pixels = []
        for level, (height, width) in enumerate(spatial_shapes):
            x, y = locations[:, :, :, level].unbind(-1)
            pixels.append((x * width - 0.5, y * height - 0.5))
        return _sum_samples(value, spatial_shapes, pixels, attention_weights.to(dtype))


def ms_deform_attn_fused_reference(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    *,
    reference_points: Tensor | None = None,
    query_grid: tuple[int, int] | None = None,
) -> Tensor:
    """See :func:`piip_d2.ops.ms_deform_attn_fused`; arguments are taken as checked.

    Reference points may also be given per head, as (B or 1, Q, M or 1, L or 1, R): the gradient
    of each head is that of such a tensor.
    """
    with without_autocast(value.device):
        dtype = compute_dtype(value.dtype)
        if query_grid is not None:
            reference_points = cell_centers(*query_grid, device=value.device, dtype=dtype)
        assert reference_points is not None
        if reference_points.dim() == 4:
            reference_points = reference_points[:, :, None]
        points = reference_points.to(dtype).expand(-1, -1, -1, len(spatial_shapes), -1)
        offsets = sampling_offsets.to(dtype)
        pixels = []
        for level, (height, width) in enumerate(spatial_shapes):
            level_points = points[:, :, :, level, None]  # (B or 1, Q, M or 1, 1, R)
            level_offsets = offsets[:, :, :, level]
            if points.shape[-1] == 4:
                x, y = _shift(level_points, level_offsets, height, width)
                counts = _counts(x, y, height, width)[..., None]
                # A sample that reads nothing must not turn gradients into 0 * inf: it goes to where
                # there is nothing either.
                level_points = torch.where(counts, level_points, -1.0)
                level_offsets = torch.where(counts, level_offsets, 0.0)
            pixels.append(_shift(level_points, level_offsets, height, width))
        logits = attention_logits.to(dtype).flatten(3)
        weights = logits.softmax(dim=-1).reshape(attention_logits.shape)
        return _sum_samples(value, spatial_shapes, pixels, weights)


def cell_centers(
    rows: int, columns: int, *, device: torch.device | str, dtype: torch.dtype
) -> Tensor:
    """Centres of the cells of a grid over a map, row by row: (1, rows * columns, 1, 2)."""
    y = (torch.arange(rows, device=device, dtype=dtype) + 0.5) / rows
    x = (torch.arange(columns, device=device, dtype=dtype) + 0.5) / columns
    grid = torch.stack((x.expand(rows, columns), y[:, None].expand(rows, columns)), dim=-1)
    return grid.reshape(1, rows * columns, 1, 2)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The type of all arithmetic, and of locations, for a value of type ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def unify_dtypes(value: Tensor, offsets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets and logits in one type, that of the value or that of the arithmetic."""
    dtype = compute_dtype(value.dtype)
    if offsets.dtype == logits.dtype and offsets.dtype in (value.dtype, dtype):
        return offsets, logits
    return offsets.to(dtype), logits.to(dtype)


def _shift(points: Tensor, offsets: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Pixel coordinates (B, Q, M, P) of offsets (B, Q, M, P, 2) from points or boxes (..., R)."""
    x, y = offsets.unbind(-1)
    if points.shape[-1] == 4:
        # One unit reaches over half a box, divided evenly among the points.
        reach = 0.5 / offsets.shape[-2]
        x = x * (points[..., 2] * (width * reach))
        y = y * (points[..., 3] * (height * reach))
    return points[..., 0] * width - 0.5 + x, points[..., 1] * height - 0.5 + y


def _counts(x: Tensor, y: Tensor, height: int, width: int) -> Tensor:
    """Which pixel coordinates lie less than a pixel outside of the map; NaN does not."""
    return (x > -1) & (x < width) & (y > -1) & (y < height)


def _sum_samples(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    pixels: Sequence[tuple[Tensor, Tensor]],
    weights: Tensor,
) -> Tensor:
    """Samples at pixel coordinates, x and y (B, Q, M, P) of every level; returns (B, Q, M * D)."""
    if is_lowered():
        return sum_samples_by_grid(value, spatial_shapes, pixels, weights)
    batch, _, heads, width = value.shape
    queries, points = weights.shape[1], weights.shape[4]
    maps = value.to(weights.dtype).split([rows * columns for rows, columns in spatial_shapes], 1)
    output = weights.new_zeros((batch * heads * queries, 1, width))
    for level, (rows, columns) in enumerate(spatial_shapes):
        # Heads before queries, so that neighbouring samples read from one map.
        x, y = (coordinate.transpose(1, 2) for coordinate in pixels[level])
        counts = _counts(x, y, rows, columns)
        level_weights = torch.where(counts, weights[:, :, :, level].transpose(1, 2), 0.0)
        x, y = torch.where(counts, x, _NOWHERE), torch.where(counts, y, _NOWHERE)
        index, shares = _corners(x, y, rows, columns)
        shares = shares * level_weights[..., None]
        sampled = _framed_rows(maps[level], rows, columns).index_select(0, index.flatten())
        output = output + torch.bmm(
            shares.reshape(batch * heads * queries, 1, points * 4),
            sampled.reshape(batch * heads * queries, points * 4, width),
        )
    output = output.reshape(batch, heads, queries, width).transpose(1, 2)
    return output.reshape(batch, queries, heads * width).to(value.dtype)


# A frame of zeros round every map takes the place of tests whether a corner lies inside. It is
# wide enough to hold all four corners of the coordinate at which samples read nothing.
_NOWHERE = -2.0
_FRAME_BEFORE, _FRAME_AFTER = 2, 1
_FRAME = _FRAME_BEFORE + _FRAME_AFTER


def _framed_rows(level_map: Tensor, height: int, width: int) -> Tensor:
    """(B, H * W, M, D) to (B * M * (H + frame) * (W + frame), D), a head's pixels side by side."""
    x = level_map.transpose(1, 2).unflatten(2, (height, width))
    frame = (0, 0, _FRAME_BEFORE, _FRAME_AFTER, _FRAME_BEFORE, _FRAME_AFTER)
    return F.pad(x, frame).flatten(0, 3)


def _corners(x: Tensor, y: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Row indices and bilinear weights of the four pixels around every coordinate.

    Args:
        x: (B, M, Q, P), columns; less than a pixel outside of the map, or nowhere.
        y: (B, M, Q, P), rows.
        height: Rows of the map.
        width: Columns of the map.

    Returns:
        Indices into the rows of the framed maps and weights, both (B, M, Q, P, 4).
    """
    batch, heads = x.shape[:2]
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
