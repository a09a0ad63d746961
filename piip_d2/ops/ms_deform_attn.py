"""Multi-scale deformable attention, Deformable DETR (https://arxiv.org/abs/2010.04159)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from piip_d2.ops._checks import check_points, check_value, check_weights
from piip_d2.ops._extension import has_extension
from piip_d2.ops.grid_sample_form import is_lowered
from piip_d2.ops.reference import compute_dtype, ms_deform_attn_reference


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Weighted sum of bilinear samples of multi-scale maps, per query and head.

    The letters of the shapes are explained in :mod:`piip_d2.layers`. Arithmetic is in float32, or
    in float64 for a float64 value; locations and weights of other types are converted to that.

    Args:
        value: (B, S, M, D), the maps of all levels, flattened row by row and joined.
        spatial_shapes: (H, W) of every level, as host integers.
        sampling_locations: (B, Q, M, L, P, 2) as (x, y); 0 is the left or upper edge of a map, 1
            its right or lower edge. Samples a pixel or more outside of the pixels' centres read
            zero and have no gradient, infinite and NaN locations among them. 16 bit are too few
            for maps of more than a hundred pixels.
        attention_weights: (B, Q, M, L, P), usually a softmax over L and P.

    Returns:
        (B, Q, M * D) in the data type of ``value``.

    Raises:
        ValueError: If shapes or devices do not fit together.
        TypeError: If a tensor is not of a floating-point type, or a size is not a host integer.
    """
    sizes = check_value(value, spatial_shapes)
    check_points(value, len(spatial_shapes), sampling_locations, "sampling_locations")
    check_weights(sampling_locations, "sampling_locations", attention_weights, "attention_weights")
    dtype = compute_dtype(value.dtype)
    if sampling_locations.dtype != dtype:
        sampling_locations = sampling_locations.to(dtype)
    if attention_weights.dtype != dtype:
        attention_weights = attention_weights.to(dtype)
    if has_extension(value.device) and not is_lowered():
        return torch.ops.piip_d2.ms_deform_attn.default(
            value, sizes, sampling_locations, attention_weights
        )
    return ms_deform_attn_reference(value, spatial_shapes, sampling_locations, attention_weights)
