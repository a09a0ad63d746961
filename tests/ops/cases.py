"""Inputs of the operators, and what the tests of their parts have in common."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from piip_d2.ops import has_extension, ms_deform_attn, ms_deform_attn_fused
from piip_d2.ops.reference import (
    compute_dtype,
    ms_deform_attn_fused_reference,
    ms_deform_attn_reference,
)

IMPLEMENTATIONS = ("compiled", "reference")
REFERENCES = ("points", "boxes", "grid")
SMALL_SHAPES = ((3, 4), (2, 1))
FIVE_SHAPES = ((6, 5), (4, 3), (1, 1), (2, 5), (1, 3))


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of a form of the operator, and of its reference.

    Args:
        tensors: What can have a gradient, in the order of the arguments.
        shapes: Height and width of every level.
        query_grid: For the fused form without reference points.
        is_fused: Which form.
    """

    tensors: list[Tensor]
    shapes: list[tuple[int, int]]
    query_grid: tuple[int, int] | None = None
    is_fused: bool = False

    def run(self, *tensors: Tensor) -> Tensor:
        """Calls the public function, with other tensors if there are any."""
        function = ms_deform_attn_fused if self.is_fused else ms_deform_attn
        return self._call(function, tensors)

    def run_reference(self, *tensors: Tensor) -> Tensor:
        """Calls the reference."""
        function = ms_deform_attn_fused_reference if self.is_fused else ms_deform_attn_reference
        return self._call(function, tensors)

    def converted(self, *dtypes: torch.dtype) -> Case:
        """With the type of each tensor, or one for all."""
        wanted = dtypes * len(self.tensors) if len(dtypes) == 1 else dtypes
        tensors = [x.to(dtype) for x, dtype in zip(self.tensors, wanted, strict=True)]
        return dataclasses.replace(self, tensors=tensors)

    def operator_arguments(self) -> tuple[object, ...]:
        """What ``torch.ops.piip_d2`` takes."""
        value, points, weights, *reference = self.tensors
        sizes = [size for shape in self.shapes for size in shape]
        if not self.is_fused:
            return value, sizes, points, weights
        grid = list(self.query_grid or ())
        return value, sizes, points, weights, reference[0] if reference else None, grid

    def _call(self, function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Tensor:
        value, points, weights, *reference = tensors or self.tensors
        if not self.is_fused:
            return function(value, self.shapes, points, weights)
        points_or_none = reference[0] if reference else None
        return function(
            value,
            self.shapes,
            points,
            weights,
            reference_points=points_or_none,
            query_grid=self.query_grid,
        )


def make_case(
    form: str = "plain",
    *,
    batch: int = 2,
    grid: tuple[int, int] = (2, 3),
    heads: int = 2,
    width: int = 3,
    points: int = 2,
    shapes: Sequence[tuple[int, int]] = SMALL_SHAPES,
    dtype: torch.dtype = torch.float64,
    projected: torch.dtype | None = None,
    broadcast: bool = False,
    device: torch.device | str = "cpu",
) -> Case:
    """Random inputs; a part of the samples falls outside of the maps, on every side.

    Args:
        form: "plain", or one of ``REFERENCES`` for the fused form.
        batch: Images.
        grid: Rows and columns of queries.
        heads: Heads.
        width: Channels of a head.
        points: Points per head and level.
        shapes: Height and width of every level.
        dtype: Type of the value.
        projected: Type of offsets and logits, that of the value if None.
        broadcast: Whether reference points are shared by images and levels.
        device: Where the tensors are made.
    """
    compute = compute_dtype(dtype)
    queries = grid[0] * grid[1]
    positions = sum(rows * columns for rows, columns in shapes)
    samples = (batch, queries, heads, len(shapes), points)
    make = functools.partial(torch.rand, dtype=torch.float64)
    value = (make(batch, positions, heads, width) * 2 - 1).to(dtype)
    if form == "plain":
        tensors = [value, (make(*samples, 2) * 1.6 - 0.3).to(compute), make(*samples).to(compute)]
        return Case([x.to(device) for x in tensors], list(shapes))
    projected = dtype if projected is None else projected
    tensors = [value, make(*samples, 2) * 6 - 3, make(*samples) * 4 - 2]
    tensors[1:] = [x.to(projected) for x in tensors[1:]]
    if form != "grid":
        size = 4 if form == "boxes" else 2
        leading = (1, queries, 1) if broadcast else (batch, queries, len(shapes))
        tensors.append(make(*leading, size).to(compute))
    return Case(
        [x.to(device) for x in tensors],
        list(shapes),
        query_grid=grid if form == "grid" else None,
        is_fused=True,
    )


def with_gradients(
    run: Callable[..., Tensor], tensors: Sequence[Tensor], grad_output: Tensor | None = None
) -> list[Tensor]:
    """The output of ``run`` and the gradients of all tensors."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    output = run(*leaves)
    if grad_output is None:
        grad_output = make_grad_output(output)
    return [output.detach(), *torch.autograd.grad(output, leaves, grad_output.to(output))]


def make_grad_output(output: Tensor) -> Tensor:
    """Different numbers that every type can hold, so that types can be compared."""
    ramp = torch.linspace(-1, 1, output.numel(), device=output.device)
    return ramp.bfloat16().to(output.dtype).reshape(output.shape)


def assert_same(actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Compares tensors, each relative to its own greatest number."""
    for one, other in zip(actual, expected, strict=True):
        assert one.dtype == other.dtype
        scale = max(other.abs().max().item(), 1e-30) if other.numel() else 1.0
        torch.testing.assert_close(one, other, atol=tolerance * scale, rtol=0)


def loops(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """The plain form sample by sample and corner by corner, in double precision."""
    batch, queries, heads, levels, points, _ = locations.shape
    output = torch.zeros(batch, queries, heads, value.shape[-1], dtype=torch.float64)
    starts = [sum(h * w for h, w in shapes[:level]) for level in range(levels)]
    for b, q, m, level, p in torch.cartesian_prod(
        *(torch.arange(n) for n in (batch, queries, heads, levels, points))
    ).tolist():
        height, width = shapes[level]
        x = float(locations[b, q, m, level, p, 0]) * width - 0.5
        y = float(locations[b, q, m, level, p, 1]) * height - 0.5
        if not (-1 < x < width and -1 < y < height):
            continue
        for row in (math.floor(y), math.floor(y) + 1):
            for column in (math.floor(x), math.floor(x) + 1):
                if 0 <= row < height and 0 <= column < width:
                    share = (1 - abs(x - column)) * (1 - abs(y - row))
                    read = value[b, starts[level] + row * width + column, m].double()
                    output[b, q, m] += float(weights[b, q, m, level, p]) * share * read
    return output.flatten(2)


def use_implementation(
    name: str, device: torch.device | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Makes the public functions use the compiled operators or the reference."""
    if name == "compiled":
        if not has_extension(device):
            pytest.skip(f"the compiled operators for {torch.device(device).type} are not there")
        return
    for module in ("piip_d2.ops.ms_deform_attn", "piip_d2.ops.fused"):
        # The name of a module is also that of the function in it, hence not by attribute.
        monkeypatch.setattr(importlib.import_module(module), "has_extension", _has_none)


def _has_none(device: object) -> bool:
    return False
