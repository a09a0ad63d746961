"""Deformable attention from offsets and logits, with the pre-processing inside the operator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from piip_d2.ops._checks import (
    check_points,
    check_query_grid,
    check_reference,
    check_value,
    check_weights,
)
from piip_d2.ops._extension import has_extension
from piip_d2.ops.grid_sample_form import is_lowered
from piip_d2.ops.reference import compute_dtype, ms_deform_attn_fused_reference, unify_dtypes


def ms_deform_attn_fused(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_offsets: Tensor,
    attention_logits: Tensor,
    *,
    reference_points: Tensor | None = None,
    query_grid: tuple[int, int] | None = None,
) -> Tensor:
    """Multi-scale deformable attention that takes what the projections of a module produce.

    Equals :func:`piip_d2.ops.ms_deform_attn` at the locations that offsets and references give,
    with the softmax of the logits over L and P as weights; neither is ever stored. Arithmetic is
    in float32, or in float64 for a float64 value.

    Args:
        value: (B, S, M, D), the maps of all levels, flattened row by row and joined.
        spatial_shapes: (H, W) of every level, as host integers.
        sampling_offsets: (B, Q, M, L, P, 2) as (x, y): in pixels of the level with reference
            points, in ``1 / P`` half boxes with reference boxes.
        attention_logits: (B, Q, M, L, P).
        reference_points: (B or 1, Q, L or 1, 2) as (x, y), or (B or 1, Q, L or 1, 4) as boxes
            (centre x, centre y, width, height); all in [0, 1] over the whole map.
        query_grid: Instead of them, the rows and columns of a grid over the map in whose cells
            the queries stand, row by row.

    Returns:
        (B, Q, M * D) in the data type of ``value``.

    Raises:
        ValueError: If shapes or devices do not fit together, or not exactly one of
            ``reference_points`` and ``query_grid`` is given.
        TypeError: If a tensor is not of a floating-point type, or a size is not a host integer.
    """
    sizes = check_value(value, spatial_shapes)
    check_points(value, len(spatial_shapes), sampling_offsets, "sampling_offsets")
    check_weights(sampling_offsets, "sampling_offsets", attention_logits, "attention_logits")
    grid = _check_places(value, sampling_offsets, reference_points, query_grid)
    sampling_offsets, attention_logits = unify_dtypes(value, sampling_offsets, attention_logits)
    dtype = compute_dtype(value.dtype)
    if reference_points is not None and reference_points.dtype != dtype:
        reference_points = reference_points.to(dtype)
    if has_extension(value.device) and not is_lowered():
        return torch.ops.piip_d2.ms_deform_attn_fused.default(
            value, sizes, sampling_offsets, attention_logits, reference_points, grid
        )
    return ms_deform_attn_fused_reference(
        value,
        spatial_shapes,
        sampling_offsets,
        attention_logits,
        reference_points=reference_points,
        query_grid=query_grid,
    )


def _check_places(
    value: Tensor,
    offsets: Tensor,
    reference_points: Tensor | None,
    query_grid: tuple[int, int] | None,
) -> list[int]:
    """Checks where the queries stand; returns ``[rows, columns]``, or [] without a grid."""
    if query_grid is None:
        if reference_points is None:
            raise ValueError("give either reference_points or query_grid, got neither")
        check_reference(value, offsets, reference_points)
        return []
    if reference_points is not None:
        raise ValueError("give either reference_points or query_grid, got both")
    return check_query_grid(offsets, query_grid)
