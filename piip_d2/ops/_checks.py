"""Checks of what callers hand to the operators: one sentence per mistake, no work on tensors.

All of it reads sizes and types on the host, which neither waits for a device nor, with symbolic
sizes, asks for a graph of its own per image size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOATING_DTYPES = frozenset((torch.float32, torch.float64, torch.bfloat16, torch.float16))


def check_value(value: Tensor, spatial_shapes: Sequence[tuple[int, int]]) -> list[int]:
    """Checks a value (B, S, M, D) against its levels; returns ``[H0, W0, H1, W1, ...]``."""
    check_floating(value, "value")
    if value.dim() != 4:
        raise ValueError(f"value must be (B, S, M, D), got {_shape(value)}")
    if value.shape[2] < 1 or value.shape[3] < 1:
        raise ValueError(
            f"value (B, S, M, D) must have a head and a channel at least, got {_shape(value)}"
        )
    sizes = _flatten(spatial_shapes)
    positions = 0
    for height, width in zip(sizes[::2], sizes[1::2], strict=True):
        if height < 1 or width < 1:
            raise ValueError(
                f"every (height, width) in spatial_shapes must be positive, got {spatial_shapes}; "
                "leave out levels without a pixel"
            )
        positions = positions + height * width
    if value.shape[1] != positions:
        raise ValueError(
            f"value must hold the pixels of all levels, got {value.shape[1]} positions where "
            f"spatial_shapes {[tuple(shape) for shape in spatial_shapes]} has {positions}"
        )
    return sizes


def check_points(value: Tensor, levels: int, points: Tensor, name: str) -> None:
    """Checks locations or offsets (B, Q, M, L, P, 2)."""
    check_floating(points, name)
    if points.dim() != 6 or points.shape[5] != 2:
        raise ValueError(f"{name} must be (B, Q, M, L, P, 2), got {_shape(points)}")
    batch, _, heads, levels_of_points, num_points, _ = points.shape
    if batch != value.shape[0] or heads != value.shape[2] or levels_of_points != levels:
        raise ValueError(
            f"{name} must be for the {value.shape[0]} images and {value.shape[2]} heads of value "
            f"and the {levels} levels of spatial_shapes, got {batch} images, {heads} heads and "
            f"{levels_of_points} levels"
        )
    if num_points < 1:
        raise ValueError(f"{name} must have a point per level at least, got {_shape(points)}")
    check_device(value, points, name)


def check_weights(points: Tensor, points_name: str, weights: Tensor, name: str) -> None:
    """Checks weights or logits (B, Q, M, L, P) against their points (B, Q, M, L, P, 2)."""
    check_floating(weights, name)
    if weights.shape != points.shape[:5]:
        raise ValueError(
            f"{name} must have the shape of {points_name} without its last dimension, "
            f"{tuple(points.shape[:5])}, got {_shape(weights)}"
        )
    check_device(points, weights, name)


def check_reference(value: Tensor, points: Tensor, reference: Tensor) -> None:
    """Checks reference points or boxes (B or 1, Q, L or 1, 2 or 4) against their offsets."""
    check_floating(reference, "reference_points")
    batch, queries, _, levels, _, _ = points.shape
    if reference.dim() != 4:
        raise ValueError(
            "reference_points must be (B, Q, L, 2) or (B, Q, L, 4), where B and L may be 1, got "
            f"{_shape(reference)}"
        )
    if reference.shape[3] != 2 and reference.shape[3] != 4:
        raise ValueError(
            "reference_points must end in 2 (points: x, y) or 4 (boxes: centre x, centre y, width, "
            f"height), got {_shape(reference)}"
        )
    fits = reference.shape[0] == 1 or reference.shape[0] == batch
    if not fits or reference.shape[1] != queries or reference.shape[2] not in (1, levels):
        raise ValueError(
            f"reference_points must be for {batch} (or 1) images, {queries} queries and {levels} "
            f"(or 1) levels, as sampling_offsets is, got {_shape(reference)}"
        )
    check_device(value, reference, "reference_points")


def check_query_grid(points: Tensor, query_grid: tuple[int, int]) -> list[int]:
    """Checks that a grid has a cell for every query; returns ``[rows, columns]``."""
    if isinstance(query_grid, int) or len(query_grid) != 2:
        raise ValueError(f"query_grid must be (rows, columns), got {query_grid}")
    rows, columns = query_grid
    if not _is_integer(rows) or not _is_integer(columns):
        raise TypeError(f"query_grid must be two host integers (rows, columns), got {query_grid}")
    if rows < 1 or columns < 1 or rows * columns != points.shape[1]:
        raise ValueError(
            "query_grid must be the positive (rows, columns) of a grid of the "
            f"{points.shape[1]} queries, got {tuple(query_grid)}"
        )
    return [rows, columns]


def check_floating(tensor: Tensor, name: str) -> None:
    """Checks that a tensor has one of the types that the operators know."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.dtype not in FLOATING_DTYPES:
        raise TypeError(
            f"{name} must be float32, float64, bfloat16 or float16, got {tensor.dtype}; convert "
            f"it with {name}.float()"
        )


def check_device(first: Tensor, other: Tensor, name: str) -> None:
    """Checks that two tensors are on one device."""
    if first.device != other.device:
        raise ValueError(
            f"all tensors must be on one device, got {name} on {other.device} and others on "
            f"{first.device}; move it with {name}.to({str(first.device)!r})"
        )


def _flatten(spatial_shapes: Sequence[tuple[int, int]]) -> list[int]:
    if isinstance(spatial_shapes, Tensor):
        raise TypeError(
            "spatial_shapes must be (height, width) pairs of host integers, got a tensor; build "
            "them from the shapes of the maps, or call spatial_shapes.tolist() once, outside of "
            "the model"
        )
    if not isinstance(spatial_shapes, Sequence):
        raise TypeError(
            "spatial_shapes must be a list of (height, width) pairs, got "
            f"{type(spatial_shapes).__name__}"
        )
    if len(spatial_shapes) == 0:
        raise ValueError("spatial_shapes must have the (height, width) of a level at least, got []")
    sizes: list[int] = []
    for shape in spatial_shapes:
        if isinstance(shape, int) or len(shape) != 2:
            raise ValueError(
                f"spatial_shapes must be pairs, [(height, width), ...], got {spatial_shapes}"
            )
        height, width = shape
        if not _is_integer(height) or not _is_integer(width):
            raise TypeError(
                f"spatial_shapes must be host integers, got {type(height).__name__} and "
                f"{type(width).__name__}; convert them with int()"
            )
        sizes.append(height)
        sizes.append(width)
    return sizes


def _is_integer(number: object) -> bool:
    return isinstance(number, int | torch.SymInt)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
