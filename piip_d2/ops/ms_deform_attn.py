"""Multi-scale deformable attention, Deformable DETR (https://arxiv.org/abs/2010.04159)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from piip_d2.ops.reference import ms_deform_attn_reference


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Weighted sum of bilinear samples of multi-scale maps, per query and head.

    The letters of the shapes are explained in :mod:`piip_d2.layers`.

    Args:
        value: (B, S, M, D), the maps of all levels, flattened row by row and joined.
        spatial_shapes: (H, W) of every level, as host integers.
        sampling_locations: (B, Q, M, L, P, 2) as (x, y); 0 is the left or upper edge of a map, 1
            its right or lower edge. Samples outside a map, infinite and NaN locations read zero.
        attention_weights: (B, Q, M, L, P), usually a softmax over L and P.

    Returns:
        (B, Q, M * D) in the data type of ``value``.

    Raises:
        ValueError: If shapes or devices do not fit together.
    """
    _check(value, spatial_shapes, sampling_locations, attention_weights)
    return ms_deform_attn_reference(value, spatial_shapes, sampling_locations, attention_weights)


def _check(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    if value.dim() != 4:
        raise ValueError(f"value must be (B, S, M, D), got {tuple(value.shape)}")
    if sampling_locations.dim() != 6 or sampling_locations.shape[-1] != 2:
        raise ValueError(
            f"sampling_locations must be (B, Q, M, L, P, 2), got {tuple(sampling_locations.shape)}"
        )
    positions = sum(height * width for height, width in spatial_shapes)
    if value.shape[1] != positions:
        raise ValueError(
            f"value holds {value.shape[1]} positions, but spatial_shapes "
            f"{[tuple(shape) for shape in spatial_shapes]} has {positions}"
        )
    batch, queries, heads, levels, points, _ = sampling_locations.shape
    if (batch, heads, levels) != (value.shape[0], value.shape[2], len(spatial_shapes)):
        raise ValueError(
            f"sampling_locations is for {batch} images, {heads} heads and {levels} levels, but "
            f"value has {value.shape[0]} images and {value.shape[2]} heads, and spatial_shapes "
            f"{len(spatial_shapes)} levels"
        )
    if attention_weights.shape != (batch, queries, heads, levels, points):
        raise ValueError(
            "attention_weights must have the shape of sampling_locations without its last "
            f"dimension, {(batch, queries, heads, levels, points)}, got "
            f"{tuple(attention_weights.shape)}"
        )
    devices = {value.device, sampling_locations.device, attention_weights.device}
    if len(devices) > 1:
        raise ValueError(f"all tensors must be on one device, got {sorted(map(str, devices))}")
